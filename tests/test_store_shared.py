"""One store of several workers."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relay.interfaces import IClock, IStore
from relay.net.clock import ReactorClock
from relay.net.line import Body, Line
from relay.store import shared
from relay.store.memory import MemoryStore
from relay.store.shared import AGAIN, DELAY, MEMORY, PATIENCE, SharedStore
from relay.store.sqlite import SqliteStore
from relay.testing.policy import NOON
from relay.testing.store import check_store
from tests.calls import calls_of
from tests.test_store import AtOnce, Heard


class Ear(Line):
    """A worker's end of its line, and who passes on what it says."""

    def __init__(self, index: int, parent: Parent) -> None:
        super().__init__()
        self.index = index
        self.parent = parent
        self.callbacks: dict[str, Callable[[Any], object]] = {}

    def hear(self, topic: str, callback: Callable[[Any], object]) -> None:
        self.callbacks[topic] = callback

    def say(self, topic: str, body: Body | None = None) -> None:
        self.parent.said.append((self, topic, json.dumps(body)))


class Parent:
    """Passes on what workers say: to one, or to all others; from each to each in the order in which it was said."""

    def __init__(self) -> None:
        self.ears: dict[int, Ear] = {}
        self.said: deque[tuple[Ear, str, str]] = deque()
        #: By topics, how often somebody has spoken, and how much.
        self.lines = 0
        self.octets = 0

    def ear(self, index: int) -> Ear:
        self.ears[index] = Ear(index, self)
        return self.ears[index]

    def pass_on(self) -> None:
        while self.said:
            self.pass_one_on()

    def pass_one_on(self) -> None:
        if self.said:
            by, topic, octets = self.said.popleft()
            self.lines += 1
            self.octets += len(octets)
            body = {**json.loads(octets), "from": by.index}
            for index, ear in list(self.ears.items()):
                if ear is not by and index == body.get("to", index) and topic in ear.callbacks:
                    ear.callbacks[topic](body)


class Alone(Ear):
    def __init__(self) -> None:
        super().__init__(0, Parent())


class SharedCase(SynchronousTestCase):
    count = 3

    def setUp(self) -> None:
        self.time = Clock()
        self.clock = ReactorClock(self.time, lambda: NOON)
        self.heard = Heard()
        self.parent = Parent()

    def store(self, index: int, below: MemoryStore | None = None) -> SharedStore:
        """A worker that has just begun."""
        return SharedStore(
            below or MemoryStore(self.clock), self.parent.ear(index), self.clock, index, self.count, self.heard.log
        )

    def began(self, index: int, below: MemoryStore | None = None) -> SharedStore:
        """A worker that serves."""
        store = self.store(index, below)
        loading = Deferred.fromCoroutine(store.load())
        self.settle()
        self.successResultOf(loading)
        return store

    def all_began(self) -> list[SharedStore]:
        return [self.began(index) for index in range(self.count)]

    def settle(self, seconds: float = 0.02) -> None:
        """Let everybody say what there is to say."""
        end = self.time.seconds() + seconds
        self.parent.pass_on()
        while self.time.seconds() < end or any(call.getTime() <= self.time.seconds() for call in self.time.calls):
            self.time.advance(min(DELAY, max(0.0, end - self.time.seconds())))
            self.parent.pass_on()

    def news(self) -> None:
        self.settle(2 * DELAY)


