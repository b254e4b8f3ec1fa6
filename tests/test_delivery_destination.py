from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.trial.unittest import SynchronousTestCase

from relay.delivery.destination import PLACES, Condition, Destinations, Limits, Particular
from relay.delivery.health import Rate, Sign, Well
from relay.delivery.work import Work
from relay.interfaces import Claim
from relay.mail.address import Address
from tests.delivery_world import DeliveryWorld, forwarded
from tests.test_delivery_health import BUSY, DOWN


def claim() -> Claim:
    world = DeliveryWorld(running=False)
    _, [claimed] = world.enrol(forwarded("ann@example.net"))
    return claimed


CLAIM = claim()


def prioritized(priority: int | None) -> Claim:
    return evolve(CLAIM, entry=evolve(CLAIM.entry, envelope=evolve(CLAIM.entry.envelope, priority=priority)))


class DestinationsTests(SynchronousTestCase):
    def take_all(self, destinations: Destinations) -> list[str]:
        names = []
        while (work := destinations.next()) is not None:
            names.append(work.destination.name)
        return names

    def test_what_comes_first_begins_first(self) -> None:
        destinations = Destinations(Limits())
        first, second = (destinations.admit(CLAIM, "a") for _ in range(2))
        self.assertIs(destinations.next(), first)
        self.assertIs(destinations.next(), second)
        self.assertIsNone(destinations.next())

    def test_destinations_take_turns(self) -> None:
        destinations = Destinations(Limits(destination=2))
        for name in "aaabbc":
            destinations.admit(CLAIM, name)
        self.assertEqual(self.take_all(destinations), list("abcab"))

    def order(self, *priorities: int | None) -> list[int]:
        """In which order works with these priorities begin, by their number."""
        destinations = Destinations(Limits(destination=1000, first=1000, total=10_000, held=10_000))
        works = [destinations.admit(prioritized(priority), "a") for priority in priorities]
        begun = [destinations.next() for _ in priorities]
        return [works.index(work) for work in begun]

    def test_what_is_more_urgent_begins_earlier(self) -> None:
        self.assertEqual(self.order(None, -1, 3, 0, 9, None, 3), [4, 2, 6, 0, 3, 5, 1])

    def test_but_nobody_is_passed_by_more_than_so_many(self) -> None:
        order = self.order(0, *[1] * 100)
        self.assertEqual(order.index(0), PLACES - 1)
        order = self.order(*[-9, 9] * 200)
        for number, place in enumerate(map(order.index, range(400))):
            self.assertLessEqual(place, number + 18 * PLACES)

    @given(st.lists(st.none() | st.integers(-9, 9), max_size=60))
    def test_whoever_waits_is_passed_by_a_bounded_number_of_those_that_came_later(
        self, priorities: list[int | None]
    ) -> None:
        order = self.order(*priorities)
        self.assertEqual(sorted(order), list(range(len(priorities))))
        for place, number in enumerate(order):
            own = priorities[number] or 0
            for later in order[:place]:
                if later > number:
                    self.assertLess(later - number, PLACES * ((priorities[later] or 0) - own))

    def test_a_destination_has_its_limit(self) -> None:
        destinations = Destinations(Limits(destination=2))
        works = [destinations.admit(CLAIM, "a") for _ in range(4)]
        self.assertEqual(len(self.take_all(destinations)), 2)
        first = works[0]
        assert first is not None
        destinations.finished(first)
        self.assertEqual(len(self.take_all(destinations)), 1)

    def test_of_what_nothing_is_held_nothing_is_known(self) -> None:
        destinations = Destinations(Limits())
        destinations.admit(CLAIM, "a")
        work = destinations.next()
        assert work is not None
        destinations.finished(work)
        destinations.release(work)
        self.assertEqual(destinations._destinations, {})
        self.assertEqual((destinations.active, destinations.held), (0, 0))

    def test_what_waits_for_one_destination_leaves_room_for_others(self) -> None:
        destinations = Destinations(Limits(destination=1, total=10, held=100))
        while destinations.admit(CLAIM, "slow"):
            pass
        self.assertLess(destinations.held, 25)
        self.assertIsNotNone(destinations.admit(CLAIM, "healthy"))

    def test_a_destination_has_enough_when_half_of_what_may_wait_waits(self) -> None:
        destinations = Destinations(Limits(destination=1, total=10, held=100))
        self.assertFalse(destinations.has_enough("slow"))
        while destinations.admit(CLAIM, "slow"):
            pass
        self.assertEqual(destinations.with_enough(), {"slow"})
        self.assertTrue(destinations.has_enough("slow"))

    def test_one_that_was_full_has_no_place_for_what_comes_until_hardly_anything_waits_for_it(self) -> None:
        destinations = Destinations(Limits(destination=1, first=1, total=10, held=100))
        envelope = CLAIM.entry.envelope
        while destinations.has_place("slow", envelope):
            self.assertIsNotNone(destinations.admit(CLAIM, "slow"))
        self.assertTrue(destinations.has_place("healthy", envelope))
        places = []
        while work := destinations.next():
            destinations.finished(work)
            destinations.release(work)
            places.append(destinations.has_place("slow", envelope))
        first = places.index(True)
        self.assertTrue(all(places[first:]))
        self.assertEqual(len(places) - 1 - first, 3)  # of 25 that may wait

    def test_whoever_has_less_than_others_has_a_place_all_the_same(self) -> None:
        destinations = Destinations(Limits(destination=1, first=1, total=10, held=100))
        envelope = CLAIM.entry.envelope
        while destinations.has_place("slow", envelope):
            destinations.admit(CLAIM, "slow")
        other = evolve(CLAIM, entry=evolve(CLAIM.entry, envelope=evolve(envelope, reverse_path=None)))
        self.assertTrue(destinations.has_place("slow", other.entry.envelope))
        self.assertIsNotNone(destinations.admit(other, "slow"))

    @given(st.integers(4, 2000), st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 400)), max_size=6))
    def test_a_portion_has_a_place_wherever_it_goes(self, held: int, before: list[tuple[str, int]]) -> None:
        destinations = Destinations(Limits(destination=1, first=1, held=held))
        for name, count in before:
            for _ in range(count):
                if destinations.admit(CLAIM, name) is None:
                    break
        for name in "abcd":
            if destinations.room and not destinations.has_enough(name):
                for _ in range(min(destinations.room, destinations.portion)):
                    self.assertIsNotNone(destinations.admit(CLAIM, name))

    def test_another_limit_for_all_counts_what_is_under_way_already(self) -> None:
        destinations = Destinations(Limits(destination=9, first=9, total=4))
        for name in "abcdefgh":
            destinations.admit(CLAIM, name)
        begun = [destinations.next() for _ in range(4)]
        self.assertIsNone(destinations.next())
        destinations.adopt(Limits(destination=9, first=9, total=5), 0.0)
        self.assertEqual(len(self.take_all(destinations)), 1)
        destinations.adopt(Limits(destination=9, first=9, total=3), 0.0)
        counts = []
        for work in begun:
            assert work is not None
            destinations.finished(work)
            counts.append(len(self.take_all(destinations)))
        self.assertEqual(counts, [0, 0, 1, 1])

    def test_what_is_drained_does_not_begin(self) -> None:
        destinations = Destinations(Limits(destination=1))
        for name in "aab":
            destinations.admit(CLAIM, name)
        begun = destinations.next()
        self.assertEqual([work.destination.name for work in destinations.drain()], ["a", "b"])
        self.assertIsNone(destinations.next())
        assert begun is not None
        destinations.finished(begun)
        self.assertEqual(destinations._destinations, {})


