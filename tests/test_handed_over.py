"""Sockets that systemd has opened: who takes which, and whose they stay."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.python.systemd import ListenFDs
from twisted.trial.unittest import SynchronousTestCase

from relay.config.addresses import Systemd
from relay.net import listen as listen_module
from relay.net.listen import NoSuchSocket, listen
from relay.net.reactor import RelayReactor
from tests.real_reactor import RealReactor


class Counting(Factory):
    noisy = False

    def __init__(self) -> None:
        self.served = 0

    def buildProtocol(self, addr: Any) -> Protocol:
        self.served += 1
        return Protocol()


class HandedOverTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.real = RealReactor(RelayReactor)
        self.addCleanup(self.real.close)
        self.path = Path(folder.name) / "lmtp.sock"
        self.factory = Counting()

    def opened(self, family: socket.AddressFamily, where: Any, kind: socket.SocketKind = socket.SOCK_STREAM) -> Any:
        """As systemd does it: blocking, and every program that is started may have it."""
        made = socket.socket(family, kind)
        self.addCleanup(made.close)
        made.bind(where)
        if kind == socket.SOCK_STREAM:
            made.listen(5)
        made.set_inheritable(True)
        return made

    def hand_over(self, **sockets: socket.socket) -> None:
        given = ListenFDs([each.fileno() for each in sockets.values()], list(sockets))
        self.patch(listen_module, "_HANDED_OVER", given)

    def taken(self, name: str) -> Any:
        return listen(self.real.reactor, Systemd(name), self.factory, backlog=5)

    def connect(self, family: socket.AddressFamily, where: Any) -> None:
        client = socket.socket(family)
        self.addCleanup(client.close)
        client.settimeout(10)
        client.connect(where)

    def test_each_listener_takes_its_own_by_its_name(self) -> None:
        one, other = (self.opened(socket.AF_INET, ("127.0.0.1", 0)) for _ in range(2))
        self.hand_over(smtp=one, submission=other)
        for name, handed in (("submission", other), ("smtp", one)):
            self.assertEqual(self.taken(name).getHost().port, handed.getsockname()[1])

    def test_who_waits_for_a_client_does_not_keep_the_reactor_waiting(self) -> None:
        handed = self.opened(socket.AF_INET, ("127.0.0.1", 0))
        self.hand_over(smtp=handed)
        port = self.taken("smtp")
        self.assertFalse(os.get_blocking(port.fileno()))
        self.connect(socket.AF_INET, handed.getsockname())
        port.startReading()
        self.real.until(lambda: self.factory.served == 1)

    def test_clients_are_kept_for_the_next_who_is_given_the_socket(self) -> None:
        handed = self.opened(socket.AF_INET, ("127.0.0.1", 0))
        self.hand_over(smtp=handed)
        self.real.result(self.taken("smtp").stopListening())
        self.connect(socket.AF_INET, handed.getsockname())
        self.assertEqual(self.taken("smtp").getHost().port, handed.getsockname()[1])

    def test_a_unix_socket_keeps_its_mode_and_its_name(self) -> None:
        handed = self.opened(socket.AF_UNIX, str(self.path))
        self.path.chmod(0o600)
        self.hand_over(lmtp=handed)
        port = self.taken("lmtp")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(port.getHost().name, os.fsencode(self.path))
        self.real.result(port.stopListening())
        self.connect(socket.AF_UNIX, str(self.path))

    def test_programs_that_are_started_do_not_get_it(self) -> None:
        handed = self.opened(socket.AF_INET, ("127.0.0.1", 0))
        self.hand_over(smtp=handed)
        port = self.taken("smtp")
        self.assertFalse(handed.get_inheritable() or os.get_inheritable(port.fileno()))

    def test_a_name_that_is_not_there_is_told_with_those_that_are(self) -> None:
        self.hand_over(
            smtp=self.opened(socket.AF_INET, ("127.0.0.1", 0)), lmtp=self.opened(socket.AF_UNIX, str(self.path))
        )
        refusal = self.assertRaises(NoSuchSocket, self.taken, "submission")
        self.assertEqual(str(refusal), "systemd has handed over no socket called 'submission' (there is lmtp, smtp)")

    def test_a_socket_to_which_nobody_can_connect_is_refused(self) -> None:
        here = socket.socket()
        self.addCleanup(here.close)
        self.hand_over(smtp=here, datagrams=self.opened(socket.AF_INET, ("127.0.0.1", 0), socket.SOCK_DGRAM))
        for name in ("smtp", "datagrams"):
            refusal = self.assertRaises(NoSuchSocket, self.taken, name)
            self.assertIn(f"nobody can connect to the socket '{name}'", str(refusal))
