"""What an operator asks of a long queue: slices, and words of SQL that mean what `relay.mail.selection` says."""

from __future__ import annotations

import sqlite3
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address
from relay.mail.envelope import Form
from relay.mail.outcome import Delayed
from relay.mail.queue import Pending
from relay.mail.selection import Group, Queued, Selection, State, Verb, group_of, selects
from relay.spool import selecting
from relay.spool.codec import Decoder, Encoder
from relay.spool.schema import ENTRY, LAST, MIGRATIONS
from relay.spool.steering import Steer, steer
from relay.spool.strokes import KEEP_RECIPIENT
from relay.testing.spool_case import NOON, entry, recipient

TRICKY = st.text(alphabet="aAkK%_*\\[]?.\"' \n(|ſKé", max_size=5)
DELAYS = st.none() | st.builds(Delayed, st.just("4.4.1"), TRICKY, TRICKY, TRICKY)
ROWS = st.lists(st.tuples(TRICKY, TRICKY, DELAYS, st.sampled_from(["free", "claimed", "held"])), max_size=6)
SELECTIONS = st.builds(
    Selection,
    to=TRICKY | TRICKY.map(lambda text: f"@{text}"),
    destination=TRICKY,
    sender=st.sampled_from(["", "", "<>", "*A*", "JON@*"]),
    reason=TRICKY,
    state=st.sampled_from([None, None, *State]),
)


def queue(rows: list[tuple[str, str, Delayed | None, str]]) -> tuple[sqlite3.Connection, list[Queued]]:
    """A database with one recipient for each row, two in an entry; and the same as values."""
    database = sqlite3.connect(":memory:")
    for statements in MIGRATIONS.values():
        for statement in statements:
            database.execute(statement)
    database.execute(LAST)
    encoder = Encoder()
    queued = []
    for number, (local, destination, last, how) in enumerate(rows):
        id = f"E{number // 2:03}"
        kept = entry(id, sender=None if number // 2 % 2 else "jon@example.net")
        if number % 2 == 0:
            row = encoder.entry(kept, Form.PLAIN, 1, 1, b"x")
            database.execute(f"INSERT INTO entries ({ENTRY}) VALUES ({', '.join('?' * len(row))})", row)
        address = Address(local, "x.example")
        one = recipient(f"{id}.{number}", "a@b", original=address, destination=destination)
        one = type(one)(one.id, address, address, one.route, destination, one.policy)
        wake = None if how == "held" else NOON + 100
        KEEP_RECIPIENT.strike(database, [encoder.recipient(id, one, wake, NOON + 100, 7 if how == "claimed" else 0)])
        if last is not None:
            database.execute(
                "UPDATE recipients SET attempts = 1, last = ? WHERE id = ?", (encoder.delayed(last), one.id)
            )
        if how == "held":
            database.execute("UPDATE recipients SET held = 1 WHERE id = ?", (one.id,))
        waiting = State.WAITING if last is None else State.DEFERRED
        state = {"held": State.HELD, "claimed": State.ACTIVE}.get(how, waiting)
        pending = Pending(one, int(last is not None), NOON + 100, last)
        queued.append(Queued(id, NOON, kept.envelope.reverse_path, 1, pending, state))
    return database, queued


def everybody(database: sqlite3.Connection, selection: Selection, most: int, size: int) -> list[str]:
    found, after = [], ""
    while True:
        page = selecting.select(database, Decoder(), selection, NOON, most, after, size)
        found += [one.pending.recipient.id for one in page.queued]
        after = page.after
        if not after:
            return found


class SelectingTests(SynchronousTestCase):
    @given(ROWS, SELECTIONS, st.integers(1, 4), st.integers(1, 4))
    def test_the_words_of_sql_mean_what_a_selection_says_in_slices_of_any_size(
        self, rows: list[tuple[str, str, Delayed | None, str]], selection: Selection, most: int, size: int
    ) -> None:
        database, queued = queue(rows)
        expected = [one for one in queued if selects(selection, one, NOON)]
        found = everybody(database, selection, most, size)
        self.assertEqual(sorted(found), sorted(one.pending.recipient.id for one in expected))
        for by in Group:
            counted: Counter[tuple[str, State]] = Counter()
            after = ""
            while True:
                tally = selecting.tally(database, selection, by, NOON, after, size)
                counted.update(tally.counts)
                after = tally.after
                if not after:
                    break
            self.assertEqual(counted, Counter((group_of(by, one), one.state) for one in expected))
        database.close()

    @given(ROWS, st.integers(1, 4), st.integers(1, 4))
    def test_an_act_in_slices_of_any_size_comes_to_everybody_once(
        self, rows: list[tuple[str, str, Delayed | None, str]], most: int, size: int
    ) -> None:
        database, queued = queue(rows)
        done, busy, after = [], 0, ""
        while True:
            asked = Steer(Verb.DELETE, Selection(), NOON, after)
            steered = steer(database, Decoder(), Encoder(), asked, most, size).steered
            done += [one.pending.recipient.id for one in steered.done]
            busy, after = busy + steered.busy, steered.after
            if not after:
                break
        free = [one.pending.recipient.id for one in queued if one.state is not State.ACTIVE]
        self.assertEqual((sorted(done), busy), (sorted(free), len(queued) - len(free)))
        left = [id for (id,) in database.execute("SELECT DISTINCT entry FROM recipients")]
        self.assertEqual([id for (id,) in database.execute("SELECT id FROM entries ORDER BY id")], sorted(left))
        database.close()

    def test_a_slice_is_a_range_of_the_table_and_not_a_look_at_all_of_it(self) -> None:
        database, _ = queue([("a", "x", None, "free")] * 10)
        for selection in (
            Selection(),
            Selection(to="a", destination="x", policy="p", state=State.DEFERRED, older=1.0, reason="x", sender="<>"),
            Selection(state=State.HELD),
            Selection(ids=("E001", "E002.1")),
        ):
            part = selecting.Slice(database, selection, NOON, "E000:E000.0", 3)
            sql = f"SELECT {selecting._QUEUED} FROM {selecting._FROM} WHERE {part.sql} ORDER BY r.entry, r.id LIMIT 5"
            plan = " ".join(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {sql}", part.values))
            wanted = "(entry=?)" if selection.ids else "((entry,id)>(?,?) AND (entry,id)<(?,?))"
            self.assertIn(f"SEARCH r USING PRIMARY KEY {wanted}", plan)
            self.assertNotIn("SCAN r", plan)
            self.assertNotIn("TEMP B-TREE", plan)

    def test_a_row_that_cannot_be_read_stands_in_nobodys_way(self) -> None:
        database, _ = queue([("a", "x", None, "free")] * 3)
        database.execute("UPDATE entries SET envelope = '{' WHERE id = 'E000'")
        database.execute("UPDATE recipients SET last = '[' WHERE id = 'E000.0'")
        database.execute("UPDATE recipients SET route = '[' WHERE id = 'E000.1'")
        found = everybody(database, Selection(), 1, 1)
        self.assertIn("E001.2", found)
        self.assertNotIn("E000.1", found)
        self.assertEqual(everybody(database, Selection(reason="x"), 5, 5), [])
        self.assertEqual(sum(selecting.tally(database, Selection(), Group.REASON, NOON, "").counts.values()), 3)
