"""The short way to a host that speaks first, over real sockets: it comes to what the long way comes to."""

from __future__ import annotations

import gc
import socket
import struct
import threading
import weakref
from collections.abc import Callable
from typing import Any

from twisted.internet import error
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relay.net import dialling
from relay.net.dialling import HearingClient, PromptClient
from relay.net.reactor import PromptReactor, RelayReactor
from tests.real_reactor import RealReactor

#: What a host does with a connection that it has accepted.
Host = Callable[[socket.socket], None]


class Caller(Protocol):
    """Tells what it is told."""

    transport: Any

    def __init__(self) -> None:
        self.story: list[Any] = []
        self.over = False

    def connectionMade(self) -> None:
        self.story.append("connected")

    def dataReceived(self, data: bytes) -> None:
        self.story.append(data)
        if data.endswith(b"bye"):
            self.transport.loseConnection()
        else:
            self.transport.write(b"heard\r\n")

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.over = True
        self.story.append(reason.type)


class Calls(ClientFactory[Caller]):
    noisy = False

    def __init__(self) -> None:
        self.caller = Caller()

    def buildProtocol(self, addr: Any) -> Caller:
        return self.caller

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self.caller.over = True
        self.caller.story.append(("failed", reason.type))


class HearingCalls(Calls):
    def answered(self) -> Caller:
        return self.caller


def greets(peer: socket.socket) -> None:
    peer.sendall(b"220 here\r\n")
    assert peer.recv(100) == b"heard\r\n"
    peer.sendall(b"221 bye")
    assert peer.recv(100) == b""


def greets_and_closes(peer: socket.socket) -> None:
    peer.sendall(b"220 bye")


def greets_and_goes(peer: socket.socket) -> None:
    peer.sendall(b"220 here\r\n")
    peer.recv(100)


def says_nothing(peer: socket.socket) -> None:
    """And closes."""


