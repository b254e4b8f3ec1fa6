"""The end of a shard that was left: it goes when nothing is in it, and never before."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relay.history.database import open_database
from relay.interfaces import SpoolError
from relay.mail.queue import Census
from relay.net.clock import ReactorClock
from relay.net.disk import Disk, opened
from relay.spool.layout import Layout, prepare
from relay.workers.retirement import MOST, Retirement, remembers, remove


class Spool:
    """Says how many entries it has."""

    def __init__(self, *entries: int | None) -> None:
        self.entries = list(entries)
        self.asked = 0

    async def census(self) -> Census:
        self.asked += 1
        entries = self.entries.pop(0) if len(self.entries) > 1 else self.entries[0]
        if entries is None:
            raise SpoolError("the disk is on fire")
        return Census(entries=entries, waiting=entries, active=0, held=0, corrupt=0, oldest=None)


class RetirementTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[float] = []
        self.history = False

    def start(self, *entries: int | None) -> Spool:
        spool = Spool(*entries)
        clock = ReactorClock(self.clock)
        Retirement(clock, spool, lambda: self.told.append(self.clock.seconds()), history=lambda: self.history).start()
        return spool

    def test_one_that_holds_nothing_is_said_at_once_and_once(self) -> None:
        self.start(0)
        self.clock.pump([60] * 10)
        self.assertEqual(self.told, [0.0])

    def test_one_with_mail_is_looked_at_until_it_has_none(self) -> None:
        self.start(2, 1, 1, 0)
        self.clock.pump([0.5] * 30)
        self.assertEqual(self.told, [7.0])

    def test_the_looks_become_fewer(self) -> None:
        spool = self.start(1)
        self.clock.pump([1] * 3600)
        self.assertEqual(spool.asked, 1 + 6 + int((3600 - 63) / MOST))

    def test_a_history_that_has_something_to_tell_is_waited_for(self) -> None:
        self.history = True
        self.start(0)
        self.clock.advance(5)
        self.assertEqual(self.told, [])
        self.history = False
        self.clock.advance(5)
        self.assertEqual(len(self.told), 1)

    def test_a_spool_that_cannot_tell_may_hold_mail(self) -> None:
        self.start(None, 0)
        self.assertEqual(self.told, [])
        self.clock.advance(1)
        self.assertEqual(self.told, [1.0])


class RemovingTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.shard = Path(folder.name) / "shards" / "1"
        self.layout = Layout(self.shard)
        prepare(self.layout, Disk())
        self.layout.lock.touch()
        self.database("entries")

    def database(self, table: str, rows: int = 0) -> None:
        with sqlite3.connect(self.layout.database) as connection:
            connection.execute(f"CREATE TABLE IF NOT EXISTS {table} (id TEXT)")
            connection.executemany(f"INSERT INTO {table} VALUES (?)", [("x",)] * rows)
        connection.close()

    def stays(self, *, history: bool = True) -> None:
        self.assertFalse(remove(self.shard, history=history))
        self.assertTrue(self.layout.database.exists())

    def test_one_that_holds_nothing_goes(self) -> None:
        open_database(self.shard / "history.db").close()
        self.assertTrue(remove(self.shard, history=True))
        self.assertFalse(self.shard.exists())
        self.assertTrue(self.shard.parent.exists())

    def test_one_with_an_entry_stays(self) -> None:
        self.database("entries", 1)
        self.stays()

    def test_one_that_somebody_has_stays(self) -> None:
        disk = Disk()
        with opened(disk, str(self.layout.lock), os.O_RDWR) as lock:
            self.assertTrue(disk.lock(lock))
            self.stays()

    def test_one_with_content_stays(self) -> None:
        (self.layout.shelves[3] / "something").write_text("mail")
        self.stays()

    def test_one_whose_database_cannot_be_read_stays(self) -> None:
        self.layout.database.write_bytes(b"no database" * 1000)
        self.stays()

    def test_one_with_a_history_stays_where_there_is_a_history(self) -> None:
        connection = open_database(self.shard / "history.db")
        connection.execute("INSERT INTO blocks VALUES (1, 1, 1.0, 1.0, '{}', 'x')")
        connection.commit()
        connection.close()
        self.assertTrue(remembers(self.shard))
        self.stays()
        self.assertTrue(remove(self.shard, history=False))

    def test_one_with_the_history_of_an_earlier_relay_stays_too(self) -> None:
        with closing(sqlite3.connect(self.shard / "history.db")) as connection:
            connection.execute("CREATE TABLE lives (id TEXT)")
            connection.execute("CREATE TABLE blocks (number INTEGER PRIMARY KEY)")
            connection.execute("INSERT INTO lives VALUES ('x')")
            connection.commit()
            self.stays()
            connection.execute("DELETE FROM lives")
            connection.commit()
        self.assertFalse(remembers(self.shard))

    def test_one_that_was_never_a_shard_stays(self) -> None:
        self.layout.lock.unlink()
        self.stays()
