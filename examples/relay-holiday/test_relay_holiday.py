from datetime import datetime
from typing import Any, ClassVar

from pydantic import ValidationError
from relay_holiday import Holiday
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.routing import ABSTAIN, Delay, RoutingVerdict
from relay.testing.policy import PolicyContract, inquiry, world

CONFIGURED: dict[str, Any] = {
    "first": "2026-12-24",
    "last": "2026-12-27",
    "recipients": ["jon@example.org", "shop.example.org"],
}


def ask(day: str, recipient: str, **options: Any) -> RoutingVerdict:
    """What the policy says about a recipient at ten in the evening of a day."""
    evening = datetime.fromisoformat(f"{day}T22:00+00:00").timestamp()
    policy = Holiday(Holiday.Options(**{**CONFIGURED, **options}), world(now=evening))
    return policy.route(inquiry(recipient))


class HolidayTests(PolicyContract, SynchronousTestCase):
    """Besides the tests here, those that `PolicyContract` brings: does it keep what every policy promises?"""

    policy = Holiday
    options: ClassVar = {**CONFIGURED, "first": "2026-11-01"}  # their world begins in that November

    def test_mail_for_those_who_are_away_is_asked_to_come_again(self) -> None:
        for recipient in "jon@example.org", "Jon@EXAMPLE.org", "anybody@shop.example.org":
            verdict = ask("2026-12-25", recipient)
            assert isinstance(verdict, Delay)
            self.assertEqual(verdict.reply.wire, b"450 4.2.1 on holiday, please try again later\r\n")
            self.assertEqual(verdict.because, "away until 2026-12-27")

    def test_the_text_is_the_operators(self) -> None:
        verdict = ask("2026-12-25", "jon@example.org", text="gone fishing")
        assert isinstance(verdict, Delay)
        self.assertEqual(str(verdict.reply), "450 4.2.1 gone fishing")

    def test_about_others_it_has_no_opinion(self) -> None:
        for recipient in "ann@example.org", "jon@example.com", "jon@sub.shop.example.org":
            self.assertIs(ask("2026-12-25", recipient), ABSTAIN)

    def test_the_first_and_the_last_day_are_days_away_and_the_days_around_them_are_not(self) -> None:
        days = "2026-12-23", "2026-12-24", "2026-12-27", "2026-12-28"
        abstained = [ask(day, "jon@example.org") is ABSTAIN for day in days]
        self.assertEqual(abstained, [True, False, False, True])

    def test_a_holiday_that_ends_before_it_begins_is_a_mistake(self) -> None:
        mistake = self.assertRaises(ValidationError, ask, "2026-12-25", "jon@example.org", last="2026-12-23")
        self.assertIn("should not be before 'first'", str(mistake))
