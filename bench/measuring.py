"""One run, and the order of all runs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import field, frozen

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

    #: Where the mail of each server goes, by its name.
    sinks: Mapping[str, Sink]
    extent: Extent
    #: Whether the load is our own, and not smtp-source's.
    own: bool
    say: Callable[[str], object]
    #: Why a server is not measured any more, by its name: after a failure its figures would mean nothing.
    broken: dict[str, str] = field(factory=dict)

    def result(self, scenario: Scenario, servers: Sequence[Measured]) -> Result:
        """A load on each server for each route that it has."""
        pairs = [
            *((server, route) for route in scenario.routes for server in servers if route in server.routes),
            *((server, Route.DISCARD) for server in servers if server.always and Route.DISCARD not in scenario.routes),
        ]
        counts = [self._count(server, route, scenario.load) for server, route in pairs]
        runs: list[list[Run]] = [[] for _ in pairs]
        for number in range(self.extent.rounds):
            turns = list(enumerate(pairs))
            # Who follows whom should not matter, so it is different each time.
            for at, (server, route) in turns if number % 2 == 0 else reversed(turns):
                self.say(f"{scenario.load}, round {number + 1}: {server.name} -> {route.value}, {counts[at]} messages")
                if run := self._tried(server, route, scenario.load, counts[at]):
                    runs[at].append(run)
        for server in servers:
            if Route.HOLD in scenario.routes and Route.HOLD in server.routes and server.name not in self.broken:
                server.forget()
        found = zip(pairs, runs, strict=True)
        return Result(scenario.load, tuple(self._series(server, route, of_it) for (server, route), of_it in found))

    def _count(self, server: Measured, route: Route, load: Load) -> int:
        """How many messages a run has, by short ones: the first makes the server warm, and is not counted."""
        tried = max(_TRIAL, load.sessions)
        if self.extent.most <= tried:  # figures that mean nothing
            return self.extent.most
        self._tried(server, route, load, tried)
        while trial := self._tried(server, route, load, tried):
            wanted = enough(self.extent, tried, trial.finished, load.sessions)
            if wanted <= 4 * tried:
                return wanted
            tried = wanted // 3
        return 0

    def _series(self, server: Measured, route: Route, runs: Sequence[Run]) -> Series:
        failed = self.broken.get(server.name, "")
        return Series(server.name, route, server.durable[route], () if failed else tuple(runs), failed)

    def _tried(self, server: Measured, route: Route, load: Load, messages: int) -> Run | None:
        """A run, if the server is well, and stays so."""
        if server.name in self.broken:
            return None
        try:
            return self.run(server, route, load, messages)
        except (AssertionError, OSError, KeyError, subprocess.SubprocessError) as problem:
            self.broken[server.name] = f"{load}, {route.value}: {problem}"
            return None

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
        away = route in (Route.SINK, Route.MAILDIR)
        finished = time.monotonic() - begun if away else accepted
        time.sleep(_AFTERWARDS)
        stats = all_stats()
        spent, memory = server.cpu(stats) - cpu, server.memory(stats)
        return Run(messages, accepted, finished, spent, arrivals() - before - messages if away else 0, memory)

    def _arrivals(self, server: Measured, route: Route) -> Callable[[], int]:
        """How many messages have come so far to where this route leads."""
        match route:
            case Route.SINK:
                return lambda: self.sinks[server.name].count
            case Route.MAILDIR:
                clear(server.maildir)
                return lambda: delivered(server.maildir)
            case Route.HOLD | Route.DISCARD:
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
