"""The part of the spool that an ETRN asks: slices of a long queue."""

from __future__ import annotations

import sqlite3

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.envelope import Form
from relay.spool import hastening
from relay.spool.codec import Encoder
from relay.spool.hastening import Hasten, hasten
from relay.spool.schema import ENTRY, MIGRATIONS
from relay.spool.strokes import KEEP_RECIPIENT
from relay.testing.spool_case import NOON, entry, recipient

DOMAINS = st.sampled_from(["x.example", "a.x.example", "y.example"])


def queue(*domains: str, later: frozenset[int] = frozenset()) -> sqlite3.Connection:
    """One recipient for each domain, three in an entry; all wait, and entries in `later` for their release."""
    database = sqlite3.connect(":memory:")
    for statements in MIGRATIONS.values():
        for statement in statements:
            database.execute(statement)
    encoder = Encoder()
    for number, domain in enumerate(domains):
        id = f"E{number // 3:03}"
        if number % 3 == 0:
            kept = entry(id, release=NOON + 500 if number // 3 in later else None)
            row = encoder.entry(kept, Form.PLAIN, 1, 1, b"x")
            database.execute(f"INSERT INTO entries ({ENTRY}) VALUES ({', '.join('?' * len(row))})", row)
        row = encoder.recipient(id, recipient(f"{id}.{number}", f"u@{domain}"), NOON + 100, NOON + 100, 0)
        KEEP_RECIPIENT.strike(database, [row])
    return database


def hastened(database: sqlite3.Connection, domain: str, below: bool, size: int) -> tuple[int, int]:
    """How many in all, and in how many slices."""
    asked: Hasten | None = Hasten(domain, NOON, below)
    count = slices = 0
    while asked is not None:
        done = hasten(database, asked, size)
        count, slices, asked = count + done.count, slices + 1, done.next
    return count, slices


class HasteningTests(SynchronousTestCase):
    @given(st.lists(DOMAINS, max_size=20), st.frozensets(st.integers(0, 6)), st.booleans(), st.integers(1, 8))
    def test_slices_of_any_size_find_the_same(
        self, domains: list[str], later: frozenset[int], below: bool, size: int
    ) -> None:
        database = queue(*domains, later=later)
        expected = [
            number
            for number, domain in enumerate(domains)
            if number // 3 not in later and (domain == "x.example" or (below and domain == "a.x.example"))
        ]
        count, slices = hastened(database, "x.example", below, size)
        self.assertEqual(count, len(expected))
        self.assertEqual(slices, len(domains) // size + 1)
        due = database.execute("SELECT id FROM recipients WHERE wake = ? AND due = ?", (NOON, NOON)).fetchall()
        self.assertEqual(sorted(int(id.partition(".")[2]) for (id,) in due), expected)

    def test_a_slice_is_a_range_of_the_table_and_not_a_look_at_all_of_it(self) -> None:
        database = queue("x.example")
        bounds = dict.fromkeys(("now", "domain", "at", "below", "entry", "id", "last_entry", "last_id"), "")
        for sql, values in (
            (hastening._END, ("", "", 1)),
            (hastening._UP_TO_END, bounds),
            (hastening._ALL_THE_REST, bounds),
        ):
            plan = " ".join(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {sql}", values))
            self.assertIn("SEARCH recipients USING PRIMARY KEY ((entry,id)>(?,?)", plan)
            self.assertNotIn("SCAN", plan)

    def test_an_entry_that_cannot_be_read_stands_in_nobodys_way(self) -> None:
        database = queue("x.example", "x.example", "x.example", "x.example")
        database.execute("UPDATE entries SET envelope = '{' WHERE id = 'E000'")
        self.assertEqual(hastened(database, "x.example", False, 100), (4, 1))
