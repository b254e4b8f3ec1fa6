"""
twisted.mail's ESMTP, which reads messages line by line to their end and forgets them.

    python -m bench.peers.twisted_mail_server PORT [CERTIFICATE]

With a certificate (and its key in the same file) it offers STARTTLS. It imports nothing of ours, so that its memory is
its own.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from twisted.internet import defer, protocol, reactor
from twisted.internet.ssl import CertificateOptions, PrivateCertificate, TLSVersion
from twisted.mail import smtp
from zope.interface import implementer


@implementer(smtp.IMessage)
class Nowhere:
    """A message that goes there."""

    def lineReceived(self, line: bytes) -> None:
        """It is forgotten at once."""

    def eomReceived(self) -> Any:
        return defer.succeed(None)

    def connectionLost(self) -> None:
        """There was nothing to keep."""


@implementer(smtp.IMessageDelivery)
class Anybody:
    """May send to anybody."""

    def receivedHeader(self, helo: Any, origin: Any, recipients: Any) -> bytes:
        return b"Received: by twisted.test"

    def validateFrom(self, helo: Any, origin: Any) -> Any:
        return origin

    def validateTo(self, user: Any) -> Any:
        return Nowhere


class Factory(protocol.ServerFactory):
    """Makes a session for each connection."""

    noisy = False

    def __init__(self, tls: CertificateOptions | None) -> None:
        self._tls = tls
        self._delivery = Anybody()

    def buildProtocol(self, addr: Any) -> Any:
        server: Any = smtp.ESMTP(contextFactory=self._tls)
        server.factory = self
        server.host = b"twisted.test"
        server.delivery = self._delivery
        return server


def offered(certificate: Path) -> CertificateOptions:
    """Twisted's own TLS with it."""
    own = PrivateCertificate.loadPEM(certificate.read_bytes())
    return CertificateOptions(
        privateKey=own.privateKey.original, certificate=own.original, raiseMinimumTo=TLSVersion.TLSv1_2
    )


def serve(port: int, certificate: Path | None) -> None:
    """Until it is ended by a signal."""
    running: Any = reactor
    factory = Factory(offered(certificate) if certificate is not None else None)
    running.listenTCP(port, factory, backlog=1024, interface="127.0.0.1")
    running.run()


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2:] else None)
