from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.delivery.retry import DAY, HOUR, MINUTE, Again, Schedule, Schedules, hinted, spoken
from relay.mail.address import Address
from relay.mail.dsn import Notify, Wishes
from relay.mail.envelope import ByMode, Client, DeliverBy, Envelope
from relay.mail.outcome import Delayed, Failed
from relay.mail.queue import Entry
from tests.delivery_world import DeliveryWorld, forwarded
from tests.test_delivery_dispatch import DOWN

LETTER = Entry("1", 1000.0, Envelope(Address("jon", "example.org"), client=Client("192.0.2.9")), b"")
OUR_NOTICE = Entry("2", 1000.0, Envelope(None), b"")
THEIR_NOTICE = Entry("3", 1000.0, Envelope(None, client=Client("192.0.2.9")), b"")
DELAYED = Delayed("4.4.1", "connection refused", "", "mx[192.0.2.1]:25")


class ScheduleTests(SynchronousTestCase):
    def test_pauses_double_from_five_minutes_to_four_hours(self) -> None:
        pauses = [Schedule().pause(attempts, 0.5) / MINUTE for attempts in range(1, 9)]
        self.assertEqual(pauses, [5, 10, 20, 40, 80, 160, 240, 240])

    @given(st.integers(1, 10**9), st.floats(0, 1))
    def test_chance_moves_a_pause_by_a_fifth_at_most(self, attempts: int, chance: float) -> None:
        middle = Schedule().pause(attempts, 0.5)
        self.assertLessEqual(abs(Schedule().pause(attempts, chance) - middle), 0.2 * middle + 1e-6)

    def test_chance_goes_both_ways(self) -> None:
        self.assertEqual([Schedule().pause(1, c) for c in (0.0, 1.0)], [240.0, 360.0])

    def test_a_delay_is_followed_by_another_attempt(self) -> None:
        self.assertEqual(Schedule().decide(LETTER, 1, DELAYED, 2000.0, 0.5), Again(2300.0, DELAYED))

    def test_the_last_attempt_is_made_when_patience_ends(self) -> None:
        end = 1000 + 5 * DAY
        self.assertEqual(Schedule().decide(LETTER, 40, DELAYED, end - HOUR, 0.5), Again(end, DELAYED))

    def test_after_it_the_copy_fails_with_the_reason_of_the_last_delay(self) -> None:
        failed = Schedule().decide(LETTER, 40, DELAYED, 1000 + 5 * DAY, 0.5)
        self.assertEqual(failed, Failed("4.4.1", "gave up after 5 days: connection refused", "", "mx[192.0.2.1]:25"))

    def test_our_own_notices_are_given_up_after_two_days_and_those_of_others_are_letters(self) -> None:
        late = 1000 + 2 * DAY
        self.assertIsInstance(Schedule().decide(OUR_NOTICE, 20, DELAYED, late, 0.5), Failed)
        self.assertIsInstance(Schedule().decide(THEIR_NOTICE, 20, DELAYED, late, 0.5), Again)
        ours_of_a_person = evolve(LETTER, envelope=Envelope(Address("a", "b")))
        self.assertIsInstance(Schedule().decide(ours_of_a_person, 20, DELAYED, late, 0.5), Again)

    @given(st.floats(0, 5 * DAY, exclude_max=True), st.floats(0, 1), st.integers(1, 100))
    def test_the_next_attempt_is_later_than_now_and_never_after_patience_has_ended(
        self, age: float, chance: float, attempts: int
    ) -> None:
        now = LETTER.arrived + age
        match Schedule().decide(LETTER, attempts, DELAYED, now, chance):
            case Again(due):
                self.assertLess(now, due)
                self.assertLessEqual(due, LETTER.arrived + 5 * DAY)
            case Failed():
                self.assertGreaterEqual(now, LETTER.arrived + 5 * DAY)

    def test_patience_begins_when_the_entry_may_be_tried(self) -> None:
        held = evolve(LETTER, envelope=evolve(LETTER.envelope, release=1000.0 + DAY))
        self.assertEqual(Schedule().end(held), 1000 + 6 * DAY)
        past = evolve(LETTER, envelope=evolve(LETTER.envelope, release=500.0))
        self.assertEqual(Schedule().end(past), 1000 + 5 * DAY)

    def test_an_attempt_is_made_when_the_sender_is_to_be_told_something(self) -> None:
        wished = Wishes(frozenset([Notify.DELAY]))
        self.assertEqual(Schedule().before(1e6, LETTER, wished, 2000.0), 1000 + 4 * HOUR)
        self.assertEqual(Schedule().before(3000.0, LETTER, wished, 2000.0), 3000.0)
        self.assertEqual(Schedule().before(1e6, LETTER, wished, 1000 + 4 * HOUR), 1e6)
        for by, wishes, moment in (
            (DeliverBy(5000.0, ByMode.RETURN), Wishes(frozenset([Notify.NEVER])), 5000.0),
            (DeliverBy(5000.0, ByMode.NOTIFY), Wishes(), 5000.0),
            (DeliverBy(5000.0, ByMode.NOTIFY), Wishes(frozenset([Notify.FAILURE])), 1e6),
            (DeliverBy(5000.0, ByMode.NOTIFY), wished, 5000.0),
        ):
            entry = evolve(LETTER, envelope=evolve(LETTER.envelope, deliver_by=by))
            self.assertEqual(Schedule().before(1e6, entry, wishes, 2000.0), moment)

    def test_a_schedule_that_would_never_wait_cannot_be_built(self) -> None:
        for wrong in {"first": 0}, {"factor": 0.5}, {"give_up": -1}, {"warn": 0}:
            self.assertRaises(ValueError, Schedule, **wrong)

    def test_durations_are_said_as_people_say_them(self) -> None:
        said = [spoken(s) for s in (5 * DAY, DAY, 36 * HOUR, HOUR, 90 * MINUTE, 61)]
        self.assertEqual(said, ["5 days", "1 day", "36 hours", "1 hour", "90 minutes", "61 seconds"])


