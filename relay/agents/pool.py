"""
Connections that have delivered, kept for a short time for the next message that goes the same way.

A connection is lent to one message at a time; and to the next one already when nothing but the final reply to the first
is awaited, if the host is quick with such replies. What is kept here is idle: it costs a socket and no more, is bounded
in all and for each host, and has said QUIT within seconds if nobody wants it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, NamedTuple
from weakref import WeakValueDictionary

from attrs import define, field, frozen
from attrs.validators import ge, gt

from relay.interfaces import IClock, IPlace
from relay.mail.outcome import Peer
from relay.mail.routing import TlsLevel
from relay.net.client import Connection, Sent
from relay.net.clock import cancel
from relay.smtp.sasl_client import Login


@frozen
class Keeping:
    """How long connections are kept, and how many."""

    #: How long one may wait for the next message, in seconds.
    idle: float = field(default=5.0, validator=gt(0))
    #: How many may wait in all; 0: a connection for each message.
    most: int = field(default=100, validator=ge(0))
    #: How many may wait for one way to one host.
    of_host: int = field(default=20, validator=ge(1))
    #: After so many transactions, and so many seconds, a connection has done its duty.
    transactions: int = field(default=1000, validator=ge(1))
    lifetime: float = field(default=300.0, validator=gt(0))


#: Behind a message that a host still has to judge nobody waits if its last final reply took longer, in seconds.
QUICK: Final = 0.05
_NEVER: Final = float("inf")

#: A connection for each message, and QUIT behind it.
NONE_KEPT: Final = Keeping(most=0)


class Way(NamedTuple):
    """
    What two messages must have in common if they are to share a connection. Made and looked up for each message, so
    it is a tuple of what costs nothing to compare.
    """

    #: The parts of a `Peer`.
    name: str
    address: str
    port: int
    assured: bool
    lmtp: bool
    #: What was asked for, and not what came of it: where `may` has ended in clear, the next message meets the same.
    tls: TlsLevel
    login: Login | None
    without: tuple[str, ...]
    source: tuple[str, ...] = ()
    hello: str = ""

    @property
    def peer(self) -> Peer:
        """The host."""
        return Peer(self.name, self.address, self.port, self.assured)


@define(eq=False)
class Lines:
    """Connections that go one way, but for those that nobody may take now."""

    pool: Pool
    way: Way
    #: Nobody uses them; the last one that was kept is the last.
    idle: list[Line] = field(factory=list)
    #: Another message may follow on them already; a set that keeps its order, the last one is the last.
    trailing: dict[Line, None] = field(factory=dict)
    #: The same of this one, at the moment when that begins.
    offered: Line | None = None
    #: All there are, with those that nobody may take.
    every: set[Line] = field(factory=set)


@define(eq=False)
class Line:
    """A connection on its way through several messages."""

    lines: Lines
    connection: Connection
    #: With so many transactions, and at this time by `IClock.seconds`, it has done its duty.
    enough: int
    ends: float
    #: MAIL was said so often.
    transactions: int = 0
    #: Until when it is kept, while it is.
    until: float = 0.0
    #: How many messages have it: the one that is being carried, and the one whose final reply is awaited.
    users: int = 1
    #: When the last content was sent, and how long the last final reply took.
    sent: float = -_NEVER
    took: float = _NEVER
    #: Whose message that is, as far as somebody may follow it.
    ahead: IPlace | None = None
    #: How many transactions the server takes on it (RFC 9422 section 4); `None`: any number.
    most: int | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.most = self.connection.features.limit("MAILMAX")
        if self.most is not None and self.most < self.enough:
            self.enough = self.most

    def trail(self, place: IPlace | None, sent: Sent) -> None:
        """
        The content of the message at `place` is sent: if the next one may be carried on its connection before the final
        reply comes, `sent` is called.
        """
        connection = self.connection
        now = self.sent = connection.moved
        if (
            self.took > QUICK
            or self.transactions >= self.enough
            or now >= self.ends
            or not connection.session.can_begin
        ):
            return
        lines = self.lines
        lines.offered = self
        self.ahead = place
        try:
            sent()
        finally:
            if lines.offered is self:
                # Whoever comes before the final reply may still have it.
                lines.offered = None
                lines.trailing[self] = None

    def give_back(self) -> None:
        """A message is through with it; it has moved it last, if it was to move."""
        self.took = self.connection.moved - self.sent
        self.users = users = self.users - 1
        if users:
            # Whoever has followed goes on with it.
            return
        self.ahead = None
        lines = self.lines
        lines.trailing.pop(self, None)
        lines.pool.keep(self)


class Pool:
    """Idle connections. The last one that was kept is the first to be taken, so that those that are too many age."""

    def __init__(self, clock: IClock, keeping: Keeping = NONE_KEPT) -> None:
        self._clock = clock
        self._seconds = clock.seconds
        self._keeping = keeping
        self._closed = False
        #: All of them, as a set that keeps its order: the one that has waited longest is the first.
        self._kept: dict[Line, None] = {}
        #: For as long as somebody has one of these, a line or whoever looks for one.
        self._lines: WeakValueDictionary[Way, Lines] = WeakValueDictionary()
        self._timer: Any = None

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def ways(self) -> Collection[Way]:
        """The ways of which a connection is kept or in use."""
        return [way for way, lines in self._lines.items() if lines.every]

    @property
    def trailing(self) -> int:
        """On how many connections another message may follow already."""
        return sum(len(lines.trailing) for lines in self._lines.values())

    def lines(self, way: Way) -> Lines:
        """Where the connections are that go this way, if there are any."""
        lines = self._lines.get(way)
        if lines is None:
            lines = self._lines[way] = Lines(self, way)
        return lines

    def add(self, lines: Lines, connection: Connection) -> Line:
        """A new connection, which somebody uses until it is given back."""
        keeping, now = self._keeping, self._seconds()
        keeps = keeping.most > 0 and not self._closed
        line = Line(lines, connection, keeping.transactions if keeps else 0, now + keeping.lifetime)
        lines.every.add(line)
        return line

    def take(self, lines: Lines, place: IPlace | None = None) -> Line | None:
        """
        A connection that another transaction can begin on, as far as we know. For a `place` that has none of its own
        only that of somebody whom it may follow.
        """
        idle = lines.idle
        if idle and (place is None or place.own):
            while idle:
                line = idle.pop()
                del self._kept[line]
                if line.connection.session.can_begin:
                    line.users = 1
                    return line
                self._dismiss(line)
        offered = lines.offered
        if offered is not None and _may_follow(place, offered):
            lines.offered = None
            offered.users += 1
            return offered
        trailing = lines.trailing
        if trailing:
            now = self._seconds()
            for line in reversed(trailing):
                if (
                    # A host that was quick before may not be so now, and it is unknown what it is at.
                    now - line.sent <= QUICK and line.connection.session.can_begin and _may_follow(place, line)
                ):
                    line.users += 1
                    del trailing[line]
                    return line
        return None

    def keep(self, line: Line) -> None:
        """Nobody uses it any more: keep it for the next message, or say QUIT, without keeping anybody waiting."""
        keeping, lines, now = self._keeping, line.lines, line.connection.moved
        if (
            line.transactions >= line.enough
            or now >= line.ends
            or not line.connection.session.can_begin
            or len(lines.idle) >= keeping.of_host
        ):
            self._dismiss(line)
            return
        if len(self._kept) >= keeping.most:
            self._forget(next(iter(self._kept)))
        line.until = now + keeping.idle
        self._kept[line] = None
        lines.idle.append(line)
        if self._timer is None:
            self._timer = self._clock.callLater(keeping.idle, self._tick)

    def close(self) -> None:
        """Say QUIT on all of them, and keep none from now on."""
        self._closed = True
        for lines in self._lines.values():
            for line in lines.every:
                line.enough = 0
        cancel(self._timer)
        self._timer = None
        for line in tuple(self._kept):
            self._forget(line)

    def _tick(self) -> None:
        """One timer for all of them, since each is kept for the same time."""
        self._timer = None
        now = self._seconds()
        for line in tuple(self._kept):
            if line.until > now:
                self._timer = self._clock.callLater(line.until - now, self._tick)
                return
            self._forget(line)

    def _dismiss(self, line: Line) -> None:
        """Nobody takes it any more."""
        line.lines.every.discard(line)
        line.connection.quit()

    def _forget(self, line: Line) -> None:
        """The same, of one that is kept."""
        del self._kept[line]
        line.lines.idle.remove(line)
        self._dismiss(line)


def _may_follow(place: IPlace | None, line: Line) -> bool:
    """Whether who is at `place` may have the connection of the one ahead."""
    if place is None:
        return True
    return place.own if line.ahead is None else place.follow(line.ahead)
