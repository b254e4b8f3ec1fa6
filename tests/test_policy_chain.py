from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from relay.config.policies import When
from relay.interfaces import IChain, IRoutingPolicy
from relay.mail.decision import Accepted, Decision, Placement, Refused
from relay.mail.routing import ABSTAIN, Discard, Forward, Hold, Inquiry, Note, Reject, Rewrite
from relay.net.clock import ReactorClock
from relay.net.waiting import start
from relay.policy.asking import Station, at_work
from relay.policy.chain import Chain
from relay.policy.guard import Guard
from relay.policy.looking import LOOKS, Look, note
from relay.policy.steps import Asked, Skipped, Step
from relay.testing.policy import inquiry
from tests.policy.doubles import LATER, TO_JON, UNKNOWN, Does, Policies, Says, Waits

JON = inquiry("jon@example.org").recipient

ROUTES = [TO_JON, Forward("example.org", because="onward"), Discard(because="spam"), Hold(because="a look first")]
VERDICTS = [*ROUTES, UNKNOWN, LATER]


class Oops(Exception):
    pass


def raises() -> Any:
    raise Oops("a secret")


async def raises_later() -> Any:
    raise Oops("a secret")


def ends_the_process() -> Any:
    raise SystemExit(3)


async def ends_the_process_in_a_coroutine() -> Any:
    raise SystemExit(3)


async def says(answer: Any) -> Any:
    return answer


class BadBoolean:
    def __bool__(self) -> bool:
        raise Oops("no truth in it")

    __eq__ = __hash__ = None  # type: ignore[assignment]


#: What a policy may do wrong without any waiting.
WRONGS = {
    "raises": raises,
    "raises in a coroutine": raises_later,
    "ends the process": ends_the_process,
    "ends the process in a coroutine": ends_the_process_in_a_coroutine,
    "fails with a Deferred": lambda: fail(Oops("a secret")),
    "raises CancelledError by itself": lambda: fail(CancelledError()),
    "says None": lambda: None,
    "says None in a coroutine": lambda: says(None),
    "says None in a Deferred": lambda: succeed(None),
    "says a string": lambda: "reject",
    "says True": lambda: True,
    "says a code": lambda: 250,
    "says a class": lambda: Reject,
    "says a reply": lambda: UNKNOWN.reply,
    "says a decision": lambda: Accepted((Placement(JON, JON, TO_JON),)),
    "says a list of verdicts": lambda: [TO_JON],
    "says what has no truth and no hash": BadBoolean,
    "rewrites to a string": lambda: Rewrite(["jon@example.org"]),  # type: ignore[list-item]
    "rewrites to None": lambda: Rewrite([JON, None]),  # type: ignore[list-item]
}


def accepted(verdict: Any, policy: str) -> Decision:
    return Accepted((Placement(JON, JON, verdict, policy, verdict.because),))


def expected(verdict: Any, policy: str) -> Decision:
    """What one verdict of a policy means, but for aliases."""
    if verdict in (UNKNOWN, LATER):
        return Refused(verdict.reply, policy, verdict.because)
    return accepted(verdict, policy)


@st.composite
def ways(draw: st.DrawFn, answers: st.SearchStrategy[Any]) -> Any:
    """A policy that says one of these answers, in one of the ways in which it can be said at once."""
    answer = draw(answers)
    way = draw(st.sampled_from([lambda: answer, lambda: says(answer), lambda: succeed(answer)]))
    return answer, Does(way)


@st.composite
def acts(draw: st.DrawFn) -> Any:
    """What a policy may do without any waiting, right or wrong. Often it leaves something to others."""
    answer = draw(st.just(ABSTAIN) | st.sampled_from([*VERDICTS, Rewrite([JON]), Note({"spf": "pass"})]))
    right = [lambda: answer, lambda: says(answer), lambda: succeed(answer)]
    return draw(st.sampled_from(right) | st.sampled_from(list(WRONGS.values())))


@implementer(IRoutingPolicy)
class LooksFirst:
    """Takes a second for each thing that it looks at, and then acts."""

    def __init__(self, clock: Clock, looks: Iterable[str], act: Callable[[], Any]) -> None:
        self._clock = clock
        self._looks = looks
        self._act = act

    def route(self, inquiry: Inquiry) -> Any:
        for each in self._looks:
            self._clock.advance(1)
            note("table", each, "found")
        return self._act()


