"""A host that was away asks for its mail (RFC 1985)."""

from __future__ import annotations

import smtplib

import pytest

from tests.interop.house import BOXES, LENIENT, InteropTestCase, forwarding, logged
from tests.interop.mails import PLAIN, assert_same, without_trace
from tests.interop.peers import free_port
from tests.interop.typist import Typist
from tests.system.harness import RelayProcess, configuration

pytestmark = pytest.mark.interop


class EtrnTests(InteropTestCase):
    """Its mail waits, and would wait for five minutes."""

    def setUp(self) -> None:
        self.port = free_port()
        routes = [("away.test", [f"127.0.0.1:{self.port}"]), ("mail.away.test", [f"127.0.0.1:{self.port}"])]
        self.relay_process = self.waiting(
            self.started(configuration(tables=LENIENT, policies=BOXES + forwarding(routes)))
        )

    def waiting(self, relay: RelayProcess) -> RelayProcess:
        with smtplib.SMTP(*relay.address(), local_hostname="client.test") as client:
            for domain in "away.test", "mail.away.test":
                client.sendmail("bob@localhost", [f"jon@{domain}"], PLAIN["dots"])
        logged(relay, lambda event: event["event"] == "delayed", "both are put off", 2)
        return relay

    def test_typed_by_a_person_it_makes_the_mail_of_a_domain_go(self) -> None:
        sink = self.sink(port=self.port)
        host, port = self.relay_process.address("lenient")
        with Typist("nc", host, str(port)) as person:
            person.reads(r"^220 ")
            person.types("EHLO away.test").reads(r"^250-ETRN")
            person.types("ETRN away.test").reads(r"^25[0123] 2\.\d\.\d ")
            relayed = logged(self.relay_process, lambda event: event["event"] == "relayed")
            self.assertEqual([event["recipient"] for event in relayed], ["jon@away.test"])
            person.types("ETRN @away.test").reads(r"^25[0123] 2\.\d\.\d ")
            logged(self.relay_process, lambda event: event["event"] == "relayed", "that of hosts below it", 2)
            person.types("QUIT").reads(r"^221 ")
        for octets in sink.messages:
            assert_same(without_trace(octets), PLAIN["dots"])
        self.assertEqual(len(sink.messages), 2)

    def test_said_by_a_program_for_a_domain_for_which_nothing_waits(self) -> None:
        with smtplib.SMTP(*self.relay_process.address(), local_hostname="away.test") as client:
            client.ehlo()
            self.assertTrue(client.has_extn("ETRN"))
            code, _ = client.docmd("ETRN", "elsewhere.test")
            self.assertIn(code, (250, 251))
            self.assertEqual(client.docmd("ETRN", "no host")[0], 501)
            self.assertEqual(client.docmd("ETRN")[0], 501)
