"""Dovecot as the one who knows users, as a mailbox that is filled by LMTP, and as a client that sends in chunks."""

from __future__ import annotations

import smtplib
from typing import Any, ClassVar

import pytest

from tests.interop.dovecot_services import DovecotServices, token
from tests.interop.house import BOXES, InteropTestCase, arrived, logged
from tests.interop.mails import EVERYTHING, PLAIN, assert_same, mail, subject, trace, without_trace
from tests.interop.office import (
    OUTBOX,
    USERS,
    OfficeTestCase,
    believing,
    close_office,
    write_authority,
    write_certificate,
)
from tests.interop.peers import PATIENCE, free_port, run
from tests.interop.postfix import Postfix
from tests.system.harness import RelayProcess, configuration

pytestmark = pytest.mark.interop
tearDownModule = close_office

FOR_POSTFIX = "postfix.test"


class DovecotTestCase(InteropTestCase):
    relay_process: ClassVar[RelayProcess]
    dovecot: ClassVar[DovecotServices]

    @classmethod
    def dovecot_with(cls, users: dict[str, str], relay: int = 0) -> DovecotServices:
        home = cls.shared_folder()
        certificate = write_certificate(home / "cert.pem", "127.0.0.1")
        authority = write_authority(home / "ca.pem")
        dovecot = DovecotServices.start(
            cls.shared_folder(), users, certificate=certificate, authority=authority, relay=relay
        )
        cls.addClassCleanup(dovecot.stop)
        return dovecot

    def client(self, listener: str = "local") -> smtplib.SMTP:
        client = smtplib.SMTP("localhost", self.relay_process.address(listener)[1], "client.test", PATIENCE)
        self.addCleanup(client.close)
        client.ehlo()
        return client


SUBMISSION = """
[auth]
dovecot = "{dovecot}"
[limits]
auth_failures_per_address = 10000
[tls]
certificates = ["servers"]
[[listener]]
name = "submission"
address = "127.0.0.1:0"
protocol = "submission"
tls = "require"
"""


