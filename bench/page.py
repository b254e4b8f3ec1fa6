"""The report, in Markdown: what was wanted and what came of it first, then every figure, then how it was done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from bench.machine import sentence
from bench.report import Comparison, Result, Series, accepted_rate, comparisons, cpu_each, finished_rate, name
from bench.targets import Line, table

_MIB = 2**20


@frozen
class About:
    """What a figure is of, so that it can be repeated."""

    commit: str
    #: ISO 8601, UTC.
    date: str
    command: str
    machine: Mapping[str, Any]
    #: `smtp-source`, or our own.
    load: str
    #: The version and the configuration of each server, by its name.
    servers: Mapping[str, tuple[str, str]]
    #: Why others are not there, by their names.
    missing: Mapping[str, str] = field(factory=dict)
    #: Scenarios for which there was no time.
    left_out: Sequence[str] = ()
    seconds: float = 0.0


def page(about: About, results: Sequence[Result], lines: Sequence[Line]) -> str:
    """All of it."""
    parts = [
        "# The relay beside other servers",
        f"`{about.command}` at {about.commit}, {about.date}, in {about.seconds:.0f} s, on {sentence(about.machine)}. "
        f"Load: {about.load}; all share the machine. Figures are medians of the rounds, and ratios medians of the "
        "rounds' ratios. CPU and memory are of all processes of a server, without load and sink.",
    ]
    if lines:
        parts += ["## Targets", table(lines)]
    parts += [_figures(result) for result in results]
    if about.missing:
        parts += ["## Not measured", "\n".join(f"* {who}: {why}" for who, why in about.missing.items())]
    if about.left_out:
        parts += [f"There was no time for: {'; '.join(about.left_out)}."]
    parts += ["## What ran", *(_configured(*each) for each in about.servers.items())]
    return "\n\n".join(parts)


def _configured(who: str, told: tuple[str, str]) -> str:
    version, configuration = told
    return f"### {who} ({version})\n\n```\n{configuration.rstrip()}\n```"


def _figures(result: Result) -> str:
    """Of one load: the ratios, then who did what."""
    return "\n".join((f"## {result.load}\n", *_ratios(comparisons(result)), "", *_rows(result.series)))


def _ratios(found: Sequence[Comparison]) -> Iterator[str]:
    """A row for each of the others, a column for each of ours."""
    ours = list(dict.fromkeys(name(each.ours) for each in found))
    if not ours:
        return
    yield f"| ours is so many times theirs (CPU) | {' | '.join(ours)} |"
    yield f"| --- |{' --- |' * len(ours)}"
    for theirs in dict.fromkeys(name(each.theirs) for each in found):
        cells = {name(each.ours): each for each in found if name(each.theirs) == theirs}
        yield f"| {theirs} | {' | '.join(_cell(cells.get(one)) for one in ours)} |"


def _cell(found: Comparison | None) -> str:
    return f"{_times(found.finished)} ({_times(found.cpu)})" if found else ""


def _times(ratio: float | None) -> str:
    return "?" if ratio is None else f"{ratio:.2f}"


def _rows(series: Iterable[Series]) -> Iterator[str]:
    yield "| server | finished/s | accepted/s | spread | CPU ms each | RSS, PSS MiB | durable at 250 |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for each in series:
        if each.failed:
            yield f"| {name(each)} | failed: {' '.join(each.failed.split())[:300]} | | | | | |"
            continue
        rates = f"{each.of(finished_rate):,.0f} | {each.of(accepted_rate):,.0f} | {_spread(each)}"
        memory = f"{each.memory.rss / _MIB:.0f}, {each.memory.pss / _MIB:.0f}"
        twice = f"; {each.duplicates} came twice" if each.duplicates else ""
        yield f"| {name(each)} | {rates} | {each.of(cpu_each):.3f} | {memory} | {each.durable.value}{twice} |"


def _spread(series: Series) -> str:
    return f"{series.spread:.0%}" if len(series.runs) > 1 else "-"
