"""Whatever is done in whatever order, both spools say the same: the one on a disk, and the one in memory."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from twisted.internet.defer import Deferred

from relay.interfaces import Claim, ClaimLost, Enrol, ISpool, Renew, SpoolError
from relay.mail.envelope import Form
from relay.mail.routing import Forward, Hold
from relay.mail.selection import Group, Queued, Reroute, Selection, State, Verb
from relay.net.waiting import start
from relay.spool.memory import MemorySpool
from relay.spool.sqlite import Limits
from relay.testing.spool_case import NEVER, entry, given_back, octets, postponed, recipient, settled
from tests.contracts.spool.shards import MemoryShard, SqliteShard

DESTINATIONS = ("a.example", "b.example", "c.example")
LEASE = 100.0
SELECTIONS = st.builds(
    Selection,
    to=st.sampled_from(["", "", "u0@*", "@b.example", "U1@A.example", "*@c.*"]),
    sender=st.sampled_from(["", "", "jon@*", "<>"]),
    destination=st.sampled_from(["", "", "a.example", "*.EXAMPLE", "refused"]),
    state=st.sampled_from([None, None, None, *State]),
    older=st.sampled_from([None, None, 0.0, 50.0]),
    reason=st.sampled_from(["", "", "", "REFUSED", "4.4.1", "full"]),
)
ACTS = st.sampled_from([*Verb, Reroute(Forward("b.example"))])


class Pair:
    """One claim, as the two spools have it, with the numbers of its recipients by which they are compared."""

    def __init__(self, disk: Claim, memory: Claim) -> None:
        self.disk, self.memory = disk, memory


class TwoSpools(RuleBasedStateMachine):
    claims: Bundle[Any] = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.shards = (SqliteShard(), MemoryShard())
        self.shards[0].limits = Limits(in_row=50, in_memory=400, reserve=0)
        self.spools: tuple[ISpool, ...] = ()
        #: The ids of an entry in the two spools, by their number, and what was put into it.
        self.names: list[dict[str, str]] = [{}, {}]
        self.content: dict[str, bytes] = {}

    @initialize()
    def open(self) -> None:
        self.spools = tuple(shard.open() for shard in self.shards)
        for spool in self.spools:
            self.answer(spool.recover())

    def teardown(self) -> None:
        for shard in self.shards:
            shard.dispose()

    # Saying the same to both.

    def answer(self, waiting: Any) -> Any:
        answer = start(waiting)
        assert not isinstance(answer, Deferred)
        return answer

    def both(self, steps: list[list[Any]]) -> list[Any]:
        """Commit to both; what they return, or the kind of error that both raise."""
        results: list[Any] = []
        for spool, each in zip(self.spools, steps, strict=True):
            try:
                results.append(self.answer(spool.commit(each)))
            except (ClaimLost, SpoolError) as problem:
                results.append(type(problem))
        disk, memory = results
        if isinstance(disk, type) or isinstance(memory, type):
            assert disk == memory, results
            return []
        return self.pairs(disk, memory)

    def pairs(self, disk: list[Claim], memory: list[Claim]) -> list[Any]:
        """Claims of the two that are the same but for ids and tokens; where many are due at once, in any order."""
        seen = [
            sorted((self.seen(which, claim), n) for n, claim in enumerate(claims))
            for which, claims in ((0, disk), (1, memory))
        ]
        assert [each for each, _ in seen[0]] == [each for each, _ in seen[1]]
        return [Pair(disk[first], memory[second]) for (_, first), (_, second) in zip(*seen, strict=True)]

    def seen(self, which: int, claim: Claim) -> Any:
        """All that is to be the same of a claim."""
        name = self.names[which][claim.entry.id]
        assert octets(claim.content) == self.content[name]
        return (
            name,
            claim.expires,
            claim.content.size,
            sorted(
                (one.recipient.id.rpartition(".")[2], str(one.recipient.address), one.attempts, one.due, repr(one.last))
                for one in claim.pending
            ),
        )

    def enrolments(
        self, to: list[tuple[str, bool]], size: int, lease: float | None, abandoned: bool, wait: float | None = None
    ) -> list[Any]:
        name = str(len(self.content))
        self.content[name] = b"x" * size
        made: list[Any] = []
        for which, spool in enumerate(self.spools):
            draft = spool.begin(Form.PLAIN)
            draft.write(self.content[name])
            self.names[which][draft.id] = name
            recipients = tuple(
                recipient(f"{draft.id}.{n}", f"u{n}@{domain}", Hold() if held else None)
                for n, (domain, held) in enumerate(to)
            )
            if abandoned:
                draft.abandon()
            now = self.shards[which].clock.now()
            release = None if wait is None else now + wait
            made.append(Enrol(entry(draft.id, now, release=release), draft, recipients, lease))
        return made

    def somebody_is_due(self) -> bool:
        if not self.spools:
            return False
        due = self.answer(self.spools[1].next_due())
        return due is not None and due <= self.shards[1].clock.now()

    # What is done.

    @rule(
        target=claims,
        to=st.lists(
            st.tuples(st.sampled_from(DESTINATIONS), st.integers(0, 9).map(lambda n: n == 9)), min_size=1, max_size=3
        ),
        size=st.sampled_from([10, 51, 390]),
        lease=st.sampled_from([LEASE, None]),
        abandoned=st.integers(0, 9).map(lambda n: n == 9),
        wait=st.sampled_from([None, None, None, 50.0, 450.0]),
    )
    def enrol(
        self, to: list[tuple[str, bool]], size: int, lease: float | None, abandoned: bool, wait: float | None
    ) -> Any:
        enrolments = self.enrolments(to, size, lease, abandoned, wait)
        if abandoned:
            for spool, enrol in zip(self.spools, enrolments, strict=True):
                with contextlib.suppress(ValueError):
                    self.answer(spool.commit([enrol]))
            return multiple()
        return multiple(*self.both([[enrol] for enrol in enrolments]))

    @precondition(lambda self: self.somebody_is_due())
    @rule(
        target=claims,
        most=st.sampled_from([100, 1]),
        excluding=st.sets(st.sampled_from(DESTINATIONS), max_size=2),
    )
    def claim(self, most: int, excluding: set[str]) -> Any:
        now = self.shards[0].clock.now()
        if most == 1 and self.equally_long_due(excluding) > 1:
            # Which of those comes first is not said.
            most = 100
        disk, memory = (self.answer(spool.claim(now, most, LEASE, excluding)) for spool in self.spools)
        return multiple(*self.pairs(disk, memory))

    def equally_long_due(self, excluding: set[str]) -> int:
        memory = self.spools[1]
        assert isinstance(memory, MemorySpool)
        wakes = [wake for wake, _, _ in memory._candidates(excluding)]
        return wakes.count(wakes[0]) if wakes else 0

    @rule(pair=consumes(claims), notice=st.booleans())
    def settle(self, pair: Pair, notice: bool) -> None:
        notices = self.enrolments([("a.example", False)], 10, None, False) if notice else [None, None]
        steps = [[settled(claim, NEVER)] for claim in (pair.disk, pair.memory)]
        self.both([[*each, enrol] if enrol else each for each, enrol in zip(steps, notices, strict=True)])

    @rule(pair=claims, which=st.integers(0, 3))
    def settle_one(self, pair: Pair, which: int) -> None:
        if which < len(pair.disk.pending):
            steps = []
            for claim in (pair.disk, pair.memory):
                chosen = sorted(claim.pending, key=lambda one: one.recipient.id.rpartition(".")[2])[which]
                steps.append([settled(Claim(claim.token, claim.expires, claim.entry, (chosen,), claim.content))])
            self.both(steps)

    @rule(pair=consumes(claims), wait=st.sampled_from([0.0, -1.0, 30.0, 500.0]))
    def postpone(self, pair: Pair, wait: float) -> None:
        due = self.shards[0].clock.now() + wait
        self.both([[postponed(claim, due)] for claim in (pair.disk, pair.memory)])

    @rule(pair=consumes(claims))
    def give_back(self, pair: Pair) -> None:
        self.both([[given_back(claim)] for claim in (pair.disk, pair.memory)])

    @rule(pair=claims)
    def renew(self, pair: Pair) -> None:
        self.both([[Renew(claim, LEASE)] for claim in (pair.disk, pair.memory)])

    @rule(first=claims, second=claims)
    def do_two_things(self, first: Pair, second: Pair) -> None:
        self.both(
            [
                [settled(one), given_back(other)]
                for one, other in ((first.disk, second.disk), (first.memory, second.memory))
            ]
        )

    @rule(domain=st.sampled_from([*DESTINATIONS, "example"]), below=st.booleans())
    def hasten(self, domain: str, below: bool) -> None:
        now = self.shards[0].clock.now()
        disk, memory = (self.answer(spool.hasten(domain, now, below)) for spool in self.spools)
        assert disk == memory

    @rule(act=ACTS, selection=SELECTIONS)
    def an_operator_acts(self, act: Verb | Reroute, selection: Selection) -> None:
        disk, memory = (self.answer(spool.steer(act, selection)) for spool in self.spools)
        assert (disk.busy, disk.unmoved) == (memory.busy, memory.unmoved)
        self.same_recipients(disk.done, memory.done)

    @rule(selection=SELECTIONS, by=st.sampled_from(Group))
    def an_operator_asks(self, selection: Selection, by: Group) -> None:
        disk, memory = (self.answer(spool.select(selection, 1000)) for spool in self.spools)
        self.same_recipients(disk.queued, memory.queued)
        disk, memory = (self.answer(spool.tally(selection, by)) for spool in self.spools)
        assert disk == memory
        assert sum(disk.counts.values()) == len(self.answer(self.spools[0].select(selection, 1000)).queued)

    def same_recipients(self, disk: tuple[Queued, ...], memory: tuple[Queued, ...]) -> None:
        seen = [
            sorted(
                (
                    self.names[which][one.entry],
                    one.pending.recipient.id.rpartition(".")[2],
                    one.arrived,
                    one.size,
                    one.state.value,
                    repr((one.held_by, one.release, one.pending.due, one.pending.attempts, one.pending.last)),
                    repr((one.pending.recipient.route, one.pending.recipient.destination)),
                )
                for one in found
            )
            for which, found in ((0, disk), (1, memory))
        ]
        assert seen[0] == seen[1]

    @rule(seconds=st.sampled_from([1.0, 40.0, LEASE, 400.0]))
    def time_passes(self, seconds: float) -> None:
        for shard in self.shards:
            shard.time.advance(seconds)

    @rule(closed=st.booleans())
    def restart(self, closed: bool) -> None:
        if closed:
            for spool in self.spools:
                self.answer(spool.close())
        for shard in self.shards:
            shard.die()
        self.open()

    # What is always so.

    @invariant()
    def both_say_the_same(self) -> None:
        if not self.spools:
            return
        disk, memory = (self.answer(spool.census()) for spool in self.spools)
        assert disk == memory, (disk, memory)
        for excluding in ((), ("a.example",), ("a.example", "b.example"), DESTINATIONS):
            disk, memory = (self.answer(spool.next_due(excluding)) for spool in self.spools)
            assert disk == memory, (excluding, disk, memory)

    @invariant()
    def every_file_has_an_entry_and_every_entry_its_file(self) -> None:
        if self.spools:
            shard = self.shards[0]
            rows = shard.rows("SELECT id FROM entries WHERE content IS NULL")
            assert sorted(id for (id,) in rows) == shard.files


TwoSpoolsTests = TwoSpools.TestCase
TwoSpoolsTests.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
