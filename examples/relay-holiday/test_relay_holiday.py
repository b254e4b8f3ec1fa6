from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from relay_holiday import Holiday
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from relay.interfaces import IRoutingPolicy, World
from relay.mail.address import Address
from relay.mail.envelope import Client
from relay.mail.routing import ABSTAIN, Delay, Inquiry, RoutingVerdict
from relay.net.clock import ReactorClock

CONFIGURED: dict[str, Any] = {
    "first": "2026-12-24",
    "last": "2027-01-01",
    "recipients": ["jon@example.org", "shop.example.org"],
}


def holiday(today: str, **options: Any) -> Holiday:
    """The policy as it is on a day, at ten in the evening."""
    clock = ReactorClock(Clock(), lambda: datetime.fromisoformat(f"{today}T22:00").replace(tzinfo=UTC).timestamp())
    nothing: Any = None  # it asks nobody but the clock
    world = World(clock=clock, resolver=nothing, random=nothing, log=nothing, hostname="mx.example.org")
    return Holiday(Holiday.Options(**{**CONFIGURED, **options}), world)


def ask(policy: Holiday, recipient: str) -> RoutingVerdict:
    address = Address.parse(recipient)
    return policy.route(Inquiry(address, address, Address.parse("bob@example.com"), Client("192.0.2.1")))


class HolidayTests(SynchronousTestCase):
    def test_mail_for_those_who_are_away_is_asked_to_come_again(self) -> None:
        for recipient in "jon@example.org", "Jon@EXAMPLE.org", "anybody@shop.example.org":
            verdict = ask(holiday("2026-12-25"), recipient)
            assert isinstance(verdict, Delay)
            self.assertEqual(verdict.reply.wire, b"450 4.2.1 on holiday, please try again later\r\n")
            self.assertEqual(verdict.because, "away until 2027-01-01")

    def test_the_text_is_the_operators(self) -> None:
        verdict = ask(holiday("2026-12-25", text="gone fishing"), "jon@example.org")
        assert isinstance(verdict, Delay)
        self.assertEqual(str(verdict.reply), "450 4.2.1 gone fishing")

    def test_about_others_it_has_no_opinion(self) -> None:
        for recipient in "ann@example.org", "jon@example.com", "jon@sub.shop.example.org":
            self.assertIs(ask(holiday("2026-12-25"), recipient), ABSTAIN)

    def test_the_first_and_the_last_day_are_days_away_and_the_days_around_them_are_not(self) -> None:
        days = "2026-12-23", "2026-12-24", "2027-01-01", "2027-01-02"
        verdicts = [ask(holiday(day), "jon@example.org") is ABSTAIN for day in days]
        self.assertEqual(verdicts, [True, False, False, True])

    def test_a_holiday_that_ends_before_it_begins_is_a_mistake(self) -> None:
        mistake = self.assertRaises(ValidationError, Holiday.Options, **{**CONFIGURED, "last": "2026-12-23"})
        self.assertIn("should not be before 'first'", str(mistake))

    def test_it_keeps_the_contract_of_a_routing_policy(self) -> None:
        self.assertTrue(verifyObject(IRoutingPolicy, holiday("2026-12-25")))
