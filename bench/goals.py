"""The targets that a load by itself shows: which series are compared, and what is wanted of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Final

from attrs import frozen

from bench.report import Comparison, Figure, Result, comparisons, cpu_each, finished_rate, ratio
from bench.scenarios import KIB, MIB, USUAL, Load, Route
from bench.targets import Line, at_least, at_most


@frozen
class Goal:
    """One of them."""

    scenario: str
    load: Load
    route: Route
    #: Whom it is compared with.
    other: str
    bound: float
    #: How that one is called in the target.
    called: str
    figure: Figure = finished_rate
    #: Whether more is better.
    rate: bool = True


#: The same with a connection for each message.
NEW: Final = Load(KIB, 100, reuse=False)
_RELAYED: Final = "relay end to end, durable"

GOALS: Final = (
    Goal(f"{_RELAYED}: {USUAL}", USUAL, Route.SINK, "postfix", 15, "Postfix"),
    Goal(f"the same, {NEW}", NEW, Route.SINK, "postfix", 8, "Postfix"),
    Goal(f"the same, {Load(10 * KIB, 100, True)}", Load(10 * KIB, 100, True), Route.SINK, "postfix", 10, "Postfix"),
    Goal(f"the same, {Load(MIB, 10, True)}", Load(MIB, 10, True), Route.SINK, "postfix", 1.5, "Postfix"),
    Goal(f"one message at a time, {Load(KIB, 1, True)}", Load(KIB, 1, True), Route.SINK, "postfix", 2, "Postfix"),
    Goal(f"one message at a time, {Load(KIB, 1, False)}", Load(KIB, 1, False), Route.SINK, "postfix", 2, "Postfix"),
    Goal(f"accept only, durable: {USUAL}", USUAL, Route.HOLD, "aiosmtpd", 5, "aiosmtpd, which keeps nothing"),
    Goal(f"accept only, durable: {USUAL}", USUAL, Route.HOLD, "smtp-sink", 0.5, "smtp-sink, which keeps nothing"),
    Goal(f"CPU for each message, {_RELAYED}", USUAL, Route.SINK, "postfix", 0.1, "Postfix", cpu_each, rate=False),
)


def lines(results: Sequence[Result], why_not: Callable[[str], str]) -> Iterator[Line]:
    """A line for each goal and each of ours: one worker, and as many as were asked for."""
    found = [(result.load, each) for result in results for each in comparisons(result)]
    for goal in GOALS:
        matching = [
            each
            for load, each in found
            if load == goal.load and each.ours.route is goal.route and each.theirs.server == goal.other
        ]
        if not matching:
            yield _line(goal, goal.scenario, None, why_not(goal.other) or "not in this run")
        for each in matching:
            workers = each.ours.server.partition(", ")[2]
            scenario = f"{goal.scenario} ({workers})" if workers else goal.scenario
            yield _line(goal, scenario, each, _told(goal, each))


def ceiling(results: Sequence[Result], syncs: Sequence[float]) -> Iterator[Line]:
    """What the machine can do, whoever the relay is. `syncs` are those of a second, as often as one has looked."""
    for result in results:
        for series in result.series:
            if series.server == "smtp-sink" and not series.failed and result.load in (USUAL, NEW):
                told = f"{series.of(finished_rate):,.0f}/s, {series.of(cpu_each):.3f} ms of CPU"
                values = {"rates": [run.finished_rate for run in series.runs]}
                yield Line(f"ceiling: smtp-source straight into smtp-sink, {result.load}", "-", told, None, values)
    if syncs:
        told = f"{median(syncs):,.0f}/s ({min(syncs):,.0f} to {max(syncs):,.0f})"
        yield Line("ceiling: 4 KiB added to a file, and fdatasync", "-", told, None, {"rates": list(syncs)})


def _line(goal: Goal, scenario: str, found: Comparison | None, told: str) -> Line:
    judged = at_least if goal.rate else at_most
    if found is None:
        return judged(scenario, goal.bound, goal.called, None, told)
    figures = {"ours": found.ours.of(goal.figure), "theirs": found.theirs.of(goal.figure)}
    times = ratio(found.ours, found.theirs, goal.figure)
    return judged(scenario, goal.bound, goal.called, times, told, rounds=_rounds(goal, found), **figures)


def _told(goal: Goal, found: Comparison) -> str:
    """The figures behind a ratio, and how far the ratios of the rounds are apart."""
    ours, theirs = found.ours.of(goal.figure), found.theirs.of(goal.figure)
    said = f"{ours:,.0f}/s to {theirs:,.0f}/s" if goal.rate else f"{ours:.3f} ms to {theirs:.3f} ms"
    rounds = _rounds(goal, found)
    return f"{said}; rounds {min(rounds):.2f} to {max(rounds):.2f}" if len(rounds) > 1 else said


def _rounds(goal: Goal, found: Comparison) -> list[float]:
    """The ratio of each round that has one."""
    pairs = [
        (goal.figure(one), goal.figure(other)) for one, other in zip(found.ours.runs, found.theirs.runs, strict=True)
    ]
    return [one / other for one, other in pairs if other]
