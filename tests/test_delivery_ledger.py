from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.delivery.agenda import Agenda
from relay.delivery.ledger import Ledger, Record
from relay.delivery.notices import Letter
from relay.interfaces import Claim, IDraft, ISpool, OutcomeUnknown, SpoolError, Step
from relay.mail.decision import Placement
from relay.mail.envelope import Envelope, Form
from relay.mail.routing import Forward
from relay.net.clock import ReactorClock
from tests.delivery_world import JON


@define(eq=False)
class Words(Record):
    """A record that a test scripts."""

    say: Callable[[], Any]
    tell: Callable[[], Any]

    def steps(self) -> Any:
        return self.say()

    def written(self) -> None:
        self.tell()

    def lost(self) -> None:
        raise AssertionError("nobody else has it")


class PickySpool:
    """Takes commits whose steps it can stomach; steps are words here."""

    def __init__(self) -> None:
        self.accepting = True
        self.tried: list[tuple[str, ...]] = []
        self.problems: dict[str, Exception] = {}

    async def commit(self, steps: Sequence[Step]) -> tuple[Claim, ...]:
        words = tuple(map(str, steps))
        self.tried.append(words)
        for word in words:
            if word in self.problems:
                raise self.problems[word]
        return ()


class LedgerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Clock()
        self.spool = PickySpool()
        self.eased = 0
        self.written: list[str] = []
        self.ledger = Ledger(
            self.spool,  # type: ignore[arg-type]
            ReactorClock(self.reactor),
            enrolled=lambda _: None,
            eased=self.note_ease,
        )

    def note_ease(self) -> None:
        self.eased += 1

    def enter(self, *words: str) -> None:
        for word in words:
            self.ledger.enter(Words(lambda word=word: [word], lambda word=word: self.written.append(word)))  # type: ignore[misc]

    def test_one_record_that_cannot_be_written_does_not_keep_back_the_others(self) -> None:
        self.spool.problems["poison"] = SpoolError("no")
        self.spool.problems["a"] = SpoolError("full")
        self.enter("a", "b", "poison", "c")
        del self.spool.problems["a"]
        self.reactor.advance(1)
        self.reactor.pump([1] * 10)
        self.assertEqual(sorted(self.written), ["a", "b", "c"])
        self.enter("d")
        self.reactor.pump([1] * 70)
        self.assertEqual(sorted(self.written), ["a", "b", "c", "d"])
        del self.spool.problems["poison"]
        self.reactor.pump([1] * 70)
        self.assertEqual(len(self.written), 5)
        self.assertTrue(self.flushLoggedErrors(SpoolError))
        self.assertFalse(self.ledger.troubled)

    def test_pauses_grow_to_a_minute_and_no_longer(self) -> None:
        self.spool.problems["a"] = SpoolError("full")
        self.enter("a")
        times = []
        for second in range(400):
            before = len(self.spool.tried)
            self.reactor.advance(1)
            if len(self.spool.tried) > before:
                times.append(second + 1)
        self.flushLoggedErrors(SpoolError)
        self.assertEqual(times, [1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363])

    def test_while_the_spool_refuses_it_is_not_tried(self) -> None:
        self.spool.problems["a"] = OutcomeUnknown()
        self.enter("a")
        self.spool.problems.clear()
        self.spool.accepting = False
        self.reactor.pump([1] * 100)
        self.assertEqual(len(self.spool.tried), 1)
        self.spool.accepting = True
        self.reactor.pump([1] * 61)
        self.assertEqual(self.written, ["a"])
        self.assertEqual(self.eased, 1)
        self.flushLoggedErrors(OutcomeUnknown)

    def test_a_record_whose_steps_cannot_be_made_does_not_keep_back_the_others(self) -> None:
        problems: list[Exception] = [OSError(28, "full"), KeyError("a bug")]

        def steps() -> list[Step]:
            if problems:
                raise problems.pop()
            return []

        self.ledger.enter(Words(steps, lambda: self.written.append("at last")))
        self.enter("b")
        self.reactor.pump([1] * 10)
        self.assertEqual(self.written, ["b", "at last"])
        self.assertEqual(len(self.flushLoggedErrors(OSError, KeyError)), 2)

    def test_what_follows_from_a_commit_may_fail(self) -> None:
        def fail() -> None:
            raise KeyError("a bug")

        self.ledger.enter(Words(list, fail))
        self.enter("b")
        self.assertEqual(self.written, ["b"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_who_waits_for_it_to_be_idle_waits_for_all(self) -> None:
        self.successResultOf(self.ledger.when_idle())
        self.spool.problems["a"] = SpoolError("full")
        self.enter("a")
        idle = self.ledger.when_idle()
        self.assertNoResult(idle)
        self.spool.problems.clear()
        self.reactor.advance(1)
        self.successResultOf(idle)
        self.flushLoggedErrors(SpoolError)


class LateClock(ReactorClock):
    """What it says is a little behind its timers, as floats may be."""

    def now(self) -> float:
        return super().now() - 1e-5 * (self.seconds() > 0)


class QuietSpool:
    """Says that something is due, and gives nothing, or gives nothing before its time."""

    def __init__(self, due: float | None) -> None:
        self.due = due
        self.asked: list[float] = []

    async def claim(self, now: float, most: int, lease: float, excluding: object = ()) -> Sequence[Claim]:
        self.asked.append(now)
        if self.due is not None and now >= self.due:
            self.due = None
        return ()

    async def next_due(self, excluding: object = ()) -> float | None:
        return self.due


class AgendaTests(SynchronousTestCase):
    def agenda(self, spool: object, clock: ReactorClock) -> Agenda:
        return Agenda(
            spool,  # type: ignore[arg-type]
            clock,
            lease=300.0,
            room=lambda: 10,
            excluding=lambda: (),
            take=lambda _: None,
            looked=lambda: None,
        )

    def test_what_is_due_at_a_time_is_claimed_by_one_look_at_that_time(self) -> None:
        reactor = Clock()
        clock = LateClock(reactor, lambda: 1_700_000_000.0)
        spool = QuietSpool(clock.now() + 300.0)
        self.agenda(spool, clock).start()
        for seconds in 100, 200.000001, 100:
            reactor.advance(seconds)
        self.assertEqual(len(spool.asked), 2)
        self.assertIsNone(spool.due)
        self.assertEqual(reactor.getDelayedCalls(), [])

    def test_something_due_that_nobody_can_claim_is_not_asked_for_without_a_pause(self) -> None:
        reactor = Clock()
        spool = QuietSpool(None)
        spool.due = 5.0

        async def claim(now: float, *_: object) -> Sequence[Claim]:
            spool.asked.append(now)
            return ()

        spool.claim = claim  # type: ignore[assignment, method-assign]
        self.agenda(spool, ReactorClock(reactor, lambda: 100.0)).start()
        reactor.pump([0.01] * 100)
        self.assertLessEqual(len(spool.asked), 12)
        self.assertGreaterEqual(len(spool.asked), 5)

    def test_the_earliest_of_what_it_is_told_counts(self) -> None:
        reactor = Clock()
        clock = ReactorClock(reactor, lambda: 0.0)
        spool = QuietSpool(None)
        agenda = self.agenda(spool, clock)
        agenda.start()
        for when in 50.0, 30.0, 40.0:
            agenda.due_at(when)
        times = []
        for second in range(60):
            before = len(spool.asked)
            reactor.advance(1)
            if len(spool.asked) > before:
                times.append(second + 1)
        self.assertEqual(times, [30])

    def test_once_stopped_it_looks_no_more(self) -> None:
        reactor = Clock()
        spool = QuietSpool(50.0)
        agenda = self.agenda(spool, ReactorClock(reactor, lambda: 0.0))
        agenda.start()
        agenda.stop()
        agenda.wake()
        agenda.due_at(10.0)
        reactor.advance(100)
        self.assertEqual(len(spool.asked), 1)
        self.assertEqual(reactor.getDelayedCalls(), [])

    def test_a_look_that_was_under_way_when_it_was_stopped_asks_no_more_and_may_find_the_spool_closed(self) -> None:
        closed = SpoolError("the spool is closed")
        for answer in ((), closed):
            spool = QuietSpool(50.0)
            looking: Deferred[Sequence[Claim]] = Deferred()
            spool.claim = lambda *_, looking=looking: looking  # type: ignore[assignment, method-assign, misc]
            spool.next_due = None  # type: ignore[assignment, method-assign]
            agenda = self.agenda(spool, ReactorClock(Clock(), lambda: 0.0))
            agenda.start()
            agenda.stop()
            looking.callback(answer) if answer == () else looking.errback(closed)
            self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_spool_that_cannot_answer_is_asked_again_after_a_pause(self) -> None:
        reactor = Clock()
        spool = QuietSpool(None)
        spool.next_due = lambda *_: fail(SpoolError("no"))  # type: ignore[assignment, method-assign]
        agenda = self.agenda(spool, ReactorClock(reactor, lambda: 0.0))
        agenda.start()
        reactor.advance(1)
        self.assertEqual(len(spool.asked), 2)
        self.assertEqual(len(self.flushLoggedErrors(SpoolError)), 2)


@implementer(IDraft)
class FullDraft:
    id = "Q1"
    abandoned = False

    def write(self, octets: bytes) -> None:
        raise OSError(28, "No space left on device")

    def abandon(self) -> None:
        self.abandoned = True


class LetterTests(SynchronousTestCase):
    def test_a_draft_that_could_not_be_written_is_abandoned(self) -> None:
        draft = FullDraft()

        class Spool:
            def begin(self, form: Form) -> FullDraft:
                return draft

        letter = Letter(b"octets", Envelope(None), (Placement(JON, JON, Forward("example.org")),))
        spool: ISpool = Spool()  # type: ignore[assignment]
        self.assertRaises(OSError, letter.enrol, spool, 0.0, None)
        self.assertTrue(draft.abandoned)
