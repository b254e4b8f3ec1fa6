"""What the relay is measured against: a line for each target, whoever measures it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen


@frozen
class Round:
    """What a special measurement is given: `targets(round) -> list[Line]` in a module of its own."""

    #: Its own, empty, on the disk that is measured, and readable for all users (Postfix has some).
    folder: Path
    #: How often each figure is taken. What is said is the median, and how far they are apart.
    rounds: int = 3
    #: How long a single run is meant to take, more or less.
    seconds: float = 2.0
    #: Whether the time does not matter: `make bench-full`.
    full: bool = False
    #: That it runs at all: the smallest amount of everything, whose figures mean nothing.
    smoke: bool = False
    #: Whether other servers are measured, too.
    peers: bool = True
    #: Messages a second of each server by its name, as the run has found them before: relayed where it relays, 1 KiB,
    #: 100 sessions, reused connections. Empty for whoever measures alone.
    peaks: Mapping[str, float] = field(factory=dict)
    #: Told what is done now: one short line.
    say: Callable[[str], object] = print


@frozen
class Line:
    """A target, and what has become of it."""

    #: What was done: `STARTTLS, new sessions`.
    scenario: str
    #: What is wanted: `>= 1.2 x Postfix`.
    target: str
    #: What came out, in words, the spread included: `1.31 x (1,204/s to 919/s, spread 4 %)`.
    figure: str
    #: Whether that is what was wanted. `None`: nothing was wanted, or it could not be measured.
    met: bool | None
    #: The same for programs, each run included. Numbers, words, lists and dictionaries, as JSON has them.
    values: Mapping[str, Any] = field(factory=dict)


def at_least(scenario: str, bound: float, of: str, ratio: float | None, said: str, **values: Any) -> Line:
    """A line about a ratio that is to be at least `bound`. What cannot be said is not met and not missed."""
    return _line(scenario, f">= {bound:g} x {of}", ratio, bound, lambda figure: figure >= bound, said, values)


def at_most(scenario: str, bound: float, of: str, ratio: float | None, said: str, **values: Any) -> Line:
    """A line about a ratio that is to be at most `bound`."""
    return _line(scenario, f"<= {bound:g} x {of}", ratio, bound, lambda figure: figure <= bound, said, values)


def _line(
    scenario: str,
    target: str,
    ratio: float | None,
    bound: float,
    holds: Callable[[float], bool],
    said: str,
    values: Mapping[str, Any],
) -> Line:
    if ratio is None:
        return Line(scenario, target, f"not measured: {said}", None, {"bound": bound, **values})
    met = holds(ratio)
    # Rounded, it must not look as if it were on the other side.
    shown = (f"{ratio:.{digits}f}" for digits in (2, 3, 4))
    times = next((text for text in shown if holds(float(text)) is met), f"{ratio}")
    return Line(scenario, target, f"{times} x ({said})", met, {"bound": bound, "ratio": ratio, **values})


def table(lines: Iterable[Line]) -> str:
    """In Markdown, a line for each."""
    rows = [f"| {line.scenario} | {line.target} | {line.figure} | {_verdict(line)} |" for line in lines]
    return "\n".join(("| scenario | target | figure | met |", "| --- | --- | --- | --- |", *rows))


def _verdict(line: Line) -> str:
    if line.met is None:
        return "-"
    if line.met:
        return "yes"
    missing = missing_part(line)
    return "**no**" if missing is None else f"**no**, {missing:.0%} short"


def missing_part(line: Line) -> float | None:
    """
    How much of a missed target is missing, as a part of it, by the line's `ratio` (or `value`) and `bound`: 0.25 where
    six of eight were reached, and where 125 were used of 100. `None` if they are not said, or nothing is missing.
    """
    values = line.values
    bound, value = values.get("bound"), values.get("ratio", values.get("value"))
    if line.met is not False or not bound or value is None:
        return None
    return float(abs(value - bound) / bound)
