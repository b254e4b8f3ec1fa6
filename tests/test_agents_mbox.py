from __future__ import annotations

import contextlib
import errno
import fcntl
import mailbox
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from relay.agents.appending import Label, append, beside, repair
from relay.agents.locking import PAUSES, STALE, Locks
from relay.agents.mbox import MboxAgent, from_line, message, quoted
from relay.interfaces import IAgent
from relay.mail.address import Address
from relay.mail.outcome import Carried, Unwritten
from relay.net.disk import Disk
from relay.net.threads import AtOnce, IThreads, Stop
from relay.net.waiting import start
from relay.testing.disk import FaultyDisk, Gone
from tests.local_mail import (
    HEAD,
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

FROM_LINE = b"From ann@example.org Mon Nov 23 01:28:37 2026\n"
#: What an mbox holds of the usual message.
KEPT = (
    FROM_LINE
    + b"Return-Path: <ann@example.org>\nDelivered-To: jon@example.net\n"
    + HEAD.replace(b"\r\n", b"\n")
    + b"Subject: hello\n\n>From here on:\n.dots\n>>From you\n\n"
)
#: What was in the mailbox before.
OLD = b"From old@example.org Sun Nov 22 01:28:37 2026\nSubject: old\n\nold\n\n"


class MboxCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        self.file = self.root / "jon"
        self.file.write_bytes(OLD)
        self.slept: list[float] = []
        self.meanwhile: Any = lambda: None

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.meanwhile()

    def agent(self, disk: Disk | None = None, threads: IThreads | None = None) -> MboxAgent:
        disk = disk or FaultyDisk()
        return MboxAgent(clock(), threads or AtOnce(), disk, Locks(clock(), disk, sleep=self.sleep))

    def to(self, address: str = "jon@example.net", file: Path | str | None = None, **more: str) -> Any:
        return to(address, "mbox", file=str(file or self.file), **more)

    def carry(self, agent: MboxAgent | None = None, **more: Any) -> Any:
        return fact((agent or self.agent()).carry(consignment(self.to(), **more)))

    def others(self) -> list[str]:
        """What lies beside the mailbox."""
        return sorted(path.name for path in self.root.iterdir() if path != self.file)


class DeliveryTests(MboxCase):
    def test_the_agent_keeps_its_contract(self) -> None:
        self.assertTrue(verifyObject(IAgent, self.agent()))

    def test_a_message_is_appended(self) -> None:
        self.assertEqual(self.carry(), Carried(False, str(self.file)))
        self.assertEqual(self.file.read_bytes(), OLD + KEPT)
        self.assertEqual(self.others(), [])

    def test_pythons_mail_reader_finds_each_message(self) -> None:
        agent = self.agent()
        for id in "a", "b":
            self.carry(agent, id=id)
        messages = list(mailbox.mbox(self.file))
        self.assertEqual([message["Subject"] for message in messages], ["old", "hello", "hello"])
        self.assertEqual(messages[1].get_from(), FROM_LINE.decode()[5:-1])
        self.assertEqual(messages[2].get_payload(), ">From here on:\n.dots\n>>From you\n")

    def test_there_is_an_empty_line_between_messages_whatever_the_file_ended_with(self) -> None:
        for old, gap in (b"", b""), (b"\n", b""), (b"x", b"\n\n"), (b"x\n", b"\n"), (b"x\n\n", b""):
            with self.subTest(old):
                self.file.write_bytes(old)
                self.carry()
                self.assertEqual(self.file.read_bytes(), old + gap + KEPT)

    def test_recipients_who_share_a_file_share_a_copy(self) -> None:
        reports = reported(self.agent().carry(consignment(self.to("jon+a@x"), self.to("jon+b@x"))))
        self.assertEqual([is_carried(report.fact) for report in reports], [True, True])
        self.assertEqual(self.file.read_bytes().count(b"\nSubject: hello"), 1)
        self.assertIn(b"Delivered-To: jon+a@x\nDelivered-To: jon+b@x\n", self.file.read_bytes())

    def test_a_file_that_is_not_there_waits_unless_it_may_be_made(self) -> None:
        self.file.unlink()
        self.assertEqual(self.carry(), Unwritten(str(self.file), "No such file or directory", "ENOENT"))
        self.assertEqual(self.others(), [])
        for create in "yes", "no":
            mail = consignment(self.to(file=self.root / create / "jon", create=create))
            self.assertEqual(is_carried(fact(self.agent().carry(mail))), create == "yes")
        made = self.root / "yes" / "jon"
        self.assertEqual(made.read_bytes(), KEPT)
        self.assertEqual(stat.S_IMODE(made.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(made.parent.stat().st_mode), 0o700)

    def test_new_mail_is_told_by_a_file_that_was_written_after_it_was_read(self) -> None:
        os.utime(self.file, (1000, 1000))
        self.carry()
        self.assertEqual(self.file.stat().st_atime, 1000)
        self.assertGreater(self.file.stat().st_mtime, 1000)

    def test_memory_does_not_grow_with_the_message(self) -> None:
        class Large(Text):
            def blocks(self) -> Any:
                return (b"From abcdefghij\r\n" * 8192 for _ in range(64))

        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.assertTrue(is_carried(self.carry(self.agent(Disk()), content=Large())))
        _, peak = tracemalloc.get_traced_memory()
        self.assertGreater(self.file.stat().st_size, 8_000_000)
        self.assertLess(peak, 4_000_000)

    def test_content_that_cannot_be_read_leaves_the_mailbox_as_it_was(self) -> None:
        carried = self.carry(content=Text(error=OSError(errno.EIO, "Input/output error")))
        self.assertEqual(carried, Unwritten("the content of 4Q2x7", "Input/output error", "EIO"))
        self.assertEqual((self.file.read_bytes(), self.others()), (OLD, []))

    def test_what_is_no_ordinary_file_is_not_written(self) -> None:
        other = self.root / "other"
        for kind in "a symbolic link", "a second name", "a pipe", "a directory", "a device":
            with self.subTest(kind):
                self.file.unlink()
                other.write_bytes(b"")
                match kind:
                    case "a symbolic link":
                        self.file.symlink_to(other)
                    case "a second name":
                        os.link(other, self.file)
                    case "a pipe":
                        os.mkfifo(self.file)
                    case "a directory":
                        self.file.mkdir()
                    case _:
                        self.file = Path("/dev/null")
                refused = self.carry()
                self.assertTrue(is_put_off(refused))
                self.assertNotIn("locked", refused.text)
                self.assertEqual(other.read_bytes(), b"")
                if kind == "a directory":
                    self.file.rmdir()
                    self.file.touch()

    def test_copies_for_one_file_take_turns_and_others_do_not_wait(self) -> None:
        threads = ByHand()
        agent = self.agent(threads=threads)
        first, second = (start(agent.carry(consignment(self.to(), id=id))) for id in ("a", "b"))
        (self.root / "mary").touch()
        third = start(agent.carry(consignment(self.to("mary@x", self.root / "mary"))))
        assert isinstance(first, Deferred)
        assert isinstance(second, Deferred)
        assert isinstance(third, Deferred)
        self.assertEqual(len(threads.waiting), 2)
        threads.work()
        self.successResultOf(first)
        threads.work()
        self.successResultOf(third)
        threads.work()
        self.successResultOf(second)
        self.assertEqual(agent._turns, {})

    def test_what_was_cancelled_is_cut_off_and_the_next_one_has_its_turn(self) -> None:
        threads = ByHand()
        agent = self.agent(threads=threads)
        content = Text()
        first, second = (start(agent.carry(consignment(self.to(), id=id, content=content))) for id in ("a", "b"))
        assert isinstance(first, Deferred)
        assert isinstance(second, Deferred)
        first.cancel()
        self.assertTrue(is_put_off(self.successResultOf(first)[0].fact))
        threads.work()
        threads.work()
        self.assertTrue(is_carried(self.successResultOf(second)[0].fact))
        self.assertEqual(self.file.read_bytes(), OLD + KEPT)


class FormatTests(SynchronousTestCase):
    @given(st.lists(st.sampled_from([b"From", b" ", b">", b"\n", b"Fro", b"m", b"F", b"x", b"From x\n"])))
    def test_where_blocks_are_cut_means_nothing_and_quoting_can_be_undone(self, blocks: list[bytes]) -> None:
        whole = b"".join(blocks)
        lines = b"".join(quoted(blocks)).split(b"\n")
        self.assertFalse([line for line in lines if line.startswith(b"From ")])
        undone = [line[1:] if line.lstrip(b">").startswith(b"From ") else line for line in lines]
        self.assertEqual(b"\n".join(undone), whole)

    def test_only_the_beginning_of_a_line_is_quoted(self) -> None:
        self.assertEqual(b"".join(quoted([b"From: x\nThe From line\n>> From\n"])), b"From: x\nThe From line\n>> From\n")

    def test_a_line_of_marks_costs_no_memory_and_no_time(self) -> None:
        octets = b"".join(quoted([b"\n"] + [b">" * 65536] * 64 + [b"From x"]))
        self.assertTrue(octets.endswith(b">>From x"))
        self.assertEqual(len(octets), 1 + 65536 * 64 + len(b">From x"))

    def test_the_first_line_has_no_blank_but_those_that_belong_there(self) -> None:
        quoted_local = Address("ann of x", "example.org")
        self.assertEqual(from_line(quoted_local, NOW), b'From "ann-of-x"@example.org Mon Nov 23 01:28:37 2026\n')
        self.assertEqual(from_line(None, NOW), b"From MAILER-DAEMON Mon Nov 23 01:28:37 2026\n")

    def test_a_message_without_an_end_of_line_gets_one(self) -> None:
        self.assertTrue(b"".join(message([b"A: b\n\nc"], None, NOW, b"")).endswith(b"\n\nc\n\n"))


class LockTests(MboxCase):
    """Nobody writes while somebody else does, and nobody waits for ever."""

    def keep(self, how: str) -> subprocess.Popen[str]:
        program = f"import fcntl, sys\nf = open({str(self.file)!r}, 'r+')\n{how}\nprint('locked', flush=True)\nsys.stdin.read()"
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(process.communicate)
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), "locked\n")
        return process

    def test_a_mailbox_that_a_program_locks_by_fcntl_is_waited_for_and_then_put_off(self) -> None:
        self.keep("fcntl.lockf(f, fcntl.LOCK_EX)")
        self.assertEqual(self.carry(), Unwritten(str(self.file), "The mailbox is locked", "EAGAIN"))
        self.assertEqual(tuple(self.slept), PAUSES)
        self.assertLess(sum(PAUSES), 5.1)
        self.assertEqual((self.file.read_bytes(), self.others()), (OLD, []))

    def test_a_mailbox_that_is_unlocked_in_time_is_written(self) -> None:
        process = self.keep("fcntl.lockf(f, fcntl.LOCK_EX)")
        self.meanwhile = process.communicate
        self.assertTrue(is_carried(self.carry()))
        self.assertEqual(len(self.slept), 1)

    def test_a_lock_file_is_respected(self) -> None:
        lock = self.root / "jon.lock"
        lock.write_bytes(b"")
        os.utime(lock, (NOW - STALE + 1,) * 2)
        self.assertEqual(self.carry(), Unwritten(str(self.file), "The mailbox is locked", "EAGAIN"))
        self.assertEqual(self.others(), ["jon.lock"])
        self.meanwhile = lambda: lock.unlink(missing_ok=True)
        self.assertTrue(is_carried(self.carry()))

    def test_while_we_write_both_locks_are_ours(self) -> None:
        seen: list[object] = []
        program = f"import fcntl\nfcntl.lockf(open({str(self.file)!r}, 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"

        class Peeking(Text):
            def blocks(content) -> Any:
                seen.append((self.root / "jon.lock").read_bytes())
                ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
                seen.append("BlockingIOError" in ran.stderr)
                yield b"x\r\n"

        self.assertTrue(is_carried(self.carry(content=Peeking())))
        self.assertEqual(seen, [b"0\n", True])
        with self.file.open("r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_two_threads_of_ours_exclude_each_other_even_by_different_names(self) -> None:
        link = self.root / "link"
        link.symlink_to(self.root)
        results: list[object] = []

        class Inner(Text):
            def blocks(content) -> Any:
                results.append(fact(self.agent().carry(consignment(self.to(file=link / "jon"), id="other"))))
                yield b"x\r\n"

        self.assertTrue(is_carried(self.carry(content=Inner())))
        self.assertEqual(results, [Unwritten(f"{link}/jon", "The mailbox is locked", "EAGAIN")])

    def test_a_lock_file_that_a_stranger_has_forgotten_is_removed(self) -> None:
        lock = self.root / "jon.lock"
        lock.write_bytes(b"4711\n")
        for path in lock, self.file:
            os.utime(path, (NOW - STALE - 1,) * 2)
        self.assertTrue(is_carried(self.carry()))
        self.assertEqual(self.others(), [])

    def test_an_old_lock_file_is_respected_while_the_mailbox_changes(self) -> None:
        lock = self.root / "jon.lock"
        lock.write_bytes(b"4711\n")
        os.utime(lock, (NOW - STALE - 1,) * 2)
        os.utime(self.file, (NOW - 10,) * 2)
        self.assertFalse(is_carried(self.carry()))

    def test_a_lock_file_of_ours_whose_maker_was_killed_is_taken_over_at_once(self) -> None:
        (self.root / ".jon.relay-lock").touch()
        os.link(self.root / ".jon.relay-lock", self.root / "jon.lock")
        self.assertTrue(is_carried(self.carry()))
        self.assertEqual((self.slept, self.others()), ([], []))

    def test_a_lock_that_its_holder_removes_while_we_take_it_is_no_lock(self) -> None:
        own = self.root / ".jon.relay-lock"

        class Removing(Disk):
            def open(disk, path: str, *args: Any, **more: Any) -> int:
                fd = super().open(path, *args, **more)
                if path == str(own) and not self.slept:
                    own.unlink()
                return fd

        self.assertTrue(is_carried(self.carry(self.agent(Removing()))))
        self.assertEqual(len(self.slept), 1)

    def test_a_mailbox_that_was_replaced_while_we_locked_it_is_opened_again(self) -> None:
        class Replacing(Disk):
            def lock(disk, fd: int) -> bool:
                if self.replace:
                    self.replace = False
                    new = self.root / "new"
                    new.write_bytes(b"")
                    new.rename(self.file)
                return super().lock(fd)

        self.replace = True
        self.assertTrue(is_carried(self.carry(self.agent(Replacing()))))
        self.assertEqual(self.file.read_bytes(), KEPT)


class UndoTests(MboxCase):
    """An append that a crash interrupted is cut back, and nothing of anybody else's is."""

    def setUp(self) -> None:
        super().setUp()
        self.fd = os.open(self.file, os.O_RDWR | os.O_APPEND)
        self.addCleanup(os.close, self.fd)

    def interrupted(self, text: bytes = KEPT, written: int = 10) -> None:
        label = Label("4Q2x7", self.file.stat().st_ino, len(OLD), len(text))
        Path(beside(str(self.file))).write_bytes(bytes(label) + text)
        with self.file.open("ab") as file:
            file.write(text[:written])

    def repair(self, id: str = "4Q2x7") -> bool:
        there = repair(Disk(), str(self.file), self.fd, id)
        self.assertEqual(self.others(), [])
        return there

    def test_a_piece_of_ours_at_the_end_is_cut_off(self) -> None:
        for written in 0, 1, len(KEPT) - 1:
            self.interrupted(written=written)
            self.assertFalse(self.repair())
            self.assertEqual(self.file.read_bytes(), OLD)

    def test_a_whole_text_at_the_end_was_finished(self) -> None:
        self.interrupted(written=len(KEPT))
        self.assertTrue(self.repair())
        self.assertEqual(self.file.read_bytes(), OLD + KEPT)

    def test_one_for_another_message_does_not_count_for_this_one(self) -> None:
        self.interrupted(written=len(KEPT))
        self.assertFalse(self.repair("other"))
        self.assertEqual(self.file.read_bytes(), OLD + KEPT)

    def test_mail_that_somebody_appended_behind_our_piece_is_not_touched(self) -> None:
        self.interrupted(written=100)
        with self.file.open("ab") as file:
            file.write(OLD)
        self.assertFalse(self.repair())
        self.assertEqual(self.file.read_bytes(), OLD + KEPT[:100] + OLD)
        self.carry()
        self.assertEqual(self.file.read_bytes(), OLD + KEPT[:100] + OLD + KEPT)

    def test_a_mailbox_that_was_rewritten_in_place_is_not_touched(self) -> None:
        for now in b"", OLD[:40], OLD.replace(b"old", b"new") + b"Status: O\n" + KEPT[:10]:
            with self.subTest(now):
                self.file.write_bytes(OLD)
                self.interrupted()
                self.file.write_bytes(now)
                self.assertFalse(self.repair())
                self.assertEqual(self.file.read_bytes(), now)

    def test_a_mailbox_that_was_replaced_is_not_touched(self) -> None:
        self.interrupted(written=20)
        label = bytes(Label("4Q2x7", self.file.stat().st_ino + 1, len(OLD), len(KEPT)))
        Path(beside(str(self.file))).write_bytes(label + KEPT)
        self.assertFalse(self.repair())
        self.assertEqual(self.file.read_bytes(), OLD + KEPT[:20])

    def test_a_text_that_was_never_finished_beside_means_that_nothing_was_appended(self) -> None:
        self.interrupted(written=0)
        side = Path(beside(str(self.file)))
        whole = side.read_bytes()
        with self.file.open("ab") as file:
            file.write(KEPT)  # a stranger's, by chance the same
        short = bytes(Label("4Q2x7", self.file.stat().st_ino, len(OLD), 5)) + KEPT
        for text in (
            short,
            b"",
            whole[:100],
            b" " * 160,
            b" " * 160 + KEPT,
            whole[:-1],
            whole[:160],
            b"relay 1 a b c d\n",
        ):
            with self.subTest(text):
                side.write_bytes(text)
                self.assertFalse(self.repair())
                self.assertEqual(self.file.read_bytes(), OLD + KEPT)

    def test_a_file_beside_that_is_not_ours_is_not_believed(self) -> None:
        side = Path(beside(str(self.file)))
        side.symlink_to(self.file)
        self.assertTrue(is_put_off(self.carry()))
        side.unlink()
        side.mkdir()
        self.assertTrue(is_put_off(self.carry()))
        self.assertEqual(self.file.read_bytes(), OLD)

    def test_what_another_user_has_put_there_is_not_believed(self) -> None:
        self.interrupted()
        (self.root / ".jon.relay-lock").touch()
        self.patch(os, "geteuid", lambda: os.getuid() + 1)
        with self.assertRaises(OSError):
            repair(Disk(), str(self.file), self.fd, "4Q2x7")
        self.assertIn(".jon.relay-lock", self.carry().text)
        self.assertEqual(self.file.read_bytes(), OLD + KEPT[:10])

    def test_a_lock_of_ours_that_is_not_ours_is_not_believed(self) -> None:
        (self.root / ".jon.relay-lock").symlink_to(self.file)
        self.assertTrue(is_put_off(self.carry()))
        self.assertEqual(self.file.read_bytes(), OLD)

    def test_an_append_says_nothing_before_both_files_were_synced_in_order(self) -> None:
        disk = FaultyDisk()
        append(disk, str(self.file), self.fd, "a", [b"x"], Stop())
        self.assertEqual(
            [name for name in disk.names if name in ("sync", "write", "unlink")],
            ["write", "write", "write", "sync", "sync", "write", "sync", "unlink"],
        )


class FaultTests(MboxCase):
    def names(self) -> list[str]:
        """The calls of an append that nothing disturbs."""
        disk = FaultyDisk()
        self.assertTrue(is_carried(self.carry(self.agent(disk))))
        return disk.names

    def test_whichever_call_fails_the_mailbox_is_as_it_was_or_has_the_message_once(self) -> None:
        for stays in False, True:
            for n in range(1, len(self.names()) + 1):
                with self.subTest(stays=stays, n=n):
                    self.fail_once(FaultyDisk(n, errno.ENOSPC, stays=stays))

    def fail_once(self, disk: FaultyDisk) -> None:
        self.file.write_bytes(OLD)
        agent = self.agent(disk)
        first = self.carry(agent)
        self.assertTrue(is_carried(first) or is_put_off(first), first)
        if is_carried(first):
            self.assertEqual(self.file.read_bytes(), OLD + KEPT)
        elif not disk.stays:
            self.assertEqual(self.file.read_bytes(), OLD)
        disk.heal()
        again = self.carry(agent, id="4Q2x7" if not is_carried(first) else "other")
        self.assertTrue(is_carried(again), again)
        self.assertEqual(self.file.read_bytes(), OLD + KEPT * (1 + is_carried(first)))
        self.assertEqual(self.others(), [])

    def test_killed_before_any_call_the_next_append_mends_it(self) -> None:
        names = self.names()
        # What remains then is to take the locks away. Killed there, nobody knows any more that the message came.
        finished = names.index("unlink") + 1
        for n in range(1, len(names) + 1):
            with self.subTest(n):
                self.file.write_bytes(OLD)
                with self.assertRaises(Gone):
                    self.carry(self.agent(FaultyDisk(n)))
                self.assertTrue((OLD + KEPT).startswith(self.file.read_bytes()))
                self.assertTrue(is_carried(self.carry()))
                self.assertEqual(self.file.read_bytes(), OLD + KEPT * (2 if n > finished else 1))
                self.assertEqual((self.slept, self.others()), ([], []))

    def test_killed_while_it_mends_the_next_append_mends_it(self) -> None:
        for n in range(1, len(self.names()) + 20):
            with self.subTest(n):
                self.file.write_bytes(OLD)
                with self.assertRaises(Gone):
                    self.carry(self.agent(Torn()))
                self.assertEqual(self.file.read_bytes(), OLD + KEPT[: len(KEPT) // 2])
                mending = FaultyDisk(n)
                with contextlib.suppress(Gone):
                    self.carry(self.agent(mending), id="other")
                self.assertTrue(is_carried(self.carry(id="other" if mending.struck else "more")))
                done = mending.calls[:-1] if mending.struck else mending.calls
                finished = done.count(("unlink", (beside(str(self.file)),))) == 2
                self.assertEqual(self.file.read_bytes(), OLD + KEPT * (2 if finished else 1))


class Torn(FaultyDisk):
    """Killed in the midst of the write that goes to the mailbox itself."""

    synced = 0

    def _pass(self, name: str, args: Any) -> None:
        if name == "sync":
            self.synced += 1
        if name == "write" and self.synced == 2 and not self.struck:
            self._n = len(self.calls) + 1
        super()._pass(name, args)


KILLED = """
import os, sys
from relay.agents.mbox import MboxAgent
from relay.net.threads import AtOnce
from relay.testing.disk import FaultyDisk
from tests.local_mail import clock, consignment, reported, to

class Killed(FaultyDisk):
    def _pass(self, name, args):
        try:
            super()._pass(name, args)
        except BaseException:
            os.kill(os.getpid(), 9)

file, n = sys.argv[1:]
reported(MboxAgent(clock(), AtOnce(), Killed(int(n))).carry(consignment(to("jon@example.net", "mbox", file=file))))
"""


class KillTests(MboxCase):
    """kill -9, by the kernel itself."""

    def test_killed_at_the_calls_that_matter_the_mailbox_has_the_message_once(self) -> None:
        disk = FaultyDisk()
        self.carry(self.agent(disk))
        syncs = [n for n, name in enumerate(disk.names, 1) if name == "sync"]
        torn = 0
        for n in range(syncs[0], syncs[-1] + 2):
            with self.subTest(n):
                self.file.write_bytes(OLD)
                ran = subprocess.run(
                    [sys.executable, "-c", KILLED, str(self.file), str(n)],
                    cwd=Path(__file__).parents[1],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                self.assertEqual(ran.returncode, -signal.SIGKILL, ran.stderr)
                torn += self.file.read_bytes() not in (OLD, OLD + KEPT)
                self.assertTrue(is_carried(self.carry()))
                self.assertEqual(self.file.read_bytes(), OLD + KEPT)
                self.assertEqual((self.slept, self.others()), ([], []))
        self.assertEqual(torn, 1)
