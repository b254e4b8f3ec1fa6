"""A DNS server of a test's own: `relay.testing.nameserver` on a real socket, in a thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping

from relay.testing.dns import Names, Records
from relay.testing.nameserver import NameServer


class DnsThread:
    """Answers over UDP what `names` says, on a port of 127.0.0.1, until it is closed."""

    def __init__(self, names: Names | Mapping[str, Records]) -> None:
        self._server = NameServer(names)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        #: As it stands in a configuration.
        self.address = "{}:{}".format(*self._socket.getsockname())
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def asked(self) -> list[tuple[str, str]]:
        return self._server.asked

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(65536)
            if not query:
                return
            self._socket.sendto(self._server.reply(query), client)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


def unused(host: str) -> int:
    """A port of `host` on which nobody listens now. Where nobody else uses this address it stays so."""
    with socket.create_server((host, 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
