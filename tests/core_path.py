"""
The whole relay without sockets and threads, as a message goes through it: what that costs, exactly.

    python -m tests.core_path             what a message costs now, beside the committed baseline
    python -m tests.core_path --renew     make that the baseline (tests/baseline.json)

Times differ from machine to machine and from minute to minute; how many calls and how many of Python's instructions a
message takes does not. Only the relay's own packages are counted, with the calls that they make of C's functions. The
spool, the history and the mail log are the real ones; what their threads do is counted, too.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

from attrs import frozen
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

import relay
from relay.assembly import Surroundings, assemble
from relay.config.load import load
from relay.history.records import Bounds
from relay.history.sqlite import SqliteHistory
from relay.net.clock import ReactorClock
from relay.net.maillog import MailLog
from relay.net.teed import Teed
from relay.net.waiting import start
from relay.policy.registry import option_model
from relay.spool.sqlite import SqliteSpool
from relay.store.memory import MemoryStore
from relay.testing.dns import FakeNames
from relay.testing.internet import FakeInternet
from relay.testing.peers import FakeExchange
from tests.contracts.spool.shards import LIMITS, WhenTold

BASELINE: Final = Path(__file__).with_name("baseline.json")
#: A part may cost so much more than its baseline: what is decided by chance, or by another version of a library.
TOLERANCE: Final = 0.02
#: ... and all of them together, on a version of Python that has no baseline of its own.
ELSEWHERE: Final = 0.15

#: As `bench.servers` has it.
_CONFIGURATION: Final = """\
hostname = "relay.test"
[[listener]]
address = "127.0.0.1:2525"
[[policy]]
use = "mailbox"
domains = ["maildir.test"]
users = ["all"]
directory = "mail"
[[policy]]
use = "discard"
when = { recipient = ["discard.test"] }
[[policy]]
use = "quarantine"
when = { recipient = ["hold.test"] }
[[policy]]
use = "forward"
when = { client = ["127.0.0.1"] }
next_hop = "192.0.2.25:25"
"""
_NOON: Final = 1.7e9
_SESSIONS: Final = 20
_CONTENT: Final = b"From: bob@client.test\r\nSubject: load\r\n\r\n" + (b"X" * 78 + b"\r\n") * 12 + b".\r\n"


class Journey:
    """A relay, twenty clients, and the next hop, all of whom know each other already."""

    def __init__(self, folder: Path) -> None:
        self._clock = Clock()
        self._time = ReactorClock(self._clock, lambda: _NOON + self._clock.seconds())
        self._workers = [WhenTold() for _ in range(3)]
        writer, syncer, scribe = self._workers
        internet = FakeInternet(self._clock)
        self.exchange = FakeExchange("mx.sink.test", clock=self._clock)
        internet.add("192.0.2.25", self.exchange)
        history = SqliteHistory(folder / "history.db", self._time, scribe, bounds=Bounds(reserve=0))
        self._log = MailLog(self._clock, folder / "mail.log", calendar=self._time.now)
        self._log.start()
        spool = SqliteSpool(folder / "spool", self._time, writer, syncer, limits=LIMITS, random=_octets())
        settings = load(
            _CONFIGURATION, file="relay.toml", base=folder, hostname="relay.test", user="ann", option_model=option_model
        )
        surroundings = Surroundings(
            clock=self._time,
            resolver=FakeNames({}),
            tcp=internet,
            spool=spool,
            maillog=Teed(self._log, history),
            history=history,
            agents={},
            random=random.Random(1),  # chance in a test keeps no secrets
            is_local=lambda address: False,
            store=MemoryStore(self._time),
        )
        self._relay = assemble(settings, surroundings, file="relay.toml")
        recovered: Any = start(spool.recover())
        self._work()
        assert getattr(recovered, "called", True), "the spool is not ready"
        self._relay.dispatcher.start()
        self._clients = [self._client(port) for port in range(40000, 40000 + _SESSIONS)]

    def _client(self, port: int) -> tuple[Any, StringTransport]:
        address = IPv4Address("TCP", "127.0.0.1", port)
        server: Any = self._relay.listeners[0].factory.buildProtocol(address)
        assert server is not None, "nobody answers"
        transport = StringTransport(peerAddress=address)
        server.makeConnection(transport)
        server.dataReceived(b"EHLO client.test\r\n")
        return server, transport

    def round(self) -> None:
        """A message of each client, until it is where it has to be and all is written down."""
        for said in (b"MAIL FROM:<bob@client.test>\r\n", b"RCPT TO:<all@sink.test>\r\n", b"DATA\r\n", _CONTENT):
            for server, _ in self._clients:
                server.dataReceived(said)
        self._work()
        self._clock.advance(0.5)  # the history waits so long for more, and nothing else waits
        self._work()

    def _work(self) -> None:
        """Whatever can be done at this moment."""
        while self._turn():
            pass

    def _turn(self) -> bool:
        done = sum(workers.work() for workers in self._workers)
        due = [call for call in self._clock.getDelayedCalls() if call.getTime() <= self._clock.seconds()]
        self._clock.advance(0)
        return bool(done or due)

    @property
    def accepted(self) -> int:
        """Messages that were answered with 250."""
        return sum(transport.value().count(b"250 2.0.0") for _, transport in self._clients)

    def close(self) -> None:
        self._log.close()


def _octets() -> Callable[[int], bytes]:
    """Chance that is the same each time."""
    dice = random.Random(2)
    return dice.randbytes


@frozen
class Cost:
    """What a message takes, by the relay's package."""

    calls: dict[str, float]
    instructions: dict[str, float]