class DecidingTests(SynchronousTestCase):
    def test_a_chain_keeps_its_contract(self) -> None:
        self.assertTrue(verifyObject(IChain, Policies().chain))

    def test_each_verdict_is_the_decision_with_its_policy_and_its_reason(self) -> None:
        for verdict in VERDICTS:
            self.assertEqual(Policies(Says(ABSTAIN), Says(verdict)).decide(), expected(verdict, "policy-2"))

    def test_where_nobody_decides_relaying_is_denied(self) -> None:
        for policies in [], [Says(ABSTAIN)], [Says(ABSTAIN), Does(lambda: says(ABSTAIN))]:
            decision = Policies(*policies).decide("jon@elsewhere.example")
            assert isinstance(decision, Refused)
            self.assertEqual(str(decision.reply), "550 5.7.1 <jon@elsewhere.example>: relaying denied")
            self.assertEqual((decision.policy, decision.because), ("", "every policy abstained"))

    @given(st.lists(ways(st.sampled_from([ABSTAIN, *VERDICTS]))))
    def test_the_first_that_does_not_abstain_decides(self, policies: list[tuple[Any, Any]]) -> None:
        decision = Policies(*(policy for _, policy in policies)).decide()
        deciding = [(n, answer) for n, (answer, _) in enumerate(policies, 1) if answer is not ABSTAIN]
        if deciding:
            number, answer = deciding[0]
            self.assertEqual(decision, expected(answer, f"policy-{number}"))
        else:
            self.assertIsInstance(decision, Refused)

    @given(st.lists(ways(st.sampled_from([ABSTAIN, *VERDICTS, Rewrite([JON]), Note({"spf": "pass"}), None]))))
    def test_the_short_way_to_a_decision_leads_where_the_long_one_does(self, policies: list[tuple[Any, Any]]) -> None:
        asked: list[list[int]] = []
        decisions = []
        for short in True, False:
            answers = [Says(answer) for answer, _ in policies]
            chain = Policies(*answers).chain
            question = inquiry("jon@example.org")
            decisions.append(start(chain.decide(question) if short else chain.route(question)))
            asked.append([len(each.asked) for each in answers])
        self.assertEqual(decisions[0], decisions[1])
        self.assertEqual(asked[0], asked[1])

    def test_what_is_decided_at_once_needs_no_coroutine(self) -> None:
        for policies in [], [Says(TO_JON)], [Says(ABSTAIN), Says(UNKNOWN)], [Says(LATER)], [Does(raises)]:
            self.assertIsInstance(Policies(*policies).chain.decide(inquiry("jon@example.org")), Accepted | Refused)

    def test_policies_are_asked_in_order_and_none_behind_the_one_that_decides(self) -> None:
        policies = [Says(ABSTAIN), Says(ABSTAIN), Says(UNKNOWN), Says(TO_JON)]
        Policies(*policies).decide()
        self.assertEqual([len(policy.asked) for policy in policies], [1, 1, 1, 0])

    def test_a_policy_sees_the_question_as_it_was_asked(self) -> None:
        policy, question = Says(TO_JON), inquiry("jon@example.org", "<>", user="jon")
        Policies(policy).chain.route(question).close()
        Policies(policy).decide("jon@example.org")
        self.assertEqual(policy.asked, [inquiry("jon@example.org")])

    def test_what_does_not_wait_costs_no_deferred(self) -> None:
        policies = [Says(ABSTAIN), Does(lambda: says(ABSTAIN)), Does(lambda: succeed(TO_JON))]
        self.assertIsInstance(Policies(*policies).start(), Accepted)

    def test_a_policy_that_waits_is_waited_for(self) -> None:
        waiting, behind = Waits(), Says(TO_JON)
        policies = Policies(waiting, behind)
        decision = policies.start()
        self.assertNoResult(decision)
        waiting.deferred.callback(ABSTAIN)
        self.assertEqual(self.successResultOf(decision), accepted(TO_JON, "policy-2"))
        self.assertEqual(policies.clock.getDelayedCalls(), [])

    def test_one_recipient_that_waits_holds_up_no_other(self) -> None:
        waiting = Waits()
        chain = Policies(Does(lambda: answers.pop(0)))
        answers = [waiting.deferred, TO_JON]
        first = chain.start()
        self.assertEqual(chain.decide(), accepted(TO_JON, "policy-1"))
        self.assertNoResult(first)
        waiting.deferred.callback(UNKNOWN)
        self.assertIsInstance(self.successResultOf(first), Refused)


