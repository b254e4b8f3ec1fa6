"""A listening socket that several processes have: who of them is woken, and what is left when one goes."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from select import EPOLLEXCLUSIVE, EPOLLIN
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relay.net.listen import LOOK, Share, inherit
from relay.net.reactor import MonotonicReactor, RelayReactor


class InheritedSocketTests(SynchronousTestCase):
    """Each reactor stands for a process, and is not installed: it runs when it is told."""

    def setUp(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.socket.close)
        self.met: list[EPollReactor] = []

    def process(self, kind: type[EPollReactor] = RelayReactor, share: Share | None = None) -> tuple[Any, Any]:
        """A reactor, and its port, which accepts."""
        reactor: Any = kind()
        self.addCleanup(self.close, reactor)
        met = self.met

        class Noting(Factory):
            noisy = False

            def buildProtocol(self, addr: object) -> Protocol:
                met.append(reactor)
                return Protocol()

        shared: dict[str, Any] = {} if share is None else {"share": share}
        port = inherit(reactor, self.socket.fileno(), Noting(), backlog=5, **shared)
        port.startReading()
        return reactor, port

    def close(self, reactor: Any) -> None:
        for each in reactor.removeAll():
            each.connectionLost(Failure(CONNECTION_DONE))
        reactor._poller.close()

    def connect(self) -> None:
        self.addCleanup(socket.create_connection(self.socket.getsockname()).close)

    def awaited(self, reactor: Any, port: Any) -> int | None:
        """What the kernel wakes this reactor for, as it says itself."""
        text = Path(f"/proc/self/fdinfo/{reactor._poller.fileno()}").read_text()
        found = re.search(rf"^tfd:\s+{port.fileno()} events:\s+([0-9a-f]+)", text, re.MULTILINE)
        return None if found is None else int(found[1], 16)

    def test_a_client_wakes_one_process_and_not_all(self) -> None:
        reactor, port = self.process()
        self.assertEqual((self.awaited(reactor, port) or 0) & EPOLLEXCLUSIVE, EPOLLEXCLUSIVE)

    def test_each_client_is_taken_once_by_whoever_comes_first(self) -> None:
        (one, _), (other, _) = self.process(), self.process()
        for first, second in ((one, other), (other, one)):
            self.met.clear()
            self.connect()
            first.doIteration(10)
            second.doIteration(0)
            self.assertEqual(self.met, [first])

    def test_of_many_who_have_come_at_once_each_process_takes_its_share_in_one_turn(self) -> None:
        def share(of: EPollReactor, waiting: int) -> int:
            asked.append(waiting)
            return (len(self.met) + waiting) // 2 - self.met.count(of)

        asked: list[int] = []
        one, _ = self.process(share=lambda waiting: share(one, waiting))
        other, _ = self.process(share=lambda waiting: share(other, waiting))
        for _ in range(10):
            self.connect()
        one.doIteration(10)
        self.assertEqual((self.met, asked), ([one] * 5, [10]))
        other.doIteration(10)
        self.assertEqual((self.met, asked), ([one] * 5 + [other] * 5, [10, 5]))

    def test_who_has_too_many_takes_one_at_a_time_since_the_others_may_take_none(self) -> None:
        reactor, _ = self.process(share=lambda waiting: -7)
        for _ in range(3):
            self.connect()
        for taken in (1, 2, 3):
            reactor.doIteration(10)
            self.assertEqual(len(self.met), taken)

    def test_who_knows_nothing_of_the_others_takes_one_at_a_time(self) -> None:
        reactor, _ = self.process()
        self.connect()
        self.connect()
        reactor.doIteration(10)
        self.assertEqual(len(self.met), 1)

    def test_who_pauses_is_woken_no_more_until_it_goes_on(self) -> None:
        reactor, port = self.process()
        port.stopReading()
        self.assertIsNone(self.awaited(reactor, port))
        self.connect()
        reactor.doIteration(0)
        self.assertEqual(self.met, [])
        port.startReading()
        port.startReading()
        reactor.doIteration(10)
        self.assertEqual(self.met, [reactor])

    def test_who_stops_leaves_the_socket_to_the_others(self) -> None:
        (_, port), (other, _) = self.process(), self.process()
        port.stopListening()
        self.connect()
        other.doIteration(10)
        self.assertEqual(self.met, [other])

    def test_a_client_of_whom_another_process_was_told_that_has_died_since_is_not_left_waiting(self) -> None:
        reactor, port = self.process()
        reactor._poller.unregister(port.fileno())
        self.connect()
        began = reactor.seconds()
        while not self.met and reactor.seconds() - began < 10:
            reactor.iterate(LOOK)
        self.assertEqual(self.met, [reactor])
        reactor._poller.register(port.fileno(), EPOLLIN)
        port.stopListening()
        self.assertEqual([call for call in reactor.getDelayedCalls() if call.func == port._look], [])

    def test_twisteds_own_reactor_will_do(self) -> None:
        reactor, port = self.process(MonotonicReactor)
        self.assertEqual((self.awaited(reactor, port) or 0) & ~0x18, EPOLLIN)
        self.connect()
        reactor.doIteration(10)
        self.assertEqual(self.met, [reactor])