class SharedStoreTests(SharedCase):
    def test_it_keeps_the_contract(self) -> None:
        def make(clock: IClock) -> IStore:
            return SharedStore(MemoryStore(clock), Alone(), clock, 0, 2)

        check_store(make)

    def test_what_one_keeps_all_have_a_moment_later(self) -> None:
        one, two, three = self.all_began()
        two.scoped("greylist").put("a", "1", 60)
        self.assertIsNone(one.get("greylist a"))
        self.news()
        for store in one, two, three:
            self.assertEqual(store.scoped("greylist").get("a"), "1")
        self.settle(60)
        for store in one, two, three:
            self.assertIsNone(store.get("greylist a"))

    def test_what_one_forgets_all_forget(self) -> None:
        one, two, three = self.all_began()
        one.put("a", "1", 60)
        self.news()
        three.forget("a")
        three.forget("b")
        self.news()
        self.assertEqual([store.get("a") for store in (one, two, three)], [None] * 3)

    def test_what_was_changed_many_times_is_said_once(self) -> None:
        one, two, _ = self.all_began()
        before = self.parent.lines
        for number in range(1000):
            one.put("counter", str(number), 60)
        self.news()
        self.assertEqual(two.get("counter"), "999")
        self.assertEqual(self.parent.lines, before + 1)
        self.assertLess(calls_of(lambda: one.put("counter", "1000", 60)), 30)

    def test_of_two_changes_at_the_same_time_the_later_counts_everywhere(self) -> None:
        stores = self.all_began()
        stores[2].put("a", "earlier", 60)
        self.time.advance(DELAY / 4)
        stores[0].put("a", "later", 60)
        self.news()
        self.assertEqual([store.get("a") for store in stores], ["later"] * 3)
        stores[0].put("a", "one", 60)
        stores[1].put("a", "another", 60)
        self.news()
        self.assertEqual(len({store.get("a") for store in stores}), 1)

    def test_who_has_heard_of_a_change_may_change_it_in_the_same_moment(self) -> None:
        stores = self.all_began()
        stores[2].put("a", "1", 60)
        stores[2]._say()
        self.parent.pass_on()
        stores[0].put("a", "2", 60)
        self.news()
        self.assertEqual([store.get("a") for store in stores], ["2"] * 3)

    def test_what_was_said_lately_is_remembered_and_no_more(self) -> None:
        one, two, _ = self.all_began()
        self.settle(5 * AGAIN)
        for number in range(50):
            one.put(str(number), "", 3600)
        self.news()
        self.assertEqual((len(one._moments), len(two._moments)), (50, 50))
        self.settle(MEMORY)
        one.put("another", "", 3600)
        self.news()
        self.assertEqual((len(one._moments), len(two._moments)), (1, 1))

    def test_who_gets_no_answer_does_not_remember_all_that_is_ever_said(self) -> None:
        self.patch(shared, "_MOST", 20)
        store = self.store(1)
        for number in range(100):
            store.put(str(number), "", 3600)
        self.news()
        self.assertEqual(len(store._moments), 20)


