"""The test kit for those who write policies: it must fail for what breaks the contract."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from relay.interfaces import (
    IAttemptPolicy,
    IClock,
    IConnectionPolicy,
    IContentPolicy,
    IResolver,
    IRoutingPolicy,
    ISenderPolicy,
    IStreamPolicy,
    World,
)
from relay.mail.answer import Found
from relay.mail.phases import AttemptInquiry, ConnectionInquiry, ContentInquiry, SenderInquiry
from relay.mail.routing import ABSTAIN, Discard, Hold, Inquiry, Note
from relay.net.waiting import start
from relay.testing.policy import NOON, FakeWorld, PolicyContract, Subject, check_policy, inquiry, world
from relay.testing.questions import connecting, content, in_each_phase, told
from tests.policy.doubles import LATER, UNKNOWN


@implementer(IRoutingPolicy)
class Good:
    """Refuses senders whose domain has no address."""

    class Options(BaseModel, extra="forbid"):
        recipients: list[str] = Field(default=[], description="Whose mail is looked at.")

    def __init__(self, options: Options, world: World) -> None:
        self.options, self.world = options, world

    async def route(self, inquiry: Inquiry) -> Any:
        if inquiry.reverse_path is None or str(inquiry.recipient) not in self.options.recipients:
            return ABSTAIN
        await deferLater(self.world.clock, 2, lambda: None)  # type: ignore[arg-type]
        answer = await self.world.resolver.look_up(inquiry.reverse_path.domain, "A")
        return ABSTAIN if isinstance(answer, Found) else UNKNOWN


class Undeclared:
    def __init__(self, options: Any, world: World) -> None:
        self.world = world

    def route(self, inquiry: Inquiry) -> Any:
        return ABSTAIN


@implementer(IRoutingPolicy)
class Nonsense(Undeclared):
    def route(self, inquiry: Inquiry) -> Any:
        return "250 ok" if inquiry.client.address is None else ABSTAIN


@implementer(IRoutingPolicy)
class Raises(Undeclared):
    def route(self, inquiry: Inquiry) -> Any:
        return Discard() if inquiry.reverse_path.domain else ABSTAIN  # type: ignore[union-attr]


@implementer(IRoutingPolicy)
class Sleeps(Undeclared):
    def route(self, inquiry: Inquiry) -> Any:
        return Deferred()


@implementer(IRoutingPolicy)
class Moody(Undeclared):
    asked = 0

    def route(self, inquiry: Inquiry) -> Any:
        Moody.asked += 1
        return LATER if Moody.asked % 2 else ABSTAIN


@implementer(IRoutingPolicy)
class Tired(Undeclared):
    def route(self, inquiry: Inquiry) -> Any:
        asked = int(self.world.store.get("asked") or 0) + 1
        self.world.store.put("asked", str(asked), 60)
        return LATER if asked > 5 else ABSTAIN


@implementer(IRoutingPolicy)
class Silent(Undeclared):
    class Options(BaseModel, extra="forbid"):
        number: int = 1

    def route(self, inquiry: Inquiry) -> Any:
        return ABSTAIN


@implementer(ISenderPolicy, IRoutingPolicy)
class NonsenseAtMail(Undeclared):
    def sender(self, inquiry: SenderInquiry) -> Any:
        return Discard() if inquiry.reverse_path is None else ABSTAIN


@implementer(IConnectionPolicy)
class TiredOfClients(Undeclared):
    asked = 0

    def connect(self, inquiry: ConnectionInquiry) -> Any:
        self.asked += 1
        return LATER if self.asked > 5 else ABSTAIN


@implementer(IContentPolicy)
class WantsEverything(Undeclared):
    wants = "everything"

    def examine(self, inquiry: ContentInquiry) -> Any:
        return ABSTAIN


@implementer(IAttemptPolicy)
class HoldsAttempts(Undeclared):
    def attempt(self, inquiry: AttemptInquiry) -> Any:
        return Hold()


BAD = {
    Undeclared: "provides no policy interface",
    Nonsense: "'250 ok' about \"strange",
    Sleeps: "has not answered about jon@example.org within 10 seconds",
    Moody: "and then",
    Tired: "after other questions",
    Silent: "has no description",
    NonsenseAtMail: "Discard(because='') about the sender <> is no verdict",
    TiredOfClients: "about the client None, and ABSTAIN if it was made anew before",
    WantsEverything: "'everything' is nothing that a content policy can want",
    HoldsAttempts: "Hold(because='') about jon@example.org is no verdict",
}


class CheckPolicyTests(SynchronousTestCase):
    def test_a_policy_that_keeps_the_contract_passes(self) -> None:
        check_policy(Good, {"recipients": ["jon@example.org"]}, names={"sender.example": {"A": ["192.0.2.1"]}})
        check_policy("reject", {"text": "no"})

    def test_each_breach_of_the_contract_fails_and_is_named(self) -> None:
        for policy, words in BAD.items():
            error = self.assertRaises(AssertionError, check_policy, policy)
            self.assertIn(words, str(error), policy.__name__)

    def test_what_a_policy_raises_is_what_its_author_sees(self) -> None:
        self.assertRaises(AttributeError, check_policy, Raises)

    def test_a_policy_that_remembers_may_say_so(self) -> None:
        check_policy(Tired, remembers=True)

    def test_what_a_policy_remembers_is_in_its_store(self) -> None:
        error = self.assertRaises(AssertionError, check_policy, TiredOfClients, remembers=True)
        self.assertIn("ABSTAIN if it was made anew before", str(error))

    def test_a_policy_that_nobody_has_fails(self) -> None:
        self.assertIn("no policy 'nobody'", str(self.assertRaises(AssertionError, check_policy, "nobody")))

    def test_the_mixin_finds_the_same_breaches(self) -> None:
        for subject in BAD:
            case = type("Case", (PolicyContract, SynchronousTestCase), {"policy": subject})
            tests = [name for name in dir(case) if name.startswith("test_")]
            result = TestResult()
            for name in tests:
                case(name).run(result)
            self.assertNotEqual(len(result.failures) + len(result.errors), 0, subject.__name__)


class GoodTests(PolicyContract, SynchronousTestCase):
    policy = Good
    options = {"recipients": ["jon@example.org"]}  # noqa: RUF012
    names = {"known.example": {"A": ["192.0.2.1"]}}  # noqa: RUF012
    inquiries = (inquiry("jon@example.org", "ann@known.example"),)

    def test_a_question_is_asked_in_one_line(self) -> None:
        self.assertEqual(self.ask("jon@example.org", "ann@unknown.example"), UNKNOWN)
        self.assertIs(self.ask("jon@example.org", "ann@known.example"), ABSTAIN)
        self.assertIs(self.ask("ann@example.org", "ann@unknown.example"), ABSTAIN)


@implementer(IStreamPolicy)
class Counts(Undeclared):
    """Refuses what is longer than the operator likes, however it comes in."""

    class Options(BaseModel, extra="forbid"):
        wants: str = Field(default="stream", description="What it sees.")

    def __init__(self, options: Options, world: World) -> None:
        self.wants = options.wants

    def begin(self, inquiry: ContentInquiry) -> Any:
        assert (inquiry.size, list(inquiry.fields)) == (0, [])
        return Reader()

    def examine(self, inquiry: ContentInquiry) -> Any:
        seen = {
            "headers": [field.octets for field in inquiry.fields],
            "message": inquiry.blocks and list(inquiry.blocks()),
            "stream": inquiry.reader and [b"".join(inquiry.reader.octets)],
        }
        others = [each for want, each in seen.items() if want not in (self.wants, "headers")]
        assert not any(others), "it sees no more than it wants"
        return Note({"octets": str(sum(map(len, seen[self.wants])))})


class Reader:
    def __init__(self) -> None:
        self.octets: list[bytes] = []

    def take(self, octets: bytes) -> None:
        self.octets.append(octets)


class PhasesTests(SynchronousTestCase):
    def test_a_content_policy_sees_as_much_of_a_message_as_it_wants(self) -> None:
        message = b"Subject: hello\r\nTo: jon@example.org\r\n\r\nHi!\r\n"
        section = message[: message.index(b"\r\n\r\n") + 2]
        for wants, octets in (("headers", len(section)), ("message", len(message)), ("stream", len(message))):
            verdicts = Subject(Counts, {"wants": wants}).asked(content(message))
            self.assertEqual(verdicts, [Note({"octets": str(octets)})])
            check_policy(Counts, {"wants": wants}, inquiries=[content(message)])

    def test_one_question_is_asked_in_each_phase_that_a_policy_provides(self) -> None:
        policy = NonsenseAtMail(None, FakeWorld().world)
        asked = list(in_each_phase(policy, [inquiry("jon@example.org", "<>", "192.0.2.7"), connecting("::1")]))
        self.assertEqual([told(each) for each in asked], ["the sender <>", "jon@example.org", "the client ::1"])
        self.assertEqual({each.client.address for each in asked}, {"192.0.2.7", "::1"})  # type: ignore[union-attr]

    def test_a_client_that_has_just_come_has_said_nothing(self) -> None:
        policy = TiredOfClients(None, FakeWorld().world)
        (asked,) = in_each_phase(policy, [inquiry("jon@example.org", user="jon")])
        self.assertEqual((asked.client.helo, asked.client.user), ("", None))  # type: ignore[union-attr]

    def test_the_mixin_asks_in_any_phase(self) -> None:
        case = type(
            "Case", (PolicyContract, SynchronousTestCase), {"policy": TiredOfClients, "runTest": lambda self: 0}
        )
        self.assertIs(case().put(connecting()), ABSTAIN)


class WorldTests(SynchronousTestCase):
    def test_the_worlds_time_moves_when_the_test_says_so(self) -> None:
        fake = FakeWorld()
        self.assertTrue(verifyObject(IClock, fake.world.clock))
        self.assertEqual(fake.world.clock.calendar(), NOON)
        fake.clock.advance(60)
        self.assertEqual((fake.world.clock.calendar(), fake.world.clock.now()), (NOON + 60, NOON + 60))

    def test_the_worlds_dns_is_what_the_test_says(self) -> None:
        made = world({"example.org": {"A": ["192.0.2.1"]}})
        self.assertTrue(verifyObject(IResolver, made.resolver))
        self.assertEqual(start(made.resolver.look_up("example.org", "A")), Found(("192.0.2.1",)))

    def test_chance_is_the_same_in_every_run(self) -> None:
        self.assertEqual(world().random.random(), world().random.random())

    def test_a_question_is_as_a_session_would_ask_it(self) -> None:
        question = inquiry("jon@example.org", "<>", "::1", original="team@example.org", user="ann")
        self.assertIsNone(question.reverse_path)
        self.assertEqual((str(question.recipient), str(question.original)), ("jon@example.org", "team@example.org"))
        self.assertEqual((question.client.address, question.client.user), ("::1", "ann"))