class GuardedTests(SynchronousTestCase):
    def test_a_policy_whose_condition_does_not_hold_is_not_asked(self) -> None:
        for listener, asked in ("mx", 1), ("submission", 0):
            policy = Says(TO_JON)
            decision = Policies(policy, when=When(listener=(listener,))).decide()
            self.assertEqual(isinstance(decision, Accepted), bool(asked))
            self.assertEqual(len(policy.asked), asked)


#: As a library has one that a policy uses.
question: ContextVar[str] = ContextVar("question", default="nobody's")


class VariablesTests(SynchronousTestCase):
    """Policies that think at the same time do not see each other's variables."""

    def test_what_a_policy_sets_while_it_thinks_is_its_own_and_it_can_take_it_back(self) -> None:
        seen: list[str] = []

        async def thinks(name: str, waited: Deferred[None]) -> Any:
            token = question.set(name)
            try:
                await waited
                seen.append(question.get())
                return TO_JON
            finally:
                question.reset(token)

        waits = {name: Deferred[None]() for name in ("first", "second")}
        decisions = [
            Policies(Does(lambda name=name: thinks(name, waits[name]))).start()  # type: ignore[misc]
            for name in waits
        ]
        self.assertEqual(question.get(), "nobody's")
        for name in ("second", "first"):
            waits[name].callback(None)
        for decision in decisions:
            self.assertEqual(self.successResultOf(decision), accepted(TO_JON, "policy-1"))
        self.assertEqual((seen, question.get()), (["second", "first"], "nobody's"))


class FailingTests(SynchronousTestCase):
    def assert_our_fault(self, decision: Any, policy: str = "policy-1") -> None:
        self.assertIsInstance(decision, Refused)
        self.assertEqual((decision.reply.code, decision.reply.status, decision.policy), (451, "4.3.0", policy))

    def test_whatever_a_policy_does_wrong_is_a_451_and_the_log_has_its_name(self) -> None:
        for what, wrong in WRONGS.items():
            behind = Says(TO_JON)
            policies = Policies(Says(ABSTAIN), Does(wrong), behind)
            decision = policies.decide()
            self.assert_our_fault(decision, "policy-2")
            self.assertEqual(behind.asked, [], what)
            (event,) = policies.events
            self.assertIn("policy policy-2 ", policies.log[0], what)
            self.assertIn("<jon@example.org>", policies.log[0], what)
            self.assertIn(event["log_level"].name, ("error", "critical"))

    def test_the_log_has_the_traceback_and_the_client_hears_nothing_of_it(self) -> None:
        for wrong in raises, raises_later, lambda: fail(Oops("a secret")):
            policies = Policies(Does(wrong))
            decision = policies.decide()
            self.assertIs(policies.events[0]["log_failure"].type, Oops)
            self.assertNotIn("secret", str(decision))
            self.assertNotIn("policy-1", str(decision.reply))  # type: ignore[union-attr]

    def test_a_policy_that_fails_after_a_while_is_a_451(self) -> None:
        for failing in Oops("a secret"), CancelledError():
            waiting = Waits()
            policies = Policies(waiting, Says(TO_JON))
            decision = policies.start()
            waiting.deferred.errback(failing)
            self.assert_our_fault(self.successResultOf(decision))
            self.assertIs(policies.events[0]["log_failure"].value, failing)
            self.assertEqual(policies.clock.getDelayedCalls(), [])

    def test_a_policy_that_answers_with_nonsense_after_a_while_is_a_451(self) -> None:
        waiting = Waits()
        policies = Policies(waiting, Says(TO_JON))
        decision = policies.start()
        waiting.deferred.callback("ok")
        self.assert_our_fault(self.successResultOf(decision))
        self.assertIn("a value of type str", policies.log[0])

    @given(
        st.lists(ways(st.just(ABSTAIN)), max_size=3),
        st.sampled_from(sorted(WRONGS)),
        st.lists(ways(st.sampled_from(ROUTES)), max_size=2),
    )
    def test_a_policy_that_fails_never_lets_mail_pass(self, before: Any, wrong: str, behind: Any) -> None:
        abstaining, accepting = ([policy for _, policy in policies] for policies in (before, behind))
        decision = Policies(*abstaining, Does(WRONGS[wrong]), *accepting).decide()
        self.assert_our_fault(decision, f"policy-{len(abstaining) + 1}")

    def test_the_next_recipient_is_asked_about_as_if_nothing_had_happened(self) -> None:
        answers = [raises, lambda: TO_JON]
        policies = Policies(Does(lambda: answers.pop(0)()))
        self.assert_our_fault(policies.decide())
        self.assertEqual(policies.decide(), accepted(TO_JON, "policy-1"))


