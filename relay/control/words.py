"""What an operator says, as values; whatever cannot be understood is `Refused` with a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relay.control.api import Asked, Refused
from relay.mail.address import AddressError, canonical_domain
from relay.mail.routing import TLS_LEVELS, UNIX, Forward, NextHop
from relay.mail.selection import Group, Selection, State

#: Ids that may be named at once.
MOST_IDS: Final = 1000
#: As much of a text as anything in the queue can have.
_LONGEST: Final = 2000

#: The words of a selection, in questions and acts alike.
SELECTING: Final = ("id", "to", "from", "dest", "policy", "state", "older", "reason")


def selection_of(words: Mapping[str, Any], also: tuple[str, ...] = ()) -> Selection:
    """Who is meant. A word that is neither a selection's nor one of `also` is refused, lest more be meant than said."""
    for name in words:
        if name not in SELECTING and name not in also:
            raise Refused(f"'{name}' is not understood here")
    return Selection(
        ids=_ids(words["id"]) if "id" in words else (),
        to=_text(words, "to"),
        sender=_text(words, "from"),
        destination=_text(words, "dest"),
        policy=_text(words, "policy"),
        state=_state(words),
        older=_older(words),
        reason=_text(words, "reason"),
    )


def group_by(asked: Asked) -> Group:
    """By what is counted."""
    said = asked.text("by") or Group.DESTINATION.value
    try:
        return Group(said)
    except ValueError:
        raise Refused(f"'by' is one of {', '.join(each.value for each in Group)}") from None


def most_of(asked: Asked, usual: int, limit: int) -> int:
    """How many are wanted at most."""
    said = asked.text("most") or str(usual)
    if not (said.isascii() and said.isdigit() and 0 < int(said[:9]) <= limit):
        raise Refused(f"'most' is a number from 1 to {limit}")
    return int(said)


def route_of(text: str) -> Forward:
    """
    Where a next hop's name in the queue leads: `example.org` (by MX), `[mail.example.org]:587`, `lmtp:[192.0.2.1]:24`,
    `unix:/run/lmtp`, and `;tls=verify` behind any but the last.
    """
    name, *options = text.strip().split(";")
    tls = "may"
    for option in options:
        key, _, tls = option.partition("=")
        if key != "tls" or tls not in TLS_LEVELS:
            raise Refused(f"behind ';' stands tls= with one of {', '.join(TLS_LEVELS)}, not {option!r}")
    try:
        return Forward((_hop(name, tls),), "by the operator")
    except (ValueError, AddressError) as problem:
        raise Refused(
            f"{text!r} is no next hop ({problem}): say example.org, [mail.example.org]:25, lmtp:[host]:24 or unix:/path"
        ) from None


def _hop(text: str, tls: Any) -> NextHop:
    if text.startswith(UNIX):
        if not text.removeprefix(UNIX).startswith("/"):
            raise ValueError("a socket is named with its whole path")
        return NextHop(text, mx=False, lmtp=True)
    lmtp = text.startswith("lmtp:")
    rest = text.removeprefix("lmtp:")
    if not rest.startswith("["):
        if lmtp:
            raise ValueError("LMTP is spoken with a host that is named in brackets")
        name, colon, port = rest.partition(":")
        return NextHop(canonical_domain(name), _port(port) if colon else 25, tls=tls)
    host, bracket, port = rest[1:].partition("]")
    if not bracket or (port and not port.startswith(":")):
        raise ValueError("a host stands in brackets, and its port behind them")
    # An address needs no canonical form but that in which it is compared.
    named = host if ":" in host or host.replace(".", "").isdigit() else canonical_domain(host)
    return NextHop(named, _port(port[1:]) if port else (24 if lmtp else 25), mx=False, tls=tls, lmtp=lmtp)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise ValueError(f"{text!r} is no port")
    return int(text)


def _text(words: Mapping[str, Any], name: str) -> str:
    """A word; "" if it is not said. One that is said and says nothing is refused: it cannot have meant everybody."""
    if name not in words:
        return ""
    said = words[name]
    if not isinstance(said, str):
        raise Refused(f"'{name}' should be a text")
    if not said.strip():
        raise Refused(f"'{name}' is empty: leave it out if anybody is meant")
    if len(said) > _LONGEST:
        raise Refused(f"'{name}' is longer than anything in the queue")
    return said


def _ids(said: Any) -> tuple[str, ...]:
    ids = said.split(",") if isinstance(said, str) else said
    if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
        raise Refused("'id' should be a text, or a list of texts")
    if len(ids) > MOST_IDS:
        raise Refused(f"no more than {MOST_IDS} ids may be named at once")
    if not ids or not all(id.strip() for id in ids):
        raise Refused("an 'id' is empty: leave 'id' out if any message is meant")
    return tuple(id.strip().upper() for id in ids)


def _state(words: Mapping[str, Any]) -> State | None:
    said = _text(words, "state")
    if not said:
        return None
    try:
        return State(said)
    except ValueError:
        raise Refused(f"'state' is one of {', '.join(each.value for each in State)}") from None


def _older(words: Mapping[str, Any]) -> float | None:
    if "older" not in words:
        return None
    said = words["older"]
    try:
        seconds = float(said)
        if not 0 <= seconds < 1e10:
            raise ValueError(said)
    except (TypeError, ValueError, OverflowError):
        raise Refused("'older' is a number of seconds") from None
    return seconds
