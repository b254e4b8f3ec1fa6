"""Rounds of load and killing, and at their end the evidence."""

from __future__ import annotations

import json
import mailbox
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import click
from attrs import field, frozen

from relay.cli.ask import ask
from tests.faults import strace
from tests.faults.customers import GONE, LIMIT, Customer, Ledger
from tests.faults.evidence import Arrival, Copy, Evidence, Fate, Where
from tests.faults.letters import Arrived, Notice, read
from tests.system.harness import ALARM, PATIENCE, REPOSITORY, RelayProcess
from tests.system.names import DnsThread, unused

#: An address that nobody else uses, so that a port of it stays the sink's while it is down.
SINK: Final = "127.0.0.3"

CONFIGURATION: Final = """
hostname = "mx.test"
[spool]
path = "spool"
engine = "{engine}"
[control]
socket = "control.sock"
[log]
mail = "mail.log"
[dns]
servers = ["{dns}"]
[limits]
message = {limit}
connections_per_minute = 100000
[delivery]
allow_private = ["127.0.0.0/8"]
[delivery.retry]
first = "0.5s"
most = "2s"
[[listener]]
name = "local"
address = "127.0.0.1:0"

[[policy]]
name = "later"
use = "reject"
code = 451
text = "not now"
when = {{ recipient = ["later.test"] }}
[[policy]]
name = "maildirs"
use = "mailbox"
domains = ["localhost"]
users = ["jon", "ann", "sender"]
directory = "mail"
[[policy]]
name = "mboxes"
use = "mailbox"
domains = ["boxes.test"]
users = ["box"]
format = "mbox"
directory = "boxes"
[[policy]]
name = "onward"
use = "forward"
port = {port}
when = {{ recipient = ["north.test"] }}
[[policy]]
name = "smarthost"
use = "forward"
next_hop = "{sink}:{port}"
when = {{ recipient = ["south.test"] }}
[[policy]]
use = "reject"
"""


@frozen
class Plan:
    """How large an audit is."""

    rounds: int = 20
    #: Further rounds, in which the kill comes at a system call.
    at_calls: int = 0
    #: Further ones, in which a system call of the disk fails.
    errors: int = 0
    clients: int = 8
    #: Messages of each client in a round.
    messages: int = 20
    #: Seconds after which a round's kill comes at the latest.
    longest: float = 1.5
    #: How often the sink refuses or drops at each of its steps, from 0 to 1.
    trouble: float = 0.04
    #: Seconds until the relay must have come to rest when all is well again.
    rest: float = 120.0
    engine: str = "sqlite"
    seed: int = field(factory=lambda: random.SystemRandom().randrange(10**6))


