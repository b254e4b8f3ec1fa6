"""
A server that does nothing but to shake hands, as Twisted does it by itself: what ours is compared with.

    python -m bench.plain_tls CERTIFICATE PORT_OF_STARTTLS PORT_OF_IMPLICIT_TLS

The certificate's file has its key in it, too.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

from relay.net.reactor import install_monotonic_reactor

reactor = install_monotonic_reactor()

from twisted.internet.protocol import Factory  # noqa: E402
from twisted.internet.ssl import CertificateOptions, PrivateCertificate, TLSVersion  # noqa: E402
from twisted.protocols.basic import LineOnlyReceiver  # noqa: E402


class Greeter(LineOnlyReceiver):
    """Says 220, and knows EHLO and STARTTLS."""

    def __init__(self, options: CertificateOptions) -> None:
        self._options = options

    def connectionMade(self) -> None:
        transport = cast(Any, self.transport)
        transport.setTcpNoDelay(True)
        transport.write(b"220 plain.test\r\n")

    def lineReceived(self, line: bytes) -> None:
        transport = cast(Any, self.transport)
        if line == b"STARTTLS":
            transport.write(b"220 go ahead\r\n")
            transport.startTLS(self._options)
        else:
            transport.write(b"250 STARTTLS\r\n")


def main(certificate: str, starttls: int, implicit: int) -> None:
    own = PrivateCertificate.loadPEM(Path(certificate).read_bytes())
    options = CertificateOptions(
        privateKey=own.privateKey.original, certificate=own.original, raiseMinimumTo=TLSVersion.TLSv1_2
    )
    factory = Factory.forProtocol(lambda: Greeter(options))
    factory.noisy = False
    reactor.listenTCP(starttls, factory, backlog=1024, interface="127.0.0.1")
    reactor.listenSSL(implicit, factory, options, backlog=1024, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
