"""The real twistd in a clean environment: how it refuses to start, and a third party's policy at work."""

from __future__ import annotations

import shutil
import smtplib
import socket
import subprocess
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.packaging import environments
from tests.packaging.environments import REPOSITORY, Environment, environ

pytestmark = [
    pytest.mark.packaging,
    pytest.mark.system,
    pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="not in a clone of the repository"),
]

WRONG = """\
hostname = "mx.example.org"
lisener = 1

[[policy]]
use = "reject"
txt = "relaying denied"
"""

COMPLAINTS = """\
wrong.toml:2: lisener: unknown key, did you mean 'listener'?
wrong.toml:6: policy.1.txt: unknown key, did you mean 'text'?
"""

RIGHT = """\
hostname = "mx.example.org"
[spool]
path = "spool"
[control]
socket = "control.sock"
[[listener]]
address = "127.0.0.1:{port}"
{policies}
"""

HOLIDAY = """
[[policy]]
use = "holiday"
first = {yesterday:%Y-%m-%d}
last = {tomorrow:%Y-%m-%d}
recipients = ["jon@example.org"]
text = "gone fishing"
[[policy]]
use = "discard"
"""


def setUpModule() -> None:
    environments.begin()


@cache
def installed() -> Environment:
    """The relay from its wheel, and relay-holiday beside it."""
    environment = Environment.make("installed")
    environment.install(environments.wheel(), holiday_copy())
    return environment


@cache
def holiday_copy() -> Path:
    return Path(shutil.copytree(environments.repository_copy() / "examples/relay-holiday", environments.workshop / "h"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


class WrongConfigurationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = environments.workshop / self.id()
        self.folder.mkdir()
        (self.folder / "wrong.toml").write_text(WRONG)

    def test_the_command_relay_says_each_problem_and_nothing_else(self) -> None:
        ran = installed().run("relay", "-c", "wrong.toml", cwd=self.folder)
        self.assertEqual((ran.status, ran.stdout, ran.stderr), (78, "", COMPLAINTS))

    def test_twistd_says_the_same_before_it_would_leave_the_terminal(self) -> None:
        for foreground in [], ["--nodaemon"]:
            ran = installed().twistd(*foreground, "--pidfile=", "relay", "-c", "wrong.toml", cwd=self.folder)
            self.assertEqual((ran.status, ran.stdout, ran.stderr), (78, "", COMPLAINTS))
        self.assertEqual([left.name for left in self.folder.iterdir()], ["wrong.toml"])

    def test_a_file_that_is_not_there_is_a_wrong_configuration(self) -> None:
        ran = installed().run("relay", "-c", "absent.toml", cwd=self.folder)
        self.assertEqual((ran.status, ran.stdout), (78, ""))
        self.assertEqual(ran.stderr, "absent.toml: cannot be read: No such file or directory\n")


class HolidayTests(SynchronousTestCase):
    def start(self, policies: str) -> tuple[int, Path]:
        """Start twistd with these policies; the port where it answers, and its log."""
        folder, port = environments.workshop / "run", free_port()  # a short name: sockets have short paths
        folder.mkdir()
        (folder / "relay.toml").write_text(RIGHT.format(port=port, policies=policies))
        log = folder / "log"
        words = ["--nodaemon", "--pidfile=", "relay", "--config", "relay.toml"]
        with log.open("w") as out:
            twistd = subprocess.Popen(
                [installed().bin / "python", installed().bin / "twistd", *words],
                cwd=folder,
                env=environ(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.addCleanup(twistd.wait, 30)
        self.addCleanup(twistd.terminate)
        for _ in range(600):
            if twistd.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
            except ConnectionRefusedError:
                time.sleep(0.05)  # a process that starts has no other way to tell us
            else:
                return port, log
        raise AssertionError(log.read_text())

    def test_its_own_tests_pass_in_a_clean_environment(self) -> None:
        ran = installed().run("python", "-m", "twisted.trial", "test_relay_holiday", cwd=holiday_copy())
        self.assertEqual(ran.status, 0, ran.stdout + ran.stderr)
        self.assertIn("PASSED", ran.stdout)

    def test_a_client_of_the_real_relay_hears_its_450(self) -> None:
        now, day = datetime.now(UTC), timedelta(days=1)
        port, log = self.start(HOLIDAY.format(yesterday=now - day, tomorrow=now + day))
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client.example.com", timeout=20) as client:
            client.ehlo()
            self.assertEqual(client.mail("bob@example.com")[0], 250)
            code, text = client.rcpt("jon@example.org")
            self.assertEqual(code, 450)
            self.assertRegex(text, rb"^4\.2\.1 gone fishing \[ref [0-9A-Z]{6}\]$")
            self.assertEqual(client.rcpt("ann@example.org")[0], 250)
        self.assertNotIn("Traceback", log.read_text())