class UsersTestCase(DovecotTestCase):
    """People log in at our listener, and Dovecot says whether they may."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.dovecot = cls.dovecot_with(USERS)
        folder = cls.shared_folder()
        write_certificate(folder / "servers/a.pem", "localhost")
        text = configuration(tables=SUBMISSION.format(dovecot=cls.dovecot.auth), policies=BOXES + OUTBOX)
        cls.relay_process = RelayProcess(folder, text)
        cls.addClassCleanup(cls.relay_process.close)
        cls.relay_process.start()

    def person(self) -> smtplib.SMTP:
        client = self.client("submission")
        client.starttls(context=believing())
        client.ehlo()
        return client


class UsersTests(UsersTestCase):
    def test_a_user_of_dovecots_logs_in_and_sends(self) -> None:
        self.assertEqual(self.person().esmtp_features["auth"].split(), ["PLAIN", "LOGIN"])
        client = self.person()
        client.login("ann", USERS["ann"])
        client.sendmail("ann@client.test", ["from-ann@elsewhere.test"], PLAIN["text"])
        # smtplib knows only ASCII.
        port = str(self.relay_process.address("submission")[1])
        login = ("--tls", "--auth", "PLAIN", "--auth-user", "jürgen", "--auth-password", USERS["jürgen"])
        run("swaks", "--server", "localhost", "--port", port, *login, "--to", "from-juergen@elsewhere.test")
        accepted = logged(self.relay_process, lambda event: event["event"] == "accepted", count=2)
        self.assertEqual({event["user"] for event in accepted}, set(USERS))

    def test_a_wrong_password_and_an_unknown_user(self) -> None:
        for user, password in (("ann", "wrong"), ("nobody", "correct horse"), ("ann", "")):
            client = self.person()
            client.user, client.password = user, password
            for mechanism in "plain", "login":
                with self.assertRaises(smtplib.SMTPAuthenticationError) as refused:
                    client.auth(mechanism.upper(), getattr(client, f"auth_{mechanism}"))
                self.assertEqual(refused.exception.smtp_code, 535)


class GoneTests(UsersTestCase):
    def test_where_dovecot_is_gone_nobody_is_told_that_the_password_is_wrong(self) -> None:
        self.relay_process.expected.append("Nobody can be authenticated now")
        self.dovecot.stop()
        with self.assertRaises(smtplib.SMTPAuthenticationError) as refused:
            self.person().login("ann", USERS["ann"])
        self.assertEqual(refused.exception.smtp_code, 454)


HOPS = """
[[policy]]
use = "forward"
protocol = "lmtp"
next_hop = "unix:{dovecot.lmtp_socket}"
when = {{ recipient = ["socket.test"] }}
[[policy]]
use = "forward"
protocol = "lmtp"
tls = "verify"
next_hop = "127.0.0.1:{dovecot.lmtp}"
when = {{ recipient = ["tcp.test"] }}
"""


class ByLmtpTests(DovecotTestCase):
    """We hand mail to Dovecot, whose mailboxes it is for."""

    @classmethod
    def setUpClass(cls) -> None:
        users = {f"{name}@{domain}": "x" for name in ("jon", "ann") for domain in ("socket.test", "tcp.test")}
        cls.dovecot = cls.dovecot_with(users)
        home = cls.shared_folder()
        tables = f'[delivery.tls]\nauthorities = "{write_authority(home / "ca.pem")}"\n'
        cls.relay_process = cls.share(configuration(tables=tables, policies=BOXES + HOPS.format(dovecot=cls.dovecot)))

    def test_all_messages_arrive_by_its_socket_and_encrypted_by_tcp(self) -> None:
        client = self.client()
        for domain in "socket.test", "tcp.test":
            for octets in EVERYTHING.values():
                client.sendmail("bob@client.test", [f"jon@{domain}"], octets, ["BODY=8BITMIME"])
            for octets in self.dovecot.delivered(f"jon@{domain}", len(EVERYTHING)):
                assert_same(without_trace(octets), EVERYTHING[subject(octets)])
        self.assertRegex(self.dovecot.server.said, r"lmtp\(.*: Connect from 127\.0\.0\.1")

    def test_each_recipient_has_a_reply_of_its_own(self) -> None:
        for domain in "socket.test", "tcp.test":
            to = [f"{name}@{domain}" for name in ("ann", "nobody")]
            self.client().sendmail(f"{domain}@localhost", to, mail("each", b"x\r\n"))
            [octets] = self.dovecot.delivered(f"ann@{domain}")
            self.assertIn(b"\nSubject: each", octets)
            [notice] = self.relay_notices(domain)
            self.assertIn(f"Final-Recipient: rfc822; nobody@{domain}\n".encode(), notice)
            self.assertIn(b"\nStatus: 5.1.1\n", notice)
            self.assertNotIn(f"Final-Recipient: rfc822; ann@{domain}\n".encode(), notice)

    def test_what_it_has_taken_is_delivered_and_a_notice_of_success_says_so(self) -> None:
        client = self.client()
        client.mail("wishes@localhost", ["RET=HDRS", "ENVID=by-lmtp"])
        client.rcpt("ann@tcp.test", ["NOTIFY=SUCCESS"])
        self.assertEqual(client.data(mail("wished", b"x\r\n"))[0], 250)
        [notice] = self.relay_notices("wishes")
        self.assertIn(b"\nOriginal-Envelope-Id: by-lmtp\n", notice)
        self.assertIn(b"\nAction: delivered\n", notice)

    def relay_notices(self, user: str) -> list[bytes]:
        return arrived(self.relay_process.folder / "mail" / user)


LOGINS = """
[delivery.tls]
authorities = "{authority}"
[[login]]
name = "password"
user = "ann"
password = "{password}"
[[login]]
name = "wrong"
user = "ann"
password = "wrong"
[[login]]
name = "token"
user = "ann"
token_file = "{home}/token"
[[login]]
name = "expired"
user = "ann"
token_file = "{home}/expired"
"""


class SmarthostTests(DovecotTestCase):
    """We log in at a Postfix that asks Dovecot, by each mechanism: a port of it offers one."""

    postfix: ClassVar[Postfix]

    #: Each has a port.
    MECHANISMS = ("plain", "login", "scram-sha-256", "xoauth2")

    @classmethod
    def setUpClass(cls) -> None:
        cls.dovecot = cls.dovecot_with(USERS)
        home = cls.shared_folder()
        authority = write_authority(home / "ca.pem")
        for name, lasting in (("token", 600), ("expired", -600)):
            (home / name).touch(mode=0o600)
            (home / name).write_text(token("ann", lasting) + "\n")
        ports = {name: free_port() for name in cls.MECHANISMS}
        tables = LOGINS.format(authority=authority, password=USERS["ann"], home=home)
        routes = [(f"{name}.test", port, "token" if name == "xoauth2" else "password") for name, port in ports.items()]
        routes += [("wrong.plain.test", ports["plain"], "wrong"), ("wrong.scram.test", ports["scram-sha-256"], "wrong")]
        routes += [("expired.test", ports["xoauth2"], "expired")]
        cls.relay_process = cls.share(configuration(tables=tables, policies=BOXES + "".join(map(_hop, routes))))
        settings = {
            "smtpd_tls_security_level": "encrypt",
            "smtpd_tls_cert_file": str(write_certificate(home / "cert.pem", "127.0.0.1")),
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_path": str(cls.dovecot.auth),
            "smtpd_sasl_authenticated_header": "yes",
            "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
            "smtpd_tls_received_header": "yes",
            "virtual_mailbox_domains": ", ".join(domain for domain, *_ in routes),
        }
        others: dict[int | str, dict[str, str]] = {
            port: {"syslog_name": f"postfix/{name}", "smtpd_sasl_mechanism_filter": name}
            for name, port in ports.items()
        }
        cls.postfix = Postfix.start(cls.shared_folder(), free_port(), settings, others)
        cls.addClassCleanup(cls.postfix.stop)

    def outcome(self, recipient: str) -> dict[str, Any]:
        return logged(
            self.relay_process,
            lambda event: event.get("recipient") == recipient and event["event"] in ("relayed", "delayed", "failed"),
            f"an outcome for {recipient}\n{self.postfix.log}",
        )[0]

    def test_by_each_mechanism(self) -> None:
        for name in self.MECHANISMS:
            self.client().sendmail("bob@localhost", [f"jon@{name}.test"], mail(name, b"x\r\n"))
        for name in self.MECHANISMS:
            event = self.outcome(f"jon@{name}.test")
            self.assertEqual(event["event"], "relayed", event)
            self.assertRegex(
                self.postfix.log, rf"postfix/{name}/smtpd\S+ \S+ client=.*sasl_method={name.upper()}, sasl_username=ann"
            )
        for octets in self.postfix.delivered(len(self.MECHANISMS)):
            self.assertRegex(trace(octets)[-2], rb"\(Authenticated sender: ann\) .* with ESMTPSA id")

    def test_what_is_wrong_delays_mail_and_tells_the_operator(self) -> None:
        self.relay_process.expected.append("does not let us in")
        for domain in "wrong.plain.test", "wrong.scram.test", "expired.test":
            self.client().sendmail("bob@localhost", [f"jon@{domain}"], mail("wrong", b"x\r\n"))
            event = self.outcome(f"jon@{domain}")
            self.assertEqual(event["event"], "delayed", event)
            self.assertIn("535 5.7.8", str(event))
        self.assertNotIn("wrong\\n", self.relay_process.output.text())


def _hop(route: tuple[str, int, str]) -> str:
    domain, port, login = route
    return (
        f'[[policy]]\nuse = "forward"\nnext_hop = "127.0.0.1:{port}"\ntls = "verify"\nlogin = "{login}"\n'
        f'when = {{ recipient = ["{domain}"] }}\n'
    )


class FromDovecotTests(OfficeTestCase):
    """Dovecot passes on to us what people give it, and says for whom it speaks; it sends by BDAT."""

    dovecot: ClassVar[DovecotServices]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        ports = {name: port for name, (_, port) in cls.office.addresses.items()}
        way = "::::::proxy=y nopassword=y host=127.0.0.1"
        users = {
            "ann@client.test": USERS["ann"],
            "jon@localhost": f"{way} port={ports['lmtp']} protocol=lmtp",
            "ann@localhost": f"{way} port={ports['lmtp']} protocol=lmtp",
            "kim@localhost": f"{way} port={ports['lmtp']} protocol=lmtp",
            "smtp@localhost": f"{way} port={ports['mx']} protocol=smtp",
        }
        home = cls.office.folder
        certificate = write_certificate(home / "dovecot.pem", "localhost")
        cls.dovecot = DovecotServices.start(
            cls.shared_folder(),
            users,
            certificate=certificate,
            authority=cls.office.folder / "ca.pem",
            relay=ports["mx"],
        )
        cls.addClassCleanup(cls.dovecot.stop)

    def assertCarried(self, user: str, *messages: bytes, how: bytes) -> None:
        for octets in self.in_mailbox(user, len(messages)):
            assert_same(without_trace(octets), EVERYTHING[subject(octets)])
            self.assertRegex(trace(octets)[2], rb"\bby mx\.test \(relay\) with %s id " % how)
        verbs = {line.split()[0] for line in self.dovecot.commands}
        self.assertIn("BDAT", verbs)
        self.assertNotIn("DATA", verbs)

    def test_to_our_mailboxes_by_lmtp(self) -> None:
        message = self.written(PLAIN["dots"])
        server = ("--server", "127.0.0.1", "--port", str(self.dovecot.lmtp), "--protocol", "LMTP")
        run(
            "swaks",
            *server,
            "--from",
            "bob@client.test",
            "--to",
            "jon@localhost,ann@localhost",
            "--data",
            f"@{message}",
        )
        with smtplib.LMTP("127.0.0.1", self.dovecot.lmtp, "client.test") as client:
            for octets in EVERYTHING.values():
                client.sendmail("bob@client.test", ["kim@localhost"], octets)
        self.assertCarried("kim", *EVERYTHING.values(), how=b"LMTP")
        self.in_mailbox("jon")
        self.in_mailbox("ann")

    def test_to_our_mailboxes_by_smtp(self) -> None:
        with smtplib.LMTP("127.0.0.1", self.dovecot.lmtp, "client.test") as client:
            client.sendmail("bob@client.test", ["smtp@localhost"], PLAIN["dots"])
        self.assertCarried("smtp", PLAIN["dots"], how=b"ESMTP")

    def test_what_people_send_by_it_and_it_vouches_for_them(self) -> None:
        client = smtplib.SMTP("localhost", self.dovecot.submission, "client.test", PATIENCE)
        self.addCleanup(client.close)
        client.starttls(context=believing())
        client.login("ann@client.test", USERS["ann"])
        for octets in EVERYTHING.values():
            client.sendmail("bob@client.test", ["submitted@localhost"], octets)
        self.assertCarried("submitted", *EVERYTHING.values(), how=b"ESMTPSA")
        client.sendmail("bob@client.test", ["submitted@elsewhere.test"], PLAIN["text"])
        self.sent_out("submitted")
        self.assertRegex("\n".join(self.dovecot.commands), r"(?m)^XCLIENT .*\bLOGIN=ann")
        logged(self.office, lambda event: event["event"] == "accepted" and event.get("user") == "ann@client.test")
