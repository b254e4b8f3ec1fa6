"""A worker that hangs keeps nobody from what another one knows, or does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relay.control.api import Asked, Refused
from relay.control.workers.asking import Heard, Silent, Worker
from relay.control.workers.company import SOON, Company
from relay.net.clock import ReactorClock


class Slow:
    """A worker that answers when it is told to."""

    def __init__(self, index: int) -> None:
        self.worker = Worker(index, 100 + index, self.ask)
        #: Whether it was asked aside.
        self.asked: list[bool] = []
        self.waiting: Deferred[Mapping[str, Any]] = Deferred()
        self.given_up = 0

    async def ask(
        self, path: str, words: Mapping[str, Any], act: bool, user: str | None = None, aside: bool = False
    ) -> Mapping[str, Any]:
        self.asked.append(aside)
        self.waiting = Deferred(lambda _: self._give_up())
        return await self.waiting

    def _give_up(self) -> None:
        self.given_up += 1

    def says(self, **answer: str) -> None:
        self.waiting.callback(answer)

    def fails(self, problem: Refused) -> None:
        self.waiting.errback(problem)


class CompanyCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.company = Company(ReactorClock(self.clock))
        self.slow = [Slow(index) for index in range(5)]
        self.workers = [each.worker for each in self.slow]

    def asked(self) -> list[int]:
        return [len(each.asked) for each in self.slow]


class AnyTests(CompanyCase):
    def ask(self) -> Deferred[Mapping[str, Any]]:
        return Deferred.fromCoroutine(self.company.ask_any(self.workers[:3], "explain", Asked({})))

    def test_while_one_hangs_another_is_asked_soon(self) -> None:
        asking = self.ask()
        self.assertEqual(self.asked(), [1, 0, 0, 0, 0])
        self.clock.advance(SOON)
        self.assertEqual(self.asked(), [1, 1, 0, 0, 0])
        self.slow[1].says(it="is so")
        self.assertEqual(self.successResultOf(asking), {"it": "is so"})
        self.assertEqual(self.slow[0].given_up, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_has_answered_lately_is_asked_first(self) -> None:
        self.test_while_one_hangs_another_is_asked_soon()
        asking = self.ask()
        self.assertEqual(self.asked(), [1, 2, 0, 0, 0])
        self.slow[1].says(it="is so")
        self.successResultOf(asking)

    def test_who_takes_long_may_still_be_the_first_to_answer(self) -> None:
        asking = self.ask()
        for _ in range(3):
            self.clock.advance(SOON)
        self.assertEqual(self.asked(), [1, 1, 1, 0, 0])
        self.slow[0].says(it="is so")
        self.assertEqual(self.successResultOf(asking), {"it": "is so"})

    def test_who_cannot_say_it_now_is_not_waited_for(self) -> None:
        asking = self.ask()
        self.slow[0].fails(Silent("it has ended"))
        self.assertEqual(self.asked(), [1, 1, 0, 0, 0])
        self.slow[1].fails(Silent("it has ended, too"))
        self.slow[2].fails(Silent("gone"))
        problem = self.failureResultOf(asking, Refused).value
        self.assertIn("worker 0: it has ended; worker 1: it has ended, too; worker 2: gone", str(problem.sentence))

    def test_a_no_is_an_answer(self) -> None:
        asking = self.ask()
        self.slow[0].fails(Refused("'soup' is no address"))
        self.assertEqual(self.failureResultOf(asking, Refused).value.status, 400)
        self.assertEqual(self.asked(), [1, 0, 0, 0, 0])

    def test_whoever_goes_away_is_not_waited_for(self) -> None:
        asking = self.ask()
        self.clock.advance(SOON)
        asking.cancel()
        self.failureResultOf(asking)
        self.assertEqual([each.given_up for each in self.slow], [1, 1, 0, 0, 0])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class AllTests(CompanyCase):
    def tell(self) -> Deferred[Heard]:
        return Deferred.fromCoroutine(self.company.tell_all(self.workers, "dest/pause", Asked({})))

    def test_the_first_notes_it_for_all_others(self) -> None:
        telling = self.tell()
        self.assertEqual(self.asked(), [1, 0, 0, 0, 0])
        for each in self.slow:
            each.says(paused="x")
        self.assertEqual(list(self.successResultOf(telling).said), [0, 1, 2, 3, 4])
        self.assertEqual([each.asked for each in self.slow], [[False], [True], [True], [True], [True]])

    def test_one_that_hangs_keeps_the_others_waiting_for_a_moment_only(self) -> None:
        telling = self.tell()
        self.clock.advance(SOON)
        self.slow[1].says(paused="x")
        self.assertEqual(self.asked(), [1] * 5)
        for each in self.slow[2:]:
            each.says(paused="x")
        self.assertNoResult(telling)
        self.slow[0].fails(Silent("it hangs"))
        heard = self.successResultOf(telling)
        self.assertEqual((list(heard.said), list(heard.silent)), ([1, 2, 3, 4], [0]))

    def test_however_many_hang_all_are_told_soon(self) -> None:
        telling = self.tell()
        for _ in range(3):
            self.clock.advance(SOON)
        self.assertEqual(self.asked(), [1] * 5)
        for each in self.slow:
            each.fails(Silent("it hangs"))
        self.assertEqual(len(self.successResultOf(telling).silent), 5)
        self.assertEqual(self.clock.getDelayedCalls(), [])