class TrailingTests(SynchronousTestCase):
    """A message that the host has, and whose final reply alone is awaited, leaves its place to the next one."""

    def setUp(self) -> None:
        self.destinations = Destinations(Limits(destination=2, first=2, total=10))
        self.works: list[Work] = []

    def admit(self, count: int, name: str = "a") -> None:
        for _ in range(count):
            self.assertIsNotNone(self.destinations.admit(CLAIM, name))

    def begin_all(self, now: float = 0.0) -> None:
        while work := self.destinations.next(now):
            self.works.append(work)

    def condition(self, now: float = 0.0) -> Condition:
        [condition] = self.destinations.conditions(now)
        return condition

    def test_the_next_one_begins_and_both_are_counted(self) -> None:
        self.admit(5)
        self.begin_all()
        self.assertTrue(self.destinations.trails(self.works[0]))
        self.begin_all()
        self.assertEqual(len(self.works), 3)
        condition = self.condition()
        self.assertEqual((condition.active, condition.trailing, condition.waiting), (2, 1, 2))

    def test_no_more_of_them_trail_than_may_be_under_way(self) -> None:
        self.admit(8)
        self.begin_all()
        for at in range(4):
            self.destinations.trails(self.works[at])
            self.begin_all()
        self.assertEqual((len(self.works), self.condition().trailing), (4, 2))
        self.destinations.finished(self.works[0])
        self.assertEqual(self.condition().trailing, 1)

    def test_nor_more_in_all_than_may_be_under_way_in_all(self) -> None:
        self.destinations = Destinations(Limits(destination=2, first=2, total=3))
        self.admit(8)
        self.begin_all()
        for at in range(3):
            self.destinations.trails(self.works[at])
            self.begin_all()
        self.assertEqual(self.destinations.active + self.destinations.trailing, 3)

    def test_where_nobody_waits_nothing_changes(self) -> None:
        self.admit(2)
        self.begin_all()
        self.assertFalse(self.destinations.trails(self.works[0]))
        self.assertEqual((self.condition().active, self.condition().trailing), (2, 0))

    def test_a_work_leaves_its_place_once(self) -> None:
        self.admit(5)
        self.begin_all()
        self.assertTrue(self.destinations.trails(self.works[0]))
        self.assertFalse(self.destinations.trails(self.works[0]))
        self.assertEqual((self.destinations.active, self.destinations.trailing), (1, 1))

    def test_a_destination_in_trouble_judges_one_before_it_gets_the_next(self) -> None:
        self.admit(6)
        self.begin_all()
        self.destinations.finished(self.works.pop(), DOWN)
        self.assertFalse(self.destinations.trails(self.works[0]))
        self.destinations.finished(self.works.pop(), Well())
        self.begin_all()
        self.assertTrue(self.destinations.trails(self.works[0]))

    def test_nor_does_one_that_takes_no_more_at_once_than_so_many_or_that_is_paused(self) -> None:
        self.admit(6)
        self.begin_all()
        self.destinations.finished(self.works.pop(), BUSY, now=1.0)
        self.destinations.finished(self.works.pop(), Well(), now=1.0)
        self.begin_all(1.0)
        self.assertFalse(self.destinations.trails(self.works[0], 2.0))
        self.assertTrue(self.destinations.trails(self.works[0], 700.0))
        self.destinations.pause("a", 700.0)
        self.assertFalse(self.destinations.trails(self.works[0], 700.0))

    def test_what_trails_keeps_its_destination_known_until_it_is_finished(self) -> None:
        self.admit(3)
        self.begin_all()
        self.destinations.trails(self.works[0])
        self.begin_all()
        for work in self.works[1:]:
            self.destinations.finished(work, Well())
        self.assertEqual(list(self.destinations._destinations), ["a"])
        self.destinations.finished(self.works[0], Well())
        self.assertEqual(self.destinations._destinations, {})
        self.assertEqual((self.destinations.active, self.destinations.trailing), (0, 0))

    def test_what_is_drained_leaves_what_trails(self) -> None:
        self.destinations = Destinations(Limits(destination=1, first=1))
        self.admit(3)
        self.begin_all()
        self.destinations.trails(self.works[0])
        self.assertEqual(len(self.destinations.drain()), 2)
        self.destinations.finished(self.works[0], Well())
        self.assertEqual(self.destinations._destinations, {})


