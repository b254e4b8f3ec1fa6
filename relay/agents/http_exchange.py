"""One request and its answer: from connecting to the status, and what is known if it ends before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from attrs import frozen
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionRefusedError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import RequestTransmissionFailed, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent as IWebAgent
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from relay.interfaces import IClock
from relay.mail.outcome import Breakage, Broke, Peer, Phase, TlsTrouble, Unencrypted
from relay.net.clock import cancel
from relay.net.http_way import Way
from relay.net.tls_client import PeerTls

#: How much of what stands behind a status is read, and for how long.
_MOST: Final = 4096
_SECONDS: Final = 10.0


@frozen
class Answered:
    """The server has answered."""

    status: int
    phrase: bytes
    #: The beginning of what stands behind it.
    said: bytes
    #: It was given all of the message before.
    whole: bool


class Overdue(Exception):
    """No answer in time."""


@implementer(IBodyProducer)
class Message:
    """The message as the body of a request, read as fast as the connection takes it."""

    def __init__(self, blocks: Iterator[bytes], length: int) -> None:
        self.length = length
        #: There is a connection on which the request was begun.
        self.began = False
        #: All of it was given to the connection.
        self.sent = False
        #: Called if it cannot be read. (twisted.web is not told: it would end the request in good order.)
        self.unreadable: Callable[[Failure], None] = lambda failure: None
        self._blocks = blocks
        self._consumer: Any = None
        self._finished: Deferred[None] = Deferred(lambda _: self.stopProducing())
        self._going = False

    def startProducing(self, consumer: Any) -> Deferred[None]:
        self.began = True
        self._consumer = consumer
        self.resumeProducing()
        return self._finished

    def resumeProducing(self) -> None:
        self._going = True
        while self._going and self._consumer is not None:
            try:
                block = next(self._blocks, None)
            except Exception:
                self.stopProducing()
                self.unreadable(Failure())
                return
            if block is None:
                self.sent = True
                self._consumer = None
                self._finished.callback(None)
            else:
                self._consumer.write(block)

    def pauseProducing(self) -> None:
        self._going = False

    def stopProducing(self) -> None:
        self._going = False
        self._consumer = None


class Exchange:
    """
    `finished` has what the server has answered, or the exception that has ended it before; to cancel it is to break the
    connection off. A status that is known is never forgotten, whatever else happens.
    """

    def __init__(self, clock: IClock, way: Way, message: Message) -> None:
        self.finished: Deferred[Answered] = Deferred(lambda _: self._fail(Failure(CancelledError())))
        self._clock = clock
        self._way = way
        self._message = message
        message.unreadable = self._fail
        self._asking: Deferred[None] | None = None
        self._said: _Said | None = None
        self._timer: Any = None

    def begin(self, web: IWebAgent, url: bytes, headers: Headers, timeout: float) -> None:
        self._timer = self._clock.callLater(timeout, self._fail, Failure(Overdue("no answer in time")))
        self._asking = Deferred.fromCoroutine(self._ask(web, url, headers))
        self._asking.addErrback(self._fail)

    async def _ask(self, web: IWebAgent, url: bytes, headers: Headers) -> None:
        response: Any = await web.request(b"POST", url, headers, self._message)
        self._said = _Said(self._clock)
        response.deliverBody(self._said)
        said = await self._said.enough
        self._settle(Answered(response.code, response.phrase, said, self._message.sent))

    def _fail(self, failure: Failure) -> None:
        if self._said is not None:
            self._said.that_is_enough()
        self._settle(failure)

    def _settle(self, result: Answered | Failure) -> None:
        if not self.finished.called:
            self.finished.callback(result)
        cancel(self._timer)
        # Nobody listens any more. A connection is broken off, so that no part of a message passes for the whole of it.
        if not self._way.close() and self._asking is not None:
            self._asking.cancel()


class _Said(Protocol):
    """The beginning of a body, in `enough` when there is enough of it, or will be no more."""

    def __init__(self, clock: IClock) -> None:
        self.enough: Deferred[bytes] = Deferred()
        self._octets = bytearray()
        self._timer = clock.callLater(_SECONDS, self.that_is_enough)

    def dataReceived(self, data: bytes) -> None:
        self._octets += data[: _MOST - len(self._octets)]
        if len(self._octets) >= _MOST:
            self.that_is_enough()

    def connectionLost(self, reason: Any = None) -> None:
        self.that_is_enough()

    def that_is_enough(self) -> None:
        cancel(self._timer)
        if not self.enough.called:
            self.enough.callback(bytes(self._octets))


def broken(error: Exception, peer: Peer, message: Message, tls: PeerTls | None) -> Broke | Unencrypted:
    """The fact that an exception of an exchange is. Raises it where it is no trouble with the server."""
    causes = list(_causes(error))
    said = str(causes[-1]) or type(causes[-1]).__name__
    if tls is not None and any(isinstance(cause, SSL.Error) for cause in causes):
        return Unencrypted(TlsTrouble.FAILED, peer, tls.why(causes[-1]))
    if not isinstance(error, Overdue | ResponseFailed | RequestTransmissionFailed | ConnectError):
        raise error
    if not message.began:
        return Broke(_breakage(causes), Phase.CONNECT, peer, said)
    breakage = Breakage.TIMEOUT if isinstance(error, Overdue) else Breakage.LOST
    return Broke(breakage, Phase.END if message.sent else Phase.CONTENT, peer, said)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, and those that twisted.web has wrapped in it."""
    yield error
    for reason in getattr(error, "reasons", ()):
        if isinstance(reason, Failure) and reason.value is not None:
            yield from _causes(reason.value)


def _breakage(causes: list[BaseException]) -> Breakage:
    for cause in causes:
        if isinstance(cause, ConnectionRefusedError):
            return Breakage.REFUSED
        if isinstance(cause, Overdue | ConnectTimeout):
            return Breakage.TIMEOUT
    return Breakage.UNREACHABLE
