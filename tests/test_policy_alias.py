from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.decision import Accepted
from relay.mail.routing import ABSTAIN, Rewrite
from relay.policy.alias import Alias, AliasOptions
from relay.policy.mailbox import Mailbox, MailboxOptions
from relay.testing.policy import PolicyContract, inquiry, world
from tests.policy.doubles import Policies, places


def alias(aliases: dict[str, Any], **options: Any) -> Alias:
    return Alias(AliasOptions.model_validate({"aliases": aliases, **options}), world())


def members(policy: Alias, recipient: str) -> list[str] | None:
    """For whom a recipient stands; `None` if nobody says so."""
    verdict = policy.route(inquiry(recipient))
    if verdict is ABSTAIN:
        return None
    assert isinstance(verdict, Rewrite)
    return [str(address) for address in verdict.recipients]


class ContractTests(PolicyContract, SynchronousTestCase):
    policy = Alias
    options = {"aliases": {"jon@": ["jon@", "ann@example.net"], "@example.org": "jon@"}, "domains": ["example.org"]}  # noqa: RUF012


class AliasTests(SynchronousTestCase):
    def assert_mistake(self, words: str, aliases: Any, **options: Any) -> None:
        error = self.assertRaises(ValidationError, alias, aliases, **options)
        self.assertIn(words, str(error))

    def test_an_address_stands_for_others(self) -> None:
        policy = alias(
            {"Info@Example.ORG": ["jon@example.org", "ann@example.net"], "one@example.org": "jon@example.org"}
        )
        self.assertEqual(members(policy, "info@example.org"), ["jon@example.org", "ann@example.net"])
        self.assertEqual(members(policy, "iNFO@example.org"), ["jon@example.org", "ann@example.net"])
        self.assertEqual(members(policy, "one@example.org"), ["jon@example.org"])
        for other in "info@example.net", "jon@example.org", "info@sub.example.org":
            self.assertIsNone(members(policy, other))

    def test_the_verdict_names_the_alias(self) -> None:
        verdict = alias({"info@example.org": "jon@example.org"}).route(inquiry("INFO+x@example.org"))
        assert isinstance(verdict, Rewrite)
        self.assertEqual(verdict.because, "alias info@example.org")

    def test_an_alias_without_a_domain_is_in_each_of_the_domains(self) -> None:
        policy = alias({"info@": ["jon@", "ann@example.net"]}, domains=["example.org", "example.com"])
        self.assertEqual(members(policy, "info@example.org"), ["jon@example.org", "ann@example.net"])
        self.assertEqual(members(policy, "info@example.com"), ["jon@example.com", "ann@example.net"])
        self.assertIsNone(members(policy, "info@example.net"))

    def test_a_detail_does_not_keep_mail_from_its_alias(self) -> None:
        policy = alias({"info@example.org": "jon@example.org", "info+vip@example.org": "ann@example.org"})
        self.assertEqual(members(policy, "info+x@example.org"), ["jon@example.org"])
        self.assertEqual(members(policy, "info+vip@example.org"), ["ann@example.org"])
        self.assertIsNone(members(alias({"info@example.org": "jon@example.org"}, detail=""), "info+x@example.org"))

    def test_a_catch_all_is_for_everyone_who_stands_nowhere_in_the_table(self) -> None:
        policy = alias({"@example.org": ["jon@example.org"], "info@example.org": "ann@example.org"})
        self.assertEqual(members(policy, "elvis@example.org"), ["jon@example.org"])
        self.assertEqual(members(policy, "info@example.org"), ["ann@example.org"])
        for real in "jon@example.org", "jon+x@example.org", "Ann@example.org", "elvis@example.net":
            self.assertIsNone(members(policy, real))

    def test_a_catch_all_may_name_its_own_domain_in_short(self) -> None:
        self.assertEqual(members(alias({"@example.org": "jon@"}), "elvis@example.org"), ["jon@example.org"])

    def test_who_only_stands_for_itself_is_not_caught(self) -> None:
        policy = alias({"@example.org": "jon@example.net", "ann@example.org": "Ann@example.org"})
        self.assertIsNone(members(policy, "ann@example.org"))
        self.assertEqual(members(policy, "elvis@example.org"), ["jon@example.net"])

    def test_a_member_that_is_named_twice_is_named_once(self) -> None:
        self.assertEqual(
            members(alias({"a@b.example": ["c@d.example", "c@D.example"]}), "a@b.example"), ["c@d.example"]
        )

    def test_aliases_that_lead_in_a_circle_are_a_mistake_that_shows_the_way(self) -> None:
        self.assert_mistake(
            "a@x.example -> b@x.example -> a@x.example",
            {"a@x.example": ["c@x.example", "b@x.example"], "b@x.example": "A@x.example"},
        )
        self.assert_mistake("in a circle", {"a@": "b@", "b@": "c@", "c@": ["d@", "b@"]}, domains=["x.example"])

    def test_who_keeps_a_copy_leads_in_no_circle(self) -> None:
        both = ["a@x.example", "b@x.example"]
        self.assertEqual(members(alias({"a@x.example": both, "b@x.example": both}), "a@x.example"), both)

    def test_one_who_keeps_no_copy_is_in_a_circle_with_one_who_does(self) -> None:
        self.assert_mistake(
            "b@x.example -> a@x.example -> b@x.example",
            {"a@x.example": ["a@x.example", "b@x.example"], "b@x.example": "a@x.example"},
        )

    def test_an_alias_that_is_there_twice_is_a_mistake(self) -> None:
        self.assert_mistake("'info@x.example' is there twice", {"info@x.example": "a@y", "Info@x.example": "b@y"})
        self.assert_mistake(
            "'info@x.example' is there twice", {"info@": "a@y", "info@x.example": "b@y"}, domains=["x.example"]
        )
        self.assert_mistake("'@x.example' is there twice", {"@x.example": "a@y", "@X.example": "b@y"})

    def test_what_is_no_address_is_a_mistake(self) -> None:
        self.assert_mistake("should be like 'info@example.org'", {"info": "a@y.example"})
        self.assert_mistake("should be like 'jon@example.org'", {"info@x.example": "jon"})
        self.assert_mistake("neither are there 'domains'", {"info@": "a@y.example"})
        for name in "", "@", "a b@x.example", "@x..example", "a@b@c", "<a@x.example>":
            self.assert_mistake("", {name: "a@y.example"})
            self.assert_mistake("", {"a@x.example": name})
        self.assert_mistake("at least 1", {"a@x.example": []})
        self.assert_mistake("at least 1", {})

    def test_an_alias_cannot_have_more_members_than_the_chain_follows(self) -> None:
        row = [f"{number}@example.org" for number in range(1001)]
        self.assert_mistake("1000", {"all@example.org": row})
        alias({"all@example.org": row[1:]})


