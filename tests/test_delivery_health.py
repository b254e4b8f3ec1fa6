from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.delivery.health import Health, Manner, Rate, Sign, Trouble, Well, sign_of
from relay.delivery.trouble import judge
from relay.mail.outcome import (
    Answered,
    Breakage,
    Broke,
    Carried,
    Delayed,
    Fact,
    Misbehaved,
    NameTrouble,
    Need,
    Peer,
    Phase,
    Unauthenticated,
    Unresolved,
    Unsuitable,
)
from relay.mail.reply import Reply

MX = Peer("mx", "192.0.2.1")
DOWN = Trouble(Delayed("4.4.1", "connection refused"))
BUSY = Trouble(Delayed("4.3.2", "refused at the greeting", "421 4.7.0 Too many"))


def half() -> float:
    return 0.5


class SignTests(SynchronousTestCase):
    def sign(self, *facts: Fact, appointed: bool = False) -> str:
        sign = sign_of({str(at): judge(fact, appointed=appointed) for at, fact in enumerate(facts)})
        return type(sign).__name__

    def answer(self, code: int, status: str | None = None, phase: Phase = Phase.RCPT) -> Answered:
        return Answered(Reply.of(code, status, "text"), phase, MX)

    def test_who_has_answered_for_the_mail_is_well_be_it_yes_or_no(self) -> None:
        for fact in (
            Carried(True, "mx"),
            self.answer(550, "5.1.1"),
            self.answer(450, "4.7.1"),
            self.answer(554, "5.7.1", Phase.END),
            Unsuitable(Need.SMTPUTF8, MX),
        ):
            self.assertEqual(self.sign(fact), "Well", fact)

    def test_who_has_not_is_in_trouble(self) -> None:
        for fact in (
            Broke(Breakage.REFUSED, Phase.CONNECT, MX),
            Broke(Breakage.LOST, Phase.END, MX),
            self.answer(421, "4.3.2", Phase.GREETING),
            self.answer(554, None, Phase.GREETING),
            self.answer(451, "4.3.0", Phase.MAIL),
            Unresolved(NameTrouble.UNANSWERED, "example.org"),
            Unauthenticated(MX, "no"),
        ):
            self.assertEqual(self.sign(fact), "Trouble", fact)
        self.assertEqual(self.sign(Unresolved(NameTrouble.NO_SUCH_DOMAIN, "x"), appointed=True), "Trouble")

    def test_of_others_nothing_is_said_by_what_is_ours_or_nobodys(self) -> None:
        self.assertEqual(self.sign(Misbehaved("smtp")), "NoneType")
        self.assertEqual(self.sign(Unresolved(NameTrouble.NO_SUCH_DOMAIN, "x")), "NoneType")
        self.assertEqual(self.sign(), "NoneType")

    def test_one_copy_that_was_judged_there_is_proof_enough(self) -> None:
        self.assertEqual(self.sign(self.answer(421), Carried(True, "mx"), self.answer(421)), "Well")


class HealthCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.health = Health(Manner(first=2, most=20))
        self.now = 1000.0

    def meet(self, sign: Sign, times: int = 1, active: int | None = None) -> None:
        """So many attempts, one after the other, while as many as may be are under way."""
        for _ in range(times):
            self.health.has_met(sign, self.health.era, self.health.limit if active is None else active, self.now, half)


class WindowTests(HealthCase):
    def test_it_begins_with_two_and_has_more_with_each_success_up_to_the_most(self) -> None:
        self.assertEqual(self.health.limit, 2)
        self.meet(Well(), 5)
        self.assertEqual(self.health.limit, 7)
        self.meet(Well(), 100)
        self.assertEqual(self.health.limit, 20)

    def test_it_has_no_more_than_is_asked_for(self) -> None:
        self.meet(Well(), 100, active=1)
        self.assertEqual(self.health.limit, 2)

    def test_trouble_halves_it_and_then_it_grows_by_one_for_as_many_successes(self) -> None:
        self.meet(Well(), 100)
        self.meet(DOWN)
        self.assertEqual(self.health.limit, 10)
        self.meet(Well(), 10)
        self.assertEqual(self.health.limit, 11)

    def test_what_was_under_way_together_counts_once(self) -> None:
        self.meet(Well(), 100)
        era = self.health.era
        for active in range(20, 0, -1):
            self.health.has_met(DOWN, era, active, self.now, half)
        self.assertEqual((self.health.limit, self.health.failures), (10, 1))

    def test_it_is_never_below_one(self) -> None:
        for _ in range(10):
            self.meet(BUSY)
            self.assertGreaterEqual(self.health.limit, 1)

    def test_who_has_said_that_it_is_too_much_is_not_asked_for_as_much_for_ten_minutes(self) -> None:
        self.meet(Well(), 2)
        self.assertEqual(self.health.limit, 4)
        self.meet(BUSY)
        self.assertEqual(self.health.limit, 2)
        self.meet(Well(), 100)
        self.assertEqual(self.health.limit, 3)
        self.now += 600
        self.meet(Well(), 3)
        self.assertEqual(self.health.limit, 4)

    def test_a_connection_that_failed_says_nothing_of_how_much_is_too_much(self) -> None:
        self.meet(DOWN)
        self.meet(Well(), 1000)
        self.assertEqual(self.health.limit, 20)

    def test_what_says_nothing_changes_nothing(self) -> None:
        self.meet(None, 10)
        self.assertEqual((self.health.limit, self.health.failures, self.health.untaught), (2, 0, True))


