"""
A server that does nothing but to shake hands, as Twisted does it by itself: what ours is compared with.

    python -m bench.plain_tls [--ours] CERTIFICATE PORT_OF_STARTTLS PORT_OF_IMPLICIT_TLS

The certificate's file has its key in it, too. With `--ours` the TLS is that of our listeners, and the rest is the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, cast

from relay.net.reactor import install_monotonic_reactor

reactor = install_monotonic_reactor()

from twisted.internet.interfaces import IOpenSSLServerConnectionCreator  # noqa: E402
from twisted.internet.protocol import Factory  # noqa: E402
from twisted.internet.ssl import CertificateOptions, PrivateCertificate, TLSVersion  # noqa: E402
from twisted.protocols.basic import LineOnlyReceiver  # noqa: E402

from relay.net.clock import ReactorClock  # noqa: E402
from relay.net.tls_server import Certificates  # noqa: E402


class Greeter(LineOnlyReceiver):
    """Says 220, and knows EHLO and STARTTLS."""

    def __init__(self, options: IOpenSSLServerConnectionCreator) -> None:
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


def _twisted(file: Path) -> IOpenSSLServerConnectionCreator:
    own = PrivateCertificate.loadPEM(file.read_bytes())
    options = CertificateOptions(
        privateKey=own.privateKey.original, certificate=own.original, raiseMinimumTo=TLSVersion.TLSv1_2
    )
    return cast(IOpenSSLServerConnectionCreator, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", action="store_true")
    parser.add_argument("certificate", type=Path)
    parser.add_argument("starttls", type=int)
    parser.add_argument("implicit", type=int)
    said = parser.parse_args()
    if said.ours:
        options = cast(
            IOpenSSLServerConnectionCreator, Certificates([said.certificate], ReactorClock(reactor)).for_listener()
        )
    else:
        options = _twisted(said.certificate)
    factory = Factory.forProtocol(lambda: Greeter(options))
    factory.noisy = False
    reactor.listenTCP(said.starttls, factory, backlog=1024, interface="127.0.0.1")
    reactor.listenSSL(said.implicit, factory, options, backlog=1024, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main()
