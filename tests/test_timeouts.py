"""Deadlines of connections: met when they are due, however often they have moved."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relay.net.clock import ReactorClock
from relay.net.timeouts import Deadline

#: Seconds that pass, and then the deadline that is set; `None`: there is none any more.
MOVES = st.lists(st.tuples(st.integers(0, 100), st.none() | st.integers(0, 400)), max_size=8)


class DeadlineTests(SynchronousTestCase):
    @given(MOVES)
    def test_a_deadline_expires_when_it_is_due_and_only_once(self, moves: list[tuple[int, int | None]]) -> None:
        reactor = Clock()
        expired: list[float] = []
        deadline = Deadline(ReactorClock(reactor, reactor.seconds), lambda: expired.append(reactor.seconds()))
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
        deadline = Deadline(ReactorClock(reactor, reactor.seconds), lambda: None)
        deadline.within(300)
        (timer,) = reactor.getDelayedCalls()
        reactor.advance(1)
        deadline.within(60)
        self.assertEqual(reactor.getDelayedCalls(), [timer])
