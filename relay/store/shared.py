"""
One store of several processes: each has all of it, and says on a line what it changes.

Each answers from what it has, at once, and hears a moment later what others have changed meanwhile. Where two change
the same entry within that moment the later one counts everywhere, by the clock that they share: so all end up alike,
and one of two counts may be lost. Only the first worker's store has a file.

Whoever begins asks another one for all that there is, before any policy asks it. What it hears while it waits for that
is newer, and stays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from secrets import token_hex
from typing import Any, Final

from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger
from zope.interface import implementer

from relay.interfaces import IClock, IStore
from relay.net.clock import cancel
from relay.net.line import Line
from relay.store.memory import LONGEST, MemoryStore, Part
from relay.store.sqlite import SqliteStore

#: What is said about the store.
TOPIC: Final = "store"
#: Seconds that changes wait for others, so that they are said together.
DELAY: Final = 0.01
#: Seconds after which somebody else is asked for all that there is, and after which policies are asked without it.
AGAIN: Final = 1.0
PATIENCE: Final = 10.0
#: Seconds for which it is known when an entry was changed last: nothing that is said is on its way for so long.
MEMORY: Final = 10.0
#: And for how many entries at most.
_MOST: Final = 100_000
#: What is said at once is no more than so many rows, or octets, about; and seconds before the next.
_ROWS: Final = 500
_OCTETS: Final = 64 * 1024
_PACE: Final = 0.005
#: Octets of a row beside its key and its value.
_OVERHEAD: Final = 50

#: When a change was made, by the clock that all share, and by whom.
_Moment = tuple[float, int]


@implementer(IStore)
class SharedStore:
    """
    The store of the worker with this index, of so many.

    `below` is its own store: a file's for the first worker, and in memory for all others. Nobody else changes it.
    """

    def __init__(
        self, below: MemoryStore, line: Line, clock: IClock, index: int, count: int, log: Logger | None = None
    ) -> None:
        self.get = below.get
        self.items = below.items
        self._below = below
        self._line = line
        self._clock = clock
        self._index = index
        self._log = log or Logger(namespace="relay.store")
        #: By whom and when each entry was changed that was changed lately, who was changed last at the end.
        self._moments: dict[str, _Moment] = {}
        #: Keys of what we have changed and not said yet.
        self._news: dict[str, None] = {}
        self._saying: Any = None
        #: Since when it has all that there is; `None`: it waits for it.
        self._whole_since: float | None = None
        self._started = clock.seconds()
        self._token = token_hex(8)
        #: Whom to ask: the first worker answers once it has its file; others, if they know.
        self._others = [other for other in range(count) if other != index]
        self._asked = 0
        self._asking: Any = None
        self._heard_all: Deferred[None] | None = None
        #: Who has asked for all, by what, and what of it is still to be said.
        self._answers: dict[int, tuple[str, Iterator[list[Any]]]] = {}
        self._answering: Any = None
        #: Who has asked before we knew.
        self._early: dict[int, str] = {}
        self._closed = False
        line.hear(TOPIC, self._heard)

    # The contract.

    def put(self, key: str, value: str, lifetime: float) -> None:
        self._below.put(key, value, lifetime)
        self._changed(key)

    def forget(self, key: str) -> None:
        if self._below.left(key) is not None:
            self._below.forget(key)
            self._changed(key)

    def scoped(self, name: str) -> IStore:
        return Part(self, name)

    # Ours.

    async def load(self) -> None:
        """
        Have all that there is, before any policy is asked. Never raises: where nobody can say it for too long the store
        begins without.
        """
        if self._index == 0:
            if isinstance(self._below, SqliteStore):
                await self._below.load()
            self._is_whole()
            # While we were not there others have gone on.
            self._ask()
            return
        if self._whole_since is None and not self._closed:
            self._heard_all = Deferred()
            self._ask()
            try:
                await self._heard_all.addTimeout(PATIENCE, self._clock)  # type: ignore[arg-type]
            except TimeoutError:
                self._log.warn("No worker says what the store of the policies has: it begins with what it hears")
            self._heard_all = None

    async def close(self) -> None:
        """Say what has changed, and let go of the file."""
        if self._closed:
            return
        self._say()
        self._closed = True
        for delayed in self._saying, self._asking, self._answering:
            cancel(delayed)
        if self._heard_all is not None and not self._heard_all.called:
            self._heard_all.callback(None)
        if isinstance(self._below, SqliteStore):
            await self._below.close()

    # What we change.

    def _changed(self, key: str) -> None:
        moment = (self._clock.seconds(), self._index)
        before = self._moments.pop(key, None)
        if before is not None and moment <= before:
            # Whoever has that one is to take ours, which we have made knowing it.
            moment = (math.nextafter(before[0], math.inf), self._index)
        self._moments[key] = moment
        self._news[key] = None
        if self._saying is None and not self._closed:
            self._saying = self._clock.callLater(DELAY, self._say)

    def _say(self) -> None:
        cancel(self._saying)
        self._saying = None
        news, self._news = self._news, {}
        for some in _portions(self._rows_of_news(news)):
            self._line.say(TOPIC, {"news": some})
        self._forget_moments()

    def _rows_of_news(self, news: dict[str, None]) -> Iterator[list[Any]]:
        """Key, moment, and unless it is gone what it is and for how long."""
        for key in news:
            moment = self._moments.get(key)
            # Somebody else has changed it since then.
            if moment is None or moment[1] != self._index:
                continue
            left = self._below.left(key)
            yield [key, moment[0]] if left is None else [key, moment[0], *left]

    def _forget_moments(self) -> None:
        gone, moments = self._clock.seconds() - MEMORY, self._moments
        if self._whole_since is None or self._asking is not None:
            # What was changed by now is newer than all that it is still to be told.
            gone = -math.inf
        while moments:
            key = next(iter(moments))
            if moments[key][0] > gone and len(moments) <= _MOST:
                break
            del moments[key]

    # What others say.

    def _heard(self, body: Any) -> None:
        if self._closed:
            return
        if "news" in body:
            self._hear_news(body["from"], body["news"])
        elif "wanted" in body:
            self._hear_wanted(body["from"], body["wanted"], body["started"])
        elif body.get("for") == self._token:
            self._hear_answer(body["rows"], last=body["last"])

    def _hear_news(self, index: int, rows: Sequence[Sequence[Any]]) -> None:
        for key, when, *kept in rows:
            before = self._moments.get(key)
            if before is not None and (when, index) < before:
                continue
            self._moments.pop(key, None)
            self._moments[key] = (when, index)
            self._take(key, kept)
        self._forget_moments()

    def _take(self, key: str, kept: Sequence[Any]) -> None:
        if kept:
            value, seconds = kept
            self._below.put(key, value, min(seconds, LONGEST))
        else:
            self._below.forget(key)

    # Asking for all.

    def _ask(self) -> None:
        """
        The first worker, and the others in between. It asks each of them once itself; if nobody knows more, it has its
        file.
        """
        self._asking = None
        if not self._others or (self._index == 0 and self._asked >= len(self._others)):
            return
        turn = self._asked if self._index == 0 else 0 if self._asked % 2 == 0 else self._asked // 2 + 1
        to = self._others[turn % len(self._others)]
        self._asked += 1
        self._line.say(TOPIC, {"to": to, "wanted": self._token, "started": self._started})
        self._asking = self._clock.callLater(AGAIN, self._ask)

    def _hear_answer(self, rows: Sequence[Sequence[Any]], *, last: bool) -> None:
        if self._asking is None:
            return  # it was said by somebody else, too
        for key, value, seconds in rows:
            if key not in self._moments and not self._has(key, value, seconds):
                self._take(key, (value, seconds))
        cancel(self._asking)
        self._asking = None
        if last:
            self._is_whole()
        else:
            self._asking = self._clock.callLater(AGAIN, self._ask)

    def _has(self, key: str, value: str, seconds: float) -> bool:
        """Whether it is here as it is there: then a file need not be written."""
        left = self._below.left(key)
        return left is not None and left[0] == value and abs(left[1] - seconds) < AGAIN

    def _is_whole(self) -> None:
        if self._whole_since is None:
            self._whole_since = self._clock.seconds()
        if self._heard_all is not None and not self._heard_all.called:
            self._heard_all.callback(None)
        early, self._early = self._early, {}
        for index, token in early.items():
            self._answer(index, token)

    # Answering.

    def _hear_wanted(self, index: int, token: str, started: float) -> None:
        if self._whole_since is None:
            if self._index == 0:
                self._early[index] = token
        elif self._index == 0 or self._whole_since < started:
            # Where all have just begun, nobody knows more than the first worker's file.
            self._answer(index, token)

    def _answer(self, index: int, token: str) -> None:
        self._answers[index] = (token, _portions(self._rows()))
        if self._answering is None:
            self._go_on_answering()

    def _rows(self) -> Iterator[list[Any]]:
        for key in self._below.all_keys():
            left = self._below.left(key)
            if left is not None:
                yield [key, *left]

    def _go_on_answering(self) -> None:
        """A portion for each who has asked, and others in a moment: policies go on meanwhile."""
        self._answering = None
        for index, (token, portions) in list(self._answers.items()):
            rows = next(portions, None)
            self._line.say(TOPIC, {"to": index, "for": token, "rows": rows or [], "last": rows is None})
            if rows is None:
                del self._answers[index]
        if self._answers:
            self._answering = self._clock.callLater(_PACE, self._go_on_answering)


def _portions(rows: Iterator[list[Any]]) -> Iterator[list[Any]]:
    """As many rows together as are to be said at once."""
    portion: list[Any] = []
    octets = 0
    for row in rows:
        portion.append(row)
        octets += _OVERHEAD + sum(len(each) for each in row if isinstance(each, str))
        if octets > _OCTETS or len(portion) >= _ROWS:
            yield portion
            portion, octets = [], 0
    if portion:
        yield portion
