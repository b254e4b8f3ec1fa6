"""A disk that is full, and a mailbox that cannot be written: later, said in words, and nothing is lost."""

from __future__ import annotations

import mailbox
import resource
import signal
from pathlib import Path

import pytest

from tests.system.clients import Telnet, queue_id
from tests.system.harness import MAILBOXES, RelayProcess, SystemTestCase, configuration, eventually

pytestmark = pytest.mark.system

SOON = """
[delivery.retry]
first = "1s"
most = "1s"
jitter = 0
"""
KIB = 1024
LINES = b"x" * 998 + b"\r\n"


class NoRoomTests(SystemTestCase):
    def test_where_the_reserve_is_all_that_is_left_the_client_hears_452(self) -> None:
        relay = self.started(configuration(spool='path = "spool"\nreserve = "1000000 GiB"'))
        with Telnet(relay.address()) as client:
            client.say("HELO client.test")
            said = client.say("MAIL FROM:<bob@client.test>")
            self.assertEqual(said, "452 4.3.1 Insufficient system storage, please try again later")
            self.assertTrue(client.say("RCPT TO:<jon@localhost>").startswith("503"))
        relay.event("refused", reply=said)


class FullDiskTests(SystemTestCase):
    """
    A limit on the size of files stands in for a disk that is full: no right is needed to set it, and from outside it
    can be lifted again. Writing beyond it is an error like ENOSPC.
    """

    def test_a_disk_that_is_full_and_freed_loses_nothing_that_was_promised(self) -> None:
        relay = self.relay(configuration(tables=SOON), in_child=allow_small_files_only)
        relay.expected = ["Content could not be written", "Traceback", "#error", "#critical"]
        relay.start()
        self.fates: dict[str, str] = {}
        for number in range(60):
            self.offer(relay, number, LINES * 60)
        self.assertIn("refused", self.fates.values(), "the limit was never reached")
        # Larger than any file may be.
        self.assertEqual(self.offer(relay, 60, LINES * 1000), "refused")
        resource.prlimit(relay.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if relay.said("no mail is accepted"):
            relay.wait_for("writing works again, mail is accepted")
        self.assertEqual(self.offer(relay, 61, LINES * 1000), "promised")
        with Telnet(relay.address()) as client:
            last = queue_id(client.post("jon@localhost", subject="62"))
        relay.event("delivered", last)
        jon = relay.folder / "mail" / "jon"
        promised = {subject for subject, fate in self.fates.items() if fate == "promised"}
        eventually(lambda: promised <= subjects(jon))
        refused = {subject for subject, fate in self.fates.items() if fate == "refused"}
        self.assertEqual(refused & subjects(jon), set())
        eventually(lambda: '"entries": 0' in relay.relayctl("status", "--socket", "control.sock", "--json").stdout)

    def offer(self, relay: RelayProcess, number: int, body: bytes) -> str:
        """
        Offer a message. "promised", "refused", or "unanswered": where even the spool cannot find out whether it has
        kept a message, it hangs up, since every answer might be a lie.
        """
        with Telnet(relay.address()) as client:
            for line in "EHLO client.test", "MAIL FROM:<bob@client.test>", "RCPT TO:<jon@localhost>", "DATA":
                heard = client.say(line)
                if heard[:1] not in "23":
                    break
            else:
                client.send(f"Subject: {number}\r\n\r\n".encode() + body)
                heard = client.say(".")
        fate = {"2": "promised", "4": "refused", "": "unanswered"}[heard[:1]]
        if fate == "refused":
            self.assertRegex(heard, r"^45[12] 4\.3\.[01] [^\n]+$")
        self.fates[str(number)] = fate
        return fate


class MailboxTests(SystemTestCase):
    def test_mail_waits_for_a_mailbox_that_is_no_directory_and_the_log_says_why(self) -> None:
        relay = self.started(configuration(tables=SOON))
        (relay.folder / "mail").mkdir()
        (relay.folder / "mail" / "jon").write_text("this is a file")
        with Telnet(relay.address()) as client:
            client.envelope("bob@client.test", "jon@localhost", "ann@localhost")
            id = queue_id(client.content())
        relay.event("delivered", id, recipient="ann@localhost")
        delayed = relay.event("delayed", id, recipient="jon@localhost")
        self.assertIn("Not a directory", str(delayed))
        self.assertIn(str(relay.folder / "mail" / "jon"), str(delayed))
        (relay.folder / "mail" / "jon").unlink()
        relay.event("delivered", id, recipient="jon@localhost")
        self.assertEqual(len(mailbox.Maildir(relay.folder / "mail" / "jon")), 1)

    def test_mail_waits_for_a_folder_of_mailboxes_that_is_no_directory(self) -> None:
        relay = self.relay(configuration(tables=SOON, policies=MAILBOXES.replace('"mail"', '"mail/here"')))
        (relay.folder / "mail").write_text("this is a file")
        relay.start()
        with Telnet(relay.address()) as client:
            id = queue_id(client.post("jon@localhost"))
        relay.event("delayed", id)
        (relay.folder / "mail").unlink()
        relay.event("delivered", id)

    def test_mail_waits_while_another_program_has_the_mbox_locked(self) -> None:
        relay = self.started(configuration(tables=SOON, policies=MAILBOXES + '\nformat = "mbox"\n'))
        (relay.folder / "mail").mkdir()
        (relay.folder / "mail" / "jon").touch()
        box = mailbox.mbox(relay.folder / "mail" / "jon")
        box.lock()
        with Telnet(relay.address()) as client:
            id = queue_id(client.post("jon@localhost"))
            client.post("ann@localhost")
        relay.event("delivered", recipient="ann@localhost")
        self.assertEqual(relay.said(f'"delivered".*{id}'), [])
        box.unlock()
        relay.event("delivered", id)


def subjects(maildir: Path) -> set[str]:
    return {mail["Subject"] for mail in mailbox.Maildir(maildir)}


def allow_small_files_only() -> None:
    """In the child, before twistd: no file grows beyond this. The log goes into a pipe, which is no file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512 * KIB, resource.RLIM_INFINITY))
