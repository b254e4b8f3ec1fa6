"""A history that is gone with its process: for tests, and for a relay whose spool is in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from zope.interface import implementer

from relay.history.keys import key, keys, plain
from relay.interfaces import HistoryUnavailable, IHistory
from relay.mail.history import Findings, Happening, Life

#: Lives that are kept: of more, the oldest go.
MOST: Final = 10_000


class _Life:
    __slots__ = ("happenings", "id", "keys")

    def __init__(self, id: str) -> None:
        self.id = id
        self.happenings: list[Happening] = []
        self.keys: set[str] = {id.casefold()} if id else set()


@implementer(IHistory)
class MemoryHistory:
    """Keeps the newest lives. A life that has gone and to which something happens begins anew."""

    def __init__(self, calendar: Callable[[], float] = time.time, *, most: int = MOST) -> None:
        self._calendar = calendar
        self._most = most
        #: The oldest first, by queue id, or by a number where there is none.
        self._lives: dict[str | int, _Life] = {}
        self._refusals = 0
        self._closed = False

    def event(self, what: str, /, **fields: object) -> None:
        if self._closed:
            return
        id = str(fields.get("id") or "")
        self._refusals += not id
        life = self._lives.setdefault(id or self._refusals, _Life(id))
        told = plain(fields)
        life.happenings.append(Happening(self._calendar(), what, told))
        life.keys.update(keys(what, fields, told))
        if len(self._lives) > self._most:
            del self._lives[next(iter(self._lives))]

    async def find(self, text: str, most: int = 20) -> Findings:
        if self._closed:
            raise HistoryUnavailable("the history is closed")
        wanted = key(text)
        found = [life for life in reversed(self._lives.values()) if wanted and wanted in life.keys]
        oldest = next(iter(self._lives.values()), None)
        return Findings(
            tuple(Life(life.id, tuple(life.happenings)) for life in found[:most]),
            more=len(found) > most,
            since=None if oldest is None else oldest.happenings[0].at,
        )

    async def close(self) -> None:
        self._closed = True
