"""docs/policies/tutorial.md, word for word: its files are written, its commands are run, and print what it shows."""

from __future__ import annotations

import fnmatch
import re
import smtplib
import socket
import subprocess
import time
from functools import cache
from pathlib import Path

import pytest
from attrs import define
from packaging.requirements import Requirement
from twisted.trial.unittest import SynchronousTestCase

from tests.packaging import environments
from tests.packaging.environments import REPOSITORY, Environment, environ

pytestmark = [
    pytest.mark.packaging,
    pytest.mark.system,
    pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="not in a clone of the repository"),
]

PAGE = REPOSITORY / "docs/policies/tutorial.md"
_STEP = re.compile(
    r"^The file `(?P<file>[\w.]+)`:\n\n(?:<!-- \w+ -->\n)?```\w+\n(?P<text>.*?)^```$|^```console\n(?P<console>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
#: How the page begins: what it brings is here already, from the wheel of this tree and without an index.
BEGINNING = ("python3 -m venv venv", ". venv/bin/activate", "pip install '/path/to/relay[testing]'")
PORT = "2525"


def setUpModule() -> None:
    environments.begin()


@cache
def beginner() -> Environment:
    environment = Environment.make("beginner")
    environments.gather([Requirement("pytest"), Requirement("hypothesis")], environment.packages)
    environment.install(environments.wheel())
    return environment


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@define
class Terminal:
    """Where a reader of the page types."""

    test: SynchronousTestCase
    folder: Path
    #: The port that is free here, instead of the page's.
    port: int
    typed: int = 0

    def write(self, file: str, text: str) -> None:
        (self.folder / file).write_text(text.replace(f":{PORT}", f":{self.port}"))

    def type(self, line: str) -> list[str]:
        """What it prints. It has to succeed, unless it explains a refusal."""
        self.typed += 1
        command, *words = line.replace("'", "").split()
        environment = beginner()
        if line in BEGINNING:
            return []
        if command == "cd":
            self.folder = self.folder / words[0]
            return []
        if command == "pip":
            offline = ["--no-build-isolation"] if words[0] == "wheel" else ["--no-index", "--no-deps"]
            words = [str(self.folder / word) if word.startswith("dist") or word == "." else word for word in words]
            if words[0] == "wheel":
                environments.run_tool("pip", *words, *offline)
            else:
                environment.pip(*words, *offline)
            return []
        if command == "relay":
            self.start(*words)
            return []
        ran = environment.run(command, *words, cwd=self.folder)
        refused = "explain" in words and "\nby " in ran.stdout
        self.test.assertEqual(ran.status, int(refused), f"{line}: {ran.stdout}{ran.stderr}")
        return ran.stdout.splitlines()

    def start(self, *words: str) -> None:
        """The relay runs, and a client hears what the page has explained."""
        log = self.folder / "log"
        with log.open("w") as out:
            relay = subprocess.Popen(
                [beginner().bin / "relay", *words],
                cwd=self.folder,
                env=environ(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.test.addCleanup(relay.wait, 30)
        self.test.addCleanup(relay.terminate)
        for _ in range(600):
            assert relay.poll() is None, log.read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)  # a process that starts has no other way to tell us
        with smtplib.SMTP("127.0.0.1", self.port, local_hostname="client.example.com", timeout=20) as client:
            client.ehlo()
            client.mail("ann@example.com")
            code, text = client.rcpt("jon-until-20200101@example.org")
            self.test.assertEqual((code, text[:32]), (550, b"5.1.6 this address has expired ["))
            self.test.assertEqual(client.rcpt("jon-until-20991231@example.org")[0], 250)
        told = beginner().run("relayctl", "why", "-c", "relay.toml", text.decode()[-7:-1], cwd=self.folder)
        self.test.assertIn("because    its last day was 20200101", told.stdout, told.stderr)


class TutorialTests(SynchronousTestCase):
    def test_the_page_is_true_word_for_word(self) -> None:
        folder = environments.workshop / "t"  # a short name: sockets have short paths
        folder.mkdir()
        terminal = Terminal(self, folder, free_port())
        for step in _STEP.finditer(PAGE.read_text()):
            if step["file"]:
                terminal.write(step["file"], step["text"])
                continue
            for piece in re.split(r"^\$ ", step["console"], flags=re.MULTILINE)[1:]:
                line, *shown = piece.rstrip("\n").split("\n")
                printed = terminal.type(line)
                if shown:
                    expected = _pattern("\n".join(shown).replace(f":{PORT}", f":{terminal.port}"))
                    fits = fnmatch.fnmatchcase("\n".join(printed), expected)
                    self.assertTrue(fits, f"$ {line}\n" + "\n".join(printed))
        self.assertGreater(terminal.typed, 10)


def _pattern(shown: str) -> str:
    """What the page shows, where only an asterisk stands for something else."""
    return re.sub(r"([\[\]?])", r"[\1]", shown)
