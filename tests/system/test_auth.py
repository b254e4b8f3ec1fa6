"""People log in, on real sockets: passwords that relayctl has written, failures, certificates, and others who know users."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import shutil
import smtplib
import ssl
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import scramp

from relay.smtp.sasl_lines import encode
from tests.system.encrypted import AUTHORITY, Client, ImplicitClient, believing, put, with_tls
from tests.system.harness import RelayProcess, SystemTestCase, eventually

pytestmark = pytest.mark.system

MESSAGE = "From: jon@localhost\r\nSubject: hello\r\n\r\nHello!\r\n"
PEOPLE = "people, tls = 'require', protocol = 'submission'"
IMPLICIT = "implicit, tls = 'implicit', protocol = 'submission'"
CERTIFIED = "certified, tls = 'implicit', protocol = 'submission', client_authorities = 'people.pem'"
#: All that there are.
MECHANISMS = ["EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"]


class AuthCase(SystemTestCase):
    @classmethod
    def certificates(cls) -> Path:
        folder = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, folder)
        put(folder / "mx.pem", "mx.test")
        return folder

    @classmethod
    def with_users(cls, *listeners: str, tables: str = "") -> RelayProcess:
        """A relay with a user jon, who is written as an operator would, before it starts."""
        folder = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, folder)
        users = f'[auth]\npasswords = "users"\nmechanisms = {json.dumps(MECHANISMS)}\n'
        text = with_tls(cls.certificates(), *listeners, tables=users + tables)
        relay = RelayProcess(folder, text)
        (folder / "people.pem").write_bytes(AUTHORITY.cert_pem.bytes())
        cls.addClassCleanup(relay.close)
        written = relay.relayctl("passwd", "-c", "relay.toml", "jon", "--stdin", typed="s3cret\n")
        assert written.returncode == 0, written.stderr
        relay.start()
        return relay


class SubmissionTests(AuthCase):
    relay_process: RelayProcess

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        limits = "[limits]\nauth_failures_per_address = 1000\n"
        cls.relay_process = cls.with_users(PEOPLE, IMPLICIT, CERTIFIED, "mx, tls = 'offer'", tables=limits)

    @contextlib.contextmanager
    def client(self, name: str = "people") -> Iterator[smtplib.SMTP]:
        """An encrypted one, after EHLO."""
        kind = Client if name in ("people", "mx") else ImplicitClient
        with kind(self.relay_process.address(name)) as client:
            if isinstance(client, Client):
                client.encrypt()
            client.ehlo()
            yield client

    def test_who_logs_in_sends_mail_to_the_world(self) -> None:
        for name in ("people", "implicit"):
            with self.client(name) as client:
                self.assertEqual(client.mail("jon@localhost")[0], 530)
                client.login("jon", "s3cret")
                mark = self.relay_process.mark
                self.assertEqual(client.sendmail("jon@localhost", "bob@example.org", MESSAGE), {})
                self.relay_process.event("accepted", since=mark, user="jon")

    def test_by_each_mechanism(self) -> None:
        with self.client() as client:
            offered = client.esmtp_features["auth"].split()
        self.assertEqual(offered, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"])
        for mechanism in ("PLAIN", "LOGIN"):
            with self.client() as client:
                client.esmtp_features["auth"] = mechanism
                self.assertEqual(client.login("jon", "s3cret")[0], 235)

    def test_without_showing_the_password_and_bound_to_the_connection(self) -> None:
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"):
            with self.client() as client:
                assert isinstance(client.sock, ssl.SSLSocket)
                shown = client.sock.getpeercert(binary_form=True)
                assert shown is not None
                binding = ("tls-server-end-point", hashlib.sha256(shown).digest())
                bound = binding if mechanism.endswith("PLUS") else None
                peer = scramp.ScramClient([mechanism], "jon", "s3cret", channel_binding=bound)
                first = encode(peer.get_client_first().encode()).decode()
                code, challenge = client.docmd("AUTH", f"{mechanism} {first}")
                self.assertEqual(code, 334, challenge)
                peer.set_server_first(base64.b64decode(challenge).decode())
                code, proof = client.docmd(encode(peer.get_client_final().encode()).decode())
                self.assertEqual(code, 334, proof)
                peer.set_server_final(base64.b64decode(proof).decode())
                self.assertEqual(client.docmd("")[0], 235)

    def test_a_wrong_password_and_a_user_whom_nobody_knows_are_told_the_same(self) -> None:
        said = []
        for user, password in (("jon", "secret"), ("elvis", "s3cret")):
            with self.client() as client, self.assertRaises(smtplib.SMTPAuthenticationError) as caught:
                client.esmtp_features["auth"] = "PLAIN"
                client.login(user, password)
            said.append((caught.exception.smtp_code, caught.exception.smtp_error))
        self.assertEqual(said[0], said[1])
        self.assertEqual(said[0][0], 535)

    def test_three_failures_end_the_session(self) -> None:
        with self.client() as client:
            heard = [client.docmd("AUTH", "PLAIN " + encode(b"\0jon\0wrong").decode())[0] for _ in range(3)]
            self.assertEqual(heard, [535, 535, 421])
            with self.assertRaises(smtplib.SMTPServerDisconnected):
                client.noop()

    def test_a_password_that_is_changed_counts_at_once_and_the_old_one_no_longer(self) -> None:
        for password in ("first", "second"):
            written = self.relay_process.relayctl("passwd", "-c", "relay.toml", "ann", "--stdin", typed=f"{password}\n")
            self.assertEqual(written.returncode, 0, written.stderr)
            self.eventually_logs_in("ann", password)
        with self.client() as client:
            self.assertRaises(smtplib.SMTPAuthenticationError, client.login, "ann", "first")

    def eventually_logs_in(self, user: str, password: str) -> None:
        """The file is looked at once a second."""

        def holds() -> bool:
            with self.client() as client:
                try:
                    client.login(user, password)
                except smtplib.SMTPAuthenticationError:
                    return False
                return True

        eventually(holds)

    def test_nobody_logs_in_in_clear(self) -> None:
        for name in ("mx", "people"):
            with Client(self.relay_process.address(name)) as client:
                client.ehlo()
                self.assertFalse(client.has_extn("auth"))
                self.assertGreaterEqual(client.docmd("AUTH", "PLAIN " + encode(b"\0jon\0s3cret").decode())[0], 500)

    def test_people_may_log_in_at_a_listener_for_servers_too(self) -> None:
        with self.client("mx") as client:
            client.login("jon", "s3cret")
            self.assertEqual(client.sendmail("jon@localhost", "bob@example.org", MESSAGE), {})

    def test_who_shows_a_certificate_needs_no_password(self) -> None:
        folder = self.folder()
        identity = AUTHORITY.issue_cert("ann@localhost")
        path = folder / "ann.pem"
        path.write_bytes(identity.private_key_and_cert_chain_pem.bytes())
        address = self.relay_process.address("certified")
        with ImplicitClient(address, context=believing(certfile=str(path))) as client:
            client.ehlo()
            self.assertEqual(client.esmtp_features["auth"].split()[0], "EXTERNAL")
            self.assertEqual(client.docmd("AUTH", "EXTERNAL =")[0], 235)
            mark = self.relay_process.mark
            self.assertEqual(client.sendmail("ann@localhost", "bob@example.org", MESSAGE), {})
            self.relay_process.event("accepted", since=mark, user="ann@localhost")

    def test_who_shows_none_is_not_offered_it(self) -> None:
        with self.client("certified") as client:
            self.assertNotIn("EXTERNAL", client.esmtp_features["auth"].split())
            self.assertEqual(client.docmd("AUTH", "EXTERNAL =")[0], 504)

    def test_no_password_is_in_any_log(self) -> None:
        with self.client() as client, contextlib.suppress(smtplib.SMTPAuthenticationError):
            client.login("jon", "not-it-xyzzy")
        with self.client() as client:
            client.login("jon", "s3cret")
        log = self.relay_process.output.text()
        for secret in ("s3cret", "xyzzy", encode(b"\0jon\0s3cret").decode(), encode(b"s3cret").decode()):
            self.assertNotIn(secret, log)


class LimitTests(AuthCase):
    def test_an_address_that_has_failed_too_often_is_turned_away_with_the_right_password(self) -> None:
        relay = self.with_users(IMPLICIT, tables="[limits]\nauth_failures_per_address = 4\n")
        heard = []
        for _ in range(2):
            with ImplicitClient(relay.address("implicit")) as client:
                client.ehlo()
                heard += [client.docmd("AUTH", "PLAIN " + encode(b"\0jon\0wrong").decode())[0] for _ in range(2)]
        self.assertEqual(heard, [535, 535, 535, 421])
        with ImplicitClient(relay.address("implicit")) as client:
            client.ehlo()
            self.assertEqual(client.docmd("AUTH", "PLAIN " + encode(b"\0jon\0s3cret").decode())[0], 421)

    def test_users_that_cannot_be_read_are_a_matter_for_the_operator_and_no_failure(self) -> None:
        relay = self.with_users(IMPLICIT)
        relay.expected.append("others may read or write it")
        (relay.folder / "users").chmod(0o644)

        def unavailable() -> bool:
            with ImplicitClient(relay.address("implicit")) as client:
                client.ehlo()
                return client.docmd("AUTH", "PLAIN " + encode(b"\0jon\0s3cret").decode())[0] == 454

        eventually(unavailable)
        relay.wait_for("Nobody can be authenticated now: .*others may read or write it")


class PluginTests(AuthCase):
    def test_a_checker_of_twisted_cred_knows_the_users(self) -> None:
        text = with_tls(self.certificates(), IMPLICIT, tables='[auth]\nchecker = "our_users:Users"\n')
        relay = self.relay(text)
        (relay.folder / "our_users.py").write_text(CHECKER)
        relay.start()
        with ImplicitClient(relay.address("implicit")) as client:
            client.ehlo()
            self.assertEqual(client.esmtp_features["auth"].split(), ["PLAIN", "LOGIN"])
            self.assertEqual(client.login("kim", "pencil")[0], 235)


CHECKER = textwrap.dedent(
    """
    from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse

    class Users(InMemoryUsernamePasswordDatabaseDontUse):
        def __init__(self):
            super().__init__(kim=b"pencil")
    """
)
