"""What the relay carries to a Postfix, at each level of TLS, in chunks, and with wishes for notices."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest

from tests.interop.house import BOXES, InteropTestCase, arrived, logged, send_chunks
from tests.interop.mails import BIG, EVERYTHING, assert_same, mail, report, subject, trace, without_trace
from tests.interop.office import STRANGERS, write_authority, write_certificate
from tests.interop.peers import free_port, run, until
from tests.interop.postfix import Postfix
from tests.system.harness import RelayProcess, configuration

pytestmark = pytest.mark.interop

#: Where a message ends: with Postfix, by TLS or in clear; or it waits, for a reason that stands in its place.
TLS, CLEAR = "by TLS", "in clear"
LEVELS: Final = ("none", "may", "encrypt", "verify")
#: What is right or wrong about a Postfix, and where messages for it end at each level.
ENDS: Final = {
    "good": (CLEAR, TLS, TLS, TLS),
    "plain": (CLEAR, CLEAR, "the server does not offer STARTTLS", "the server does not offer STARTTLS"),
    "required": ("530 5.7.0 Must issue a STARTTLS command first", TLS, TLS, TLS),
    "old": (CLEAR, CLEAR, "the TLS handshake failed", "the TLS handshake failed"),
    "misnamed": (CLEAR, TLS, TLS, "its certificate is not for 127.0.0.1 but for other.test"),
    "strange": (CLEAR, TLS, TLS, "its certificate comes from an authority that is not trusted"),
    "expired": (CLEAR, TLS, TLS, "its certificate has expired"),
}
#: How they are made so.
PORTS: Final[Mapping[str, Mapping[str, str]]] = {
    "good": {"smtpd_tls_loglevel": "2"},
    "plain": {"smtpd_tls_security_level": "none"},
    "required": {"smtpd_tls_security_level": "encrypt"},
    "old": {"smtpd_tls_protocols": "TLSv1.1"},
    "misnamed": {"smtpd_tls_cert_file": "{folder}/misnamed.pem"},
    "strange": {"smtpd_tls_cert_file": "{folder}/strange.pem"},
    "expired": {"smtpd_tls_cert_file": "{folder}/expired.pem"},
    "unchunked": {"smtpd_discard_ehlo_keywords": "chunking"},
    "silent": {"smtpd_discard_ehlo_keywords": "dsn"},
}
#: How smtp-source numbers its messages.
NUMBER: Final = re.compile(rb"^Message-Id: <([^>]+)>", re.MULTILINE | re.IGNORECASE)
LONG_AGO: Final = datetime(2020, 2, 2, tzinfo=UTC)


class ToPostfixTests(InteropTestCase):
    """Mail for `verify.good.test` goes to the port `good` at the level `verify`, and so on."""

    relay_process: ClassVar[RelayProcess]
    postfix: ClassVar[Postfix]

    @classmethod
    def setUpClass(cls) -> None:
        home = cls.shared_folder()
        ports = {name: free_port() for name in PORTS}
        cls.relay_process = cls.share(
            configuration(tables=trusting(home), policies=BOXES + hops(ports) + AGAIN.format(**ports))
        )
        _, ours = cls.relay_process.address()
        write_certificate(home / "good.pem", "127.0.0.1")
        write_certificate(home / "misnamed.pem", "other.test")
        write_certificate(home / "strange.pem", "127.0.0.1", by=STRANGERS)
        write_certificate(home / "expired.pem", "127.0.0.1", until=LONG_AGO)
        settings = {
            "relayhost": f"[127.0.0.1]:{ours}",
            "smtpd_tls_security_level": "may",
            "smtpd_tls_cert_file": f"{home}/good.pem",
            "smtpd_tls_received_header": "yes",
            "virtual_mailbox_domains": ", ".join(f"{way}.{name}.test" for way in (*LEVELS, "again") for name in PORTS),
        }
        others = {
            port: {
                "syslog_name": f"postfix/{name}",
                **{key: value.format(folder=home) for key, value in PORTS[name].items()},
            }
            for name, port in ports.items()
        }
        cls.postfix = Postfix.start(cls.shared_folder(), free_port(), settings, others)
        cls.addClassCleanup(cls.postfix.stop)

    def client(self) -> smtplib.SMTP:
        client = smtplib.SMTP(*self.relay_process.address(), local_hostname="client.test")
        self.addCleanup(client.close)
        client.ehlo()
        return client

    def outcome(self, recipient: str) -> dict[str, Any]:
        """What the relay says of the first attempt."""
        outcomes = ("relayed", "delayed", "failed")
        return logged(
            self.relay_process,
            lambda event: event.get("recipient") == recipient and event["event"] in outcomes,
            f"an outcome for {recipient}\n{self.postfix.log}",
        )[0]

    def arrived(self, name: str) -> bytes:
        """The message with this subject, when Postfix has it."""

        def found() -> list[bytes]:
            return [octets for octets in self.postfix.delivered(0) if subject(octets) == name]

        until(found, lambda: f"{name} has not come\n{self.postfix.log}")
        [octets] = found()
        return octets

    def test_each_message_goes_as_its_level_wants_or_waits_and_says_why(self) -> None:
        client = self.client()
        for name in ENDS:
            for level in LEVELS:
                client.sendmail("bob@localhost", [f"jon@{level}.{name}.test"], mail(f"{level}-{name}", b"x\r\n"))
        for name, ends in ENDS.items():
            for level, end in zip(LEVELS, ends, strict=True):
                event = self.outcome(f"jon@{level}.{name}.test")
                if end not in (TLS, CLEAR):
                    self.assertEqual(event["event"], "delayed", event)
                    self.assertIn(end, str(event))
                    continue
                self.assertEqual(event["event"], "relayed", event)
                how = trace(self.arrived(f"{level}-{name}"))[-2]
                self.assertRegex(
                    how, rb"by mx\.postfix\.test \(Postfix\) with ESMTP%s id" % (b"S" if end == TLS else b"")
                )

    def test_all_messages_arrive_octet_by_octet_in_chunks_and_without(self) -> None:
        client = self.client()
        for name in "good", "unchunked":
            before = len(self.postfix.delivered(0))
            for octets in EVERYTHING.values():
                client.sendmail("bob@client.test", [f"jon@verify.{name}.test"], octets, ["BODY=8BITMIME"])
            for octets in self.postfix.delivered(before + len(EVERYTHING)):
                if subject(octets) in EVERYTHING:
                    assert_same(without_trace(octets), EVERYTHING[subject(octets)])
        self.assertFalse([session for session in self.postfix.sessions("unchunked") if "bdat" in session])
        # Large content goes as it came: in chunks, if it came in chunks.
        octets = BIG.replace(b"Subject: big", b"Subject: huge")
        send_chunks(client, "bob@localhost", "jon@verify.good.test", octets)
        assert_same(without_trace(self.arrived("huge")), octets)

        def many() -> bool:
            return any(session.get("bdat", 0) > 10 for session in self.postfix.sessions("good"))

        until(many, lambda: str(self.postfix.sessions("good")))

    def test_messages_that_follow_each_other_closely_all_arrive_and_postfix_has_no_objections(self) -> None:
        def numbers(messages: list[bytes]) -> set[bytes]:
            return {number for octets in messages for number in NUMBER.findall(octets)}

        count, before = 300, self.postfix.delivered(0)
        host, port = self.relay_process.address()
        words = (
            "-s",
            "50",
            "-m",
            str(count),
            "-l",
            "2000",
            "-d",
            "-f",
            "bob@client.test",
            "-t",
            "all@none.silent.test",
        )
        run("smtp-source", *words, f"{host}:{port}")
        after = self.postfix.delivered(len(before) + count, 60)
        self.assertEqual((len(after) - len(before), len(numbers(after) - numbers(before))), (count, count))
        self.assertNotIn("pipelining", self.postfix.log)

        def reused() -> bool:
            return any(session.get("mail", 0) > 5 for session in self.postfix.sessions("silent"))

        # Each session ends when nothing has come for five seconds.
        until(reused, lambda: str(self.postfix.sessions("silent")))

    def test_wishes_for_notices_go_on_to_a_server_that_knows_of_them(self) -> None:
        client = self.client()
        client.mail("wishes@localhost", ["RET=HDRS", "ENVID=QQ+2B7"])
        client.rcpt("jon@verify.good.test", ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;dee@elsewhere.test"])
        self.assertEqual(client.data(mail("wishes", b"x\r\n"))[0], 250)
        [notice] = arrived(self.relay_process.folder / "mail/wishes")
        of_message, [of_recipient] = report(notice)
        self.assertEqual(of_message["Reporting-MTA"], "dns; mx.postfix.test")
        self.assertEqual(of_message["Original-Envelope-Id"], "QQ+7")
        self.assertEqual(of_recipient["Action"], "delivered")
        self.assertEqual(of_recipient["Original-Recipient"], "rfc822;dee@elsewhere.test")

    def test_where_it_knows_of_none_we_tell_that_it_went_on(self) -> None:
        client = self.client()
        client.mail("told@localhost", ["RET=FULL", "ENVID=told"])
        client.rcpt("jon@verify.silent.test", ["NOTIFY=SUCCESS", "ORCPT=rfc822;dee@elsewhere.test"])
        client.rcpt("ann@verify.silent.test", ["NOTIFY=FAILURE"])
        self.assertEqual(client.data(mail("told", b"x\r\n"))[0], 250)
        [notice] = arrived(self.relay_process.folder / "mail/told")
        of_message, [of_recipient] = report(notice)
        self.assertEqual(of_message["Reporting-MTA"], "dns; mx.test")
        self.assertEqual(of_message["Original-Envelope-Id"], "told")
        self.assertEqual(of_recipient["Action"], "relayed")
        self.assertEqual(of_recipient["Original-Recipient"], "rfc822;dee@elsewhere.test")

    def test_it_comes_back_to_a_session_that_it_knows(self) -> None:
        # Two ways to the same host, so that a connection that is kept does not serve both.
        for name, domain in (("again", "verify.good.test"), ("still-again", "again.good.test")):
            self.client().sendmail("bob@localhost", [f"jon@{domain}"], mail(name, b"x\r\n"))
            self.arrived(name)
        until(
            lambda: re.search(r"postfix/good/smtpd\S+ .*Reusing old session", self.postfix.log),
            lambda: self.postfix.log,
        )


AGAIN = """
[[policy]]
use = "forward"
next_hop = "127.0.0.1:{good}"
tls = "verify"
without = ["PIPELINING"]
when = {{ recipient = ["again.good.test"] }}
"""


def trusting(folder: Path) -> str:
    """Whom the relay believes when it connects to others."""
    write_authority(folder / "ca.pem")
    return f'[delivery.tls]\nauthorities = "{folder}/ca.pem"\n'


def hops(ports: Mapping[str, int]) -> str:
    """Policies: for each port and level a domain that goes there."""
    return "".join(
        f'[[policy]]\nuse = "forward"\nnext_hop = "127.0.0.1:{port}"\ntls = "{level}"\n'
        f'when = {{ recipient = ["{level}.{name}.test"] }}\n'
        for name, port in ports.items()
        for level in LEVELS
    )
