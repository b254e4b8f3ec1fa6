"""
The page of numbers that Prometheus reads (`relay.control.metrics`), over HTTP.

It is not prometheus_client's own resource, which collects in a thread: what is said here is asked of the spool and of
other processes, which is waited for. One round of questions is asked at a time, however many people look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, Final

from prometheus_client.exposition import choose_encoder
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.protocols.policies import ThrottlingFactory
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from relay.config.addresses import ListenAddress, is_local
from relay.control.api import Asked, Desk, QuietSite, Refused, as_refused
from relay.control.metrics import Numbers
from relay.net.listen import listen
from relay.net.together import together

_PATH: Final = b"/metrics"
#: Readers that are connected at the same time; and seconds for which one may say nothing.
_READERS: Final = 50
_IDLE: Final = 30
_TEXT: Final = "text/plain; charset=utf-8"

_log = Logger(namespace="relay.control")


def open_page(reactor: Any, address: ListenAddress, desk: Callable[[], Desk], hostname: str) -> Any:
    """
    Have the page at this address answered, of what this desk says, from now on; the port. Raises as
    `relay.net.listen.listen` does.
    """
    hosts = frozenset({"localhost", hostname}) if is_local(address) else None
    site = QuietSite(MetricsPage(desk, hosts), timeout=_IDLE)  # type: ignore[no-untyped-call]
    site.noisy = site.displayTracebacks = False
    bounded = ThrottlingFactory(site, maxConnectionCount=_READERS)
    bounded.noisy = False
    port = listen(reactor, address, bounded, backlog=_READERS)
    port.startReading()
    return port


class MetricsPage(Resource):
    """
    `/metrics`. `hosts` are the names by which it may be asked for, beside addresses; `None`: any. Where it is for this
    machine alone, a page from elsewhere that a browser here shows may not read it by a name of its own.
    """

    isLeaf = True

    def __init__(self, desk: Callable[[], Desk], hosts: frozenset[str] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._desk = desk
        self._hosts = hosts
        #: Who waits for the round that is under way.
        self._waiting: list[Deferred[Numbers]] | None = None

    def render_GET(self, request: Any) -> bytes | int:
        if request.path != _PATH:
            return _plain(request, 404, "there is only /metrics")
        if not self._known(request.getRequestHostname()):
            return _plain(request, 403, "this is for this machine: say its address")
        Deferred.fromCoroutine(self._tell(request, request.notifyFinish()))
        return NOT_DONE_YET

    async def _tell(self, request: Any, finished: Deferred[None]) -> None:
        gone: list[Failure] = []
        finished.addErrback(gone.append)
        try:
            numbers = await self._numbers()
            encode, kind = choose_encoder(request.getHeader("accept") or "")
            status, octets = 200, encode(numbers)
        except Exception as problem:
            refused = as_refused(problem)
            if refused is None:
                _log.failure("The page of numbers cannot be made")
            sentence = "the relay could not answer; its log says why" if refused is None else refused.sentence
            status, kind, octets = 503, _TEXT, f"{sentence}\n".encode()
        if not gone:
            request.setResponseCode(status)
            request.setHeader("content-type", kind)
            request.setHeader("content-length", str(len(octets)))
            request.write(octets)
            request.finish()

    async def _numbers(self) -> Numbers:
        """What comes of the round that is under way, or of one that begins now."""
        if self._waiting is not None:
            waiting: Deferred[Numbers] = Deferred()
            self._waiting.append(waiting)
            return await waiting
        self._waiting = []
        try:
            numbers = await asked(self._desk())
        except Exception:
            for one in self._over():
                one.errback()
            raise
        for one in self._over():
            one.callback(numbers)
        return numbers

    def _over(self) -> list[Deferred[Numbers]]:
        waiting, self._waiting = self._waiting or [], None
        return waiting

    def _known(self, host: bytes) -> bool:
        name = host.decode("ascii", "replace").lower()
        if self._hosts is None or name in self._hosts:
            return True
        try:
            ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


async def asked(desk: Desk) -> Numbers:
    """The numbers, as this desk has them now. Raises `Refused`."""
    status, destinations = await together((desk.questions["status"](Asked({})), _destinations(desk)))
    return Numbers(status, destinations.get("destinations"))


async def _destinations(desk: Desk) -> Mapping[str, Any]:
    try:
        return await desk.questions["dest"](Asked({}))
    except Refused:
        return {}


def _plain(request: Any, status: int, sentence: str) -> bytes:
    request.setResponseCode(status)
    request.setHeader("content-type", _TEXT)
    return f"{sentence}\n".encode()
