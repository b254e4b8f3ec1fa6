"""Many at once: Postfix's smtp-source, whose sessions all want something at the same moment."""

from __future__ import annotations

import re

import pytest

from tests.interop.house import BOXES, InteropTestCase, arrived, events, forwarding
from tests.interop.mails import without_trace
from tests.interop.peers import run, until
from tests.system.harness import RelayProcess, configuration

pytestmark = pytest.mark.interop

_NUMBER = re.compile(rb"^Message-Id: <([^>]+)>", re.MULTILINE | re.IGNORECASE)

SESSIONS, MESSAGES, SIZE = 100, 2000, 10 * 1024


class LoadTests(InteropTestCase):
    def send(self, relay: RelayProcess, recipient: str, *options: str) -> None:
        host, port = relay.address()
        words = ("-s", str(SESSIONS), "-m", str(MESSAGES), "-l", str(SIZE), "-f", "bob@client.test", "-t", recipient)
        run("smtp-source", *words, *options, f"{host}:{port}")

    def assertAllWhole(self, messages: list[bytes]) -> None:
        """smtp-source numbers its messages, and gives them all the same size."""
        self.assertEqual(len(messages), MESSAGES)
        numbers = {number for octets in messages for number in _NUMBER.findall(octets)}
        self.assertEqual(len(numbers), MESSAGES)
        for octets in messages:
            self.assertGreaterEqual(len(without_trace(octets)), SIZE)

    def assertAllLogged(self, relay: RelayProcess, what: str) -> None:
        of_kind = [event for event in events(relay) if event["event"] == what]
        self.assertEqual(len({event["id"] for event in of_kind}), MESSAGES)
        self.assertEqual({event["attempts"] for event in of_kind}, {1})

    def test_a_hundred_sessions_into_a_maildir(self) -> None:
        relay = self.started(configuration(policies=BOXES))
        self.send(relay, "jon@localhost", "-d")
        self.assertAllWhole(arrived(relay.folder / "mail/jon", MESSAGES, 60))
        until(lambda: len(relay.said('"event":"delivered"')) >= MESSAGES, "not all are logged")
        self.assertAllLogged(relay, "delivered")

    def test_a_hundred_sessions_with_a_connection_for_each_message_onward_to_a_server(self) -> None:
        sink = self.sink()
        relay = self.started(configuration(policies=forwarding([("sink.test", [sink.next_hop])])))
        self.send(relay, "jon@sink.test")
        until(lambda: len(sink) >= MESSAGES, lambda: f"{len(sink)} have arrived", 60)
        until(lambda: len(relay.said('"event":"relayed"')) >= MESSAGES, "not all are logged")
        self.assertAllWhole(sink.messages)
        self.assertAllLogged(relay, "relayed")
