"""Threads for what would keep the reactor waiting: the disk."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class IsWorkers(Protocol):
    """What the spool asks of `Workers`; a test's double does the work at once."""

    def perform(self, work: Callable[[], T], answer: Callable[[T | Exception], object]) -> None:
        """
        Do `work` elsewhere, then call `answer` here with what it returned, or with the exception it raised.

        Work is begun in the order in which it came.
        """

    def stop(self) -> None:
        """Return when all work has been done. The answers may come later. Nothing more is performed."""


class Workers:
    """A few threads of our own, since the reactor's are shared with everybody who looks up a name."""

    def __init__(self, call_from_thread: Callable[..., object], name: str, how_many: int = 1) -> None:
        self._call_from_thread = call_from_thread
        self._name = name
        self._how_many = how_many
        self._threads: list[threading.Thread] = []
        self._tasks: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any], object]] | None] = queue.SimpleQueue()

    def perform(self, work: Callable[[], T], answer: Callable[[T | Exception], object]) -> None:
        """Threads are started with the first task: before it, a daemon may still fork, and they would be lost."""
        if not self._threads:
            for number in range(self._how_many):
                thread = threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._tasks.put((work, answer))

    def stop(self) -> None:
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            work, answer = task
            result: Any
            try:
                result = work()
            except Exception as problem:
                result = problem
            self._call_from_thread(answer, result)
            # What was handed over is the reactor's from here on; nothing of it may live on in this thread.
            del task, work, answer, result
