"""A client whom a proxy introduces, over real sockets."""

from __future__ import annotations

import contextlib
import socket

import pytest

from tests.system.harness import SystemTestCase, configuration

pytestmark = pytest.mark.system


class ProxiedTests(SystemTestCase):
    def test_the_client_that_a_proxy_names_is_the_one_that_is_answered(self) -> None:
        text = configuration().replace('newlines = "lenient"', 'proxy = ["127.0.0.0/8"]')
        relay = self.started(text)
        with socket.create_connection(relay.address(), 30) as proxy, proxy.makefile("rb") as said:
            proxy.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.25 56324 25\r\n")
            self.assertEqual(said.readline()[:4], b"220 ")
            proxy.sendall(b"HELO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<jon@localhost>\r\nDATA\r\n")
            self.assertEqual(said.readline(), b"250 mx.test Hello c [192.0.2.7]\r\n")
            self.assertEqual([said.readline()[:3] for _ in range(3)], [b"250", b"250", b"354"])
            proxy.sendall(b"hello\r\n.\r\nQUIT\r\n")
            self.assertEqual([said.readline()[:3] for _ in range(3)], [b"250", b"221", b""])
        relay.wait_for('"client":"192.0.2.7"')
        with socket.create_connection(relay.address(), 30) as nobody:
            nobody.sendall(b"EHLO c\r\n")
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(nobody.recv(100), b"")
        relay.wait_for("127.0.0.1 was to introduce a client and did not")
        relay.stop()
