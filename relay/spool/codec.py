"""
Values as rows, and rows as values.

What is looked for or shown is a column of its own; the rest is JSON with names, in which what has its
default is left out. So a value that learns a new field with a default needs no migration, and an older
row stays readable.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from typing import Any, TypeAlias, TypeVar

import attrs

from relay.mail.address import Address
from relay.mail.envelope import Body, Client, Envelope, Form
from relay.mail.outcome import Delayed
from relay.mail.queue import Entry, Pending, Recipient
from relay.mail.reply import Reply
from relay.mail.routing import Deliver, Discard, Forward, Hold, NextHop, Reject, Route
from relay.spool.errors import Damaged

T = TypeVar("T")

Row: TypeAlias = tuple[Any, ...]

#: As many encoded or decoded texts are remembered as there may be sessions.
_REMEMBERED = 2000

_CLIENT = attrs.fields(Client)

_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Encoder:
    """
    Values to columns. For one thread.

    Remembers the texts of routes and of clients, since most messages go the way of the one before them.
    """

    def __init__(self) -> None:
        self._texts: dict[Hashable, str] = {}

    def entry(self, entry: Entry, form: Form, size: int, length: int, content: bytes | None) -> Row:
        """The columns of `relay.spool.schema.ENTRY`, in order."""
        envelope = entry.envelope
        key = (envelope.body, envelope.smtputf8, envelope.client)
        text = self._texts.get(key)
        if text is None:
            text = self._remember(key, _dumps(_envelope(envelope)))
        sender = envelope.reverse_path
        return (
            entry.id,
            entry.arrived,
            None if sender is None else address_text(sender),
            text,
            entry.head,
            form.value,
            size,
            length,
            content,
        )

    def recipient(self, entry_id: str, recipient: Recipient, wake: float | None, due: float, token: int) -> Row:
        """The columns of `relay.spool.schema.RECIPIENT`, in order."""
        original = recipient.original
        address = recipient.address
        return (
            entry_id,
            recipient.id,
            wake,
            due,
            token,
            0,
            address_text(address),
            None if original is address or original == address else address_text(original),
            self.route(recipient.route),
            recipient.destination,
            recipient.policy,
            None,
        )

    def route(self, route: Route) -> str:
        key: Hashable = route
        if isinstance(route, Deliver):
            key = (route.agent, tuple(route.parameters.items()), route.because)
        text = self._texts.get(key)
        if text is None:
            text = self._remember(key, _dumps(_route(route)))
        return text

    def delayed(self, delayed: Delayed) -> str:
        return _dumps([delayed.status, delayed.because, delayed.diagnostic, delayed.peer])

    def _remember(self, key: Hashable, text: str) -> str:
        if len(self._texts) >= _REMEMBERED:
            self._texts.clear()
        self._texts[key] = text
        return text


class Decoder:
    """Columns to values. For one thread. Every method raises `Damaged` for what cannot be read."""

    def __init__(self) -> None:
        self._values: dict[tuple[Any, str], Any] = {}

    def entry(self, row: Row) -> Entry:
        """From the first five columns of `relay.spool.schema.ENTRY`."""
        return _read("the entry", lambda: self._entry(row))

    def pending(self, row: Row) -> Pending:
        """From the columns of `relay.spool.schema.PENDING`."""
        return _read("a recipient", lambda: self._pending(row))

    def form(self, text: Any) -> Form:
        return _read("the form", lambda: Form(text))

    def _entry(self, row: Row) -> Entry:
        id, arrived, sender, envelope, head = row
        body, smtputf8, client = self._remembered(_envelope_from, _text(envelope))
        if not isinstance(head, bytes):
            raise TypeError("the head is no octets")
        return Entry(
            id=_text(id),
            arrived=_number(arrived),
            envelope=Envelope(
                reverse_path=None if sender is None else address_from(_text(sender)),
                body=body,
                smtputf8=smtputf8,
                client=client,
            ),
            head=head,
        )

    def _pending(self, row: Row) -> Pending:
        id, due, attempts, address, original, route, destination, policy, last = row
        recipient = address_from(_text(address))
        return Pending(
            recipient=Recipient(
                id=_text(id),
                address=recipient,
                original=recipient if original is None else address_from(_text(original)),
                route=self._remembered(_route_from, _text(route)),
                destination=_text(destination),
                policy=_text(policy),
            ),
            attempts=int(attempts),
            due=_number(due),
            last=None if last is None else _delayed_from(_text(last)),
        )

    def _remembered(self, read: Callable[[Any], T], text: str) -> T:
        key = (read, text)
        if key in self._values:
            value: T = self._values[key]
            return value
        value = read(json.loads(text))
        if len(self._values) >= _REMEMBERED:
            self._values.clear()
        self._values[key] = value
        return value


def address_text(address: Address) -> str:
    """Local part and domain as they are meant, without quotes: a domain never has an `@`, so the last one divides."""
    return f"{address.local}@{address.domain}"


def address_from(text: str) -> Address:
    local, at, domain = text.rpartition("@")
    if not at or not domain:
        raise ValueError(f"{text!r} is no address")
    return Address(local, domain)


def _envelope(envelope: Envelope) -> dict[str, Any]:
    """All but the reverse-path, which is a column."""
    fields: dict[str, Any] = {"client": _told(envelope.client)}
    if envelope.body is not Body.SEVEN_BIT:
        fields["body"] = envelope.body.value
    if envelope.smtputf8:
        fields["smtputf8"] = True
    return fields


def _envelope_from(fields: Any) -> tuple[Body, bool, Client]:
    body = Body(fields.get("body", Body.SEVEN_BIT.value))
    return body, bool(fields.get("smtputf8", False)), Client(**fields["client"])


def _told(client: Client) -> dict[str, Any]:
    """What is not as it is by default, by name. All that a client has is text, numbers and truth values."""
    told = {}
    for attribute in _CLIENT:
        value = getattr(client, attribute.name)
        if value != attribute.default:
            told[attribute.name] = value
    return told


def _route(route: Route) -> dict[str, Any]:
    because = {"because": route.because} if route.because else {}
    match route:
        case Forward():
            hops = [[hop.name, hop.port, hop.mx] for hop in route.next_hops]
            return {"forward": hops, **because}
        case Deliver():
            return {"deliver": route.agent, "parameters": dict(route.parameters), **because}
        case Reject():
            return {"reject": [route.reply.code, route.reply.status, *route.reply.lines], **because}
        case Hold():
            return {"hold": True, **because}
        case Discard():
            raise ValueError("a copy that is discarded is not kept")


def _route_from(fields: Any) -> Route:
    because = _text(fields.get("because", ""))
    if "forward" in fields:
        return Forward(tuple(NextHop(_text(name), port, bool(mx)) for name, port, mx in fields["forward"]), because)
    if "deliver" in fields:
        parameters = {_text(name): _text(value) for name, value in fields["parameters"].items()}
        return Deliver(_text(fields["deliver"]), parameters, because)
    if "reject" in fields:
        code, status, *lines = fields["reject"]
        return Reject(Reply(code, status, tuple(lines)), because)
    if "hold" in fields:
        return Hold(because)
    raise ValueError("no route that we know")


def _delayed_from(text: str) -> Delayed:
    status, because, diagnostic, peer = json.loads(text)
    return Delayed(_text(status), _text(because), _text(diagnostic), _text(peer))


def _read(what: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise Damaged(f"{what} cannot be read: {problem}") from problem


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text was expected, not {type(value).__name__}")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, float | int):
        raise TypeError(f"a number was expected, not {type(value).__name__}")
    return float(value)
