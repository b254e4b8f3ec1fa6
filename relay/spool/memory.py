"""The spool in memory: for tests, and for whoever has nothing to lose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, assert_never

from attrs import Factory, define, evolve, frozen
from twisted.internet.defer import Deferred
from zope.interface import implementer

from relay.interfaces import (
    ActUnknown,
    Claim,
    ClaimLost,
    Enrol,
    GiveBack,
    IClock,
    IContent,
    IDraft,
    ISpool,
    OutcomeUnknown,
    Postpone,
    Renew,
    Settle,
    SpoolError,
    Step,
)
from relay.mail.envelope import Form
from relay.mail.queue import Census, Entry, Pending, Recipient
from relay.mail.selection import (
    Act,
    Group,
    Holder,
    Page,
    Queued,
    Selection,
    State,
    Steered,
    Tally,
    Verb,
    course,
    group_of,
    selects,
)
from relay.spool.contents import MemoryContent, plain_size
from relay.spool.identity import Identities
from relay.spool.steps import check, claims_of, due_at, may_be_carried, tokens_of

#: How many an operator's act changes in one commit.
STEERED_AT_ONCE: Final = 500


@frozen
class _Row:
    """A recipient. `wake`: when somebody may claim it, as in `relay.spool.schema`; `None` if it is held."""

    pending: Pending
    wake: float | None
    token: int = 0
    #: An operator holds it.
    held: bool = False


@define
class Shelf:
    """What a restart leaves: entries with their content, and their recipients. Several spools may share one."""

    entries: dict[str, tuple[Entry, IContent]] = Factory(dict)
    recipients: dict[str, dict[str, _Row]] = Factory(dict)
    #: Entries that cannot be read, and why; a test puts them here.
    damaged: dict[str, str] = Factory(dict)


@implementer(IDraft)
class MemoryDraft:
    """A draft; see `IDraft`."""

    def __init__(self, id: str, form: Form) -> None:
        self.id = id
        self.form = form
        self._chunks: list[bytes] | None = []

    def write(self, octets: bytes) -> None:
        self._written().append(octets)

    def blocks(self) -> Iterator[bytes]:
        return MemoryContent(self.form, 0, b"".join(self._written())).blocks()

    def replace(self, length: int, octets: bytes) -> None:
        chunks = self._written()
        chunks[:] = [octets, b"".join(chunks)[length:]]

    def _written(self) -> list[bytes]:
        if self._chunks is None:
            raise ValueError(f"the draft {self.id} is committed or abandoned: nothing can be written to it")
        return self._chunks

    def abandon(self) -> None:
        self._chunks = None

    def keep(self) -> IContent:
        if self._chunks is None:
            raise ValueError(f"the draft {self.id} was used before")
        octets, self._chunks = b"".join(self._chunks), None
        return MemoryContent(self.form, plain_size(self.form, octets), octets)


@implementer(ISpool)
class MemorySpool:
    """
    A spool whose promises last as long as its shelf.

    A test may make commits wait (`hold`, `release`), and may say what becomes of the next one (`fail_next`).
    """

    accepting: bool

    def __init__(self, clock: IClock, shelf: Shelf | None = None) -> None:
        self.accepting = True
        #: What `room` answers with, less what is asked for.
        self.free = 1 << 30
        self.shelf = Shelf() if shelf is None else shelf
        self._clock = clock
        self._identities = Identities(clock.now)
        self._held: list[Deferred[None]] | None = None
        self._failures: list[tuple[Exception, bool]] = []
        self._closed = False

    # For tests.

    def hold(self) -> None:
        """Commits wait from now on, as for a slow disk, until `release`."""
        if self._held is None:
            self._held = []

    def release(self) -> int:
        """Let the commits that wait go on, and those to come; how many waited."""
        held, self._held = self._held or [], None
        for waiting in held:
            waiting.callback(None)
        return len(held)

    def fail_next(self, problem: Exception, *, kept: bool = False) -> None:
        """
        The next commit that comes to its end raises this. `kept`: what it was to do has happened nevertheless,
        which is what an `OutcomeUnknown` may mean. Called again, this says what becomes of the one after it.
        """
        self._failures.append((problem, kept))

    # The contract.

    def begin(self, form: Form) -> IDraft:
        self._check_open()
        if not self.accepting:
            raise SpoolError("the spool waits until writing works again")
        return MemoryDraft(self._identities.queue_id(), form)

    def room(self, octets: int) -> bool:
        return octets <= self.free

    async def commit(self, steps: Sequence[Step]) -> tuple[Claim, ...]:
        self._check_open()
        check(steps)
        if not self.accepting:
            raise SpoolError("the spool waits until writing works again")
        now = self._clock.now()
        kept = [_content(step) if isinstance(step, Enrol) else None for step in steps]
        if self._held is not None:
            waiting: Deferred[None] = Deferred()
            self._held.append(waiting)
            await waiting
        problem, happens = self._failures.pop(0) if self._failures else (None, True)
        claims: list[Claim] = []
        if happens:
            change = _Change(self.shelf, now)
            for step, content in zip(steps, kept, strict=True):
                claims += change.make(step, content, self._identities)
            change.happen()
        if isinstance(problem, OutcomeUnknown):
            self.accepting = False
            self._clock.callLater(1.0, self._probe)
        if problem is not None:
            raise problem
        return tuple(claims)

    async def claim(self, now: float, most: int, lease: float, excluding: Collection[str] = ()) -> Sequence[Claim]:
        self._check_open()
        due = [candidate for candidate in self._candidates(excluding) if candidate[0] <= now]
        groups: dict[tuple[str, str], list[Pending]] = {}
        for _, id, recipient in due[:most]:
            pending = self.shelf.recipients[id][recipient].pending
            groups.setdefault((id, pending.recipient.destination), []).append(pending)
        claims = [
            Claim(self._identities.token(), now + lease, entry, tuple(pending), content)
            for (id, _), pending in groups.items()
            for entry, content in (self.shelf.entries[id],)
        ]
        for claim in claims:
            rows = self.shelf.recipients[claim.entry.id]
            rows.update((pending.recipient.id, _Row(pending, claim.expires, claim.token)) for pending in claim.pending)
        return claims

    async def next_due(self, excluding: Collection[str] = ()) -> float | None:
        self._check_open()
        return next((wake for wake, _, _ in self._candidates(excluding)), None)

    async def look_up(self, id: str) -> tuple[Entry, Sequence[Pending]] | None:
        self._check_open()
        if id in self.shelf.damaged:
            raise SpoolError(f"{id} is set aside: {self.shelf.damaged[id]}")
        if id not in self.shelf.entries:
            return None
        rows = self.shelf.recipients[id]
        return self.shelf.entries[id][0], tuple(rows[recipient].pending for recipient in sorted(rows))

    async def hasten(self, domain: str, now: float, below: bool = False) -> int:
        self._check_open()
        count = 0
        for id, rows in self.shelf.recipients.items():
            if id in self.shelf.damaged or due_at(self.shelf.entries[id][0], now) > now:
                continue
            for recipient, row in rows.items():
                if row.wake is not None and row.wake > now and not row.token and _concerns(row, domain, below):
                    rows[recipient] = _Row(evolve(row.pending, due=now), now)
                    count += 1
        return count

    async def select(self, selection: Selection, most: int, after: str = "") -> Page:
        self._check_open()
        found = [queued for queued in self._queued(after) if selects(selection, queued, self._clock.now())][:most]
        return Page(tuple(found), found[-1].key if len(found) == most else "")

    async def tally(self, selection: Selection, by: Group = Group.DESTINATION, after: str = "") -> Tally:
        self._check_open()
        now = self._clock.now()
        counted = Counter(
            (group_of(by, queued), queued.state) for queued in self._queued(after) if selects(selection, queued, now)
        )
        return Tally(dict(counted))

    async def steer(self, act: Act, selection: Selection, after: str = "") -> Steered:
        self._check_open()
        if not self.accepting:
            raise SpoolError("the spool waits until writing works again")
        problem, happens = self._failures.pop(0) if self._failures else (None, True)
        page = await self.select(selection, STEERED_AT_ONCE, after)
        free = [queued for queued in page.queued if queued.state is not State.ACTIVE]
        done = [queued for queued in free if self._steer(act, queued, happens)]
        steered = Steered(tuple(done), len(page.queued) - len(free), len(free) - len(done), page.after)
        if isinstance(problem, OutcomeUnknown):
            self.accepting = False
            self._clock.callLater(1.0, self._probe)
            raise ActUnknown(str(problem), steered)
        if problem is not None:
            raise problem
        return steered

    def _steer(self, act: Act, queued: Queued, happens: bool) -> bool:
        """Whether the act means anything to this one, and if it `happens`, it has."""
        way = course(act, queued, self._clock.now())
        if way is None and act is not Verb.DELETE:
            return False
        rows = self.shelf.recipients[queued.entry]
        id = queued.pending.recipient.id
        if happens and way is not None:
            recipient = evolve(queued.pending.recipient, route=way.route, destination=way.destination)
            rows[id] = _Row(evolve(queued.pending, recipient=recipient, due=way.due), way.wake, held=way.held)
        elif happens:
            del rows[id]
            if not rows:
                del self.shelf.recipients[queued.entry], self.shelf.entries[queued.entry]
        return True

    def _queued(self, after: str) -> Iterator[Queued]:
        """All behind `after`, in their order."""
        now = self._clock.now()
        start = tuple(after.split(":", 1)) if after else ("", "")
        for id, rows in sorted(self.shelf.recipients.items()):
            if id in self.shelf.damaged or id < start[0]:
                continue
            entry, content = self.shelf.entries[id]
            for recipient, row in sorted(rows.items()):
                if (id, recipient) > start:
                    yield _seen(entry, content, row, now)

    async def census(self) -> Census:
        self._check_open()
        now = self._clock.now()
        shelf = self.shelf
        rows = [row for id, rows in shelf.recipients.items() if id not in shelf.damaged for row in rows.values()]
        held = [row for row in rows if row.wake is None]
        active = [row for row in rows if row.wake is not None and row.token and row.wake > now]
        return Census(
            waiting=len(rows) - len(held) - len(active),
            active=len(active),
            held=len(held),
            corrupt=len(shelf.damaged),
            entries=len(shelf.entries),
            oldest=shelf.entries[min(shelf.entries)][0].arrived if shelf.entries else None,
        )

    async def recover(self) -> Sequence[str]:
        self._check_open()
        for rows in self.shelf.recipients.values():
            for id, row in rows.items():
                if row.token:
                    rows[id] = _Row(row.pending, row.pending.due)
        return sorted(self.shelf.damaged)

    async def close(self) -> None:
        self.release()
        self._closed = True

    def _candidates(self, excluding: Collection[str]) -> list[tuple[float, str, str]]:
        """When, whose entry, and which recipient may be claimed, the longest due first."""
        return sorted(
            (row.wake, id, row.pending.recipient.id)
            for id, rows in self.shelf.recipients.items()
            for row in rows.values()
            if row.wake is not None and row.pending.recipient.destination not in excluding
            if id not in self.shelf.damaged
        )

    def _probe(self) -> None:
        self.accepting = True

    def _check_open(self) -> None:
        if self._closed:
            raise SpoolError("the spool is closed")


class _Change:
    """A commit's steps, made on copies of the rows that they touch, which then take their place together."""

    def __init__(self, shelf: Shelf, now: float) -> None:
        self._shelf = shelf
        self._now = now
        self._entries: dict[str, tuple[Entry, IContent]] = {}
        self._touched: dict[str, dict[str, _Row]] = {}

    def make(self, step: Step, content: IContent | None, identities: Identities) -> tuple[Claim, ...]:
        """The claims of an enrolment; raises `ClaimLost`, and then nothing of the commit is to happen."""
        match step:
            case Enrol():
                assert content is not None
                return self._enrol(step, content, identities)
            case Settle():
                rows = self._rows(step.claim.entry.id)
                for recipient, _ in step.outcomes:
                    self._claimed(step.claim, recipient)
                    del rows[recipient.id]
            case Postpone():
                rows = self._rows(step.claim.entry.id)
                for recipient, when, delayed in step.delays:
                    pending = self._claimed(step.claim, recipient).pending
                    again = evolve(pending, attempts=pending.attempts + 1, due=when, last=delayed)
                    rows[recipient.id] = _Row(again, when)
            case GiveBack():
                rows = self._rows(step.claim.entry.id)
                for recipient in step.recipients:
                    pending = self._claimed(step.claim, recipient).pending
                    rows[recipient.id] = _Row(pending, pending.due)
            case Renew():
                self._renew(step)
            case _:
                assert_never(step)
        return ()

    def happen(self) -> None:
        self._shelf.entries.update(self._entries)
        for id, rows in self._touched.items():
            if rows:
                self._shelf.recipients[id] = rows
            else:
                self._shelf.recipients.pop(id, None)
                self._shelf.entries.pop(id, None)

    def _enrol(self, step: Enrol, content: IContent, identities: Identities) -> tuple[Claim, ...]:
        claims: tuple[Claim, ...] = ()
        wake = due = due_at(step.entry, self._now)
        if step.lease is not None and due <= self._now:
            wake = self._now + step.lease
            claims = claims_of(step, content, due, wake, identities.token)
        tokens: Mapping[str, int] = tokens_of(claims)
        id = step.entry.id
        if id in self._shelf.entries:
            raise SpoolError(f"there is an entry {id}")
        self._entries[id] = (step.entry, content)
        self._touched[id] = {
            recipient.id: _Row(
                Pending(recipient, due=due),
                wake if may_be_carried(recipient) else None,
                tokens.get(recipient.id, 0),
            )
            for recipient in step.recipients
        }
        return claims

    def _renew(self, step: Renew) -> None:
        rows = self._rows(step.claim.entry.id)
        mine = [id for id, row in rows.items() if row.token == step.claim.token]
        if not mine:
            raise ClaimLost(f"another holder has {step.claim.entry.id} now")
        for id in mine:
            rows[id] = evolve(rows[id], wake=self._now + step.lease)

    def _rows(self, id: str) -> dict[str, _Row]:
        if id not in self._touched:
            self._touched[id] = dict(self._shelf.recipients.get(id, {}))
        return self._touched[id]

    def _claimed(self, claim: Claim, recipient: Recipient) -> _Row:
        row = self._rows(claim.entry.id).get(recipient.id)
        if row is None or row.token != claim.token:
            raise ClaimLost(f"another holder has {recipient.id} now, or it is settled")
        return row


def _seen(entry: Entry, content: IContent, row: _Row, now: float) -> Queued:
    holder = None
    if row.wake is None:
        state, holder = State.HELD, Holder.OPERATOR if row.held else Holder.POLICY
    elif row.token and row.wake > now:
        state = State.ACTIVE
    else:
        state = State.DEFERRED if row.pending.attempts else State.WAITING
    envelope = entry.envelope
    return Queued(
        entry.id, entry.arrived, envelope.reverse_path, content.size, row.pending, state, holder, envelope.release
    )


def _concerns(row: _Row, domain: str, below: bool) -> bool:
    recipient = row.pending.recipient
    its = recipient.address.domain
    return domain in (recipient.destination, its) or (below and its.endswith(f".{domain}"))


def _content(enrol: Enrol) -> IContent:
    draft = enrol.draft
    if not isinstance(draft, MemoryDraft):
        raise ValueError(f"the draft {draft.id} was not begun here")
    content = draft.keep()
    if enrol.size is not None and enrol.size != content.size:
        # A spool may believe it. This one is for those who want to know.
        raise ValueError(f"the content of {draft.id} has {content.size} octets, and not {enrol.size}")
    return content
