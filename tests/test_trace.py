"""The fields that we write: who has brought a message, how, and when."""

from __future__ import annotations

from email import message_from_bytes
from email.utils import parsedate_to_datetime

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail import trace
from relay.mail.address import Address
from relay.mail.envelope import Client
from relay.mail.tls import TlsFacts

#: 2026-11-23T01:28:37.123Z
NOW = 1795397317.1234
BOB = Address("bob", "example.net")
TLS = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)

CLIENTS = st.builds(
    Client,
    st.sampled_from(["192.0.2.7", "2001:db8::7", None]),
    st.integers(1, 65535),
    st.sampled_from(["c.example", "[192.0.2.7]", "", "x;y (z)", "jörg"]),
    st.booleans(),
    st.just("mx"),
    st.sampled_from([None, "ann"]),
    st.sampled_from([None, TLS, TlsFacts("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256", 128)]),
    st.booleans(),
)


def field(client: Client, *, smtputf8: bool = False, id: str = "4Q2X7", when: float = NOW, whom: bool = True) -> str:
    came = trace.came(client, "mx.here.test", smtputf8)
    octets = trace.received(came, id, when, BOB if whom else None, smtputf8)
    return octets.decode()


class ReceivedTests(SynchronousTestCase):
    def test_the_field_says_who_where_how_for_whom_and_when(self) -> None:
        self.assertEqual(
            field(Client("192.0.2.7", 1234, "c.example", extended=True, tls=TLS)),
            "Received: from c.example ([192.0.2.7])\r\n"
            "\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)\r\n"
            "\tby mx.here.test (relay) with ESMTPS id 4Q2X7\r\n"
            "\tfor <bob@example.net>;\r\n"
            "\tMon, 23 Nov 2026 01:28:37 +0000\r\n",
        )

    def test_the_protocol_is_that_of_the_message_and_not_of_the_one_before(self) -> None:
        words = []
        for user in None, "ann":
            for smtputf8 in False, True, False:
                client = Client("192.0.2.7", 1234, "c.example", extended=True, user=user)
                words.append(field(client, smtputf8=smtputf8).partition(" with ")[2].split()[0])
        self.assertEqual(words, ["ESMTP", "UTF8SMTP", "ESMTP", "ESMTPA", "UTF8SMTPA", "ESMTPA"])

    def test_each_message_has_its_own_second(self) -> None:
        for when in 0.0, 0.9, 1.0, NOW, NOW + 1, NOW:
            date = message_from_bytes(field(Client("192.0.2.7"), when=when).encode())["Received"].rpartition(";")[2]
            self.assertEqual(parsedate_to_datetime(date.strip()).timestamp(), int(when))

    @given(st.lists(CLIENTS, min_size=1, max_size=4), st.booleans(), st.booleans())
    def test_what_was_said_of_one_client_is_never_said_of_another(
        self, clients: list[Client], smtputf8: bool, whom: bool
    ) -> None:
        together = [field(client, smtputf8=smtputf8, whom=whom) for client in clients]
        for client, text in zip(clients, together, strict=True):
            trace._how_it_came.cache_clear()
            self.assertEqual(field(client, smtputf8=smtputf8, whom=whom), text)
            self.assertEqual(text.count(";"), 1)
            self.assertEqual("for <bob@example.net>" in text, whom)
