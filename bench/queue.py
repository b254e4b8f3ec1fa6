"""
What a queue costs that is long: memory, the time to take what is due next, and the time from the start to the first
delivery.

    python -m bench.queue [--queued 1000 100000 1000000] [--path DIRECTORY]

The queue is filled by the spool itself, in a process of its own, with small messages for one next hop, all of them due.
That process then takes one due message after the other, as the dispatcher does when it has room for one. After it a
relay is started as an operator does it, with a sink as that next hop. Memory is the process's proportional set (PSS)
at most while it delivers, above that of a relay whose queue is empty. Status 1 says that a target is missed: 100 MB
more, 5 seconds to the first delivery of 100,000, and a claim from the longest queue that takes more than three times as
long as one from the shortest, and more than 5 ms.

A queue is filled once, and the relay is started `--starts` times: what it has delivered meanwhile is little of it.
In `make bench` the longest queue is one of 100,000, and in `make bench-full` it is the million.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final

from attrs import frozen

from bench.idle import MB
from bench.machine import memory
from bench.servers import RelayProcess, Sink
from bench.targets import Line, Round
from bench.trees import HERE
from tests.interop.peers import free_port

_MOST_MEMORY: Final = 100 * MB
_FIRST_WITHIN: Final = 5.0
_FLAT: Final = 3.0
_AT_LEAST: Final = 0.005
#: Messages in one commit while the queue is filled, and how many one claim takes.
_AT_ONCE: Final = 500
_CLAIMS: Final = 200
#: How long the relay is watched while it delivers, in seconds.
_WATCHED: Final = 6.0

_CONFIGURATION: Final = """\
hostname = "relay.test"
[spool]
path = "spool"
[log]
mail = "mail.log"
[control]
socket = "control.sock"
[history]
keep = false
[[listener]]
address = "127.0.0.1:{port}"
[[policy]]
name = "outbound"
use = "forward"
when = {{ client = ["127.0.0.1"] }}
next_hop = "127.0.0.1:{sink}"
"""


@frozen
class Queue:
    """What was measured with so many messages."""

    queued: int
    #: Seconds to fill it, and (the median) to take the next one.
    filled: float
    claim: float
    #: Seconds from the start of the relay until the sink has the first message: each start, and the median.
    firsts: tuple[float, ...]
    #: Octets of the relay with an empty queue, and at most while it delivered.
    empty: int
    most: int
    #: Messages a second from the first on: the median of the starts.
    rate: float

    @property
    def first(self) -> float:
        return median(self.firsts)

    def __str__(self) -> str:
        more = (self.most - self.empty) / MB
        return (
            f"{self.queued:>9,} queued: the next one is taken in {self.claim * 1000:.2f} ms, the first is delivered "
            f"{self.first:.2f} s after the start, then {self.rate:,.0f}/s; {more:.1f} MB more than with none "
            f"(filled with {self.queued / self.filled:,.0f}/s)"
        )


def missed(queues: Sequence[Queue]) -> list[str]:
    """What of the targets does not hold, in words."""
    found = [f"{each.queued:,} take too much memory" for each in queues if each.most - each.empty > _MOST_MEMORY]
    found += [
        f"{each.queued:,} start too late" for each in queues if each.queued <= 100_000 and each.first > _FIRST_WITHIN
    ]
    if queues and queues[-1].claim > max(_FLAT * queues[0].claim, _AT_LEAST):
        found.append(f"a claim from {queues[-1].queued:,} takes longer than from {queues[0].queued:,}")
    return found


def targets(given: Round) -> list[Line]:
    """The time to the next message, the memory and the start-up of a long queue."""
    queues = []
    for queued in (20, 200) if given.smoke else (1_000, 1_000_000 if given.full else 100_000):
        given.say(f"a queue of {queued:,}")
        folder = _made(given.folder / str(queued))
        queues.append(measure(folder, queued, given.rounds, watched=0.5 if given.smoke else _WATCHED))
        shutil.rmtree(folder)
    return lines(*queues)


def lines(short: Queue, long: Queue) -> list[Line]:
    """What has become of the targets, of which only a long queue has any."""
    queue, more, bound = f"a queue of {long.queued:,}", long.most - long.empty, max(_FLAT * short.claim, _AT_LEAST)
    firsts = f"{long.first:.2f} s ({min(long.firsts):.2f} to {max(long.firsts):.2f}), then {long.rate:,.0f}/s"
    return [
        Line(
            f"{queue}: time to the next message",
            f"<= {bound * 1000:.1f} ms",
            f"{long.claim * 1000:.2f} ms (of {short.queued:,}: {short.claim * 1000:.2f} ms; medians of {_CLAIMS})",
            long.claim <= bound,
            {"bound": bound, "value": long.claim, "short": short.claim},
        ),
        Line(
            f"{queue}: memory",
            f"<= {_MOST_MEMORY / MB:g} MB more than an empty one",
            f"{more / MB:.1f} MB, the most of {len(long.firsts)} start{'s' if len(long.firsts) > 1 else ''}",
            more <= _MOST_MEMORY,
            {"bound": _MOST_MEMORY, "value": more},
        ),
        Line(
            f"{queue}: from the start to the first delivery",
            f"<= {_FIRST_WITHIN:g} s",
            f"{firsts} (of {short.queued:,}: {short.first:.2f} s)",
            long.first <= _FIRST_WITHIN,
            {"bound": _FIRST_WITHIN, "value": long.first, "each": long.firsts, "short": short.firsts},
        ),
    ]


def measure(folder: Path, queued: int, starts: int = 1, watched: float = _WATCHED) -> Queue:
    """Fill a queue, take some of it, and let a relay deliver from the rest, so often."""
    sink, port = Sink(_made(folder / "sink"), own=False), free_port()
    with ExitStack() as stack:
        stack.callback(sink.stop)
        text = _CONFIGURATION.format(port=port, sink=sink.port)
        relay = RelayProcess(_made(folder / "empty"), text, port)
        time.sleep(1)
        empty = memory(relay.pid)
        relay.stop()
        spool = _made(folder / "full") / "spool"
        words = ["--fill", str(spool), "--sink", str(sink.port), "--queued", str(queued)]
        ran = subprocess.run(
            [sys.executable, "-m", "bench.queue", *words], cwd=HERE, capture_output=True, text=True, check=False
        )
        if ran.returncode:
            raise AssertionError(f"the queue could not be filled:\n{ran.stderr}")
        filled = json.loads(ran.stdout)
        firsts, most, rates = list[float](), 0, list[float]()
        for _ in range(starts):
            first, memory_then, rate = _delivering(folder / "full", text, port, sink, watched)
            firsts.append(first)
            most = max(most, memory_then)
            rates.append(rate)
            if sink.count >= queued:  # a short one has nothing left for another start
                break
        return Queue(queued, filled["filled"], filled["claim"], tuple(firsts), empty, most, median(rates))


def _delivering(folder: Path, text: str, port: int, sink: Sink, watched: float) -> tuple[float, int, float]:
    """Start a relay: when its first message arrived, its memory at most, and messages a second from then on."""
    before, begun = sink.count, time.monotonic()
    relay = RelayProcess(folder, text, port)
    first, most = 0.0, 0
    try:
        while not first or time.monotonic() - begun - first < watched:
            most = max(most, memory(relay.pid))
            if not first and sink.count > before:
                first = time.monotonic() - begun
            if time.monotonic() - begun > 120:
                raise AssertionError("nothing was delivered within two minutes")
            time.sleep(0.02)
        return first, most, (sink.count - before) / (time.monotonic() - begun - first)
    finally:
        relay.stop()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    return folder


# In a process of its own, since it needs a reactor.


async def _fill(path: Path, sink: int, queued: int, reactor: Any) -> dict[str, float]:
    from relay.interfaces import Enrol, GiveBack
    from relay.mail.address import Address
    from relay.mail.envelope import Client, Envelope, Form
    from relay.mail.queue import Entry, Recipient, destination
    from relay.mail.routing import Forward, NextHop
    from relay.net.clock import ReactorClock
    from relay.spool.identity import recipient_id
    from relay.spool.sqlite import SqliteSpool

    clock = ReactorClock(reactor)
    spool = SqliteSpool.in_threads(path, clock, reactor.callFromThread)
    await spool.recover()
    client, route = (
        Client("127.0.0.1", 40000, "client.test", True, "local"),
        Forward(NextHop("127.0.0.1", sink, mx=False)),
    )

    def enrol(number: int) -> Enrol:
        draft = spool.begin(Form.WIRE)
        draft.write(b"Subject: hello\r\n\r\n" + b"x" * 100 + b"\r\n.\r\n")
        to = Address(f"bob{number}", "example.org")
        envelope = Envelope(Address(f"ann{number % 100}", "example.net"), client=client)
        entry = Entry(draft.id, clock.now(), envelope, b"Received: from client.test\r\n")
        recipient = Recipient(recipient_id(draft.id, 0), to, to, route, destination(route), "outbound")
        return Enrol(entry, draft, (recipient,))

    begun = time.perf_counter()
    for at in range(0, queued, _AT_ONCE):
        await spool.commit([enrol(number) for number in range(at, min(queued, at + _AT_ONCE))])
    filled = time.perf_counter() - begun
    took = []
    for _ in range(_CLAIMS):
        before = time.perf_counter()
        claims = await spool.claim(clock.now(), 1, 300.0)
        took.append(time.perf_counter() - before)
        # What was taken is due as it was.
        await spool.commit([GiveBack(claim, tuple(p.recipient for p in claim.pending)) for claim in claims])
    await spool.close()
    return {"filled": filled, "claim": median(took)}


def _run_filling(path: Path, sink: int, queued: int) -> None:
    from relay.net.reactor import install_monotonic_reactor

    reactor = install_monotonic_reactor()
    from twisted.internet.defer import Deferred

    failed: list[object] = []

    def start() -> None:
        running = Deferred.fromCoroutine(_fill(path, sink, queued, reactor))
        running.addCallback(lambda said: print(json.dumps(said)))
        running.addErrback(lambda failure: (failed.append(failure), failure.printTraceback()))
        running.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run()
    sys.exit(bool(failed))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.queue", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queued", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--starts", type=int, default=1, help="how often the relay is started on each queue")
    parser.add_argument("--path", metavar="DIRECTORY", help="where spools are: the disk that is measured")
    parser.add_argument("--fill", metavar="DIRECTORY", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--sink", type=int, default=25, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.fill is not None:
        _run_filling(said.fill, said.sink, said.queued[0])
    folder = Path(tempfile.mkdtemp(prefix="relay-queue-", dir=said.path))
    folder.chmod(0o755)
    queues = []
    try:
        for queued in said.queued:
            queues.append(measure(folder / str(queued), queued, said.starts))
            print(queues[-1], flush=True)
            shutil.rmtree(folder / str(queued))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if problems := missed(queues):
        sys.exit(f"The target is missed: {' and '.join(problems)}.")


if __name__ == "__main__":
    main()
