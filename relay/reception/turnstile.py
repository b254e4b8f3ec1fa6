"""How many messages may wait for the spool at once: when the disk is slow, clients wait before they send content."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from twisted.internet.defer import Deferred


class Turnstile:
    """
    Counts the messages of all listeners that wait for their commit.

    Over `most`, a client's DATA is answered only when one of them is through. It is better to let a client wait with
    its content than to hold the content of everybody.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting = 0
        self._queue: deque[Deferred[None]] = deque()

    @property
    def crowded(self) -> bool:
        """Whether the next client has to wait."""
        return self._waiting >= self._most

    async def turn(self) -> None:
        """Wait until there is place. Cancelling gives the turn up."""
        while self.crowded:
            turn: Deferred[None] = Deferred(self._queue.remove)
            self._queue.append(turn)
            await turn

    @contextmanager
    def passing(self) -> Iterator[None]:
        """A message waits for its commit as long as this lasts."""
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            if self._queue and not self.crowded:
                self._queue.popleft().callback(None)
