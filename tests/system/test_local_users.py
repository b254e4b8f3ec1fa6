"""Programs of this machine on a Unix socket: who they are the kernel says, where the listener asks for it."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys

import pytest

from tests.system.harness import MAILBOXES, RelayProcess, SystemTestCase, configuration

pytestmark = pytest.mark.system

#: Only those may send who have said who they are.
POLICIES = MAILBOXES.replace('use = "mailbox"\n', 'use = "mailbox"\nwhen = { authenticated = true }\n')


class LocalUserTests(SystemTestCase):
    def post(self, relay: RelayProcess) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "relay.cli.sendmail", "-C", str(relay.folder / "relay.toml"), "jon@localhost"],
            input=b"hello\n",
            capture_output=True,
            timeout=60,
            check=False,
        )

    def test_a_local_user_counts_as_authenticated(self) -> None:
        text = configuration(listeners={"sendmail": "unix:sendmail.sock"}, policies=POLICIES)
        relay = self.started(text.replace("[[listener]]", "[[listener]]\nlocal_users = true"))
        said = self.post(relay)
        self.assertEqual((said.returncode, said.stderr), (0, b""))
        line = relay.output.wait_for('"event":"accepted"').string
        self.assertEqual(json.loads(line[line.index("{") :])["user"], pwd.getpwuid(os.getuid()).pw_name)

    def test_where_nobody_asks_nobody_is_known(self) -> None:
        relay = self.started(configuration(listeners={"sendmail": "unix:sendmail.sock"}, policies=POLICIES))
        self.assertEqual(self.post(relay).returncode, os.EX_NOPERM)
