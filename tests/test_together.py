"""Many who are waited for at the same time."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from relay.net.together import together
from relay.net.waiting import start


class TogetherTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cancelled: list[Any] = []
        self.waiting = [Deferred[str](self.cancelled.append) for _ in range(3)]

    async def at_once(self) -> str:
        return "at once"

    def test_all_begin_before_the_first_has_answered_and_the_order_is_that_of_the_questions(self) -> None:
        came: Any = start(together([self.waiting[0], self.at_once(), self.waiting[1]]))
        self.waiting[1].callback("second")
        self.assertNoResult(came)
        self.waiting[0].callback("first")
        self.assertEqual(self.successResultOf(came), ["first", "at once", "second"])

    def test_nobody_waits_for_what_is_there_at_once(self) -> None:
        self.assertEqual(start(together([self.at_once(), self.at_once()])), ["at once"] * 2)
        self.assertEqual(start(together([])), [])

    def test_who_is_cancelled_cancels_all(self) -> None:
        came: Any = start(together(self.waiting))
        self.waiting[1].callback("second")
        came.cancel()
        self.failureResultOf(came, CancelledError)
        self.assertEqual(self.cancelled, [self.waiting[0], self.waiting[2]])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_one_that_fails_cancels_the_others(self) -> None:
        async def fails() -> str:
            raise LookupError

        came: Any = start(together([self.waiting[0], self.waiting[1]]))
        self.waiting[0].errback(LookupError())
        self.failureResultOf(came, LookupError)
        self.assertEqual(self.cancelled, [self.waiting[1]])
        with self.assertRaises(LookupError):
            start(together([self.waiting[2], fails()]))
        self.assertEqual(self.cancelled, self.waiting[1:])
        self.assertEqual(self.flushLoggedErrors(), [])
