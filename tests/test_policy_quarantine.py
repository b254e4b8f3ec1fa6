"""Who is held, and why."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from pydantic import ValidationError
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.routing import ABSTAIN, Hold
from relay.policy.quarantine import Quarantine, QuarantineOptions
from relay.testing.policy import FakeWorld, PolicyContract
from relay.testing.questions import content, put


def asked(facts: Any = (), **options: Any) -> Any:
    policy = Quarantine(QuarantineOptions.model_validate(options), FakeWorld().world)
    return put(policy, evolve(content(), facts=dict(facts)))


class QuarantineTests(PolicyContract, SynchronousTestCase):
    policy = "quarantine"
    options = {"if": {"spam": "yes"}}  # noqa: RUF012
    inquiries = (evolve(content(), facts={"spam": "yes"}),)

    def test_mail_is_held_if_a_fact_says_so(self) -> None:
        when = {"if": {"spam": "yes", "virus": ["found", "unsure"]}}
        for facts, verdict in [
            ({}, ABSTAIN),
            ({"spam": "no"}, ABSTAIN),
            ({"spam": "no", "virus": "none"}, ABSTAIN),
            ({"spam": "yes", "virus": "none"}, Hold("in quarantine: spam is yes")),
            ({"spam": "no", "virus": "unsure"}, Hold("in quarantine: virus is unsure")),
        ]:
            self.assertEqual(asked(facts, **when), verdict)

    def test_what_nobody_has_found_out_is_not_what_was_found_to_be_empty(self) -> None:
        when = {"if": {"spam": ["", "yes"]}}
        self.assertEqual(asked({}, **when), ABSTAIN)
        self.assertEqual(asked({"spam": ""}, **when), Hold("in quarantine: spam is "))

    def test_the_facts_have_to_be_found_out_by_somebody(self) -> None:
        options = QuarantineOptions.model_validate({"if": {"spam": "yes", "virus": "found"}})
        self.assertEqual(Quarantine(options, FakeWorld().world).requires, {"spam", "virus"})

    def test_without_facts_all_mail_is(self) -> None:
        self.assertEqual(asked(), Hold("in quarantine"))
        self.assertEqual(asked({"spam": "no"}, reason="ask Ann first"), Hold("ask Ann first"))

    def test_the_reason_may_be_said_in_other_words(self) -> None:
        self.assertEqual(asked({"a": "1"}, **{"if": {"a": "1"}, "reason": "a look first"}), Hold("a look first"))

    def test_what_can_never_be_known_is_an_error(self) -> None:
        for wrong in (
            {"if": {}},
            {"if": {"spam": []}},
            {"if": {"": "yes"}},
            {"reason": "two\nlines"},
            {"facts": {"a": "b"}},
        ):
            self.assertRaises(ValidationError, QuarantineOptions.model_validate, wrong)