class MemoryTests(SynchronousTestCase):
    """What was learnt of a destination survives while it matters, and is bounded."""

    def setUp(self) -> None:
        self.destinations = Destinations(Limits())

    def meet(self, name: str, sign: Sign, now: float) -> None:
        work = self.destinations.admit(CLAIM, name, now)
        assert work is not None
        if work.put_off is None:
            self.assertIs(self.destinations.next(now), work)
            self.destinations.finished(work, sign, now)
        self.destinations.release(work)

    def conditions(self, now: float) -> dict[str, Condition]:
        return {each.name: each for each in self.destinations.conditions(now)}

    def test_trouble_is_remembered_though_nothing_is_held(self) -> None:
        for now in 0.0, 3600.0, 7200.0:
            self.meet("a", DOWN, now)
        self.assertEqual(self.conditions(7201.0)["a"].paused_by, "relay")
        self.assertEqual(self.destinations._destinations, {})

    def test_for_six_hours(self) -> None:
        for now in 0.0, 1.0:
            self.meet("a", DOWN, now)
        self.meet("a", DOWN, 7 * 3600.0)
        self.assertEqual(self.conditions(7 * 3600.0)["a"].paused_by, "")

    def test_of_success_nothing_has_to_be_remembered(self) -> None:
        self.meet("a", Well(), 0.0)
        self.assertEqual(self.conditions(0.0), {})

    def test_of_ten_thousand_at_most_and_never_what_an_operator_wants_is_forgotten(self) -> None:
        self.destinations.pause("mine", 0.0)
        for number in range(10_050):
            self.meet(f"d{number}", DOWN, 1.0)
        known = self.conditions(1.0)
        self.assertEqual(len(known), 10_000)
        self.assertEqual(known["mine"].paused_by, "operator")
        self.assertNotIn("d0", known)
        self.assertIn("d10049", known)

    def test_a_pause_without_a_semicolon_means_all_that_have_one_known_or_not(self) -> None:
        self.meet("a;tls=verify", DOWN, 0.0)
        for name in "a;tls=verify", "ab", "b;tls=verify":
            self.destinations.admit(CLAIM, name, 0.0)
        self.destinations.pause("a", 0.0)
        self.assertEqual(len(self.destinations.put_off()), 1)
        later = {n: self.destinations.admit(CLAIM, n, 1.0) for n in ("a", "a;tls=verify", "a;login=x", "b", "ab")}
        self.assertEqual([n for n, work in later.items() if work and work.put_off], ["a", "a;tls=verify", "a;login=x"])
        self.destinations.resume("a", 2.0)
        self.assertEqual([c.name for c in self.destinations.conditions(2.0) if c.paused_by], [])

    def test_one_of_those_that_are_paused_together_may_go_on(self) -> None:
        self.destinations.pause("a", 0.0)
        self.destinations.resume("a;tls=verify", 1.0)
        self.meet("a;tls=verify", Well(), 1.0)
        self.assertNotIn("a;tls=verify", self.conditions(1.0))
        for _ in range(2):
            works = [self.destinations.admit(CLAIM, n, 2.0) for n in ("a;tls=verify", "a;login=x")]
            self.assertEqual([work and work.put_off is None for work in works], [True, False])
        self.destinations.drain()
        self.destinations.resume("a;login=y", 2.0)
        self.meet("a;login=y", Well(), 2.0)
        self.assertNotIn("a;login=y", self.conditions(2.0))
        self.destinations.pause("a", 3.0)
        work = self.destinations.admit(CLAIM, "a;login=y", 4.0)
        assert work is not None
        self.assertIsNotNone(work.put_off)
        work = self.destinations.admit(CLAIM, "a;tls=verify", 4.0)
        assert work is not None
        self.assertIsNotNone(work.put_off)

    def test_a_pause_of_one_variant_leaves_the_others(self) -> None:
        self.destinations.pause("a;tls=verify", 0.0)
        work = self.destinations.admit(CLAIM, "a", 1.0)
        assert work is not None
        self.assertIsNone(work.put_off)

    def test_it_is_known_whether_a_name_means_anything(self) -> None:
        self.destinations.admit(CLAIM, "a;tls=verify", 0.0)
        names = ("a", "a;tls=verify", "a;login=x", "b")
        self.assertEqual([self.destinations.knows(name) for name in names], [True, True, False, False])

    def test_a_condition_says_what_is_going_on(self) -> None:
        for _ in range(5):
            self.destinations.admit(CLAIM, "a", 0.0)
        for _ in range(2):
            self.destinations.next(0.0)
        self.assertEqual(self.conditions(0.0)["a"], Condition("a", 2, 3, 2, 20, None, "", None, False, None, None))

    def test_a_limit_for_one_holds_whatever_its_tls(self) -> None:
        limits = Limits(particular={"a": Particular(most=1)})
        self.assertEqual([limits.manner(name).most for name in ("a", "a;tls=verify;login=x", "b")], [1, 1, 20])


