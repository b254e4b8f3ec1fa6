"""Who has connected to a Unix socket."""

from __future__ import annotations

import os
import pwd
import socket

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from relay.net.peer_user import user_at


class Transport:
    """A connection, as a transport of Twisted's has it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def getHandle(self) -> socket.socket:
        return self._connection


class PeerUserTests(SynchronousTestCase):
    def pair(self) -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for one in pair:
            self.addCleanup(one.close)
        return pair

    def test_it_is_whoever_has_connected(self) -> None:
        self.patch(pwd, "getpwuid", lambda uid: pwd.struct_passwd((f"user {uid}", "x", uid, 0, "", "/", "/")))
        self.assertEqual(user_at(Transport(self.pair()[0])), f"user {os.getuid()}")

    def test_a_user_without_a_name_has_a_number(self) -> None:
        def nobody(uid: int) -> None:
            raise KeyError(uid)

        self.patch(pwd, "getpwuid", nobody)
        self.assertEqual(user_at(Transport(self.pair()[0])), f"uid-{os.getuid()}")

    def test_where_nobody_knows_nobody_is_named(self) -> None:
        here, _ = self.pair()
        here.close()
        tcp = socket.socket()
        self.addCleanup(tcp.close)
        for transport in (Transport(here), Transport(tcp), StringTransport()):
            self.assertIsNone(user_at(transport))
