"""What a test may do with the spool in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relay.interfaces import Enrol, OutcomeUnknown, SpoolError
from relay.mail.envelope import Form
from relay.net.clock import ReactorClock
from relay.spool.memory import MemorySpool
from relay.testing.spool_case import entry, octets, recipient


class MemorySpoolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.time = Clock()
        self.spool = MemorySpool(ReactorClock(self.time, lambda: 1.0))

    def commit(self) -> tuple[str, Deferred[Any]]:
        draft = self.spool.begin(Form.PLAIN)
        draft.write(b"hello")
        enrol = Enrol(entry(draft.id), draft, (recipient(draft.id + ".0"),), 10.0)
        return draft.id, Deferred.fromCoroutine(self.spool.commit([enrol]))

    def entries(self) -> set[str]:
        return set(self.spool.shelf.entries)

    def test_commits_wait_while_they_are_held(self) -> None:
        self.spool.hold()
        self.spool.hold()
        (first, one), (second, other) = self.commit(), self.commit()
        self.assertNoResult(one)
        self.assertEqual(self.entries(), set())
        self.assertEqual(self.spool.release(), 2)
        (claim,) = self.successResultOf(one)
        self.assertEqual(octets(claim.content), b"hello")
        self.successResultOf(other)
        self.assertEqual(self.entries(), {first, second})
        _, third = self.commit()
        self.successResultOf(third)

    def test_the_next_commit_fails_as_it_was_told(self) -> None:
        self.spool.fail_next(SpoolError("first"))
        self.spool.fail_next(OSError("second"))
        self.failureResultOf(self.commit()[1], SpoolError)
        self.failureResultOf(self.commit()[1], OSError)
        id, third = self.commit()
        self.successResultOf(third)
        self.assertEqual(self.entries(), {id})

    def test_what_nobody_knows_may_have_happened(self) -> None:
        for kept in (True, False):
            self.spool.fail_next(OutcomeUnknown("lost"), kept=kept)
            id, waiting = self.commit()
            self.failureResultOf(waiting, OutcomeUnknown)
            self.assertEqual(id in self.entries(), kept)
            self.assertFalse(self.spool.accepting)
            self.time.advance(1)
            self.assertTrue(self.spool.accepting)

    def test_a_held_commit_is_cancelled_before_it_happens(self) -> None:
        self.spool.hold()
        _, waiting = self.commit()
        waiting.cancel()
        self.failureResultOf(waiting)
        self.spool.release()
        self.assertEqual(self.entries(), set())

    def test_another_spool_of_the_same_shelf_has_what_the_first_kept(self) -> None:
        id, _ = self.commit()
        other = MemorySpool(self.spool._clock, self.spool.shelf)
        found = self.successResultOf(Deferred.fromCoroutine(other.look_up(id)))
        self.assertEqual(found[0].id, id)

    def test_there_is_as_much_room_as_the_test_says(self) -> None:
        self.spool.free = 100
        self.assertEqual([self.spool.room(100), self.spool.room(101)], [True, False])
