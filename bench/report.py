"""From runs to what is said of them. Nothing here measures anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any, Final, TypeAlias

from attrs import frozen

from bench.scenarios import Load, Route
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
    durable: bool
    runs: tuple[Run, ...]

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


_HEAD: Final = f"{'':<24}{'accepted/s':>12}{'finished/s':>12}{'CPU ms each':>13}{'spread':>8}  durable at 250"


def text(results: Iterable[Result]) -> str:
    """For people."""
    return "\n\n".join("\n".join(_lines(result)) for result in results)


def _lines(result: Result) -> Iterable[str]:
    yield str(result.load)
    yield _HEAD
    for series in result.series:
        rates = f"{series.of(_accepted):12,.0f}{series.of(_finished):12,.0f}{series.of(_cpu):13.3f}"
        spread = f"{series.spread:8.0%}" if len(series.runs) > 1 else f"{'':8}"
        durable = "yes" if series.durable else "no"
        twice = f", {series.duplicates} messages came twice" if series.duplicates else ""
        yield f"{_name(series):<24}{rates}{spread}  {durable}{twice}"
    yield from map(_sentence, comparisons(result))


def _sentence(comparison: Mapping[str, Any]) -> str:
    figures = [
        f"{'?' if (times := comparison[figure]) is None else f'{times:.2f}'} {word}"
        for figure, word in (("accepted", "accepted"), ("finished", "finished"), ("cpu", "CPU each"))
    ]
    unfair = "" if comparison["fair"] else " (the other keeps nothing)"
    return f"  {comparison['ours']} : {comparison['theirs']} = {', '.join(figures)}{unfair}"


def comparisons(result: Result) -> list[dict[str, Any]]:
    """Ours with each of the others': with the same route where they have it, or with what they have."""
    ours = [series for series in result.series if series.server == OURS.name]
    others = [series for series in result.series if series.server != OURS.name]
    has = {(series.server, series.route) for series in others}
    return [
        _comparison(one, other)
        for one in ours
        for other in others
        if _comparable(one.route, other.route, (other.server, one.route) in has)
    ]


def _comparable(ours: Route, theirs: Route, has_ours: bool) -> bool:
    return ours is theirs or (ours is Route.SINK and theirs is Route.DISCARD and not has_ours)


def _comparison(one: Series, other: Series) -> dict[str, Any]:
    return {
        "ours": _name(one),
        "theirs": _name(other),
        "accepted": ratio(one, other, _accepted),
        "finished": ratio(one, other, _finished),
        "cpu": ratio(one, other, _cpu),
        "fair": one.durable == other.durable,
    }


def as_json(results: Sequence[Result], machine: Mapping[str, Any], servers: Mapping[str, str]) -> dict[str, Any]:
    """For programs: every run, and what the text says of them."""
    return {
        "machine": dict(machine),
        "servers": dict(servers),
        "results": [
            {
                "load": {"size": result.load.size, "sessions": result.load.sessions, "reuse": result.load.reuse},
                "series": [_series(series) for series in result.series],
                "comparisons": comparisons(result),
            }
            for result in results
        ],
    }


def _series(series: Series) -> dict[str, Any]:
    return {
        "server": series.server,
        "route": series.route.value,
        "durable": series.durable,
        "accepted_rate": series.of(_accepted),
        "finished_rate": series.of(_finished),
        "cpu_ms_each": series.of(_cpu),
        "spread": series.spread,
        "runs": [
            {
                "messages": run.messages,
                "accepted_s": run.accepted,
                "finished_s": run.finished,
                "cpu_s": run.cpu,
                "duplicates": run.duplicates,
            }
            for run in series.runs
        ],
    }


def _name(series: Series) -> str:
    return f"{series.server} -> {series.route.value}"


def _accepted(run: Run) -> float:
    return run.accepted_rate


def _finished(run: Run) -> float:
    return run.finished_rate


def _cpu(run: Run) -> float:
    return run.cpu_each