class HintTests(SynchronousTestCase):
    def hint(self, text: str, status: str = "4.7.1") -> float | None:
        return hinted(Delayed(status, "refused at RCPT", text))

    def test_what_greylists_say_is_understood(self) -> None:
        for text, seconds in (
            ("450 4.7.1 Greylisted, please try again in 300 seconds", 300),
            ("451 4.7.1 Greylisting in action, please come back in 00:05:00", 300),
            ("450 4.2.0 <a@b>: Recipient address rejected: Greylisted for 5 minutes", 300),
            ("451 Greylisted, retry in 1 hour", 3600),
            ("450 4.7.1 Try again after 90 secs.", 90),
            ("450 4.7.1 Please retry in 10min", 600),
        ):
            self.assertEqual(self.hint(text, "4.7.1" if "4.2.0" not in text else "4.2.0"), seconds, text)

    def test_a_greylist_that_says_no_status_of_its_own_is_known_by_its_name(self) -> None:
        self.assertEqual(self.hint("451 You are greylisted. Come back in 60 s", "4.0.0"), 60)

    def test_other_numbers_are_no_hints(self) -> None:
        for text in ("450 4.7.1 Greylisted", "450 4.7.1 error 300 seconds", "450 4.7.1 in 3 months", ""):
            self.assertIsNone(self.hint(text), text)
        self.assertIsNone(self.hint("452 4.2.2 Mailbox full, try again in 300 seconds", "4.2.2"))

    def due_in(self, text: str, attempts: int = 1, chance: float = 0.0) -> float:
        delayed = Delayed("4.7.1", "refused at RCPT", text)
        again = Schedule().decide(LETTER, attempts, delayed, 2000.0, chance)
        assert isinstance(again, Again)
        return again.due - 2000.0

    def test_a_hint_is_kept_and_a_little_more(self) -> None:
        self.assertEqual(self.due_in("450 4.7.1 try again in 600 seconds"), 600)
        self.assertEqual(self.due_in("450 4.7.1 try again in 600 seconds", chance=1.0), 720)

    def test_within_bounds(self) -> None:
        self.assertEqual(self.due_in("450 4.7.1 try again in 1 second"), 60)
        self.assertEqual(self.due_in("450 4.7.1 try again in 90 hours"), 4 * HOUR)

    def test_nobody_has_us_come_every_minute_for_days(self) -> None:
        pauses = [self.due_in("450 4.7.1 try again in 60 seconds", attempts) for attempts in range(1, 6)]
        self.assertEqual(pauses[:3], [60, 60, 60])
        self.assertGreater(pauses[3], 30 * MINUTE)


class SchedulesTests(SynchronousTestCase):
    def test_each_policy_has_its_own_and_all_others_the_usual_one(self) -> None:
        quick = Schedule(first=10)
        schedules = Schedules(Schedule(), {"quick": quick})
        self.assertIs(schedules.of("quick"), quick)
        self.assertEqual(schedules.of("gone"), Schedule())

    def test_mail_is_tried_and_given_up_by_the_schedule_of_the_policy_that_has_decided(self) -> None:
        # Recipients of this world were all placed by the policy `p`.
        quick = Schedule(first=10, factor=1, most=10, give_up=65, jitter=0)
        world = DeliveryWorld(schedules=Schedules(Schedule(), {"p": quick}))
        world.domains["example.net"] = ["mx"]
        world.hosts.answering("mx", DOWN)
        id = world.accept(forwarded("ann@example.net"))
        world.pass_time(2 * MINUTE, step=1)
        outcome = world.spool.settled[f"{id}.0"]
        assert isinstance(outcome, Failed)
        self.assertTrue(outcome.because.startswith("gave up after 65 seconds"))

    def test_the_sender_is_warned_by_it_too(self) -> None:
        world = DeliveryWorld(schedules=Schedules(Schedule(), {"p": Schedule(warn=10 * MINUTE)}))
        world.hosts.answering("mx.example.net", DOWN)
        world.accept(forwarded("ann@example.net"))
        world.pass_time(15 * MINUTE)
        self.assertEqual(len(world.notices()), 1)
