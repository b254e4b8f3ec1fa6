"""A connection whose client a proxy introduces: the header is read in a stage of its own, before anything is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from relay.net.timeouts import Deadline, Timers
from relay.smtp.proxy import Announced, Nonsense, ProxyReader

_log = Logger(namespace="relay.net.server")


class Introduction(Protocol):
    """
    Reads the header of the PROXY protocol, and gives the connection to a protocol made for the client it names.

    Nothing is said before: neither banner nor policies ever see the proxy in the client's place. A connection that
    does not begin with a header, or not within `patience` seconds, is cut off without a word.
    """

    def __init__(
        self,
        address: str,
        port: int,
        *,
        timers: Timers,
        patience: float,
        welcome: Callable[[str, int], Protocol],
        gone: Callable[[Introduction], object],
    ) -> None:
        """`address` and `port` are the proxy's own, which hold where it speaks for itself (a health check)."""
        self._address = address
        self._port = port
        self._patience = patience
        self._welcome = welcome
        self._gone = gone
        self._reader = ProxyReader()
        self._deadline = Deadline(timers, self.abort)

    def connectionMade(self) -> None:
        self._deadline.within(self._patience)

    def dataReceived(self, data: bytes) -> None:
        match self._reader.receive_data(data):
            case Announced(address, port, rest):
                self._over()
                client = self._welcome(address or self._address, port if address else self._port)
                transport = cast(Any, self.transport)
                transport.protocol = client
                client.makeConnection(transport)
                if rest:
                    # Not the client's own: TLS may stand between the two by now.
                    transport.protocol.dataReceived(rest)
            case Nonsense(why):
                _log.warn("{address} was to introduce a client and did not: {why}", address=self._address, why=why)
                self.abort()
            case None:
                pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._over()

    def abort(self) -> None:
        """Cut it off."""
        cast(Any, self.transport).abortConnection()

    def _over(self) -> None:
        self._deadline.close()
        self._gone(self)
