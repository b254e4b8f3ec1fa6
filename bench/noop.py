"""
How long another client waits for an answer that costs nothing, while 100 sessions bring 10 KiB each without a pause.

    python -m bench.noop [--rounds 3] [--seconds 5]

The messages are durable and relayed to a sink. The client says NOOP each ten milliseconds, whether or not the one
before was answered. Status 1 says that the target is missed: 99 of a hundred within 20 ms. Beside it, the same while
nobody else is there: what is then left is the machine's.
"""

from __future__ import annotations

import argparse
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from attrs import evolve, frozen

from bench.scenarios import KIB, Route
from bench.servers import Measured, Relay, Sink
from bench.targets import Line, Round, table
from tests.interop.peers import program

_TARGET_MS: Final = 20.0
_SESSIONS: Final = 100
#: Seconds between two questions, and until the load is what it is from then on.
_EVERY: Final = 0.01
_BEFORE: Final = 0.7
#: Seconds after which nobody answers any more.
_PATIENCE: Final = 30.0
#: More than any server takes in the time.
_ENDLESS: Final = 10_000_000


@frozen
class Run:
    """One round. Milliseconds of each answer, and what was relayed meanwhile, in messages a second."""

    answers: tuple[float, ...]
    relayed: float

    @property
    def median(self) -> float:
        return median(self.answers)

    @property
    def most(self) -> float:
        """99 of a hundred are not longer."""
        return most_of(self.answers)


def most_of(answers: Sequence[float]) -> float:
    """The 99th of a hundred."""
    return quantiles(answers, n=100, method="inclusive")[98]


@contextmanager
def busy(server: Measured) -> Iterator[None]:
    """100 sessions with 10 KiB each, for as long as it takes."""
    words = ["-s", str(_SESSIONS), "-m", str(_ENDLESS), "-l", str(10 * KIB), "-d"]
    words += ["-f", "bob@client.test", "-t", server.recipient(Route.SINK), f"127.0.0.1:{server.port}"]
    load = subprocess.Popen([program("smtp-source"), *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        time.sleep(_BEFORE)
        yield
        if load.poll() is not None:
            assert load.stderr is not None
            raise AssertionError(f"the load has ended: {load.stderr.read()!r}")
    finally:
        load.kill()
        load.wait()


def ask(port: int, seconds: float) -> tuple[float, ...]:
    """NOOP after NOOP for so long, whether or not the ones before were answered: milliseconds for each."""
    took, asked, owed = list[float](), deque[float](), b""
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.recv(1000)
        due = time.perf_counter()
        until = due + seconds
        while due < until or asked:
            now = time.perf_counter()
            if due <= now and due < until:
                client.sendall(b"NOOP\r\n")
                asked.append(now)
                due += _EVERY
            if not select.select([client], [], [], max(0.0, due - now) if due < until else _PATIENCE)[0]:
                if due >= until:
                    raise TimeoutError("NOOP is not answered")
                continue
            *replies, owed = (owed + client.recv(65536)).split(b"\r\n")
            now = time.perf_counter()
            for reply in replies:
                if not reply.startswith(b"250"):
                    raise AssertionError(f"{reply!r} to NOOP")
                took.append((now - asked.popleft()) * 1000)
    return tuple(took)


def measure(given: Round) -> tuple[tuple[float, ...], list[Run]]:
    """Without a load, and with it."""
    with ExitStack() as stack:
        sink = Sink(_made(given.folder / "sink"), own=False)
        stack.callback(sink.stop)
        relay = Relay(_made(given.folder / "relay"), sink.port)
        stack.callback(relay.stop)
        quiet = ask(relay.port, min(1.0, given.seconds))
        runs = []
        for number in range(given.rounds):
            given.say(f"NOOP while {_SESSIONS} sessions send 10 KiB, round {number + 1}")
            with busy(relay):
                before, begun = sink.count, time.monotonic()
                answers = ask(relay.port, given.seconds)
                relayed = (sink.count - before) / (time.monotonic() - begun)
            runs.append(Run(answers, relayed))
        return quiet, runs


def _made(folder: Path) -> Path:
    folder.mkdir()
    folder.chmod(0o755)
    return folder


def targets(given: Round) -> list[Line]:
    """NOOP p99 under load. A hundredth needs some hundred answers: it takes longer than others' runs."""
    given = evolve(given, rounds=1, seconds=0.3) if given.smoke else evolve(given, seconds=max(4.0, given.seconds))
    quiet, runs = measure(given)
    return [line(quiet, runs)]


def line(quiet: tuple[float, ...], runs: list[Run]) -> Line:
    """What has become of the target: the median of the rounds' p99."""
    mosts = [run.most for run in runs]
    value = median(mosts)
    figure = (
        f"p99 {value:.1f} ms ({min(mosts):.1f} to {max(mosts):.1f}), p50 {median(run.median for run in runs):.2f}, "
        f"longest {max(max(run.answers) for run in runs):.1f}, "
        f"at {median(run.relayed for run in runs):,.0f} messages/s; p99 without a load {most_of(quiet):.2f}"
    )
    values = {
        "bound": _TARGET_MS,
        "value": value,
        "runs": [
            {"p50": run.median, "p99": run.most, "longest": max(run.answers), "relayed": run.relayed} for run in runs
        ],
    }
    scenario = f"NOOP p99 while {_SESSIONS} sessions send 10 KiB"
    return Line(scenario, f"<= {_TARGET_MS:g} ms", figure, value <= _TARGET_MS, values)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.noop", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    said = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="relay-noop-"))
    folder.chmod(0o755)
    try:
        shown = targets(Round(folder, said.rounds, said.seconds, say=lambda _: None))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table(shown))
    sys.exit(os.EX_OK if all(each.met is not False for each in shown) else 1)


if __name__ == "__main__":
    main()
