"""One relay hands its mail to another, which wants to know who it is; and to a mail store, by LMTP."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.system.clients import Telnet
from tests.system.encrypted import AUTHORITY, put, with_tls
from tests.system.harness import RelayProcess, SystemTestCase, configuration

pytestmark = pytest.mark.system

PEOPLE = "people, tls = 'require', protocol = 'submission'"
SENDER = """
[delivery.tls]
authorities = "authority.pem"
[delivery.retry]
first = "1s"
most = "1s"
jitter = 0
[[login]]
name = "smarthost"
user = "jon"
password_file = "password"
"""
FORWARD = """
[[policy]]
use = "forward"
next_hop = "127.0.0.1:{port}"
tls = "verify"
login = "smarthost"
"""
LMTP = """
[[policy]]
use = "forward"
next_hop = "{next_hop}"
protocol = "lmtp"
"""


class SmarthostTests(SystemTestCase):
    smarthost: RelayProcess

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        folder = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, folder)
        put(folder / "certificates/mx.pem", "mx.test", "127.0.0.1")
        text = with_tls(
            folder / "certificates",
            PEOPLE,
            "store, protocol = 'lmtp'",
            tables='[auth]\npasswords = "users"\n[limits]\nauth_failures_per_address = 1000\n',
        )
        cls.smarthost = RelayProcess(folder, text)
        cls.addClassCleanup(cls.smarthost.close)
        written = cls.smarthost.relayctl("passwd", "-c", "relay.toml", "jon", "--stdin", typed="s3cret\n")
        assert written.returncode == 0, written.stderr
        cls.smarthost.start()

    def sender(self, password: str, listener: str = "people", policy: str = FORWARD) -> RelayProcess:
        folder = self.folder()
        (folder / "authority.pem").write_bytes(AUTHORITY.cert_pem.bytes())
        (folder / "password").write_text(f"{password}\n")
        (folder / "password").chmod(0o600)
        host, port = self.smarthost.address(listener)
        policies = policy.format(port=port, next_hop=f"{host}:{port}")
        relay = self.relay(configuration(tables=SENDER, policies=policies), folder=folder)
        relay.start()
        return relay

    def send(self, relay: RelayProcess, recipient: str) -> None:
        with Telnet(relay.address()) as client:
            self.assertTrue(client.post(recipient).startswith("250"))

    def test_mail_goes_by_a_verified_host_that_knows_who_we_are(self) -> None:
        relay = self.sender("s3cret")
        self.send(relay, "kim@localhost")
        relay.event("relayed", recipient="kim@localhost")
        self.smarthost.event("delivered", recipient="kim@localhost")
        [path] = (self.smarthost.folder / "mail/kim/new").iterdir()
        self.assertIn("with ESMTPSA", path.read_text())

    def test_a_wrong_password_delays_and_a_right_one_mends_it(self) -> None:
        relay = self.sender("wrong")
        relay.expected.append("does not let us in")
        self.send(relay, "ann@localhost")
        delayed = relay.event("delayed", recipient="ann@localhost")
        self.assertEqual((delayed["status"], delayed["about"]), ("4.7.8", "ourselves"))
        relay.wait_for("#critical.* does not let us in: 535")
        (relay.folder / "password").write_text("s3cret\n")
        relay.event("relayed", recipient="ann@localhost")

    def test_a_mail_store_is_handed_mail_by_lmtp(self) -> None:
        relay = self.sender("", "store", LMTP)
        self.send(relay, "jon@localhost")
        relay.event("delivered", recipient="jon@localhost")
        self.smarthost.event("delivered", recipient="jon@localhost")
