"""Waiting only where something waits."""

from __future__ import annotations

import gc
import weakref
from contextvars import ContextVar

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relay.net.waiting import Coming, start
from tests.calls import calls_of


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

    def test_who_is_cancelled_may_still_say_something(self) -> None:
        async def stubborn(first: Deferred[int], second: Deferred[int]) -> int:
            try:
                return await first
            except CancelledError:
                return await second

        first: Deferred[int] = Deferred()
        second: Deferred[int] = Deferred()
        answer = start(stubborn(first, second))
        answer.cancel()
        self.assertNoResult(answer)
        second.callback(3)
        self.assertEqual(self.successResultOf(answer), 3)
        answer.cancel()

        answer = start(stubborn(Deferred(), Deferred()))
        answer.cancel()
        self.assertNoResult(answer)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)

    def test_who_waits_for_one_that_waits_can_cancel_it(self) -> None:
        async def outer(inner: Deferred[int]) -> int:
            return await inner

        first: Deferred[int] = Deferred()
        answer = start(outer(start(added(first, succeed(1)))))
        answer.cancel()
        self.failureResultOf(answer, CancelledError)

    def test_what_it_waited_for_keeps_neither_its_result_nor_its_failure(self) -> None:
        for fires in (lambda first: first.callback(1), lambda first: first.errback(ValueError("no"))):
            first: Deferred[int] = Deferred()
            answer = start(added(first, succeed(1)))
            fires(first)
            self.assertIsNone(self.successResultOf(first))
            answer.addErrback(lambda _: None)

    def test_to_wait_costs_few_calls(self) -> None:
        async def answering(commit: Deferred[int]) -> int:
            return await commit

        def wait() -> None:
            commit: Deferred[int] = Deferred()
            start(answering(commit)).addCallback(str)
            commit.callback(1)

        wait()
        self.assertLessEqual(calls_of(wait), 36)

    def test_a_deferred_that_waits_for_another_is_not_taken_for_an_answer(self) -> None:
        inner: Deferred[int] = Deferred()
        outer = succeed(None).addCallback(lambda _: inner)
        answer = start(outer)
        self.assertIs(answer, outer)
        inner.callback(5)
        self.assertEqual(self.successResultOf(answer), 5)


#: As a policy or an agent has one, or a library that they use.
request: ContextVar[str] = ContextVar("request", default="nobody's")


class ContextTests(SynchronousTestCase):
    """Variables (PEP 567) belong to who has set them, whatever is under way at the same time."""

    def test_what_it_has_set_is_there_when_it_goes_on_and_nowhere_else(self) -> None:
        async def policy(first: Deferred[int], second: Deferred[int]) -> str:
            request.set("mine")
            await first
            said = request.get()
            request.set("still mine")
            await second
            return f"{said}, {request.get()}"

        first: Deferred[int] = Deferred()
        second: Deferred[int] = Deferred()
        answer = start(policy(first, second))
        self.assertEqual(request.get(), "nobody's")
        first.callback(1)
        self.assertEqual(request.get(), "nobody's")
        second.callback(1)
        self.assertEqual(self.successResultOf(answer), "mine, still mine")

    def test_what_it_has_set_it_can_take_back_after_it_has_waited(self) -> None:
        async def bound(waited: Deferred[int]) -> int:
            token = request.set("mine")
            try:
                return await waited
            finally:
                request.reset(token)

        for fires in (lambda waited: waited.callback(1), lambda waited: waited.errback(ValueError("no"))):
            waited: Deferred[int] = Deferred()
            answer = start(bound(waited))
            fires(waited)
            came = self.successResultOf(answer.addErrback(lambda failure: failure.trap(ValueError)))
            self.assertIn(came, (1, ValueError))

    def test_who_need_not_wait_leaves_nothing_behind_either(self) -> None:
        async def careless() -> str:
            request.set("mine")
            return request.get()

        async def failing() -> None:
            request.set("mine")
            raise ValueError("no")

        self.assertEqual(start(careless()), "mine")
        self.assertRaises(ValueError, start, failing())
        self.assertEqual(request.get(), "nobody's")

    def test_what_the_one_who_asks_has_set_is_seen_by_the_one_who_is_asked(self) -> None:
        async def asked(waited: Deferred[int]) -> tuple[str, str]:
            before = request.get()
            await waited
            return before, request.get()

        waited: Deferred[int] = Deferred()
        token = request.set("the caller's")
        answer = start(asked(waited))
        request.reset(token)
        waited.callback(1)
        self.assertEqual(self.successResultOf(answer), ("the caller's",) * 2)


class CalledOff(Coming[int]):
    """Something that does not come when nobody wants it."""

    def call_off(self) -> bool:
        return True


class ComingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.heard: list[int | type[Exception]] = []

    def hear(self, coming: Coming[int]) -> None:
        coming.addCallbacks(self.heard.append, lambda failure: self.heard.append(failure.type))

    async def awaited(self, coming: Coming[int]) -> int:
        return await coming

    def test_who_wants_it_is_called_with_what_comes_before_or_after(self) -> None:
        for first in (True, False):
            good, bad = Coming[int](), Coming[int]()
            if first:
                self.hear(good)
                self.hear(bad)
            good.give(0)
            bad.fail(Failure(ValueError("no")))
            if not first:
                self.assertEqual(self.heard, [])
                self.hear(good)
                self.hear(bad)
            self.assertEqual(self.heard, [0, ValueError])
            self.heard.clear()

    def test_what_has_come_is_there_at_once(self) -> None:
        coming, failed = Coming[int](), Coming[int]()
        self.assertIs(coming.now(), coming)
        coming.give(0)
        failed.fail(Failure(ValueError("no")))
        self.assertEqual((coming.now(), start(coming)), (0, 0))
        self.assertRaises(ValueError, failed.now)
        self.assertRaises(ValueError, start, failed)

    def test_it_can_be_awaited(self) -> None:
        good, bad = Coming[int](), Coming[int]()
        for coming in (good, bad):
            self.assertNoResult(start(self.awaited(coming)))
        good, bad = Coming[int](), Coming[int]()
        waiting, failing = start(self.awaited(good)), start(bad)
        good.give(3)
        bad.fail(Failure(ValueError("no")))
        self.assertEqual(self.successResultOf(waiting), 3)
        self.failureResultOf(failing, ValueError)

    def test_of_what_was_awaited_nothing_is_left_to_the_collector_of_garbage(self) -> None:
        collects = gc.isenabled()
        gc.disable()
        try:
            coming = Coming[int]()
            waiting = start(self.awaited(coming))
            coming.give(3)
            there = weakref.ref(coming)
            del coming, waiting
            self.assertIsNone(there())
        finally:
            if collects:
                gc.enable()

    def test_who_gives_it_meets_what_is_raised_by_who_wants_it(self) -> None:
        coming = Coming[int]()
        coming.addCallbacks(lambda result: 1 // result, self.fail)
        self.assertRaises(ZeroDivisionError, coming.give, 0)

    def test_to_cancel_it_is_in_vain_unless_it_can_be_called_off(self) -> None:
        vain, done = Coming[int](), CalledOff()
        waiting, cancelled = start(self.awaited(vain)), start(self.awaited(done))
        for each in (waiting, cancelled, waiting):
            each.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.assertNoResult(waiting)
        vain.give(3)
        self.assertEqual(self.successResultOf(waiting), 3)
        done = CalledOff()
        self.hear(done)
        done.cancel()
        self.assertEqual(self.heard, [CancelledError])
