"""The outside world, as it is handed to those who need it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from attrs import frozen
from zope.interface import Interface

from relay.mail.answer import Answer


class IClock(Interface):
    """
    Time. Durations and deadlines follow a clock that never steps; only what people read follows the calendar.
    """

    def seconds() -> float:
        """Seconds since some moment: monotonic, for durations (`IReactorTime.seconds`)."""

    def now() -> float:
        """
        Seconds since the epoch, anchored when the process started and monotonic from then on: what the
        spool keeps. A step of the machine's clock does not move it before the next start.
        """

    def calendar() -> float:
        """Seconds since the epoch as the machine's clock says at this moment: for dates in trace fields and logs."""

    def callLater(delay: float, callable: Any, *args: object, **kw: object) -> Any:
        """Twisted's `IReactorTime.callLater`."""


class IResolver(Interface):
    """Looks up names in the DNS. Two providers: `relay.net.resolver` and `relay.testing`'s fake world."""

    def look_up(name: str, kind: str) -> Awaitable[Answer]:
        """
        The records of `kind` (`"MX"`, `"A"`, `"AAAA"`, `"TXT"`, `"PTR"`, `"CNAME"`) of a name in canonical form.

        CNAMEs are followed. What the DNS says is a value: records, "no such name", "no such records", or that
        nobody answered. It never raises for what a server sent, and has answered after 20 seconds in all.
        Answers are kept for their TTL. More than 100 records are no answer. They are
        `authentic` only if a resolver on this machine has validated all of it (DNSSEC).
        """


class ITable(Interface):
    """
    A look-up table that people keep, reread when it changes.
    """

    def get(key: str) -> str | None:
        """
        The value for this key, or `None`. A key that stands alone has the value `""`. Never waits. Raises `OSError` or
        `ValueError` if the table cannot be read or makes no sense: a 451, until somebody has mended it.
        """

    def checked(check: Callable[[str, str], object]) -> ITable:
        """
        The same table for somebody to whom not every value means something: `check(key, value)` raises `ValueError`,
        with words for the operator, for one that does not. It may be called in any thread.

        A table that sees all its lines checks them whenever it has read them, and makes no sense as long as one is
        wrong. For what is wrong now this raises `ValueError`, with file and line.
        """


class IStore(Interface):
    """
    A small table that policies keep themselves, and that outlives the process: what was seen, and counts.

    Nothing that was promised may depend on it: a power cut takes its last second, and when it is full, the entry that
    would expire first goes. All methods answer at once. Providers: `relay.store.sqlite`, `relay.store.memory`,
    `relay.store.shared`, `relay.store.overlay`; all pass `relay.testing.store.check_store`.
    """

    def get(key: str) -> str | None:
        """The value, or `None` if there is none or its time is over."""

    def put(key: str, value: str, lifetime: float) -> None:
        """
        Keep a value for `lifetime` seconds from now, in the place of what was there.

        Raises `ValueError` for an empty key, for more than 1,000 characters of key (with the names of the parts that it
        is in) or 10,000 of value, for what has no form in UTF-8, and for a lifetime that is not above 0 and at most ten
        years.
        """

    def forget(key: str) -> None:
        """Let go of it. Nothing happens if it is not there."""

    def items(prefix: str = "", most: int = 1000) -> Sequence[tuple[str, str]]:
        """
        At most `most` keys that begin like this, with their values, in no particular order. It looks at all that is
        kept: for an operator's question, and not for each message.
        """

    def scoped(name: str) -> IStore:
        """
        The part of it that has this name: a store of its own, whose keys meet no others. It shares the bounds of the
        whole. A name is not empty and has no blanks. Each policy has the part of its own name as `world.store`.
        """


#: Nobody answers there; more than was asked for; not within the time; what must not be; anything else that is broken.


TroubleKind: TypeAlias = Literal["refused", "too long", "too late", "not permitted", "broken"]


class HttpTrouble(Exception):
    """There is no answer. `kind` says why in one of a few words, `text` for the log: it names no more than the host."""

    def __init__(self, kind: TroubleKind, text: str = "") -> None:
        super().__init__(f"{kind}: {text}" if text else kind)
        self.kind: TroubleKind = kind
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HttpTrouble) and (self.kind, self.text) == (other.kind, other.text)

    def __hash__(self) -> int:
        return hash((self.kind, self.text))


@frozen
class HttpAnswer:
    """What a server has answered, whatever its status is."""

    status: int
    #: As they came, with names in lower case.
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The first field of this name, in any letter case."""
        name = name.lower()
        return next((value for key, value in self.headers if key == name), None)


class IHttp(Interface):
    """Asks servers by HTTP. Two providers: `relay.net.fetching`, and `relay.testing.http` for tests."""

    async def request(
        method: str,
        url: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        timeout: float = 5.0,
        most: int = 65536,
    ) -> HttpAnswer:
        """
        The answer, all of whose body is there, within `timeout` seconds in all and `most` octets. Raises `HttpTrouble`.

        A URL is one of the operator's or of the policy's own words, and may lead anywhere; nothing that a client says
        may become its host. At most 3 redirects are followed: never from `https` to `http`, and to no address but
        public ones, unless it is the very host and port that was asked for. To another one go neither the body nor
        any header field that the caller gave. Certificates are verified. Names are looked up once, and the connection
        goes to the address that was looked at.

        Raises `ValueError` for what can be no request: a URL that is neither `http` nor `https`, or names a user; a
        line break in a field. Whoever cancels it breaks off the connection.
        """


@frozen
class World:
    """
    All that a policy may learn outside facts from (law L5: same octets and same answers of `world`, same verdict).
    """

    clock: IClock
    resolver: IResolver
    #: A source of numbers between 0 and 1; seeded in tests.
    #: A `random.Random`; seeded in tests.
    random: Any
    #: A `twisted.logger.Logger` for what the operator should know. Constant format strings only.
    log: Any
    #: This relay's host name in canonical form.
    hostname: str
    #: What the policy keeps itself: a part of the relay's store that is its alone.
    store: IStore
    http: IHttp
    #: The `[[table]]` of this name, or the file at this path. Raises `ValueError`, with words for the operator, where
    #: there is none, or it cannot be read now: for the policy's constructor.
    table: Callable[[str | Path], ITable]
