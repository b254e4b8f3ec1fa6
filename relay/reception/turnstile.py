"""How many messages may wait for the spool at once: when the disk is slow, clients wait before they send content."""

from __future__ import annotations

from collections import deque

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
        self._quiet: Deferred[None] | None = None
        #: Somebody may wait for one to leave.
        self._watched = False

    def adopt(self, most: int) -> None:
        """From now on so many may wait."""
        self._most = most
        if self._queue and not self.crowded:
            self._let_in()

    @property
    def crowded(self) -> bool:
        """Whether the next client has to wait."""
        return self._waiting >= self._most

    async def turn(self) -> None:
        """Wait until there is place. Cancelling gives the turn up."""
        turn: Deferred[None] = Deferred(self._queue.remove)
        self._queue.append(turn)
        self._watched = True
        await turn

    def enter(self) -> None:
        """A message begins to wait for its commit. Whoever says so says `leave` when it waits no longer."""
        self._waiting += 1

    def leave(self) -> None:
        """It waits no longer."""
        self._waiting -= 1
        if self._watched:
            self._let_in()

    async def quiet(self) -> None:
        """Wait until no message waits for its commit. For one who waits."""
        if self._waiting:
            self._quiet, self._watched = Deferred(), True
            await self._quiet

    def _let_in(self) -> None:
        """
        As many as there is place for; all of them if nobody is on the way who would let in the next. One who was let in
        may yet hang up, and then nobody would.
        """
        free = self._most - self._waiting if self._waiting else len(self._queue)
        # Taken first and told then: whoever is let in may be through at once, and let in others.
        for turn in [self._queue.popleft() for _ in range(min(free, len(self._queue)))]:
            turn.callback(None)
        if not self._waiting and self._quiet is not None:
            quiet, self._quiet = self._quiet, None
            if not quiet.called:
                quiet.callback(None)
        self._watched = bool(self._queue) or self._quiet is not None