def measured(rounds: int = 5) -> Cost:
    """What a message of a client costs that has sent some before."""
    with tempfile.TemporaryDirectory() as folder:
        path = Journey(Path(folder))
        try:
            for _ in range(3):
                path.round()
            messages = rounds * _SESSIONS
            calls = _counted(path.round, _profiled, rounds)
            instructions = _counted(path.round, _traced)
        finally:
            path.close()
        arrived = len(path.exchange.messages)
        assert arrived == messages + 4 * _SESSIONS, f"{arrived} messages have arrived"
    return Cost(
        {part: times / messages for part, times in sorted(calls.items())},
        {part: times / _SESSIONS for part, times in sorted(instructions.items())},
    )


def _counted(
    work: Callable[[], None], how: Callable[[Callable[[], None], Counter[str]], None], times: int = 1
) -> Counter[str]:
    counter: Counter[str] = Counter()
    collects = gc.isenabled()
    gc.disable()  # what a finalizer calls belongs to whoever left the garbage
    try:
        for _ in range(times):
            how(work, counter)
    finally:
        if collects:
            gc.enable()
    return counter


def _profiled(work: Callable[[], None], counter: Counter[str]) -> None:
    """Calls: of the relay's functions, whoever calls them, and of C's by the relay."""
    part_of = _Parts()

    def count(frame: FrameType, event: str, _: Any) -> None:
        if event in ("call", "c_call") and (part := part_of[frame.f_code]):
            counter[part] += 1

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)


def _traced(work: Callable[[], None], counter: Counter[str]) -> None:
    """Instructions of the relay's functions."""
    part_of = _Parts()

    def entered(frame: FrameType, event: str, _: Any) -> Any:
        part = part_of[frame.f_code]
        if not part:
            return None
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True

        def count(frame: FrameType, event: str, _: Any) -> Any:
            if event == "opcode":
                counter[part] += 1
            return count

        return count

    sys.settrace(entered)
    try:
        work()
    finally:
        sys.settrace(None)


class _Parts(dict[CodeType, str]):
    """The relay's package that a piece of code is in: "" for what is not the relay's, and what only stands in."""

    _ROOT: Final = str(Path(str(relay.__file__)).parent) + "/"

    def __missing__(self, code: CodeType) -> str:
        self[code] = part = self._part(code.co_filename)
        return part

    def _part(self, file: str) -> str:
        if not file.startswith(self._ROOT):
            return ""
        package, slash, _ = file.removeprefix(self._ROOT).partition("/")
        return "" if package == "testing" else package if slash else "relay"


def version() -> str:
    """Instructions are those of one version of Python."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def excess(cost: Cost, baseline: dict[str, Any], running: str) -> list[str]:
    """What costs more than it did when the baseline was written, in words."""
    known = baseline.get(running)
    if known is None:
        # Another Python makes other instructions, but not many other calls.
        most = max(sum(each["calls"].values()) for each in baseline.values())
        calls = sum(cost.calls.values())
        over = calls > most * (1 + ELSEWHERE)
        return [f"{calls:.0f} calls a message, and the baseline of another Python has {most:.0f}"] if over else []
    return [
        f"{part}: {now:.1f} {what} a message, where it was {before:.1f}"
        for what, found in (("calls", cost.calls), ("instructions", cost.instructions))
        for part, now, before in (
            *((part, now, known[what].get(part, 0.0)) for part, now in found.items()),
            ("all", sum(found.values()), sum(known[what].values())),
        )
        if now > before * (1 + TOLERANCE) + 1
    ]


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.core_path", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--renew", action="store_true", help="write the baseline of this version of Python")
    said = parser.parse_args(words)
    cost, running = measured(), version()
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    known = baseline.get(running, {"calls": {}, "instructions": {}})
    print(f"{'a message':<12}{'calls':>10}{'were':>10}{'instructions':>16}{'were':>10}")
    for part in sorted({*cost.calls, *known["calls"]}):
        calls, were = cost.calls.get(part, 0.0), known["calls"].get(part, 0.0)
        done, before = cost.instructions.get(part, 0.0), known["instructions"].get(part, 0.0)
        print(f"{part:<12}{calls:10.1f}{were:10.1f}{done:16.0f}{before:10.0f}")
    print(
        f"{'all':<12}{sum(cost.calls.values()):10.1f}{sum(known['calls'].values()):10.1f}"
        f"{sum(cost.instructions.values()):16.0f}{sum(known['instructions'].values()):10.0f}"
    )
    if said.renew:
        rounded = {
            what: {part: round(number, 1) for part, number in found.items()}
            for what, found in (("calls", cost.calls), ("instructions", cost.instructions))
        }
        BASELINE.write_text(json.dumps({**baseline, running: rounded}, indent=1, sort_keys=True) + "\n")
    elif found := excess(cost, baseline, running):
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main(sys.argv[1:])
