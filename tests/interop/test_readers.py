"""Mail readers open what the relay has delivered."""

from __future__ import annotations

import mailbox
import re
import smtplib
from pathlib import Path
from typing import ClassVar

import pytest

from tests.interop.house import BOXES, arrived
from tests.interop.mails import EIGHT_BIT, PLAIN, assert_same, subject, without_trace
from tests.interop.peers import run, until
from tests.interop.typist import Typist
from tests.system.harness import RelayProcess, SystemTestCase, configuration

pytestmark = pytest.mark.interop

SENT = {**PLAIN, "eight-bit": EIGHT_BIT}


class ReaderTests(SystemTestCase):
    relay_process: ClassVar[RelayProcess]
    maildir: ClassVar[Path]
    mbox: ClassVar[Path]

    @classmethod
    def setUpClass(cls) -> None:
        cls.relay_process = cls.share(configuration(policies=BOXES))
        cls.maildir = cls.relay_process.folder / "mail/jon"
        cls.mbox = cls.relay_process.folder / "mbox/jon"
        with smtplib.SMTP(*cls.relay_process.address(), local_hostname="client.test") as client:
            for octets in SENT.values():
                client.sendmail("bob@client.test", ["jon@localhost", "jon@mbox.test"], octets, ["BODY=8BITMIME"])
        arrived(cls.maildir, len(SENT))
        done = '"event":"delivered".*"recipient":"jon@mbox.test"'
        until(lambda: len(cls.relay_process.said(done)) == len(SENT), cls.relay_process.output.text)

    def copy(self) -> Path:
        """A folder for a reader to do with as it likes: it marks what it has seen."""
        run("cp", "-a", self.maildir, self.mbox.parent, folder := self.folder())
        return folder

    def mutt(self, path: Path, pattern: str, key: str, prompt: str, answer: str) -> None:
        """Open a mailbox in mutt, on a terminal: tag what fits the pattern, do this with what is tagged, leave."""
        home = self.folder()
        (home / "Mail").mkdir()  # or it asks for it
        (home / "rc").write_text(
            "set wait_key=no pipe_decode=no pipe_split=yes pipe_sep='' quit=yes mark_old=no delete=yes sleep_time=0\n"
            "set confirmappend=no confirmcreate=no charset=utf-8 tmpdir='.'\n"
        )
        with Typist("mutt", "-n", "-F", home / "rc", "-f", path, cwd=home, HOME=str(home)) as person:
            person.reads(r"Msgs:\d+")
            person.presses("T").reads("matching: ")
            person.types(pattern).reads(r"Tag:\d+")
            person.presses(";").reads("tag-")
            person.presses(key).reads(prompt)
            person.types(answer).presses("q")
            assert person.waits() == 0, person.screen

    def assertSent(self, found: list[bytes]) -> None:
        by_subject = {subject(octets): octets for octets in found}
        self.assertEqual(sorted(by_subject), sorted(SENT))
        self.assertEqual(len(found), len(SENT))
        for name, octets in by_subject.items():
            assert_same(without_trace(octets), SENT[name])


class MaildirTests(ReaderTests):
    def test_mutt_finds_every_message_of_the_maildir_whole(self) -> None:
        folder = self.copy()
        piped = self.folder()
        (script := piped / "keep").write_text(f'#!/bin/sh\ncat >"$(mktemp {piped}/message.XXXXXX)"\n')
        script.chmod(0o755)
        self.mutt(folder / "jon", "~A", "|", "Pipe to command: ", str(script))
        self.assertSent([path.read_bytes() for path in piped.glob("message.*")])

    def test_mutt_saves_and_deletes_and_the_maildir_stays_one(self) -> None:
        folder = self.copy()
        # Control-U clears the line: a name is there already.
        self.mutt(folder / "jon", "~s text", "s", "Save tagged to mailbox", f"\x15{folder}/saved")
        left = [path.read_bytes() for sub in ("new", "cur") for path in (folder / "jon" / sub).iterdir()]
        self.assertEqual(len(left), len(SENT) - 1)
        self.assertNotIn("text", map(subject, left))

    def test_python_reads_the_maildir_and_its_flags(self) -> None:
        box = mailbox.Maildir(self.copy() / "jon", factory=None, create=False)
        self.assertEqual({message.get_subdir() for message in box}, {"new"})
        self.assertSent([box.get_bytes(key) for key in box.keys()])  # noqa: SIM118  # it iterates over messages


class MboxTests(ReaderTests):
    def test_mail_lists_the_mbox(self) -> None:
        said = run("mail", "-f", self.copy() / "mbox/jon", stdin=b"quit\n").decode()
        self.assertEqual(re.findall(r"^[> ]N +\d+ .* ([\w-]+) *$", said, re.MULTILINE), list(SENT), said)

    def test_mail_shows_each_message_of_the_mbox_and_deletes_one(self) -> None:
        path = self.copy() / "mbox/jon"
        said = run("mail", "-N", "-f", path, stdin=b"type 1\ntype 3\ndelete 2\nquit\n").decode()
        self.assertIn("Hello!\n", said)
        self.assertIn("\n.\n..\n...\n.hidden\nend.\n.\n", said)
        self.assertEqual(len(mailbox.mbox(path, create=False)), len(SENT) - 1)

    def test_mutt_finds_every_message_of_the_mbox(self) -> None:
        path = self.copy() / "mbox/jon"
        saved = self.folder() / "saved"
        self.mutt(path, "~A", "C", "Copy tagged to mailbox", f"\x15{saved}")
        self.assertEqual([subject(bytes(message)) for message in mailbox.mbox(saved, create=False)], list(SENT))
