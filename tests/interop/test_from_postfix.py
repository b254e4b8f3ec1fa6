"""A Postfix that relays to us: over TLS that it verifies, by a login, with wishes for notices."""

from __future__ import annotations

import smtplib
from typing import ClassVar, Final

import pytest

from tests.interop.house import arrived, logged
from tests.interop.mails import EVERYTHING, PLAIN, assert_same, mail, report, subject, trace, without_trace
from tests.interop.office import (
    USERS,
    OfficeTestCase,
)
from tests.interop.peers import free_port, until
from tests.interop.postfix import Postfix, inline

pytestmark = pytest.mark.interop

#: A policy that refuses whoever has not shown Ann's certificate.
ACQUAINTED: Final = """
from relay.interfaces import IRoutingPolicy
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Reject
from zope.interface import implementer

@implementer(IRoutingPolicy)
class Acquainted:
    def __init__(self, options, world):
        pass

    def route(self, inquiry):
        tls = inquiry.client.tls
        shown = tls and tls.client_subject and tls.client_subject.common_name
        return ABSTAIN if shown == "ann" else Reject(Reply.of(550, "5.7.1", "who are you?"), because="unknown")
"""
KNOWN: Final = """
[[policy]]
use = "acquainted:Acquainted"
when = { recipient = ["known.test", "unknown.test"] }
[[policy]]
use = "mailbox"
name = "known"
domains = ["known.test"]
users = "any"
directory = "known"
"""


