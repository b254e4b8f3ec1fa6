"""From runs to figures. Nothing here measures anything, and nothing is laid out: `bench.page` does that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, TypeAlias

from attrs import frozen

from bench.machine import NO_MEMORY, Memory
from bench.scenarios import Durability, Load, Route
from bench.trees import OURS


@frozen
class Run:
    """One load on one server."""

    messages: int
    #: Seconds until the last of them was answered with 250.
    accepted: float
    #: Seconds until the last of them was where it had to go.
    finished: float
    #: Seconds of CPU that the server has used for all of them.
    cpu: float
    #: Messages that arrived more than once.
    duplicates: int = 0
    #: Of all processes of the server, when all was done.
    memory: Memory = NO_MEMORY

    @property
    def accepted_rate(self) -> float:
        """Messages a second."""
        return self.messages / self.accepted

    @property
    def finished_rate(self) -> float:
        """Messages a second."""
        return self.messages / self.finished

    @property
    def cpu_each(self) -> float:
        """Milliseconds of CPU for each message."""
        return self.cpu / self.messages * 1000


Figure: TypeAlias = Callable[[Run], float]


@frozen
class Series:
    """The runs of a server with a load and a route: one for each round, in order."""

    server: str
    route: Route
    durable: Durability
    #: None if it has failed.
    runs: tuple[Run, ...]
    #: Why it has.
    failed: str = ""

    def of(self, figure: Figure) -> float:
        """The median of the rounds."""
        return median(map(figure, self.runs))

    @property
    def spread(self) -> float:
        """How far the rounds are apart, as a part of their median."""
        rates = [run.finished_rate for run in self.runs]
        return (max(rates) - min(rates)) / median(rates)

    @property
    def duplicates(self) -> int:
        return sum(run.duplicates for run in self.runs)

    @property
    def ours(self) -> bool:
        """Whether it is the relay of this tree, with however many workers."""
        return self.server == OURS.name or self.server.startswith(f"{OURS.name}, ")

    @property
    def memory(self) -> Memory:
        """The median of the rounds."""
        rss, pss = (
            median(sizes) for sizes in zip(*((run.memory.rss, run.memory.pss) for run in self.runs), strict=True)
        )
        return Memory(round(rss), round(pss))


@frozen
class Result:
    """All series of a load."""

    load: Load
    series: tuple[Series, ...]


def ratio(one: Series, other: Series, figure: Figure) -> float | None:
    """
    How many times the other's figure ours is: the median of the rounds' ratios, and not the ratio of medians, since
    what the machine did besides in a round it did to both.

    `None` if one cannot say: the kernel counts CPU in hundredths of a second, and a short run may have used none.
    """
    pairs = [(figure(ours), figure(theirs)) for ours, theirs in zip(one.runs, other.runs, strict=True)]
    return median(ours / theirs for ours, theirs in pairs) if all(theirs for _, theirs in pairs) else None


@frozen
class Comparison:
    """Ours with one of the others': how many times theirs ours is."""

    ours: Series
    theirs: Series

    @property
    def accepted(self) -> float | None:
        return ratio(self.ours, self.theirs, accepted_rate)

    @property
    def finished(self) -> float | None:
        return ratio(self.ours, self.theirs, finished_rate)

    @property
    def cpu(self) -> float | None:
        return ratio(self.ours, self.theirs, cpu_each)

    @property
    def fair(self) -> bool:
        """Whether both 250s are worth the same."""
        return self.ours.durable is self.theirs.durable


def comparisons(result: Result) -> list[Comparison]:
    """Ours with each of the others': with the same route where they have it, or with what they have."""
    done = [series for series in result.series if not series.failed]
    ours = [series for series in done if series.ours]
    others = [series for series in done if not series.ours]
    has = {(series.server, series.route) for series in others}
    return [
        Comparison(one, other)
        for one in ours
        for other in others
        if _comparable(one.route, other.route, (other.server, one.route) in has)
    ]


def _comparable(ours: Route, theirs: Route, has_ours: bool) -> bool:
    return ours is theirs or (ours in (Route.SINK, Route.HOLD) and theirs is Route.DISCARD and not has_ours)


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """For programs: every run, and what is said of them."""
    return [
        {
            "load": {"size": result.load.size, "sessions": result.load.sessions, "reuse": result.load.reuse},
            "series": [_series(series) for series in result.series],
            "comparisons": [
                {
                    "ours": name(one.ours),
                    "theirs": name(one.theirs),
                    "accepted": one.accepted,
                    "finished": one.finished,
                    "cpu": one.cpu,
                    "fair": one.fair,
                }
                for one in comparisons(result)
            ],
        }
        for result in results
    ]


def _series(series: Series) -> dict[str, Any]:
    told = {"server": series.server, "route": series.route.value, "durable": series.durable.value}
    if series.failed:
        return {**told, "failed": series.failed}
    return {
        **told,
        "accepted_rate": series.of(accepted_rate),
        "finished_rate": series.of(finished_rate),
        "cpu_ms_each": series.of(cpu_each),
        "rss": series.memory.rss,
        "pss": series.memory.pss,
        "spread": series.spread,
        "runs": [
            {
                "messages": run.messages,
                "accepted_s": run.accepted,
                "finished_s": run.finished,
                "cpu_s": run.cpu,
                "duplicates": run.duplicates,
                "rss": run.memory.rss,
                "pss": run.memory.pss,
            }
            for run in series.runs
        ],
    }


def name(series: Series) -> str:
    return f"{series.server} -> {series.route.value}"


def accepted_rate(run: Run) -> float:
    return run.accepted_rate


def finished_rate(run: Run) -> float:
    return run.finished_rate


def cpu_each(run: Run) -> float:
    return run.cpu_each