def resets(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class DiallingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.sockets: list[socket.socket] = []
        self.addCleanup(self.hang_up)

    def hang_up(self) -> None:
        for each in self.sockets:
            each.close()

    def listener(self, host: str = "127.0.0.1", backlog: int = 5) -> socket.socket:
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.sockets.append(listener)
        listener.bind((host, 0))
        listener.listen(backlog)
        listener.settimeout(10)
        return listener

    def call(
        self, real: RealReactor, calls: Calls, port: int, host: str = "127.0.0.1", timeout: float = 10.0, **more: Any
    ) -> Any:
        return real.reactor.connectTCP(host, port, calls, timeout, **more)

    def story(self, kind: Callable[[], Any], calls: Calls, host: Host, address: str = "127.0.0.1") -> list[Any]:
        real, listener = RealReactor(kind), self.listener(address)
        served = self.serve(listener, host)
        self.call(real, calls, listener.getsockname()[1], address)
        real.until(lambda: calls.caller.over)
        served.join()
        real.close()
        return calls.caller.story

    def serve(self, listener: socket.socket, host: Host) -> threading.Thread:
        def accept() -> None:
            with listener.accept()[0] as peer:
                host(peer)

        served = threading.Thread(target=accept)
        served.start()
        return served

    def agree(self, host: Host, address: str = "127.0.0.1") -> list[Any]:
        long = self.story(RelayReactor, Calls(), host, address)
        for kind in (RelayReactor, PromptReactor):
            self.assertEqual(self.story(kind, HearingCalls(), host, address), long)
        return long

    def test_a_greeting(self) -> None:
        self.assertEqual(self.agree(greets), ["connected", b"220 here\r\n", b"221 bye", error.ConnectionDone])

    def test_a_greeting_by_the_newer_protocol(self) -> None:
        try:
            self.listener("::1")
        except OSError:
            return  # this machine has none
        self.assertEqual(self.agree(greets, "::1")[0], "connected")

    def test_a_greeting_that_is_a_farewell(self) -> None:
        self.assertEqual(self.agree(greets_and_closes), ["connected", b"220 bye", error.ConnectionDone])

    def test_who_greets_and_goes(self) -> None:
        self.assertEqual(self.agree(greets_and_goes), ["connected", b"220 here\r\n", error.ConnectionDone])

    def test_who_goes_without_a_word(self) -> None:
        self.assertEqual(self.agree(says_nothing), ["connected", error.ConnectionDone])

    def test_who_throws_us_out(self) -> None:
        # It depends on the moment whether the long way sees that there was a connection.
        story = self.story(RelayReactor, HearingCalls(), resets)
        self.assertEqual(story, ["connected", error.ConnectionLost])

    def failing(
        self, calls: Calls, port: int, host: str = "127.0.0.1", timeout: float = 10.0, **more: Any
    ) -> list[Any]:
        real = RealReactor(RelayReactor)
        try:
            self.call(real, calls, port, host, timeout, **more)
            # Never before whoever connects knows with what.
            self.assertEqual(calls.caller.story, [])
            real.until(lambda: calls.caller.over)
            real.turn()
        finally:
            real.close()
        return calls.caller.story

    def both_fail(self, *args: Any, **more: Any) -> list[Any]:
        long = self.failing(Calls(), *args, **more)
        self.assertEqual(self.failing(HearingCalls(), *args, **more), long)
        return long

    def test_nobody_listens(self) -> None:
        listener = self.listener()
        port = listener.getsockname()[1]
        listener.close()
        self.assertEqual(self.both_fail(port), [("failed", error.ConnectionRefusedError)])

    def test_where_nobody_may_connect(self) -> None:
        # The kernel says so at once.
        self.assertEqual(self.both_fail(25, "255.255.255.255")[0][0], "failed")

    def test_from_an_address_that_is_not_ours(self) -> None:
        port = self.listener().getsockname()[1]
        story = self.both_fail(port, bindAddress=("192.0.2.1", 0))
        self.assertEqual(story, [("failed", error.ConnectBindError)])

    def test_from_an_address_of_ours(self) -> None:
        real, calls, listener = RealReactor(RelayReactor), HearingCalls(), self.listener()
        self.call(real, calls, listener.getsockname()[1], bindAddress=("127.0.0.9", 0))
        peer, there = listener.accept()
        self.assertEqual(there[0], "127.0.0.9")
        peer.close()
        real.until(lambda: calls.caller.over)
        real.close()

    def full(self) -> int:
        """A port whose listener takes nobody any more."""
        listener = self.listener(backlog=0)
        for _ in range(3):
            waiting = socket.socket()
            self.sockets.append(waiting)
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        return int(listener.getsockname()[1])

    def test_nobody_answers_in_time(self) -> None:
        self.assertEqual(self.both_fail(self.full(), timeout=0.05), [("failed", error.TimeoutError)])

    def test_who_is_there_and_says_nothing_is_there_when_the_time_for_connecting_is_over(self) -> None:
        real, calls, listener = RealReactor(RelayReactor), HearingCalls(), self.listener()
        self.call(real, calls, listener.getsockname()[1], timeout=0.05)
        real.until(lambda: bool(calls.caller.story))
        self.assertEqual(calls.caller.story, ["connected"])
        peer, _ = listener.accept()
        peer.sendall(b"220 bye")
        real.until(lambda: calls.caller.over)
        self.assertEqual(calls.caller.story, ["connected", b"220 bye", error.ConnectionDone])
        peer.close()
        real.close()

    def test_who_gives_up_is_told_so_once(self) -> None:
        real, calls = RealReactor(RelayReactor), HearingCalls()
        connector = self.call(real, calls, self.full())
        connector.disconnect()
        connector.disconnect()
        self.assertEqual(calls.caller.story, [("failed", error.UserError)])
        real.turn()
        real.close()

    def test_who_gives_up_what_cannot_be_is_told_so_once(self) -> None:
        real, calls = RealReactor(RelayReactor), HearingCalls()
        self.call(real, calls, 25, "255.255.255.255").disconnect()
        real.turn()
        self.assertEqual(calls.caller.story, [("failed", error.UserError)])
        real.close()

    def test_without_a_descriptor(self) -> None:
        real, calls = RealReactor(RelayReactor), HearingCalls()

        def none(*args: Any) -> Any:
            raise OSError(24, "Too many open files")

        self.patch(dialling, "_Socket", none)
        self.call(real, calls, 25)
        real.turn()
        self.assertEqual(calls.caller.story, [("failed", error.ConnectBindError)])
        real.close()

    def test_by_an_interface_that_is_not_there(self) -> None:
        real, calls = RealReactor(RelayReactor), HearingCalls()
        connector = self.call(real, calls, 25, "fe80::1%nothing")
        real.turn()
        self.assertEqual(calls.caller.story, [("failed", error.ConnectBindError)])
        self.assertIs(connector.disconnected, 1)
        real.close()

    def test_the_long_way_is_for_who_does_not_wait_for_words(self) -> None:
        for calls, kind in ((Calls(), PromptClient), (HearingCalls(), HearingClient)):
            self.story(RelayReactor, calls, greets)
            self.assertIs(type(calls.caller.transport), kind)

    def test_what_is_over_is_left_to_nobody(self) -> None:
        real, calls, listener = RealReactor(RelayReactor), HearingCalls(), self.listener()
        gc.collect()
        gc.disable()
        try:
            connector = weakref.ref(self.call(real, calls, listener.getsockname()[1]))
            peer, _ = listener.accept()
            peer.sendall(b"220 bye")
            real.until(lambda: calls.caller.over)
            calls.caller.transport = None
            self.assertIsNone(connector())
        finally:
            gc.enable()
        peer.close()
        real.close()
