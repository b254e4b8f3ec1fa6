"""
The world as a policy is handed it: all that it asks is noted with the question that it thinks about.

A policy cannot tell: it has the same answers, and nothing waits for the notes. These are kept with the account of a
decision (docs/explain.md), so they have no more than somebody needs who looks for the reason: of a URL the host, of a
value its beginning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import evolve
from zope.interface import implementer

from relay.interfaces import HttpAnswer, HttpTrouble, IHttp, IResolver, IStore, ITable, World
from relay.mail.answer import Answer, in_words
from relay.policy.aside import ASIDE
from relay.policy.looking import note

#: How many characters of a value are noted.
_SHOWN: Final = 40
#: Seconds since 1970, with a fraction, from 2001 to 2286: nobody counts anything so.
_MOMENT: Final = re.compile(r"[0-9]{10}\.[0-9]+\Z")


def watched(world: World) -> World:
    """The same world, that notes what it is asked."""
    return evolve(
        world,
        resolver=_Resolver(world.resolver),
        store=_Store(world.store),
        http=_Http(world.http),
        table=_tables(world.table),
    )


@implementer(IResolver)
class _Resolver:
    def __init__(self, resolver: IResolver) -> None:
        self._resolver = resolver

    async def look_up(self, name: str, kind: str) -> Answer:
        answer = await self._resolver.look_up(name, kind)
        note("dns", f"{name} {kind}", in_words(answer))
        return answer


@implementer(IStore)
class _Store:
    """Of a question of which nothing is kept (`relay.policy.aside`) it is not told either."""

    def __init__(self, store: IStore, part: tuple[object, ...] = ()) -> None:
        self._store = store
        #: What this part of the store is known by, among all parts of all stores.
        self._part = part or (object(),)

    def get(self, key: str) -> str | None:
        written = ASIDE.get()
        if written is None or (self._part, key) not in written:
            value = self._store.get(key)
        else:
            value = written[self._part, key]
        note("store", key, _kept(value))
        return value

    def put(self, key: str, value: str, lifetime: float) -> None:
        written = ASIDE.get()
        if written is None:
            self._store.put(key, value, lifetime)
        else:
            written[self._part, key] = value
        note("store", key, f"becomes {_kept(value)}")

    def forget(self, key: str) -> None:
        written = ASIDE.get()
        if written is None:
            self._store.forget(key)
        else:
            written[self._part, key] = None

    def items(self, prefix: str = "", most: int = 1000) -> Sequence[tuple[str, str]]:
        written = ASIDE.get()
        if not written:
            return self._store.items(prefix, most)
        here = {key: value for (part, key), value in written.items() if part == self._part and key.startswith(prefix)}
        found = dict(self._store.items(prefix, most + len(here))) | here
        return [(key, value) for key, value in found.items() if value is not None][:most]

    def scoped(self, name: str) -> IStore:
        return _Store(self._store.scoped(name), (*self._part, name))


@implementer(IHttp)
class _Http:
    def __init__(self, http: IHttp) -> None:
        self._http = http

    async def request(self, method: str, url: str, **more: Any) -> HttpAnswer:
        where = f"{method} {_server(url)}"
        try:
            answer = await self._http.request(method, url, **more)
        except HttpTrouble as trouble:
            note("http", where, str(trouble))
            raise
        note("http", where, f"{answer.status}, {len(answer.body)} octets")
        return answer


@implementer(ITable)
class _Table:
    def __init__(self, name: str, table: ITable) -> None:
        self._name = name
        self._table = table
        #: Nothing of a value is noted (`relay.config.tables`).
        self._secret = getattr(table, "secret", False) is True

    def get(self, key: str) -> str | None:
        try:
            value = self._table.get(key)
        except (OSError, ValueError) as problem:
            # A line that makes no sense is quoted in the words of what is wrong with it.
            note("table", f"{self._name}: {key}", "cannot be read" if self._secret else f"cannot be read: {problem}")
            raise
        # A key alone in its line says all by being there.
        found = value is not None and (self._secret or value == "")
        note("table", f"{self._name}: {key}", "found" if found else _told(value))
        return value

    def checked(self, check: Callable[[str, str], object]) -> ITable:
        return _Table(self._name, self._table.checked(check))


def _tables(find: Callable[[str | Path], ITable]) -> Callable[[str | Path], ITable]:
    return lambda name: _Table(str(name), find(name))


def _told(value: str | None) -> str:
    if value is None:
        return "nothing"
    return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}..."


def _kept(value: str | None) -> str:
    """As `_told`, but for moments, which policies keep as numbers and people read as dates."""
    if value is not None and _MOMENT.match(value):
        return f"{datetime.fromtimestamp(float(value), UTC):%Y-%m-%dT%H:%M:%SZ}"
    return _told(value)


def _server(url: str) -> str:
    """Whom a URL leads to. All that stands behind the host may be a secret, and so may a user before it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        return "what is no URL"
    shown = f"{parts.scheme}://[{host}]" if ":" in host else f"{parts.scheme}://{host}"
    return shown if port is None else f"{shown}:{port}"