LOCALS = ["jon", "ann", "info", "elvis"]
TARGETS = st.sampled_from([f"{local}@example.org" for local in LOCALS])
TABLES = st.dictionaries(
    st.sampled_from([f"{local}@example.org" for local in LOCALS] + ["@example.org"]),
    st.lists(TARGETS, min_size=1, max_size=3),
    min_size=1,
)


class InAChainTests(SynchronousTestCase):
    @given(TABLES, st.sampled_from([*LOCALS, "nobody", "JON", "ann+x"]))
    def test_a_table_that_was_accepted_leads_nobody_in_a_circle(self, table: Any, local: str) -> None:
        try:
            policy = alias(table)
        except ValidationError as error:
            self.assertIn("in a circle", str(error))
            return
        mailboxes = MailboxOptions.model_validate({"domains": ["example.org"], "users": "any", "directory": "/mail"})
        policies = Policies(policy, Mailbox(mailboxes, world()))
        decision = policies.decide(f"{local}@example.org")
        self.assertEqual(policies.log, [])
        assert isinstance(decision, Accepted)
        for placement in decision.placements:
            self.assertEqual(placement.policy, "policy-2")

    def test_a_catch_all_in_front_of_its_own_mailbox(self) -> None:
        options = MailboxOptions.model_validate({"domains": ["example.org"], "users": ["jon"], "directory": "/mail"})
        policies = Policies(alias({"@example.org": "jon@example.org"}), Mailbox(options, world()))
        for local in "elvis", "jon", "jon+x", "ELVIS":
            (route,) = places(policies.decide(f"{local}@example.org")).values()
            self.assertEqual(route.parameters, {"folder": "/mail/jon"})
