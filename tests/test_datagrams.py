"""What is said of a port that nobody answers at."""

from __future__ import annotations

import select
import socket
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from relay.config.addresses import Inet
from relay.net.datagrams import opener


class NoReactor:
    """Reads nothing by itself."""

    def addReader(self, reader: Any) -> None:
        self.reader = reader

    def removeReader(self, reader: Any) -> None:
        pass


class DatagramsTests(SynchronousTestCase):
    def test_where_nobody_listens_that_is_said_with_the_address(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            address = Inet("127.0.0.1", taken.getsockname()[1])
        for told_by in "doRead", "connectionLost":  # which one it is depends on the reactor
            reactor, said = NoReactor(), []
            port = opener(reactor)(address, lambda octets: None, said.append)
            port.send(b"?")
            waiting = select.poll()
            waiting.register(reactor.reader.fileno())
            self.assertNotEqual(waiting.poll(5000), [])
            getattr(reactor.reader, told_by)(*([] if told_by == "doRead" else ["the kernel says so"]))
            port.close()
            self.assertEqual(said, [f"nobody listens at {address}"], told_by)
