"""`python -m bench`: starts the servers, measures them, and prints the report."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from attrs import asdict, evolve

import bench
from bench import handshakes, idle, policies
from bench.chart import svg
from bench.contestants import Contestants, Entry, has_smtp_source, install, made
from bench.goals import ceiling, lines
from bench.machine import described, syncs
from bench.measuring import Bench
from bench.page import About, page
from bench.report import Result, as_json, finished_rate
from bench.scenarios import FULL, QUICK, SMOKE, USUAL, USUALLY, Extent, Route, Scenario
from bench.servers import Measured
from bench.special import BRIEF, FAILED, specials
from bench.targets import Line, Round, table
from bench.trees import HERE, revision

#: Workers of the second relay, where nothing else was said.
_WORKERS: Final = 2


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=bench.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="one round of short runs: some five minutes")
    extent.add_argument("--full", action="store_true", help="the whole cross: two hours or more")
    extent.add_argument("--smoke", action="store_true", help="see that it runs; the figures mean nothing")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all of it there, too")
    parser.add_argument("--save", metavar="FOLDER", type=Path, help="write speed.json and speed.svg there")
    parser.add_argument("--path", metavar="FOLDER", type=Path, help="where spools are: the disk that is measured")
    parser.add_argument("--own", action="store_true", help="our own load and sink even where Postfix's are installed")
    parser.add_argument(
        "--alone", action="store_true", help="the relay only, without its peers and special measurements"
    )
    parser.add_argument("--against", metavar="REVISION", default="", help="beside the relay as it was then, by git")
    parser.add_argument("--workers", metavar="NUMBER", type=int, default=_WORKERS, help="of a second relay; 1: none")
    parser.add_argument("--rounds", metavar="NUMBER", type=int, help="how often each run is done")
    parser.add_argument("--minutes", metavar="NUMBER", type=float, help="after which no other load is begun")
    said = parser.parse_args(words)
    if said.rounds is not None and said.rounds < 1:
        parser.error("there is at least one round")
    return said


def main(words: list[str]) -> None:
    said = arguments(words)
    extent = SMOKE if said.smoke else QUICK if said.quick else FULL if said.full else USUALLY
    if said.rounds is not None:
        extent = evolve(extent, rounds=said.rounds)
    if said.minutes is not None:
        extent = evolve(extent, limit=said.minutes * 60)
    whole = not (said.smoke or said.alone)
    if whole:
        install()
    begun = time.monotonic()
    # Not that of this session's temporary files: Postfix's users have to come there.
    folder = Path(tempfile.mkdtemp(prefix="relay-bench-", dir=said.path))
    folder.chmod(0o755)
    try:
        measured = Measuring(said, extent, folder, begun).all(whole)
        if said.smoke:
            others(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if failed := [each for result in measured for each in result.series if each.failed and each.ours]:
        sys.exit(f"The relay has failed: {failed[0].failed}")


class Measuring:
    """A run of the benchmark: what was found so far, and how much time is left."""

    def __init__(self, said: argparse.Namespace, extent: Extent, folder: Path, begun: float) -> None:
        self._said = said
        self._extent = extent
        self._folder = folder
        self._begun = begun
        self._results: list[Result] = []
        self._lines: list[Line] = []
        self._left_out: list[str] = []
        self._syncs: list[float] = []

    def all(self, whole: bool) -> Sequence[Result]:
        """
        Measure, and say what came of it: even if it is interrupted, since it took so long.

        The special measurements have servers of their own; those of the loads have nothing to do meanwhile.
        """
        said, own = self._said, self._said.own or not has_smtp_source()
        machine, commit = described(self._folder), revision(HERE)
        entry = Entry(1 if said.smoke else said.workers, said.against, not said.alone, not said.smoke, own)
        contestants, told = Contestants((), {}), dict[str, tuple[str, str]]()
        try:
            with ExitStack() as stack:
                contestants = entry.begin(self._folder, stack)
                told = {server.name: (server.version, self._configuration(server)) for server in contestants.servers}
                runs = Bench(contestants.sinks, self._extent, own, _progress)
                self._measure(self._extent.cells, runs, contestants)
                if not said.smoke:
                    self._lines += lines(self._results, contestants.why_not)
                    self._lines += ceiling(self._results, self._syncs)
                if whole:
                    self._lines += self._specials(contestants)
                self._measure(self._extent.besides, runs, contestants)
        finally:
            about = About(
                commit,
                datetime.now(UTC).isoformat(timespec="seconds"),
                _command(),
                machine,
                "our own (bench/client.py)" if own else "smtp-source",
                told,
                contestants.missing,
                tuple(self._left_out),
                time.monotonic() - self._begun,
            )
            self._say(about)
        return self._results

    def _configuration(self, server: Measured) -> str:
        """Without the name of a folder that is gone when somebody reads it."""
        return server.configuration.replace(str(self._folder), "FOLDER")

    def _measure(self, scenarios: Sequence[Scenario], runs: Bench, contestants: Contestants) -> None:
        for scenario in scenarios:
            if time.monotonic() - self._begun > self._extent.limit:
                self._left_out.append(str(scenario.load))
                continue
            self._results.append(runs.result(scenario, contestants.servers))
            self._syncs.append(syncs(self._folder))

    def _specials(self, contestants: Contestants) -> list[Line]:
        peaks = {
            series.server: series.of(finished_rate)
            for result in self._results
            if result.load == USUAL
            for series in result.series
            if not series.failed and series.route is Route.SINK
        }
        round_ = Round(
            self._folder,
            self._extent.rounds,
            self._extent.seconds,
            full=self._said.full,
            peers=not self._said.alone,
            peaks=peaks,
            say=_progress,
        )
        return specials(round_)

    def _say(self, about: About) -> None:
        print(page(about, self._results, self._lines), flush=True)
        shown = {**asdict(about), "results": as_json(self._results), "targets": [asdict(line) for line in self._lines]}
        files: dict[Path, Callable[[], str]] = {}
        if self._said.json:
            files[self._said.json] = lambda: json.dumps(shown, indent=1) + "\n"
        if self._said.save:
            files[self._said.save / "speed.json"] = lambda: json.dumps(shown, indent=1) + "\n"
            files[self._said.save / "speed.svg"] = lambda: svg(about, self._results)
        for path, text in files.items():
            path.write_text(text())


def others(folder: Path) -> None:
    """See that the other scripts run, too. Of what they are to show only resumption does not depend on the machine."""
    round_ = Round(made(folder / "specials"), rounds=1, smoke=True, peers=False, say=_progress)
    found = specials(round_, BRIEF)
    print(f"\n{table(found)}")
    if broken := [line for line in found if FAILED in line.values]:
        raise AssertionError(f"{broken[0].scenario} does not run: {broken[0].figure}")
    print(f"\n{idle.measure(made(folder / 'idle'), 100, tls=True)}")
    for said in (
        *policies.engine(folder),
        *policies.others(made(folder / "policies")),
        *policies.large(folder, 1000),
    ):
        print(said)
    for compared in handshakes.measured(made(folder / "handshakes"), 20, rounds=1):
        print(f"\n{compared}")
        if not compared.resumes:
            raise AssertionError("sessions are not resumed")


def _command() -> str:
    words = shlex.join(sys.argv[1:])
    return f'make bench ARGS="{words}"' if words else "make bench"


def _progress(line: str) -> None:
    """On a terminal over the last one, else below it."""
    sys.stderr.write(f"\r\x1b[K{line}" if sys.stderr.isatty() else f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
