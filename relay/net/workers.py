"""Threads of our own for what would keep the reactor waiting: the files of the spool, of the history, of the store."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar
from weakref import finalize

T = TypeVar("T")

#: What is written to an `eventfd` to add one, and what is read of it.
_ONE: Final = (1).to_bytes(8, sys.byteorder)


class IsWorkers(Protocol):
    """What is asked of `Workers`; a test's double does the work at once, or when the test says so."""

    def perform(self, work: Callable[[], T], answer: Callable[[T | Exception], object]) -> None:
        """
        Do `work` elsewhere, then call `answer` here with what it returned, or with the exception it raised.

        Work is begun in the order in which it came.
        """

    def stop(self) -> None:
        """Return when all work has been done. The answers may come later. Nothing more is performed."""


class Workers:
    """
    A few threads of our own, since the reactor's are shared with everybody who looks up a name.

    They wait for an `eventfd(2)` that counts what there is to do. Python's own queues wake a thread by whoever holds
    Python's lock, and it wakes, often at once in place of that one, only to wait for the lock: three times to sleep for
    each task instead of once. Whoever writes to a descriptor has let go of the lock before the other one wakes.
    """

    def __init__(self, call_from_thread: Callable[..., object], name: str, how_many: int = 1) -> None:
        self._call_from_thread = call_from_thread
        self._name = name
        self._how_many = how_many
        self._threads: list[threading.Thread] = []
        self._tasks: deque[tuple[Callable[[], Any], Callable[[Any], object]] | None] = deque()
        # It exists before it is needed, when there may be no descriptor left.
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_SEMAPHORE)
        self._close = finalize(self, os.close, self._bell)
        # When the process ends so does the descriptor, and not before the threads.
        self._close.atexit = False

    def perform(self, work: Callable[[], T], answer: Callable[[T | Exception], object]) -> None:
        """Threads are started with the first task: before it, a daemon may still fork, and they would be lost."""
        if not self._threads:
            if not self._close.alive:
                raise RuntimeError("these workers have been stopped")
            for number in range(self._how_many):
                thread = threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._ring((work, answer))

    def stop(self) -> None:
        for _ in self._threads:
            self._ring(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._close()

    def _ring(self, task: tuple[Callable[[], Any], Callable[[Any], object]] | None) -> None:
        self._tasks.append(task)
        os.write(self._bell, _ONE)

    def _work(self) -> None:
        bell, tasks = self._bell, self._tasks
        while True:
            os.read(bell, len(_ONE))
            task = tasks.popleft()
            if task is None:
                return
            work, answer = task
            result: Any
            try:
                result = work()
            except Exception as problem:
                result = problem
            self._call_from_thread(answer, result)
            # What was handed over is the reactor's from here on; nothing of it may live on in this thread.
            del task, work, answer, result
