from __future__ import annotations

import errno
import mailbox
import queue
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from relay.agents.copies import mailbox as mailbox_of
from relay.agents.copies import unix
from relay.agents.maildir import MaildirAgent
from relay.interfaces import IAgent
from relay.mail.envelope import Form
from relay.mail.outcome import Carried, Misbehaved, Unwritten
from relay.net.disk import Disk
from relay.net.threads import AtOnce, Stop, Stopped, Threads
from relay.net.waiting import start
from relay.testing.disk import FaultyDisk, Gone
from tests.local_mail import (
    HEAD,
    MESSAGE,
    NOW,
    ByHand,
    Text,
    clock,
    consignment,
    fact,
    is_carried,
    is_put_off,
    reported,
    to,
)

#: What the mailbox holds of the usual message.
KEPT = b"Return-Path: <ann@example.org>\nDelivered-To: jon@example.net\n" + (HEAD + MESSAGE).replace(b"\r\n", b"\n")


class MaildirCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        self.folder = self.root / "vmail" / "jon"

    def agent(self, disk: Disk | None = None, threads: Any = None) -> MaildirAgent:
        return MaildirAgent(clock(), "mx.example", threads or AtOnce(), disk or FaultyDisk())

    def to(self, address: str = "jon@example.net", folder: Path | str | None = None) -> Any:
        return to(address, "maildir", folder=str(folder or self.folder))

    def files(self, part: str = "new", folder: Path | None = None) -> list[Path]:
        return sorted(((folder or self.folder) / part).iterdir())


class DeliveryTests(MaildirCase):
    def test_the_agent_keeps_its_contract(self) -> None:
        self.assertTrue(verifyObject(IAgent, self.agent()))

    def test_the_message_lies_in_new_with_return_path_and_delivered_to_on_top(self) -> None:
        self.assertEqual(fact(self.agent().carry(consignment(self.to()))), Carried(False, str(self.folder)))
        (file,) = self.files()
        self.assertEqual(file.read_bytes(), KEPT)
        self.assertEqual(self.files("tmp"), [])

    def test_wire_content_is_unstuffed(self) -> None:
        reported(self.agent().carry(consignment(self.to(), content=Text(form=Form.WIRE))))
        (file,) = self.files()
        self.assertEqual(file.read_bytes(), KEPT)

    def test_pythons_mail_reader_opens_it_as_unread_mail(self) -> None:
        reported(self.agent().carry(consignment(self.to())))
        (message,) = mailbox.Maildir(self.folder)
        self.assertEqual(message["Subject"], "hello")
        self.assertEqual(message["Delivered-To"], "jon@example.net")
        self.assertEqual(message.get_payload(), "From here on:\n.dots\n>From you\n")
        self.assertEqual(message.get_subdir(), "new")

    def test_the_null_reverse_path_is_written_as_such(self) -> None:
        reported(self.agent().carry(consignment(self.to(), sender=None)))
        self.assertTrue(self.files()[0].read_bytes().startswith(b"Return-Path: <>\n"))

    def test_mailbox_and_mail_are_for_their_owner_only(self) -> None:
        reported(self.agent().carry(consignment(self.to())))
        for folder in self.folder, self.folder / "new", self.folder / "tmp", self.folder / "cur":
            self.assertEqual(stat.S_IMODE(folder.stat().st_mode), 0o700)
        self.assertEqual(stat.S_IMODE(self.files()[0].stat().st_mode), 0o600)

    def test_the_name_is_made_of_arrival_queue_id_and_host(self) -> None:
        reported(self.agent().carry(consignment(self.to())))
        self.assertEqual(self.files()[0].name, f"{int(NOW) - 1}.R4Q2x7.mx.example")

    def test_a_host_that_is_an_address_literal_leaves_the_name_a_name(self) -> None:
        agent = MaildirAgent(clock(), "[IPv6:2001:db8::1]", AtOnce())
        reported(agent.carry(consignment(self.to())))
        self.assertNotIn(":", self.files()[0].name)

    def test_each_recipient_has_a_copy_in_a_folder_of_its_own(self) -> None:
        mary = self.root / "mary"
        reports = reported(self.agent().carry(consignment(self.to(), self.to("mary@example.net", mary))))
        self.assertEqual([is_carried(report.fact) for report in reports], [True, True])
        self.assertIn(b"Delivered-To: jon@example.net\nReceived", self.files()[0].read_bytes())
        self.assertIn(b"Delivered-To: mary@example.net\nReceived", self.files(folder=mary)[0].read_bytes())

    def test_recipients_who_share_a_folder_share_a_copy_and_each_is_reported(self) -> None:
        recipients = self.to("jon+a@example.net"), self.to("jon+b@example.net", f"{self.folder}/")
        reports = reported(self.agent().carry(consignment(*recipients)))
        self.assertEqual([report.recipient for report in reports if is_carried(report.fact)], list(recipients))
        (file,) = self.files()
        self.assertIn(b"Delivered-To: jon+a@example.net\nDelivered-To: jon+b@example.net\n", file.read_bytes())

    def test_one_folder_that_cannot_be_written_does_not_keep_mail_from_another(self) -> None:
        (self.root / "file").write_bytes(b"")
        reports = reported(self.agent().carry(consignment(self.to("a@x", self.root / "file"), self.to("b@x"))))
        self.assertEqual(
            {str(report.recipient.address): is_carried(report.fact) for report in reports}, {"a@x": False, "b@x": True}
        )

    def test_memory_does_not_grow_with_the_message(self) -> None:
        class Large(Text):
            def blocks(self) -> Any:
                return (b"0123456789abcde\r\n" * 8192 for _ in range(256))

        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        reported(self.agent(Disk()).carry(consignment(self.to(), content=Large())))
        _, peak = tracemalloc.get_traced_memory()
        self.assertGreater(self.files()[0].stat().st_size, 30_000_000)
        self.assertLess(peak, 2_000_000)


