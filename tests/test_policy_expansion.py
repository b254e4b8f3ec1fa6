from __future__ import annotations

from itertools import pairwise
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.interfaces import IRoutingPolicy
from relay.mail.decision import Accepted, Refused
from relay.mail.reply import Reply
from relay.mail.routing import Deliver, Discard, Reject, Rewrite
from relay.policy.expansion import DEPTH, MEMBERS
from relay.policy.steps import Step
from tests.policy.doubles import LATER, UNKNOWN, Aliases, Does, Policies, Says, Table, Waits, places

NAMES = [f"{letter}@example.org" for letter in "abcdefgh"]


def to(address: str) -> Deliver:
    return Deliver("maildir", {"folder": f"/mail/{address}"}, because="lives here")


def house(aliases: dict[str, Any], *unknown: str) -> Policies:
    """Aliases, and behind them a mailbox for everyone in `example.org` but for some."""
    named = {*aliases, *(each for members in aliases.values() for each in members)}
    mailboxes = {each: UNKNOWN if each in unknown else to(each) for each in named if each.endswith("@example.org")}
    return Policies(Aliases(aliases), Table(mailboxes))


class AliasTests(SynchronousTestCase):
    def test_an_alias_is_where_its_members_are(self) -> None:
        policies = house({"team@example.org": ["ann@example.org", "jon@example.org"]})
        self.assertEqual(
            places(policies.decide("team@example.org")),
            {"ann@example.org": to("ann@example.org"), "jon@example.org": to("jon@example.org")},
        )

    def test_a_placement_says_who_was_named_and_who_decided(self) -> None:
        decision = house({"team@example.org": ["ann@example.org"]}).decide("team@example.org")
        assert isinstance(decision, Accepted)
        (placement,) = decision.placements
        self.assertEqual(str(placement.original), "team@example.org")
        self.assertEqual((placement.policy, placement.because), ("policy-2", "lives here"))

    def test_an_alias_of_an_alias_leads_on(self) -> None:
        policies = house({"a@example.org": ["b@example.org"], "b@example.org": ["c@example.org", "d@example.org"]})
        self.assertEqual(list(places(policies.decide("a@example.org"))), ["c@example.org", "d@example.org"])

    def test_each_new_address_is_asked_about_from_the_beginning_with_the_original_beside_it(self) -> None:
        front = Says()
        Policies(front, Aliases({"a@example.org": ["b@example.org"]}), Says(to("b"))).decide("a@example.org")
        asked = [(str(each.recipient), str(each.original)) for each in front.asked]
        self.assertEqual(asked, [("a@example.org", "a@example.org"), ("b@example.org", "a@example.org")])

    def test_who_is_reached_in_two_ways_gets_one_copy(self) -> None:
        policies = house(
            {
                "all@example.org": ["team@example.org", "ann@example.org", "team@example.org"],
                "team@example.org": ["ann@example.org", "jon@example.org"],
            }
        )
        self.assertEqual(list(places(policies.decide("all@example.org"))), ["ann@example.org", "jon@example.org"])

    def test_a_member_may_be_thrown_away_or_sent_elsewhere(self) -> None:
        discarded = Discard(because="quiet")
        policies = Policies(
            Aliases({"a@example.org": ["b@example.org", "c@elsewhere.example"]}),
            Table({"b@example.org": discarded, "c@elsewhere.example": to("c")}),
        )
        self.assertEqual(
            places(policies.decide("a@example.org")), {"b@example.org": discarded, "c@elsewhere.example": to("c")}
        )

    def test_a_member_of_whom_nobody_knows_is_refused_and_not_relayed(self) -> None:
        decision = house({"a@example.org": ["b@elsewhere.example"]}).decide("a@example.org")
        assert isinstance(decision, Refused)
        self.assertEqual(str(decision.reply), "550 5.7.1 <a@example.org>: relaying denied")

    def test_an_observer_hears_of_every_member(self) -> None:
        steps: list[Step] = []
        house({"a@example.org": ["b@example.org"]}).decide("a@example.org", steps.append)
        heard = [(str(step.recipient), step.policy) for step in steps]
        self.assertEqual(
            heard,
            [("a@example.org", "policy-1"), ("b@example.org", "policy-1"), ("b@example.org", "policy-2")],
        )

    def test_members_may_have_to_wait(self) -> None:
        waiting = Waits()
        policies = Policies(Aliases({"a@example.org": ["b@example.org"]}), waiting)
        decision = policies.start("a@example.org")
        self.assertNoResult(decision)
        waiting.deferred.callback(to("b"))
        self.assertEqual(places(self.successResultOf(decision)), {"b@example.org": to("b")})


