"""
How long a client waits for the 250 that means that its message is kept, at half of the load that a server can take.

    python -m bench.latency [--rounds 3] [--seconds 5]

100 sessions keep their connections and bring 1 KiB each, which is relayed to a sink. The load does not wait
(bench/pacing.py): a server that stands still finds at once what has become due meanwhile. The peak is that of the same
run where there is one, and is measured before otherwise. The relay is measured at the half of Postfix's peak, too,
since a server that is faster is held to more.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

from attrs import evolve, frozen

from bench.machine import all_stats
from bench.scenarios import Route
from bench.servers import Measured, PostfixServer, Relay, Sink
from bench.targets import Line, Round, table
from bench.trees import HERE
from tests.interop.peers import program, until

_SESSIONS: Final = 100


@frozen
class Run:
    """One load on one server. All times are in milliseconds."""

    messages: int
    #: From the end of the content to the 250: half of them, 99 of a hundred, all.
    median: float
    most: float
    longest: float
    #: The same from the time at which the message was due, with MAIL, RCPT and DATA.
    whole_median: float
    whole_most: float
    #: Cores on which the server was busy, and the load.
    cores: float
    load: float


@frozen
class Series:
    """All runs of a server at a rate."""

    server: str
    #: Messages a second.
    rate: float
    #: What that is: `half of its peak`.
    share: str
    runs: tuple[Run, ...]

    def line(self) -> Line:
        """Nothing is wanted of it but to be known."""
        halves, mosts = [run.median for run in self.runs], [run.most for run in self.runs]
        whole = (median(run.whole_median for run in self.runs), median(run.whole_most for run in self.runs))
        figure = (
            f"p50 {median(halves):.2f} ms ({min(halves):.2f} to {max(halves):.2f}), "
            f"p99 {median(mosts):.2f} ms ({min(mosts):.2f} to {max(mosts):.2f}); "
            f"from when it was due {whole[0]:.2f} and {whole[1]:.2f}"
        )
        scenario = f"latency of the 250, {self.server}, {self.rate:,.0f}/s ({self.share})"
        return Line(scenario, "none", figure, None, self._values())

    def _values(self) -> dict[str, Any]:
        names = ("messages", "median", "most", "longest", "whole_median", "whole_most", "cores", "load")
        return {
            "messages_a_second": self.rate,
            "runs": [{name: getattr(run, name) for name in names} for run in self.runs],
        }


def measure(given: Round) -> Iterator[Series]:
    """Each server in turn, at the half of what it can do."""
    with ExitStack() as stack:
        sink = Sink(_made(given.folder / "sink"), own=False)
        stack.callback(sink.stop)
        relay = Relay(_made(given.folder / "relay"), sink.port)
        stack.callback(relay.stop)
        loads: list[tuple[Measured, float, str]] = []
        peak = given.peaks.get(relay.name) or _peak(relay, sink, given.seconds)
        if given.peers and not PostfixServer.why_not():
            postfix = PostfixServer(_made(given.folder / "postfix"), sink.port)
            stack.callback(postfix.stop)
            half = (given.peaks.get(postfix.name) or _peak(postfix, sink, given.seconds)) / 2
            loads += [(postfix, half, "half of its peak"), (relay, half, "half of Postfix's peak")]
        loads.append((relay, peak / 2, "half of its peak"))
        runs: list[list[Run]] = [[] for _ in loads]
        for number in range(given.rounds):
            turns = list(zip(loads, runs, strict=True))
            for (server, rate, share), made in turns if number % 2 == 0 else reversed(turns):
                given.say(f"latency at {rate:,.0f}/s, {share}, round {number + 1}: {server.name}")
                made.append(_run(server, sink, rate, given.seconds))
        for (server, rate, share), made in zip(loads, runs, strict=True):
            yield Series(server.name, rate, share, tuple(made))


def _peak(server: Measured, sink: Sink, seconds: float) -> float:
    """Messages a second that are relayed, by the load of all other figures."""
    from time import monotonic

    rate = 500.0
    for messages in (300, max(300, round(rate * seconds))):
        words = ["-s", str(_SESSIONS), "-m", str(messages), "-l", "1024", "-d"]
        words += ["-f", "bob@client.test", "-t", server.recipient(Route.SINK), f"127.0.0.1:{server.port}"]
        before, begun = sink.count, monotonic()
        subprocess.run([program("smtp-source"), *words], check=True, timeout=120, capture_output=True)
        _arrived(server, sink, before + messages)
        rate = messages / (monotonic() - begun)
    return rate


def _arrived(server: Measured, sink: Sink, count: int) -> None:
    until(lambda: sink.count >= count, lambda: f"{server.name} has lost messages", patience=120)


def _run(server: Measured, sink: Sink, rate: float, seconds: float) -> Run:
    before, cpu = sink.count, server.cpu(all_stats())
    words = ["--sessions", str(_SESSIONS), "--rate", str(rate), "--seconds", str(seconds)]
    ran = subprocess.run(
        [sys.executable, "-m", "bench.pacing", *words, "127.0.0.1", str(server.port), server.recipient(Route.SINK)],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=120 + 5 * seconds,
        check=False,
    )
    if ran.returncode:
        raise AssertionError(f"the load on {server.name} has failed: {ran.stderr}")
    said = json.loads(ran.stdout)
    ended = said["ended"]
    _arrived(server, sink, before + len(ended))
    spent = server.cpu(all_stats()) - cpu
    half, most = _of(ended)
    whole_half, whole_most = _of(said["whole"])
    return Run(
        len(ended), half, most, max(ended) / 1000, whole_half, whole_most, spent / seconds, said["cpu"] / seconds
    )


def _of(microseconds: Sequence[int]) -> tuple[float, float]:
    """The median and the 99th of a hundred, in milliseconds."""
    cuts = quantiles(microseconds, n=100, method="inclusive")
    return cuts[49] / 1000, cuts[98] / 1000


def _made(folder: Path) -> Path:
    folder.mkdir()
    folder.chmod(0o755)
    return folder


def targets(given: Round) -> list[Line]:
    """The latency of the 250 at half load."""
    if given.smoke:
        given = evolve(given, rounds=1, seconds=0.3)
    return [series.line() for series in measure(given)]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.latency", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    said = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="relay-latency-"))
    folder.chmod(0o755)
    try:
        print(table(targets(Round(folder, said.rounds, said.seconds, say=lambda _: None))))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
