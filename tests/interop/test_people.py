"""Programs of people, who log in and send mail: curl, msmtp, mutt and Python's smtplib."""

from __future__ import annotations

import os
import smtplib
import ssl
from pathlib import Path
from typing import Any, Final

import pytest

from tests.interop.house import logged
from tests.interop.mails import BIG, EIGHT_BIT, EVERYTHING, PLAIN, without_trace
from tests.interop.office import USERS, OfficeTestCase, believing, close_office
from tests.interop.peers import PATIENCE, run

pytestmark = pytest.mark.interop
tearDownModule = close_office

PASSWORD: Final = USERS["ann"]


class PeopleTestCase(OfficeTestCase):
    def assertSentOut(self, user: str, expected: bytes = PLAIN["text"]) -> None:
        """That what only a user may send has arrived, as it was."""
        [octets] = self.sent_out(user)
        self.assertCame(octets, expected, b"ESMTPSA")

    def own(self, name: str = "ann.pem") -> Path:
        """A certificate of a client's own, and its key."""
        return self.office.folder / name


class CurlTests(PeopleTestCase):
    #: Statuses of curl: a login that was refused, another reply that was, no TLS where there has to be, no proof.
    REFUSED, DENIED, NO_TLS, UNPROVED = 55, 67, 64, 60

    def curl(self, url: str, *options: str | Path, to: str, octets: bytes = PLAIN["text"], status: int = 0) -> str:
        words = ("--silent", "--show-error", "--cacert", self.authority, "--mail-from", "bob@client.test")
        upload = ("--mail-rcpt", to, "--upload-file", self.written(octets))
        return run("curl", *words, *options, *upload, f"{url}/client.test", status=status).decode(errors="replace")

    def url(self, listener: str = "submission", scheme: str = "smtp", host: str = "localhost") -> str:
        return f"{scheme}://{host}:{self.office.address(listener)[1]}"

    def test_all_messages_through_starttls_and_a_login(self) -> None:
        for name, octets in EVERYTHING.items():
            to = f"curl-{name}@elsewhere.test"
            self.curl(self.url(), "--ssl-reqd", "--user", f"ann:{PASSWORD}", to=to, octets=octets)
            self.assertSentOut(f"curl-{name}", octets)

    def test_encrypted_from_the_first_octet_on(self) -> None:
        for version in "1.2", "1.3":
            user = f"smtps-{version}"
            options = ("--tls-max", version, "--user", f"ann:{PASSWORD}")
            self.curl(self.url("submissions", "smtps"), *options, to=f"{user}@elsewhere.test")
            self.assertSentOut(user)

    def test_plain_and_login_with_an_initial_response_and_without(self) -> None:
        for mechanism in "PLAIN", "LOGIN":
            for more in (), ("--sasl-ir",):
                options = ("--user", f"ann:{PASSWORD}", "--login-options", f"AUTH={mechanism}", *more)
                user = f"curl-{mechanism}-{len(more)}".lower()
                said = self.curl(self.url(), "--ssl-reqd", "--verbose", *options, to=f"{user}@elsewhere.test")
                self.assertIn(f"> AUTH {mechanism}", said)
                self.assertSentOut(user)

    def test_by_scram_if_it_was_built_with_that(self) -> None:
        # Debian's is not, and says so by a login that it does not even try.
        able = "gsasl" in run("curl", "--version").decode()
        options = ("--verbose", "--user", f"ann:{PASSWORD}", "--login-options", "AUTH=SCRAM-SHA-256")
        said = self.curl(
            self.url(), "--ssl-reqd", *options, to="scram@elsewhere.test", status=0 if able else self.DENIED
        )
        self.assertEqual("> AUTH SCRAM-SHA-256" in said, able)

    def test_by_a_certificate(self) -> None:
        options = ("--cert", self.own(), "--user", "ann:", "--login-options", "AUTH=EXTERNAL")
        for more in (), ("--sasl-ir",):
            user = f"curl-external-{len(more)}"
            self.curl(self.url(), "--ssl-reqd", *options, *more, to=f"{user}@elsewhere.test")
            self.assertSentOut(user)

    def test_by_a_certificate_that_stands_for_somebody_else(self) -> None:
        options = ("--user", "jürgen:", "--login-options", "AUTH=EXTERNAL")
        for name in "ann.pem", "stranger.pem":
            to = "nobody@elsewhere.test"
            self.curl(self.url(), "--ssl-reqd", "--cert", self.own(name), *options, to=to, status=self.DENIED)

    def test_a_name_and_a_password_in_utf_8(self) -> None:
        self.curl(self.url(), "--ssl-reqd", "--user", f"jürgen:{USERS['jürgen']}", to="curl-utf8@elsewhere.test")
        self.assertSentOut("curl-utf8")

    def test_what_is_refused(self) -> None:
        to = "nobody@elsewhere.test"
        self.curl(self.url(), "--ssl-reqd", "--user", "ann:wrong", to=to, status=self.DENIED)
        self.assertIn("530 5.7.0 ", self.curl(self.url(), "--verbose", to=to, status=self.REFUSED))
        self.assertIn("530 5.7.0 ", self.curl(self.url(), "--verbose", "--ssl-reqd", to=to, status=self.REFUSED))
        self.curl(self.url("local"), "--ssl-reqd", to=to, status=self.NO_TLS)
        self.assertIn("550 5.7.1 ", self.curl(self.url("mx"), "--verbose", "--ssl-reqd", to=to, status=self.REFUSED))

    def test_the_certificate_is_for_the_host_that_was_meant(self) -> None:
        port = self.office.address("mx")[1]
        for host in "mail.example", "mx.test":
            way = ("--connect-to", f"{host}:25:127.0.0.1:{port}", "--ssl-reqd")
            self.curl(f"smtp://{host}:25", *way, to=f"curl-{host}@localhost")
            self.in_mailbox(f"curl-{host}")
        way = ("--connect-to", f"elsewhere.test:25:127.0.0.1:{port}", "--ssl-reqd")
        self.curl("smtp://elsewhere.test:25", *way, to="nobody@localhost", status=self.UNPROVED)


