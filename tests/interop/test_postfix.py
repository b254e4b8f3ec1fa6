"""A Postfix beside the relay: each carries mail to the other, and neither damages it."""

from __future__ import annotations

import smtplib
from typing import ClassVar

import pytest

from tests.interop.house import BOXES, InteropTestCase, arrived, forwarding, logged
from tests.interop.mails import EVERYTHING, assert_same, in_maildir, mail, subject, trace, without_trace
from tests.interop.peers import free_port, run, until
from tests.interop.postfix import DOMAIN, Postfix
from tests.system.harness import RelayProcess, configuration

pytestmark = pytest.mark.interop

#: What Postfix itself refuses.
REFUSING = {"smtpd_recipient_restrictions": f"check_recipient_access inline:{{refused@{DOMAIN}=REJECT}}"}


class PostfixTests(InteropTestCase):
    relay_process: ClassVar[RelayProcess]
    postfix: ClassVar[Postfix]

    @classmethod
    def setUpClass(cls) -> None:
        port = free_port()
        routes = [(DOMAIN, [f"127.0.0.1:{port}"])]
        cls.relay_process = cls.share(configuration(policies=BOXES + forwarding(routes)))
        _, ours = cls.relay_process.address()
        cls.postfix = Postfix.start(cls.shared_folder(), port, {"relayhost": f"[127.0.0.1]:{ours}", **REFUSING})
        cls.addClassCleanup(cls.postfix.stop)

    def to_us(self) -> smtplib.SMTP:
        return self._client(*self.relay_process.address())

    def to_postfix(self) -> smtplib.SMTP:
        return self._client("127.0.0.1", self.postfix.port)

    def _client(self, host: str, port: int) -> smtplib.SMTP:
        client = smtplib.SMTP(host, port, local_hostname="client.test")
        self.addCleanup(client.close)
        client.ehlo()
        return client

    def test_what_we_carry_to_postfix_arrives_octet_by_octet(self) -> None:
        client = self.to_us()
        before = len(self.postfix.delivered(0))
        for octets in EVERYTHING.values():
            client.sendmail("bob@client.test", [f"jon@{DOMAIN}"], octets, ["BODY=8BITMIME"])
        found = {subject(octets): octets for octets in self.postfix.delivered(before + len(EVERYTHING))}
        for name, octets in EVERYTHING.items():
            assert_same(without_trace(found[name]), octets)
            fields = trace(found[name])
            self.assertIn(b"Return-Path: <bob@client.test>", fields)
            self.assertRegex(fields[-2], rb"^Received: from mx\.test .* by mx\.postfix\.test \(Postfix\) with ESMTP ")
            self.assertRegex(fields[-1], rb"^Received: from client\.test .* by mx\.test \(relay\) with ESMTP ")

    def test_what_postfix_carries_to_us_arrives_octet_by_octet(self) -> None:
        client = self.to_postfix()
        for octets in EVERYTHING.values():
            client.sendmail("bob@client.test", ["jon@localhost", "ann@localhost"], octets, ["BODY=8BITMIME"])
        for user in "jon", "ann":
            found = arrived(self.relay_process.folder / "mail" / user, len(EVERYTHING))
            for octets in found:
                assert_same(without_trace(octets), EVERYTHING[subject(octets)])
                self.assertRegex(trace(octets)[-1], rb"^Received: .* by mx\.postfix\.test \(Postfix\) with ESMTP ")

    def test_international_addresses_both_ways(self) -> None:
        octets = mail("international", "Ünïcödé\r\n".encode(), "X-Namen: Zoë".encode())
        options = ["SMTPUTF8", "BODY=8BITMIME"]
        self.to_us().sendmail("zoë@client.test", [f"jürgen@{DOMAIN}"], octets, options)
        self.to_postfix().sendmail("zoë@client.test", ["international@localhost"], octets, options)
        until(lambda: [m for m in self.postfix.delivered(0) if subject(m) == "international"], lambda: self.postfix.log)
        [to_postfix] = [m for m in self.postfix.delivered(0) if subject(m) == "international"]
        [to_us] = arrived(self.relay_process.folder / "mail/international")
        for received in to_postfix, to_us:
            assert_same(without_trace(received), octets)
            self.assertIn("Return-Path: <zoë@client.test>".encode(), trace(received))

    def test_what_postfix_refuses_comes_back_as_our_notice_with_its_words(self) -> None:
        to = [f"refused@{DOMAIN}", f"taken@{DOMAIN}"]
        self.to_us().sendmail("refused-sender@localhost", to, mail("half-refused", b"x\r\n"))
        [notice] = arrived(self.relay_process.folder / "mail/refused-sender")
        self.assertIn(f"Final-Recipient: rfc822; refused@{DOMAIN}\n".encode(), notice)
        self.assertIn(b"\nStatus: 5.7.1\n", notice)
        self.assertIn(b"Diagnostic-Code: smtp; 554 5.7.1", notice)
        self.assertNotIn(b"Final-Recipient: rfc822; taken", notice)
        until(lambda: "half-refused" in map(subject, self.postfix.delivered(0)), lambda: self.postfix.log)

    def test_what_we_refuse_comes_back_as_postfixs_notice_with_our_words(self) -> None:
        self.to_postfix().sendmail("bob@localhost", ["elvis@elsewhere.test"], mail("refused-by-us", b"x\r\n"))
        [notice] = arrived(self.relay_process.folder / "mail/bob")
        self.assertEqual(trace(notice)[0], b"Return-Path: <>")
        self.assertIn(b"550 5.7.1 <elvis@elsewhere.test>: relaying", notice)

    def test_many_messages_through_both(self) -> None:
        # Postfix sends one behind the other on a connection, as long as it has more.
        count = 300
        words = ("smtp-source", "-s", "20", "-m", str(count), "-l", "2048", "-f", "bob@client.test")
        run(*words, "-t", "many@localhost", f"127.0.0.1:{self.postfix.port}")
        arrived(self.relay_process.folder / "mail/many", count)
        until(lambda: self.postfix.queued == 0, lambda: self.postfix.log)
        deliveries = logged(self.relay_process, lambda event: event.get("recipient") == "many@localhost", count=count)
        self.assertEqual(len(deliveries), count)
        self.assertEqual({event["event"] for event in deliveries}, {"delivered"})
        self.assertEqual(len({without_trace(m) for m in in_maildir(self.relay_process.folder / "mail/many")}), count)
