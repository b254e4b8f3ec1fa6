"""The README's picture: bars by load, as SVG written by hand, since a library would be more than this file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape

from attrs import frozen

from bench.machine import was_busy
from bench.page import About
from bench.report import Result, Series, finished_rate, ratio
from bench.scenarios import Durability, Load, Route

_WIDTH: Final = 760
_LEFT: Final = 150
_BAR: Final = 16
_STEP: Final = 20
_GAP: Final = 34
#: Where bars end at most: right of them is room for their figures.
_LONGEST: Final = 400

_STYLE: Final = """\
  text { font: 12px system-ui, sans-serif; fill: #1f2328; }
  .title { font-size: 15px; font-weight: 600; }
  .load { font-weight: 600; }
  .small { font-size: 11px; fill: #59636e; }
  .ours { fill: #0969da; }
  .durable { fill: #8c959f; }
  .half { fill: #8c959f; fill-opacity: .6; }
  .keeps-nothing { fill: none; stroke: #8c959f; stroke-dasharray: 3 2; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .small { fill: #9198a1; }
    .ours { fill: #4493f8; }
    .durable, .half { fill: #9198a1; }
    .keeps-nothing { stroke: #9198a1; }
  }"""

_CALLED: Final = {"postfix": "Postfix", "haraka": "Haraka"}
_KINDS: Final = {Durability.YES: "durable", Durability.HALF: "half", Durability.NO: "keeps-nothing"}


@frozen
class Bar:
    """One of them."""

    who: str
    rate: float
    #: How many times Postfix that is: as `ratio` has it, and of others only.
    times: float | None
    kind: str


@frozen
class Group:
    """The bars of one load, drawn to a scale of their own."""

    title: str
    bars: tuple[Bar, ...]


def groups(results: Sequence[Result]) -> list[Group]:
    """What is drawn: relayed end to end, and then what was only accepted."""
    found = []
    for result in results:
        shown = [each for each in result.series if not each.failed]
        relayed = [each for each in shown if each.route is Route.SINK]
        accepted = [
            each for each in shown if each.route is Route.HOLD or (each.route is Route.DISCARD and not each.ours)
        ]
        for what, series in ("relayed", relayed), ("accepted", accepted):
            # The ceiling alone is no comparison.
            if any(each.ours for each in series):
                found.append(_group(what, result.load, series))
    return sorted(found, key=lambda group: group.title.startswith("accepted"))


def _group(what: str, load: Load, series: Sequence[Series]) -> Group:
    postfix = next((each for each in series if each.server == "postfix"), None)
    bars = []
    for each in series:
        kind = "ours" if each.ours else _KINDS[each.durable]
        times = None if postfix is None or each is postfix else ratio(each, postfix, finished_rate)
        bars.append(Bar(_CALLED.get(each.server, each.server), each.of(finished_rate), times, kind))
    return Group(f"{what}: {load}", tuple(bars))


def svg(about: About, results: Sequence[Result]) -> str:
    """The picture. It names what it is of."""
    body, height = list[str](), 74
    for group in groups(results):
        body += _drawn(group, height)
        height += _GAP + _STEP * len(group.bars)
    height += 8
    described = (
        f"{about.commit}, {about.date[:10]}, {about.machine.get('cores')} cores of {about.machine.get('processor')}"
    )
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height + 28}" role="img" '
        f'aria-labelledby="title">',
        f"<style>\n{_STYLE}\n</style>",
        *_text(16, 26, "Messages a second, each until it has arrived", "title", ident="title"),
        *_text(16, 46, "each load to a scale of its own; x: times Postfix in the same run", "small"),
        *_legend(64),
    ]
    busy = "; the machine did other things, too" if was_busy(about.machine) else ""
    foot = _text(16, height + 10, f"{about.command}: {described}{busy}", "small")
    return "\n".join((*head, *body, *foot, "</svg>")) + "\n"


def _legend(y: int) -> Iterator[str]:
    x = 16
    for kind, said in (
        ("ours", "relay, durable at 250"),
        ("durable", "others, durable"),
        ("half", "durable by half"),
        ("keeps-nothing", "keeps nothing"),
    ):
        yield f'<rect class="{kind}" x="{x}" y="{y - 9}" width="12" height="10"/>'
        yield from _text(x + 17, y, said, "small")
        x += 34 + 6 * len(said)


def _drawn(group: Group, top: int) -> Iterator[str]:
    yield from _text(16, top + 22, group.title, "load")
    most = max(bar.rate for bar in group.bars)
    for number, bar in enumerate(group.bars):
        y = top + _GAP + _STEP * number - 4
        length = max(1, round(bar.rate / most * _LONGEST))
        yield from _text(_LEFT - 8, y + 12, bar.who, anchor="end")
        yield f'<rect class="{bar.kind}" x="{_LEFT}" y="{y}" width="{length}" height="{_BAR}"/>'
        yield from _text(_LEFT + length + 8, y + 12, f"{bar.rate:,.0f}/s{_times(bar.times)}")


def _times(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f", {ratio:.{0 if ratio >= 100 else 1 if ratio >= 1 else 2}f} x"


def _text(x: int, y: int, said: str, kind: str = "", anchor: str = "", ident: str = "") -> Iterator[str]:
    of_it = (("class", kind), ("text-anchor", anchor), ("id", ident))
    words = "".join(f' {name}="{value}"' for name, value in of_it if value)
    yield f'<text x="{x}" y="{y}"{words}>{escape(said)}</text>'
