"""What several processes of one relay write at the same time stays whole."""

from __future__ import annotations

import json
import mailbox
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relay.agents.maildir import MaildirAgent
from relay.agents.mbox import MboxAgent
from relay.mail.outcome import Carried
from relay.net.maillog import MailLog
from relay.net.threads import AtOnce
from tests.local_mail import clock, consignment, fact, to

PROCESSES = 2
EACH = 40
LINES = [f"{number} {turn} {line}" for number in range(PROCESSES) for turn in range(EACH) for line in range(turn % 7)]


def log(where: Path, number: str) -> None:
    """Lines of the mail log, several together, and long ones among them."""
    reactor = Clock()
    maillog = MailLog(reactor, where, "json")
    maillog.start()
    for turn in range(EACH):
        for line in range(turn % 7):
            maillog.event("refused", id=f"{number} {turn} {line}", because="x" * (turn * 397 % 9000))
        maillog.flush()
    maillog.close()


def _deliver(agent: Any, what: str, number: str, **where: str) -> None:
    """Message after message; where somebody else has the mailbox for too long, again."""
    for turn in range(EACH):
        given = consignment(to("jon@example.net", what, **where), id=f"{number}x{turn}")
        while not isinstance(fact(agent.carry(given)), Carried):
            pass


def mbox(where: Path, number: str) -> None:
    _deliver(MboxAgent(clock(), AtOnce()), "mbox", number, file=str(where), create="yes")


def maildir(where: Path, number: str) -> None:
    _deliver(MaildirAgent(clock(), "mx.example", AtOnce()), "maildir", number, folder=str(where))


def all_of_it(where: Path, number: str) -> None:
    log(where / "mail.log", number)
    mbox(where / "jon", number)
    maildir(where / "ann", number)


class SeveralTests(SynchronousTestCase):
    root: Path

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.root = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.root)
        script = f"import sys; from pathlib import Path; from {__name__} import all_of_it;"
        script += "sys.stdin.read(1); all_of_it(Path(sys.argv[1]), sys.argv[2])"
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(cls.root), str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for number in range(PROCESSES)
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"!")
            process.stdin.flush()
        for process in processes:
            said, _ = process.communicate(timeout=60)
            assert process.returncode == 0, said

    def test_lines_of_the_mail_log_are_whole(self) -> None:
        lines = (self.root / "mail.log").read_text().splitlines()
        self.assertEqual(Counter(json.loads(line)["id"] for line in lines), Counter(LINES))

    def test_messages_in_an_mbox_are_whole(self) -> None:
        messages = list(mailbox.mbox(self.root / "jon"))
        self.assertEqual(len(messages), PROCESSES * EACH)
        self.assertEqual(len({message.as_bytes() for message in messages}), 1)
        self.assertEqual({path.name for path in self.root.iterdir()}, {"ann", "jon", "mail.log"})

    def test_messages_in_a_maildir_are_all_there(self) -> None:
        messages = list((self.root / "ann" / "new").iterdir())
        self.assertEqual(len(messages), PROCESSES * EACH)
        self.assertEqual(len({message.read_bytes() for message in messages}), 1)
        self.assertEqual(list((self.root / "ann" / "tmp").iterdir()), [])
