"""The threads that have the disk: what they are given is done in its order, and nothing of them is left behind."""

from __future__ import annotations

import gc
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from relay.net.workers import Workers


def descriptors() -> set[str]:
    """The `eventfd`s of this process."""
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        try:
            if os.readlink(each) == "anon_inode:[eventfd]":
                found.add(each.name)
        except FileNotFoundError:  # that of the listing itself
            continue
    return found


class WorkersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def made(self, how_many: int = 1) -> Workers:
        workers = Workers(self.here, "test", how_many)
        self.addCleanup(workers.stop)
        return workers

    def here(self, answer: Callable[[Any], object], result: Any) -> None:
        self.answers.put(result)
        answer(result)

    def test_one_thread_does_all_in_the_order_in_which_it_came(self) -> None:
        workers, done = self.made(), []
        for number in range(1000):
            workers.perform(lambda number=number: number, done.append)  # type: ignore[misc]
        workers.stop()
        self.assertEqual(done, list(range(1000)))

    def test_what_came_while_all_were_at_work_is_done_by_as_many_as_there_are(self) -> None:
        workers, together, done = self.made(3), threading.Barrier(3), list[Any]()
        for _ in range(6):
            workers.perform(lambda: together.wait(30), done.append)
        workers.stop()
        self.assertEqual(sorted(done), [0, 0, 1, 1, 2, 2])

    def test_an_exception_is_an_answer_and_the_thread_goes_on(self) -> None:
        workers, done = self.made(), list[Any]()
        workers.perform(lambda: 1 // 0, done.append)
        workers.perform(lambda: "next", done.append)
        workers.stop()
        self.assertIsInstance(done[0], ZeroDivisionError)
        self.assertEqual(done[1:], ["next"])

    def test_nothing_is_left_of_those_that_were_stopped(self) -> None:
        before = descriptors()
        workers = self.made(2)
        workers.perform(lambda: None, lambda result: None)
        self.assertEqual(len(descriptors() - before), 1)
        workers.stop()
        self.assertEqual(descriptors() - before, set())
        self.assertNotIn("test-0", [thread.name for thread in threading.enumerate()])

    def test_nothing_is_left_of_those_that_were_never_used(self) -> None:
        before = descriptors()
        workers = Workers(self.here, "test")
        self.assertEqual(len(descriptors() - before), 1)
        del workers
        gc.collect()
        self.assertEqual(descriptors() - before, set())

    def test_behind_the_end_nothing_is_written_to_what_may_be_somebody_elses(self) -> None:
        workers = self.made()
        workers.stop()
        workers.stop()
        self.assertRaises(RuntimeError, workers.perform, lambda: None, lambda result: None)
