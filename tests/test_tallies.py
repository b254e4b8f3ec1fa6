from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from ipaddress import ip_network

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

import relay.net.tallies
from relay.config.limits import Limits
from relay.net.admission import TOO_MANY, TOO_MANY_OF_YOURS, TOO_OFTEN, Admission
from relay.net.auth_limits import FailureLimits, Limiter
from relay.net.clock import ReactorClock
from relay.net.tallies import PIECES, Mismatched, Tallies
from tests.calls import calls_of

MINUTE = 60.0


class Memory:
    """What a parent has made, for processes that are all this one."""

    def __init__(self, rows: int) -> None:
        self.descriptor = Tallies.create(rows)
        self.rows = [self.open(row) for row in range(rows)]

    def open(self, row: int) -> Tallies:
        return Tallies.of(self.descriptor, row)

    def clear(self, row: int) -> None:
        """A worker is dead, and another one has its row."""
        Tallies.clear(self.descriptor, row)
        self.rows[row] = self.open(row)

    def close(self) -> None:
        os.close(self.descriptor)


class TalliesCase(SynchronousTestCase):
    def memory(self, rows: int) -> Memory:
        memory = Memory(rows)
        self.addCleanup(memory.close)
        return memory


class TalliesTests(TalliesCase):
    def test_what_one_process_counts_the_others_see(self) -> None:
        one, two, three = self.memory(3).rows
        one.at_once.enter("192.0.2.1")
        two.at_once.enter("192.0.2.1")
        two.trying.enter("192.0.2.1")
        one.came.add("192.0.2.1", 10, MINUTE)
        self.assertEqual([each.at_once.elsewhere("192.0.2.1") for each in (one, two, three)], [1, 1, 2])
        self.assertEqual([each.trying.elsewhere("192.0.2.1") for each in (one, two, three)], [1, 0, 1])
        self.assertEqual([each.came.elsewhere("192.0.2.1", 10, MINUTE) for each in (one, two, three)], [0, 1, 1])
        self.assertEqual([each.failed.elsewhere("192.0.2.1", 10, MINUTE) for each in (one, two, three)], [0, 0, 0])
        self.assertEqual(three.at_once.elsewhere("192.0.2.2"), 0)
        one.at_once.leave("192.0.2.1")
        self.assertEqual(three.at_once.elsewhere("192.0.2.1"), 1)

    def test_all_connections_are_those_of_all_processes(self) -> None:
        one, two, three = self.memory(3).rows
        self.assertEqual(one.connections.with_mine(7), 7)
        self.assertEqual(two.connections.with_mine(2), 9)
        self.assertEqual(one.connections.with_mine(6), 8)
        self.assertEqual(three.connections.with_mine(0), 8)

    def test_of_more_connections_each_has_the_share_that_makes_all_alike(self) -> None:
        one, two, retired = self.memory(3).rows
        self.assertEqual([each.connections.share(10, 2) for each in (one, two)], [5, 5])
        one.connections.with_mine(6)
        self.assertEqual([each.connections.share(10, 2) for each in (one, two)], [2, 8])
        self.assertEqual([each.connections.share(1, 2) for each in (one, two)], [-3, 3])
        # Who listens nowhere any more may still have some.
        retired.connections.with_mine(2)
        self.assertEqual([each.connections.share(10, 2) for each in (one, two)], [3, 9])

    def test_a_row_that_was_cleared_counts_for_nothing(self) -> None:
        memory = self.memory(2)
        one, dead = memory.rows
        one.at_once.enter("192.0.2.1")
        dead.connections.with_mine(5)
        for _ in range(5):
            dead.at_once.enter("192.0.2.1")
            dead.trying.enter("192.0.2.1")
            dead.came.add("192.0.2.1", 10, MINUTE)
            dead.failed.add("192.0.2.1", 10, MINUTE)
        memory.clear(1)
        self.assertEqual(one.connections.with_mine(0), 0)
        self.assertEqual(one.at_once.elsewhere("192.0.2.1"), 0)
        self.assertEqual(one.trying.elsewhere("192.0.2.1"), 0)
        self.assertEqual(one.came.elsewhere("192.0.2.1", 10, MINUTE), 0)
        self.assertEqual(one.failed.elsewhere("192.0.2.1", 10, MINUTE), 0)
        self.assertEqual(memory.rows[1].at_once.elsewhere("192.0.2.1"), 1)

    def test_who_was_never_there_cannot_be_less_than_nobody(self) -> None:
        one, two = self.memory(2).rows
        two.at_once.leave("192.0.2.1")
        self.assertEqual(one.at_once.elsewhere("192.0.2.1"), 0)
        two.at_once.enter("192.0.2.1")
        self.assertEqual(one.at_once.elsewhere("192.0.2.1"), 1)

    def test_what_is_long_ago_counts_for_a_sixth_of_the_time_too_long_at_most(self) -> None:
        one, two = self.memory(2).rows
        piece = MINUTE / PIECES
        one.came.add("192.0.2.1", 0.0, MINUTE)
        one.came.add("192.0.2.1", piece - 0.001, MINUTE)
        self.assertEqual(two.came.elsewhere("192.0.2.1", piece - 0.001 + MINUTE - 0.002, MINUTE), 2)
        self.assertEqual(two.came.elsewhere("192.0.2.1", piece + MINUTE, MINUTE), 0)

    def test_who_comes_and_goes_without_end_is_counted_no_more_than_lately(self) -> None:
        one, two = self.memory(2).rows
        for second in range(1000):
            one.came.add("192.0.2.1", second, MINUTE)
            least = min(60, second + 1)
            self.assertIn(two.came.elsewhere("192.0.2.1", second, MINUTE), range(least, least + 11))

    def test_few_of_many_addresses_are_taken_for_others(self) -> None:
        one, two = self.memory(2).rows
        known = [f"192.0.{number // 250}.{number % 250}" for number in range(2000)]
        for each in known:
            one.at_once.enter(each)
            one.came.add(each, 1, MINUTE)
        self.assertLess(sum(two.at_once.elsewhere(each) for each in known), 2030)
        self.assertLess(sum(two.came.elsewhere(each, 1, MINUTE) for each in known), 2030)
        strangers = [f"198.51.{number // 250}.{number % 250}" for number in range(5000)]
        self.assertLess(sum(two.at_once.elsewhere(each) for each in strangers), 25)
        self.assertLess(sum(two.came.elsewhere(each, 1, MINUTE) for each in strangers), 25)

    def test_which_addresses_are_taken_for_others_nobody_outside_can_know(self) -> None:
        one, two = (self.memory(2).rows[0] for _ in range(2))
        self.assertNotEqual(one.at_once._places("192.0.2.1"), two.at_once._places("192.0.2.1"))

    def test_they_have_a_secret_together(self) -> None:
        one, two = self.memory(2).rows
        self.assertEqual(one.secret, two.secret)
        self.assertNotEqual(one.secret, self.memory(2).rows[0].secret)

    def test_they_agree_about_the_time_whatever_the_calendar_says_when_they_begin(self) -> None:
        self.patch(time, "monotonic", lambda: 100.0)
        descriptor = Tallies.create(2, lambda: 1795435200.0)
        self.addCleanup(os.close, descriptor)
        reactor = Clock()
        reactor.advance(150)
        for row, calendar in enumerate((1795435250.0, 86_400.0)):
            epoch = Tallies.of(descriptor, row).epoch
            self.assertEqual(ReactorClock(reactor, lambda: calendar, epoch).now(), 1795435250.0)  # noqa: B023

    def test_memory_of_another_release_is_not_used(self) -> None:
        memory = self.memory(2)
        os.pwrite(memory.descriptor, b"RLTALLY0", 0)
        with self.assertRaises(Mismatched):
            memory.open(0)
        os.ftruncate(memory.descriptor, 5)
        with self.assertRaises(Mismatched):
            memory.open(0)

    def test_there_is_no_row_beyond_the_last(self) -> None:
        memory = self.memory(2)
        for row in -1, 2:
            with self.assertRaises(ValueError):
                memory.open(row)

    def test_another_process_counts_in_the_same_memory_and_its_death_can_be_cleared(self) -> None:
        memory = self.memory(2)
        script = (
            "import sys; from relay.net.tallies import Tallies; tallies = Tallies.of(int(sys.argv[1]), 1);"
            "tallies.at_once.enter('192.0.2.1'); tallies.connections.with_mine(3);"
            "print(tallies.at_once.elsewhere('192.0.2.2'), flush=True); sys.stdin.read()"
        )
        memory.rows[0].at_once.enter("192.0.2.2")
        with subprocess.Popen(
            [sys.executable, "-c", script, str(memory.descriptor)],
            pass_fds=[memory.descriptor],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as other:
            assert other.stdout is not None
            self.assertEqual(other.stdout.readline(), b"1\n")
            os.kill(other.pid, signal.SIGKILL)
        self.assertEqual(memory.rows[0].connections.with_mine(1), 4)
        self.assertEqual(memory.rows[0].at_once.elsewhere("192.0.2.1"), 1)
        memory.clear(1)
        self.assertEqual(memory.rows[0].connections.with_mine(1), 1)
        self.assertEqual(memory.rows[0].at_once.elsewhere("192.0.2.1"), 0)


ADDRESSES = [f"192.0.2.{number}" for number in range(12)]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "leave", "come", "come", "wait", "die"]),
        st.integers(0, 2),
        st.sampled_from(ADDRESSES),
        st.integers(1, 200),
    ),
    max_size=120,
)


