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


def _ratios(found: Iterable[Comparison]) -> Iterator[str]:
    for each in found:
        shown = f"{_times(each.finished)} finished, {_times(each.accepted)} accepted, {_times(each.cpu)} CPU"
        unlike = f" (its 250: durable {each.theirs.durable.value})"
        yield f"* {name(each.ours)} : {name(each.theirs)} = {shown}{'' if each.fair else unlike}"


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
