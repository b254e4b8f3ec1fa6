"""
Asking another process of this relay, at its control socket.

What it says about whose question it passes on is believed by a process of the same user only (`relay.control.api`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer
from zope.interface import implementer

from relay.control.api import ASIDE, OPERATOR, Refused
from relay.control.workers.asking import Silent

#: Seconds for an answer: an operator's command waits for 30 (60 if something is to be done, 200 for what asks others).
_QUESTION: Final = 10.0
_ACT: Final = 25.0
#: What others are asked for, and what is asked by programs that wait for ten seconds, as Prometheus does.
_OTHERS: Final = {"explain": 190.0, "reload": 140.0, "status": 5.0, "dest": 5.0}
_PERHAPS: Final = "nobody can say whether this has happened there: look, and say it again"
#: Octets of an answer.
_MOST: Final = 64 * 1024 * 1024


@frozen
class Peer:
    """
    The process whose control socket is at `path`. To call it is to ask it (`relay.control.workers.asking.Ask`).

    Each question has a connection of its own, so that nothing is left of a process that has ended.
    """

    reactor: Any
    path: Path

    async def __call__(
        self, path: str, words: Mapping[str, Any], act: bool, user: str | None = None, aside: bool = False
    ) -> Mapping[str, Any]:
        patience = _OTHERS.get(path, _ACT if act else _QUESTION)
        try:
            status, octets = await self._exchange(path, words, act, user, aside).addTimeout(patience, self.reactor)
            answer = json.loads(octets)
        except CancelledError:
            raise
        except (ConnectError, FileNotFoundError):
            raise Silent("it does not answer: it is being started, or has ended") from None
        except Exception:
            raise Silent(_PERHAPS if act else f"it has not answered within {patience:.0f} s, or has ended") from None
        if not isinstance(answer, dict):
            raise Silent(_PERHAPS if act else "what it says is no answer")
        if status != 200:
            raise Refused(str(answer.get("error", f"it answered {status}")), status)
        return answer

    def _exchange(
        self, path: str, words: Mapping[str, Any], act: bool, user: str | None, aside: bool
    ) -> Deferred[tuple[int, bytes]]:
        return Deferred.fromCoroutine(self._said(path, words, act, user, aside))

    async def _said(
        self, path: str, words: Mapping[str, Any], act: bool, user: str | None, aside: bool
    ) -> tuple[int, bytes]:
        headers = Headers({b"connection": [b"close"]})
        if user is not None:
            headers.addRawHeader(OPERATOR, user.encode())
        if aside:
            headers.addRawHeader(ASIDE, b"yes")
        query = f"?{urlencode(words)}" if words and not act else ""
        body = _Body(json.dumps(words).encode()) if act else None
        agent = Agent.usingEndpointFactory(self.reactor, _Socket(self.reactor, self.path))
        response = await agent.request(
            b"POST" if act else b"GET", f"http://localhost/{path}{query}".encode(), headers, body
        )
        return response.code, await _whole(response)


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
@frozen
class _Socket:
    """Whatever the URL says, it is there. That it was asked is no news for the log."""

    reactor: Any
    path: Path

    def endpointForURI(self, uri: Any) -> Any:
        return self

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        protocolFactory.noisy = False
        connecting: Deferred[Any] = UNIXClientEndpoint(self.reactor, os.fspath(self.path)).connect(protocolFactory)
        return connecting


@implementer(IBodyProducer)
class _Body:
    """What is short enough to be written at once."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.length = len(octets)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._octets)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Nothing more comes."""

    def resumeProducing(self) -> None:
        """Nothing more comes."""

    def stopProducing(self) -> None:
        """Nothing more comes."""


async def _whole(response: Any) -> bytes:
    """The octets of an answer. Raises `ValueError` for one that is too long, or that breaks off."""
    listener = _Listener()
    response.deliverBody(listener)
    return await listener.all


class _Listener(Protocol):
    def __init__(self) -> None:
        self.all: Deferred[bytes] = Deferred(lambda _: self._enough())
        self._heard = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._heard += data
        if len(self._heard) > _MOST:
            self._enough()

    def _enough(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.all.called:
            return
        if reason.check(ResponseDone) and len(self._heard) <= _MOST:
            self.all.callback(bytes(self._heard))
        else:
            self.all.errback(ValueError("the answer breaks off, or is too long"))
