"""The server of etc/examples, as it stands there but for its addresses and folders."""

from __future__ import annotations

import re
import shutil
import smtplib
import tempfile
from pathlib import Path

import pytest

from tests.system.encrypted import Client, ImplicitClient, put
from tests.system.harness import REPOSITORY, RelayProcess, SystemTestCase

pytestmark = pytest.mark.system

MESSAGE = "From: someone\r\nSubject: hello\r\n\r\nHello!\r\n"


class ExampleTests(SystemTestCase):
    server: RelayProcess

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        folder = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, folder)
        text = (REPOSITORY / "etc/examples/mx-and-submission.toml").read_text()
        text = re.sub(r'"\[::\]:\d+"', '"127.0.0.1:0"', text)
        text = re.sub(r"/(?:var/lib|run|var/log)/relay/", "", text).replace("/etc/letsencrypt/live", "live")
        text = re.sub(r'mail = "mail.log"', 'mail = "-"\nformat = "json"', text)
        put(folder / "live/mx.example.org.pem", "mx.example.org")
        cls.server = RelayProcess(folder, text)
        cls.addClassCleanup(cls.server.close)
        written = cls.server.relayctl("passwd", "-c", "relay.toml", "ann", "--stdin", typed="s3cret\n")
        assert written.returncode == 0, written.stderr
        checked = cls.server.relayctl("check", "relay.toml")
        assert (checked.returncode, checked.stderr) == (0, ""), checked.stderr
        cls.server.start()

    def arrives(self, client: smtplib.SMTP, sender: str, recipient: str, user: str) -> None:
        mark = self.server.mark
        self.assertEqual(client.sendmail(sender, recipient, MESSAGE), {})
        self.server.event("delivered", since=mark)
        self.assertTrue(list((self.server.folder / "mail" / user / "new").iterdir()))

    def test_the_world_writes_to_people(self) -> None:
        with Client(self.server.address("mx"), "mx.example.org") as client:
            client.encrypt()
            client.ehlo()
            self.assertFalse(client.has_extn("auth"))
            self.arrives(client, "bob@example.com", "postmaster@example.org", "ann")

    def test_the_world_does_not_write_to_the_world(self) -> None:
        with Client(self.server.address("mx")) as client:
            client.ehlo()
            client.mail("bob@example.com")
            self.assertEqual(client.rcpt("eve@example.net")[0], 550)

    def test_people_write_to_the_world_once_they_have_logged_in(self) -> None:
        for name, kind in (("submission", Client), ("submissions", ImplicitClient)):
            with kind(self.server.address(name), "mx.example.org") as client:
                if isinstance(client, Client):
                    client.encrypt()
                client.ehlo()
                self.assertEqual(client.mail("ann@example.org")[0], 530)
                client.login("ann", "s3cret")
                self.assertEqual(client.mail("ann@example.org")[0], 250)
                self.assertEqual(client.rcpt("bob@example.com")[0], 250)
                client.rset()
                self.arrives(client, "ann@example.org", "jon@example.org", "jon")

    def test_programs_of_this_machine_write_to_the_world(self) -> None:
        with smtplib.LMTP(str(self.server.folder / "lmtp.sock")) as client:
            client.ehlo()
            self.assertEqual(client.mail("root@mx.example.org")[0], 250)
            self.assertEqual(client.rcpt("bob@example.com")[0], 250)
