from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.routing import Delay, Deliver, Discard, Reject
from relay.policy.console import Console
from relay.policy.discard import DiscardAll
from relay.policy.reject import RejectAll, RejectOptions
from relay.testing.policy import PolicyContract, inquiry, world


def reply(**options: Any) -> str:
    verdict = RejectAll(RejectOptions.model_validate(options), world()).route(inquiry("jon@example.org"))
    assert isinstance(verdict, Reject | Delay)
    return str(verdict.reply)


class RejectTests(PolicyContract, SynchronousTestCase):
    policy = RejectAll

    def test_it_refuses_everyone_and_says_about_whom(self) -> None:
        verdict = self.ask("jon@example.org")
        assert isinstance(verdict, Reject)
        self.assertEqual(verdict.reply.wire, b"550 5.7.1 <jon@example.org>: relaying denied\r\n")
        self.assertEqual(verdict.because, "relaying denied")

    def test_who_is_told_of_a_member_hears_the_name_that_they_named(self) -> None:
        verdict = self.ask("jon@example.org", original="team@example.org")
        assert isinstance(verdict, Reject)
        self.assertIn("<team@example.org>", str(verdict.reply))

    def test_code_status_and_text_are_the_operators(self) -> None:
        self.assertEqual(reply(code=551, status="5.1.6", text="moved"), "551 5.1.6 <jon@example.org>: moved")
        self.assertEqual(reply(code=554), "554 5.7.1 <jon@example.org>: relaying denied")

    def test_a_4yz_code_asks_to_come_again(self) -> None:
        verdict = RejectAll(RejectOptions(code=450, text="later"), world()).route(inquiry("jon@example.org"))
        assert isinstance(verdict, Delay)
        self.assertEqual(str(verdict.reply), "450 4.7.1 <jon@example.org>: later")

    def test_what_would_be_no_refusal_is_a_mistake(self) -> None:
        for wrong in (
            {"code": 250},
            {"code": 354},
            {"code": 600},
            {"code": "550"},
            {"status": "4.7.1"},
            {"status": "2.0.0"},
            {"status": "5.7"},
            {"text": "two\r\nlines"},
            {"text": "ö"},
        ):
            self.assertRaises(ValidationError, RejectOptions.model_validate, wrong)


class DiscardTests(PolicyContract, SynchronousTestCase):
    policy = DiscardAll

    def test_it_throws_every_copy_away_and_says_why(self) -> None:
        self.assertEqual(self.ask("jon@example.org"), Discard(because="the configuration says so"))


class ConsoleTests(PolicyContract, SynchronousTestCase):
    policy = Console

    def test_it_shows_every_copy(self) -> None:
        self.assertEqual(self.ask("jon@example.org"), Deliver("console", because="shown on the console"))