class RefusedMemberTests(SynchronousTestCase):
    def test_a_member_that_is_refused_beside_others_is_placed_with_its_refusal(self) -> None:
        policies = house({"a@example.org": ["elvis@example.org", "jon@example.org"]}, "elvis@example.org")
        self.assertEqual(
            places(policies.decide("a@example.org")),
            {"elvis@example.org": UNKNOWN, "jon@example.org": to("jon@example.org")},
        )

    def test_if_all_are_refused_the_client_hears_the_first_refusal(self) -> None:
        other = Reject(Reply.of(551, "5.1.6", "moved"), because="moved")
        policies = Policies(
            Aliases({"a@example.org": ["b@example.org", "c@example.org"]}),
            Table({"b@example.org": other, "c@example.org": UNKNOWN}),
        )
        self.assertEqual(policies.decide("a@example.org"), Refused(other.reply, "policy-2", "moved"))

    def test_one_that_is_delayed_delays_the_whole_recipient(self) -> None:
        for members in (["b@example.org", "late@example.org"], ["late@example.org", "b@example.org"]):
            policies = Policies(
                Aliases({"a@example.org": members}), Table({"b@example.org": to("b"), "late@example.org": LATER})
            )
            self.assertEqual(policies.decide("a@example.org"), Refused(LATER.reply, "policy-2", "not now"))

    def test_a_policy_that_fails_for_a_member_makes_it_a_451(self) -> None:
        policies = Policies(
            Aliases({"a@example.org": ["b@example.org", "c@example.org"]}),
            Table({"b@example.org": to("b")}),
            Does(lambda: 1 // 0),
        )
        decision = policies.decide("a@example.org")
        assert isinstance(decision, Refused)
        self.assertEqual((decision.reply.code, decision.policy), (451, "policy-3"))


class KeepingACopyTests(SynchronousTestCase):
    def test_who_stands_for_itself_beside_others_keeps_a_copy(self) -> None:
        policies = house({"jon@example.org": ["jon@example.org", "archive@example.org"]})
        self.assertEqual(
            places(policies.decide("jon@example.org")),
            {"jon@example.org": to("jon@example.org"), "archive@example.org": to("archive@example.org")},
        )

    def test_who_stands_for_itself_alone_is_asked_about_behind_that_policy(self) -> None:
        policies = house({"jon@example.org": ["jon@example.org"]})
        self.assertEqual(places(policies.decide("jon@example.org")), {"jon@example.org": to("jon@example.org")})

    def test_only_the_policies_behind_it_are_asked_about_the_copy(self) -> None:
        front, behind = Says(), Says(to("jon"))
        aliases = Aliases({"jon@example.org": ["jon@example.org", "jon@example.org"]})
        Policies(front, aliases, behind).decide("jon@example.org")
        self.assertEqual((len(front.asked), len(behind.asked)), (1, 1))

    def test_two_who_keep_a_copy_may_send_mail_to_each_other(self) -> None:
        both = ["ann@example.org", "jon@example.org"]
        for named in both:
            policies = house({"ann@example.org": both, "jon@example.org": both})
            self.assertEqual(set(places(policies.decide(named))), set(both))
            self.assertEqual(policies.log, [])

    def test_a_second_policy_may_rewrite_what_the_first_keeps(self) -> None:
        policies = Policies(
            Aliases({"a@example.org": ["a@example.org", "b@example.org"]}),
            Aliases({"a@example.org": ["c@example.org"]}),
            Table({each: to(each) for each in NAMES}),
        )
        self.assertEqual(set(places(policies.decide("a@example.org"))), {"b@example.org", "c@example.org"})


class CircleTests(SynchronousTestCase):
    def test_aliases_that_only_lead_to_each_other_are_refused(self) -> None:
        policies = house(
            {"a@example.org": ["b@example.org"], "b@example.org": ["c@example.org"], "c@example.org": ["a@example.org"]}
        )
        decision = policies.decide("a@example.org")
        assert isinstance(decision, Refused)
        self.assertEqual(str(decision.reply), "550 5.4.6 <a@example.org>: aliases lead in a circle")
        self.assertEqual(decision.policy, "policy-1")
        self.assertIn("a@example.org -> b@example.org -> c@example.org -> a@example.org", decision.because)
        self.assertIn("policy-1", policies.log[0])

    def test_a_circle_beside_a_mailbox_fails_for_the_one_that_is_in_it(self) -> None:
        policies = house({"a@example.org": ["b@example.org", "c@example.org"], "b@example.org": ["a@example.org"]})
        placed = places(policies.decide("a@example.org"))
        self.assertEqual(placed.pop("c@example.org"), to("c@example.org"))
        self.assertEqual([str(reject.reply.status) for reject in placed.values()], ["5.4.6"])

    def test_two_policies_that_lead_to_each_other_are_a_circle_too(self) -> None:
        policies = Policies(
            Aliases({"a@example.org": ["b@example.org"]}), Aliases({"b@example.org": ["a@example.org"]})
        )
        decision = policies.decide("a@example.org")
        assert isinstance(decision, Refused)
        self.assertEqual(decision.reply.status, "5.4.6")

    def test_ten_aliases_may_lead_to_one_another_and_not_eleven(self) -> None:
        row = [f"{number}@example.org" for number in range(DEPTH + 2)]
        policies = house({here: [there] for here, there in pairwise(row)})
        self.assertEqual(places(policies.decide(row[1])), {row[-1]: to(row[-1])})
        decision = policies.decide(row[0])
        assert isinstance(decision, Refused)
        self.assertEqual(decision.reply.status, "5.4.6")

    def test_aliases_that_make_up_new_addresses_come_to_an_end(self) -> None:
        @implementer(IRoutingPolicy)
        class Growing:
            def route(self, inquiry: Any) -> Any:
                return Rewrite([evolve(inquiry.recipient, local=inquiry.recipient.local + "x")])

        decision = Policies(Growing()).decide("a@example.org")
        assert isinstance(decision, Refused)
        self.assertEqual(decision.reply.status, "5.4.6")


class TooManyTests(SynchronousTestCase):
    def test_a_thousand_members_are_accepted(self) -> None:
        members = [f"{number}@example.org" for number in range(MEMBERS)]
        self.assertEqual(list(places(house({"all@example.org": members}).decide("all@example.org"))), members)

    def test_more_are_refused_for_now_and_nobody_gets_a_copy(self) -> None:
        members = [f"{number}@example.org" for number in range(MEMBERS + 1)]
        policies = house({"all@example.org": members})
        decision = policies.decide("all@example.org")
        assert isinstance(decision, Refused)
        self.assertEqual(str(decision.reply), "451 4.2.4 <all@example.org>: stands for too many addresses")
        self.assertIn("all@example.org", policies.log[0])


GRAPHS = st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), min_size=1, max_size=4))
LIVING = st.sets(st.sampled_from(NAMES))


