"""A history that is gone with its process: for tests, and for a relay whose spool is in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from zope.interface import implementer

from relay.history.decisions import asked_by, kept, keys_of
from relay.history.keys import key, keys, plain
from relay.interfaces import HistoryUnavailable, IHistory
from relay.mail.explanation import Decided
from relay.mail.history import Account, Accounts, Findings, Happening, Life

#: Lives that are kept: of more, the oldest go.
MOST: Final = 10_000


class _Life:
    __slots__ = ("accounts", "began", "happenings", "id", "keys")

    def __init__(self, id: str, began: float) -> None:
        self.id = id
        self.began = began
        self.accounts: list[Account] = []
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
        now, life = self._calendar(), self._life(str(fields.get("id") or ""))
        told = plain(fields)
        life.happenings.append(Happening(now, what, told))
        life.keys.update(keys(what, fields, told))

    def decided(self, decision: Decided, id: str = "", ref: str = "") -> None:
        if self._closed:
            return
        now, life = self._calendar(), self._life(id)
        explanation = kept(decision)
        life.accounts.append(Account(now, id, ref, explanation))
        life.keys.update(keys_of(explanation, ref))

    def _life(self, id: str) -> _Life:
        self._refusals += not id
        life = self._lives.setdefault(id or self._refusals, _Life(id, self._calendar()))
        if len(self._lives) > self._most:
            del self._lives[next(iter(self._lives))]
        return life

    async def find(self, text: str, most: int = 20) -> Findings:
        if self._closed:
            raise HistoryUnavailable("the history is closed")
        wanted = key(text)
        lives = reversed(self._lives.values())
        found = [life for life in lives if wanted and wanted in life.keys and life.happenings]
        return Findings(
            tuple(Life(life.id, tuple(life.happenings)) for life in found[:most]),
            more=len(found) > most,
            since=self._since,
        )

    async def why(self, text: str, most: int = 20) -> Accounts:
        if self._closed:
            raise HistoryUnavailable("the history is closed")
        wanted = asked_by(text)
        found = [
            account
            for life in reversed(self._lives.values())
            if not wanted.isdisjoint(life.keys)
            for account in reversed(life.accounts)
        ]
        return Accounts(tuple(found[:most]), more=len(found) > most, since=self._since)

    @property
    def _since(self) -> float | None:
        oldest = next(iter(self._lives.values()), None)
        return None if oldest is None else oldest.began

    async def close(self) -> None:
        self._closed = True
