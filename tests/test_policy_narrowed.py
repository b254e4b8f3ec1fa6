"""One chain, many clients: what was found out about one client's conditions counts for that client's inquiries alone."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.config.policies import When
from relay.interfaces import IContentPolicy
from relay.mail.decision import Accepted, Placement
from relay.mail.envelope import OURSELVES, Envelope
from relay.mail.facts import NO_FACTS, Facts
from relay.mail.fields import Fields
from relay.mail.phases import ContentInquiry
from relay.mail.routing import ABSTAIN, Discard, Inquiry, Note, Rewrite
from relay.net.clock import ReactorClock
from relay.net.waiting import start
from relay.policy import narrowed
from relay.policy.asking import Station, stops
from relay.policy.chain import Chain
from relay.policy.guard import Guard
from relay.policy.narrowed import Narrowed
from relay.policy.phases import RECIPIENT
from relay.policy.steps import Step
from relay.testing.policy import inquiry
from tests.policy.doubles import LATER, TO_JON, UNKNOWN, Says

RECIPIENTS = ("jon@example.org", "ann@example.org", "jon@example.net")
SENDERS = ("<>", "ann@sender.example", "bob@other.example")
#: Each condition, with values that hold for some of the inquiries below.
CONDITIONS: dict[str, st.SearchStrategy[Any]] = {
    "client": st.sampled_from([["192.0.2.0/24"], ["127.0.0.1", "2001:db8::/32"]]),
    "listener": st.sampled_from([["mx"], ["local", "ourselves"]]),
    "authenticated": st.booleans(),
    "recipient": st.sampled_from([["example.org"], ["jon@example.org", "example.com"]]),
    "sender": st.sampled_from([["<>"], ["sender.example"]]),
    "facts": st.sampled_from([{"spam": ["yes"]}, {"spam": ["no"], "spf": ["pass"]}]),
}


@st.composite
def guards(draw: st.DrawFn) -> Guard | None:
    keys = draw(st.lists(st.sampled_from(sorted(CONDITIONS)), max_size=3, unique=True))
    given = {key: draw(CONDITIONS[key]) for key in keys}
    return Guard(When.model_validate(given)) if given else None


@st.composite
def questions(draw: st.DrawFn) -> Inquiry:
    question = inquiry(
        draw(st.sampled_from(RECIPIENTS)),
        draw(st.sampled_from(SENDERS)),
        draw(st.sampled_from(["192.0.2.1", "127.0.0.1", "2001:db8::1", None])),
        listener=draw(st.sampled_from(["mx", "local"])),
        user=draw(st.sampled_from([None, "jon"])),
    )
    if draw(st.booleans()) and draw(st.booleans()):
        question = evolve(question, client=OURSELVES)
    return evolve(question, facts=draw(st.sampled_from([NO_FACTS, Facts({"spam": "yes"}), Facts({"spam": "no"})])))


@implementer(IContentPolicy)
class Reads:
    """Has a word about content, which nobody wants to hear here."""

    wants = "headers"

    def examine(self, inquiry: ContentInquiry) -> Any:
        return ABSTAIN


def chain_of(policies: list[tuple[Any, Guard | None]]) -> Chain:
    stations = [Station(f"policy-{number}", policy, guard) for number, (policy, guard) in enumerate(policies)]
    return Chain(stations, ReactorClock(Clock()), Logger(namespace="tests", observer=lambda event: None))


class NarrowedTests(SynchronousTestCase):
    @given(
        st.lists(st.tuples(st.sampled_from([ABSTAIN, TO_JON, Discard(), UNKNOWN, LATER, None]), guards()), max_size=5),
        st.lists(questions(), min_size=1, max_size=6),
    )
    def test_each_client_has_the_decisions_that_it_has_by_the_long_way(
        self, policies: list[tuple[Any, Guard | None]], asked: list[Inquiry]
    ) -> None:
        chain = chain_of([(Says(answer), guard) for answer, guard in policies])
        for question in asked:
            # Made for the client by one of its questions, and asked another.
            decide = chain.deciding(question)
            for recipient in RECIPIENTS:
                other = evolve(question, recipient=inquiry(recipient).recipient, facts=NO_FACTS)
                for each in (question, other):
                    told: list[Step] = []
                    expected: list[Step] = []
                    decision = start(decide(each, told.append))
                    if isinstance(decision, Placement):
                        decision = Accepted((decision,))
                    self.assertEqual(decision, start(chain.route(each, expected.append)))
                    self.assertEqual(decision, start(chain.decide(each)))
                    self.assertEqual(told, expected)

    @given(st.lists(guards(), max_size=4), st.lists(questions(), min_size=1, max_size=4))
    def test_a_message_is_spared_if_nobody_would_be_asked_about_it(
        self, conditions: list[Guard | None], asked: list[Inquiry]
    ) -> None:
        chain = chain_of([(Reads(), guard) for guard in conditions])
        about = [evolve(each, client=asked[0].client) for each in asked]
        expected: list[Step] = []
        content = chain.content("id", Envelope(None, client=about[0].client), about, expected.append)
        start(content.decide(9, Fields(b""), None))
        spared = chain.sparing(asked[0])(about)
        if any(not step.guard for step in expected):
            self.assertIsNone(spared)
        else:
            assert spared is not None
            self.assertEqual(list(spared), expected)

    def test_kinds_of_clients_are_told_apart_in_bounds(self) -> None:
        listeners = [Guard(When(listener=(f"l{number}",))) for number in range(12)]
        stations = [Station(str(number), Says(), guard) for number, guard in enumerate(listeners)]
        made: list[list[Any]] = []

        def make(turns: Any) -> list[Any]:
            made.append([skipped_by for _, skipped_by, _ in turns])
            return made[-1]

        self.patch(narrowed, "_KINDS", 5)
        ways = Narrowed(stops(RECIPIENT, stations), make)
        for number in (0, 1, 1, *range(12), 1):
            way = ways.of(inquiry("jon@example.org", listener=f"l{number}"))
            self.assertEqual([at for at, lacks in enumerate(way) if lacks is None], [number])
        self.assertEqual(len(made), 13)

    def test_what_is_noted_on_the_way_counts_for_guards_behind_it(self) -> None:
        behind = Guard(When(facts={"spam": ("yes",)}, client=["192.0.2.0/24"]))  # type: ignore[list-item]
        chain = chain_of([(Says(Note({"spam": "yes"})), None), (Says(UNKNOWN), behind), (Says(TO_JON), None)])
        for client, code in (("192.0.2.1", 550), ("127.0.0.1", None), ("192.0.2.1", 550)):
            decision: Any = start(chain.decide(inquiry("jon@example.org", client=client)))
            self.assertEqual(getattr(getattr(decision, "reply", None), "code", None), code)

    def test_whom_an_alias_stands_for_is_asked_about_as_by_its_client(self) -> None:
        ann = inquiry("ann@example.org").recipient
        here = Guard(When.model_validate({"client": ["192.0.2.1"], "recipient": ["jon@example.org"]}))
        chain = chain_of([(Says(Rewrite([ann])), here), (Says(TO_JON), None)])
        for client, address in (("192.0.2.1", "ann@example.org"), ("192.0.2.2", "jon@example.org")):
            decision: Any = start(chain.decide(inquiry("jon@example.org", client=client)))
            self.assertEqual([str(each.address) for each in decision.placements], [address])
