"""Asking servers by HTTP: `relay.interfaces.IHttp`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from typing import Any, Final, cast
from urllib.parse import urldefrag, urljoin

from attrs import evolve, field, frozen
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, TimeoutError, succeed
from twisted.internet.error import ConnectError, ConnectionRefusedError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import Agent, RequestTransmissionFailed, ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from relay import __version__
from relay.interfaces import HttpAnswer, HttpTrouble, IClock, IHttp, IResolver
from relay.mail.address import AddressError, canonical_domain
from relay.mail.answer import Found, Unanswered
from relay.mail.outcome import Peer
from relay.net.http_way import Way
from relay.net.tls_client import PeerTls
from relay.net.tls_peers import TlsPeers
from relay.net.urls import Url

#: Requests that are under way at once. Others wait, while their time runs.
AT_ONCE: Final = 20
REDIRECTS: Final = 3

_REDIRECTING: Final = frozenset({301, 302, 303, 307, 308})
#: RFC 9110 section 15.4: with these the request stays what it was. With others it becomes a GET, as browsers have it.
_AS_IT_WAS: Final = frozenset({307, 308})

#: Seconds that one address gets to take the connection, before the next one has its chance.
_CONNECT: Final = 3.0
#: Octets of a header section.
_HEAD: Final = 64 * 1024

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_METHOD: Final = re.compile(r"[A-Z]{1,20}\Z")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")
#: Those that say how the connection is used are not the caller's to say.
_OURS: Final = frozenset({"host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer"})


@frozen
class _Request:
    method: str
    url: Url
    headers: tuple[tuple[str, str], ...]
    body: bytes
    #: Octets of the answer's body.
    most: int
    #: It is where a server has sent us, and not where the caller wanted to go.
    led: bool = field(default=False)


@implementer(IHttp)
class Fetching:
    """
    One connection for each request, by IPv4 if the host has it: of the two it is the one that rarely hangs where it
    does not work, and there is no time to try both.
    """

    def __init__(
        self,
        reactor: Any,
        clock: IClock,
        resolver: IResolver,
        permits: Callable[[str], bool],
        *,
        at_once: int = AT_ONCE,
        tls: TlsPeers | None = None,
    ) -> None:
        """`permits` knows to which addresses a redirect may lead. `tls`: by the system's authorities, if not given."""
        self._reactor = reactor
        self._clock = clock
        self._resolver = resolver
        self._permits = permits
        self._tls = tls or TlsPeers(clock)
        self._slots = DeferredSemaphore(at_once)

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
        request = _checked(method, url, tuple(headers), body, most)
        asking = Deferred.fromCoroutine(self._in_turn(request))
        asking.addTimeout(timeout, cast(Any, self._clock))
        try:
            return await asking
        except TimeoutError:
            raise HttpTrouble("too late", f"{request.url.host}: no answer within {timeout:g} s") from None

    async def _in_turn(self, request: _Request) -> HttpAnswer:
        await self._slots.acquire()
        try:
            return await self._follow(request)
        finally:
            self._slots.release()

    async def _follow(self, request: _Request) -> HttpAnswer:
        first = request.url
        #: What was looked up is not looked up again: the second answer might be another one.
        known: dict[str, tuple[str, ...]] = {}
        for _ in range(REDIRECTS + 1):
            host = request.url.host
            if host not in known:
                known[host] = await self._addresses(host)
            addresses = known[host]
            if request.led and _origin(request.url) != _origin(first):
                addresses = tuple(filter(self._permits, addresses))
                if not addresses:
                    raise HttpTrouble("not permitted", f"{first.host} leads to {host}, which is not public")
            answer = await self._ask(request, addresses)
            to = answer.header("location") if answer.status in _REDIRECTING else None
            if to is None:
                return answer
            request = _redirected(request, answer.status, to)
        raise HttpTrouble("not permitted", f"{first.host} leads on and on")

    async def _addresses(self, host: str) -> tuple[str, ...]:
        try:
            return (str(ip_address(host)),)
        except ValueError:
            pass
        try:
            name = canonical_domain(host)
        except AddressError:
            raise HttpTrouble("refused", f"{host} is no name of a host") from None
        why = "has no address"
        for kind in ("A", "AAAA"):
            answer = await self._resolver.look_up(name, kind)
            if isinstance(answer, Found):
                return tuple(map(str, answer.records))
            if isinstance(answer, Unanswered):
                why = f"cannot be looked up: {answer.why}"
        raise HttpTrouble("refused", f"{host} {why}")

    async def _ask(self, request: _Request, addresses: tuple[str, ...]) -> HttpAnswer:
        """Raises what the last address has raised, if none of them takes the connection."""
        *others, last = addresses
        for address in others:
            try:
                return await self._exchange(request, address)
            except HttpTrouble as trouble:
                if trouble.kind != "refused":
                    raise
        return await self._exchange(request, last)

    async def _exchange(self, request: _Request, address: str) -> HttpAnswer:
        url = request.url
        tls = self._tls.toward("verify", Peer(url.host, address, url.port)) if url.secure else None
        # A chunk of one octet takes six (RFC 9112 section 7.1).
        way = Way(self._reactor, address, url.port, tls, timeout=_CONNECT, most=_HEAD + 6 * request.most)
        agent = Agent.usingEndpointFactory(self._reactor, way)
        body = _Sent(request.body) if request.body else None
        try:
            response: Any = await agent.request(request.method.encode(), url.text.encode(), _fields(request), body)
            if isinstance(response.length, int) and response.length > request.most and request.method != "HEAD":
                raise _too_long(request)
            taken = _Taken(request.most)
            response.deliverBody(taken)
            octets = await taken.whole
        except (ConnectError, ResponseFailed, RequestTransmissionFailed) as error:
            if any(isinstance(cause, CancelledError) for cause in _causes(error)):
                raise CancelledError from error  # twisted.web has wrapped it: we did that ourselves
            raise _too_long(request) if way.exceeded else _trouble(error, url.host, tls) from error
        finally:
            way.close()
        if octets is None:
            raise _too_long(request)
        return HttpAnswer(response.code, tuple(_lines(response.headers)), octets)


