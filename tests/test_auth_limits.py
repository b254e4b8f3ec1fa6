from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relay.net.auth_limits import Attempts, FailureLimits, Limiter
from relay.net.clock import ReactorClock


def fail(attempts: Attempts, times: int = 1) -> None:
    for _ in range(times):
        attempts.begin()
        attempts.failed()


class LimiterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.limiter = Limiter(ReactorClock(self.clock, lambda: 0.0))

    def fail_elsewhere(self, address: str, times: int) -> None:
        """From sessions of their own."""
        for _ in range(times):
            fail(self.limiter.session(address))

    def test_three_failures_end_a_session(self) -> None:
        for address in "192.0.2.1", None:
            session = self.limiter.session(address)
            fail(session, 2)
            self.assertTrue(session.may_try)
            fail(session)
            self.assertFalse(session.may_try)
            self.assertTrue(self.limiter.session(address).may_try)

    def test_ten_failures_in_ten_minutes_are_enough_from_an_address(self) -> None:
        self.fail_elsewhere("192.0.2.1", 9)
        self.assertTrue(self.limiter.session("192.0.2.1").may_try)
        self.fail_elsewhere("192.0.2.1", 1)
        self.assertFalse(self.limiter.session("192.0.2.1").may_try)
        self.assertTrue(self.limiter.session("192.0.2.2").may_try)
        self.clock.advance(599)
        self.assertFalse(self.limiter.session("192.0.2.1").may_try)
        self.clock.advance(1)
        self.assertTrue(self.limiter.session("192.0.2.1").may_try)

    def test_a_failure_counts_for_ten_minutes_of_its_own(self) -> None:
        self.fail_elsewhere("192.0.2.1", 5)
        self.clock.advance(300)
        self.fail_elsewhere("192.0.2.1", 5)
        self.assertFalse(self.limiter.session("192.0.2.1").may_try)
        self.clock.advance(300)
        self.fail_elsewhere("192.0.2.1", 4)
        self.assertTrue(self.limiter.session("192.0.2.1").may_try)
        self.fail_elsewhere("192.0.2.1", 1)
        self.assertFalse(self.limiter.session("192.0.2.1").may_try)

    def test_sessions_at_the_same_time_get_no_more_tries(self) -> None:
        sessions = [self.limiter.session("192.0.2.1") for _ in range(20)]
        tried = 0
        for session in sessions:
            if session.may_try:
                session.begin()
                tried += 1
        self.assertEqual(tried, 10)
        for session in sessions[:10]:
            session.failed()
        self.assertFalse(self.limiter.session("192.0.2.1").may_try)

    def test_who_succeeds_or_withdraws_has_not_failed(self) -> None:
        session = self.limiter.session("192.0.2.1")
        for _ in range(30):
            session.begin()
            session.succeeded()
            session.begin()
            session.withdrawn()
        self.assertTrue(session.may_try)
        self.assertTrue(self.limiter.session("192.0.2.1").may_try)

    def test_a_success_does_not_wipe_out_failures(self) -> None:
        self.fail_elsewhere("192.0.2.1", 10)
        session = self.limiter.session("192.0.2.1")
        session.begin()
        session.succeeded()
        self.assertFalse(session.may_try)

    def test_an_address_is_one_however_it_is_written(self) -> None:
        for one, other, same in (
            ("2001:db8::1", "2001:db8::ffff:2", True),
            ("2001:db8::1", "2001:db8:0:1::1", False),
            ("::ffff:192.0.2.9", "192.0.2.9", True),
            ("::ffff:192.0.2.10", "::ffff:192.0.2.11", False),
            ("fe80::1%eth0", "fe80::2%eth1", True),
        ):
            self.fail_elsewhere(one, 10)
            self.assertEqual(self.limiter.session(other).may_try, not same, other)

    def test_the_limits_are_settings(self) -> None:
        limiter = Limiter(ReactorClock(self.clock, lambda: 0.0), FailureLimits(session=1, address=2, window=5.0))
        session = limiter.session("192.0.2.1")
        fail(session)
        self.assertFalse(session.may_try)
        fail(limiter.session("192.0.2.1"))
        self.assertFalse(limiter.session("192.0.2.1").may_try)
        self.clock.advance(5)
        self.assertTrue(limiter.session("192.0.2.1").may_try)
        for wrong in {"session": 0}, {"address": 0}, {"window": 0.0}:
            with self.assertRaises(ValueError):
                FailureLimits(**wrong)

    def test_memory_follows_the_last_ten_minutes(self) -> None:
        for number in range(100):
            self.fail_elsewhere(f"192.0.2.{number}", 1)
        self.assertEqual(len(self.limiter._failures), 100)
        self.clock.advance(600)
        for number in range(100, 200):
            self.fail_elsewhere(f"192.0.2.{number}", 1)
        self.assertEqual(len(self.limiter._failures), 100)
        self.assertEqual(self.limiter._under_way, {})

    def test_memory_is_bounded(self) -> None:
        self.patch(__import__("relay.net.auth_limits", fromlist=["_MOST"]), "_MOST", 50)
        for number in range(100):
            self.fail_elsewhere(f"192.0.2.{number}", 1)
        self.assertEqual(len(self.limiter._failures), 50)

    @given(st.lists(st.sampled_from(("failed", "succeeded", "withdrawn", "wait")), max_size=60))
    def test_nobody_ever_gets_more_than_ten_failures_in_ten_minutes(self, acts: list[str]) -> None:
        clock = Clock()
        limiter = Limiter(ReactorClock(clock, lambda: 0.0))
        failures: list[float] = []
        for act in acts:
            session = limiter.session("192.0.2.1")
            if act == "wait":
                clock.advance(100)
            elif session.may_try:
                session.begin()
                getattr(session, act)()
                if act == "failed":
                    failures.append(clock.seconds())
        for last in failures:
            self.assertLessEqual(len([one for one in failures if last - 600 < one <= last]), 10)