class BeginningTests(SharedCase):
    """Whoever begins has all that there is before any policy asks it."""

    def test_a_worker_has_what_the_first_has(self) -> None:
        one = self.began(0)
        one.put("a", "1", 60)
        self.time.advance(10)
        two = self.began(1)
        self.assertEqual(two.get("a"), "1")
        self.settle(49.9)
        self.assertEqual(two.get("a"), "1")
        self.settle(0.2)
        self.assertIsNone(two.get("a"))

    def test_workers_wait_for_the_first_to_have_read_its_file(self) -> None:
        scribe = AtOnce()
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        before = SqliteStore(folder / "store.db", self.clock, scribe)
        Deferred.fromCoroutine(before.load())
        before.put("a", "1", 600)
        Deferred.fromCoroutine(before.close())
        scribe.slow = True
        one = self.store(0, SqliteStore(folder / "store.db", self.clock, scribe))
        two = self.store(1)
        loading = [Deferred.fromCoroutine(each.load()) for each in (one, two)]
        self.settle(3)
        for each in loading:
            self.assertNoResult(each)
        scribe.go_on()
        self.settle()
        for each in loading:
            self.successResultOf(each)
        self.assertEqual((one.get("a"), two.get("a")), ("1", "1"))
        scribe.slow = False
        two.put("b", "2", 600)
        self.news()
        self.settle(1)
        self.successResultOf(Deferred.fromCoroutine(one.close()))
        after = SqliteStore(folder / "store.db", self.clock, AtOnce())
        Deferred.fromCoroutine(after.load())
        self.assertEqual(dict(after.items()), {"a": "1", "b": "2"})

    def test_a_large_store_comes_in_portions_between_which_policies_are_asked(self) -> None:
        one = self.began(0)
        for number in range(2000):
            one.put(str(number), "x" * 40, 600)
        for number in range(20):
            one.put(f"large {number}", "x" * 10_000, 600)
        self.settle(10)
        before = self.parent.octets
        two = self.store(1)
        loading = Deferred.fromCoroutine(two.load())
        for _ in range(3):
            self.parent.pass_on()
            self.time.advance(0.005)
        self.assertNoResult(loading)
        one.put("1999", "newer", 600)
        two.put("1998", "newest", 600)
        self.settle(1)
        self.successResultOf(loading)
        self.assertEqual(dict(two.items(most=5000)), dict(one.items(most=5000)))
        self.assertEqual((one.get("1999"), one.get("1998")), ("newer", "newest"))
        self.assertLess(self.parent.octets - before, 600_000)

    def test_what_is_heard_while_it_waits_is_newer(self) -> None:
        one = self.began(0)
        for key in "abc":
            one.put(key, "old", 600)
        self.news()
        three = self.began(2)
        two = self.store(1)
        Deferred.fromCoroutine(two.load())
        # All of it is on its way, and then somebody says something else, and is heard before.
        self.parent.pass_one_on()
        late, self.parent.said = list(self.parent.said), deque()
        self.assertEqual(len(late), 1)
        three.put("a", "new", 600)
        three.forget("b")
        three._say()
        self.parent.pass_on()
        self.parent.said.extend(late)
        self.news()
        self.assertEqual(dict(two.items()), {"a": "new", "c": "old"})

    def test_where_the_first_is_not_there_another_one_answers(self) -> None:
        _, two, _ = self.all_began()
        two.put("a", "1", 60)
        self.news()
        del self.parent.ears[0]
        self.time.advance(1)
        three = self.store(2)
        loading = Deferred.fromCoroutine(three.load())
        self.settle(AGAIN + 0.05)
        self.successResultOf(loading)
        self.assertEqual(three.get("a"), "1")

    def test_where_nobody_answers_it_begins_without_and_is_told_later(self) -> None:
        two = self.store(1)
        loading = Deferred.fromCoroutine(two.load())
        self.settle(PATIENCE - 1)
        self.assertNoResult(loading)
        self.settle(1 + DELAY)
        self.successResultOf(loading)
        self.assertEqual(len(self.heard.said), 1)
        one = self.store(0)
        one.put("a", "1", 600)
        self.successResultOf(Deferred.fromCoroutine(one.load()))
        self.settle(self.count * AGAIN)
        self.assertEqual(two.get("a"), "1")

    def test_the_first_worker_waits_for_nobody_and_hears_what_has_changed_since_it_died(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        dead = SqliteStore(folder / "store.db", self.clock, AtOnce())
        self.began(0, dead)
        two, _ = self.began(1), self.began(2)
        two.put("counter", "1", 600)
        two.put("same", "", 600)
        self.settle(1)
        del self.parent.ears[0]
        dead._file.close()
        two.put("counter", "2", 600)
        two.put("new", "", 600)
        self.settle(1)
        one = self.store(0, SqliteStore(folder / "store.db", self.clock, AtOnce()))
        self.successResultOf(Deferred.fromCoroutine(one.load()))
        self.assertEqual(one.get("counter"), "1")
        self.settle()
        self.assertEqual(dict(one.items()), {"counter": "2", "same": "", "new": ""})

    def test_where_all_have_just_begun_nobody_tells_the_first_what_it_has_said(self) -> None:
        self.all_began()
        self.settle(5 * AGAIN)
        answers = self.count - 1
        questions = answers + (self.count - 1)
        self.assertEqual(self.parent.lines, questions + answers)
        self.settle(100)
        self.assertEqual(self.parent.lines, questions + answers)

    def test_a_worker_of_a_shard_that_is_left_hears_it_too(self) -> None:
        one = self.began(0)
        one.put("a", "1", 600)
        self.news()
        self.assertEqual(self.began(7).get("a"), "1")

    def test_what_has_changed_at_the_end_is_said(self) -> None:
        one, two, _ = self.all_began()
        two.put("a", "1", 600)
        self.successResultOf(Deferred.fromCoroutine(two.close()))
        self.successResultOf(Deferred.fromCoroutine(two.close()))
        self.parent.pass_on()
        self.assertEqual(one.get("a"), "1")
        one.put("b", "", 60)
        self.settle(1)
        self.assertIsNone(two.get("b"))

    def test_who_stops_before_it_has_begun_is_not_waited_for(self) -> None:
        two = self.store(1)
        loading = Deferred.fromCoroutine(two.load())
        self.successResultOf(Deferred.fromCoroutine(two.close()))
        self.successResultOf(loading)
        self.assertEqual(self.time.calls, [])


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "forget", "pass", "wait", "restart"]),
        st.integers(0, 2),
        st.sampled_from("abc"),
        st.integers(1, 9),
    ),
    max_size=60,
)


class AlikeTests(SharedCase):
    @settings(max_examples=80, deadline=None)
    @given(STEPS)
    def test_whatever_happens_all_end_up_alike(self, steps: list[tuple[str, int, str, int]]) -> None:
        SharedCase.setUp(self)
        stores = self.all_began()
        for what, index, key, number in steps:
            if what == "put":
                stores[index].put(key, f"{index} {number}", 1000)
            elif what == "forget":
                stores[index].forget(key)
            elif what == "pass":
                self.parent.pass_one_on()
            elif what == "wait":
                self.time.advance(number * DELAY / 8)
            elif index:
                # What it has not said is lost with it; what others do not know yet must not come back by the first. And
                # no process begins in the very moment in which the one before it has still changed something.
                self.parent.pass_on()
                self.time.advance(DELAY / 8)
                stores[index] = self.store(index)
                Deferred.fromCoroutine(stores[index].load())
        self.settle(self.count * AGAIN + 1)
        self.assertEqual(dict(stores[0].items()), dict(stores[1].items()))
        self.assertEqual(dict(stores[0].items()), dict(stores[2].items()))
