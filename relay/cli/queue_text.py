"""The queue as a person reads it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from relay.cli.options import shown, size_text, span

_STATES: Final = ("waiting", "deferred", "active", "held")
_NOBODY: Final = "<>"


def json_line(entry: Mapping[str, Any]) -> Iterator[str]:
    """A message, for programs."""
    yield json.dumps(entry, ensure_ascii=False)


def entry_lines(entry: Mapping[str, Any], now: float) -> Iterator[str]:
    """A message in a list: a line for it, and two for each recipient that has met something."""
    age = span(max(0.0, now - entry["arrived"]))
    yield f"{entry['id']}  {age:>7}  {size_text(entry['size']):>5}  from {shown(entry['sender']) or _NOBODY}"
    for recipient in entry["recipients"]:
        yield from recipient_lines(recipient, now)


def recipient_lines(recipient: Mapping[str, Any], now: float) -> Iterator[str]:
    """Who it is, where its copy goes, and why it waits."""
    original = recipient.get("original")
    named = f" (for {shown(original)})" if original else ""
    attempts = recipient["attempts"]
    tried = f", tried {'once' if attempts == 1 else f'{attempts} times'}" if attempts else ""
    left = recipient["due"] - now
    due = f", due in {span(left)}" if recipient["state"] == "deferred" and left > 0 else ""
    way = f"{shown(recipient['address'])}{named} by {shown(recipient['destination'])}"
    yield f"    {way}: {recipient['state']}{tried}{due}"
    yield f"        {recipient['why']}"
    if recipient.get("because"):
        yield f"        policy {shown(recipient['policy'])}: {shown(recipient['because'])}"
    if recipient.get("delay_reason"):
        last = recipient.get("last", {})
        peer = f" at {shown(last['peer'])}" if last.get("peer") else ""
        said = f", which said {shown(last['diagnostic'])!r}" if last.get("diagnostic") else ""
        yield f"        last: {shown(recipient['delay_reason'])}{peer}{said}"


def show_lines(entry: Mapping[str, Any], now: float) -> Iterator[str]:
    """A message with all that is known of it."""
    age = span(max(0.0, now - entry["arrived"]))
    yield f"{entry['id']}, accepted {_stamp(entry['arrived'])}, {age} ago, {entry['size']} octets"
    yield f"from {shown(entry['sender']) or _NOBODY}"
    helo, client = entry.get("helo"), entry.get("client")
    user = f" as {shown(entry['user'])}" if entry.get("user") else ""
    at = f" at listener {entry['listener']}" if entry.get("listener") else ""
    yield f"brought by {shown(helo or 'a client')}{f' [{shown(client)}]' if client else ''}{user}{at}"
    for name, word in (
        ("priority", "priority"),
        ("envid", "envelope id"),
        ("body", "body"),
        ("deliver_by", "to be delivered by"),
        ("release", "kept back until"),
    ):
        if entry.get(name) not in (None, "7BIT"):
            value = entry[name]
            yield f"{word}: {_stamp(value) if name in ('deliver_by', 'release') else shown(str(value))}"
    for recipient in entry["recipients"]:
        yield from recipient_lines(recipient, now)


def count_lines(by: str, groups: Mapping[str, Mapping[str, int]], most: int) -> Iterator[str]:
    """A table; the groups with the most recipients first."""
    totals = {name: sum(states.values()) for name, states in groups.items()}
    names = sorted(groups, key=lambda name: (-totals[name], name))
    labels = {name: shown(name) or "(nothing yet)" for name in names[:most]}
    width = max([len(by), len("total"), *(len(label) for label in labels.values())])
    yield f"{by:<{width}}  {'waiting':>9} {'deferred':>9} {'active':>9} {'held':>9} {'total':>9}"
    for name, label in labels.items():
        yield _row(label, width, groups[name], totals[name])
    if len(names) > most:
        rest = names[most:]
        others = {state: sum(groups[name].get(state, 0) for name in rest) for state in _STATES}
        yield _row(f"{len(rest)} others", width, others, sum(others.values()))
    sums = {state: sum(states.get(state, 0) for states in groups.values()) for state in _STATES}
    yield _row("total", width, sums, sum(sums.values()))


def _stamp(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(when))


def _row(label: str, width: int, states: Mapping[str, int], total: int) -> str:
    cells = " ".join(f"{states.get(state, 0):>9}" for state in _STATES)
    return f"{label:<{width}}  {cells} {total:>9}"
