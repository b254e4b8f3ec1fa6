"""What an attempt believes of what a transmitter says, and what it remembers when it is cut short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.delivery.attempt import Attempts, Judgements
from relay.delivery.exchangers import Exchangers
from relay.interfaces import Claim, Consignment, Interrupted, ITransmitter, Report
from relay.mail.outcome import Carried, Peer, Relayed
from relay.mail.queue import Recipient
from relay.net.waiting import start
from tests.delivery_world import DeliveryWorld, forwarded

TAKEN = Carried(True, "mx.example.net", "250 Ok")


@implementer(ITransmitter)
@define
class Scripted:
    """A transmitter that says what a test wants it to say."""

    say: Callable[[Sequence[Recipient]], Any]

    async def transmit(
        self, consignment: Consignment, peer: Peer, sent: Any = None, place: Any = None
    ) -> Sequence[Report]:
        return await self.say(consignment.recipients)  # type: ignore[no-any-return]


class AttemptTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = DeliveryWorld(running=False)
        [self.ann] = self.claimed("ann@example.net")
        [self.both] = self.claimed("bob@example.net", "zoe@example.net")

    def claimed(self, *addresses: str) -> Sequence[Claim]:
        _, claims = self.world.enrol(*(forwarded(address) for address in addresses))
        return claims

    def attempting(self, say: Callable[[Sequence[Recipient]], Any]) -> Attempts:
        return Attempts({}, Scripted(say), lambda hop: Exchangers((Peer(hop.name, "192.0.2.1"),)))

    def carry(self, claim: Claim, reports: Callable[[Sequence[Recipient]], Sequence[Report]]) -> Judgements:
        async def say(recipients: Sequence[Recipient]) -> Sequence[Report]:
            return reports(recipients)

        judgements: Any = start(self.attempting(say).carry(claim))
        return judgements  # type: ignore[no-any-return]

    def relayed(self, judgements: Judgements) -> list[str]:
        return sorted(id for id, judgement in judgements.items() if isinstance(judgement.outcome, Relayed))

    def ids(self, claim: Claim) -> list[str]:
        return [pending.recipient.id for pending in claim.pending]

    def test_what_was_taken_is_relayed(self) -> None:
        judgements = self.carry(self.ann, lambda recipients: [Report(recipients[0], TAKEN)])
        self.assertEqual(self.relayed(judgements), self.ids(self.ann))

    def test_a_report_of_somebody_else_is_not_one_of_this_recipient(self) -> None:
        other = self.both.pending[0].recipient
        judgements = self.carry(self.ann, lambda _: [Report(other, TAKEN)])
        self.assertEqual(list(judgements), self.ids(self.ann))
        self.assertEqual(self.relayed(judgements), [])

    def test_one_report_is_not_one_of_two_recipients(self) -> None:
        judgements = self.carry(self.both, lambda recipients: [Report(recipients[0], TAKEN)])
        self.assertEqual(sorted(judgements), self.ids(self.both))
        self.assertEqual(self.relayed(judgements), self.ids(self.both)[:1])

    def test_what_is_no_report_is_our_own_fault_and_means_later(self) -> None:
        judgements = self.carry(self.ann, lambda _: [None])  # type: ignore[list-item]
        self.assertEqual(judgements[self.ids(self.ann)[0]].outcome.status, "4.3.0")  # type: ignore[union-attr]
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)

    def test_what_was_promised_before_an_attempt_was_cut_short_is_not_forgotten(self) -> None:
        first = self.both.pending[0].recipient

        async def say(recipients: Sequence[Recipient]) -> Sequence[Report]:
            waiting: Deferred[None] = Deferred()
            try:
                await waiting
            except Exception as problem:
                raise Interrupted([Report(first, TAKEN)]) from problem
            return ()

        carrying: Any = start(self.attempting(say).carry(self.both))
        carrying.cancel()
        judgements = self.successResultOf(carrying)
        self.assertEqual(self.relayed(judgements), [first.id])
        self.assertEqual(list(judgements), [first.id])

    def test_what_was_promised_before_content_could_not_be_read_is_not_forgotten(self) -> None:
        async def say(recipients: Sequence[Recipient]) -> Sequence[Report]:
            raise Interrupted([Report(recipients[0], TAKEN)]) from OSError(5, "it cannot be read")

        judgements: Any = start(self.attempting(say).carry(self.both))
        self.assertEqual(self.relayed(judgements), self.ids(self.both)[:1])
        self.assertEqual(sorted(judgements), self.ids(self.both))
        self.assertEqual(len(self.flushLoggedErrors(Interrupted)), 1)
