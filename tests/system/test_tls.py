"""TLS on real sockets: STARTTLS, from the first octet on, certificates by name, and certificates that change."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.system.clients import Telnet
from tests.system.encrypted import AUTHORITY, Client, ImplicitClient, believing, put, subject, with_tls
from tests.system.harness import PATIENCE, RelayProcess, SystemTestCase, configuration

pytestmark = pytest.mark.system

MESSAGE = "From: bob@client.test\r\nSubject: hello\r\n\r\nHello!\r\n"


def trace(path: Path) -> str:
    """The header section of a message, each field in one line."""
    return " ".join(path.read_text().partition("\n\n")[0].split())


class EncryptedTests(SystemTestCase):
    mx: RelayProcess

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        folder = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, folder)
        put(folder / "a.pem", "mx.test")
        put(folder / "b/b.pem", "mx.example")
        cls.mx = cls.share(
            with_tls(folder, "mx, tls = 'offer'", "strict, tls = 'require'", "implicit, tls = 'implicit'")
        )

    def sent(self, client: smtplib.SMTP, user: str) -> str:
        """Send this user a message; the header section with which it arrives."""
        self.assertEqual(client.sendmail("bob@client.test", f"{user}@localhost", MESSAGE), {})
        self.mx.event("delivered", recipient=f"{user}@localhost")
        [path] = (self.mx.folder / "mail" / user / "new").iterdir()
        return trace(path)

    def test_mail_comes_in_by_starttls_and_its_trace_says_so(self) -> None:
        with Client(self.mx.address("mx")) as client:
            client.ehlo()
            self.assertTrue(client.has_extn("starttls"))
            client.encrypt()
            client.ehlo()
            self.assertFalse(client.has_extn("starttls"))
            self.assertIn(" with ESMTPS ", self.sent(client, "jon"))

    def test_mail_comes_in_encrypted_from_the_first_octet_on(self) -> None:
        with ImplicitClient(self.mx.address("implicit")) as client:
            client.ehlo()
            self.assertFalse(client.has_extn("starttls"))
            self.assertIn(" with ESMTPS ", self.sent(client, "ann"))

    def test_mail_comes_in_in_clear_where_tls_is_only_offered(self) -> None:
        with Client(self.mx.address("mx")) as client:
            self.assertIn(" with ESMTP ", self.sent(client, "kim"))

    def test_nothing_is_done_in_clear_where_tls_is_required(self) -> None:
        with Telnet(self.mx.address("strict")) as client:
            client.say("EHLO client.test")
            self.assertTrue(client.say("MAIL FROM:<bob@client.test>").startswith("530 5.7.0 "))
            self.assertTrue(client.say("NOOP").startswith("250"))
        with Client(self.mx.address("strict")) as encrypted:
            encrypted.encrypt()
            self.assertEqual(encrypted.mail("bob@client.test")[0], 503)  # EHLO is forgotten (RFC 3207 section 4.2)
            encrypted.ehlo()
            self.assertEqual(encrypted.mail("bob@client.test")[0], 250)

    def test_a_client_sees_the_certificate_of_the_host_that_it_asks_for(self) -> None:
        for asked, shown in (("mx.test", "mx.test"), ("mx.example", "mx.example")):
            with Client(self.mx.address("mx"), asked) as client:
                client.encrypt()
                self.assertEqual(subject(client), shown)
            with ImplicitClient(self.mx.address("implicit"), asked) as client:
                self.assertEqual(subject(client), shown)

    def test_a_client_that_asks_for_another_host_does_not_believe_what_it_sees(self) -> None:
        with Client(self.mx.address("mx"), "elsewhere.test") as client, self.assertRaises(ssl.SSLCertVerificationError):
            client.encrypt()

    def test_octets_behind_starttls_end_the_connection(self) -> None:
        with Telnet(self.mx.address("mx")) as client:
            client.say("EHLO client.test")
            client.send(b"STARTTLS\r\nMAIL FROM:<bob@client.test>\r\n")
            said = client.replies()
            self.assertTrue(said[-1].startswith("421 4.7.0 "), said)
            self.assertEqual(client.reply(), "")

    def test_clear_text_where_a_handshake_is_due_ends_the_connection_and_nothing_else(self) -> None:
        for name, before in (("implicit", ()), ("mx", (b"EHLO client.test\r\n", b"STARTTLS\r\n"))):
            with socket.create_connection(self.mx.address(name), PATIENCE) as client:
                if before:
                    client.recv(4096)
                for line in before:
                    client.sendall(line)
                    client.recv(4096)
                client.sendall(b"GET / HTTP/1.0\r\n\r\n" * 3)
                with contextlib.suppress(ConnectionResetError):
                    while client.recv(4096):
                        pass
        with ImplicitClient(self.mx.address("implicit")) as another:
            self.assertEqual(another.noop()[0], 250)

    def test_openssl_gets_through(self) -> None:
        """As docs/tls.md has it."""
        authority = self.mx.folder / "ca.pem"
        authority.write_bytes(AUTHORITY.cert_pem.bytes())
        for name, more in (("mx", ["-starttls", "smtp"]), ("implicit", [])):
            host, port = self.mx.address(name)
            ran = subprocess.run(
                [
                    *("openssl", "s_client", "-connect", f"{host}:{port}", "-servername", "mx.example", *more),
                    *("-CAfile", os.fspath(authority), "-verify_return_error", "-brief"),
                ],
                input="QUIT\r\n",
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            self.assertIn("Verification: OK", ran.stdout + ran.stderr)
            self.assertIn("Protocol version: TLSv1.3", ran.stdout + ran.stderr)


class ChangingTests(SystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.certificates = self.folder()
        put(self.certificates / "a.pem", "first.test")

    def shown(self, relay: RelayProcess) -> str:
        context = believing()
        context.check_hostname = False
        with Client(relay.address("mx")) as client:
            client.encrypt(context)
            return subject(client)

    def test_a_replaced_certificate_is_shown_after_sighup_and_connections_go_on(self) -> None:
        relay = self.started(with_tls(self.certificates, "mx, tls = 'offer'"))
        with Client(relay.address("mx"), "first.test") as before:
            before.encrypt()
            put(self.certificates / "a.pem", "second.test")
            relay.send_signal(signal.SIGHUP)
            relay.wait_for("The certificates have changed and are in use now: second.test")
            self.assertEqual(self.shown(relay), "second.test")
            self.assertEqual(before.noop()[0], 250)

    def test_a_broken_one_is_not_and_the_old_one_goes_on(self) -> None:
        relay = self.started(with_tls(self.certificates, "mx, tls = 'offer'"))
        relay.expected.append("The certificates have changed and are broken")
        path = self.certificates / "a.pem"
        path.write_text(path.read_text().replace("MII", "ABC"))
        relay.send_signal(signal.SIGHUP)
        relay.wait_for("The certificates have changed and are broken, the old ones go on: .*a.pem")
        self.assertEqual(self.shown(relay), "first.test")
        put(self.certificates / "a.pem", "third.test")
        relay.send_signal(signal.SIGHUP)
        relay.wait_for("in use now: third.test")
        self.assertEqual(self.shown(relay), "third.test")

    def test_without_a_certificate_the_relay_makes_one_and_says_so(self) -> None:
        text = configuration(policies=MX)
        relay = self.started(text)
        relay.wait_for("No certificate is configured for mx. The relay has made one itself")
        own = relay.folder / "var/tls/own.pem"
        self.assertEqual(own.stat().st_mode & 0o777, 0o600)
        with Client(relay.address("mx")) as client:
            client.encrypt(ssl.create_default_context(cafile=os.fspath(own)))
            self.assertEqual(subject(client), "mx.test")
        before = own.read_bytes()
        relay.stop()
        relay.start()
        self.assertEqual(own.read_bytes(), before)

    def test_a_key_that_others_can_read_keeps_the_relay_from_starting(self) -> None:
        (self.certificates / "a.pem").chmod(0o644)
        relay = self.relay(with_tls(self.certificates, "mx, tls = 'offer'"))
        relay.spawn()
        self.assertEqual(relay.wait(), os.EX_CONFIG)
        self.assertRegex(
            relay.output.text(), r"^relay\.toml:\d+: tls\.certificates\.1: .*a\.pem: others can get at this key"
        )
        self.assertEqual([path.name for path in relay.folder.iterdir()], ["relay.toml"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
class RootTests(SystemTestCase):
    """A relay that root starts and that becomes `nobody`."""

    def setUp(self) -> None:
        super().setUp()
        self.nobody = pwd.getpwnam("nobody")
        self.everything = self.folder()
        self.everything.chmod(0o755)
        self.relay_folder = self.everything / "relay"
        self.relay_folder.mkdir()
        os.chown(self.relay_folder, self.nobody.pw_uid, self.nobody.pw_gid)

    def as_nobody(self, text: str) -> RelayProcess:
        relay = self.relay(f"{text}\n[process]\nuser = 'nobody'\n", folder=self.relay_folder)
        relay.start()
        return relay

    def test_its_own_certificate_is_the_users_to_whom_it_belongs_and_nobody_elses(self) -> None:
        relay = self.as_nobody(configuration(policies=MX))
        for path in (relay.folder / "var/tls", relay.folder / "var/tls/own.pem"):
            status = path.stat()
            self.assertEqual((status.st_uid, status.st_mode & 0o077), (self.nobody.pw_uid, 0))

    def test_what_only_root_can_read_is_shown_and_the_log_says_that_it_will_not_be_read_again(self) -> None:
        certificates = self.everything / "certificates"
        put(certificates / "a.pem", "first.test")
        relay = self.as_nobody(with_tls(certificates, "mx, tls = 'offer'"))
        relay.wait_for("Root has read this certificate, .*: it cannot be read: Permission denied")
        relay.expected.append("The certificates have changed and are broken")
        # Who it has become may not be able to run what checks the configuration.
        relay.expected += ["cannot be checked", "was not reloaded", "cannot be read"]
        put(certificates / "a.pem", "second.test")
        relay.send_signal(signal.SIGHUP)
        relay.wait_for("the old ones go on: .*a.pem: it cannot be read: Permission denied")
        with Client(relay.address("mx"), "first.test") as client:
            client.encrypt()
            self.assertEqual(subject(client), "first.test")


MX = """
[[listener]]
name = "mx"
address = "127.0.0.1:0"
tls = "offer"
"""
