"""
The world as a policy is handed it: all that it asks is noted with the question that it thinks about.

A policy cannot tell: it has the same answers, and nothing waits for the notes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import evolve
from zope.interface import implementer

from relay.interfaces import HttpAnswer, HttpTrouble, IHttp, IResolver, IStore, ITable, World
from relay.mail.answer import Answer, in_words
from relay.policy.looking import note


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
    def __init__(self, store: IStore) -> None:
        self._store = store
        self.forget = store.forget
        self.items = store.items

    def get(self, key: str) -> str | None:
        value = self._store.get(key)
        note("store", key, "nothing" if value is None else value)
        return value

    def put(self, key: str, value: str, lifetime: float) -> None:
        self._store.put(key, value, lifetime)
        note("store", key, f"becomes {value}")

    def scoped(self, name: str) -> IStore:
        return _Store(self._store.scoped(name))


@implementer(IHttp)
class _Http:
    def __init__(self, http: IHttp) -> None:
        self._http = http

    async def request(self, method: str, url: str, **more: Any) -> HttpAnswer:
        # What stands behind the host's name may be a secret.
        where = f"{method} {url.split('?')[0]}"
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

    def get(self, key: str) -> str | None:
        try:
            value = self._table.get(key)
        except (OSError, ValueError) as problem:
            note("table", f"{self._name}: {key}", f"cannot be read: {problem}")
            raise
        note("table", f"{self._name}: {key}", "nothing" if value is None else value)
        return value

    def checked(self, check: Callable[[str, str], object]) -> ITable:
        return _Table(self._name, self._table.checked(check))


def _tables(find: Callable[[str | Path], ITable]) -> Callable[[str | Path], ITable]:
    return lambda name: _Table(str(name), find(name))