class LineEndTests(SynchronousTestCase):
    @given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"\r\r\n", b""])))
    def test_where_blocks_are_cut_means_nothing(self, blocks: list[bytes]) -> None:
        self.assertEqual(b"".join(unix(blocks)), b"".join(blocks).replace(b"\r\n", b"\n"))

    def test_a_return_that_stands_alone_stays(self) -> None:
        self.assertEqual(b"".join(unix([b"a\r", b"b\r", b"\nc\r"])), b"a\rb\nc\r")


class OnceTests(MaildirCase):
    """A message whose settlement was lost comes again, and is not written again."""

    def test_what_lies_in_new_already_is_not_written_again(self) -> None:
        self.assertTrue(is_carried(fact(self.agent().carry(consignment(self.to())))))
        disk = FaultyDisk()
        self.assertTrue(is_carried(fact(self.agent(disk).carry(consignment(self.to())))))
        self.assertEqual(len(self.files()), 1)
        self.assertNotIn("write", disk.names)
        self.assertEqual(disk.names[-1], "sync", "the other attempt may have been killed before it synced")

    def test_a_message_that_a_reader_has_opened_meanwhile_does_not_come_again(self) -> None:
        for flags in ":2,", ":2,S":
            with self.subTest(flags):
                mail = consignment(self.to(), id=f"id{len(flags)}")
                reported(self.agent().carry(mail))
                (file,) = self.files()
                file.rename(self.folder / "cur" / (file.name + flags))
                self.assertTrue(is_carried(fact(self.agent().carry(mail))))
                self.assertEqual(self.files(), [])

    def test_another_message_is_another_file(self) -> None:
        agent = self.agent()
        for id in "a", "b":
            reported(agent.carry(consignment(self.to(), id=id)))
        self.assertEqual(len(self.files()), 2)


