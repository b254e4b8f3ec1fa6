"""A listener's connections: who comes in, who is still here, and how they are told to go."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from relay.net.admission import is_within
from relay.net.clock import cancel
from relay.net.doorway import Doorway
from relay.net.proxied import Introduction
from relay.net.server import SmtpServer


class SmtpServerFactory(Factory):
    """A listener's connections."""

    noisy = False

    def __init__(self, doorway: Doorway) -> None:
        self._doorway = doorway
        self.connections: set[SmtpServer] = set()
        #: Connections of proxies that have not said whose they are.
        self._introductions: set[Introduction] = set()
        self._empty: Deferred[None] | None = None

    @property
    def doorway(self) -> Doorway:
        """By which a client comes in now. It may be replaced: who is here already stays as it came."""
        return self._doorway

    @doorway.setter
    def doorway(self, doorway: Doorway) -> None:
        self._doorway = doorway

    def buildProtocol(self, addr: IAddress | None) -> SmtpServer | Introduction | None:
        return self.welcome(getattr(addr, "host", None), getattr(addr, "port", 0))

    def welcome(self, address: str | None, port: int) -> SmtpServer | Introduction | None:
        """
        As `buildProtocol`, for who has the client's address as a text, or knows that there is none (`None`): an
        `IAddress` for each client would be made only to be taken apart here.
        """
        if address is not None and address.startswith("::ffff:"):
            address = address[7:]
        doorway = self._doorway
        if not doorway.proxies or address is None or not is_within(address, doorway.proxies):
            self.connections.add(connection := SmtpServer(doorway, address, port, self._gone))
            return connection
        # Until it is known for whom it is, it counts in all, and for nobody.
        if doorway.admission.enter(None) is not None:
            doorway.admission.leave(None)
            return None
        introduction = Introduction(
            address,
            port,
            timers=doorway.timers,
            patience=doorway.limits.idle_stressed,
            welcome=self._let_in,
            gone=self._introduced,
        )
        self._introductions.add(introduction)
        return introduction

    def _introduced(self, introduction: Introduction) -> None:
        if introduction in self._introductions:
            self._introductions.discard(introduction)
            self._doorway.admission.leave(None)

    def _let_in(self, address: str | None, port: int) -> SmtpServer:
        connection = SmtpServer(self._doorway, address, port, self._gone)
        self.connections.add(connection)
        return connection

    async def stop(self, patience: float) -> None:
        """
        Finish what is in flight, say 421 to everybody, and return when all have gone; who is still here after
        `patience` seconds is cut off. The port does not listen any more by then.
        """
        for introduction in list(self._introductions):
            introduction.abort()
        if not self.connections:
            return
        self._empty = empty = Deferred[None]()
        for connection in list(self.connections):
            connection.stop()
        cut_off = self._doorway.clock.callLater(patience, self._abort_all)
        await empty
        cancel(cut_off)

    def _abort_all(self) -> None:
        for connection in list(self.connections):
            connection.abort()

    def _gone(self, connection: SmtpServer) -> None:
        self.connections.discard(connection)
        if self._empty is not None and not self.connections:
            empty, self._empty = self._empty, None
            empty.callback(None)
