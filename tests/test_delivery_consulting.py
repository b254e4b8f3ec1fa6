"""Policies before each attempt: what they let through, put off, refuse and send elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from relay.config.policies import When
from relay.delivery.attempt import Attempts, Judgements
from relay.delivery.consulting import Consulted
from relay.delivery.exchangers import Exchangers
from relay.interfaces import Claim, Consignment, IAttemptPolicy, IAttemptScreening, ITransmitter, Report
from relay.mail.outcome import Carried, Delayed, Failed, Peer, Relayed
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Accept, Delay, Forward, Hold, Reject
from relay.net.clock import ReactorClock
from relay.net.waiting import start
from relay.policy.chain import Chain, Station
from relay.policy.guard import Guard
from tests.delivery_world import DeliveryWorld, forwarded

OFF_HOURS = Delay(Reply.of(450, "4.2.1", "not at this hour"), because="the office is closed")
NEVER = Reject(Reply.of(550, "5.7.1", "not there"), because="a list that we do not serve")


@implementer(ITransmitter)
class Taking:
    """Takes all mail, and notes where it went."""

    def __init__(self) -> None:
        self.carried: list[tuple[str, str]] = []

    async def transmit(self, consignment: Consignment, peer: Peer, *more: Any) -> Sequence[Report]:
        self.carried += [(str(recipient.address), peer.name) for recipient in consignment.recipients]
        return [Report(recipient, Carried(True, peer.name)) for recipient in consignment.recipients]


@implementer(IAttemptPolicy)
class Says:
    def __init__(self, answer: Any = ABSTAIN) -> None:
        self.answer = answer
        self.asked: list[Any] = []

    def attempt(self, inquiry: Any) -> Any:
        self.asked.append(inquiry)
        return self.answer(inquiry) if callable(self.answer) else self.answer


class ConsultingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.transmitter = Taking()
        self.time = Clock()
        self.events: list[Any] = []
        world = DeliveryWorld(running=False)
        _, (self.claim,) = world.enrol(forwarded("ann@example.net"), forwarded("bob@example.net"))

    def consulted(self, *policies: Any, when: When | None = None) -> Consulted:
        guard = None if when is None else Guard(when)
        stations = [Station(f"policy-{number}", policy, guard) for number, policy in enumerate(policies, 1)]
        chain = Chain(stations, ReactorClock(self.time), Logger(observer=self.events.append))
        verifyObject(IAttemptScreening, chain)
        attempts = Attempts({}, self.transmitter, lambda hop: Exchangers((Peer(hop.name, "192.0.2.1"),)))
        return Consulted(attempts, chain)

    def carry(self, *policies: Any, claim: Claim | None = None, when: When | None = None) -> Any:
        return start(self.consulted(*policies, when=when).carry(claim or self.claim))

    def outcomes(self, judgements: Judgements) -> list[type]:
        return [type(judgements[each.recipient.id].outcome) for each in self.claim.pending]

    def test_what_policies_let_through_is_carried(self) -> None:
        for verdict in (ABSTAIN, Accept()):
            self.assertEqual(self.outcomes(self.carry(Says(verdict))), [Relayed, Relayed])

    def test_a_copy_is_put_off_and_the_other_is_carried(self) -> None:
        policy = Says(lambda inquiry: OFF_HOURS if str(inquiry.recipient) == "ann@example.net" else ABSTAIN)
        judgements = self.carry(policy)
        self.assertEqual(self.outcomes(judgements), [Delayed, Relayed])
        outcome = judgements[self.claim.pending[0].recipient.id].outcome
        self.assertEqual((outcome.status, outcome.because), ("4.2.1", "put off by policy"))
        self.assertEqual(self.transmitter.carried, [("bob@example.net", "example.net")])

    def test_a_copy_fails_that_a_policy_refuses(self) -> None:
        judgements = self.carry(Says(NEVER))
        self.assertEqual(self.outcomes(judgements), [Failed, Failed])
        self.assertEqual(self.transmitter.carried, [])
        self.assertEqual(judgements[self.claim.pending[0].recipient.id].note, "a list that we do not serve")

    def test_this_time_it_goes_elsewhere(self) -> None:
        self.carry(Says(Forward("other.example")))
        self.assertEqual({name for _, name in self.transmitter.carried}, {"other.example"})

    def test_the_first_that_does_not_abstain_decides_and_guards_hold(self) -> None:
        self.assertEqual(self.outcomes(self.carry(Says(), Says(OFF_HOURS), Says(NEVER))), [Delayed, Delayed])
        guarded = When(recipient=("bob@example.net",))
        self.assertEqual(self.outcomes(self.carry(Says(NEVER), when=guarded)), [Relayed, Failed])

    def test_a_policy_that_fails_puts_it_off(self) -> None:
        def raises(inquiry: Any) -> Any:
            raise LookupError

        for wrong in (raises, None, Hold()):
            self.assertEqual(self.outcomes(self.carry(Says(wrong))), [Delayed, Delayed])

    def test_a_policy_is_told_what_the_queue_knows(self) -> None:
        policy = Says()
        self.carry(policy)
        asked = policy.asked[0]
        pending = self.claim.pending[0]
        self.assertEqual(asked.id, self.claim.entry.id)
        self.assertEqual((asked.recipient, asked.route), (pending.recipient.address, pending.recipient.route))
        self.assertEqual((asked.attempts, asked.accepted), (0, self.claim.entry.arrived))

    def test_what_was_decided_before_it_is_cut_short_stands(self) -> None:
        never: Deferred[Any] = Deferred()
        policy = Says(lambda inquiry: NEVER if str(inquiry.recipient) == "ann@example.net" else never)
        carrying = self.carry(policy)
        carrying.cancel()
        judgements = self.successResultOf(carrying)
        self.assertEqual(list(judgements), [self.claim.pending[0].recipient.id])
        never.addErrback(lambda failure: failure.trap(CancelledError))

    def test_who_takes_time_for_each_takes_it_for_all_together(self) -> None:
        names = [f"user-{number}@example.net" for number in range(500)]
        _, (claim,) = DeliveryWorld(running=False).enrol(*[forwarded(name) for name in names])

        def thinks(inquiry: Any) -> Deferred[Any]:
            answer: Deferred[Any] = Deferred()
            self.time.callLater(9, answer.callback, ABSTAIN)
            return answer

        carrying = self.carry(Says(thinks), Says(thinks), claim=claim)
        self.time.pump([9, 9])
        self.successResultOf(carrying)
        self.assertEqual([name for name, _ in self.transmitter.carried], names)

    def test_who_never_answers_about_one_is_named_and_the_others_are_carried(self) -> None:
        policy = Says(lambda inquiry: Deferred() if str(inquiry.recipient) == "ann@example.net" else ABSTAIN)
        carrying = self.carry(Says(), policy)
        self.time.advance(11)
        self.assertEqual(self.outcomes(self.successResultOf(carrying)), [Delayed, Relayed])
        self.assertEqual(self.transmitter.carried, [("bob@example.net", "example.net")])
        (event,) = self.events
        self.assertEqual((event["policy"], event["about"]), ("policy-2", "<ann@example.net>"))

    def test_when_it_is_cut_short_nobody_thinks_about_anybody_any_more(self) -> None:
        cancelled: list[Any] = []
        carrying = self.carry(Says(lambda inquiry: Deferred(cancelled.append)))
        carrying.cancel()
        self.assertEqual(self.successResultOf(carrying), {})
        self.assertEqual(len(cancelled), 2)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_policies_that_cannot_be_asked_about_one_put_it_off_and_the_other_is_carried(self) -> None:
        @implementer(IAttemptScreening)
        class Broken:
            asks_attempts = True

            async def attempt(self, inquiry: Any, about: Any) -> Any:
                if str(inquiry.recipient) == "ann@example.net":
                    raise LookupError
                return ABSTAIN

        consulted = evolve(self.consulted(), policies=Broken(), log=Logger(observer=self.events.append))
        self.assertEqual(self.outcomes(start(consulted.carry(self.claim))), [Delayed, Relayed])
        self.assertEqual(len(self.events), 1)
