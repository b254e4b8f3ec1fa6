"""Both histories keep the one contract; and what only the one on a disk has to bear."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from relay.history import records, search, shelf
from relay.history.block import Block
from relay.history.database import APPLICATION, FORMAT, set_aside
from relay.history.keys import UNREADABLE
from relay.history.memory import MemoryHistory
from relay.history.records import Bounds
from relay.history.search import HALF
from relay.history.sqlite import DELAY, FULL, PATIENCE, PAUSE, ROUND, SqliteHistory
from relay.history.telling import sentence, tell_why
from relay.interfaces import HistoryUnavailable, IHistory, IMailLog
from relay.mail.address import Address
from relay.mail.explanation import Decided
from relay.mail.history import Accounts, Findings
from relay.mail.reply import Reply
from relay.net.clock import ReactorClock
from relay.net.teed import Teed
from relay.net.workers import IsWorkers, Workers
from relay.spool.disk import SpoolDisk
from relay.spool.layout import Layout, prepare
from relay.spool.schema import open_database as open_spool
from relay.testing.history import ANN, BOB, CLIENT, ID, NOON, OTHER, HistoryContract
from relay.testing.maillog import MemoryMailLog

T = TypeVar("T")
#: No reserve: whatever the disk of whoever tests has left.
BOUNDS = Bounds(reserve=0)


class AtOnce:
    """A thread that does its work when it is asked, or, `slow`, when the test says so."""

    def __init__(self) -> None:
        self.slow = False
        self.undone: list[Callable[[], None]] = []

    def perform(self, work: Callable[[], T], answer: Callable[[T | Exception], object]) -> None:
        def do() -> None:
            result: Any
            try:
                result = work()
            except Exception as problem:
                result = problem
            answer(result)

        self.undone.append(do)
        if not self.slow:
            self.go_on()

    def go_on(self) -> None:
        while self.undone:
            self.undone.pop(0)()

    def stop(self) -> None:
        self.go_on()


class MemoryHistoryTests(HistoryContract, SynchronousTestCase):
    def open(self) -> IHistory:
        return MemoryHistory(self.calendar)

    def test_of_more_than_it_may_keep_the_oldest_go(self) -> None:
        history = MemoryHistory(self.calendar, most=2)
        for id in (ID, OTHER, "NG79W8MRZZZZZZ"):
            self.accept(history, id)
        found = self.successResultOf(Deferred.fromCoroutine(history.find("ann@example.org")))
        self.assertEqual([life.id for life in found.lives], ["NG79W8MRZZZZZZ", OTHER])


class OnDisk(HistoryContract):
    """A history in a directory that is gone after the test."""

    addCleanup: Any

    def setUp(self) -> None:
        super().setUp()
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        self.path = Path(directory) / "var" / "history.db"
        self.free = 10**12

    def clock(self) -> ReactorClock:
        return ReactorClock(self.time, self.calendar)

    def opened(self, worker: IsWorkers, **more: Any) -> SqliteHistory:
        history = SqliteHistory(
            self.path, self.clock(), worker, free=lambda path: self.free, **{"bounds": BOUNDS, **more}
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(history.close()))
        return history


class SqliteHistoryInThreadTests(OnDisk, TestCase):
    """With a thread and a reactor, as in the relay."""

    def open(self) -> IHistory:
        return self.opened(Workers(reactor.callFromThread, "history"))


class SqliteHistoryTests(OnDisk, SynchronousTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.worker = AtOnce()
        self.said: list[str] = []
        globalLogPublisher.addObserver(self.hear)
        self.addCleanup(globalLogPublisher.removeObserver, self.hear)

    def hear(self, event: Any) -> None:
        if event.get("log_namespace") == "relay.history":
            self.said.append(event["log_format"].format(**event))

    def open(self) -> IHistory:
        return self.opened(self.worker)

    def found(self, history: SqliteHistory, text: str, most: int = 20) -> Findings:
        return self.successResultOf(Deferred.fromCoroutine(history.find(text, most)))

    def close(self, history: SqliteHistory) -> None:
        self.successResultOf(Deferred.fromCoroutine(history.close()))

    def lives(self, history: SqliteHistory, text: str = "ann@example.org") -> list[str]:
        return [life.id for life in self.found(history, text, 1000).lives]

    # Keeping.

    def test_nothing_is_touched_before_something_happens(self) -> None:
        history = self.opened(self.worker)
        self.assertFalse(self.path.parent.exists())
        self.close(history)

    def test_events_are_kept_together_a_moment_later(self) -> None:
        history = self.opened(self.worker)
        self.accept(history)
        history.event("delivered", id=ID, recipient=BOB)
        self.assertFalse(self.path.exists())
        self.time.advance(DELAY)
        with sqlite3.connect(self.path) as other:
            ((told,),) = other.execute("SELECT told FROM blocks").fetchall()
            self.assertEqual([each.what for each in Block(told).happenings(ID)], ["accepted", "delivered"])
        other.close()
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o640 & ~_umask())

    def test_while_a_batch_is_under_way_the_next_one_gathers(self) -> None:
        history = self.opened(self.worker)
        self.worker.slow = True
        self.accept(history)
        self.time.advance(DELAY)
        self.accept(history, OTHER)
        self.time.advance(100)
        self.assertEqual(len(self.worker.undone), 1)
        self.worker.go_on()
        self.time.advance(DELAY)
        self.assertEqual(len(self.worker.undone), 1)
        self.worker.go_on()
        self.worker.slow = False
        self.assertEqual(self.lives(history), [OTHER, ID])

    def test_a_block_that_is_full_waits_for_nothing(self) -> None:
        history = self.opened(self.worker)
        for _ in range(FULL):
            self.assertFalse(self.path.exists())
            history.event("delayed", id=ID, recipient=BOB)
        self.assertEqual(self.blocks(), [FULL])
        self.worker.slow = True
        for _ in range(2 * FULL + 1):
            history.event("delayed", id=ID, recipient=BOB)
        self.assertEqual(len(self.worker.undone), 1)  # and the next one gathers
        self.worker.slow = False
        self.worker.go_on()
        # What is over does not make another one.
        self.assertEqual(self.blocks(), [FULL, FULL, FULL + 1])
        history.event("delayed", id=ID, recipient=BOB)
        self.time.advance(DELAY)
        self.assertEqual(self.blocks(), [FULL, FULL, FULL + 1, 1])

    def blocks(self) -> list[int]:
        """How many events each has."""
        with closing(sqlite3.connect(self.path)) as database:
            told = database.execute("SELECT told FROM blocks ORDER BY number").fetchall()
        return [len(list(Block(octets).happenings(ID))) for (octets,) in told]

    def test_while_nothing_can_be_kept_a_full_block_waits_as_long_as_any(self) -> None:
        history = self.opened(self.worker, bounds=Bounds(reserve=1000))
        self.accept(history)
        self.free = 999
        self.time.advance(DELAY)
        for _ in range(FULL):
            history.event("delayed", id=ID, recipient=BOB)
        self.free = 1000
        history.event("delayed", id=ID, recipient=BOB)
        self.assertEqual(self.blocks(), [])
        self.time.advance(PAUSE)
        self.assertEqual(self.blocks(), [FULL + 1])

    def test_a_question_is_answered_with_what_was_told_a_moment_ago(self) -> None:
        history = self.opened(self.worker)
        self.worker.slow = True
        self.accept(history)
        self.time.advance(DELAY)
        self.accept(history, OTHER)
        asked = Deferred.fromCoroutine(history.find("ann@example.org"))
        self.worker.go_on()
        self.assertEqual([life.id for life in self.successResultOf(asked).lives], [OTHER, ID])

    def test_it_outlives_a_restart_and_goes_on_with_the_same_lives(self) -> None:
        history = self.opened(self.worker)
        self.accept(history)
        self.close(history)
        history = self.opened(self.worker)
        self.accept(history, OTHER)
        history.event("relayed", id=ID, recipient=BOB)
        self.assertEqual(self.lives(history), [OTHER, ID])
        self.assertEqual(len(self.found(history, ID).lives[0].happenings), 2)

    def test_of_a_long_life_the_beginning_and_the_end_are_told(self) -> None:
        history = self.opened(self.worker)
        for attempt in range(2 * HALF + 7):
            history.event("delayed", id=ID, recipient=BOB, attempts=attempt)
        (life,) = self.found(history, ID).lives
        self.assertEqual(life.left_out, 7)
        told = [each.number("attempts") for each in life.happenings]
        self.assertEqual(told, [*range(HALF), *range(HALF + 7, 2 * HALF + 7)])

    def test_what_has_the_same_checksum_is_not_the_same(self) -> None:
        self.patch(shelf, "crc32", lambda octets, begin=0: begin)  # type: ignore[no-untyped-call]
        history = self.opened(self.worker)
        for number in range(5):
            self.accept(history, f"NG79W8MR4E2{number:03}", sender=Address(f"ann{number}", "example.org"))
            self.time.advance(DELAY)
        self.close(history)
        history = self.opened(self.worker)
        history.event("relayed", id="NG79W8MR4E2001", recipient=ANN)
        self.assertEqual(self.lives(history, "ann3@example.org"), ["NG79W8MR4E2003"])
        self.assertEqual(self.lives(history, "NG79W8MR4E2003"), ["NG79W8MR4E2003"])
        self.assertEqual(self.lives(history, "nobody@example.org"), [])
        (life,) = self.found(history, str(ANN)).lives
        self.assertEqual([each.what for each in life.happenings], ["accepted", "relayed"])

    def test_of_volumes_all_are_looked_into_and_the_newest_first(self) -> None:
        self.patch(records, "VOLUME", 5)  # type: ignore[no-untyped-call]
        history = self.opened(self.worker)
        ids = [f"NG79W8MR4E2{number:03}" for number in range(200)]
        for id in ids:
            self.accept(history, id)
            self.time.advance(DELAY)
        with closing(sqlite3.connect(self.path)) as database:
            self.assertEqual(database.execute("SELECT count(DISTINCT volume) FROM found_by").fetchone(), (100,))
        history.event("relayed", id=ids[7], recipient=BOB)
        self.assertEqual(self.lives(history), ids[::-1])
        self.assertEqual(self.lives(history, ids[3]), [ids[3]])
        self.assertEqual(
            [each.what for each in self.found(history, ids[7]).lives[0].happenings], ["accepted", "relayed"]
        )

    def test_where_much_has_happened_lately_to_old_messages_what_is_older_still_is_not_looked_for(self) -> None:
        history = self.opened(self.worker)
        old = [f"NG79W8MR4E1{number:03}" for number in range(3)]
        for id in (*old, ID):
            self.accept(history, id)
            self.time.advance(DELAY)
        for _ in range(10):
            history.event("delayed", id=ID, recipient=BOB)
            self.time.advance(DELAY)
        found = self.found(history, str(BOB))
        self.assertEqual(([life.id for life in found.lives], found.more), ([ID, *old[::-1]], False))
        self.patch(search, "_EFFORT", 100)  # type: ignore[no-untyped-call]
        found = self.found(history, str(BOB))
        self.assertEqual(([life.id for life in found.lives], found.more), ([ID], True))
        self.assertEqual(len(found.lives[0].happenings), 11)

    # Stress.

    def test_under_stress_events_are_dropped_and_counted(self) -> None:
        history = self.opened(self.worker, most_waiting=3)
        self.worker.slow = True
        for number in range(5):
            self.accept(history, f"NG79W8MR4E21H{number}")
        self.assertEqual(history.dropped, 2)
        self.time.advance(DELAY)
        self.worker.slow = False
        self.worker.go_on()
        found = self.found(history, "ann@example.org")
        self.assertEqual((len(found.lives), found.dropped), (3, 2))
        self.assertEqual(self.said, ["The history is written again; 2 events are missing"])
        # And not again with every batch.
        self.accept(history)
        self.assertEqual(len(self.found(history, "ann@example.org").lives), 4)
        self.assertEqual(len(self.said), 1)

    def test_questions_while_the_disk_hangs_do_not_carry_events_past_the_bound(self) -> None:
        history = self.opened(self.worker, most_waiting=10)
        self.worker.slow = True
        for number in range(100):
            self.accept(history, f"NG79W8MR4E2{number:03}")
            Deferred.fromCoroutine(history.find(ID))
        # At most what was handed over, and as much that waits.
        self.assertGreaterEqual(history.dropped, 80)
        self.worker.slow = False
        self.worker.go_on()
        self.time.advance(DELAY)
        self.assertEqual(len(self.lives(history)), 100 - history.dropped)

    # Bounds.

    def test_what_is_too_old_goes_also_when_nothing_happens_any_more(self) -> None:
        history = self.opened(self.worker, bounds=Bounds(age=2 * ROUND, reserve=0))
        self.accept(history)
        self.time.advance(DELAY)
        self.time.pump([ROUND] * 3)
        with sqlite3.connect(self.path) as other:
            counts = [other.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in TABLES]
        other.close()
        self.assertEqual(counts, [0, 0])

    def test_something_that_happens_to_a_life_that_has_gone_begins_it_anew(self) -> None:
        history = self.opened(self.worker, bounds=Bounds(age=3600, reserve=0))
        self.accept(history)
        self.time.advance(DELAY)
        self.time.advance(3601)
        self.assertEqual(self.lives(history), [])
        history.event("failed", id=ID, recipient=BOB)
        self.assertEqual([each.what for each in self.found(history, ID).lives[0].happenings], ["failed"])
        self.assertEqual(self.lives(history, "bob@example.net"), [ID])
        with closing(sqlite3.connect(self.path)) as database:
            # And not in a block that has gone.
            self.assertEqual(database.execute("SELECT earlier FROM blocks").fetchall(), [(f'{{"{ID}": null}}',)])

    def test_its_size_is_bounded_and_the_newest_stay(self) -> None:
        size = 400_000
        history = self.opened(self.worker, bounds=Bounds(size=size, reserve=0))
        for number in range(12_000):
            self.accept(history, f"NG79W8{number:08}", message_id=f"<{number}@example.org>")
            if number % 500 == 0:
                self.time.advance(DELAY)
        self.time.advance(DELAY)
        self.assertLessEqual(self.path.stat().st_size, size * 1.25)
        ids = self.lives(history)
        self.assertEqual(ids, [f"NG79W8{number:08}" for number in range(11_999, 10_999, -1)])
        self.assertEqual(self.lives(history, "NG79W800000000"), [])
        self.assertEqual(self.lives(history, "0@example.org"), [])
        with closing(sqlite3.connect(self.path)) as other:
            # What leads to nothing any more is bounded, too.
            ((least,),) = other.execute("SELECT min(block) - (SELECT min(volume) FROM blocks) FROM found_by").fetchall()
        self.assertGreaterEqual(least, 0)

    # Trouble.

    def test_a_full_disk_is_said_once_and_when_there_is_room_it_goes_on(self) -> None:
        history = self.opened(self.worker, bounds=Bounds(reserve=1000))
        self.accept(history)
        self.time.advance(DELAY)
        self.free = 999
        for _ in range(3):
            self.accept(history, OTHER)
            self.time.advance(PAUSE)
        self.assertEqual(len(self.said), 1)
        self.assertIn("cannot be written: [Errno 28]", self.said[0])
        self.assertEqual(history.dropped, 3)
        # What is there can be asked for all the same, but for what has just been told.
        self.assertEqual(self.lives(history), [ID])
        self.free = 1000
        self.accept(history, "NG79W8MRZZZZZZ")
        self.time.advance(PAUSE)
        self.assertEqual(self.lives(history), ["NG79W8MRZZZZZZ", ID])
        self.assertEqual(self.said[1:], ["The history is written again; 3 events are missing"])
        self.free = 999
        self.accept(history, OTHER)
        self.time.advance(PAUSE)
        self.free = 1000
        self.accept(history, OTHER)
        self.time.advance(PAUSE)
        self.assertEqual(self.said[3:], ["The history is written again; 1 events are missing"])

    def test_an_error_of_the_disk_in_the_midst_of_a_batch_leaves_no_half_of_it(self) -> None:
        history = self.opened(self.worker)
        self.accept(history)
        self.time.advance(DELAY)
        kept = history._records
        assert kept._connection is not None
        kept._connection.execute("PRAGMA max_page_count = 1")  # a disk of SQLite's that is full
        for number in range(100):
            self.accept(history, OTHER, message_id=f"<{os.urandom(200).hex()}-{number}@example.org>")
        self.time.advance(DELAY)
        self.assertIn("full", self.said[0])
        self.assertEqual(self.lives(history), [ID])
        kept._connection.execute("PRAGMA max_page_count = 1000000")
        self.accept(history, OTHER)
        self.assertEqual(self.lives(history), [OTHER, ID])

    def test_a_damaged_file_is_set_aside_and_the_history_begins_anew(self) -> None:
        self.path.parent.mkdir()
        self.path.write_bytes(b"this was a database once" * 1000)
        history = self.opened(self.worker)
        self.accept(history)
        self.time.advance(DELAY)
        self.assertEqual(self.lives(history), [ID])
        aside = self.path.with_name("history.db.damaged")
        self.assertTrue(aside.read_bytes().startswith(b"this was a database once"))
        self.assertEqual(len(self.said), 1)
        self.assertIn(str(aside), self.said[0])

    def test_what_belongs_to_a_file_that_is_set_aside_is_not_left_to_the_new_one(self) -> None:
        self.path.parent.mkdir()
        names = ("history.db", "history.db-wal", "history.db-shm", "history.db.damaged")
        for name in names:
            self.path.with_name(name).write_text(name)
        self.assertEqual(set_aside(self.path), self.path.with_name("history.db.damaged"))
        self.assertEqual(os.listdir(self.path.parent), ["history.db.damaged"])
        self.assertEqual(self.path.with_name("history.db.damaged").read_text(), "history.db")

    def test_damage_within_the_file_is_noticed_when_it_is_met(self) -> None:
        history = self.opened(self.worker)
        for number in range(2000):
            self.accept(history, f"NG79W8{number:08}")
        self.close(history)
        octets = bytearray(self.path.read_bytes())
        octets[8192:] = os.urandom(len(octets) - 8192)
        self.path.write_bytes(octets)
        history = self.opened(self.worker)
        self.assertEqual(self.lives(history), [])
        self.accept(history)
        self.assertEqual(self.lives(history), [ID])
        self.assertEqual(len(self.said), 1)

    def test_an_octet_that_the_disk_has_changed_spoils_no_more_than_the_block_it_is_in(self) -> None:
        history = self.opened(self.worker)
        for id in (ID, OTHER, "NG79W8MRZZZZZZ"):
            self.accept(history, id)
            self.decide(history, id, reply=Reply.of(250, "2.0.0", "queued"))
            self.time.advance(DELAY)
        history.event("relayed", id=OTHER, recipient=BOB)
        self.close(history)
        with closing(sqlite3.connect(self.path)) as database:
            told = [told for (told,) in database.execute("SELECT told FROM blocks ORDER BY number")]
        self.assertEqual(len(told), 4)
        whole, spoilt = self.path.read_bytes(), bytearray(told[1])
        spoilt[-20] ^= 1
        self.path.write_bytes(whole.replace(told[1], bytes(spoilt)))
        history = self.opened(self.worker)
        self.assertEqual(self.lives(history), ["NG79W8MRZZZZZZ", "", ID])
        self.assertEqual(len(self.said), 1)
        self.assertIn("1 of the rows", self.said[0])
        lives = self.found(history, OTHER).lives
        self.assertEqual([[each.what for each in life.happenings] for life in lives], [["relayed"], [UNREADABLE]])
        self.assertEqual([life.happenings[-1].at for life in lives], [NOON + 3 * DELAY, NOON + DELAY])
        self.assertIn("cannot be read", sentence(lives[1].happenings[0]))
        accounts = self.successResultOf(Deferred.fromCoroutine(history.why(str(ANN))))
        self.assertEqual([account.id for account in accounts.accounts], ["NG79W8MRZZZZZZ", "", ID])
        lines = "\n".join(tell_why(accounts, "it"))
        self.assertEqual(lines.count("how it came about cannot be read"), 1)
        self.assertNotIn("Unix", lines)
        # It goes when its time has come, as others do.
        self.time.advance(BOUNDS.age + 1)
        self.assertEqual((self.lives(history), self.lives(history, OTHER)), ([], []))

    def mark(self, *statements: str) -> None:
        """Keep one message, and then do this to the file."""
        history = self.opened(self.worker)
        self.accept(history)
        self.close(history)
        with sqlite3.connect(self.path) as other:
            for statement in statements:
                other.execute(statement)
        other.close()

    def test_where_the_index_is_spoilt_the_rest_of_it_is_of_use(self) -> None:
        history = self.opened(self.worker)
        for id in (ID, OTHER):
            self.accept(history, id)
            self.time.advance(DELAY)
        self.close(history)
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute("UPDATE found_by SET block = 'x' || block WHERE block = 1")
        history = self.opened(self.worker)
        history.event("relayed", id=ID, recipient=BOB)
        history.event("relayed", id=OTHER, recipient=BOB)
        self.assertEqual(self.lives(history), [OTHER])
        self.assertEqual(self.lives(history, "bob@example.net"), [ID, OTHER])

    def test_a_file_whose_tables_have_lost_their_names_is_set_aside(self) -> None:
        history = self.opened(self.worker)
        self.accept(history)
        self.close(history)
        octets = self.path.read_bytes()
        self.assertEqual(octets.count(b"(volume, key, block)"), 1)
        self.path.write_bytes(octets.replace(b"(volume, key, block)", b"(volume, k\xe7y, block)"))
        history = self.opened(self.worker)
        self.accept(history, OTHER)
        self.assertEqual(self.lives(history), [OTHER])
        self.assertEqual(len(self.said), 1)
        self.assertIn("begins anew", self.said[0])

    def test_a_file_of_a_newer_relay_is_set_aside_too(self) -> None:
        self.mark("PRAGMA user_version = 99")
        history = self.opened(self.worker)
        self.assertEqual(self.lives(history), [])
        self.assertEqual(len(self.said), 1)
        self.assertIn("format 99", self.said[0])

    def test_a_history_that_does_not_say_that_it_is_one_is_known_by_its_tables(self) -> None:
        for version in (0, 2):
            self.mark("PRAGMA application_id = 0", f"PRAGMA user_version = {version}")
            self.assert_gone_on_with()
            self.path.unlink()

    def assert_gone_on_with(self) -> None:
        history = self.opened(self.worker)
        self.assertEqual(self.lives(history), [ID])
        self.close(history)
        with sqlite3.connect(self.path) as other:
            said = [other.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        other.close()
        self.assertEqual((said, self.said), ([APPLICATION, FORMAT], []))

    def test_why_goes_when_it_is_too_old(self) -> None:
        history = self.opened(self.worker, bounds=Bounds(age=3600, reserve=0))
        self.accept(history)
        self.decide(history, ID, reply=Reply.of(250, "2.0.0", "queued"))
        self.decide(history, ref="7K3QX2")
        self.time.advance(3000)
        self.decide(history, ref="AAAAAA")
        self.time.advance(1000)
        self.assertEqual(self.whys_of(history, "bob@example.net"), ["AAAAAA"])
        self.close(history)
        with closing(sqlite3.connect(self.path)) as database:
            self.assertEqual(database.execute("SELECT count(*) FROM blocks").fetchone(), (1,))

    def whys_of(self, history: SqliteHistory, text: str) -> list[str]:
        return [each.ref for each in self.successResultOf(Deferred.fromCoroutine(history.why(text))).accounts]

    def assert_left_alone(self) -> None:
        """A history finds what stands there, says once that it is not its own, and nothing has become of it."""
        before = {each: each.read_bytes() for each in self.path.parent.iterdir()}
        history = self.opened(self.worker)
        for _ in range(3):
            self.accept(history)
            self.time.advance(PAUSE)
            problem = self.failureResultOf(Deferred.fromCoroutine(history.find(ID)), HistoryUnavailable)
            self.assertIn("is left as it is", problem.getErrorMessage())
        self.close(history)
        self.assertEqual(len(self.said), 1, self.said)
        self.assertIn(str(self.path), self.said.pop())
        self.assertEqual({each: each.read_bytes() for each in self.path.parent.iterdir()}, before)

    def test_the_database_of_a_running_spool_is_left_alone_and_the_spool_goes_on(self) -> None:
        layout, disk = Layout(self.path.parent / "spool"), SpoolDisk()
        prepare(layout, disk)
        spool = open_spool(layout, disk)
        self.addCleanup(spool.close)
        spool.execute("INSERT INTO probes VALUES (7)")
        self.path = layout.database
        before = sorted(os.listdir(layout.path))
        history = self.opened(self.worker)
        self.accept(history)
        self.time.advance(DELAY)
        self.assertEqual(sorted(os.listdir(layout.path)), before)
        self.assertEqual((len(self.said), history.dropped), (1, 1))
        spool.execute("INSERT INTO probes VALUES (8)")
        with sqlite3.connect(self.path) as other:
            self.assertEqual(other.execute("SELECT * FROM probes ORDER BY 1").fetchall(), [(0,), (7,), (8,)])
        other.close()

    def test_a_database_of_somebody_else_is_left_alone_also_under_the_usual_name(self) -> None:
        self.mark("PRAGMA application_id = 7")
        self.assert_left_alone()
        self.mark_foreign("CREATE TABLE lives (number INTEGER PRIMARY KEY, began REAL NOT NULL, id TEXT NOT NULL)")
        self.assert_left_alone()
        self.mark_foreign("PRAGMA user_version = 1")
        self.assert_left_alone()

    def mark_foreign(self, statement: str) -> None:
        self.path.unlink()
        with sqlite3.connect(self.path) as other:
            other.execute(statement)
        other.close()

    def test_a_file_that_is_no_database_is_left_alone_if_it_has_another_name(self) -> None:
        self.path = self.path.with_name("users")
        self.path.parent.mkdir()
        for content in ("jon:secret\n", "jon:secret\n" * 1000):
            self.path.write_text(content)
            self.assert_left_alone()

    def test_a_history_of_another_name_that_is_damaged_is_set_aside_for_it_says_what_it_is(self) -> None:
        self.path = self.path.with_name("told.db")
        self.test_damage_within_the_file_is_noticed_when_it_is_met()
        self.assertTrue(self.path.with_name("told.db.damaged").exists())

    def test_a_file_without_content_is_used_whatever_its_name_is(self) -> None:
        self.path = self.path.with_name("told.db")
        self.path.parent.mkdir()
        self.path.touch()
        history = self.opened(self.worker)
        self.accept(history)
        self.assertEqual((self.lives(history), self.said), ([ID], []))

    def test_what_cannot_be_kept_gives_no_message_a_second_life(self) -> None:
        history = self.opened(self.worker)
        self.accept(history, OTHER)
        self.time.advance(DELAY)
        patch = self.patch(shelf, "_NOTE", "INSERT INTO nowhere VALUES (?, ?, ?)")
        self.accept(history)
        history.event("relayed", id=OTHER, recipient=BOB)
        self.time.advance(DELAY)
        patch.restore()
        self.assertEqual(history.dropped, 2)
        history.event("relayed", id=ID, recipient=BOB)
        self.time.advance(PAUSE)
        history.event("delayed", id=OTHER, recipient=BOB)
        self.assertEqual([each.what for each in self.found(history, ID).lives[0].happenings], ["relayed"])
        self.assertEqual(
            [each.what for each in self.found(history, OTHER).lives[0].happenings], ["accepted", "delayed"]
        )
        self.assertEqual(self.lives(history, "bob@example.net"), [ID, OTHER])

    def test_of_all_messages_that_are_remembered_only_those_are_looked_at_to_which_something_happens(self) -> None:
        looked_at = []

        class Remembered(str):
            def __hash__(self) -> int:
                looked_at.append(self)
                return super().__hash__()

        history = self.opened(self.worker)
        self.accept(history)
        self.time.advance(DELAY)
        history._records._began.update({Remembered(f"NG79W8MQ{number:06}"): 1 for number in range(1000)})
        looked_at.clear()
        self.accept(history, OTHER)
        history.event("relayed", id=ID, recipient=BOB)
        history.event("relayed", id="NG79W8MRZZZZZZ", recipient=BOB)
        self.time.advance(DELAY)
        self.assertEqual(len(looked_at), 0)
        self.assertEqual(self.lives(history, "bob@example.net"), ["NG79W8MRZZZZZZ", OTHER, ID])

    def test_a_disk_that_hangs_does_not_keep_the_relay_from_stopping(self) -> None:
        history = self.opened(self.worker)
        self.accept(history)
        self.worker.slow = True
        closing = Deferred.fromCoroutine(history.close())
        self.time.advance(PATIENCE - 0.1)
        self.assertNoResult(closing)
        self.time.advance(0.1)
        self.successResultOf(closing)
        self.assertEqual(self.said, ["The disk hangs: the last 1 events are not in the history"])
        # It may come to itself later.
        self.worker.go_on()

    def test_where_it_cannot_be_at_all_the_question_says_so_and_mail_goes_on(self) -> None:
        self.path.parent.write_text("a file, where a directory should be")
        history = self.opened(self.worker)
        self.accept(history)
        self.time.advance(DELAY)
        self.assertEqual(history.dropped, 1)
        problem = self.failureResultOf(Deferred.fromCoroutine(history.find(ID)), HistoryUnavailable)
        self.assertIn(str(self.path), problem.getErrorMessage())


IDS = (ID, OTHER, "NG79W8MRZZZZZZ", "")
ADDRESSES = (Address("Ann", "example.org"), BOB, Address("\u00fc", "xn--bcher-kva.example"), None, "<>", "")
EVENT = st.tuples(
    st.sampled_from(["accepted", "refused", "delayed", "relayed", "noticed", "authenticated"]),
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.sampled_from(IDS),
            "sender": st.sampled_from(ADDRESSES),
            "recipient": st.sampled_from(ADDRESSES),
            "to": st.sampled_from(["bob@example.net", 'Ann@example.org, "a, b"@c', ""]),
            "message_id": st.sampled_from(["<1@x>", "<\u00fc@x>", ""]),
            "notice": st.sampled_from(IDS),
            "client": st.sampled_from(["192.0.2.7", "2001:db8::7", None]),
            "because": st.text() | st.floats(allow_nan=False) | st.lists(st.text(), max_size=2),
        },
    ),
)
QUESTION = st.sampled_from(
    [*IDS, "ann@example.org", "BOB@example.net", "\u00fc@b\u00fccher.example", '"a, b"@c', "1@X", "<\u00fc@x>"]
)
BREAK = st.sampled_from(["a moment", "a restart", "a question"])
REFS = ["7K3QX2", "7K3QX0"]
DECISION = st.tuples(
    st.builds(
        Decided,
        steps=st.just(()),
        client=st.just(CLIENT),
        reply=st.sampled_from([Reply.of(250, "2.0.0", "Ok"), Reply.of(550, "5.7.1", "no")]),
        sender=st.sampled_from([None, "", ANN]),
        recipients=st.lists(st.just(BOB), max_size=2),
        because=st.text(),
    ),
    st.sampled_from(["", *IDS]),
    st.sampled_from(["", *REFS]),
)


class AgreementTests(SynchronousTestCase):
    @settings(max_examples=40)
    @given(st.lists(EVENT | DECISION | BREAK, max_size=30), QUESTION | st.sampled_from(REFS), st.integers(1, 5))
    def test_both_histories_answer_alike_whatever_happened(self, story: list[Any], asked: str, most: int) -> None:
        time = Clock()
        clock = ReactorClock(time, lambda: NOON + time.seconds())
        memory = MemoryHistory(clock.calendar)
        with tempfile.TemporaryDirectory() as folder:

            def opened() -> SqliteHistory:
                return SqliteHistory(Path(folder, "history.db"), clock, AtOnce(), bounds=BOUNDS)

            def found(history: IHistory) -> tuple[Findings, Accounts]:
                return (
                    self.successResultOf(Deferred.fromCoroutine(history.find(asked, most))),
                    self.successResultOf(Deferred.fromCoroutine(history.why(asked, most))),
                )

            disk = opened()
            #: Ids of which something was heard, ever and since it was opened. What begins a life happens once.
            heard: set[str] = set()
            known: set[str] = set()
            for chapter in story:
                if chapter == "a moment":
                    time.advance(DELAY)
                elif chapter == "a question":
                    self.assertEqual(found(disk), found(memory))
                elif chapter == "a restart":
                    self.successResultOf(Deferred.fromCoroutine(disk.close()))
                    disk = opened()
                    known.clear()
                else:
                    decided = isinstance(chapter[0], Decided)
                    id = chapter[1] if decided else chapter[1].get("id", "")
                    if id in heard - known and (decided or chapter[0] == "accepted"):
                        continue
                    heard |= {id} - {""}
                    known |= {id} - {""}
                    for history in (memory, disk):
                        if decided:
                            history.decided(*chapter)
                        else:
                            history.event(chapter[0], **chapter[1])
            self.assertEqual(found(disk), found(memory))
            self.successResultOf(Deferred.fromCoroutine(disk.close()))


TABLES = ("blocks", "found_by")


class TeedTests(SynchronousTestCase):
    def test_one_within_another_makes_no_difference(self) -> None:
        logs = [MemoryMailLog() for _ in range(3)]
        Teed(Teed(logs[0], logs[1]), logs[2]).event("accepted", id="a")
        self.assertEqual([log.events for log in logs], [logs[0].events] * 3)
        self.assertEqual(len(logs[0].events), 1)

    def test_the_log_and_the_history_are_told_the_same(self) -> None:
        log, history = MemoryMailLog(), MemoryHistory(lambda: NOON)
        both = Teed(log, history)
        verifyObject(IMailLog, both)
        both.event("accepted", id=ID, sender=Address("ann", "example.org"), user=None)
        self.assertEqual(log.named("accepted"), [{"id": ID, "sender": Address("ann", "example.org")}])
        found = self.successResultOf(Deferred.fromCoroutine(history.find(ID)))
        self.assertEqual(found.lives[0].happenings[0].fields, {"sender": "ann@example.org"})


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
