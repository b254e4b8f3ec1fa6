"""Servers that answer by HTTP, in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from attrs import frozen
from zope.interface import implementer

from relay.interfaces import HttpAnswer, HttpTrouble, IHttp


@frozen
class Asked:
    """A request that was made."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


#: An answer, only the body of one with status 200, or what is raised.
Said: TypeAlias = HttpAnswer | bytes | HttpTrouble
Servers: TypeAlias = Mapping[str, Said] | Callable[[Asked], Said]


@implementer(IHttp)
class FakeHttp:
    """
    Answers by a table of URLs, or as a function says; whoever is not there refuses. `asked` has all requests, in order.

        http = FakeHttp({"https://list.example/jon": b"yes", "https://slow.example/": HttpTrouble("too late")})
    """

    def __init__(self, servers: Servers | None = None) -> None:
        self.servers: Servers = {} if servers is None else servers
        self.asked: list[Asked] = []

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        timeout: float = 5.0,
        most: int = 65536,
    ) -> HttpAnswer:
        asked = Asked(method, url, tuple(headers), body)
        self.asked.append(asked)
        said = self.servers(asked) if callable(self.servers) else self.servers.get(url, HttpTrouble("refused"))
        if isinstance(said, HttpTrouble):
            raise HttpTrouble(said.kind, said.text)
        answer = HttpAnswer(200, (), said) if isinstance(said, bytes) else said
        if len(answer.body) > most:
            raise HttpTrouble("too long")
        return answer
