"""
Values as rows, and rows as values.

What is looked for or shown is a column of its own; the rest is JSON with names, in which what has its
default is left out. So a value that learns a new field with a default needs no migration, and an older
row stays readable.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import attrs

from relay.mail.address import Address
from relay.mail.dsn import NO_WISHES, Notify, Return, Wishes
from relay.mail.envelope import Body, ByMode, Client, DeliverBy, Envelope, Form
from relay.mail.facts import NO_FACTS, Facts
from relay.mail.outcome import Delayed
from relay.mail.queue import Entry, Pending, Recipient
from relay.mail.reply import Reply
from relay.mail.routing import Deliver, Discard, Forward, Hold, NextHop, Reject, Route
from relay.mail.tls import Subject, TlsFacts
from relay.spool.errors import Damaged

T = TypeVar("T")

Row: TypeAlias = tuple[Any, ...]

#: As many encoded or decoded texts are remembered as there may be sessions.
_REMEMBERED = 2000

#: What clients have in common that come again; the port is another one each time.
_CLIENT = [attribute for attribute in attrs.fields(Client) if attribute.name != "port"]
#: Where its port stands in what is written of an envelope.
_PORT = len('{"client":{')
#: How a next hop is spoken to.
_HOW = tuple(each for each in attrs.fields(NextHop)[3:] if each.init)

#: What clients' texts are remembered by.
_same = attrgetter("address", "helo", "extended", "listener", "user", "tls", "lmtp")
#: What few messages have in their envelope, and what all the others have in its place.
_rare = attrgetter("returns", "envid", "require_tls", "priority", "deliver_by", "release", "hold_for")
_NOTHING_RARE = _rare(Envelope(None))

_PLAIN = Form.PLAIN

_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Encoder:
    """
    Values to columns. For one thread.

    Remembers the texts of routes and of clients, since most messages go the way of the one before them.
    """

    def __init__(self) -> None:
        #: With a place for the port.
        self._envelopes: dict[Hashable, str] = {}
        #: With the port of one connection: this helps only who sends more than one message over it.
        self._connections: dict[Hashable, tuple[str, Client]] = {}
        self._routes: dict[Hashable, tuple[str, Route]] = {}

    def entry(self, entry: Entry, form: Form, size: int, length: int, content: bytes | None) -> Row:
        """The columns of `relay.spool.schema.ENTRY`, in order."""
        envelope = entry.envelope
        # The client stands beside the text: while it lives no other has its id.
        key = id(envelope.client), id(envelope.body), envelope.smtputf8
        text, _ = self._connections.get(key) or self._connection(key, envelope)
        if _rare(envelope) != _NOTHING_RARE:
            # An ENVID is another one in each message: not worth remembering.
            text = f"{text[:-1]},{_dumps(_rarely(envelope))[1:]}"
        sender = envelope.reverse_path
        return (
            entry.id,
            entry.arrived,
            # As `address_text` has it.
            None if sender is None else f"{sender.local}@{sender.domain}",
            text,
            entry.head,
            "plain" if form is _PLAIN else "wire",
            size,
            length,
            content,
        )

    def _connection(self, key: Hashable, envelope: Envelope) -> tuple[str, Client]:
        """What the messages of this connection have in common that say the same of their content."""
        client = envelope.client
        alike = _same(client), id(envelope.body), envelope.smtputf8
        text = self._envelopes.get(alike)
        if text is None:
            text = _dumps(_envelope(envelope)).replace("%", "%%")
            text = f"{text[:_PORT]}%s{text[_PORT:]}"
            _remember(self._envelopes, alike, text)
        text %= f'"port":{client.port},' if client.port else ""
        known = text, client
        _remember(self._connections, key, known)
        return known

    def recipient(self, entry_id: str, recipient: Recipient, wake: float | None, due: float, token: int) -> Row:
        """The columns of `relay.spool.schema.RECIPIENT`, in order; 0 is for nothing in one of its `OPTIONAL` ones."""
        original = recipient.original
        address = recipient.address
        # As `route` has it.
        route, _ = self._routes.get(id(recipient.route)) or self._route(recipient.route)
        return (
            entry_id,
            recipient.id,
            wake,
            due,
            token,
            f"{address.local}@{address.domain}",
            0 if original is address or original == address else address_text(original),
            route,
            recipient.destination,
            recipient.policy,
            0 if recipient.wishes is NO_WISHES and recipient.facts is NO_FACTS else _rest_text(recipient) or 0,
        )

    def route(self, route: Route) -> str:
        # A policy's routes are mostly made once, and are then found without being compared. The route stands beside
        # the text: while it lives no other has its id. What an agent is to know may change, so its value counts.
        text, _ = self._routes.get(id(route)) or self._route(route)
        return text

    def _route(self, route: Route) -> tuple[str, Route]:
        if type(route) is not Deliver:
            known = _dumps(_route(route)), route
            _remember(self._routes, id(route), known)
            return known
        key = (route.agent, tuple(route.parameters.items()), route.because)
        if (same := self._routes.get(key)) is not None:
            return same
        known = _dumps(_route(route)), route
        _remember(self._routes, key, known)
        return known

    def delayed(self, delayed: Delayed) -> str:
        return _dumps([delayed.status, delayed.because, delayed.diagnostic, delayed.peer])


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
        fields = self._remembered(_envelope_from, _text(envelope))
        if not isinstance(head, bytes):
            raise TypeError("the head is no octets")
        return Entry(
            id=_text(id),
            arrived=_number(arrived),
            envelope=Envelope(None if sender is None else address_from(_text(sender)), **fields),
            head=head,
        )

    def _pending(self, row: Row) -> Pending:
        id, due, attempts, address, original, route, destination, policy, last, wishes = row
        recipient = address_from(_text(address))
        rest = {} if wishes is None else json.loads(_text(wishes))
        return Pending(
            recipient=Recipient(
                id=_text(id),
                address=recipient,
                original=recipient if original is None else address_from(_text(original)),
                route=self._remembered(_route_from, _text(route)),
                destination=_text(destination),
                policy=_text(policy),
                wishes=_wishes_from(rest) if rest else NO_WISHES,
                facts=Facts(rest["facts"]) if "facts" in rest else NO_FACTS,
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


def _remember(known: dict[Hashable, T], key: Hashable, value: T) -> None:
    if len(known) >= _REMEMBERED:
        known.clear()
    known[key] = value


def address_text(address: Address) -> str:
    """Local part and domain as they are meant, without quotes: a domain never has an `@`, so the last one divides."""
    return f"{address.local}@{address.domain}"


def address_from(text: str) -> Address:
    local, at, domain = text.rpartition("@")
    if not at or not domain:
        raise ValueError(f"{text!r} is no address")
    return Address(local, domain)


def _envelope(envelope: Envelope) -> dict[str, Any]:
    """What messages have in common that come from one client."""
    fields: dict[str, Any] = {"client": _client(envelope.client)}
    if envelope.body is not Body.SEVEN_BIT:
        fields["body"] = envelope.body.value
    if envelope.smtputf8:
        fields["smtputf8"] = True
    return fields


def _rarely(envelope: Envelope) -> dict[str, Any]:
    """The rest of the envelope, of which something is said. The reverse-path is a column."""
    by = envelope.deliver_by
    fields = {
        "returns": envelope.returns and envelope.returns.value,
        "envid": envelope.envid or None,
        "require_tls": envelope.require_tls or None,
        "priority": envelope.priority,
        "deliver_by": by and [by.until, by.mode.value, by.trace],
        "release": envelope.release,
        "hold_for": envelope.hold_for,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _envelope_from(fields: Any) -> dict[str, Any]:
    """The arguments of `Envelope`."""
    returns, priority, by = (fields.get(name) for name in ("returns", "priority", "deliver_by"))
    release, hold_for = (fields.get(name) for name in ("release", "hold_for"))
    return {
        "body": Body(fields.get("body", Body.SEVEN_BIT.value)),
        "smtputf8": bool(fields.get("smtputf8", False)),
        "client": _client_from(fields["client"]),
        "returns": None if returns is None else Return(returns),
        "envid": _text(fields.get("envid", "")),
        "require_tls": bool(fields.get("require_tls", False)),
        "priority": None if priority is None else int(priority),
        "deliver_by": None if by is None else _deliver_by_from(*by),
        "release": None if release is None else _number(release),
        "hold_for": None if hold_for is None else int(hold_for),
    }


def _deliver_by_from(until: Any, mode: Any, trace: Any) -> DeliverBy:
    return DeliverBy(_number(until), ByMode(mode), bool(trace))


def _client(client: Client) -> dict[str, Any]:
    """What is not as it is by default, by name. All but `tls` is text, numbers and truth values."""
    fields = {}
    for attribute in _CLIENT:
        value = getattr(client, attribute.name)
        if value != attribute.default:
            fields[attribute.name] = attrs.asdict(value) if attribute.name == "tls" else value
    return fields


def _client_from(fields: Any) -> Client:
    return Client(**{**fields, "tls": _tls_from(fields["tls"])} if "tls" in fields else fields)


def _tls_from(fields: Any) -> TlsFacts:
    subject = fields.get("client_subject")
    return TlsFacts(**{**fields, "client_subject": subject and _subject_from(subject)})


def _subject_from(fields: Any) -> Subject:
    return Subject(**{**fields, "hosts": tuple(fields["hosts"]), "addresses": tuple(fields["addresses"])})


def _rest_text(recipient: Recipient) -> str | None:
    """What the sender wishes for a recipient, and what policies know of it: mostly nothing."""
    fields: dict[str, Any] = {}
    wishes = recipient.wishes
    if wishes.notify is not None:
        fields["notify"] = sorted(what.value for what in wishes.notify)
    if wishes.orcpt:
        fields["orcpt"] = wishes.orcpt
    if recipient.facts:
        fields["facts"] = dict(recipient.facts)
    return _dumps(fields) if fields else None


def _wishes_from(fields: Any) -> Wishes:
    notify = fields.get("notify")
    return Wishes(None if notify is None else frozenset(map(Notify, notify)), _text(fields.get("orcpt", "")))


def _route(route: Route) -> dict[str, Any]:
    because = {"because": route.because} if route.because else {}
    match route:
        case Forward():
            sender = {"sender": address_text(route.reverse_path)} if route.reverse_path is not None else {}
            return {"forward": [_hop(hop) for hop in route.next_hops], **sender, **because}
        case Deliver():
            return {"deliver": route.agent, "parameters": dict(route.parameters), **because}
        case Reject():
            return {"reject": [route.reply.code, route.reply.status, *route.reply.lines], **because}
        case Hold():
            return {"hold": True, **because}
        case Discard():
            raise ValueError("a copy that is discarded is not kept")


def _hop(hop: NextHop) -> list[Any]:
    """Name, port and MX; and behind them by name what is not as it is by default."""
    rest = {
        attribute.name: getattr(hop, attribute.name)
        for attribute in _HOW
        if getattr(hop, attribute.name) != attribute.default
    }
    return [hop.name, hop.port, hop.mx, *((rest,) if rest else ())]


def _hop_from(name: Any, port: Any, mx: Any, rest: Mapping[str, Any] = MappingProxyType({})) -> NextHop:
    without = tuple(map(_text, rest.get("without", ())))
    return NextHop(_text(name), port, bool(mx), **{**rest, "without": without})


def _route_from(fields: Any) -> Route:
    because = _text(fields.get("because", ""))
    if "forward" in fields:
        sender = None if "sender" not in fields else address_from(_text(fields["sender"]))
        return Forward(tuple(_hop_from(*hop) for hop in fields["forward"]), because, sender)
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
