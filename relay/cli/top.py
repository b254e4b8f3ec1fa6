"""`relayctl top`: the relay as it is now, and again in a moment."""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import click

from relay.cli import dest
from relay.cli.ask import ask, pages
from relay.cli.options import socket_of, where
from relay.cli.queue_text import count_lines
from relay.cli.status import lines as status_lines

#: Of all the time that passes, counting a long queue may take so much: one part in so many.
_PART: Final = 20
_HAPPENINGS: Final = ("accepted", "refused", "delivered", "relayed", "delayed", "failed")
#: To the first place, and all that stood there is gone.
_CLEAR: Final = "\x1b[H\x1b[J"


class View(NamedTuple):
    """What was asked for at one moment."""

    at: float
    status: Mapping[str, Any]
    destinations: list[Mapping[str, Any]]
    groups: Mapping[str, Mapping[str, int]]
    #: How long the queue took to be counted, and when that was.
    counting: float = 0.0
    counted: float = 0.0


@click.command(name="top")
@click.option(
    "-i", "--interval", type=click.FloatRange(min=0.2), default=2.0, metavar="SECONDS", help="Between two looks."
)
@click.option("--once", is_flag=True, help="Print it once, and end.")
@where
def top(interval: float, once: bool, config: str | None, socket: str | None) -> None:
    """Show how the relay is, what it does, and what waits where, again and again, until Ctrl-C."""
    path = socket_of(config, socket)
    before: View | None = None
    try:
        while True:
            view = look(path, before)
            height = 1000 if once else shutil.get_terminal_size().lines - 1
            text = "\n".join(list(picture(view, before))[:height])
            sys.stdout.write(f"{text}\n" if once else f"{_CLEAR}{text}\n")
            sys.stdout.flush()
            if once:
                return
            before = view
            time.sleep(interval)
    except KeyboardInterrupt:
        return


def look(path: str | None, before: View | None) -> View:
    """How it is now. A long queue is not counted each time."""
    status, destinations = ask(path, "status"), ask(path, "dest")["destinations"]
    now = time.monotonic()
    if before is not None and now - before.counted < _PART * before.counting:
        return View(now, status, destinations, before.groups, before.counting, before.counted)
    groups: dict[str, Counter[str]] = {}
    for page in pages(path, "queue/count", {}):
        for name, states in page["groups"].items():
            groups.setdefault(name, Counter()).update(states)
    done = time.monotonic()
    return View(now, status, destinations, groups, done - now, done)


def picture(view: View, before: View | None) -> Iterator[str]:
    """Lines, the most important first, since a screen may be short."""
    yield from status_lines(view.status)
    yield ""
    yield happenings(view, before)
    yield ""
    yield from count_lines("destination", view.groups, 10)
    if view.destinations:
        yield ""
        busy = sorted(view.destinations, key=lambda each: (not each.get("why"), -each["active"], each["name"]))
        yield from dest.lines(busy[:10])


def happenings(view: View, before: View | None) -> str:
    """How many of each there were since the start, and how many a second since the last look."""
    now = view.status.get("counts", {})
    if before is None:
        return "since the start: " + ", ".join(f"{now.get(what, 0)} {what}" for what in _HAPPENINGS)
    then, passed = before.status.get("counts", {}), max(0.001, view.at - before.at)
    # What a worker has counted is gone if it is started again.
    rates = ((what, max(0, now.get(what, 0) - then.get(what, 0)) / passed) for what in _HAPPENINGS)
    return "a second: " + ", ".join(f"{rate:.1f} {what}" for what, rate in rates)