class PauseTests(HealthCase):
    def paused_for(self) -> float:
        assert self.health.paused_until is not None
        return self.health.paused_until - self.now

    def test_three_troubles_in_a_row_pause_it(self) -> None:
        for _ in range(2):
            self.meet(DOWN)
            self.assertFalse(self.health.is_paused(self.now))
        self.meet(DOWN)
        self.assertTrue(self.health.is_paused(self.now))
        self.assertAlmostEqual(self.paused_for(), 66)

    def test_a_success_in_between_does_not(self) -> None:
        for _ in range(10):
            self.meet(DOWN, 2)
            self.assertFalse(self.health.is_paused(self.now))
            self.meet(Well())

    def test_behind_the_pause_one_attempt_finds_out_and_the_next_pause_is_longer(self) -> None:
        self.meet(DOWN, 3)
        pauses = []
        for _ in range(8):
            pauses.append(round(self.paused_for() / 1.1))
            self.now += self.paused_for()
            self.assertFalse(self.health.is_paused(self.now))
            self.assertEqual((self.health.probing, self.health.limit), (True, 1))
            self.meet(DOWN)
        self.assertEqual(pauses, [60, 120, 240, 480, 960, 1800, 1800, 1800])

    def test_when_it_succeeds_all_begins_anew_with_two(self) -> None:
        self.meet(Well(), 50)
        self.meet(DOWN, 3)
        self.now += self.paused_for()
        self.assertFalse(self.health.is_paused(self.now))
        self.meet(Well())
        self.assertEqual((self.health.limit, self.health.probing, self.health.failures), (2, False, 0))
        self.meet(DOWN, 3)
        self.assertAlmostEqual(self.paused_for(), 66)

    def test_a_success_of_what_was_under_way_ends_the_pause(self) -> None:
        self.meet(DOWN, 3)
        self.health.has_met(Well(), 0, 1, self.now, half)
        self.assertFalse(self.health.is_paused(self.now))

    def test_trouble_of_what_was_under_way_does_not_make_it_longer(self) -> None:
        self.meet(DOWN, 3)
        until = self.health.paused_until
        self.now += 10
        self.health.has_met(DOWN, 0, 1, self.now, half)
        self.assertEqual(self.health.paused_until, until)

    def test_the_reason_names_what_was_met(self) -> None:
        self.meet(BUSY, 3)
        reason = self.health.reason()
        self.assertEqual((reason.status, reason.diagnostic), ("4.3.2", "421 4.7.0 Too many"))
        self.assertIn("refused at the greeting", reason.because)

    def test_what_is_put_off_does_not_come_back_all_at_once(self) -> None:
        self.meet(DOWN, 3)
        self.assertAlmostEqual(self.health.until(1.0) - self.health.until(0.0), 12)

    def test_the_operators_pause_has_no_end_and_no_success_ends_it(self) -> None:
        self.health.pause()
        self.meet(Well(), 5)
        self.now += 1e6
        self.assertTrue(self.health.is_paused(self.now))
        self.health.resume()
        self.assertFalse(self.health.is_paused(self.now))


class EaseTests(SynchronousTestCase):
    """Whether anything stands in the way can be seen from one time."""

    STEPS = st.one_of(
        st.tuples(st.just("meet"), st.sampled_from([Well(), DOWN, BUSY, None]), st.integers(1, 20)),
        st.tuples(st.just("pass"), st.sampled_from([1.0, 61.0, 700.0])),
        st.tuples(st.just("treat"), st.sampled_from([Manner(), Manner(rate=Rate(10, 1.0)), Manner(most=3)])),
        st.sampled_from([("pause",), ("resume",), ("look",)]),
    )

    @given(st.sampled_from([None, Rate(5, 1.0)]), st.booleans(), st.lists(STEPS, max_size=40))
    def test_nothing_does_from_then_on_and_something_does_before(
        self, rate: Rate | None, by_operator: bool, steps: list[tuple[Any, ...]]
    ) -> None:
        health, now = Health(Manner(rate=rate), by_operator=by_operator), 1000.0
        for what, *how in steps:
            match what:
                case "meet":
                    health.has_met(how[0], health.era, how[1], now, half)
                case "pass":
                    now += how[0]
                case "treat":
                    health.treat(how[0], now)
                case "look":
                    health.is_paused(now)
                case _:
                    getattr(health, what)()
            easy = health.is_carefree(now) and health.paused_until is None and health.manner.rate is None
            self.assertEqual(now >= health.easy_from, easy)


class RateTests(SynchronousTestCase):
    @given(
        st.integers(1, 300),
        st.sampled_from([1.0, 60.0, 3600.0]),
        st.lists(st.floats(0, 100), min_size=1, max_size=300),
    )
    def test_in_no_time_is_there_more_than_the_rate_and_a_burst(
        self, count: int, seconds: float, waits: list[float]
    ) -> None:
        rate = Rate(count, seconds)
        health = Health(Manner(rate=rate))
        now, begun = 0.0, []
        for wait in waits:
            now = max(now + wait * seconds / 100 / count, health.may_begin_at(now))
            self.assertLessEqual(health.may_begin_at(now), now + 1e-6 * seconds)
            health.begins(now)
            begun.append(now)
        for at, first in enumerate(begun):
            within = sum(first <= later <= first + seconds for later in begun[at:])
            self.assertLessEqual(within, count + rate.burst + 1)

    def test_what_it_leaves_can_be_seen(self) -> None:
        health = Health(Manner(rate=Rate(100, 60)))
        self.assertEqual(health.rate_left(0), 10)
        for _ in range(10):
            health.begins(0)
        self.assertEqual((health.rate_left(0), health.rate_left(3)), (0, 5))
        self.assertAlmostEqual(health.may_begin_at(0), 0.6)
        self.assertIsNone(Health(Manner()).rate_left(0))