def _checked(method: str, url: str, headers: tuple[tuple[str, str], ...], body: bytes, most: int) -> _Request:
    """Raises `ValueError`."""
    if not _METHOD.match(method) or method == "CONNECT":
        raise ValueError(f"{method!r} is no method of a request")
    for name, value in headers:
        if not _TOKEN.match(name) or name.lower() in _OURS:
            raise ValueError(f"{name!r} is no field that a request may have")
        if not _VALUE.match(value):
            raise ValueError(f"the field {name} has more than one line, or is not Latin-1")
    return _Request(method, Url.of(urldefrag(url).url, plain=True), headers, body, most)


def _redirected(request: _Request, status: int, to: str) -> _Request:
    """Raises `HttpTrouble`."""
    here = request.url
    try:
        there = Url.of(urldefrag(urljoin(here.text, to)).url, plain=True)
    except ValueError as error:
        raise HttpTrouble("not permitted", f"{here.host} leads to what is no URL to go to: {error}") from None
    if here.secure and not there.secure:
        raise HttpTrouble("not permitted", f"{here.host} leads from https to http")
    if status not in _AS_IT_WAS and request.method != "HEAD":
        request = evolve(request, method="GET", body=b"")
    if _origin(there) != _origin(here):
        # Keys and what is asked about are for those who were asked.
        request = evolve(request, headers=(), body=b"")
    return evolve(request, url=there, led=True)


def _origin(url: Url) -> tuple[bool, str, int]:
    return url.secure, url.host, url.port


def _fields(request: _Request) -> Headers:
    fields = Headers({"User-Agent": [f"relay/{__version__}"]})
    for name in {name.lower() for name, _ in request.headers}:
        values = [value.encode("latin-1") for key, value in request.headers if key.lower() == name]
        fields.setRawHeaders(name.encode(), values)
    return fields


def _lines(headers: Headers) -> Iterator[tuple[str, str]]:
    for name, values in headers.getAllRawHeaders():
        for value in values:
            yield name.decode("latin-1").lower(), value.decode("latin-1")


@implementer(IBodyProducer)
class _Sent:
    """The body of a request, which is in memory anyway."""

    def __init__(self, octets: bytes) -> None:
        self.length = len(octets)
        self._octets = octets

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._octets)
        return succeed(None)

    def pauseProducing(self) -> None:
        """There is nothing to pause."""

    def resumeProducing(self) -> None:
        """There is nothing to go on with."""

    def stopProducing(self) -> None:
        """There is nothing to stop."""


class _Taken(Protocol):
    """The body of an answer, in `whole` when it is there; `None` as soon as it is longer than `most`."""

    def __init__(self, most: int) -> None:
        self.whole: Deferred[bytes | None] = Deferred()
        self._most = most
        self._octets = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._octets += data
        if len(self._octets) > self._most and not self.whole.called:
            self.whole.callback(None)

    def connectionLost(self, reason: Failure | None = None) -> None:
        if reason is None or self.whole.called:
            return
        # What has no length ends with its connection (RFC 9112 section 6.3): nobody can say more about it.
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(bytes(self._octets))
        else:
            self.whole.errback(reason)


def _too_long(request: _Request) -> HttpTrouble:
    return HttpTrouble("too long", f"{request.url.host}: more than {request.most} octets")


def _trouble(error: Exception, host: str, tls: PeerTls | None) -> HttpTrouble:
    causes = list(_causes(error))
    last = causes[-1]
    if tls is not None and any(isinstance(cause, SSL.Error) for cause in causes):
        return HttpTrouble("broken", f"{host}: {tls.why(last)}")
    if isinstance(error, ConnectionRefusedError):
        return HttpTrouble("refused", f"{host}: the connection was refused")
    if isinstance(error, ConnectTimeout):
        return HttpTrouble("refused", f"{host} does not answer")
    if isinstance(error, ConnectError):
        return HttpTrouble("refused", f"{host}: {error}")
    return HttpTrouble("broken", f"{host}: {last or type(last).__name__}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, and those that twisted.web has wrapped in it."""
    yield error
    for reason in getattr(error, "reasons", ()):
        if isinstance(reason, Failure) and reason.value is not None:
            yield from _causes(reason.value)
