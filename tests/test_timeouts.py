"""Deadlines of connections: met when they are due, however often they have moved."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relay.net.clock import ReactorClock
from relay.net.timeouts import Deadline, Timers

#: Seconds that pass, and then the deadline that is set; `None`: there is none any more.
MOVES = st.lists(st.tuples(st.integers(0, 100), st.none() | st.integers(0, 400)), max_size=8)


def timers(reactor: Clock) -> Timers:
    return Timers(ReactorClock(reactor, reactor.seconds))


class DeadlineTests(SynchronousTestCase):
    @given(MOVES)
    def test_a_deadline_expires_when_it_is_due_and_only_once(self, moves: list[tuple[int, int | None]]) -> None:
        reactor = Clock()
        expired: list[float] = []
        deadline = Deadline(timers(reactor), lambda: expired.append(reactor.seconds()))
        expected: list[float] = []
        due: float | None = None
        for passing, seconds in [*moves, (1000, None)]:
            for _ in range(passing):
                reactor.advance(1)
                if due is not None and due <= reactor.seconds():
                    expected.append(reactor.seconds())
                    due = None
            if seconds is None:
                deadline.clear()
                due = None
            else:
                due = deadline.within(seconds)
                self.assertEqual(due, reactor.seconds() + seconds)
                if not seconds:
                    reactor.advance(0)
                    expected.append(reactor.seconds())
                    due = None
            self.assertEqual(expired, expected)
            self.assertLessEqual(len(reactor.getDelayedCalls()), 1)
        deadline.close()
        self.assertEqual(reactor.getDelayedCalls(), [])

    def test_a_deadline_that_is_far_away_and_comes_nearer_needs_no_other_timer(self) -> None:
        reactor = Clock()
        deadline = Deadline(timers(reactor), lambda: None)
        deadline.within(300)
        (timer,) = reactor.getDelayedCalls()
        reactor.advance(1)
        deadline.within(60)
        self.assertEqual(reactor.getDelayedCalls(), [timer])

    def test_those_that_are_far_off_share_a_timer_and_each_is_met_when_it_is_due(self) -> None:
        reactor = Clock()
        expired: list[tuple[int, float]] = []
        shared = timers(reactor)
        deadlines = [Deadline(shared, lambda n=n: expired.append((n, reactor.seconds()))) for n in range(5)]  # type: ignore[misc]
        for number, deadline in enumerate(deadlines):
            deadline.within(300 + number)
            reactor.advance(1)
        self.assertEqual(len(reactor.getDelayedCalls()), 1)
        deadlines[0].close()
        deadlines[1].within(30)
        for _ in range(400):
            reactor.advance(1)
        self.assertEqual(expired, [(1, 35.0), (2, 304.0), (3, 306.0), (4, 308.0)])
        self.assertEqual(reactor.getDelayedCalls(), [])

    def test_one_that_ends_another_or_fails_is_nothing_to_the_others(self) -> None:
        reactor = Clock()
        expired: list[str] = []
        shared = timers(reactor)

        def fail() -> None:
            second.close()
            third.within(10)
            raise ValueError("of the first")

        first, second = Deadline(shared, fail), Deadline(shared, lambda: expired.append("second"))
        third = Deadline(shared, lambda: expired.append(f"third at {reactor.seconds()}"))
        fourth = Deadline(shared, lambda: expired.append(f"fourth at {reactor.seconds()}"))
        for each in (first, second, third, fourth):
            each.within(60)
        reactor.advance(60)
        self.assertEqual(expired, ["fourth at 60.0"])
        reactor.advance(10)
        self.assertEqual(expired, ["fourth at 60.0", "third at 70.0"])
        self.assertEqual(reactor.getDelayedCalls(), [])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_with_the_last_one_that_shares_it_the_timer_goes(self) -> None:
        reactor = Clock()
        shared = timers(reactor)
        for _ in range(2):
            one, other = Deadline(shared, lambda: None), Deadline(shared, lambda: None)
            one.within(300)
            other.within(300)
            one.close()
            self.assertEqual(len(reactor.getDelayedCalls()), 1)
            other.close()
            self.assertEqual(reactor.getDelayedCalls(), [])