class MsmtpTests(PeopleTestCase):
    #: As sysexits.h has them, for a server that is not believed, and for a login that was refused.
    UNPROVED, DENIED = os.EX_UNAVAILABLE, os.EX_NOPERM

    def msmtp(self, listener: str, *options: str, to: str, octets: bytes = PLAIN["text"], status: int = 0) -> str:
        port = self.office.address(listener)[1]
        words = ("--host=localhost", f"--port={port}", "--domain=client.test", "--from=bob@client.test")
        starttls = f"--tls-starttls={'off' if listener == 'submissions' else 'on'}"
        tls = ("--tls=on", starttls, f"--tls-trust-file={self.authority}")
        # Like sendmail it is given lines of the machine it runs on.
        command = ("msmtp", "--file=/dev/null", *words, *tls, *options, "--", to)
        return run(*command, stdin=octets.replace(b"\r\n", b"\n"), status=status).decode(errors="replace")

    def login(self, mechanism: str, password: str = PASSWORD) -> tuple[str, ...]:
        return (f"--auth={mechanism}", "--user=ann", f"--passwordeval=echo '{password}'")

    def test_all_messages_by_starttls_and_encrypted_from_the_first_octet_on(self) -> None:
        for listener, messages in (("submission", PLAIN), ("submissions", {"eight-bit": EIGHT_BIT, "big": BIG})):
            for name, octets in messages.items():
                self.msmtp(listener, *self.login("on"), to=f"msmtp-{name}@elsewhere.test", octets=octets)
                self.assertSentOut(f"msmtp-{name}", octets)

    def test_each_mechanism_that_we_both_have(self) -> None:
        for mechanism in "plain", "login", "scram-sha-256":
            said = self.msmtp("submission", "--debug", *self.login(mechanism), to=f"msmtp-{mechanism}@elsewhere.test")
            self.assertIn(f"--> AUTH {mechanism.upper()}", said)
            self.assertSentOut(f"msmtp-{mechanism}")

    def test_a_wrong_password_by_each(self) -> None:
        for mechanism in "plain", "login", "scram-sha-256":
            wrong = self.login(mechanism, "wrong")
            said = self.msmtp("submission", "--debug", *wrong, to="nobody@elsewhere.test", status=self.DENIED)
            self.assertIn("<-- 535 5.7.8 ", said)

    def test_by_a_certificate(self) -> None:
        own = (f"--tls-cert-file={self.own()}", f"--tls-key-file={self.own()}")
        self.msmtp("submission", "--auth=external", "--user=ann", *own, to="msmtp-external@elsewhere.test")
        self.assertSentOut("msmtp-external")

    def test_a_server_that_it_does_not_believe(self) -> None:
        strangers = f"--tls-trust-file={self.own('people.pem')}"
        self.msmtp("submission", *self.login("on"), strangers, to="nobody@elsewhere.test", status=self.UNPROVED)

    def test_a_request_for_notices(self) -> None:
        dsn = ("--dsn-notify=success,failure", "--dsn-return=headers")
        self.msmtp("submission", *self.login("plain"), *dsn, "--from=bob@localhost", to="dsn@elsewhere.test")
        self.assertSentOut("dsn")
        [notice] = self.in_mailbox("bob")
        self.assertIn(b"\nAction: delivered\n", notice)
        self.assertIn(b"Final-Recipient: rfc822; dsn@elsewhere.test\n", notice)
        self.assertIn(b"\nSubject: text\n", notice)
        self.assertNotIn(b"\nHello!\n", notice)