class Audit:
    """One audit, in a folder of its own."""

    def __init__(self, folder: Path, plan: Plan, say: Callable[[str], object] = print) -> None:
        self._folder = folder
        self._plan = plan
        self._say = say
        self._chance = random.Random(plan.seed)
        self._ledger = Ledger()
        self._port = unused(SINK)
        self._record = folder / "sink.jsonl"
        self._sink: subprocess.Popen[str] | None = None
        self._dns = DnsThread({"north.test": {"MX": [(10, "mx.north.test")]}, "mx.north.test": {"A": [SINK]}})
        self._relay = RelayProcess(
            folder,
            CONFIGURATION.format(engine=plan.engine, dns=self._dns.address, sink=SINK, port=self._port, limit=LIMIT),
        )

    def run(self) -> Evidence:
        """All rounds, then peace, then the evidence."""
        self._say(f"seed {self._plan.seed}")
        try:
            for number, (name, round) in enumerate(self._rounds(), 1):
                began = time.monotonic()
                what = round()
                acknowledged = self._ledger.count(Fate.ACKNOWLEDGED)
                took = time.monotonic() - began
                self._say(
                    f"round {number:>2}: {name}: {what}; {acknowledged} copies acknowledged by now ({took:.1f} s)"
                )
            queued, damaged = self._come_to_rest()
            return self._evidence(queued, damaged)
        finally:
            self._end()

    # Rounds.

    def _rounds(self) -> Iterator[tuple[str, Callable[[], str]]]:
        kinds: Sequence[tuple[str, Callable[[], str]]] = (
            ("kill -9 under load", self._kill_under_load),
            ("kill -9 of relay and sink", self._kill_both),
            ("kill -9 while it starts", self._kill_at_start),
            ("SIGTERM under load", self._stop_under_load),
            ("kill -9 under load", self._kill_under_load),
        )
        for number in range(self._plan.rounds):
            yield kinds[number % len(kinds)]
        calls = tuple(strace.CALLS)
        for number in range(self._plan.at_calls):
            yield self._at_call("kill -9", calls[number % len(calls)], strace.DEATH)
        for number in range(self._plan.errors):
            error = self._chance.choice(strace.ERRORS)
            yield self._at_call(error.partition("=")[2], strace.DISK[number % len(strace.DISK)], error)

    def _at_call(self, name: str, call: str, what: str) -> tuple[str, Callable[[], str]]:
        number = strace.number(call, self._chance)
        return f"{name} at {call}", lambda: self._inject(call, number, what)

    def _kill_under_load(self) -> str:
        self._start()
        customers = self._load()
        when = self._some_time()
        time.sleep(when)  # the moment is what chance has chosen
        self._relay.kill()
        _join(customers)
        return f"after {when:.2f} s"

    def _kill_both(self) -> str:
        self._start()
        customers = self._load()
        when = self._some_time()
        time.sleep(when / 2)
        self._kill_sink()
        time.sleep(when / 2)
        self._relay.kill()
        _join(customers)
        return f"after {when / 2:.2f} and {when:.2f} s; the sink stays down"

    def _kill_at_start(self) -> str:
        """Its queue has what it could not deliver before. The sink is up or down, as the last round has left it."""
        when = []
        for _ in range(3):
            self._relay.spawn()
            self._relay.wait_for("starting up", of_this_start=True)
            when.append(self._chance.uniform(0, 0.3))
            time.sleep(when[-1])
            self._relay.kill()
        return "after " + ", ".join(f"{each:.2f}" for each in when) + " s"

    def _stop_under_load(self) -> str:
        self._start()
        customers = self._load()
        when = self._some_time()
        time.sleep(when)
        began = time.monotonic()
        self._stop()
        took = time.monotonic() - began
        _join(customers)
        return f"after {when:.2f} s, it took {took:.1f} s"

    def _inject(self, call: str, number: int, what: str) -> str:
        """Death at a call, or an error there: it is over with a kill in any case, so that nothing helps but the disk."""
        self._start()
        with strace.injecting(self._relay.pid, call, number, what):
            customers = self._load()
            _join(customers)
            # What is under way is delivered now, and that makes calls too.
            deadline = time.monotonic() + self._plan.longest
            while self._relay.running and time.monotonic() < deadline:
                time.sleep(0.02)
        alive = self._relay.running
        if alive:
            self._relay.kill()
        else:
            status = self._relay.wait()
            assert status == -signal.SIGKILL, f"it has ended with status {status}\n{self._relay.output.text()}"
        return f"number {number}, and killed at the end" if alive else f"number {number}"

    # Those who take part.

    def _start(self) -> None:
        self._start_sink(self._plan.trouble)
        self._relay.start()

    def _load(self) -> Sequence[Customer]:
        customers = [
            Customer(self._relay.address(), self._ledger, str(self._chance.random()), self._plan.messages)
            for _ in range(self._plan.clients)
        ]
        for customer in customers:
            customer.start()
        return customers

    def _some_time(self) -> float:
        return self._chance.uniform(0.05, self._plan.longest)

    def _start_sink(self, trouble: float) -> None:
        if self._sink is not None:
            return
        sink = self._sink = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.faults.sink",
                SINK,
                str(self._port),
                str(self._record),
                str(self._chance.random()),
                str(trouble),
            ],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert sink.stdout is not None
        assert sink.stdout.readline() == "ready\n", "the sink does not start"

    def _kill_sink(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.kill()
            sink.wait()
            assert sink.stdout is not None
            sink.stdout.close()

    # The end.

    def _come_to_rest(self) -> tuple[int, int]:
        """Everybody is well from now on: wait until the queue is empty. How many messages and damaged ones are left."""
        self._kill_sink()
        self._start_sink(0.0)
        self._relay.start()
        deadline = time.monotonic() + self._plan.rest
        while (queue := self._queue())["entries"] and time.monotonic() < deadline:
            time.sleep(0.1)
        self._stop()
        return queue["entries"], queue["corrupt"]

    def _stop(self) -> None:
        self._relay.send_signal(signal.SIGTERM)
        status = self._relay.wait()
        assert status in (0, -signal.SIGTERM), f"it has ended with status {status}\n{self._relay.output.text()}"

    def _alarms(self) -> list[str]:
        """What the log should not show. Where the disk has failed it should."""
        return [] if self._plan.errors else self._relay.said(ALARM.pattern)

    def _queue(self) -> dict[str, int]:
        try:
            answer: dict[str, dict[str, int]] = ask(str(self._folder / "control.sock"), "status", PATIENCE)
        except click.ClickException as problem:
            raise AssertionError(f"{problem.message}\n{self._relay.output.text(self._relay.began)}") from None
        return answer["queue"]

    def _end(self) -> None:
        if self._relay.running:
            self._relay.kill()
        self._kill_sink()
        self._dns.close()

    def _evidence(self, queued: int, damaged: int) -> Evidence:
        arrivals: list[Arrival] = []
        told: list[Copy] = []
        strays: list[str] = []
        for recipient, octets in self._mailboxes():
            match read(octets):
                case Arrived(id, intact):
                    arrivals.append(Arrival((id, recipient), Where.MAILBOX, intact))
                case Notice() as notice if about := notice.id or self._ledger.by_queue_id.get(notice.queue_id):
                    told += [(about, each) for each in notice.recipients]
                case _:
                    strays.append(f"{recipient}: {octets[:200]!r}")
        for line in self._record.read_text().splitlines():
            noted = json.loads(line)
            if "stray" in noted:
                strays.append(noted["stray"])
            else:
                arrivals += [
                    Arrival((noted["id"], recipient), Where.ONWARD, noted["intact"], noted["answered"])
                    for recipient in noted["recipients"]
                ]
        return Evidence(self._ledger.fates, arrivals, told, frozenset({GONE}), strays, queued, damaged, self._alarms())

    def _mailboxes(self) -> Iterator[tuple[str, bytes]]:
        """What is in the mailboxes of this machine, as a mail reader finds it there."""
        for name in ("jon", "ann", "sender"):
            for part in ("new", "cur"):
                for path in sorted((self._folder / "mail" / name / part).glob("*")):
                    yield f"{name}@localhost", path.read_bytes()
        if (self._folder / "boxes" / "box").exists():
            box = mailbox.mbox(self._folder / "boxes" / "box", create=False)
            for key in box.iterkeys():
                yield "box@boxes.test", box.get_bytes(key)
            box.close()


def _join(customers: Sequence[threading.Thread]) -> None:
    for customer in customers:
        customer.join(PATIENCE)
        assert not customer.is_alive(), "a customer waits for an answer that does not come"