class Stubborn(Waits):
    """Does not stop when it is cancelled."""

    def route(self, inquiry: Inquiry) -> Any:
        return self._go_on()

    async def _go_on(self) -> Any:
        while True:
            try:
                return await self.deferred
            except CancelledError:
                self.deferred = Deferred()


class WaitingTooLongTests(SynchronousTestCase):
    def test_a_policy_that_never_answers_is_a_451_once_its_time_is_over(self) -> None:
        waiting, behind = Waits(), Says(TO_JON)
        policies = Policies(waiting, behind, timeout=3.0)
        decision = policies.start()
        policies.clock.advance(2.9)
        self.assertNoResult(decision)
        policies.clock.advance(0.2)
        refused = self.successResultOf(decision)
        self.assertEqual((refused.reply.code, refused.policy), (451, "policy-1"))
        self.assertEqual(refused.because, "no answer within 3 seconds")
        self.assertEqual(waiting.cancelled, 1)
        self.assertEqual(behind.asked, [])
        self.assertIn("policy policy-1 has not answered about <jon@example.org> within 3.0 seconds", policies.log[0])
        self.assertEqual(policies.clock.getDelayedCalls(), [])

    def test_what_it_says_too_late_means_nothing(self) -> None:
        stubborn = Stubborn()
        policies = Policies(stubborn)
        decision = policies.start()
        policies.clock.advance(10)
        stubborn.deferred.callback(TO_JON)
        self.assertEqual(self.successResultOf(decision).reply.code, 451)

    def test_an_exception_that_comes_too_late_bothers_nobody(self) -> None:
        stubborn = Stubborn()
        policies = Policies(stubborn)
        decision = policies.start()
        policies.clock.advance(10)
        stubborn.deferred.errback(Oops())
        self.assertEqual(self.successResultOf(decision).reply.code, 451)
        self.assertEqual(len(policies.events), 1)

    def test_all_policies_together_have_half_a_minute(self) -> None:
        waiting = [Waits() for _ in range(5)]
        policies = Policies(*waiting, timeout=9.0)
        decision = policies.start()
        for policy in waiting[:3]:
            policies.clock.advance(8.5)
            policy.deferred.callback(ABSTAIN)
        policies.clock.advance(4.4)
        self.assertNoResult(decision)
        policies.clock.advance(0.2)
        refused = self.successResultOf(decision)
        self.assertEqual((refused.reply.code, refused.policy), (451, "policy-4"))

    def test_a_session_that_ends_cancels_what_it_waits_for(self) -> None:
        for waiting in Waits(), Stubborn():
            policies = Policies(waiting, Says(TO_JON))
            decision = policies.start()
            decision.cancel()
            self.failureResultOf(decision, CancelledError)
            self.assertEqual(policies.clock.getDelayedCalls(), [])
            self.assertEqual(policies.events, [])
            self.assertEqual(waiting.cancelled, 1)


