"""Counting calls: what is counted, and what is not."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from tests.calls import calls_of


def _nothing() -> None:
    pass


class CallsTests(SynchronousTestCase):
    def test_what_calls_nothing_costs_nothing(self) -> None:
        self.assertEqual(calls_of(_nothing), 0)

    def test_functions_of_python_and_of_c_count_alike(self) -> None:
        def work() -> None:
            _nothing()
            len("")
            b"".join([])

        self.assertEqual(calls_of(work), 3)

    def test_a_generator_counts_each_time_it_goes_on(self) -> None:
        def numbers() -> Iterator[int]:
            yield 1
            yield 2

        def work() -> None:
            for _ in numbers():
                pass

        self.assertEqual(calls_of(work), 3)

    def test_who_was_called_can_be_told(self) -> None:
        names: Counter[str] = Counter()

        def work() -> None:
            _nothing()
            _nothing()
            b"".join([])

        calls_of(work, by_name=names)
        self.assertEqual(names["test_calls.py _nothing"], 2)
        self.assertEqual(names["bytes.join"], 1)

    def test_whoever_profiles_besides_goes_on_afterwards_even_if_the_work_fails(self) -> None:
        before = sys.getprofile()

        def fail() -> None:
            raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, calls_of, fail)
        self.assertIs(sys.getprofile(), before)
