"""Copies that wait for the same disk are put there together, and what befalls one of them is no other one's trouble."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from relay.agents.copies import Copy
from relay.agents.maildir import MaildirAgent
from relay.agents.maildir_round import MaildirRound
from relay.agents.rounds import ABREAST, ENOUGH, FEW, MOST, Awaited, Posting, Rounds
from relay.interfaces import Consignment, IPassing, IWillingAgent
from relay.mail.outcome import Carried, Fact, Misbehaved, Unwritten
from relay.net.disk import Disk
from relay.net.threads import AtOnce
from relay.net.waiting import start
from relay.testing.disk import FaultyDisk, Gone
from tests.local_mail import HEAD, MESSAGE, ByHand, Text, clock, consignment, fact, is_carried, is_put_off, reported, to

#: What a mailbox holds of each of them.
KEPT = b"Return-Path: <ann@example.org>\nDelivered-To: 0@example.net\n" + (HEAD + MESSAGE).replace(b"\r\n", b"\n")
DONE = Carried(False, "somewhere")


class Traveller:
    """Notes that it is told."""

    def __init__(self) -> None:
        self.arrivals = 0

    def arrived(self) -> None:
        self.arrivals += 1


class Notebook:
    """Work that notes who went together."""

    def __init__(self, *devices: tuple[str, int]) -> None:
        self.rounds: list[list[str]] = []
        self.devices = dict(devices)
        self.error: BaseException | None = None

    def __call__(self, postings: Any) -> None:
        self.rounds.append([posting.copy.entry.id for posting in postings])
        if self.error is not None:
            raise self.error
        for posting in postings:
            posting.device = self.devices.get(posting.folder, 1)
            posting.outcome = DONE


def copy(id: str, content: Any = None) -> Copy:
    mail = consignment(to("jon@example.net", "maildir", folder="/x"), id=id, content=content)
    return Copy(mail.entry, mail.recipients, mail.content, mail.head)


class RoundsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.threads, self.work = ByHand(), Notebook(("/b", 2))
        self.rounds = Rounds(self.threads, self.work)
        # It is known on which disk these are.
        self.post("a", "/a")
        self.post("b", "/b")
        self.go()
        self.work.rounds.clear()

    def post(self, id: str, folder: str = "/a", content: Any = None) -> Deferred[Fact]:
        posting = Awaited(folder, copy(id, content))
        self.rounds.add(posting)
        return posting.deferred

    def go(self) -> None:
        while self.threads.waiting:
            self.threads.work()

    def test_whoever_comes_while_a_round_is_under_way_goes_with_the_next(self) -> None:
        first = self.post("1")
        work = self.work.__call__

        def longer(postings: Any) -> None:
            if len(self.work.rounds) == 0:
                later.extend((self.post("2"), self.post("3")))
            work(postings)

        later: list[Deferred[Fact]] = []
        self.rounds._disks[1]._work = longer
        self.go()
        self.assertEqual(self.work.rounds, [["1"], ["2", "3"]])
        self.assertEqual([self.successResultOf(each) for each in (first, *later)], [DONE] * 3)

    def test_whoever_comes_before_a_thread_does_goes_at_once(self) -> None:
        for id in "123":
            self.post(id)
        self.assertEqual(len(self.threads.waiting), 1)
        self.go()
        self.assertEqual(self.work.rounds, [["1", "2", "3"]])

    def follow(self, id: str, told: Fact) -> Fact:
        self.post(id)
        return told

    def test_those_who_are_told_make_room_for_others_that_go_together(self) -> None:
        for id in "12":
            self.post(id).addCallback(partial(self.follow, f"{id}0"))
        self.go()
        self.assertEqual(self.work.rounds, [["1", "2"], ["10", "20"]])

    def test_a_disk_that_hangs_keeps_nobody_from_another_one(self) -> None:
        self.post("1")
        other = self.post("2", "/b")
        hangs = self.threads.waiting.pop(0)
        self.go()
        self.successResultOf(other)
        self.threads.waiting.append(hangs)

    def test_a_folder_of_which_nothing_is_known_and_a_large_message_go_alone(self) -> None:
        large = type("Large", (Text,), {"size": 10**6})()
        for id, folder, content in (("1", "/a", None), ("2", "/a", large), ("3", "/c", None), ("4", "/a", None)):
            self.post(id, folder, content)
        self.go()
        self.assertEqual(self.work.rounds, [["1", "4"], ["2"], ["3"]])
        self.post("5", "/c")
        self.post("6", "/a")
        self.go()
        self.assertEqual(self.work.rounds[3:], [["5", "6"]], "it is known by now")

    def test_where_many_wait_some_rounds_share_them_and_there_is_an_end_to_how_many_go_together(self) -> None:
        for id in range(3 * MOST + 10):
            self.post(str(id))
        self.assertEqual(len(self.threads.waiting), ABREAST)
        self.go()
        sizes = [len(each) for each in self.work.rounds]
        self.assertEqual((max(sizes), sum(sizes)), (MOST, 3 * MOST + 10))
        self.assertEqual([id for each in self.work.rounds for id in each], [str(id) for id in range(3 * MOST + 10)])
        for id in range(2 * FEW + 3):
            self.post(str(id))
        self.go()
        self.assertEqual([len(each) for each in self.work.rounds[len(sizes) :]], [FEW, FEW, 3])

    def test_a_round_that_finds_nobody_is_none(self) -> None:
        for id in range(ENOUGH + 1):
            self.post(str(id))
        self.assertGreater(len(self.threads.waiting), 1)
        self.go()
        self.assertEqual([len(each) for each in self.work.rounds], [ENOUGH + 1])

    def test_a_round_that_fails_is_the_failure_of_those_who_were_with_it(self) -> None:
        lost = [self.post("1"), self.post("2")]
        self.work.error = OSError(errno.EIO, "Input/output error")
        self.threads.work()
        for each in lost:
            self.failureResultOf(each, OSError)
        self.work.error = None
        well = self.post("3")
        self.go()
        self.assertEqual(self.successResultOf(well), DONE)

    def test_where_there_is_no_thread_nobody_waits_for_ever(self) -> None:
        class NoThreads:
            async def run(self, work: Any) -> Any:
                raise RuntimeError("no thread can be made")

        posting = Awaited("/a", copy("1"))
        Rounds(NoThreads(), self.work).add(posting)  # type: ignore[arg-type]
        self.failureResultOf(posting.deferred, RuntimeError)

    def test_of_so_many_folders_it_is_remembered_where_they_are(self) -> None:
        self.patch(__import__("relay.agents.rounds", fromlist=["_"]), "_KNOWN", 3)
        for n in range(5):
            self.post(str(n), f"/{n}")
            self.go()
        self.assertLessEqual(len(self.rounds._devices), 3)

    def test_whoever_waits_no_more_is_told_so_at_once_and_the_thread_sees_it(self) -> None:
        deferred = self.post("1")
        [posting] = self.rounds._disks[1]._waiting
        deferred.cancel()
        self.failureResultOf(deferred, CancelledError)
        self.assertTrue(posting.stopped)
        self.go()


class Unclosed(Disk):
    """It has no room for the second file that it makes, and says so when that is closed, and perhaps before."""

    def __init__(self, syncs: bool) -> None:
        self._syncs = syncs
        self._made = 0
        self._full: int | None = None

    def open(self, path: str, flags: int, mode: int = 0o600, at: int | None = None) -> int:
        fd = super().open(path, flags, mode, at)
        if flags & os.O_CREAT:
            self._made += 1
            if self._made == 2:
                self._full = fd
        return fd

    def sync(self, fd: int) -> None:
        if fd == self._full and not self._syncs:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    def close(self, fd: int) -> None:
        super().close(fd)
        if fd == self._full:
            self._full = None
            raise OSError(errno.EDQUOT, "Disk quota exceeded")


class Together(SynchronousTestCase):
    """Four messages in one round: two for one Maildir, and one for each of two others."""

    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)

    FOLDERS = ("jon", "jon", "ann", "eve")

    def mail(self, n: int, content: Any = None) -> Consignment:
        folder = str(self.root / self.FOLDERS[n])
        return consignment(to(f"{n}@example.net", "maildir", folder=folder), id=f"id{n}", content=content)

    def carry(self, disk: Disk, contents: dict[int, Any] | None = None) -> list[Deferred[Any]]:
        """The four of them, in one round."""
        threads = ByHand()
        agent = MaildirAgent(clock(), "mx.example", threads, disk)
        known = agent._rounds._devices
        for folder in self.FOLDERS:
            known[str(self.root / folder)] = 1
        answers: list[Any] = [agent.carry(self.mail(n, (contents or {}).get(n))) for n in range(4)]
        carrying = [start(answer) for answer in answers]
        while threads.waiting:
            threads.work()
        return carrying

    def facts(self, carrying: list[Deferred[Any]]) -> list[Fact]:
        return [self.successResultOf(each)[0].fact for each in carrying]

    def names(self, part: str = "new") -> list[str]:
        return sorted(file.name.split(".")[1] for file in self.root.glob(f"*/{part}/*"))

    def prepared(self) -> None:
        """The Maildirs are there."""
        for folder in set(self.FOLDERS):
            for part in ("tmp", "new", "cur"):
                (self.root / folder / part).mkdir(parents=True)

    def transcript(self, prepared: bool = False) -> FaultyDisk:
        if prepared:
            self.prepared()
        disk = FaultyDisk()
        self.assertTrue(all(map(is_carried, self.facts(self.carry(disk)))))
        self.assertEqual(self.names(), ["Rid0", "Rid1", "Rid2", "Rid3"])
        self.clear()
        return disk

    def clear(self) -> None:
        for folder in self.root.iterdir():
            shutil.rmtree(folder)

    def test_each_step_is_done_for_all_and_each_directory_is_synced_once(self) -> None:
        names = self.transcript().names
        of_files = names[names.index("write") : names.index("rename")]
        self.assertEqual(names[names.index("rename") :], ["rename"] * 4 + ["sync"] * 3)
        self.assertEqual(of_files[-8:], ["write_out"] * 4 + ["sync"] * 4)

    def test_whichever_call_fails_those_whom_it_does_not_concern_are_carried_and_all_come_once(self) -> None:
        for prepared in False, True:
            total = len(self.transcript(prepared).calls)
            for stays in False, True:
                for n in range(1, total + 1):
                    with self.subTest(prepared=prepared, stays=stays, n=n):
                        self.fail_once(FaultyDisk(n, errno.EIO, stays=stays), prepared)

    def fail_once(self, disk: FaultyDisk, prepared: bool) -> None:
        if prepared:
            self.prepared()
        before = os.listdir("/proc/self/fd")
        facts = self.facts(self.carry(disk))
        self.assertEqual(len(os.listdir("/proc/self/fd")), len(before), "descriptors are closed")
        self.assertTrue(all(is_carried(fact) or is_put_off(fact) for fact in facts), facts)
        seen = self.names()
        carried = [f"Rid{n}" for n, fact in enumerate(facts) if is_carried(fact)]
        if not disk.stays:
            self.assertEqual(seen, carried)
            self.assertGreaterEqual(len(carried), 2, "at most one Maildir is concerned")
            self.assertEqual(self.names("tmp"), [] if disk.calls[-1][0] != "unlink" else self.names("tmp"))
        self.assertLessEqual(set(carried), set(seen))
        disk.heal()
        agent = MaildirAgent(clock(), "mx.example", AtOnce(), disk)
        for n in range(4):
            self.assertTrue(is_carried(fact(agent.carry(self.mail(n)))))
        self.assertEqual(self.names(), ["Rid0", "Rid1", "Rid2", "Rid3"])
        self.clear()

    def test_killed_before_any_call_whole_messages_are_seen_and_all_come_once(self) -> None:
        total = len(self.transcript(prepared=True).calls)
        whole = len(KEPT)
        for n in range(1, total + 1):
            self.prepared()
            with self.assertRaises(Gone):
                self.carry(FaultyDisk(n))
            sizes = {file.stat().st_size for file in self.root.glob("*/new/*")}
            self.assertLessEqual(sizes, {whole})
            agent = MaildirAgent(clock(), "mx.example", AtOnce(), FaultyDisk())
            for number in range(4):
                self.assertTrue(is_carried(fact(agent.carry(self.mail(number)))))
            self.assertEqual(self.names(), ["Rid0", "Rid1", "Rid2", "Rid3"])
            self.clear()

    def test_a_directory_that_cannot_be_synced_is_the_trouble_of_its_messages_and_their_names_are_taken_away(
        self,
    ) -> None:
        self.prepared()
        disk = FaultyDisk(len(self.transcript_of_prepared().calls) - 2, errno.EIO)
        facts = self.facts(self.carry(disk))
        self.assertEqual([is_carried(each) for each in facts], [False, False, True, True])
        self.assertEqual((self.names(), self.names("tmp")), (["Rid2", "Rid3"], []))

    def transcript_of_prepared(self) -> FaultyDisk:
        disk = FaultyDisk()
        self.carry(disk)
        for file in self.root.glob("*/new/*"):
            file.unlink()
        return disk

    def test_what_was_there_is_not_believed_where_the_directory_could_not_be_synced_for_another(self) -> None:
        """The kernel reports it once: one sync speaks for all that a directory has."""
        self.prepared()
        agent = MaildirAgent(clock(), "mx.example", AtOnce(), FaultyDisk())
        reported(agent.carry(self.mail(0)))
        disk = FaultyDisk()
        self.carry(disk)
        for file in self.root.glob("*/new/*"):
            if "id0" not in file.name:
                file.unlink()
        first = len(disk.calls) - 2
        self.assertEqual(disk.names[first - 1 :], ["sync"] * 3)
        facts = self.facts(self.carry(FaultyDisk(first, errno.EIO)))
        self.assertEqual([is_carried(each) for each in facts], [False, False, True, True])
        self.assertEqual(self.names(), ["Rid2", "Rid3"])

    def test_where_it_cannot_be_begun_to_write_files_out_they_are_synced_all_the_same(self) -> None:
        self.prepared()
        disk = FaultyDisk(self.transcript_of_prepared().names.index("write_out") + 1, errno.ESPIPE)
        self.assertTrue(all(map(is_carried, self.facts(self.carry(disk)))))
        rename = disk.names.index("rename")
        self.assertEqual(disk.names[rename - 4 : rename], ["sync"] * 4)

    def test_one_whose_content_cannot_be_read_is_alone_in_that(self) -> None:
        self.prepared()
        contents = {1: Text(error=OSError(errno.EIO, "Input/output error"))}
        facts = self.facts(self.carry(FaultyDisk(), contents))
        self.assertEqual([is_carried(each) for each in facts], [True, False, True, True])
        self.assertEqual((self.names(), self.names("tmp")), (["Rid0", "Rid2", "Rid3"], []))

    def test_a_file_that_cannot_be_closed_is_no_other_ones_trouble(self) -> None:
        """As where a quota is met when a file on another machine is closed, be it synced or not."""
        for syncs in True, False:
            with self.subTest(syncs=syncs):
                self.prepared()
                disk = Unclosed(syncs)
                facts = self.facts(self.carry(disk))
                self.assertEqual([is_carried(each) for each in facts], [True, False, True, True])
                self.assertTrue(is_put_off(facts[1]))
                self.assertEqual((self.names(), self.names("tmp")), (["Rid0", "Rid2", "Rid3"], []))
                self.clear()

    def test_one_maildir_by_two_paths_is_one_and_what_cannot_be_made_durable_by_one_is_not_carried_by_the_other(
        self,
    ) -> None:
        self.prepared()
        (self.root / "too").symlink_to(self.root)
        folders = [str(self.root / "jon"), str(self.root / "too" / "jon")]
        mail = consignment(*(to(f"{n}@example.net", "maildir", folder=folder) for n, folder in enumerate(folders)))
        last = 0
        for carried in True, False:
            threads, disk = ByHand(), FaultyDisk(last or None, errno.EIO)
            agent = MaildirAgent(clock(), "mx.example", threads, disk)
            agent._rounds._devices.update(dict.fromkeys(folders, 1))
            carrying = start(agent.carry(mail))
            while threads.waiting:
                threads.work()
            facts = [report.fact for report in self.successResultOf(carrying)]
            self.assertEqual([is_carried(each) for each in facts], [carried] * 2)
            self.assertEqual(len(self.names()), int(carried))
            if carried:
                self.assertEqual([each.by for each in facts], folders)
                last = len(disk.calls)
                next(self.root.glob("jon/new/*")).unlink()

    def test_when_all_are_called_off_amid_a_sync_no_other_one_is_begun(self) -> None:
        class Slow(FaultyDisk):
            def write_out(inner, fd: int) -> None:
                inner.calls.clear()
                under_way.add(fd)

            def sync(inner, fd: int) -> None:
                super().sync(fd)
                for posting in postings if under_way else ():
                    posting.stopped = True

        under_way: set[int] = set()
        self.prepared()
        postings: list[Posting] = []
        for n in range(4):
            mail = self.mail(n)
            postings.append(Posting(str(self.root / self.FOLDERS[n]), Copy(mail.entry, mail.recipients, Text(), HEAD)))
        disk, count = Slow(), itertools.count()
        MaildirRound(disk, lambda entry: f"1.R{entry.id}", lambda: f"temporary{next(count)}")(postings)
        self.assertEqual(disk.names, ["sync"] + ["unlink"] * 4)
        self.assertEqual((self.names(), self.names("tmp")), ([], []))

    def test_a_maildir_that_is_taken_away_amid_a_round_is_no_other_ones_trouble(self) -> None:
        class Taken(Disk):
            def write_out(inner, fd: int) -> None:
                shutil.rmtree(self.root / "ann", ignore_errors=True)

        self.prepared()
        facts = self.facts(self.carry(Taken()))
        self.assertEqual([is_carried(each) for each in facts], [True, True, False, True])
        self.assertTrue(is_put_off(facts[2]))

    def test_a_maildir_that_leads_elsewhere_gets_nothing_and_the_others_get_theirs(self) -> None:
        self.prepared()
        (self.root / "elsewhere").mkdir()
        for part in "tmp", "new", "cur":
            with self.subTest(part):
                (self.root / "ann" / part).rmdir()
                (self.root / "ann" / part).symlink_to(self.root / "elsewhere")
                facts = self.facts(self.carry(FaultyDisk()))
                self.assertEqual([is_carried(each) for each in facts], [True, True, False, True])
                self.assertEqual(list((self.root / "elsewhere").iterdir()), [])
                (self.root / "ann" / part).unlink()
                (self.root / "ann" / part).mkdir()


class StraightTests(SynchronousTestCase):
    """`IWillingAgent.set_off`."""

    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        self.threads, self.traveller = ByHand(), Traveller()
        self.agent = MaildirAgent(clock(), "mx.example", self.threads, FaultyDisk())

    def set_off(self, id: str = "4Q2x7", content: Any = None, folder: str | None = None) -> Any:
        folder = str(self.root / "jon") if folder is None else folder
        mail = consignment(to("jon@example.net", "maildir", folder=folder), id=id, content=content)
        return self.agent.set_off(mail, self.traveller)  # type: ignore[arg-type]

    def test_the_agent_and_what_it_sets_off_keep_their_contracts(self) -> None:
        self.assertTrue(verifyObject(IWillingAgent, self.agent))
        self.assertTrue(verifyObject(IPassing, self.set_off()))

    def test_its_fact_is_that_of_the_other_way_and_it_is_told_once(self) -> None:
        passing = self.set_off()
        self.assertEqual((passing.over, self.traveller.arrivals), (False, 0))
        self.threads.work()
        self.assertEqual((passing.over, self.traveller.arrivals), (True, 1))
        self.assertEqual(passing.facts, (Carried(False, str(self.root / "jon")),))
        self.assertEqual(len(list((self.root / "jon" / "new").iterdir())), 1)

    def test_what_cannot_be_there_is_not_looked_for(self) -> None:
        disks = []
        for fresh in False, True:
            disk = FaultyDisk()
            agent = MaildirAgent(clock(), "mx.example", AtOnce(), disk)
            mail = evolve(consignment(to("jon@example.net", "maildir", folder=str(self.root / "jon"))), fresh=fresh)
            passing = agent.set_off(mail, self.traveller)  # type: ignore[arg-type]
            assert passing is not None
            self.assertTrue(is_carried(passing.facts[0]))
            disks.append(disk.names)
        self.assertEqual([names.count("stat") for names in disks], [3, 0])

    def test_so_is_what_kept_it_from_being_carried(self) -> None:
        (self.root / "file").write_bytes(b"")
        broken = Text(error=OSError(errno.EIO, "Input/output error"))
        for id, content, folder in (("a", broken, None), ("b", None, str(self.root / "file")), ("../x", None, None)):
            passing = self.set_off(id, content, folder)
            self.threads.work()
            agent = MaildirAgent(clock(), "mx.example", AtOnce(), FaultyDisk())
            recipient = to("jon@example.net", "maildir", folder=folder or str(self.root / "jon"))
            [expected] = reported(agent.carry(consignment(recipient, id=id, content=content)))
            self.assertEqual(passing.facts, (expected.fact,))
        self.assertEqual(passing.facts, (Misbehaved("maildir"),))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_what_is_over_at_once_tells_nobody(self) -> None:
        self.agent = MaildirAgent(clock(), "mx.example", AtOnce(), FaultyDisk())
        passing = self.set_off()
        self.assertEqual((passing.over, self.traveller.arrivals), (True, 0))
        self.assertTrue(is_carried(passing.facts[0]))

    def test_one_that_is_cancelled_is_told_at_once_and_never_again(self) -> None:
        passing = self.set_off()
        passing.cancel()
        expected = (Unwritten(str(self.root / "jon"), "it took too long"),)
        self.assertEqual((passing.facts, self.traveller.arrivals), (expected, 1))
        passing.cancel()
        self.threads.work()
        self.assertEqual((passing.facts, self.traveller.arrivals), (expected, 1))
        self.assertFalse((self.root / "jon").exists())

    def test_a_path_that_is_none_is_not_for_this_way(self) -> None:
        self.assertIsNone(self.set_off(folder="vmail/jon"))
        self.assertEqual(self.threads.waiting, [])

    def test_where_the_process_is_to_end_that_is_its_problem(self) -> None:
        self.agent = MaildirAgent(clock(), "mx.example", self.threads, FaultyDisk(1))
        passing = self.set_off()
        with self.assertRaises(Gone):
            self.threads.work()
        self.assertFalse(passing.over, "nobody is there to be told")
