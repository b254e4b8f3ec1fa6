"""What one of several workers may do of what the settings promise."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.config.division import divided, part, part_of_rate
from relay.config.doubts import doubts
from relay.config.settings import Settings
from relay.config.units import MIB


def settings(**sections: Any) -> Settings:
    return Settings.model_validate(sections)


class DivisionTests(SynchronousTestCase):
    @given(st.integers(1, 10_000), st.integers(1, 64))
    def test_all_parts_are_the_whole_unless_there_is_less_than_one_for_each(self, whole: int, count: int) -> None:
        parts = [part(whole, count, index) for index in range(count)]
        self.assertEqual(sum(parts), max(whole, count))
        self.assertLessEqual(max(parts) - min(parts), 1)

    @given(st.tuples(st.integers(1, 1000), st.floats(1, 86_400)), st.integers(1, 64))
    def test_all_workers_together_send_at_the_rate_that_was_set(self, rate: tuple[int, float], count: int) -> None:
        parts = [part_of_rate(rate, count, index) for index in range(count)]
        self.assertAlmostEqual(sum(messages / seconds for messages, seconds in parts), rate[0] / rate[1], 6)

    def test_one_worker_has_all_of_it(self) -> None:
        whole = settings()
        self.assertIs(divided(whole, 1), whole)

    def test_delivery_is_divided(self) -> None:
        whole = settings(
            delivery={
                "concurrency": {"first": 2, "most": 21, "total": 200},
                "connections": {"most": 100, "of_host": 20},
                "destination": [
                    {"name": "example.com", "most": 3, "rate": "100/1m"},
                    {"name": "example.net", "rate": "1/10s"},
                    {"name": "example.org", "most": 1},
                ],
            }
        )
        first, last = (divided(whole, 4, index).delivery for index in (0, 3))
        self.assertEqual(list(first.concurrency.model_dump().values()), [1, 6, 50])
        self.assertEqual(last.concurrency.most, 5)
        self.assertEqual((first.connections.most, first.connections.of_host), (25, 5))
        self.assertEqual(
            [(each.most, each.rate) for each in first.destination], [(1, (25, 60.0)), (None, (1, 40.0)), (1, None)]
        )
        self.assertEqual(first.retry, whole.delivery.retry)

    def test_who_keeps_no_connections_keeps_none_with_more_workers(self) -> None:
        whole = settings(delivery={"connections": {"most": 0}})
        self.assertEqual(divided(whole, 4).delivery.connections.most, 0)

    def test_memory_and_history_are_divided_and_what_is_counted_together_is_not(self) -> None:
        whole = settings(limits={"memory": "64 MiB", "waiting_commits": 200}, history={"size": "1024 MiB"})
        half = divided(whole, 2, 1)
        self.assertEqual((half.limits.memory, half.limits.waiting_commits), (32 * MIB, 100))
        self.assertEqual(half.history.size, 512 * MIB)
        for name in "connections", "connections_per_address", "connections_per_minute", "auth_failures_per_address":
            self.assertEqual(getattr(half.limits, name), getattr(whole.limits, name))
        self.assertEqual(half.store, whole.store)

    def test_what_is_small_is_not_divided_to_nothing(self) -> None:
        whole = settings(limits={"memory": 0, "waiting_commits": 1}, history={"size": "2 MiB"})
        eighth = divided(whole, 8, 7)
        self.assertEqual((eighth.limits.memory, eighth.limits.waiting_commits), (0, 1))
        self.assertEqual(eighth.history.size, MIB)
        self.assertEqual(divided(settings(limits={"memory": "4 MiB"}), 8).limits.memory, MIB)


class DoubtsTests(SynchronousTestCase):
    def doubts(self, workers: int | str, **delivery: Any) -> list[str]:
        found = doubts(settings(hostname="mx.test", process={"workers": workers}, delivery=delivery))
        return [f"{'.'.join(map(str, each.path))}: {each.text}" for each in found]

    def test_a_destination_that_may_have_fewer_sessions_than_there_are_workers_is_warned_of(self) -> None:
        destinations = [{"name": "example.com", "most": 3}, {"name": "example.net", "most": 4}, {"name": "example.org"}]
        self.assertEqual(
            self.doubts(4, destination=destinations),
            ["delivery.destination.0.most: there are 4 workers, and each of them may have one: so it is 4"],
        )
        self.assertEqual(self.doubts(1, destination=destinations), [])

    def test_so_are_all_destinations(self) -> None:
        self.patch(os, "sched_getaffinity", lambda pid: set(range(8)))
        found = self.doubts("auto", concurrency={"first": 1, "most": 5, "total": 7})
        self.assertEqual(
            [each.partition(":")[0] for each in found], ["delivery.concurrency.most", "delivery.concurrency.total"]
        )
