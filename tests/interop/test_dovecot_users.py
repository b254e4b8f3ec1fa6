"""People log in to the relay by passwords that Dovecot knows."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Final

import pytest
import trustme

from tests.interop.house import InteropTestCase
from tests.interop.peers import NOBODY, PATIENCE, Server, permit, until
from tests.system.harness import RelayProcess, configuration

pytestmark = pytest.mark.interop

AUTHORITY: Final = trustme.CA()

_CONFIGURATION: Final = """\
base_dir = {folder}/run
state_dir = {folder}/state
protocols =
log_path = /dev/stderr
ssl = no
first_valid_uid = 1
default_vsz_limit = 1G
auth_failure_delay = 1s
auth_username_chars =
passdb {{
  driver = passwd-file
  args = scheme=plain username_format=%u {folder}/users
}}
userdb {{
  driver = static
  args = uid={user} gid=nogroup home={folder}
}}
service auth {{
  unix_listener {folder}/auth-client {{
    mode = 0600
    user = {user}
  }}
}}
"""

_RELAY: Final = """
[tls]
certificates = ["mx.pem"]
[auth]
dovecot = "{socket}"
[process]
user = "{user}"
"""

_LISTENER: Final = """
[[listener]]
name = "people"
address = "127.0.0.1:0"
protocol = "submission"
tls = "implicit"
[[policy]]
use = "discard"
"""


class DovecotUsersTests(InteropTestCase):
    relay_process: ClassVar[RelayProcess]
    dovecot: ClassVar[Server]
    socket: ClassVar[Path]

    @classmethod
    def setUpClass(cls) -> None:
        folder = cls.shared_folder()
        permit(folder, home := folder / "relay")
        (folder / "users").write_text("ann:correct horse\njürgen:Grüße, 100 %\n")
        (folder / "dovecot.conf").write_text(_CONFIGURATION.format(folder=folder, user=NOBODY))
        cls.dovecot = Server(folder / "log", "dovecot", "-F", "-c", folder / "dovecot.conf")
        cls.addClassCleanup(cls.dovecot.stop)
        cls.socket = folder / "auth-client"
        until(cls.socket.exists, "Dovecot listens")
        tables = _RELAY.format(socket=cls.socket, user=NOBODY)
        cls.relay_process = RelayProcess(home, configuration(tables=tables, policies=_LISTENER))
        certificate = home / "mx.pem"
        certificate.write_bytes(AUTHORITY.issue_cert("mx.test", "127.0.0.1").private_key_and_cert_chain_pem.bytes())
        certificate.chmod(0o600)
        cls.addClassCleanup(cls.relay_process.close)
        cls.relay_process.start()

    @contextlib.contextmanager
    def client(self) -> Iterator[smtplib.SMTP]:
        context = ssl.create_default_context(cadata=AUTHORITY.cert_pem.bytes().decode())
        address = self.relay_process.address("people")
        with smtplib.SMTP_SSL(*address, local_hostname="client.test", timeout=PATIENCE, context=context) as client:
            client.ehlo()
            yield client

    def said(self, user: str, password: str, mechanism: str = "PLAIN") -> int:
        """The code of the reply in the end."""
        with self.client() as client:
            client.user, client.password = user, password
            given = client.auth_plain if mechanism == "PLAIN" else client.auth_login
            try:
                return client.auth(mechanism, given)[0]
            except smtplib.SMTPAuthenticationError as refused:
                return refused.smtp_code

    def test_it_offers_what_dovecot_can_be_asked(self) -> None:
        with self.client() as client:
            self.assertEqual(client.esmtp_features["auth"].split(), ["PLAIN", "LOGIN"])

    def test_who_has_a_password_there_sends_mail(self) -> None:
        for mechanism in ("PLAIN", "LOGIN"):
            self.assertEqual(self.said("ann", "correct horse", mechanism), 235)
        with self.client() as client:
            client.login("ann", "correct horse")
            mark = self.relay_process.mark
            self.assertEqual(
                client.sendmail("ann@localhost", "bob@example.org", "Subject: hello\r\n\r\nHello!\r\n"), {}
            )
            self.relay_process.event("accepted", since=mark, user="ann")

    def test_a_wrong_password_and_a_user_whom_it_does_not_know_are_told_the_same(self) -> None:
        self.assertEqual([self.said("ann", "wrong"), self.said("elvis", "correct horse")], [535, 535])

    def test_names_and_passwords_are_utf_8(self) -> None:
        with self.client() as client:
            first = b"\0" + "jürgen".encode() + b"\0" + "Grüße, 100 %".encode()
            self.assertEqual(client.docmd("AUTH", "PLAIN " + b64encode(first).decode())[0], 235)

    def test_while_it_is_away_nobody_can_say(self) -> None:
        away = self.socket.with_name("away")
        self.relay_process.expected.append("Nobody can be authenticated now: Dovecot's authentication: not connected")
        self.socket.rename(away)
        try:
            self.assertEqual(self.said("ann", "correct horse"), 454)
        finally:
            away.rename(self.socket)
        self.assertEqual(self.said("ann", "correct horse"), 235)
