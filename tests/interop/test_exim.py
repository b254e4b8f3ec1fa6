"""An Exim beside the relay: GnuTLS, BDAT and DSN in both directions."""

from __future__ import annotations

import smtplib
from typing import ClassVar

import pytest

from tests.interop.exim import DOMAIN, Exim
from tests.interop.house import send_chunks
from tests.interop.mails import BIG, EVERYTHING, PLAIN, assert_same, mail, report, subject, trace, without_trace
from tests.interop.office import TABLES, OfficeTestCase, write_authority, write_certificate
from tests.interop.peers import free_port

pytestmark = pytest.mark.interop

ONWARD = f"""
[[policy]]
use = "forward"
next_hop = "127.0.0.1:{{port}}"
tls = "verify"
when = {{{{ recipient = ["{DOMAIN}"] }}}}
"""


class EximTests(OfficeTestCase):
    exim: ClassVar[Exim]

    @classmethod
    def setUpClass(cls) -> None:
        home = cls.shared_folder()
        certificate = write_certificate(home / "cert.pem", "127.0.0.1")
        authority = write_authority(home / "ca.pem")
        port = free_port()
        tables = TABLES + f'[delivery.tls]\nauthorities = "{authority}"\n'
        cls.office = cls.opened(tables=tables, policies=ONWARD.format(port=port))
        _, relay = cls.office.address("mx")
        cls.exim = Exim.start(cls.shared_folder(), port, relay, certificate=certificate, authority=authority)
        cls.addClassCleanup(cls.exim.stop)

    def client(self, port: int) -> smtplib.SMTP:
        client = smtplib.SMTP("127.0.0.1", port, local_hostname="client.test")
        self.addCleanup(client.close)
        client.ehlo()
        return client

    def to_exim(self) -> smtplib.SMTP:
        return self.client(self.exim.port)

    def to_us(self) -> smtplib.SMTP:
        return self.client(self.office.address()[1])

    def test_what_it_carries_to_us_comes_in_chunks_and_is_not_damaged(self) -> None:
        client = self.to_exim()
        for octets in EVERYTHING.values():
            client.sendmail("bob@client.test", ["jon@localhost", "ann@localhost"], octets, ["BODY=8BITMIME"])
        for user in "jon", "ann":
            for octets in self.in_mailbox(user, len(EVERYTHING)):
                assert_same(without_trace(octets), EVERYTHING[subject(octets)])
                self.assertRegex(
                    trace(octets)[2], rb"^Received: from mx\.exim\.test .*using TLSv1\.3 .* with ESMTPS id "
                )
        # `K`: by CHUNKING; `CV=yes`: the certificate was verified.
        self.assertRegex(self.exim.log, r"=> jon@localhost .* X=TLS1\.3\S* CV=yes .*\bK\b")

    def test_what_we_carry_to_it_arrives_in_chunks_and_is_not_damaged(self) -> None:
        client = self.to_us()
        before = len(self.exim.delivered(0))
        for octets in EVERYTHING.values():
            client.sendmail("bob@client.test", [f"jon@{DOMAIN}"], octets, ["BODY=8BITMIME"])
        huge = BIG.replace(b"Subject: big", b"Subject: huge")
        send_chunks(client, "bob@client.test", f"jon@{DOMAIN}", huge)
        sent = {**EVERYTHING, "huge": huge}
        for octets in self.exim.delivered(before + len(sent)):
            if subject(octets) in sent:
                assert_same(without_trace(octets), sent[subject(octets)])
        self.assertRegex(self.exim.log, r"<= bob@client\.test .* P=esmtps (?:L\S* )?X=TLS1\.3\S* .*\bK\b")

    def test_what_one_refuses_comes_back_as_the_others_notice(self) -> None:
        self.to_us().sendmail("refused@localhost", [f"refused@{DOMAIN}"], PLAIN["text"])
        [notice] = self.in_mailbox("refused")
        self.assertIn(f"Final-Recipient: rfc822; refused@{DOMAIN}\n".encode(), notice)
        self.to_exim().sendmail("by-us@localhost", ["elvis@elsewhere.test"], PLAIN["text"])
        [notice] = self.in_mailbox("by-us")
        self.assertIn(b"550 5.7.1 <elvis@elsewhere.test>: relaying denied", notice)

    def test_notices_of_success_are_asked_for_and_come_back_both_ways(self) -> None:
        for client, user, to in ((self.to_us(), "us", f"jon@{DOMAIN}"), (self.to_exim(), "exim", "dsn@localhost")):
            client.mail(f"wishes-{user}@localhost", ["RET=HDRS", "ENVID=QQ+2B7"])
            client.rcpt(to, ["NOTIFY=SUCCESS", "ORCPT=rfc822;dee@elsewhere.test"])
            self.assertEqual(client.data(mail(f"wishes-{user}", b"x\r\n"))[0], 250)
            [notice] = self.in_mailbox(f"wishes-{user}")
            of_message, [of_recipient] = report(notice)
            self.assertEqual(of_recipient["Action"], "delivered", notice)
            self.assertEqual(of_message["Original-Envelope-Id"], "QQ+7" if user == "exim" else "QQ+2B7")
