"""The file of a relay that had rows for each event: it is read on, written to in the new way, and goes in time."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from relay.history import earlier
from relay.history.block import DECIDED
from relay.history.database import APPLICATION, FORMAT
from relay.history.keys import UNREADABLE
from relay.history.records import Bounds, Records
from relay.mail.address import Address
from relay.mail.event import shape_of
from relay.mail.explanation import Decided
from relay.mail.reply import Reply
from relay.testing.history import ANN, BOB, CLIENT, ID, NOON, OTHER

NEW = "NG79W8MRZZZZZZ"
EVENTS = """
    CREATE TABLE events (
        number INTEGER PRIMARY KEY,
        life   INTEGER NOT NULL,
        at     REAL NOT NULL,
        what   TEXT NOT NULL,
        fields TEXT NOT NULL
    )
    """
DECISIONS = """
    CREATE TABLE IF NOT EXISTS decisions (
        number INTEGER PRIMARY KEY,
        life   INTEGER NOT NULL,
        at     REAL NOT NULL,
        ref    TEXT NOT NULL,
        told   TEXT NOT NULL
    )
    """
TABLES = (
    "CREATE TABLE lives (number INTEGER PRIMARY KEY, began REAL NOT NULL, id TEXT NOT NULL)",
    "CREATE INDEX lives_by_id ON lives (id) WHERE id <> ''",
    EVENTS,
    "CREATE INDEX events_by_life ON events (life)",
    "CREATE TABLE keys (key TEXT NOT NULL, life INTEGER NOT NULL, PRIMARY KEY (key, life)) WITHOUT ROWID",
    "CREATE INDEX keys_by_life ON keys (life)",
)
DECISION = Decided((), CLIENT, Reply.of(550, "5.7.1", "no"), ANN, (BOB,))


class EarlierTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        self.path = Path(folder, "history.db")

    def write(self, *more: str) -> None:
        """Two messages and a refusal, as they were written a minute apart."""
        told = json.dumps(DECISION.explanation().to_json())
        with closing(sqlite3.connect(self.path)) as database:
            for statement in TABLES:
                database.execute(statement)
            if not more:
                database.execute(DECISIONS)
                database.execute("CREATE INDEX IF NOT EXISTS decisions_by_life ON decisions (life)")
                database.execute(f"PRAGMA application_id = {APPLICATION}")
                database.execute("PRAGMA user_version = 1")
                database.executemany(
                    "INSERT INTO decisions VALUES (?, ?, ?, ?, ?)", [(1, 3, NOON + 120, "7K3QX2", told)]
                )
            lives = [(1, NOON, ID), (2, NOON + 60, OTHER), (3, NOON + 120, "")]
            database.executemany("INSERT INTO lives VALUES (?, ?, ?)", lives)
            database.executemany(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?)",
                [
                    (1, 1, NOON, "accepted", '{"sender":"Ann@example.org"}'),
                    (2, 2, NOON + 60, "accepted", '{"sender":"Ann@example.org"}'),
                    (3, 1, NOON + 90, "delayed", '{"recipient":"bob@example.net"}'),
                ],
            )
            keys = [("ann@example.org", 1), ("ann@example.org", 2), ("bob@example.net", 1)]
            keys += [("[ref 7K3QX2]", 3), ("ann@example.org", 3)]
            database.executemany("INSERT INTO keys VALUES (?, ?)", keys)
            for statement in more:
                database.execute(statement)
            database.commit()

    def open(self, **bounds: Any) -> Records:
        records = Records(self.path, Bounds(**{"reserve": 0, **bounds}))
        self.addCleanup(records.close)
        return records

    def tables(self) -> set[str]:
        with closing(sqlite3.connect(self.path)) as database:
            return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def keep(self, records: Records, *told: tuple[str, dict[str, object]]) -> None:
        batch = [(NOON + 200, shape_of(what, fields), tuple(fields.values())) for what, fields in told]
        records.keep(batch, NOON + 200)

    def lives(self, records: Records, text: str, now: float = NOON + 200) -> list[tuple[str, list[str]]]:
        return [(life.id, [each.what for each in life.happenings]) for life in records.find(text, 20, now).lives]

    def test_what_is_in_it_is_found_as_before(self) -> None:
        self.write()
        records = self.open()
        both = [(OTHER, ["accepted"]), (ID, ["accepted", "delayed"])]
        self.assertEqual(self.lives(records, "ANN@example.org"), both)
        self.assertEqual(self.lives(records, ID.lower()), both[1:])
        found = records.find("bob@example.net", 20, NOON + 200)
        self.assertEqual([each.at for each in found.lives[0].happenings], [NOON, NOON + 90])
        self.assertEqual((found.since, found.more), (NOON, False))
        self.assertTrue(records.find("ann@example.org", 1, NOON + 200).more)
        for text in ("7k3qx2", "ann@example.org"):
            (account,) = records.why(text, 20, NOON + 200).accounts
            self.assertEqual((account.at, account.id, account.ref), (NOON + 120, "", "7K3QX2"))
            self.assertEqual(account.explanation, DECISION.explanation())

    def test_of_all_that_an_address_has_no_more_is_read_than_somebody_wants(self) -> None:
        self.write()
        self.patch(earlier, "_PORTION", 1)
        with closing(sqlite3.connect(self.path)) as database:
            asked: list[str] = []
            database.set_trace_callback(asked.append)
            found = earlier.Earlier(database).found(["ann@example.org", "bob@example.net"])
            first = next(found)
            self.assertEqual(len(asked), 2)
            self.assertTrue(all("LIMIT 1" in each for each in asked))
            # Each once, though it is found by both.
            self.assertEqual([first + 2**40, *(each + 2**40 for each in found)], [3, 2, 1])

    def test_what_happens_from_now_on_goes_on_with_it(self) -> None:
        self.write()
        records = self.open()
        self.keep(
            records,
            ("relayed", {"id": ID, "recipient": Address("carol", "example.com")}),
            ("accepted", {"id": NEW, "sender": ANN}),
        )
        first = (ID, ["accepted", "delayed", "relayed"])
        for _ in range(2):
            self.assertEqual(self.lives(records, ID), [first])
            self.assertEqual(self.lives(records, "carol@example.com"), [first])
            self.assertEqual(
                self.lives(records, "ann@example.org"), [(NEW, ["accepted"]), (OTHER, ["accepted"]), first]
            )
            records.close()
        with closing(sqlite3.connect(self.path)) as database:
            self.assertEqual(database.execute("SELECT count(*) FROM events").fetchone(), (3,))
            self.assertEqual(database.execute("PRAGMA user_version").fetchone(), (FORMAT,))

    def test_the_oldest_goes_first_and_with_the_last_the_tables_go(self) -> None:
        self.write()
        records = self.open(age=1000)
        self.keep(records, ("accepted", {"id": NEW, "sender": ANN}))
        self.assertEqual(
            self.lives(records, "ann@example.org", NOON + 1059), [(NEW, ["accepted"]), (OTHER, ["accepted"])]
        )
        self.assertEqual(self.lives(records, ID, NOON + 1059), [])
        self.assertIn("lives", self.tables())
        self.assertEqual(self.lives(records, "ann@example.org", NOON + 1121), [(NEW, ["accepted"])])
        self.assertEqual(records.find(NEW, 20, NOON + 1121).since, NOON + 200)
        self.assertEqual(self.tables(), {"blocks", "found_by"})
        self.assertEqual(self.lives(records, "ann@example.org", NOON + 1201), [])

    def test_of_too_much_it_goes_first(self) -> None:
        self.write()
        records = self.open(size=1)
        self.keep(records, ("accepted", {"id": NEW, "sender": ANN}))
        self.assertEqual(self.tables(), {"blocks", "found_by"})

    def test_one_that_does_not_say_what_it_is_and_has_no_reasons_is_gone_on_with(self) -> None:
        for version in (0, 1):
            self.write(f"PRAGMA user_version = {version}")
            records = self.open()
            self.assertEqual(self.lives(records, ID), [(ID, ["accepted", "delayed"])])
            records.keep([(NOON + 200, DECIDED, ("", "7K3QX2", DECISION))], NOON + 200)
            self.assertEqual([each.ref for each in records.why("7K3QX2", 20, NOON + 200).accounts], ["7K3QX2"])
            records.close()
            with closing(sqlite3.connect(self.path)) as database:
                said = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
            self.assertEqual(said, [APPLICATION, FORMAT])
            self.path.unlink()

    def test_a_row_that_the_disk_has_changed_is_told_to_be_unreadable_and_hides_no_other(self) -> None:
        self.write()
        with closing(sqlite3.connect(self.path)) as database:
            database.execute("UPDATE events SET fields = '{\"recipient' WHERE number = 3")
            database.execute('UPDATE decisions SET told = \'{"reply": 5, "steps": 7}\'')
            database.commit()
        records = self.open()
        self.assertEqual(self.lives(records, ID), [(ID, ["accepted", UNREADABLE])])
        (account,) = records.why("7K3QX2", 20, NOON + 200).accounts
        self.assertEqual((account.ref, account.explanation.reply), ("7K3QX2", ""))
        self.assertEqual((records.take_unreadable(), records.take_damage()), (2, ""))
