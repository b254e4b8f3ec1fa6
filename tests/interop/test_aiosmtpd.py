"""What the relay carries to aiosmtpd, a server of quite another make."""

from __future__ import annotations

import smtplib
from functools import partial
from typing import Any

import pytest

from tests.interop.house import BOXES, InteropTestCase, arrived, forwarding, logged
from tests.interop.mails import EVERYTHING, PLAIN, assert_same, mail, trace, without_trace
from tests.interop.peers import until
from tests.interop.sinks import Aiosmtpd
from tests.system.harness import RelayProcess, configuration

pytestmark = pytest.mark.interop

UTF8 = mail("utf8", "Ünïcödé\r\n".encode(), "X-Namen: Zoë".encode())


class AiosmtpdTests(InteropTestCase):
    def beginning(self, **options: Any) -> tuple[RelayProcess, Aiosmtpd]:
        peer = Aiosmtpd(options=options)
        peer.start()
        self.addCleanup(peer.stop)
        policies = BOXES + forwarding([("peer.test", [f"127.0.0.1:{peer.port}"])])
        return self.started(configuration(policies=policies)), peer

    def client(self, relay: RelayProcess) -> smtplib.SMTP:
        client = smtplib.SMTP(*relay.address(), local_hostname="client.test")
        self.addCleanup(client.close)
        client.ehlo()
        return client

    def test_all_messages_arrive_octet_by_octet(self) -> None:
        relay, peer = self.beginning()
        client = self.client(relay)
        for number, octets in enumerate(EVERYTHING.values(), 1):
            client.sendmail("bob@client.test", ["jon@peer.test", "ann@peer.test"], octets, ["BODY=8BITMIME"])
            until(partial(_has, peer, number), relay.output.text)
            sender, recipients, options, received = peer.messages[-1]
            self.assertEqual((sender, recipients), ("bob@client.test", ["jon@peer.test", "ann@peer.test"]))
            self.assertIn("BODY=8BITMIME", options)
            assert_same(without_trace(received), octets)
            [field] = trace(received)
            self.assertRegex(
                field, rb"^Received: from client\.test \(\[127\.0\.0\.1\]\) by mx\.test \(relay\) with ESMTP "
            )

    def test_addresses_and_fields_in_utf_8(self) -> None:
        relay, peer = self.beginning()
        self.client(relay).sendmail("zoë@client.test", ["jürgen@peer.test"], UTF8, ["SMTPUTF8", "BODY=8BITMIME"])
        until(lambda: peer.messages, relay.output.text)
        [(sender, recipients, options, received)] = peer.messages
        self.assertEqual((sender, recipients), ("zoë@client.test", ["jürgen@peer.test"]))
        self.assertIn("SMTPUTF8", options)
        assert_same(without_trace(received), UTF8)

    def test_utf_8_is_not_sent_where_it_is_not_taken(self) -> None:
        relay, peer = self.beginning(enable_SMTPUTF8=False)
        self.client(relay).sendmail("bob@localhost", ["jürgen@peer.test"], UTF8, ["SMTPUTF8", "BODY=8BITMIME"])
        [notice] = arrived(relay.folder / "mail/bob")
        self.assertIn(b"\nStatus: 5.6.7\n", notice)
        self.assertEqual(peer.messages, [])

    def test_a_message_that_is_larger_than_announced_is_not_even_sent(self) -> None:
        relay, peer = self.beginning(data_size_limit=100)
        self.client(relay).sendmail("bob@localhost", ["jon@peer.test"], PLAIN["dots"])
        [notice] = arrived(relay.folder / "mail/bob")
        self.assertIn(b"\nStatus: 5.3.4\n", notice)
        [failed] = logged(relay, lambda event: event["event"] == "failed")
        self.assertEqual(failed["because"], "the message is larger than the server takes")
        self.assertEqual(peer.messages, [])


def _has(peer: Aiosmtpd, number: int) -> bool:
    return len(peer.messages) == number
