"""What the relay carries to aiosmtpd by STARTTLS, with a login, and by LMTP."""

from __future__ import annotations

import smtplib
import ssl
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult, LoginPassword

from tests.interop.house import BOXES, InteropTestCase, logged
from tests.interop.mails import EVERYTHING, PLAIN, assert_same, trace, without_trace
from tests.interop.office import AUTHORITY, USERS, write_authority, write_certificate
from tests.interop.peers import until
from tests.interop.sinks import Aiosmtpd
from tests.system.harness import RelayProcess, configuration

pytestmark = pytest.mark.interop

#: aiosmtpd offers AUTH, and refuses the parameter that comes with it (its issue 299).
WITHOUT = 'without = ["AUTH"]'
LOGIN = f'[[login]]\nname = "ann"\nuser = "ann"\npassword = "{USERS["ann"]}"\n'


def knows(server: object, session: object, envelope: object, mechanism: str, said: Any) -> AuthResult:
    """Whether this is Ann and her password."""
    right = LoginPassword(b"ann", USERS["ann"].encode())
    # Not `handled`: aiosmtpd has to say what follows.
    return AuthResult(success=isinstance(said, LoginPassword) and said == right, handled=False)


class AiosmtpdTests(InteropTestCase):
    def peer(self, name: str = "127.0.0.1", **options: Any) -> Aiosmtpd:
        path = write_certificate(self.folder() / "cert.pem", name)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path)
        peer = Aiosmtpd(options={"tls_context": context, **options})
        peer.start()
        self.addCleanup(peer.stop)
        return peer

    def carrying(self, hop: str, tables: str = "", *messages: bytes) -> RelayProcess:
        """A relay with a next hop for `peer.test`, and a message or several under way."""
        authority = write_authority(self.folder() / "ca.pem", AUTHORITY)
        tables += f'[delivery.tls]\nauthorities = "{authority}"\n'
        policy = f'[[policy]]\nuse = "forward"\n{hop}\nwhen = {{ recipient = ["peer.test"] }}\n'
        relay = self.started(configuration(tables=tables, policies=BOXES + policy))
        with smtplib.SMTP(*relay.address(), local_hostname="client.test") as client:
            for octets in messages or (PLAIN["dots"],):
                client.sendmail("bob@localhost", ["jon@peer.test", "ann@peer.test"], octets, ["BODY=8BITMIME"])
        return relay

    def assertCarried(self, relay: RelayProcess, peer: Aiosmtpd, *messages: bytes) -> None:
        until(lambda: len(peer.messages) >= len(messages), relay.output.text)
        self.assertEqual({tuple(to) for _, to, _, _ in peer.messages}, {("jon@peer.test", "ann@peer.test")})
        found = sorted(without_trace(octets) for *_, octets in peer.messages)
        for octets, expected in zip(found, sorted(messages), strict=True):
            assert_same(octets, expected)

    def test_all_messages_by_starttls_with_a_host_that_is_known(self) -> None:
        peer = self.peer(require_starttls=True)
        hop = f'next_hop = "127.0.0.1:{peer.port}"\ntls = "verify"'
        relay = self.carrying(hop, "", *EVERYTHING.values())
        self.assertCarried(relay, peer, *EVERYTHING.values())
        self.assertTrue(all(session.ssl is not None for session in peer.sessions))

    def test_to_nobody_whose_certificate_is_for_somebody_else(self) -> None:
        peer = self.peer("other.test")
        relay = self.carrying(f'next_hop = "127.0.0.1:{peer.port}"\ntls = "verify"')
        [delayed, _] = logged(relay, lambda event: event["event"] == "delayed", "both wait", 2)
        self.assertIn("its certificate is not for 127.0.0.1 but for other.test", str(delayed))
        self.assertEqual(peer.messages, [])

    def test_with_a_login_by_each_mechanism(self) -> None:
        for mechanism, other in (("PLAIN", "LOGIN"), ("LOGIN", "PLAIN")):
            peer = self.peer(authenticator=knows, auth_required=True, auth_exclude_mechanism=[other])
            hop = f'next_hop = "127.0.0.1:{peer.port}"\ntls = "verify"\nlogin = "ann"\n{WITHOUT}'
            self.assertCarried(self.carrying(hop, LOGIN), peer, PLAIN["dots"])
            [session] = peer.sessions
            self.assertTrue(session.authenticated, mechanism)

    def test_a_login_that_is_wrong_keeps_the_mail_here_and_its_password_out_of_the_log(self) -> None:
        peer = self.peer(authenticator=knows, auth_required=True)
        hop = f'next_hop = "127.0.0.1:{peer.port}"\ntls = "verify"\nlogin = "ann"\n{WITHOUT}'
        relay = self.carrying(hop, LOGIN.replace(USERS["ann"], "incorrect horse"))
        relay.expected.append("does not let us in")
        [delayed, _] = logged(relay, lambda event: event["event"] == "delayed", "both wait", 2)
        self.assertIn("535", str(delayed))
        self.assertNotIn("incorrect horse", relay.output.text())
        self.assertEqual(peer.messages, [])

    def test_by_lmtp_on_a_unix_socket(self) -> None:
        path = self.folder() / "lmtp"
        peer = Aiosmtpd()
        peer.start_at(Path(path))
        self.addCleanup(peer.stop)
        hop = f'next_hop = "unix:{path}"\nprotocol = "lmtp"'
        relay = self.carrying(hop, "", *EVERYTHING.values())
        self.assertCarried(relay, peer, *EVERYTHING.values())
        delivered = logged(relay, lambda event: event["event"] == "delivered", "LMTP delivers", 2 * len(EVERYTHING))
        self.assertIn(str(path), delivered[0]["by"])
        self.assertRegex(trace(peer.messages[0][3])[0], rb"^Received: from client\.test .* by mx\.test \(relay\) ")