class ObservingTests(SynchronousTestCase):
    def test_an_observer_hears_of_each_policy_in_order(self) -> None:
        waiting = Waits()
        policies = Policies(Says(ABSTAIN), waiting, Says(TO_JON))
        steps: list[Step] = []
        policies.start(observe=steps.append)
        policies.clock.advance(2.5)
        waiting.deferred.callback(UNKNOWN)
        self.assertEqual(steps, [Asked(JON, "policy-1", ABSTAIN, 0.0), Asked(JON, "policy-2", UNKNOWN, 2.5)])
        self.assertEqual([step.because for step in steps if isinstance(step, Asked)], ["", "nobody by that name"])

    def test_an_observer_hears_which_condition_has_skipped_a_policy(self) -> None:
        steps: list[Step] = []
        Policies(Says(TO_JON), when=When(authenticated=True)).decide(observe=steps.append)
        self.assertEqual(steps, [Skipped(JON, "policy-1", "authenticated")])

    def test_an_observer_hears_that_a_policy_has_failed(self) -> None:
        steps: list[Any] = []
        Policies(Does(raises)).decide(observe=steps.append)
        self.assertEqual([(step.failed, step.because) for step in steps], [(True, "raised Oops")])

    @given(st.lists(ways(st.sampled_from([ABSTAIN, None, *VERDICTS]))))
    def test_who_is_observed_decides_no_otherwise(self, policies: list[tuple[Any, Any]]) -> None:
        chosen = [policy for _, policy in policies]
        steps: list[Step] = []
        self.assertEqual(Policies(*chosen).decide(observe=steps.append), Policies(*chosen).decide())
        self.assertEqual([step.policy for step in steps], [f"policy-{n}" for n in range(1, len(steps) + 1)])

    @given(st.data())
    def test_the_short_way_is_told_of_as_the_long_one_is(self, data: st.DataObject) -> None:
        """Whatever policies say, note, look at and do wrong, with a decision and without."""
        looked = st.lists(st.sampled_from("abc"), max_size=60)
        policies = data.draw(
            st.lists(st.tuples(acts(), looked, st.sampled_from((None, Guard(When(authenticated=True))))))
        )
        told: list[list[Step]] = []
        decisions: list[Decision] = []
        for short in True, False:
            clock = Clock()
            stations = [
                Station(str(number), LooksFirst(clock, looks, act), guard)
                for number, (act, looks, guard) in enumerate(policies)
            ]
            chain = Chain(stations, ReactorClock(clock), Logger(namespace="tests", observer=lambda event: None))
            steps: list[Step] = []
            question = inquiry("jon@example.org")
            ask = chain.decide if short else chain.route
            decision = start(ask(question, steps.append))
            assert isinstance(decision, Accepted | Refused), "something waits"
            decisions.append(decision)
            told.append(steps)
            self.assertEqual((at_work(), LOOKS.get()), ("", None))
        self.assertEqual(decisions[0], decisions[1])
        self.assertEqual(told[0], told[1])
        self.assertEqual([type(step) for step in told[0]], [type(step) for step in told[1]])

    def test_what_is_looked_at_behind_an_answer_is_not_told_of_the_next_policy(self) -> None:
        first: list[list[Look] | None] = []

        def looks() -> Any:
            note("dns", "before", "found")
            first.append(LOOKS.get())
            return ABSTAIN

        def looks_for_another() -> Any:
            assert first[0] is not None
            first[0].append(Look("dns", "late", "found"))
            return TO_JON

        policies = Policies(Does(looks), Does(looks_for_another))
        steps: list[Step] = []
        start(policies.chain.decide(inquiry("jon@example.org"), steps.append))
        self.assertEqual([[look[1] for look in step.looks] for step in steps], [["before"], []])

    def test_nor_is_it_where_there_was_nothing_to_look_at_before(self) -> None:
        later: Deferred[None] = Deferred()

        async def looks_behind_its_answer() -> None:
            await later
            note("dns", "late", "found")

        def answers_at_once() -> Any:
            start(looks_behind_its_answer())
            return ABSTAIN

        waits = Waits()
        policies = Policies(Does(answers_at_once), waits)
        steps: list[Step] = []
        decision = start(policies.chain.decide(inquiry("jon@example.org"), steps.append))
        later.callback(None)
        waits.deferred.callback(TO_JON)
        self.successResultOf(decision)
        self.assertEqual([step.looks for step in steps], [(), ()])

    def test_each_policy_has_taken_its_own_time(self) -> None:
        clock = Clock()
        policies = [LooksFirst(clock, "ab", lambda: ABSTAIN), LooksFirst(clock, "abc", lambda: TO_JON)]
        chain = Chain([Station("", policy) for policy in policies], ReactorClock(clock), Logger())
        for ask in chain.decide, chain.route:
            steps: list[Step] = []
            start(ask(inquiry("jon@example.org"), steps.append))
            self.assertEqual([step.milliseconds for step in steps], [2000, 3000])
