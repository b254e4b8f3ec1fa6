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
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relay.interfaces import IClock, IStore
from relay.net.clock import ReactorClock
from relay.store.memory import LONGEST, OVERHEAD, Bounds, MemoryStore
from relay.store.overlay import Overlay
from relay.store.sqlite import DELAY, PAUSE, SqliteStore
from relay.testing.policy import NOON
from relay.testing.store import check_store
from tests.calls import calls_of

T = TypeVar("T")
DAY = 86_400.0


class AtOnce:
    """A thread that does its work when it is asked, or, `slow`, when the test says so."""

    def __init__(self) -> None:
        self.slow = False
        self.fails: Exception | None = None
        self.undone: list[Callable[[], None]] = []
        self.done = 0

    def perform(self, work: Callable[[], T], answer: Callable[[T | Exception], object]) -> None:
        def do() -> None:
            result: Any
            try:
                if self.fails is not None:
                    raise self.fails
                result = work()
            except Exception as problem:
                result = problem
            answer(result)

        self.done += 1
        self.undone.append(do)
        if not self.slow:
            self.go_on()

    def go_on(self) -> None:
        while self.undone:
            self.undone.pop(0)()

    def stop(self) -> None:
        self.go_on()


class Heard:
    """What the operator has heard."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.log = Logger("relay.store", observer=self)

    def __call__(self, event: Any) -> None:
        self.said.append(event["log_format"].format(**event))


class MemoryStoreTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.heard = Heard()

    def store(self, **bounds: int) -> MemoryStore:
        return MemoryStore(ReactorClock(self.clock, lambda: NOON), Bounds(**bounds), self.heard.log)

    def test_it_keeps_the_contract(self) -> None:
        check_store(MemoryStore)

    def test_when_it_is_full_what_would_expire_first_goes(self) -> None:
        store = self.store(entries=3)
        for key, lifetime in ("b", 20), ("a", 10), ("d", 40), ("c", 30):
            store.put(key, "", lifetime)
        self.assertEqual({key for key, _ in store.items()}, {"b", "c", "d"})
        store.put("b", "", 50)
        store.put("e", "", 60)
        self.assertEqual({key for key, _ in store.items()}, {"b", "d", "e"})
        self.assertEqual(store.displaced, 2)

    def test_what_has_got_a_shorter_life_goes_first_too(self) -> None:
        store = self.store(entries=2)
        store.put("a", "", 600)
        store.put("b", "", 300)
        store.put("a", "", 10)
        store.put("c", "", 300)
        self.assertEqual({key for key, _ in store.items()}, {"b", "c"})

    def test_when_it_takes_too_much_memory_what_would_expire_first_goes(self) -> None:
        store = self.store(octets=4 * OVERHEAD)
        store.put("short", "x" * OVERHEAD, 10)
        store.put("long", "x" * OVERHEAD, 20)
        self.assertIsNone(store.get("short"))
        store.put("long", "", 20)
        store.put("other", "x" * OVERHEAD, 20)
        self.assertEqual(len(store.items()), 2)

    def test_that_it_is_full_is_said_once_a_minute(self) -> None:
        store = self.store(entries=1)
        for number in range(10):
            store.put(str(number), "", 1000)
        self.assertEqual(len(self.heard.said), 1)
        self.assertIn("1 entries had to go", self.heard.said[0])
        self.clock.advance(60)
        store.put("another", "", 1000)
        self.assertEqual(len(self.heard.said), 2)
        self.assertIn("9 entries had to go", self.heard.said[1])

    def test_what_has_expired_makes_room_and_nobody_is_told(self) -> None:
        store = self.store(entries=2)
        for _ in range(5):
            store.put("a", "", 10)
            store.put("b", "", 10)
            self.clock.advance(10)
        self.assertEqual((store.displaced, self.heard.said), (0, []))
        store.put("c", "", 10)
        self.assertLessEqual(len(store._entries), 2)

    def test_counters_that_are_written_again_and_again_take_no_more_memory(self) -> None:
        store = self.store()
        for number in range(10_000):
            store.put("counter", str(number), 60 + number % 7)
            store.put(f"visitor {number % 3}", "", 1000 - number % 100)
            store.forget(f"visitor {number % 3}")
        self.assertLess(len(store._moments), 1100)

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.tuples(st.sampled_from("abcdef"), st.integers(0, 9), st.sampled_from(["put", "forget", "wait"])),
            max_size=80,
        )
    )
    def test_it_says_what_a_dictionary_would_say(self, steps: list[tuple[str, int, str]]) -> None:
        clock = Clock()
        store = MemoryStore(ReactorClock(clock, lambda: NOON))
        model: dict[str, float] = {}
        for key, number, what in steps:
            if what == "wait":
                clock.advance(number)
            elif what == "forget":
                store.forget(key)
                model.pop(key, None)
            else:
                store.put(key, key, number + 1)
                model[key] = clock.seconds() + number + 1
            alive = {key for key, until in model.items() if until > clock.seconds()}
            self.assertEqual({key for key, _ in store.items()}, alive)
            self.assertEqual({key for key in "abcdef" if store.get(key) is not None}, alive)
            octets = sum(len(key) + len(value) + OVERHEAD for key, (value, _) in store._entries.items())
            self.assertEqual(store._octets, octets)

    def test_to_look_up_and_to_put_take_few_calls(self) -> None:
        part = self.store().scoped("greylist")
        part.put("192.0.2.1", "1", 60)
        self.assertLessEqual(calls_of(lambda: part.get("192.0.2.1")), 8)
        self.assertLessEqual(calls_of(lambda: part.put("192.0.2.1", "2", 60)), 20)


class OverlayTests(SynchronousTestCase):
    def test_it_keeps_the_contract(self) -> None:
        check_store(lambda clock: Overlay(MemoryStore(clock), clock))

    def test_it_keeps_the_contract_on_top_of_what_others_have_put(self) -> None:
        def make(clock: IClock) -> IStore:
            below = MemoryStore(clock)
            for key in "key", "one key", "two key", "short", "longer":
                below.put(key, "old", 5)
            overlay = Overlay(below, clock)
            for key in dict(below.items()):
                overlay.forget(key)
            return overlay

        check_store(make)

    def test_what_is_written_to_it_is_nowhere_else(self) -> None:
        clock = ReactorClock(Clock())
        below = MemoryStore(clock)
        below.put("a", "1", 60)
        below.put("b", "1", 60)
        below.put("c", "1", 60)
        overlay = Overlay(below, clock)
        overlay.put("a", "2", 60)
        overlay.forget("b")
        overlay.scoped("part").put("d", "2", 60)
        self.assertEqual(sorted(overlay.items()), [("a", "2"), ("c", "1"), ("part d", "2")])
        self.assertEqual(len(overlay.items("", 2)), 2)
        self.assertEqual([overlay.get(key) for key in "abc"], ["2", None, "1"])
        self.assertEqual(sorted(below.items()), [("a", "1"), ("b", "1"), ("c", "1")])

    def test_what_has_expired_in_it_does_not_show_what_is_below(self) -> None:
        clock = Clock()
        below = MemoryStore(ReactorClock(clock))
        below.put("a", "1", 60)
        overlay = Overlay(below, ReactorClock(clock))
        overlay.put("a", "2", 10)
        clock.advance(10)
        self.assertIsNone(overlay.get("a"))


class OnDisk(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = self.folder / "spool" / "store.db"
        self.clock = Clock()
        self.worker = AtOnce()
        self.heard = Heard()
        self.began = NOON

    def store(self, **bounds: int) -> SqliteStore:
        """A store that a relay has started with, at this moment."""
        time = ReactorClock(self.clock, lambda: self.began + self.clock.seconds())
        store = SqliteStore(self.path, time, self.worker, bounds=Bounds(**bounds), log=self.heard.log)
        self.successResultOf(Deferred.fromCoroutine(store.load()))
        self.addCleanup(store._file.close)
        return store

    def close(self, store: SqliteStore) -> None:
        self.successResultOf(Deferred.fromCoroutine(store.close()))

    def rows(self) -> dict[str, str]:
        """What a relay would find if this one died now."""
        # The lock is the writer's alone while it lives: so this looks at a copy.
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.path.parent, copy)
        with closing(sqlite3.connect(copy / self.path.name)) as database:
            return dict(database.execute("SELECT key, value FROM entries"))


class SqliteStoreTests(OnDisk):
    def test_it_keeps_the_contract(self) -> None:
        def make(clock: IClock) -> IStore:
            self.path = self.path.with_name(f"{len(os.listdir(self.folder))}-{id(clock)}.db")
            store = SqliteStore(self.path, clock, AtOnce())
            self.successResultOf(Deferred.fromCoroutine(store.load()))
            self.addCleanup(store._file.close)
            return store

        check_store(make)

    def test_nothing_is_touched_before_it_is_loaded(self) -> None:
        store = SqliteStore(self.path, ReactorClock(self.clock), self.worker)
        store.put("early", "1", 60)
        self.clock.advance(1)
        self.assertFalse(self.path.exists())
        self.successResultOf(Deferred.fromCoroutine(store.load()))
        self.clock.advance(DELAY)
        self.assertEqual(self.rows(), {"early": "1"})
        self.close(store)

    def test_what_was_put_before_the_file_was_read_is_newer(self) -> None:
        store = self.store()
        for key in "a", "b", "c":
            store.put(key, "old", 60)
        self.close(store)
        store = SqliteStore(self.path, ReactorClock(self.clock, lambda: NOON), self.worker)
        self.addCleanup(store._file.close)
        store.put("a", "new", 60)
        store.put("b", "new", 60)
        store.forget("b")
        self.successResultOf(Deferred.fromCoroutine(store.load()))
        self.assertEqual(sorted(store.items()), [("a", "new"), ("c", "old")])
        self.clock.advance(DELAY)
        self.assertEqual(self.rows(), {"a": "new", "c": "old"})

    def test_what_was_put_is_there_after_a_restart(self) -> None:
        store = self.store()
        store.put("kept", "é\0", 60)
        store.put("gone", "1", 60)
        store.forget("gone")
        store.scoped("part").put("kept", "2", 60)
        self.close(store)
        self.assertEqual(dict(self.store().items()), {"kept": "é\0", "part kept": "2"})

    def test_a_lifetime_goes_on_while_the_relay_is_down(self) -> None:
        store = self.store()
        store.put("short", "1", 60)
        store.put("long", "1", 600)
        self.close(store)
        self.began += 100
        store = self.store()
        self.assertEqual(dict(store.items()), {"long": "1"})
        self.assertEqual(self.rows(), {"long": "1"})
        self.clock.advance(500)
        self.assertIsNone(store.get("long"))

    def test_a_clock_that_was_ahead_once_takes_nothing_away(self) -> None:
        store = self.store()
        store.put("known", "1", 36 * DAY)
        self.close(store)
        self.began += 3650 * DAY
        store = self.store()
        self.assertIsNone(store.get("known"))
        store.put("other", "1", 60)
        self.close(store)
        self.began = NOON + 60
        self.assertEqual(self.store().get("known"), "1")

    def test_nor_does_one_that_is_ahead_where_nobody_has_noted_when_the_file_was_written(self) -> None:
        store = self.store()
        store.put("known", "1", 36 * DAY)
        self.close(store)
        with closing(sqlite3.connect(self.path, isolation_level=None)) as database:
            database.execute("DROP TABLE moments")
        self.began += 3650 * DAY
        self.close(self.store())
        self.began = NOON + 60
        self.assertEqual(self.store().get("known"), "1")

    def test_what_a_clock_that_was_ahead_has_put_lasts_no_longer_than_it_should(self) -> None:
        self.began += 3650 * DAY
        store = self.store()
        store.put("counter", "100", 3600)
        self.close(store)
        self.began = NOON
        store = self.store()
        self.assertEqual(store.get("counter"), "100")
        self.clock.advance(3601)
        self.assertIsNone(store.get("counter"))

    def test_a_clock_that_is_behind_until_it_is_set_takes_nothing_away(self) -> None:
        store = self.store()
        store.put("known", "1", 36 * DAY)
        self.close(store)
        self.began = 0.0
        store = self.store()
        self.assertEqual(store.get("known"), "1")
        store.put("other", "1", 60)
        self.close(store)
        self.began = NOON + 60
        store = self.store()
        self.assertEqual(store.get("known"), "1")
        self.clock.advance(36 * DAY)
        self.assertIsNone(store.get("known"))

    def test_what_has_expired_while_the_relay_was_off_for_long_leaves_the_file_with_the_next_start(self) -> None:
        store = self.store()
        store.put("old", "1", 60)
        self.close(store)
        for _ in range(2):
            self.began += 10 * DAY
            store = self.store()
            self.assertEqual(list(store.items()), [])
            self.close(store)
            self.began += 60
        self.close(self.store())
        self.assertEqual(self.rows(), {})

    def test_what_expires_later_than_anything_can_is_bounded(self) -> None:
        store = self.store()
        store.put("counter", "100", 60)
        self.close(store)
        with closing(sqlite3.connect(self.path, isolation_level=None)) as database:
            database.execute("UPDATE entries SET expires = 1e300")
        store = self.store()
        self.assertEqual(store.get("counter"), "100")
        self.clock.advance(LONGEST)
        self.assertIsNone(store.get("counter"))

    def test_all_that_changes_in_a_moment_is_written_in_one_go(self) -> None:
        store = self.store()
        before = self.worker.done
        for number in range(1000):
            store.put(f"key {number}", str(number), 60)
        store.forget("key 0")
        self.assertEqual(self.rows(), {})
        self.clock.advance(DELAY)
        self.assertEqual(self.worker.done - before, 1)
        self.assertEqual(self.rows(), {f"key {number}": str(number) for number in range(1, 1000)})
        self.clock.advance(10)
        self.assertEqual(self.worker.done - before, 1)

    def test_what_changes_while_it_is_written_is_written_next(self) -> None:
        store = self.store()
        self.worker.slow = True
        store.put("a", "1", 60)
        self.clock.advance(DELAY)
        store.put("a", "2", 60)
        self.clock.advance(10)
        self.assertEqual(len(self.worker.undone), 1)
        self.worker.go_on()
        self.assertEqual(self.rows(), {"a": "1"})
        self.clock.advance(DELAY)
        self.worker.go_on()
        self.assertEqual(self.rows(), {"a": "2"})

    def test_what_has_expired_leaves_the_file_too(self) -> None:
        store = self.store()
        store.put("a", "", 1)
        store.put("b", "", 1)
        self.clock.advance(1)
        store.put("c", "", 60)
        self.clock.advance(DELAY)
        self.assertEqual(self.rows(), {"c": ""})

    def test_no_more_is_taken_from_the_file_than_there_may_be(self) -> None:
        store = self.store()
        for number in range(10):
            store.put(str(number), "", 60 + number)
        self.close(store)
        store = self.store(entries=3)
        self.assertEqual(sorted(key for key, _ in store.items()), ["7", "8", "9"])
        self.clock.advance(DELAY)
        self.assertEqual(sorted(self.rows()), ["7", "8", "9"])

    def test_what_could_not_be_written_is_written_later_and_the_operator_hears_it_once(self) -> None:
        store = self.store()
        self.worker.fails = sqlite3.OperationalError("database or disk is full")
        store.put("a", "1", 600)
        store.put("b", "1", 600)
        self.clock.advance(DELAY)
        store.put("a", "2", 600)
        store.forget("b")
        for _ in range(3):
            self.clock.advance(PAUSE)
        self.assertEqual(len(self.heard.said), 1)
        self.assertIn("disk is full", self.heard.said[0])
        self.assertEqual(store.get("a"), "2")
        self.worker.fails = None
        self.clock.advance(PAUSE)
        self.assertEqual(self.rows(), {"a": "2"})
        self.assertIn("written again", self.heard.said[1])

    def test_a_disk_that_fails_for_long_takes_no_memory_for_what_has_gone(self) -> None:
        store = self.store(entries=10)
        store.put("old", "", 500)
        self.clock.advance(DELAY)
        self.worker.fails = OSError(5, "Input/output error")
        for number in range(30):
            store.put(f"{number}", "", 1000 + number)
            self.clock.advance(PAUSE)
        self.assertLess(len(store._changed), 3)
        self.worker.fails = None
        self.clock.advance(PAUSE)
        self.assertEqual(sorted(map(int, self.rows())), list(range(20, 30)))

    def test_a_file_that_is_damaged_is_moved_aside_and_the_relay_begins_anew(self) -> None:
        self.close(self.store())
        for octets in b"no database at all " * 1000, self.path.read_bytes()[:100] + b"\xff" * 8000:
            self.path.write_bytes(octets)
            self.heard.said.clear()
            store = self.store()
            self.assertIn("begins anew", self.heard.said[0])
            self.assertEqual(self.path.with_name("store.db.damaged").read_bytes(), octets)
            store.put("a", "1", 60)
            self.close(store)
            self.assertEqual(self.rows(), {"a": "1"})

    def test_an_octet_that_the_disk_has_changed_costs_one_row_and_not_the_store(self) -> None:
        store = self.store()
        for key in ("good", "bad", "spoilt"):
            store.put(key, f"value of {key}", 600)
        self.close(store)
        with closing(sqlite3.connect(self.path)) as database:
            database.execute("UPDATE entries SET value = CAST(X'6161ff6161' AS TEXT) WHERE key = 'bad'")
            database.execute("UPDATE entries SET expires = 'soon' WHERE key = 'spoilt'")
            database.commit()
        store = self.store()
        self.assertEqual(store.items(), [("good", "value of good")])
        self.assertEqual(len(self.heard.said), 1)
        self.assertIn("2 of its rows cannot be read", self.heard.said[0])
        store.put("bad", "again", 600)
        self.close(store)
        self.assertEqual(self.rows(), {"good": "value of good", "bad": "again"})

    def test_what_is_not_ours_is_left_as_it_is(self) -> None:
        self.path.parent.mkdir()
        with closing(sqlite3.connect(self.path)) as database:
            database.execute("CREATE TABLE theirs (what TEXT)")
            database.commit()
        before = self.path.read_bytes()
        store = self.store()
        store.put("a", "1", 60)
        self.assertEqual(store.get("a"), "1")
        self.clock.advance(DELAY)
        self.assertEqual(store._changed, {})
        self.close(store)
        self.assertEqual(self.path.read_bytes(), before)
        self.assertIn("in memory alone", self.heard.said[0])
        self.path = self.path.with_name("letters.txt")
        self.path.write_text("Dear Jon,\n" * 100)
        self.store()
        self.assertEqual(self.path.read_text(), "Dear Jon,\n" * 100)

    def test_two_relays_do_not_share_a_file(self) -> None:
        first = self.store()
        first.put("a", "1", 60)
        self.clock.advance(DELAY)
        second = self.store()
        self.assertIn("in memory alone", self.heard.said[0])
        self.assertIsNone(second.get("a"))
        self.close(second)
        self.close(first)
        self.assertEqual(self.store().get("a"), "1")

    def test_a_disk_that_hangs_does_not_keep_the_relay_from_stopping(self) -> None:
        store = self.store()
        store.put("a", "1", 60)
        self.worker.slow = True
        closing_it = Deferred.fromCoroutine(store.close())
        self.assertNoResult(closing_it)
        self.clock.advance(10)
        self.successResultOf(closing_it)
        self.assertIn("hangs", self.heard.said[0])

    def test_others_may_not_read_it(self) -> None:
        self.store()
        self.assertEqual(self.path.stat().st_mode & 0o007, 0)


class InThreadTests(TestCase):
    """With a thread and a reactor, as in the relay."""

    async def test_what_was_put_is_there_after_a_restart(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        clock = ReactorClock(reactor)
        for before in None, "1":
            store = SqliteStore.in_thread(folder / "store.db", clock, reactor.callFromThread)
            await store.load()
            self.assertEqual(store.get("key"), before)
            store.put("key", "1", 600)
            await store.close()
