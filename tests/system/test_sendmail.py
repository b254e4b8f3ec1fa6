"""Programs of this machine hand in mail by `relay-sendmail`, with the real relay behind its socket."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.system.harness import RelayProcess, SystemTestCase, configuration

pytestmark = pytest.mark.system

LISTENERS = {"sendmail": "unix:sendmail.sock"}


class SendmailTests(SystemTestCase):
    def sendmail(self, relay: RelayProcess, *arguments: str, typed: bytes) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "relay.cli.sendmail", "-C", str(relay.folder / "relay.toml"), *arguments],
            input=typed,
            capture_output=True,
            timeout=60,
            check=False,
        )

    def test_a_message_of_cron_ends_in_a_mailbox(self) -> None:
        relay = self.started(configuration(listeners=LISTENERS))
        typed = b"To: jon@localhost\nSubject: Cron\nBcc: ann@localhost\n\n10%\r50%\r100%\n.hidden\n.\nend \xc3\xa9\n"
        said = self.sendmail(relay, "-v", "-i", "-t", "-f", "kim@localhost", typed=typed)
        self.assertEqual((said.returncode, said.stderr), (0, b""))
        self.assertEqual(said.stdout.count(b"250 2.0.0 Ok: queued as"), 2)
        for user in ("jon", "ann"):
            self.assertTrue(relay.output.wait_for(f'"delivered".*"{user}@localhost"'))
            [message] = (relay.folder / "mail" / user / "new").iterdir()
            octets = message.read_bytes()
            self.assertTrue(octets.startswith(b"Return-Path: <kim@localhost>\n"), octets)
            self.assertIn(b"\n\n10%\n50%\n100%\n.hidden\n.\nend \xc3\xa9\n", octets)
            self.assertNotIn(b"Bcc", octets)

    def test_who_is_not_known_here_is_refused_with_the_status_that_sendmail_has(self) -> None:
        relay = self.started(configuration(listeners=LISTENERS))
        said = self.sendmail(relay, "nobody@localhost", typed=b"hello\n")
        self.assertEqual((said.returncode, said.stdout), (os.EX_NOUSER, b""))
        self.assertIn(b"nobody@localhost: the relay has refused it: 550 5.1.1", said.stderr)
        said = self.sendmail(relay, "-bv", "jon@localhost", typed=b"")
        self.assertEqual((said.returncode, said.stderr), (0, b""))

    def test_when_the_relay_is_down_nothing_is_kept_and_the_status_says_later(self) -> None:
        relay = self.started(configuration(listeners=LISTENERS))
        relay.stop()
        said = self.sendmail(relay, "jon@localhost", typed=b"hello\n")
        self.assertEqual((said.returncode, said.stdout), (os.EX_TEMPFAIL, b""))