class MuttTestCase(PeopleTestCase):
    def mutt(self, listener: str, *settings: str, to: str, status: int = 0) -> str:
        """A letter that mutt sends by a listener of ours, as its settings stand in the file that people write."""
        home = self.folder()
        scheme = "smtps" if listener == "submissions" else "smtp"
        url = f"{scheme}://ann@localhost:{self.office.address(listener)[1]}/"
        (home / "rc").write_text(
            f'set smtp_url="{url}" smtp_pass="{PASSWORD}" from="ann@client.test" hostname="client.test"\n'
            f'set ssl_starttls=yes ssl_force_tls=yes certificate_file="{home}/certificates"\n'
            f'set ssl_ca_certificates_file="{self.authority}" ssl_verify_host=yes ssl_verify_dates=yes\n'
            'set copy=no use_8bitmime=yes allow_8bit=yes send_charset="utf-8" charset="utf-8"\n'
            + "".join(f"set {setting}\n" for setting in settings)
        )
        words = ("mutt", "-n", "-F", home / "rc", "-s", "Grüße", "--", to)
        return run(*words, stdin="Zażółć gęślą jaźń\n.\n".encode(), status=status, cwd=home, HOME=str(home)).decode()

    def assertWritten(self, user: str) -> None:
        [octets] = self.sent_out(user)
        self.assertIn("\r\n\r\nZażółć gęślą jaźń\r\n.\r\n".encode(), without_trace(octets))
        self.assertIn(b" with ESMTPSA id ", octets)


class MuttTests(MuttTestCase):
    def test_by_starttls_and_encrypted_from_the_first_octet_on_by_each_mechanism(self) -> None:
        for listener in "submission", "submissions":
            for mechanism in "scram-sha-256", "plain", "login":
                user = f"mutt-{listener}-{mechanism}"
                self.mutt(listener, f'smtp_authenticators="{mechanism}"', to=f"{user}@elsewhere.test")
                self.assertWritten(user)

    def test_a_wrong_password(self) -> None:
        settings = ('smtp_authenticators="scram-sha-256"', 'smtp_pass="wrong"')
        self.assertIn("SASL authentication failed", self.mutt("submission", *settings, to="x@elsewhere.test", status=1))

    def test_a_server_that_it_does_not_believe(self) -> None:
        settings = (f'ssl_ca_certificates_file="{self.own("people.pem")}"', "ssl_usesystemcerts=no")
        self.mutt("submission", *settings, to="nobody@elsewhere.test", status=1)


