"""Waiting only where something waits."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from relay.net.waiting import start


async def added(first: Deferred[int], second: Deferred[int]) -> int:
    return await first + await second


class StartTests(SynchronousTestCase):
    def test_a_value_is_its_own_answer(self) -> None:
        self.assertEqual(start(3), 3)

    def test_a_coroutine_that_does_not_wait_costs_no_deferred(self) -> None:
        self.assertEqual(start(added(succeed(1), succeed(2))), 3)
        self.assertEqual(start(succeed(4)), 4)

    def test_one_that_waits_goes_on_from_where_it_stood(self) -> None:
        first: Deferred[int] = Deferred()
        second: Deferred[int] = Deferred()
        answer = start(added(first, second))
        self.assertNoResult(answer)
        first.callback(1)
        self.assertNoResult(answer)
        second.callback(2)
        self.assertEqual(self.successResultOf(answer), 3)

    def test_what_is_raised_at_once_is_raised_here(self) -> None:
        self.assertRaises(ValueError, start, fail(ValueError("no")))
        self.assertRaises(ValueError, start, added(succeed(1), fail(ValueError("no"))))

    def test_what_is_raised_later_fails_the_deferred(self) -> None:
        first: Deferred[int] = Deferred()
        answer = start(added(first, succeed(1)))
        first.errback(ValueError("no"))
        self.failureResultOf(answer, ValueError)

    def test_a_failure_can_be_handled_where_it_was_awaited(self) -> None:
        async def patient(waited: Deferred[int]) -> int:
            try:
                return await waited
            except ValueError:
                return await second

        first: Deferred[int] = Deferred()
        second: Deferred[int] = Deferred()
        answer = start(patient(first))
        first.errback(ValueError("no"))
        second.callback(7)
        self.assertEqual(self.successResultOf(answer), 7)

    def test_a_cancelled_answer_cancels_what_it_waits_for(self) -> None:
        cancelled: list[object] = []
        first: Deferred[int] = Deferred(cancelled.append)
        answer = start(added(first, succeed(1)))
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual(cancelled, [first])

    def test_a_deferred_that_waits_for_another_is_not_taken_for_an_answer(self) -> None:
        inner: Deferred[int] = Deferred()
        outer = succeed(None).addCallback(lambda _: inner)
        answer = start(outer)
        self.assertIs(answer, outer)
        inner.callback(5)
        self.assertEqual(self.successResultOf(answer), 5)
