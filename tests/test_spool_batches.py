"""Who waits for company on the way to the disk, for how long, and who never does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relay.interfaces import Claim, Enrol, Step
from relay.mail.envelope import Form
from relay.net.clock import ReactorClock
from relay.net.waiting import start
from relay.spool.batches import CROWD, Batches, Patience, Waiting
from relay.spool.sqlite import SqliteSpool
from relay.spool.writer import Commit, Done
from relay.testing.spool_case import LEASE, awaited, entry, recipient, settled
from tests.contracts.spool.shards import LIMITS, SqliteShard, WhenTold

PATIENCE = Patience(noting=0.005, crowd=0.002)


class Answer(Waiting):
    """Somebody who waits."""


class Disk:
    """Notes what is written together."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def run(self, requests: Sequence[Any]) -> Done:
        names = [request.in_files[0] for request in requests]
        self.batches.append(names)
        return Done(names)


class PatienceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.time = Clock()
        self.disk: Any = Disk()
        self.thread = WhenTold()
        self.company = 0
        self.batches = self.made(PATIENCE)

    def made(self, patience: Patience | None) -> Batches:
        clock: Any = ReactorClock(self.time)
        return Batches(self.disk, self.thread, self.fail, clock, lambda: self.company, patience)

    def ask(self, name: str, *, patient: bool = False) -> Waiting:
        answer = Answer()
        answer.request = Commit((), (), (name,))
        self.batches.add(answer, patient=patient)
        return answer

    def at_hand(self) -> list[str]:
        """What the writer has been given, and now writes."""
        before = len(self.disk.batches)
        self.thread.work()
        return [name for batch in self.disk.batches[before:] for name in batch]

    def test_who_is_alone_waits_for_nobody(self) -> None:
        answer = self.ask("a")
        self.assertEqual(self.at_hand(), ["a"])
        self.assertEqual(answer.now(), "a")

    def test_while_others_are_about_to_come_the_turn_of_the_reactor_is_waited_for(self) -> None:
        self.company = 1
        self.ask("a")
        self.ask("b")
        self.assertEqual(self.at_hand(), [])
        self.time.advance(0)
        self.assertEqual(self.at_hand(), ["a", "b"])
        self.assertEqual(len(self.disk.batches), 1)

    def test_a_crowd_is_waited_for_two_milliseconds(self) -> None:
        self.company = CROWD
        self.ask("a")
        self.time.advance(0.0015)
        self.ask("b")
        self.assertEqual(self.at_hand(), [])
        self.time.advance(0.0005)
        self.assertEqual(self.at_hand(), ["a", "b"])

    def test_what_only_notes_something_waits_five_milliseconds_at_most(self) -> None:
        answer = self.ask("noted", patient=True)
        self.time.advance(0.004)
        self.assertEqual(self.at_hand(), [])
        self.time.advance(0.001)
        self.assertEqual(self.at_hand(), ["noted"])
        self.assertEqual(answer.now(), "noted")

    def test_it_goes_with_the_first_that_somebody_waits_for(self) -> None:
        self.ask("noted", patient=True)
        self.ask("a")
        self.assertEqual(self.at_hand(), ["a", "noted"])
        self.assertEqual(len(self.disk.batches), 1)

    def test_who_is_waited_for_is_answered_before_what_is_only_noted(self) -> None:
        heard: list[Any] = []
        self.company = CROWD
        for name, patient in (("noted", True), ("a", False), ("noted too", True), ("b", False)):
            self.ask(name, patient=patient).addCallbacks(heard.append, heard.append)
        self.time.advance(0.002)
        self.thread.work()
        self.assertEqual(heard, ["a", "b", "noted", "noted too"])

    def test_who_asks_when_all_are_waited_for_is_answered_behind_them(self) -> None:
        self.ask("noted", patient=True)
        self.batches.wait_for_all()
        self.ask("last")
        self.assertEqual(self.at_hand(), ["noted", "last"])

    def test_what_is_only_noted_can_be_withdrawn_too(self) -> None:
        answer = self.ask("noted", patient=True)
        self.assertEqual(self.batches.waiting, 1)
        answer.cancel()
        self.assertRaises(CancelledError, answer.now)
        self.assertEqual(self.batches.waiting, 0)
        self.time.advance(1)
        self.assertEqual(self.at_hand(), [])

    def test_the_clock_of_one_that_has_gone_makes_the_next_one_wait_less_and_never_more(self) -> None:
        self.ask("noted", patient=True)
        self.ask("a")
        self.thread.work()
        self.time.advance(0.004)
        self.ask("later", patient=True)
        self.time.advance(0.001)
        self.assertEqual(self.at_hand(), ["later"])
        self.time.advance(1)
        self.assertEqual(self.at_hand(), [])

    def test_behind_a_commit_the_patient_wait_again_and_the_others_go_on(self) -> None:
        self.ask("a")
        self.ask("noted", patient=True)
        work, answer = self.thread.tasks.pop(0)
        answer(work())
        self.assertEqual(self.thread.tasks, [])
        self.ask("b")
        self.assertEqual(self.at_hand(), ["b", "noted"])

    def test_behind_a_commit_a_crowd_is_waited_for_too(self) -> None:
        self.ask("a")
        self.ask("b")
        self.company = CROWD
        work, answer = self.thread.tasks.pop(0)
        answer(work())
        self.assertEqual(self.thread.tasks, [])
        self.ask("c")
        self.time.advance(0.002)
        self.assertEqual(self.at_hand(), ["b", "c"])

    def test_a_moment_that_passes_while_a_commit_runs_is_no_second_commit(self) -> None:
        self.ask("noted", patient=True)
        self.ask("a")
        self.ask("b", patient=True)
        self.time.advance(0.005)
        self.assertEqual(len(self.thread.tasks), 1)
        self.thread.work()
        self.time.advance(0.005)
        self.thread.work()
        self.assertEqual(self.disk.batches, [["a", "noted"], ["b"]])

    def test_one_that_is_withdrawn_while_it_waits_is_not_written(self) -> None:
        self.company = CROWD
        answer = self.ask("a")
        answer.cancel()
        self.assertRaises(CancelledError, answer.now)
        self.time.advance(0.002)
        self.assertEqual(self.at_hand(), [])
        self.ask("b")
        self.time.advance(0.002)
        self.assertEqual(self.at_hand(), ["b"])

    def test_one_that_cannot_do_with_its_answer_does_not_keep_the_others_from_theirs(self) -> None:
        self.company = CROWD
        heard: list[Any] = []
        first, second = self.ask("a"), self.ask("b")
        first.addCallbacks(lambda result: 1 // 0, heard.append)
        second.addCallbacks(heard.append, heard.append)
        self.time.advance(0.002)
        self.assertEqual(self.at_hand(), ["a", "b"])
        self.assertEqual(heard, ["b"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_without_patience_nobody_waits(self) -> None:
        self.batches, self.company = self.made(None), CROWD
        self.ask("noted", patient=True)
        self.assertEqual(self.at_hand(), ["noted"])


class CompanyTests(SynchronousTestCase):
    """Who is sending content will want a commit; what has become of mail is only noted."""

    def setUp(self) -> None:
        shard = SqliteShard()
        self.addCleanup(shard.dispose)
        self.shard, self.writer = shard, WhenTold()
        self.spool = SqliteSpool(
            shard.layout.path, shard.clock, self.writer, WhenTold(), limits=LIMITS, patience=PATIENCE
        )
        start(self.spool.recover())
        self.writer.work()

    def enrol(self) -> Deferred[tuple[Claim, ...]]:
        draft = self.spool.begin(Form.WIRE)
        draft.write(b"x\r\n.\r\n")
        return self.commit(Enrol(entry(draft.id), draft, (recipient(draft.id + ".0"),), LEASE))

    def commit(self, *steps: Step) -> Deferred[tuple[Claim, ...]]:
        return Deferred.fromCoroutine(awaited(self.spool.commit(steps)))

    def test_only_who_is_still_sending_is_waited_for(self) -> None:
        one, other = self.spool.begin(Form.WIRE), self.spool.begin(Form.WIRE)
        self.enrol()
        self.assertEqual(self.writer.work(), 0)
        self.shard.time.advance(0)
        self.assertEqual(self.writer.work(), 1)
        one.abandon()
        one.abandon()
        other.abandon()
        self.enrol()
        self.assertEqual(self.writer.work(), 1)

    def test_what_was_delivered_is_noted_with_what_comes_in(self) -> None:
        kept = self.enrol()
        self.writer.work()
        claims: tuple[Claim, ...] = self.successResultOf(kept)
        noted = self.commit(*(settled(claim) for claim in claims))
        self.assertEqual(self.writer.work(), 0)
        self.assertNoResult(noted)
        self.enrol()
        self.assertEqual(self.writer.work(), 1)
        self.successResultOf(noted)

    def test_a_spool_that_closes_waits_for_nobody(self) -> None:
        kept = self.enrol()
        self.writer.work()
        noted = self.commit(*(settled(claim) for claim in self.successResultOf(kept)))
        heard: list[str] = []
        noted.addCallback(lambda _: heard.append("noted"))
        Deferred.fromCoroutine(self.spool.close()).addCallback(lambda _: heard.append("closed"))
        self.writer.work()
        # There are no workers behind that, who would remove the files of what has gone.
        self.assertEqual(heard, ["noted", "closed"])