def reached(aliases: dict[str, list[str]], start: str) -> set[str]:
    """Everyone who is asked about, the start included."""
    seen, waiting = {start}, [start]
    while waiting:
        for member in aliases.get(waiting.pop(), []):
            if member not in seen:
                seen.add(member)
                waiting.append(member)
    return seen


def in_a_circle(aliases: dict[str, list[str]], name: str) -> bool:
    """Whether an alias leads back to itself by way of aliases of which none keeps a copy."""
    plain = {alias: members for alias, members in aliases.items() if alias not in members}
    return name in plain and any(name in reached(plain, member) for member in plain[name])


class AnyAliasesTests(SynchronousTestCase):
    @given(GRAPHS, LIVING)
    def test_the_members_with_a_mailbox_get_a_copy_and_nobody_else(
        self, aliases: dict[str, list[str]], living: set[str]
    ) -> None:
        policies = Policies(Aliases(aliases), Table({name: to(name) for name in living}))
        decision = policies.decide(NAMES[0])
        ends = {name for name in reached(aliases, NAMES[0]) if name not in aliases or name in aliases[name]}
        if not ends & living:
            self.assertIsInstance(decision, Refused)
            return
        placed = places(decision)
        copies = {name for name, route in placed.items() if isinstance(route, Deliver)}
        self.assertEqual(copies, ends & living)
        refused = {
            name for name, route in placed.items() if isinstance(route, Reject) and route.reply.status == "5.7.1"
        }
        self.assertEqual(refused, ends - living)

    @given(GRAPHS)
    def test_a_circle_of_aliases_that_keep_no_copy_is_always_found_and_nothing_else_is_one(
        self, aliases: dict[str, list[str]]
    ) -> None:
        policies = house(aliases)
        policies.decide(NAMES[0])
        circles = [name for name in reached(aliases, NAMES[0]) if in_a_circle(aliases, name)]
        if circles:
            self.assertNotEqual(policies.log, [])
        if not any(name in reached(aliases, other) for name in aliases for other in aliases[name] if other != name):
            self.assertEqual(policies.log, [])

    @given(GRAPHS, LIVING, st.sampled_from(NAMES))
    def test_one_delayed_member_delays_all(self, aliases: dict[str, list[str]], living: set[str], late: str) -> None:
        policies = Policies(Aliases(aliases), Table({**{name: to(name) for name in living}, late: LATER}))
        decision = policies.decide(NAMES[0])
        ends = {name for name in reached(aliases, NAMES[0]) if name not in aliases or name in aliases[name]}
        if late in ends:
            self.assertEqual(decision, Refused(LATER.reply, "policy-2", "not now"))
