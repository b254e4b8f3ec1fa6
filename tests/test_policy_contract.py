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

from relay.interfaces import IClock, IResolver, IRoutingPolicy, World
from relay.mail.answer import Found
from relay.mail.routing import ABSTAIN, Discard, Inquiry
from relay.net.waiting import start
from relay.testing.policy import NOON, FakeWorld, PolicyContract, check_policy, inquiry, world
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
    asked = 0

    def route(self, inquiry: Inquiry) -> Any:
        self.asked += 1
        return LATER if self.asked > 5 else ABSTAIN


@implementer(IRoutingPolicy)
class Silent(Undeclared):
    class Options(BaseModel, extra="forbid"):
        number: int = 1

    def route(self, inquiry: Inquiry) -> Any:
        return ABSTAIN


BAD = {
    Undeclared: "provides no policy interface",
    Nonsense: "'250 ok' about \"strange",
    Sleeps: "has not answered about jon@example.org within 10 seconds",
    Moody: "and then",
    Tired: "after other questions",
    Silent: "has no description",
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
