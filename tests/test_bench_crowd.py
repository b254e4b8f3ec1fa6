"""The clients of `bench.idle`, at their own end."""

from __future__ import annotations

import select
import socket
from typing import Any

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from bench import crowd
from bench.crowd import Guest


class AtOnce:
    """TLS in which each step has been answered by the time it returns, as on a machine with much else to do."""

    def __init__(self, context: object, plain: object) -> None:
        self.said: list[bytes] = []

    def set_connect_state(self) -> None: ...

    def do_handshake(self) -> None: ...

    def sendall(self, octets: bytes) -> None:
        self.said.append(octets)

    def recv(self, most: int) -> bytes:
        return b"250-mx.test\r\n250 SIZE\r\n"


class GuestTests(SynchronousTestCase):
    def guest(self, tls: Any) -> tuple[Guest, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            guest = Guest(0, listening.getsockname(), tls)
            self.addCleanup(guest.socket.close)
            server, _ = listening.accept()
            self.addCleanup(server.close)
        return guest, server

    def told(self, guest: Guest, server: socket.socket, said: bytes) -> bool:
        server.sendall(said)
        self.assertTrue(select.select([guest.socket], [], [], 10)[0])
        return guest.ready()

    def test_it_has_more_to_hear_until_its_ehlo_was_answered(self) -> None:
        guest, server = self.guest(None)
        self.assertTrue(self.told(guest, server, b"220 mx.test\r\n"))
        self.assertTrue(self.told(guest, server, b"250-mx.test\r\n"))
        self.assertFalse(self.told(guest, server, b"250 SIZE\r\n"))

    def test_who_is_answered_before_the_handshake_returns_waits_for_nothing(self) -> None:
        self.patch(crowd.SSL, "Connection", AtOnce)
        guest, server = self.guest(SSL.Context(SSL.TLS_METHOD))
        self.assertTrue(self.told(guest, server, b"220 mx.test\r\n"))
        self.assertTrue(self.told(guest, server, b"250 STARTTLS\r\n"))
        self.assertFalse(self.told(guest, server, b"220 go on\r\n"))