class MuttAsItComesTests(MuttTestCase):
    """
    Debian's mutt takes the strongest mechanism that a server has, and cannot bind it to the connection.

    SCRAM-SHA-256-PLUS must not be offered to it, unless its user has said which mechanisms to take.
    """

    def test_it_logs_in_without_a_word_about_mechanisms(self) -> None:
        self.mutt("submission", to="as-it-comes@elsewhere.test")
        self.assertWritten("as-it-comes")
        logged(self.office, lambda event: event["event"] == "authenticated" and event["user"] == "ann")


class SmtplibTests(PeopleTestCase):
    def starttls(self, listener: str = "submission", context: ssl.SSLContext | None = None) -> smtplib.SMTP:
        client = smtplib.SMTP(
            "localhost", self.office.address(listener)[1], local_hostname="client.test", timeout=PATIENCE
        )
        self.addCleanup(client.close)
        client.starttls(context=context or believing())
        return client

    def implicit(self, **options: Any) -> smtplib.SMTP_SSL:
        _, port = self.office.address("submissions")
        client = smtplib.SMTP_SSL("localhost", port, local_hostname="client.test", context=believing(), **options)
        self.addCleanup(client.close)
        return client

    def test_a_login_and_all_messages_on_one_connection(self) -> None:
        for name, client in (("starttls", self.starttls()), ("implicit", self.implicit())):
            client.login("ann", PASSWORD)
            for key, octets in EVERYTHING.items():
                client.sendmail("ann@client.test", [f"{name}-{key}@elsewhere.test"], octets)
            for key, octets in EVERYTHING.items():
                self.assertSentOut(f"{name}-{key}", octets)

    def test_each_mechanism_that_it_has(self) -> None:
        for mechanism in "plain", "login":
            client = self.starttls()
            client.ehlo()
            client.user, client.password = "ann", PASSWORD
            self.assertEqual(client.auth(mechanism.upper(), getattr(client, f"auth_{mechanism}"))[0], 235)
            client.sendmail("ann@client.test", [f"smtplib-{mechanism}@elsewhere.test"], EIGHT_BIT)
            self.assertSentOut(f"smtplib-{mechanism}", EIGHT_BIT)

    def test_a_wrong_password_and_then_the_right_one(self) -> None:
        client = self.starttls()
        with self.assertRaises(smtplib.SMTPAuthenticationError) as refused:
            client.login("ann", "wrong")
        self.assertEqual(refused.exception.smtp_code, 535)
        client = self.starttls()
        client.ehlo()
        client.user, client.password = "ann", "wrong"
        with self.assertRaises(smtplib.SMTPAuthenticationError):
            client.auth("PLAIN", client.auth_plain)
        self.assertEqual(client.login("ann", PASSWORD)[0], 235)

    def test_a_certificate_for_another_host(self) -> None:
        context = believing()
        client = smtplib.SMTP("127.0.0.1", self.office.address("mx")[1], local_hostname="client.test")
        self.addCleanup(client.close)
        client._host = "elsewhere.test"  # type: ignore[attr-defined]
        with self.assertRaises(ssl.SSLCertVerificationError):
            client.starttls(context=context)

    def test_what_users_may_ask_and_strangers_may_not(self) -> None:
        client = self.starttls()
        client.ehlo()
        self.assertEqual(client.verify("ann@localhost")[0], 530)
        client.login("ann", PASSWORD)
        self.assertEqual(client.verify("ann@localhost")[0], 250)
        self.assertEqual(client.verify("ann@nowhere.test")[0], 550)
