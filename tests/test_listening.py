"""What is heard of it when the relay begins to listen, and how clients are accepted."""

from __future__ import annotations

import errno
import os
import resource
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import LogEvent, formatEventAsClassicLogText, globalLogPublisher
from twisted.python import log
from twisted.trial.unittest import SynchronousTestCase

from relay.config.addresses import Inet, Unix
from relay.net.listen import inherit, listen, share
from relay.net.reactor import RelayReactor
from relay.net.transports import MOST_ACCEPTED
from tests.real_reactor import RealReactor


class QuietTests(SynchronousTestCase):
    def test_classes_of_ours_are_not_named_in_the_log(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        real = RealReactor(RelayReactor)
        self.addCleanup(real.close)
        events: list[LogEvent] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        for address in (Inet("127.0.0.1", 0), Unix(Path(folder.name) / "control.sock")):
            port = listen(real.reactor, address, Factory(), backlog=5)
            inherit(real.reactor, share(port), Factory(), backlog=5)
        log.msg("what others say")
        said = [formatEventAsClassicLogText(event) for event in events]
        self.assertEqual([text for text in said if text and "starting on" in text], [])
        self.assertIn("what others say", str(said[-1]))


class AcceptingTests(SynchronousTestCase):
    """A real socket, and clients of it."""

    def setUp(self) -> None:
        self.real = RealReactor(RelayReactor)
        self.addCleanup(self.real.close)
        self.met: list[Any] = []
        self.answer: Callable[[Any], Protocol | None] = lambda address: Protocol()
        meet = self.meet

        class Meeting(Factory):
            noisy = False

            def buildProtocol(self, addr: Any) -> Protocol | None:
                return meet(addr)

        self.factory = Meeting()

    def meet(self, address: Any) -> Protocol | None:
        self.met.append(address)
        return self.answer(address)

    def listen(self, host: str = "127.0.0.1", backlog: int = 128) -> Any:
        port = listen(self.real.reactor, Inet(host, 0), self.factory, backlog=backlog)
        port.startReading()
        return port

    def connect(self, port: Any) -> socket.socket:
        client = socket.create_connection((port.getHost().host, port.getHost().port), 10)
        self.addCleanup(client.close)
        return client

    def turn(self) -> None:
        self.real.reactor.doIteration(10)

    def test_all_who_wait_are_accepted_in_one_turn_up_to_a_bound(self) -> None:
        port = self.listen()
        peers = [self.connect(port).getsockname() for _ in range(MOST_ACCEPTED + 2)]
        self.turn()
        self.assertEqual(len(self.met), MOST_ACCEPTED)
        self.turn()
        self.assertEqual(self.met, [IPv4Address("TCP", *peer) for peer in peers])

    def test_where_the_kernel_does_not_say_how_many_wait_there_is_one_at_a_time(self) -> None:
        port = self.listen()
        for answer in (bytes(28), OSError(errno.ENOPROTOOPT, "not here")):
            with patch.object(port, "socket", Odd(port.socket, getsockopt=answer)):
                self.met.clear()
                self.connect(port)
                self.connect(port)
                port.doRead()
                self.assertEqual(len(self.met), 1)
                port.doRead()
                self.assertEqual(len(self.met), 2)

    def test_of_a_link_local_address_the_interface_is_known(self) -> None:
        port = self.listen()
        client, accepted = socket.socketpair()
        self.addCleanup(client.close)
        port._addressType = IPv6Address
        port._begin(accepted, ("fe80::1", 40000, 0, 1))
        self.assertEqual(self.met, [IPv6Address("TCP", f"fe80::1%{socket.if_indextoname(1)}", 40000, 0, 1)])
        other, accepted = socket.socketpair()
        self.addCleanup(other.close)
        port._begin(accepted, ("2001:db8::1", 40000, 0, 0))
        self.assertEqual(self.met[1:], [IPv6Address("TCP", "2001:db8::1", 40000, 0, 0)])

    def test_whom_nobody_wants_is_closed_at_once(self) -> None:
        self.answer = lambda address: None
        client = self.connect(self.listen())
        self.turn()
        self.assertEqual(client.recv(1), b"")

    def test_who_cannot_be_answered_keeps_nobody_else_out(self) -> None:
        def fail(address: Any) -> Protocol:
            raise ZeroDivisionError

        self.answer = fail
        port = self.listen()
        self.connect(port)
        self.turn()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.answer = lambda address: Protocol()
        self.connect(port)
        self.turn()
        self.assertEqual(len(self.met), 2)

    def test_a_client_that_has_gone_before_is_no_trouble(self) -> None:
        port = self.listen()
        self.connect(port)
        gone = Odd(port.socket, _accept=OSError(errno.ECONNABORTED, "gone"))
        with patch.object(port, "socket", gone):
            self.turn()
        self.assertEqual(len(self.met), 1)

    def test_where_descriptors_are_used_up_clients_are_turned_away_and_not_left_waiting(self) -> None:
        port = self.listen()
        client = self.connect(port)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # As many as there are now: the next one would be one too many.
        highest = os.dup(client.fileno())
        os.close(highest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
        try:
            port.doRead()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self.assertEqual(self.met, [])
        self.assertEqual(client.recv(1), b"")


class Odd:
    """A socket of which some methods have answers of their own, the first of which an exception may be."""

    def __init__(self, real: socket.socket, **answers: Any) -> None:
        self._real = real
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        if name not in self._answers:
            return getattr(self._real, name)
        answer = self._answers[name]

        def method(*_: Any) -> Any:
            if not isinstance(answer, OSError):
                return answer
            raise answer

        return method
