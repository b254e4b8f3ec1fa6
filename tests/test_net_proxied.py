"""Clients whom a proxy introduces."""

from __future__ import annotations

import ipaddress
from typing import Any

from attrs import evolve
from twisted.internet.address import IPv4Address
from twisted.python.failure import Failure

from relay.config.fields import Network
from relay.interfaces import IVisit
from relay.net.doorway import Arrival, Doorway
from relay.net.listener import SmtpServerFactory
from relay.net.waiting import start
from relay.smtp.profile import SessionLimits
from relay.smtp.server import ServerSession
from tests.test_net_server import PROFILE, Scripted, ServerCase, Wire

V1 = b"PROXY TCP4 192.0.2.7 192.0.2.25 56324 25\r\n"
V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes([192, 0, 2, 7, 192, 0, 2, 25]) + b"\xdc\x04\x00\x19"
LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"


class ProxiedTests(ServerCase):
    def setUp(self) -> None:
        super().setUp()
        self.clients: list[tuple[str | None, int]] = []

        def admit(arrival: Arrival) -> tuple[ServerSession, IVisit]:
            self.clients.append((arrival.address, arrival.port))
            return ServerSession(PROFILE, SessionLimits()), Scripted(arrival.refusal)

        proxies: tuple[Network, ...] = (ipaddress.ip_network("198.51.100.0/24"),)
        doorway: Doorway = evolve(self.factory._doorway, admit=admit, proxies=proxies)
        self.factory = SmtpServerFactory(doorway)

    def proxied(self) -> Any:
        wire = Wire()
        wire.protocol = self.factory.buildProtocol(IPv4Address("TCP", "198.51.100.9", 4711))  # type: ignore[attr-defined]
        wire.protocol.makeConnection(wire)  # type: ignore[attr-defined]
        return wire

    def send(self, wire: Any, octets: bytes) -> None:
        wire.protocol.dataReceived(octets)

    def test_nothing_is_said_before_the_client_is_known_wherever_the_header_is_cut(self) -> None:
        for header in (V1, V2):
            for size in (1, 7, 1000):
                wire = self.proxied()
                for at in range(0, len(header), size):
                    self.assertEqual(wire.said(), [])
                    self.send(wire, header[at : at + size])
                self.assertEqual(wire.said(), [220])
                self.assertEqual(self.clients.pop(), ("192.0.2.7", 56324))

    def test_what_stands_behind_the_header_is_the_clients(self) -> None:
        wire = self.proxied()
        self.send(wire, V1 + b"EHLO c\r\nNOOP\r\n")
        self.assertEqual(wire.said(), [220, 250, 250])

    def test_a_proxy_that_speaks_for_itself_is_itself(self) -> None:
        wire = self.proxied()
        self.send(wire, LOCAL)
        self.assertEqual(self.clients, [("198.51.100.9", 4711)])

    def test_who_should_introduce_and_does_not_is_cut_off_without_a_word(self) -> None:
        for octets in (b"EHLO c\r\n", b"PROXY TCP4 nonsense\r\n", b"\r\n\r\nEHLO"):
            wire = self.proxied()
            self.send(wire, octets)
            self.assertEqual((wire.said(), wire.aborted), ([], True))
        self.assertEqual(self.clients, [])

    def test_who_says_nothing_is_cut_off(self) -> None:
        wire = self.proxied()
        self.send(wire, b"PROXY ")
        self.time.advance(29)
        self.assertFalse(wire.aborted)
        self.time.advance(2)
        self.assertTrue(wire.aborted)

    def test_a_stranger_cannot_say_who_it_is(self) -> None:
        wire = Wire()
        server = self.factory.buildProtocol(IPv4Address("TCP", "203.0.113.1", 4711))
        server.makeConnection(wire)
        server.dataReceived(V1)
        self.assertEqual(self.clients, [("203.0.113.1", 4711)])
        self.assertEqual(wire.said(), [220, 500])

    def test_the_clients_limits_are_the_clients_and_nothing_is_left_behind(self) -> None:
        admission = self.factory._doorway.admission
        wire = self.proxied()
        self.assertEqual(admission._at_once, {})
        self.send(wire, V1)
        self.assertEqual(admission._at_once, {"192.0.2.7": 1})
        wire.protocol.connectionLost(Failure(ConnectionError()))
        self.assertEqual((admission._at_once, self.factory.connections), ({}, set()))
        wire = self.proxied()
        wire.protocol.connectionLost(Failure(ConnectionError()))
        self.assertEqual((self.time.getDelayedCalls(), self.factory._introductions), ([], set()))

    def test_a_relay_that_stops_does_not_wait_to_be_introduced(self) -> None:
        wire = self.proxied()
        start(self.factory.stop(5.0))
        self.assertTrue(wire.aborted)
