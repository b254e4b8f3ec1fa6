"""
One attempt: a claim's recipients of one destination, carried as far as they can be carried now.

Which host comes next is decided by the table of troubles alone. A recipient that is settled is never sent again, and
what an attempt has found out is never forgotten, even if it is cut short.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias, get_args

from attrs import field, frozen
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from zope.interface import Attribute

from relay.delivery.exchangers import Exchangers
from relay.delivery.trouble import Judgement, after_another_host, judge
from relay.interfaces import (
    Claim,
    Consignment,
    IAgent,
    Interrupted,
    IPassing,
    IPlace,
    ITransmitter,
    ITraveller,
    IWillingAgent,
    IWillingTransmitter,
    Report,
)
from relay.mail.outcome import Broke, Carried, Fact, Misbehaved, Peer, Phase, RefusedByPolicy, Unresolved
from relay.mail.queue import Recipient
from relay.mail.routing import Deliver, Forward, NextHop, Reject, Route

#: By recipient's id. Who is not in it was not tried, or nobody knows what became of it.
Judgements: TypeAlias = dict[str, Judgement]
#: Plugins are not checked by mypy: what is none of these is no fact.
_FACTS = get_args(Fact)
#: What is known is said at once.
Find: TypeAlias = Callable[[NextHop], "Exchangers | Awaitable[Exchangers | Unresolved]"]
#: Those who go the same way together.
_Together: TypeAlias = tuple[Recipient, ...]


class ICourse(ITraveller):
    """A traveller that is told, too, how far its attempt came without waiting."""

    found: Exchangers | Awaitable[Exchangers | Unresolved] | None = Attribute(
        "Where to, or who will say it; `None`: it has not begun, or not toward a host."
    )
    attempt: Any = Attribute("The `IPassing` to the first host there, or with the agent, while that is under way.")
    passing: IPassing | None = Attribute("The same, if it is over and there is more to do.")


@frozen
class Attempts:
    """
    Makes attempts. An exception of an agent, of the transmitter or of the search for hosts is our fault: it is logged,
    and the recipients are delayed.
    """

    agents: Mapping[str, IAgent]
    transmitter: ITransmitter
    find: Find
    #: How much of an attempt one next hop may take: addresses that are tried, and sessions in which somebody
    #: answered. Over it comes the next hop after it, which the operator has named for that, or a later attempt.
    addresses: int = 5
    sessions: int = 3
    log: Logger = field(factory=lambda: Logger(namespace="relay.delivery"))
    #: The transmitter, if it is willing.
    _willing: IWillingTransmitter | None = field(init=False, repr=False, eq=False)

    @_willing.default
    def _ask_transmitter(self) -> IWillingTransmitter | None:
        return self.transmitter if IWillingTransmitter.providedBy(self.transmitter) else None

    def begin(self, claim: Claim, course: ICourse) -> bool:
        """
        Begin with the one recipient that nearly every claim is for, in one step, if its agent is willing, or if it is
        known where to and there is or may be a connection for it: then this is true, and `course` is told when that is
        over. The attempt is over with it, unless there is more to do than to say that the copy was carried. All else is
        for `carry`, which is handed `course` if it has begun. Never raises.
        """
        willing, pending, entry = self._willing, claim.pending, claim.entry
        recipient = pending[0].recipient
        route = recipient.route
        if len(pending) != 1 or entry.envelope.deliver_by is not None:
            return False
        if type(route) is not Forward or willing is None:
            return type(route) is Deliver and self._hand_over(route, claim, recipient, course)
        next_hop = route.next_hops[0]
        try:
            found = self.find(next_hop)
            passing = None
            if type(found) is Exchangers:
                consignment = Consignment(entry, (recipient,), claim.content, entry.head, next_hop)
                passing = willing.set_off(consignment, found.peers[0], course)
        except Exception:
            # Ours. It is met again, and dealt with, where there is time for that.
            return False
        course.found = found
        if passing is None or passing.over:
            course.passing = passing
            return False
        course.attempt = passing
        return True

    def _hand_over(self, route: Deliver, claim: Claim, recipient: Recipient, course: ICourse) -> bool:
        """`begin` with an agent."""
        entry = claim.entry
        try:
            agent = self.agents[route.agent]
            if not IWillingAgent.providedBy(agent):
                return False
            consignment = Consignment(entry, (recipient,), claim.content, entry.head, fresh=claim.fresh)
            passing = agent.set_off(consignment, course)
        except Exception:
            # It is met again, as above.
            return False
        if passing is None or passing.over:
            course.passing = passing
            return False
        course.attempt = passing
        return True

    async def carry(
        self,
        claim: Claim,
        sent: Callable[[], None] | None = None,
        place: IPlace | None = None,
        begun: ICourse | None = None,
    ) -> Judgements:
        """
        What became of each recipient. Never raises. `sent` and `place` are as in `ITransmitter.transmit`; `begun` is
        gone on with, if it came to a passing that is over.

        When it is cancelled it returns what it knows by then.
        """
        judgements: Judgements = {}
        try:
            groups = _by_route(claim)
            if len(groups) > 1:
                # Behind one the next follows.
                sent = None
            for route, recipients in groups:
                if judgements and place is not None:
                    # Those before have had a connection, on which somebody may be by now.
                    place.leave()
                match route:
                    case Forward():
                        left = recipients
                        for next_hop in route.next_hops:
                            left = await self._toward(next_hop, claim, left, judgements, sent, place, begun)
                            begun = None
                            if not left:
                                break
                    case Deliver(agent):
                        passing = None if begun is None else begun.passing
                        await self._deliver(agent, claim, recipients, judgements, passing)
                    case Reject(reply, because):
                        for recipient in recipients:
                            judgements[recipient.id] = judge(RefusedByPolicy(reply, because))
                    case _:  # Hold and Discard are never claimed: whoever handed us one is at fault
                        self._misbehaved(f"the spool ({type(route).__name__})", recipients, judgements)
        except CancelledError:
            pass
        except Exception:
            self.log.failure("The attempt to carry {id} failed", id=claim.entry.id)
        return judgements

    async def _deliver(
        self, name: str, claim: Claim, recipients: _Together, judgements: Judgements, passing: IPassing | None
    ) -> None:
        try:
            facts = self._facts(name, recipients, await self._answer(name, claim, recipients, passing))
        except CancelledError:
            raise
        except Exception:
            self.log.failure("The agent {agent} failed with {id}", agent=name, id=claim.entry.id)
            self._misbehaved(name, recipients, judgements)
            return
        for recipient, fact in facts:
            judgements[recipient.id] = judge(fact)

    async def _answer(
        self, name: str, claim: Claim, recipients: _Together, passing: IPassing | None
    ) -> Sequence[Report]:
        if passing is not None:
            if passing.problem is not None:
                raise passing.problem
            return [*map(Report, recipients, passing.facts)]
        answer = self.agents[name].carry(Consignment(claim.entry, recipients, claim.content, claim.entry.head))
        return (await answer) if isinstance(answer, Awaitable) else answer

    async def _toward(
        self,
        next_hop: NextHop,
        claim: Claim,
        left: _Together,
        judgements: Judgements,
        sent: Callable[[], None] | None,
        place: IPlace | None,
        begun: ICourse | None,
    ) -> _Together:
        """One host after the other, until nobody is left; who is left may try the next hop after this."""
        found, passing = (None, None) if begun is None else (begun.found, begun.passing)
        if found is None:
            found = self.find(next_hop)
        if not isinstance(found, Exchangers):
            nowhere = await self._look_for(found, next_hop, claim)
            if not isinstance(nowhere, Exchangers):
                return _record([(recipient, nowhere) for recipient in left], judgements, next_hop)
            found = nowhere
        sessions = 0
        for peer in found.peers[: self.addresses]:
            try:
                consignment = Consignment(claim.entry, left, claim.content, claim.entry.head, next_hop)
                if passing is not None and self._willing is not None:
                    begun_with, passing = passing, None
                    reports = await self._willing.transmit(consignment, peer, sent, place, begun_with)
                else:
                    reports = await self.transmitter.transmit(consignment, peer, sent, place)
                if len(reports) == 1 and isinstance(reports[0].fact, Carried) and left == (reports[0].recipient,):
                    # So nearly every attempt ends.
                    judgements[left[0].id] = judge(reports[0].fact)
                    return ()
                facts = self._facts("smtp", left, reports)
            except CancelledError:
                raise
            except Exception as problem:
                facts = self._of_trouble(problem, claim, left, peer, next_hop, judgements)
            left = _record(facts, judgements, next_hop)
            if left and place is not None:
                place.leave()
            nobody_there = all(isinstance(fact, Broke) and fact.phase is Phase.CONNECT for _, fact in facts)
            sessions += not nobody_there
            if not left or sessions >= self.sessions:
                break
        return left

    async def _look_for(
        self, finding: Awaitable[Exchangers | Unresolved], next_hop: NextHop, claim: Claim
    ) -> Exchangers | Unresolved | Misbehaved:
        try:
            found = await finding
            if not isinstance(found, Exchangers | Unresolved):
                raise TypeError(f"{found!r} is not where to go")
            return found
        except CancelledError:
            raise
        except Exception:
            self.log.failure("The search for {hop} failed, for {id}", hop=str(next_hop), id=claim.entry.id)
            return Misbehaved("exchangers")

    def _of_trouble(
        self,
        problem: Exception,
        claim: Claim,
        recipients: _Together,
        peer: Peer,
        next_hop: NextHop,
        judgements: Judgements,
    ) -> Sequence[tuple[Recipient, Fact]]:
        """What the transmitter has found out before it stumbled over `problem`, which is being dealt with."""
        known: Sequence[Report] = problem.reports if isinstance(problem, Interrupted) else ()
        if isinstance(problem.__cause__, CancelledError):
            # Cut short: what was promised by then is not sent again.
            _record([(report.recipient, report.fact) for report in known], judgements, next_hop)
            raise CancelledError from problem
        self.log.failure("The transmitter failed with {id} to {peer}", id=claim.entry.id, peer=str(peer))
        facts = {report.recipient.id: report.fact for report in known}
        return [(recipient, facts.get(recipient.id, Misbehaved("smtp"))) for recipient in recipients]

    def _facts(
        self, agent: str, recipients: Sequence[Recipient], reports: Sequence[Report]
    ) -> Sequence[tuple[Recipient, Fact]]:
        """
        One fact for each recipient, whatever the agent has reported. `Carried` is believed even beside another
        report: to do otherwise would make a duplicate.
        """
        facts: dict[str, Fact] = {}
        for report in reports:
            if isinstance(report.fact, _FACTS) and not isinstance(facts.get(report.recipient.id), Carried):
                facts[report.recipient.id] = report.fact
        missing = [recipient.id for recipient in recipients if recipient.id not in facts]
        if missing or len(reports) != len(recipients):
            self.log.error(
                "The agent {agent} made {count} reports of {recipients} recipients, and none of {missing}",
                agent=agent,
                count=len(reports),
                recipients=len(recipients),
                missing=missing,
            )
        return [(recipient, facts.get(recipient.id, Misbehaved(agent))) for recipient in recipients]

    def _misbehaved(self, who: str, recipients: Sequence[Recipient], judgements: Judgements) -> None:
        for recipient in recipients:
            judgements[recipient.id] = judge(Misbehaved(who))


def known(claim: Claim, passing: IPassing) -> Judgements:
    """What was found out by an attempt that was begun in one step, if nothing more becomes of it."""
    return {pending.recipient.id: judge(fact) for pending, fact in zip(claim.pending, passing.facts, strict=False)}


def _by_route(claim: Claim) -> Sequence[tuple[Route, _Together]]:
    """
    Recipients that can go in one consignment: one agent's whatever its parameters, or the same next hops, which are
    told the same reverse-path.

    A destination's name is that of the first next hop; what comes after it may differ.
    """
    pending = claim.pending
    if len(pending) == 1:
        recipient = pending[0].recipient
        return ((recipient.route, (recipient,)),)
    groups: dict[object, tuple[Route, list[Recipient]]] = {}
    for one in pending:
        recipient, route = one.recipient, one.recipient.route
        match route:
            case Deliver(agent):
                key: object = (Deliver, agent)
            case Forward(next_hops):
                key = (Forward, next_hops, route.reverse_path)
            case _:
                key = recipient.id
        groups.setdefault(key, (route, []))[1].append(recipient)
    return [(route, tuple(recipients)) for route, recipients in groups.values()]


def _record(facts: Sequence[tuple[Recipient, Fact]], judgements: Judgements, next_hop: NextHop) -> _Together:
    """Note what these facts mean, and return the recipients for which another host may be asked."""
    again: list[Recipient] = []
    for recipient, fact in facts:
        # The domain of the address is the recipient's to get right; every other name was written by the operator.
        appointed = not next_hop.mx or next_hop.name != recipient.address.domain
        judgement = judge(fact, appointed=appointed)
        judgements[recipient.id] = after_another_host(judgements.get(recipient.id), judgement)
        if judgement.next_host:
            again.append(recipient)
    return tuple(again)
