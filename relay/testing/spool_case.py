"""
For those who write a spool: what its contract is tested with. A shard to fill in, entries and recipients to put there,
and the test case that `relay.testing.spool` and `relay.testing.spool_operator` write their clauses on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, Final, TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from relay.interfaces import (
    Claim,
    Enrol,
    GiveBack,
    IContent,
    ISpool,
    Postpone,
    Settle,
)
from relay.mail.address import parse_address
from relay.mail.envelope import Envelope, Form
from relay.mail.outcome import Delayed, Delivered, Failed, Relayed
from relay.mail.queue import Entry, Recipient
from relay.mail.routing import Forward, Route
from relay.net.clock import ReactorClock

S = TypeVar("S")
T = TypeVar("T")

#: When a shard's time begins: 2026-11-23T12:00:00Z.
NOON: Final = 1795435200.0

LEASE: Final = 300.0
#: Longer than any spool may take until it probes again.
A_WHILE: Final = 120.0

GONE: Final = Relayed("mx.example.org[192.0.2.25]:25", "250 2.0.0 Ok")
NOT_NOW: Final = Delayed("4.4.1", "connection refused", "", "mx.example.org[192.0.2.25]:25")
NEVER: Final = Failed("5.1.1", "user unknown", "550 5.1.1 no such user", "mx.example.org[192.0.2.25]:25")

LETTER: Final = b"Subject: hello\r\n\r\nHello, Elvis.\r\n.\r\n"


class Shard:
    """A spool under test. Its author writes the methods that raise `NotImplementedError` here."""

    def __init__(self) -> None:
        self.time = Clock()
        self.clock = ReactorClock(self.time, lambda: NOON + self.time.seconds())

    def open(self) -> ISpool:
        """Another holder of this spool, which has not recovered it."""
        raise NotImplementedError

    def die(self) -> None:
        """All holders are gone, as by `kill -9`. What was promised stays."""
        raise NotImplementedError

    def fail_commit(self, *, kept: bool, probes: int = 0) -> None:
        """
        The next commit's sync raises an error. `kept`: what was to be synced is there nevertheless. The next so many
        `probes` fail, too.
        """
        raise NotImplementedError

    def damage(self, id: str) -> None:
        """Make this entry unreadable, while nobody has the spool."""
        raise NotImplementedError

    def dispose(self) -> None:
        """The test is over."""


def clause(test: Callable[[S], Coroutine[Any, Any, None]]) -> Callable[[S], Deferred[None] | None]:
    """A test that waits: for `Deferred`s that have their result, or in an asynchronous test case for any."""

    @wraps(test)
    def run(self: Any) -> Deferred[None] | None:
        running = Deferred.fromCoroutine(test(self))
        if isinstance(self, TestCase):
            return running
        self.successResultOf(running)
        return None

    return run


def entry(id: str, arrived: float = NOON, sender: str | None = "jon@example.net", **envelope: Any) -> Entry:
    """An entry for a test."""
    reverse_path = None if sender is None else parse_address(sender)
    return Entry(id, arrived, Envelope(reverse_path, **envelope), f"Received: by mx.example.org id {id}\r\n".encode())


def recipient(id: str, address: str = "elvis@example.org", route: Route | None = None, **fields: Any) -> Recipient:
    """A recipient whose copy goes to its domain, unless a route says otherwise."""
    parsed = parse_address(address)
    fields = {"original": parsed, "destination": parsed.domain, "policy": "outbound", **fields}
    return Recipient(id, parsed, route=Forward(parsed.domain) if route is None else route, **fields)


def settled(claim: Claim, outcome: Delivered | Relayed | Failed = GONE) -> Settle:
    """All of this claim is done with."""
    return Settle(claim, tuple((pending.recipient, outcome) for pending in claim.pending))


def postponed(claim: Claim, due: float) -> Postpone:
    """All of this claim is tried again at `due`."""
    return Postpone(claim, tuple((pending.recipient, due, NOT_NOW) for pending in claim.pending))


def given_back(claim: Claim) -> GiveBack:
    return GiveBack(claim, tuple(pending.recipient for pending in claim.pending))


def addresses(claims: Sequence[Claim]) -> list[str]:
    """Who is claimed, in order."""
    return [str(pending.recipient.address) for claim in claims for pending in claim.pending]


def octets(content: IContent) -> bytes:
    return b"".join(content.blocks())


class SpoolCase:
    """What clauses are made of. Say how a shard is made."""

    assertEqual: Any
    assertTrue: Any
    assertFalse: Any
    assertIsNone: Any
    assertIsNotNone: Any
    assertIn: Any
    assertNotEqual: Any
    assertLessEqual: Any
    assertAlmostEqual: Any
    assertRaises: Any
    addCleanup: Any

    def make_shard(self) -> Shard:
        raise NotImplementedError

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        self.shard = self.make_shard()
        self.addCleanup(self.shard.dispose)
        self._opened = False

    async def opened(self) -> ISpool:
        """A holder; the first of a process recovers."""
        spool = self.shard.open()
        if not self._opened:
            self._opened = True
            await spool.recover()
        return spool

    async def restarted(self) -> ISpool:
        self.shard.die()
        self._opened = False
        return await self.opened()

    async def now_and_restarted(self, spool: ISpool) -> AsyncIterator[ISpool]:
        yield spool
        yield await self.restarted()

    @property
    def now(self) -> float:
        return self.shard.clock.now()

    def pass_time(self, seconds: float) -> None:
        self.shard.time.advance(seconds)

    def enrolment(
        self, spool: ISpool, *to: str | Recipient, lease: float | None = None, content: bytes = LETTER, **fields: Any
    ) -> Enrol:
        """An entry to be kept, for these addresses, or recipients whose `id` is that of the draft and a number."""
        draft = spool.begin(Form.WIRE)
        draft.write(content)
        recipients = tuple(
            evolve(one, id=f"{draft.id}.{number}")
            if isinstance(one, Recipient)
            else recipient(f"{draft.id}.{number}", one)
            for number, one in enumerate(to or ("elvis@example.org",))
        )
        return Enrol(entry(draft.id, self.now, **fields), draft, recipients, lease)

    async def enrolled(self, spool: ISpool, *to: str | Recipient, **fields: Any) -> Enrol:
        enrol = self.enrolment(spool, *to, **fields)
        await spool.commit([enrol])
        return enrol

    async def claimed(self, spool: ISpool, *to: str | Recipient, **fields: Any) -> Claim:
        """The claim on an entry that is committed with it."""
        (claim,) = await spool.commit([self.enrolment(spool, *to, lease=LEASE, **fields)])
        return claim

    async def due(self, spool: ISpool, most: int = 100, excluding: Sequence[str] = ()) -> list[Claim]:
        return list(await spool.claim(self.now, most, LEASE, excluding))

    async def fails(self, kind: type[Exception], waiting: Any) -> Exception:
        try:
            await waiting
        except kind as problem:
            return problem
        raise AssertionError(f"it should have raised {kind.__name__}")

    async def refused(self, kind: type[Exception], spool: ISpool, enrol: Enrol) -> Exception:
        """Committing this raises, and nothing of it is kept, now or after a restart."""
        problem = await self.fails(kind, spool.commit([enrol]))
        self.assertIsNone(await spool.look_up(enrol.entry.id))
        return problem


async def awaited(waiting: Awaitable[T]) -> T:
    """Whoever waits for it, as a coroutine."""
    return await waiting