class CrowdedTests(TalliesCase):
    """With four counters in a line, where everybody meets somebody."""

    def setUp(self) -> None:
        self.patch(relay.net.tallies, "WIDTH", 4)

    @settings(max_examples=60, deadline=None)
    @given(STEPS)
    def test_it_is_never_less_than_what_is_there(self, steps: list[tuple[str, int, str, int]]) -> None:
        memory, now = Memory(3), 0.0
        present: list[Counter[str]] = [Counter() for _ in range(3)]
        came: list[list[tuple[float, str]]] = [[] for _ in range(3)]
        try:
            for what, row, address, eighths in steps:
                tallies = memory.rows[row]
                if what == "enter":
                    tallies.at_once.enter(address)
                    present[row][address] += 1
                elif what == "leave" and present[row][address]:
                    tallies.at_once.leave(address)
                    present[row][address] -= 1
                elif what == "come":
                    tallies.came.add(address, now, MINUTE)
                    came[row].append((now, address))
                elif what == "wait":
                    now += eighths / 8
                elif what == "die":
                    memory.clear(row)
                    present[row].clear()
                    came[row].clear()
                for here in range(3):
                    there = [other for other in range(3) if other != here]
                    for each in ADDRESSES:
                        least = sum(present[other][each] for other in there)
                        most = sum(present[other].total() for other in there)
                        self.assertIn(memory.rows[here].at_once.elsewhere(each), range(least, most + 1))
                        least = sum((when > now - MINUTE and who == each) for o in there for when, who in came[o])
                        most = sum(when > now - MINUTE * (1 + 1 / PIECES) for o in there for when, who in came[o])
                        found = memory.rows[here].came.elsewhere(each, now, MINUTE)
                        self.assertIn(found, range(least, most + 1))
        finally:
            memory.close()