class RefusalTests(MaildirCase):
    """Whatever is wrong with a mailbox is a fact, and a temporary one."""

    def test_a_folder_that_is_not_absolute_is_not_written(self) -> None:
        for folder in "vmail/jon", "", "/var/../etc", "/var/mail\0/x":
            with self.subTest(folder):
                refused = fact(self.agent().carry(consignment(self.to(folder=folder or "x"))))
                self.assertTrue(is_put_off(refused), refused)

    def test_the_same_folder_in_other_words_is_the_same(self) -> None:
        for folder in "/a/b", "/a/b/", "//a//b", "/a/./b":
            self.assertEqual(mailbox_of(to("a@x", "maildir", folder=folder), "folder"), "/a/b")

    def test_a_symbolic_link_is_not_followed(self) -> None:
        elsewhere = self.root / "elsewhere"
        elsewhere.mkdir()
        for link in self.folder, self.folder / "new", self.folder / "tmp":
            with self.subTest(link):
                shutil.rmtree(self.folder, ignore_errors=True)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(elsewhere)
                met: Any = fact(self.agent().carry(consignment(self.to())))
                self.assertTrue(is_put_off(met))
                self.assertEqual(met.what, str(link))
                self.assertEqual(list(elsewhere.iterdir()), [])
                link.unlink()

    def test_a_folder_that_somebody_removes_is_made_again(self) -> None:
        agent = self.agent()
        reported(agent.carry(consignment(self.to(), id="a")))
        shutil.rmtree(self.root / "vmail")
        self.assertTrue(is_carried(fact(agent.carry(consignment(self.to(), id="b")))))
        self.assertEqual(len(self.files()), 1)

    def test_content_that_cannot_be_read_is_not_the_mailboxs_fault_and_leaves_nothing(self) -> None:
        content = Text(error=OSError(errno.EIO, "Input/output error"))
        self.assertEqual(
            fact(self.agent().carry(consignment(self.to(), content=content))),
            Unwritten("the content of 4Q2x7", "Input/output error", "EIO"),
        )
        self.assertEqual((self.files(), self.files("tmp")), ([], []))

    def test_an_id_that_could_lead_elsewhere_is_our_mistake(self) -> None:
        self.assertEqual(fact(self.agent().carry(consignment(self.to(), id="../x"))), Misbehaved("maildir"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class FaultTests(MaildirCase):
    def calls(self, agent_disk: FaultyDisk) -> list[str]:
        reported(self.agent(agent_disk).carry(consignment(self.to())))
        return agent_disk.names

    def test_file_and_directory_are_synced_before_it_is_carried(self) -> None:
        names = self.calls(FaultyDisk())
        rename = names.index("rename")
        self.assertEqual([name for name in names[rename - 1 :] if name != "unlink"], ["sync", "rename", "sync"])

    def test_new_directories_are_synced_in_those_above_them(self) -> None:
        disk = FaultyDisk()
        self.calls(disk)
        made = [args[0] for name, args in disk.calls if name == "mkdir"]
        for folder in self.root / "vmail", self.folder:
            self.assertIn(str(folder), made)
            at = disk.calls.index(("mkdir", (str(folder),)))
            self.assertEqual([name for name, _ in disk.calls[at : at + 3]], ["mkdir", "open", "sync"])
            self.assertEqual(disk.calls[at + 1][1][0], str(folder.parent))

    def test_whichever_call_fails_mail_is_carried_or_put_off_and_comes_once(self) -> None:
        for prepared in False, True:
            total = len(self.calls(FaultyDisk()))
            shutil.rmtree(self.folder.parent)
            for stays in False, True:
                for n in range(1, total + 1):
                    with self.subTest(prepared=prepared, stays=stays, n=n):
                        self.fail_once(FaultyDisk(n, errno.EIO, stays=stays), prepared)

    def fail_once(self, disk: FaultyDisk, prepared: bool) -> None:
        if prepared:
            reported(self.agent().carry(consignment(self.to(), id="other")))
            self.files()[0].unlink()
        agent = self.agent(disk)
        first = fact(agent.carry(consignment(self.to())))
        seen = [file.read_bytes() for file in self.files()] if (self.folder / "new").exists() else []
        if is_carried(first):
            self.assertEqual(seen, [KEPT])
        else:
            self.assertTrue(is_put_off(first), first)
            # Where the disk fails for good nobody can take the message away again; but it is whole.
            self.assertIn(seen, [[], [KEPT]] if disk.stays else [[]])
        disk.heal()
        self.assertTrue(is_carried(fact(agent.carry(consignment(self.to())))))
        self.assertEqual([file.read_bytes() for file in self.files()], [KEPT])
        shutil.rmtree(self.folder.parent)

    def test_killed_before_any_call_nothing_half_written_is_seen_and_mail_comes_once(self) -> None:
        total = len(self.calls(FaultyDisk()))
        shutil.rmtree(self.folder.parent)
        for n in range(1, total + 1):
            with self.subTest(n):
                with self.assertRaises(Gone):
                    reported(self.agent(FaultyDisk(n)).carry(consignment(self.to())))
                if (self.folder / "new").exists():
                    self.assertIn([file.read_bytes() for file in self.files()], ([], [KEPT]))
                self.assertTrue(is_carried(fact(self.agent().carry(consignment(self.to())))))
                self.assertEqual([file.read_bytes() for file in self.files()], [KEPT])
                shutil.rmtree(self.folder.parent)

    def test_a_failed_sync_of_the_directory_is_not_believed_the_second_time(self) -> None:
        """The kernel reports it once, so the message is taken away again and the next attempt writes a new one."""
        disk = FaultyDisk(len(self.calls(FaultyDisk())), errno.EIO)
        shutil.rmtree(self.folder.parent)
        agent = self.agent(disk)
        self.assertEqual(
            fact(agent.carry(consignment(self.to()))), Unwritten(str(self.folder), "Input/output error", "EIO")
        )
        self.assertEqual(disk.names[-2:], ["sync", "unlink"])
        self.assertEqual(self.files(), [])
        disk.calls.clear()
        self.assertTrue(is_carried(fact(agent.carry(consignment(self.to())))))
        self.assertIn("write", disk.names)

    def test_a_full_disk_says_so(self) -> None:
        disk = FaultyDisk(self.calls(FaultyDisk()).index("write") + 1, errno.ENOSPC)
        shutil.rmtree(self.folder.parent)
        self.assertEqual(
            fact(self.agent(disk).carry(consignment(self.to()))),
            Unwritten(str(self.folder), "No space left on device", "ENOSPC"),
        )
        self.assertEqual(self.files("tmp"), [], "what fills a full disk is removed at once")

    def test_what_is_to_blame_is_named_and_no_file_that_nobody_has_seen(self) -> None:
        names = self.calls(FaultyDisk())
        made = [n for n, name in enumerate(names, 1) if name == "open"][-1]
        looked = names.index("stat") + 1
        for n, part in (made, "tmp"), (looked, "new"), (looked + 2, "cur"), (names.index("rename") + 1, "new"):
            with self.subTest(n=n):
                shutil.rmtree(self.folder.parent)
                met: Any = fact(self.agent(Named(n)).carry(consignment(self.to())))
                self.assertEqual(met, Unwritten(str(self.folder / part), "Permission denied", "EACCES"))


class Named(FaultyDisk):
    """Of the call that does not happen the error says, as the kernel's do, for which path."""

    def __init__(self, n: int) -> None:
        super().__init__(n, errno.EACCES)

    def _pass(self, name: str, args: tuple[Any, ...]) -> None:
        try:
            super()._pass(name, args)
        except OSError as error:
            error.filename = args[0]
            raise


class CancelTests(MaildirCase):
    """The dispatcher's deadline: threads go on, but not with what nobody waits for."""

    def carry(self, threads: ByHand, *recipients: Any, content: Any = None) -> Deferred[Any]:
        carrying = start(self.agent(threads=threads).carry(consignment(*recipients, content=content)))
        assert isinstance(carrying, Deferred)
        return carrying

    def test_what_has_not_begun_never_begins(self) -> None:
        threads = ByHand()
        carrying = self.carry(threads, self.to())
        carrying.cancel()
        threads.work()
        self.assertEqual(self.successResultOf(carrying)[0].fact, Unwritten(str(self.folder), "it took too long"))
        self.assertFalse(self.folder.exists())

    def test_what_is_being_written_is_not_seen_in_new(self) -> None:
        class Slow(Text):
            def blocks(self) -> Any:
                yield from super().blocks()
                carrying.cancel()

        threads = ByHand()
        carrying = self.carry(threads, self.to(), content=Slow())
        threads.work()
        self.assertTrue(is_put_off(self.successResultOf(carrying)[0].fact))
        self.assertEqual((self.files(), self.files("tmp")), ([], []))

    def test_what_is_there_already_is_reported_as_carried(self) -> None:
        threads = ByHand()
        carrying = self.carry(threads, self.to("a@x"), self.to("b@x", self.root / "b"))
        threads.work()
        carrying.cancel()
        facts = {str(report.recipient.address): report.fact for report in self.successResultOf(carrying)}
        self.assertTrue(is_carried(facts["a@x"]))
        self.assertTrue(is_put_off(facts["b@x"]))


class ThreadTests(SynchronousTestCase):
    """The pool, with a reactor that takes calls and makes them when the test says so."""

    def setUp(self) -> None:
        self.calls: queue.Queue[Any] = queue.Queue()
        self.threads = Threads(self, 1)
        self.threads.start()
        self.addCleanup(self.threads.stop)

    def callFromThread(self, call: Any, *args: Any) -> None:
        self.calls.put((call, args))

    def turn(self) -> None:
        call, args = self.calls.get(timeout=10)
        call(*args)

    def test_work_is_done_elsewhere_and_its_result_comes_back(self) -> None:
        deferred = self.threads.run(lambda stop: threading.get_ident())
        self.turn()
        self.assertNotEqual(self.successResultOf(deferred), threading.get_ident())

    def test_what_it_raises_comes_back(self) -> None:
        deferred = self.threads.run(lambda stop: 1 // 0)
        self.turn()
        self.failureResultOf(deferred, ZeroDivisionError)

    def test_cancelled_work_is_told_to_stop_and_its_end_disturbs_nobody(self) -> None:
        begun, go_on = threading.Event(), threading.Event()
        stopped: list[bool] = []

        def work(stop: Stop) -> None:
            begun.set()
            go_on.wait(10)
            try:
                stop.check()
            except Stopped:
                stopped.append(True)
                raise

        deferred, waiting = self.threads.run(work), self.threads.run(lambda stop: stopped.append(False))
        begun.wait(10)
        deferred.cancel()
        waiting.cancel()
        self.failureResultOf(deferred, CancelledError)
        self.failureResultOf(waiting, CancelledError)
        go_on.set()
        self.turn()
        self.turn()
        self.assertEqual(stopped, [True], "what had not begun was not begun")


KILLED = """
import os, sys
from relay.agents.maildir import MaildirAgent
from relay.net.threads import AtOnce
from relay.testing.disk import FaultyDisk
from tests.local_mail import clock, consignment, reported, to

class Killed(FaultyDisk):
    def _pass(self, name, args):
        try:
            super()._pass(name, args)
        except BaseException:
            os.kill(os.getpid(), 9)

folder, n = sys.argv[1:]
mail = consignment(to("jon@example.net", "maildir", folder=folder))
reported(MaildirAgent(clock(), "mx.example", AtOnce(), Killed(int(n))).carry(mail))
"""


class KillTests(MaildirCase):
    """kill -9, by the kernel itself."""

    def run_killed(self, n: int) -> subprocess.CompletedProcess[str]:
        root = Path(__file__).parents[1]
        return subprocess.run(
            [sys.executable, "-c", KILLED, str(self.folder), str(n)],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )

    def test_killed_at_the_calls_that_matter_mail_comes_whole_and_once(self) -> None:
        disk = FaultyDisk()
        reported(self.agent(disk).carry(consignment(self.to())))
        shutil.rmtree(self.folder.parent)
        rename = disk.names.index("rename") + 1
        for n in range(disk.names.index("write") + 1, len(disk.calls) + 1):
            with self.subTest(n):
                ran = self.run_killed(n)
                self.assertEqual(ran.returncode, -signal.SIGKILL, ran.stderr)
                self.assertEqual([file.read_bytes() for file in self.files()], [KEPT] if n > rename else [])
                self.assertTrue(is_carried(fact(self.agent().carry(consignment(self.to())))))
                self.assertEqual([file.read_bytes() for file in self.files()], [KEPT])
                shutil.rmtree(self.folder.parent)
