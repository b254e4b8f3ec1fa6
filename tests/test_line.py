"""What a parent and its workers say to each other."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relay.net import line as module
from relay.net.line import Line


class LineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.over: list[str] = []
        self.here = Line(lambda: self.over.append("here"))
        self.there = Line(lambda: self.over.append("there"))
        self.heard: list[tuple[str, Any]] = []
        for topic in ("ready", "store"):
            self.there.hear(topic, lambda body, topic=topic: self.heard.append((topic, body)))

    def connect(self) -> StringTransport:
        transport = StringTransport()
        self.here.makeConnection(transport)
        self.there.makeConnection(StringTransport())
        return transport

    def carry(self, transport: StringTransport, cut: int = 10_000) -> None:
        octets = transport.value()
        transport.clear()
        for at in range(0, len(octets), cut):
            self.there.dataReceived(octets[at : at + cut])

    def test_what_is_said_is_heard_in_its_order_however_it_is_cut(self) -> None:
        self.here.say("ready")
        transport = self.connect()
        self.here.say("store", {"key": "ä\n", "value": [1, None]})
        self.carry(transport, cut=7)
        self.assertEqual(self.heard, [("ready", {}), ("store", {"key": "ä\n", "value": [1, None]})])

    def test_what_nobody_hears_is_dropped(self) -> None:
        transport = self.connect()
        self.here.say("weather", {"rain": True})
        self.here.say("ready")
        self.carry(transport)
        self.assertEqual(self.heard, [("ready", {})])

    def test_one_who_cannot_use_what_was_said_hears_what_comes_behind_it(self) -> None:
        transport = self.connect()
        self.there.hear("store", lambda body: body["nothing"])
        self.here.say("store")
        self.here.say("ready")
        self.carry(transport)
        self.assertEqual(self.heard, [("ready", {})])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_while_the_other_does_not_listen_things_wait_and_nothing_overtakes(self) -> None:
        transport = self.connect()
        assert transport.producer is self.here
        self.here.pauseProducing()
        self.here.say("store", {"n": 1})
        self.here.say("ready")
        self.assertEqual(transport.value(), b"")
        self.here.resumeProducing()
        self.here.say("store", {"n": 2})
        self.carry(transport)
        self.assertEqual(self.heard, [("store", {"n": 1}), ("ready", {}), ("store", {"n": 2})])

    def test_who_never_listens_is_left(self) -> None:
        self.patch(module, "MOST_WAITING", 1000)
        transport = self.connect()
        self.here.pauseProducing()
        for _ in range(100):
            self.here.say("store", {"text": "x" * 100})
        self.assertTrue(transport.disconnecting)
        self.assertEqual(transport.value(), b"")

    def test_nonsense_and_what_has_no_end_close_the_line(self) -> None:
        self.patch(module, "MOST_SAID", 1000)
        for nonsense in (b"hello\n", b"[]\n", b'{"topic": "ready"}\n', b"[" * 900 + b"\n", b"x" * 1001):
            line = Line()
            transport = StringTransport()
            line.makeConnection(transport)
            line.dataReceived(nonsense)
            self.assertTrue(transport.disconnecting, nonsense)

    def test_what_is_too_long_to_be_heard_is_not_said(self) -> None:
        self.patch(module, "MOST_SAID", 1000)
        transport = self.connect()
        with self.assertRaises(ValueError):
            self.here.say("store", {"text": "x" * 1000})
        self.assertEqual(transport.value(), b"")

    def test_the_end_is_told_once_and_then_nothing_is_said(self) -> None:
        transport = self.connect()
        self.here.connectionLost(Failure(ConnectionError()))
        self.here.say("ready")
        self.assertEqual((self.over, transport.value()), (["here"], b""))

    def test_nothing_is_heard_behind_a_close(self) -> None:
        transport = self.connect()
        self.there.hear("store", lambda body: self.there.close())
        self.here.say("store")
        self.here.say("ready")
        self.carry(transport)
        self.assertEqual(self.heard, [])
