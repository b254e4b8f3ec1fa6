"""Policies in the phases around a recipient's route: who is asked, who decides, and what is known by then."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from relay.config.policies import When
from relay.interfaces import IConnectionPolicy, IContentPolicy, IRoutingPolicy, IScreening, ISenderPolicy
from relay.mail.address import Address
from relay.mail.decision import Accepted, Admitted, Refused
from relay.mail.edits import AddField, AddRecipient, RemoveField, ReplaceRecipients
from relay.mail.envelope import Client, Envelope
from relay.mail.fields import NO_FIELDS, Fields
from relay.mail.phases import ConnectionInquiry, ContentInquiry, Each, Edit, SenderInquiry
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Accept, Delay, Discard, Forward, Hold, Note, Reject
from relay.mail.screening import Outcome
from relay.net.clock import ReactorClock
from relay.net.waiting import start
from relay.policy.chain import Chain, Station
from relay.policy.guard import Guard
from relay.policy.looking import note
from relay.policy.steps import Asked, Skipped, Step
from relay.smtp.answers import OUR_FAULT
from relay.testing.policy import inquiry

NO = Reject(Reply.of(550, "5.7.1", "no"), because="not you")
LATER = Delay(Reply.of(450, "4.7.1", "later"), because="come again")
CLIENT = Client("192.0.2.1", listener="mx")
SENDER = Address.parse("ann@sender.example")
ANN, BOB, CARA = (Address.parse(f"{name}@example.org") for name in ("ann", "bob", "cara"))
MESSAGE = b"Subject: spam\r\nFrom: ann@sender.example\r\n\r\nText.\r\n"


class Speaker:
    """Says in each phase what the test wants, and keeps what it was asked."""

    wants = "headers"

    def __init__(self, answer: Any = ABSTAIN) -> None:
        self.answer = answer
        self.asked: list[Any] = []

    def _say(self, inquiry: Any) -> Any:
        self.asked.append(inquiry)
        return self.answer(inquiry) if callable(self.answer) else self.answer

    connect = sender = route = examine = _say


@implementer(IConnectionPolicy)
class AtConnection(Speaker):
    pass


@implementer(ISenderPolicy)
class AtSender(Speaker):
    pass


@implementer(IRoutingPolicy)
class AtRecipient(Speaker):
    pass


@implementer(IContentPolicy)
class AtContent(Speaker):
    pass


@implementer(IConnectionPolicy, ISenderPolicy)
class Twice(Speaker):
    pass


class Screen:
    """A chain of these policies, with what it logs."""

    def __init__(self, *policies: Any, when: dict[int, When] | None = None) -> None:
        self.clock = Clock()
        self.events: list[Any] = []
        guards = {place: Guard(given) for place, given in (when or {}).items()}
        stations = [Station(f"policy-{place}", policy, guards.get(place)) for place, policy in enumerate(policies, 1)]
        log = Logger(namespace="tests", observer=self.events.append)
        self.chain = Chain(stations, ReactorClock(self.clock), log)
        self.steps: list[Step] = []

    @property
    def log(self) -> list[str]:
        return [formatEvent(event) for event in self.events]

    def connect(self, client: Client = CLIENT) -> Any:
        return start(self.chain.connect(ConnectionInquiry(client), self.steps.append))

    def send(self, **more: Any) -> Any:
        return start(self.chain.sender(SenderInquiry(CLIENT, SENDER, **more), self.steps.append))

    def content(self, *recipients: Address, message: bytes = MESSAGE) -> Any:
        about = [inquiry(str(each)) for each in recipients or (ANN,)]
        content = self.chain.content("id", Envelope(SENDER, client=CLIENT), about, self.steps.append)
        if content.wants_stream:
            for octet in range(0, len(message), 7):
                content.take(message[octet : octet + 7])
        section = message[: message.index(b"\r\n\r\n") + 2]
        return start(content.decide(len(message), Fields(section), lambda: iter([message])))


def _thinking(opinion: Any, way: str, owed: list[Deferred[None]]) -> Any:
    """A policy that says so: at once, in a coroutine that has not to wait, or when the last of `owed` has come."""

    def says() -> Any:
        if isinstance(opinion, Exception):
            raise opinion
        return opinion

    async def soon() -> Any:
        return says()

    async def later() -> Any:
        owed.append(Deferred())
        await owed[-1]
        return says()

    return lambda inquiry: {"at once": says, "soon": soon, "later": later}[way]()


def only(outcome: Outcome) -> Any:
    (ruled,) = outcome.each
    return ruled.verdict


def only_verdict(outcome: Outcome) -> Any:
    """The one that all recipients have."""
    assert outcome.agreed
    return outcome.each[0].verdict


class AdmissionTests(SynchronousTestCase):
    def test_a_chain_screens(self) -> None:
        verifyObject(IScreening, Screen().chain)

    def test_where_all_abstain_a_client_may_stay_and_send(self) -> None:
        self.assertEqual(Screen(AtConnection()).connect(), Admitted())
        self.assertEqual(Screen(AtSender(), AtConnection(NO)).send(), Admitted())

    def test_the_first_that_does_not_abstain_decides(self) -> None:
        welcome = Accept("known here", {"reputation": "good"})
        for first, then, result in [
            (NO, welcome, Refused(NO.reply, "policy-2", "not you")),
            (LATER, NO, Refused(LATER.reply, "policy-2", "come again")),
            (welcome, NO, Admitted(welcome.facts, "policy-2", "known here")),
        ]:
            screen = Screen(AtConnection(), AtConnection(first), AtConnection(then))
            self.assertEqual(screen.connect(), result)

    def test_what_is_noted_reaches_those_behind_and_what_comes_of_it(self) -> None:
        last = AtSender()
        screen = Screen(AtSender(Note({"spf": "pass"})), AtSender(Note({"spf": "fail", "rdns": "none"})), last)
        admitted = screen.send(facts={"dnsbl": "2"})
        self.assertEqual(dict(last.asked[0].facts), {"dnsbl": "2", "spf": "fail", "rdns": "none"})
        self.assertEqual(admitted.facts, last.asked[0].facts)

    def test_a_policy_that_speaks_in_two_phases_is_asked_in_both(self) -> None:
        policy = Twice()
        screen = Screen(policy)
        screen.connect()
        screen.send()
        self.assertEqual([type(each) for each in policy.asked], [ConnectionInquiry, SenderInquiry])

    def test_a_policy_that_fails_is_a_refusal_for_now(self) -> None:
        def raises(inquiry: Any) -> Any:
            raise LookupError("a secret")

        for wrong in (raises, None, "250 Ok", Forward("example.org"), Hold(), Edit([AddField("X", "y")])):
            screen = Screen(AtConnection(wrong), AtConnection(Accept()))
            refused = screen.connect()
            self.assertIs(refused.reply, OUR_FAULT, wrong)
            self.assertTrue(screen.log, wrong)
            self.assertNotIn("secret", refused.because)
        self.flushLoggedErrors()

    def test_a_policy_that_is_too_late_is_a_refusal_for_now(self) -> None:
        screen = Screen(AtConnection(lambda inquiry: Deferred()))
        waiting = screen.connect()
        screen.clock.advance(10)
        self.assertIs(self.successResultOf(waiting).reply, OUR_FAULT)

    def test_a_condition_about_what_is_not_known_yet_does_not_hold(self) -> None:
        when = {1: When(recipient=("example.org",)), 2: When(sender=("sender.example",))}
        screen = Screen(AtConnection(NO), AtConnection(NO), when=when)
        self.assertIsInstance(screen.connect(), Admitted)
        self.assertEqual(
            screen.steps,
            [Skipped(None, "policy-1", "recipient", "connection"), Skipped(None, "policy-2", "sender", "connection")],
        )
        self.assertIsInstance(Screen(AtSender(), AtSender(NO), when=when).send(), Refused)

    def test_steps_say_what_a_policy_has_looked_at(self) -> None:
        answer: Deferred[None] = Deferred()

        async def looks(inquiry: Any) -> Any:
            note("dns", "1.2.0.192.list.test A", "127.0.0.2")
            await answer
            note("table", "vips: ann", "nothing")
            return NO

        screen = Screen(AtConnection(looks), AtConnection(NO))
        other = Screen(AtConnection(lambda inquiry: [note("dns", "another", "one"), ABSTAIN][1]))
        waiting = screen.connect()
        other.connect()
        answer.callback(None)
        self.successResultOf(waiting)
        (step,) = screen.steps
        assert isinstance(step, Asked)
        self.assertEqual([look.what for look in step.looks], ["1.2.0.192.list.test A", "vips: ann"])

    def test_facts_of_a_recipient_stay_with_its_copy(self) -> None:
        last = AtRecipient(Forward("example.org"))
        screen = Screen(AtRecipient(Note({"vip": "yes"})), last)
        asked = evolve(inquiry("jon@example.org"), facts={"spf": "pass"})
        decision: Any = start(screen.chain.route(asked))
        assert isinstance(decision, Accepted)
        self.assertEqual(dict(decision.placements[0].facts), {"spf": "pass", "vip": "yes"})
        self.assertEqual(last.asked[0].facts, decision.placements[0].facts)


class ContentTests(SynchronousTestCase):
    def test_where_nobody_objects_it_is_accepted_as_it_came(self) -> None:
        outcome = Screen(AtContent()).content(ANN, BOB)
        self.assertEqual([ruled.verdict for ruled in outcome.each], [Accept(), Accept()])
        self.assertEqual((outcome.edited, outcome.editors), (None, ()))

    def test_the_first_that_neither_abstains_nor_edits_decides(self) -> None:
        for verdict in (NO, LATER, Accept("fine"), Discard("spam"), Hold("a look first")):
            screen = Screen(
                AtContent(), AtContent(Edit([AddField("X-A", "1")])), AtContent(verdict), AtContent(Reject(NO.reply))
            )
            outcome = screen.content()
            self.assertEqual(only(outcome), verdict)
            self.assertEqual(outcome.each[0].policy, "policy-3")

    def test_what_one_changes_the_next_one_sees(self) -> None:
        last = AtContent()
        screen = Screen(
            AtContent(Edit([AddField("X-Spam", "yes"), RemoveField("subject")], facts={"score": "7"})),
            AtContent(Edit([AddField("X-Spam", "no")])),
            last,
        )
        outcome = screen.content()
        seen = last.asked[0]
        self.assertEqual([field.text for field in seen.fields.named("X-SPAM")], ["no", "yes"])
        self.assertNotIn("Subject", seen.fields)
        self.assertEqual(dict(seen.facts), {"score": "7"})
        self.assertEqual(outcome.edited.fields.section, seen.fields.section)
        self.assertTrue(outcome.edited.copied)
        self.assertEqual(outcome.editors, ("policy-1", "policy-2"))

    def test_recipients_are_added_or_replaced(self) -> None:
        audit, boss = Address.parse("audit@example.org"), Address.parse("boss@example.org")
        outcome = Screen(AtContent(Edit([AddRecipient(audit)])), AtContent(Edit([AddRecipient(audit)]))).content()
        self.assertEqual((outcome.instead, outcome.also), (None, (audit,)))
        outcome = Screen(
            AtContent(Edit([AddRecipient(audit)])),
            AtContent(Edit([ReplaceRecipients([boss])])),
            AtContent(Edit([AddRecipient(audit)])),
        ).content()
        self.assertEqual((outcome.instead, outcome.also), ((boss,), (audit,)))

    def test_each_recipient_may_have_a_verdict_and_is_then_left_alone(self) -> None:
        last = AtContent(Discard())
        outcome = Screen(AtContent(Each({ANN: NO})), last).content(ANN, BOB)
        self.assertEqual([ruled.verdict for ruled in outcome.each], [NO, Discard()])
        self.assertEqual(last.asked[0].recipients, (BOB,))
        self.assertFalse(outcome.agreed)

    def test_nobody_is_asked_about_recipients_that_are_decided(self) -> None:
        last = AtContent()
        Screen(AtContent(NO), last).content(ANN, BOB)
        self.assertEqual(last.asked, [])

    def test_a_policy_is_asked_about_those_for_whom_its_guard_holds(self) -> None:
        guarded = AtContent(NO)
        screen = Screen(guarded, when={1: When(recipient=("bob@example.org",))})
        outcome = screen.content(ANN, BOB)
        self.assertEqual(guarded.asked[0].recipients, (BOB,))
        self.assertEqual([ruled.verdict for ruled in outcome.each], [Accept(), NO])
        self.assertEqual(screen.chain.content_policies(inquiry("ann@example.org")), ())
        self.assertEqual(screen.chain.content_policies(inquiry("bob@example.org")), (0,))
        screen.steps.clear()
        screen.content(ANN)
        self.assertEqual(screen.steps, [Skipped(None, "policy-1", "recipient", "content")])

    def test_facts_that_were_found_out_before_decide_who_is_asked(self) -> None:
        when = {2: When(facts={"spam": ("yes",)}), 3: When(facts={"spam": ("no",)})}
        for says in (Note({"spam": "yes"}), Edit([AddField("X-Spam", "yes")], facts={"spam": "yes"})):
            asked, other = AtContent(NO), AtContent(LATER)
            outcome = Screen(AtContent(says), asked, other, when=when).content(ANN, BOB)
            self.assertEqual(asked.asked[0].recipients, (ANN, BOB))
            self.assertEqual(other.asked, [])
            self.assertEqual(only_verdict(outcome), NO)
        self.assertIsInstance(Screen(AtSender(), AtSender(NO), when=when).send(facts={"spam": "yes"}), Refused)
        self.assertIsInstance(Screen(AtSender(), AtSender(NO), when=when).send(facts={"spam": "no"}), Admitted)

    def test_who_reads_along_may_be_asked_by_what_is_found_out_later(self) -> None:
        @implementer(IContentPolicy)
        class Reading(Speaker):
            wants = "stream"
            octets = b""

            def begin(self, inquiry: ContentInquiry) -> Any:
                return self

            def take(self, octets: bytes) -> None:
                self.octets += octets

        for when, seen, verdict in (
            (When(facts={"spam": ("yes",)}), MESSAGE, NO),
            (When(facts={"spam": ("no",)}), MESSAGE, Accept()),
            (When(facts={"spam": ("yes",)}, recipient=("bob@example.org",)), b"", Accept()),
        ):
            reading = Reading(NO)
            outcome = Screen(AtContent(Note({"spam": "yes"})), reading, when={2: when}).content(ANN)
            self.assertEqual((reading.octets, only(outcome)), (seen, verdict))

    def test_only_who_wants_the_message_is_given_it(self) -> None:
        reader, glancer = AtContent(), AtContent()
        reader.wants = "message"
        Screen(reader, glancer).content()
        self.assertEqual(b"".join(reader.asked[0].blocks()), MESSAGE)
        self.assertIsNone(glancer.asked[0].blocks)

    def test_who_reads_along_has_seen_all_of_it(self) -> None:
        @implementer(IContentPolicy)
        class Counting:
            wants = "stream"

            def begin(self, inquiry: ContentInquiry) -> Any:
                return Reader()

            def examine(self, inquiry: ContentInquiry) -> Any:
                return Note({"octets": str(len(inquiry.reader.octets))})

        class Reader:
            octets = b""

            def take(self, octets: bytes) -> None:
                self.octets += octets

        self.assertEqual(dict(Screen(Counting()).content().facts), {"octets": str(len(MESSAGE))})

    def test_who_fails_while_reading_along_makes_it_wait(self) -> None:
        @implementer(IContentPolicy)
        class Failing:
            wants = "stream"

            def __init__(self, at: str) -> None:
                self._at = at

            def begin(self, inquiry: ContentInquiry) -> Any:
                if self._at == "begin":
                    raise LookupError
                return self

            def take(self, octets: bytes) -> None:
                raise LookupError

            def examine(self, inquiry: ContentInquiry) -> Any:
                return Accept()

        for at in ("begin", "take"):
            screen = Screen(Failing(at))
            self.assertIs(only(screen.content()).reply, OUR_FAULT)
            self.assertEqual(len(screen.log), 1)
        self.flushLoggedErrors()

    @given(st.data())
    def test_who_thinks_first_comes_to_what_comes_of_an_answer_at_once(self, data: st.DataObject) -> None:
        opinions = [
            ABSTAIN,
            NO,
            LATER,
            Accept("fine", {"spam": "no"}),
            Discard(),
            Hold("a look first"),
            None,
            Each({ANN: NO}),
            Each({BOB: Accept("fine", {"spam": "no"}), ANN: ABSTAIN}),
            Note({"spam": "yes"}),
            Edit([AddField("X-A", "1"), RemoveField("subject")], facts={"spam": "no"}),
            Edit([AddRecipient(BOB)]),
            LookupError(),
        ]
        guards = [None, When(recipient=("bob@example.org",)), When(facts={"spam": ("yes",)})]
        said = data.draw(st.lists(st.tuples(st.sampled_from(opinions), st.sampled_from(guards)), max_size=5))
        how = data.draw(st.lists(st.sampled_from(["soon", "later", "at once"]), min_size=len(said), max_size=len(said)))
        recipients = data.draw(st.sampled_from([(ANN,), (ANN, BOB), (BOB, ANN, CARA)]))
        came = []
        for ways in (["at once"] * len(said), how):
            owed: list[Deferred[None]] = []
            policies = [AtContent(_thinking(opinion, way, owed)) for (opinion, _), way in zip(said, ways, strict=True)]
            when = {place: given for place, (_, given) in enumerate(said, 1) if given is not None}
            screen = Screen(*policies, when=when)
            outcome = screen.content(*recipients)
            while owed:
                self.assertNoResult(outcome)
                owed.pop().callback(None)
            if isinstance(outcome, Deferred):
                outcome = self.successResultOf(outcome)
            asked = [[evolve(each, blocks=None) for each in policy.asked] for policy in policies]
            fields = [[each.fields.section for each in of_one] for of_one in asked]
            asked = [[evolve(each, fields=NO_FIELDS) for each in of_one] for of_one in asked]
            edited = outcome.edited and (outcome.edited.fields.section, outcome.edited.copied)
            came.append((evolve(outcome, edited=None), edited, asked, fields, screen.steps, screen.log))
        self.assertEqual(came[0], came[1])
        self.flushLoggedErrors()

    @given(st.lists(st.sampled_from([ABSTAIN, NO, LATER, Accept(), Discard(), Hold(), None, Each({ANN: NO})])))
    def test_content_that_a_policy_could_not_judge_is_never_accepted(self, answers: list[Any]) -> None:
        outcome = Screen(*map(AtContent, answers)).content()
        first = next((answer for answer in answers if answer is not ABSTAIN), Accept())
        verdict = only(outcome)
        if first is None:
            self.assertIs(verdict.reply, OUR_FAULT)
        else:
            self.assertEqual(verdict, NO if isinstance(first, Each) else first)
        self.flushLoggedErrors()
