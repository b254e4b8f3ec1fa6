"""A thread for one file, for what would keep the reactor waiting."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class IsScribe(Protocol):
    """What is asked of a `Scribe`; a test's double does the work at once, or when the test says so."""

    def perform(self, work: Callable[[], T], answer: Callable[[T | Exception], object]) -> None:
        """Do `work` elsewhere, then call `answer` here with what it returned, or with the exception it raised."""

    def stop(self) -> None:
        """Return when all work is done. Nothing more is performed."""


class Scribe:
    """Work is done in the order in which it came. The thread begins with the first, since a daemon may fork before."""

    def __init__(self, call_from_thread: Callable[..., object], name: str) -> None:
        """`call_from_thread` is the reactor's `callFromThread`."""
        self._call_from_thread = call_from_thread
        self._name = name
        self._thread: threading.Thread | None = None
        self._tasks: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any], object]] | None] = queue.SimpleQueue()

    def perform(self, work: Callable[[], T], answer: Callable[[T | Exception], object]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._tasks.put((work, answer))

    def stop(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._tasks.put(None)
            thread.join()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            work, answer = task
            result: Any
            try:
                result = work()
            except Exception as problem:
                result = problem
            self._call_from_thread(answer, result)
            del task, work, answer, result