class FromPostfixTests(OfficeTestCase):
    postfix: ClassVar[Postfix]

    @classmethod
    def setUpClass(cls) -> None:
        folder = cls.shared_folder()
        cls.office = cls.opened(policies=KNOWN, modules={"acquainted": ACQUAINTED})
        ports = {name: f"[127.0.0.1]:{port}" for name, (_, port) in cls.office.addresses.items()}
        home = cls.office.folder
        mechanisms = ("plain", "login", "scram-sha-256")
        ways = {
            "known.test": f"smtp:{ports['known']}",
            "unknown.test": f"nobody:{ports['known']}",
            "elsewhere.test": f"smtp:{ports['submission']}",
            **{f"{name}.elsewhere.test": f"{name}:{ports['submission']}" for name in mechanisms},
            "distrusted.test": f"distrusting:{ports['mx']}",
            "misnamed.test": f"misnaming:{ports['mx']}",
        }
        settings = {
            "relayhost": ports["mx"],
            "transport_maps": inline(ways),
            "smtp_tls_security_level": "secure",
            "smtp_tls_CAfile": str(home / "ca.pem"),
            "smtp_tls_servername": "mail.example",
            "smtp_tls_secure_cert_match": "mail.example",
            "smtp_tls_loglevel": "2",
            "smtp_tls_session_cache_database": f"btree:{folder}/data/smtp_sessions",
            "smtp_tls_cert_file": str(home / "ann.pem"),
            "smtp_sasl_auth_enable": "yes",
            "smtp_sasl_password_maps": inline({ports["submission"]: f"ann:{USERS['ann']}"}),
            "smtp_sasl_security_options": "noanonymous",
            "smtp_sasl_mechanism_filter": "!external, static:all",
        }
        others: dict[int | str, dict[str, str]] = {
            **{name: {"smtp_sasl_mechanism_filter": name} for name in mechanisms},
            "nobody": {"smtp_tls_cert_file": ""},
            "distrusting": {"smtp_tls_CAfile": str(home / "people.pem")},
            "misnaming": {"smtp_tls_secure_cert_match": "other.example"},
        }
        cls.postfix = Postfix.start(folder, free_port(), settings, others)
        cls.addClassCleanup(cls.postfix.stop)

    def client(self) -> smtplib.SMTP:
        client = smtplib.SMTP("127.0.0.1", self.postfix.port, local_hostname="client.test")
        self.addCleanup(client.close)
        client.ehlo()
        return client

    def says(self, what: str) -> None:
        until(lambda: what in self.postfix.log, lambda: f"{what}\n{self.postfix.log}")

    def test_all_messages_come_encrypted_to_the_host_that_was_meant(self) -> None:
        client = self.client()
        for octets in EVERYTHING.values():
            client.sendmail("bob@client.test", ["jon@localhost"], octets, ["BODY=8BITMIME"])
        for octets in self.in_mailbox("jon", len(EVERYTHING)):
            assert_same(without_trace(octets), EVERYTHING[subject(octets)])
            self.assertRegex(
                trace(octets)[2], rb"^Received: from mx\.postfix\.test .*using TLSv1\.3 .* with ESMTPS id "
            )
        self.assertRegex(self.postfix.log, r"Verified TLS connection established to 127\.0\.0\.1\S+ TLSv1\.3")

    def test_it_comes_back_to_a_session_that_it_knows(self) -> None:
        for number in range(2):
            self.client().sendmail("bob@client.test", ["again@localhost"], mail(f"again-{number}", b"x\r\n"))
            self.in_mailbox("again", number + 1)
        self.says("Reusing old session")

    def test_nothing_comes_to_a_host_whose_certificate_it_does_not_believe(self) -> None:
        for domain, why in (
            ("distrusted.test", "certificate verification failed for 127.0.0.1"),
            ("misnamed.test", "Server certificate not verified"),
        ):
            self.client().sendmail("bob@client.test", [f"jon@{domain}"], PLAIN["text"])
            until(
                lambda domain=domain: f"to=<jon@{domain}>" in self.postfix.log,  # type: ignore[misc]
                lambda: self.postfix.log,
            )
            self.says(why)
        self.assertEqual(
            [line for line in self.postfix.log.splitlines() if "distrusted" in line and "status=sent" in line], []
        )

    def test_it_logs_in_by_each_mechanism_that_it_has(self) -> None:
        for name in "plain", "login", "scram-sha-256":
            user = f"postfix-{name}"
            self.client().sendmail("bob@client.test", [f"{user}@{name}.elsewhere.test"], PLAIN["text"])
            logged(self.office, lambda event, user=user: f"{user}@" in str(event), f"{user} {self.postfix.log}")
        self.says("status=bounced")  # below elsewhere.test there is nobody

    def test_it_logs_in_by_what_it_thinks_best(self) -> None:
        self.client().sendmail("bob@client.test", ["postfix@elsewhere.test"], PLAIN["text"])
        [octets] = self.sent_out("postfix")
        self.assertRegex(trace(octets)[2], rb" with ESMTPSA id ")

    def test_its_certificate_is_known_to_policies(self) -> None:
        self.client().sendmail("bob@client.test", ["jon@known.test"], PLAIN["text"])
        [octets] = arrived(self.office.folder / "known/jon")
        self.assertRegex(trace(octets)[2], rb" with ESMTPS id ")

    def test_a_policy_refuses_it_where_it_shows_none(self) -> None:
        self.client().sendmail("nobody@localhost", ["jon@unknown.test"], PLAIN["text"])
        [notice] = self.in_mailbox("nobody")
        self.assertIn(b"Diagnostic-Code: smtp; 550 5.7.1 who are you?", notice)

    def test_a_notice_of_success_comes_back_to_the_sender_of_what_it_carries_to_us(self) -> None:
        client = self.client()
        client.mail("success@localhost", ["RET=HDRS", "ENVID=QQ314159+2B"])
        client.rcpt("dsn@localhost", ["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;Dee+2BEss@elsewhere.test"])
        self.assertEqual(client.data(PLAIN["text"])[0], 250)
        [notice] = self.in_mailbox("success")
        of_message, [of_recipient] = report(notice)
        self.assertEqual(of_message["Original-Envelope-Id"], "QQ314159+")
        self.assertEqual(of_message["Reporting-MTA"], "dns; mx.test")
        self.assertEqual(of_recipient["Action"], "delivered")
        self.assertEqual(of_recipient["Original-Recipient"], "rfc822;Dee+Ess@elsewhere.test")
        self.assertEqual(of_recipient["Final-Recipient"], "rfc822; dsn@localhost")
        self.assertNotIn(b"Hello!", notice)
        self.in_mailbox("dsn")

    def test_the_same_from_programs_of_its_machine(self) -> None:
        options = ("-N", "success", "-R", "full", "-V", "envelope-7")
        self.postfix.sendmail(*options, "-f", "machine@localhost", "dsn-machine@localhost", stdin=PLAIN["text"])
        [notice] = self.in_mailbox("machine")
        of_message, [of_recipient] = report(notice)
        self.assertEqual(of_message["Original-Envelope-Id"], "envelope-7")
        self.assertEqual(of_recipient["Action"], "delivered")

    def test_who_wants_no_notice_gets_none(self) -> None:
        client = self.client()
        for user, notify in (("unknown-1", "NEVER"), ("unknown-2", "FAILURE")):
            client.sendmail("never@localhost", [f"{user}@nowhere.test"], mail(user, b"x\r\n"), [], [f"NOTIFY={notify}"])
        [notice] = self.in_mailbox("never")  # from Postfix, to whom we said 550
        self.assertIn(b"unknown-2@nowhere.test", notice)
        self.assertNotIn(b"unknown-1", notice)
