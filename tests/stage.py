"""
A relay whose listeners have TLS and users, and clients that speak to it by hand.

The users are in memory (`Users`), and a handshake is a word between friends (`Client.handshake`): what OpenSSL makes of
one is shown elsewhere (`tests/test_tls_twisted.py`). All that comes before and behind it is the relay's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.interfaces import ICredentials
from relay.net.server import SmtpServer
from relay.smtp.scram import ScramKeys
from relay.testing.world import MailWorld

#: Somebody whom nobody trusts, and somebody at home.
STRANGER: Final = "198.51.100.9"
FRIEND: Final = "127.0.0.1"
#: Whoever connects by a Unix socket.
LOCAL: Final = "local"
#: The users, and their passwords.
PASSWORDS: Final[Mapping[str, str]] = {"ann": "pencil", "bob": "p\u00e4ssword"}


@implementer(ICredentials)
class Users:
    """Knows everybody in `PASSWORDS`; `problem` is raised instead, and `waiting` waited for, if they are there."""

    scram = True
    secret = b"s" * 32

    def __init__(self, passwords: Mapping[str, str] = PASSWORDS) -> None:
        self._passwords = passwords
        self.problem: Exception | None = None
        self.waiting: Deferred[None] | None = None
        self.asked = 0

    async def check_password(self, user: str, password: str) -> str | None:
        await self._think()
        return user if self._passwords.get(user) == password else None

    async def scram_keys(self, user: str) -> ScramKeys | None:
        await self._think()
        password = self._passwords.get(user)
        return None if password is None else ScramKeys.of(password, b"salt" * 4, 4096)

    async def _think(self) -> None:
        self.asked += 1
        if self.waiting is not None:
            await self.waiting
        if self.problem is not None:
            raise self.problem


class StagedWorld(MailWorld):
    """
    A world whose relay has TLS wherever the configuration asks for it, and these users.

    `tls` is what starts it, by the names of listeners; what stands there otherwise only `Client` can shake hands with.
    """

    def __init__(
        self, configuration: str, users: Users | None = None, tls: Mapping[str, Any] | None = None, **kw: Any
    ) -> None:
        self.users = users or Users()
        started = tls or {}
        super().__init__(configuration, tls=lambda name: started.get(name, object()), credentials=self.users, **kw)

    def meet(self, client: str = STRANGER, listener: str | int = 0) -> Client:
        """A client at this address connects to a listener, and has its handshake if one is due at once."""
        [found] = (
            [self.relay.listeners[listener]]
            if isinstance(listener, int)
            else [each for each in self.relay.listeners if each.settings.name == listener]
        )
        return Client(found.factory, client)


class Encrypted:
    """What a handshake has led to, as `relay.net.tls` and `relay.net.channel_binding` ask about it."""

    def get_protocol_version_name(self) -> str:
        return "TLSv1.3"

    def get_protocol_version(self) -> int:
        return int(SSL.TLS1_3_VERSION)

    def get_cipher_name(self) -> str:
        return "TLS_AES_256_GCM_SHA384"

    def get_cipher_bits(self) -> int:
        return 256

    def export_keying_material(self, label: bytes, octets: int, context: bytes | None = None) -> bytes:
        return b"k" * octets

    def get_certificate(self, *, as_cryptography: bool = False) -> None:
        return None


class Wire(StringTransport):
    """A transport that can start TLS."""

    def __init__(self, peer: Any) -> None:
        super().__init__(peerAddress=peer)
        #: A handshake is due.
        self.shaking = False
        self.aborted = False
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        super().write(data)
        self.writes.append(data)

    def startTLS(self, creator: object) -> None:
        self.shaking = True

    def getHandle(self) -> Encrypted:
        return Encrypted()

    def abortConnection(self) -> None:
        super().abortConnection()
        self.aborted = True


class Client:
    """A client's side of a session, by hand."""

    def __init__(self, factory: Any, address: str = STRANGER, port: int = 40000) -> None:
        kind = IPv6Address if ":" in address else IPv4Address
        peer = UNIXAddress(None) if address == LOCAL else kind("TCP", address, port)
        self.wire = Wire(peer)
        server = factory.buildProtocol(peer)
        assert isinstance(server, SmtpServer)
        self.server = server
        #: Every line that was heard.
        self.heard: list[str] = []
        self.server.makeConnection(self.wire)  # type: ignore[no-untyped-call]
        if self.wire.shaking:
            self.handshake()
        self.greeting = self.replies()

    @property
    def closed(self) -> bool:
        return bool(self.wire.disconnecting)

    def handshake(self) -> None:
        """Shake hands, now that both have agreed to."""
        assert self.wire.shaking, "no handshake is due"
        self.wire.shaking = False
        self.server.handshakeCompleted()

    def say(self, line: str) -> list[str]:
        """Send one line, with CRLF; returns the lines of what can be heard by now."""
        self.send(line.encode() + b"\r\n")
        return self.replies()

    def codes(self, *lines: str) -> list[int]:
        """Say these lines all at once; returns the codes of the replies that can be heard by now."""
        self.send(b"".join(line.encode() + b"\r\n" for line in lines))
        return [int(line[:3]) for line in self.replies() if line[3:4] != "-"]

    def send(self, octets: bytes) -> None:
        """Send these octets."""
        self.server.dataReceived(octets)

    def replies(self) -> list[str]:
        """The lines that were heard since the last look."""
        lines: list[str] = self.wire.value().decode("ascii").split("\r\n")[:-1]
        self.wire.clear()
        self.heard += lines
        return lines

    def offers(self, hello: str = "EHLO client.test") -> dict[str, str]:
        """Say this, and learn what is offered: keywords, and what stands behind each."""
        first, *lines = self.say(hello)
        assert first.startswith("250"), first
        return {word: rest for word, _, rest in (line[4:].partition(" ") for line in lines)}

    def hang_up(self) -> None:
        """Close the connection, without a word."""
        self.server.connectionLost(Failure(ConnectionError("the client has hung up")))
