"""One run, and the order of all runs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

from bench.machine import all_stats
from bench.report import Result, Run, Series
from bench.scenarios import Extent, Load, Route, Scenario, enough
from bench.servers import Measured, Sink, clear, delivered
from tests.interop.peers import program, until

_REPOSITORY: Final = Path(__file__).parents[1]
#: Messages that find out how fast a server is, and make it warm.
_TRIAL: Final = 100
#: What is left to do when the last message has arrived: settling, cleaning up. It counts as CPU.
_AFTERWARDS: Final = 0.3


@frozen
class Bench:
    """What all runs share."""

    sink: Sink
    extent: Extent
    #: Whether the load is our own, and not smtp-source's.
    own: bool
    say: Callable[[str], object]

    def results(self, servers: Sequence[Measured]) -> Iterator[Result]:
        """Each scenario in turn."""
        for scenario in self.extent.scenarios:
            yield self._result(scenario, servers)

    def _result(self, scenario: Scenario, servers: Sequence[Measured]) -> Result:
        pairs = [(server, route) for route in scenario.routes for server in servers if route in server.routes]
        counts = []
        for server, route in pairs:
            tried = min(_TRIAL, self.extent.most)
            trial = self.run(server, route, scenario.load, tried)
            counts.append(enough(self.extent, tried, trial.finished))
        runs: list[list[Run]] = [[] for _ in pairs]
        for number in range(self.extent.rounds):
            turns = list(enumerate(pairs))
            # Who follows whom should not matter, so it is different each time.
            for at, (server, route) in turns if number % 2 == 0 else reversed(turns):
                self.say(f"{scenario.load}, round {number + 1}: {server.name} -> {route.value}, {counts[at]} messages")
                runs[at].append(self.run(server, route, scenario.load, counts[at]))
        return Result(
            scenario.load,
            tuple(
                Series(server.name, route, server.durable[route], tuple(of_it))
                for (server, route), of_it in zip(pairs, runs, strict=True)
            ),
        )

    def run(self, server: Measured, route: Route, load: Load, messages: int) -> Run:
        """One load on one server, from its first connection until its last message is where it has to be."""
        arrivals = self._arrivals(server, route)
        before, cpu = arrivals(), server.cpu(all_stats())
        begun = self._load(server, route, load, messages)
        accepted = time.monotonic() - begun
        until(
            lambda: arrivals() - before >= messages,
            lambda: f"{server.name} has lost messages: {arrivals() - before} of {messages} have arrived",
            patience=60 + messages / 50,
        )
        # Nothing is waited for where nothing is carried away.
        finished = accepted if route is Route.DISCARD else time.monotonic() - begun
        time.sleep(_AFTERWARDS)
        spent = server.cpu(all_stats()) - cpu
        duplicates = 0 if route is Route.DISCARD else arrivals() - before - messages
        return Run(messages, accepted, finished, spent, duplicates)

    def _arrivals(self, server: Measured, route: Route) -> Callable[[], int]:
        """How many messages have come so far to where this route leads."""
        match route:
            case Route.SINK:
                return lambda: self.sink.count
            case Route.MAILDIR:
                clear(server.maildir)
                return lambda: delivered(server.maildir)
            case Route.DISCARD:
                endless = iter((0, 2**62))
                return lambda: next(endless, 2**62)

    def _load(self, server: Measured, route: Route, load: Load, messages: int) -> float:
        """Returns when all have been accepted: the time at which it began, by the monotonic clock."""
        sessions = str(min(load.sessions, messages))
        recipient = server.recipient(route)
        if self.own:
            command = [sys.executable, "-m", "bench.client", "--sessions", sessions, "--messages", str(messages)]
            command += ["--size", str(load.size), *(["--reuse"] if load.reuse else [])]
            command += ["127.0.0.1", str(server.port), recipient]
        else:
            command = [program("smtp-source"), "-s", sessions, "-m", str(messages), "-l", str(load.size)]
            command += ["-f", "bob@client.test", "-t", recipient, *(["-d"] if load.reuse else [])]
            command += [f"127.0.0.1:{server.port}"]
        begun = time.monotonic()
        ran = subprocess.run(
            command, cwd=_REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False
        )
        if ran.returncode:
            raise AssertionError(f"{' '.join(command)} ended with {ran.returncode}:\n{ran.stdout}{ran.stderr}")
        return float(ran.stdout) if self.own else begun