class TogetherTests(TalliesCase):
    """Limits of several processes."""

    def setUp(self) -> None:
        self.time = Clock()
        self.clock = ReactorClock(self.time, lambda: 0.0)
        self.one, self.two = self.memory(2).rows

    def admissions(self, **limits: int) -> tuple[Admission, Admission]:
        wanted, trusted = Limits(**limits), [ip_network("127.0.0.0/8")]  # type: ignore[arg-type]
        return Admission(wanted, trusted, self.clock, self.one), Admission(wanted, trusted, self.clock, self.two)

    def test_an_address_has_so_many_connections_at_all_workers_together(self) -> None:
        one, two = self.admissions(connections_per_address=3)
        for admission in one, two, one:
            self.assertIsNone(admission.enter("192.0.2.1"))
        self.assertEqual(one.enter("192.0.2.1"), TOO_MANY_OF_YOURS)
        self.assertEqual(two.enter("192.0.2.1"), TOO_MANY_OF_YOURS)
        self.assertIsNone(two.enter("192.0.2.2"))
        for admission in one, two, one:
            admission.leave("192.0.2.1")
        self.assertIsNone(two.enter("192.0.2.1"))

    def test_all_workers_have_so_many_connections_together(self) -> None:
        one, two = self.admissions(connections=3)
        self.assertIsNone(one.enter("192.0.2.1"))
        self.assertIsNone(two.enter("127.0.0.1"))
        self.assertFalse(one.crowded)
        self.assertIsNone(one.enter(None))
        self.assertTrue(one.crowded)
        self.assertTrue(one.stressed)
        self.assertEqual(two.enter(None), TOO_MANY)
        two.leave(None)
        one.leave("192.0.2.1")
        self.assertIsNone(two.enter("127.0.0.1"))

    def test_an_address_may_connect_so_often_to_all_workers_together(self) -> None:
        one, two = self.admissions(connections_per_minute=4)
        for admission in one, two, one, two:
            self.assertIsNone(admission.enter("192.0.2.1"))
            admission.leave("192.0.2.1")
        for admission in one, two:
            self.assertEqual(admission.enter("192.0.2.1"), TOO_OFTEN)
            admission.leave("192.0.2.1")
        self.time.advance(71)
        self.assertIsNone(one.enter("192.0.2.1"))

    def test_who_was_turned_away_is_not_counted_as_having_come(self) -> None:
        one, two = self.admissions(connections_per_minute=2)
        for _ in range(100):
            one.enter("192.0.2.1")
            one.leave("192.0.2.1")
        self.assertEqual(self.two.came.elsewhere("192.0.2.1", 0, MINUTE), 2)
        self.assertEqual(two.enter("192.0.2.1"), TOO_OFTEN)

    def test_those_whom_we_trust_are_not_counted_against_each_other(self) -> None:
        one, two = self.admissions(connections_per_address=1, connections_per_minute=1)
        for _ in range(5):
            self.assertIsNone(one.enter("127.0.0.1"))
            self.assertIsNone(two.enter("127.0.0.1"))

    def limiters(self, **limits: float) -> tuple[Limiter, Limiter]:
        wanted = FailureLimits(**limits)  # type: ignore[arg-type]
        return Limiter(self.clock, wanted, self.one), Limiter(self.clock, wanted, self.two)

    def test_whoever_guesses_passwords_guesses_at_all_workers_together(self) -> None:
        one, two = self.limiters(address=4)
        for limiter in one, two, one, two:
            session = limiter.session("192.0.2.1")
            self.assertTrue(session.may_try)
            session.begin()
            session.failed()
        for limiter in one, two:
            self.assertFalse(limiter.session("192.0.2.1").may_try)
            self.assertTrue(limiter.session("192.0.2.2").may_try)
        self.time.advance(599)
        self.assertFalse(one.session("192.0.2.1").may_try)
        self.time.advance(102)
        self.assertTrue(one.session("192.0.2.1").may_try)

    def test_attempts_at_the_same_time_get_no_more_tries_at_several_workers(self) -> None:
        one, two = self.limiters(address=3)
        attempts = []
        for limiter in (one, two) * 5:
            session = limiter.session("192.0.2.1")
            if session.may_try:
                session.begin()
                attempts.append(session)
        self.assertEqual(len(attempts), 3)
        for session in attempts:
            session.succeeded()
        self.assertTrue(two.session("192.0.2.1").may_try)
        self.assertEqual(self.one.trying.elsewhere("192.0.2.1"), 0)

    def test_a_worker_alone_has_no_tallies_and_pays_nothing_for_them(self) -> None:
        alone = Admission(Limits(), [], self.clock)
        beside, _ = self.admissions()
        address = "192.0.2.1"
        costs = []
        for admission in alone, beside:
            admission.enter(address)
            admission.leave(address)
            costs.append((calls_of(lambda: admission.enter(address)), calls_of(lambda: admission.leave(address))))  # noqa: B023
        self.assertEqual(costs[0], (8, 2))
        self.assertLess(costs[1][0], costs[0][0] + 40)
