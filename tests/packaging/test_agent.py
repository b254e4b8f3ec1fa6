"""A third party's agent at work: installed beside the relay in a clean environment, and used by the configuration alone."""

from __future__ import annotations

import json
import shutil
import smtplib
import socket
import subprocess
import tempfile
import time
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

CONFIGURATION = """\
hostname = "mx.example.org"
[spool]
path = "spool"
[control]
socket = "control.sock"
[[listener]]
address = "127.0.0.1:{port}"
[[policy]]
use = "deliver"
agent = "jsonlines"
parameters = {{ {parameters} }}
"""


def setUpModule() -> None:
    environments.begin()


@cache
def jsonlines_copy() -> Path:
    original = environments.repository_copy() / "examples/relay-jsonlines"
    return Path(shutil.copytree(original, environments.workshop / "j"))


@cache
def installed() -> Environment:
    """The relay from its wheel, and relay-jsonlines beside it."""
    environment = Environment.make("agent")
    environment.install(environments.wheel(), jsonlines_copy())
    return environment


class JsonLinesTests(SynchronousTestCase):
    def folder(self, parameters: str) -> tuple[Path, int]:
        """A folder with a configuration, and the port that it says."""
        folder = Path(tempfile.mkdtemp(dir=environments.workshop))  # a short name: sockets have short paths
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port: int = listening.getsockname()[1]
        (folder / "relay.toml").write_text(CONFIGURATION.format(port=port, parameters=parameters))
        return folder, port

    def start(self, folder: Path, port: int) -> None:
        log = folder / "log"
        with log.open("w") as out:
            twistd = subprocess.Popen(
                [installed().bin / "python", installed().bin / "relay", "--config", "relay.toml"],
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
                return
        raise AssertionError(log.read_text())

    def test_its_own_tests_pass_in_a_clean_environment(self) -> None:
        ran = installed().run("python", "-m", "twisted.trial", "test_relay_jsonlines", cwd=jsonlines_copy())
        self.assertEqual(ran.status, 0, ran.stdout + ran.stderr)
        self.assertIn("PASSED", ran.stdout)

    def test_mail_for_the_real_relay_becomes_a_line(self) -> None:
        folder, port = self.folder('file = "lines"')
        self.start(folder, port)
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client.example.com", timeout=20) as client:
            client.sendmail("bob@example.com", ["jon@example.org"], "Subject: hello\r\n\r\nHi!\r\n")
        lines = folder / "lines"
        for _ in range(600):
            if lines.exists() and lines.read_bytes().endswith(b"\n"):
                break
            time.sleep(0.05)  # nobody tells us that a file is there
        line = json.loads(lines.read_text())
        self.assertEqual((line["recipients"], line["header"]), (["jon@example.org"], {"subject": "hello"}))
        self.assertNotIn("Traceback", (folder / "log").read_text())

    def test_a_wrong_parameter_is_an_error_in_its_line(self) -> None:
        folder, _ = self.folder('fil = "lines"')
        ran = installed().run("relay", "-c", "relay.toml", cwd=folder)
        self.assertEqual(
            (ran.status, ran.stdout, ran.stderr),
            (
                78,
                "",
                "relay.toml:11: policy.1.parameters.file: is missing\n"
                "relay.toml:11: policy.1.parameters.fil: unknown key, did you mean 'file'?\n",
            ),
        )