class Crowd(RuleBasedStateMachine):
    """Works come, begin and end in any order: no limit is passed, nobody is forgotten, and something always goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = Limits(destination=3, first=3, total=8, held=20)
        self.destinations = Destinations(self.limits)
        self.waiting: list[Work] = []
        self.active: list[Work] = []
        self.finished: list[Work] = []
        self.trailing: list[Work] = []

    @rule(name=st.sampled_from("abcde"))
    def come(self, name: str) -> None:
        work = self.destinations.admit(CLAIM, name)
        if work is None:
            assert self.destinations.held >= self.limits.held or any(w.destination.name == name for w in self.waiting)
        else:
            self.waiting.append(work)

    @rule()
    def begin(self) -> None:
        work = self.destinations.next()
        if work is not None:
            self.waiting.remove(work)
            self.active.append(work)
        elif not self.active and not self.trailing:
            assert not self.waiting

    @precondition(lambda self: self.active)
    @rule(data=st.data())
    def trail(self, data: st.DataObject) -> None:
        work = data.draw(st.sampled_from(self.active))
        waits = any(each.destination is work.destination for each in self.waiting)
        if self.destinations.trails(work):
            assert waits
            self.active.remove(work)
            self.trailing.append(work)

    @precondition(lambda self: self.trailing)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        work = data.draw(st.sampled_from(self.trailing))
        self.trailing.remove(work)
        self.finished.append(work)
        self.destinations.finished(work)

    @precondition(lambda self: self.active)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        work = data.draw(st.sampled_from(self.active))
        self.active.remove(work)
        self.finished.append(work)
        self.destinations.finished(work)

    @precondition(lambda self: self.finished)
    @rule()
    def write_down(self) -> None:
        self.destinations.release(self.finished.pop())

    @invariant()
    def counts_are_true(self) -> None:
        under_way = [*self.active, *self.trailing]
        assert self.destinations.active == len(self.active)
        assert self.destinations.trailing == len(self.trailing)
        assert self.destinations.free == self.limits.total - len(under_way)
        assert len(under_way) <= self.limits.total
        assert self.destinations.held == len(self.waiting) + len(under_way) + len(self.finished) <= self.limits.held
        for name in "abcde":
            for works in (self.active, self.trailing):
                assert sum(work.destination.name == name for work in works) <= self.limits.destination
        known = {work.destination.name for work in (*self.waiting, *under_way)}
        assert set(self.destinations._destinations) == known


CrowdTests = Crowd.TestCase


class Played:
    """
    What comes, and what becomes of it: destinations that always take turns and consider everything, or that begin at
    once what they may and see at a glance what they can.
    """

    def __init__(self, limits: Limits, at_once: bool) -> None:
        self.destinations = Destinations(limits)
        self.at_once = at_once
        self.works: dict[int, Work] = {}
        self.under_way: list[int] = []
        #: What has happened, as far as anybody can see.
        self.seen: list[object] = []

    def come(self, number: int, claim: Claim, name: str, now: float) -> None:
        destinations = self.destinations
        spacious = self.at_once and destinations.room > destinations.plenty and not destinations.full
        self.seen.append(spacious or destinations.has_place(name, claim.entry.envelope))
        work = self.destinations.admit(claim, name, now, self.at_once)
        if work is None:
            self.seen.append(("no place", number))
            return
        self.works[number] = work
        if work.put_off is not None:
            self.seen.append(("put off", number))
        if work.under_way:
            self.begun(work)
        for displaced in self.destinations.displaced():
            self.seen.append(("displaced", self.number(displaced)))
            self.destinations.release(displaced)

    def number(self, work: Work) -> int:
        return next(number for number, each in self.works.items() if each is work)

    def begun(self, work: Work) -> None:
        self.under_way.append(self.number(work))
        self.seen.append(("begins", self.under_way[-1], work.era, work.own, work.destination.connections))

    def go_on(self, now: float) -> None:
        while (work := self.destinations.next(now)) is not None:
            self.begun(work)
        for work in self.destinations.put_off():
            self.seen.append(("put off", self.number(work)))
        for work in self.destinations.going_on():
            self.seen.append(("goes on", self.number(work)))
        self.seen.append((self.destinations.held, tuple(self.destinations.conditions(now))))

    def trail(self, at: int, now: float) -> None:
        if self.under_way:
            work = self.one(at)
            waits = bool(work.destination.waiting)
            follower = self.destinations.followed(work, now) if self.at_once and waits else None
            self.seen.append(follower is not None or self.destinations.trails(work, now))
            if follower is not None:
                self.begun(follower)

    def one(self, at: int) -> Work:
        return self.works[self.under_way[at % len(self.under_way)]]

    def follow(self, at: int, ahead: int, now: float) -> None:
        if len(self.under_way) > 1:
            work = self.one(at)
            if self.one(ahead) is not work and not work.trailing and work.ahead is None and work.follower is None:
                self.seen.append(work.follow(self.one(ahead)))

    def wait(self, at: int, elsewhere: bool, now: float) -> None:
        if self.under_way:
            work = self.one(at)
            if elsewhere:
                work.leave()
            if not work.own and work.ahead is None and work.may_go is None:
                work.wait()

    def adopt(self, limits: Limits, now: float) -> None:
        self.destinations.adopt(limits, now)

    def revive(self, name: str, now: float) -> None:
        self.destinations.revive(name, below=False)

    def end(self, at: int, sign: Sign, now: float) -> None:
        if self.under_way:
            work = self.works[self.under_way.pop(at % len(self.under_way))]
            self.seen.append(self.destinations.finished(work, sign, now))
            self.destinations.release(work)


class AtOnceTests(SynchronousTestCase):
    """What begins without taking a turn is what would have begun anyway."""

    SENDERS = tuple(Address(name, "example.org") for name in ("ann", "bob"))
    COMES = st.tuples(
        st.just("come"), st.sampled_from([*"aaabc"]), st.sampled_from(SENDERS), st.sampled_from([None, None, 1, -3])
    )
    ENDS = st.tuples(st.just("end"), st.integers(0, 9), st.sampled_from([Well()] * 6 + [DOWN, BUSY, None]))
    TRAILS = st.tuples(st.just("trail"), st.integers(0, 9))
    PASSES = st.tuples(st.just("pass"), st.sampled_from([0.5, 5.0, 700.0]))
    SAYS = st.tuples(st.sampled_from(["pause", "resume", "revive"]), st.sampled_from("ab"))
    FOLLOWS = st.tuples(st.just("follow"), st.integers(0, 9), st.integers(0, 9))
    WAITS = st.tuples(st.just("wait"), st.integers(0, 9), st.booleans())
    LIMITS = st.builds(
        Limits,
        destination=st.integers(1, 4),
        first=st.integers(1, 4),
        total=st.sampled_from([1, 4, 9, 20]),
        held=st.sampled_from([3, 12, 40]),
        particular=st.sampled_from([{}, {"c": Particular(rate=Rate(10, 10.0))}]),
    )

    def play(self, limits: Limits, steps: Sequence[tuple[Any, ...]], at_once: bool) -> list[object]:
        played, now = Played(limits, at_once), 1000.0
        for number, (what, *how) in enumerate(steps):
            if what == "come":
                name, sender, priority = how
                envelope = evolve(CLAIM.entry.envelope, reverse_path=sender, priority=priority)
                played.come(number, evolve(CLAIM, entry=evolve(CLAIM.entry, envelope=envelope)), name, now)
            elif what == "pass":
                now += how[0]
            elif what in ("pause", "resume"):
                getattr(played.destinations, what)(how[0], now)
            else:
                getattr(played, what)(*how, now)
            played.go_on(now)
        return played.seen

    ADOPTS = st.tuples(st.just("adopt"), LIMITS)
    STEPS = st.one_of(COMES, COMES, ENDS, TRAILS, TRAILS, TRAILS, FOLLOWS, WAITS, PASSES, SAYS, ADOPTS)

    @settings(max_examples=300)
    @given(LIMITS, st.lists(COMES, min_size=5, max_size=15), st.lists(STEPS, min_size=10, max_size=60))
    def test_everything_happens_as_if_all_took_turns(
        self, limits: Limits, crowd: Sequence[tuple[Any, ...]], steps: Sequence[tuple[Any, ...]]
    ) -> None:
        steps = [*crowd, *steps]
        self.assertEqual(self.play(limits, steps, True), self.play(limits, steps, False))

    def test_what_may_begin_does_and_what_may_not_waits(self) -> None:
        destinations = Destinations(Limits(destination=2))
        works = [destinations.admit(CLAIM, "a", at_once=True) for _ in range(3)]
        self.assertEqual([work and work.under_way for work in works], [True, True, False])
        self.assertIsNone(destinations.next())

    def test_one_destination_leaves_to_others_what_it_may_not_have_alone(self) -> None:
        destinations = Destinations(Limits(destination=6, first=6, total=10))
        works = [destinations.admit(CLAIM, name, at_once=True) for name in "aaaab"]
        self.assertEqual([work and work.under_way for work in works], [True, True, True, False, False])

    def test_nobody_is_overtaken(self) -> None:
        destinations = Destinations(Limits(destination=1, first=1))
        for name in "ab":
            destinations.admit(CLAIM, name)
        other = destinations.admit(CLAIM, "c", at_once=True)
        assert other is not None
        self.assertFalse(other.under_way)

    def test_nor_is_whoever_waits_where_an_operator_has_just_permitted_more(self) -> None:
        destinations = Destinations(Limits(destination=2, first=2))
        begun = destinations.admit(CLAIM, "a", at_once=True)
        other = destinations.admit(CLAIM, "a", at_once=True)
        assert begun is not None
        assert other is not None
        destinations.finished(begun, DOWN)
        waits = destinations.admit(CLAIM, "a", at_once=True)
        destinations.resume("a", 0.0)
        last = destinations.admit(CLAIM, "a", at_once=True)
        assert last is not None
        self.assertFalse(last.under_way)
        self.assertIs(destinations.next(), waits)


class LimitsTests(SynchronousTestCase):
    def test_a_relay_that_may_not_do_anything_cannot_be_built(self) -> None:
        for name in "destination", "total", "held", "recipients":
            self.assertRaises(ValueError, Limits, **{name: 0})
