"""Law L3 as a machine: whatever happens, each recipient is exactly one of unsettled, delivered, relayed, failed."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher

from relay.delivery.destination import Limits
from relay.interfaces import Consignment, OutcomeUnknown, Report, SpoolError
from relay.mail.address import Address
from relay.mail.decision import Refused
from relay.mail.outcome import (
    Answered,
    Breakage,
    Broke,
    Carried,
    Delivered,
    Fact,
    Failed,
    NameTrouble,
    Need,
    Peer,
    Phase,
    Relayed,
    Unresolved,
    Unsuitable,
)
from relay.mail.reply import Reply
from tests.delivery_world import JON, DeliveryWorld, forwarded, local

MX = Peer("mx", "192.0.2.1")
TAKEN = Carried(True, "mx")
FACTS: list[Fact] = [
    TAKEN,
    Answered(Reply.of(550, "5.1.1", "unknown"), Phase.RCPT, MX),
    Answered(Reply.of(450, "4.7.1", "greylisted"), Phase.RCPT, MX),
    Answered(Reply.of(421, "4.3.2", "busy"), Phase.GREETING, MX),
    Broke(Breakage.REFUSED, Phase.CONNECT, MX),
    Broke(Breakage.LOST, Phase.END, MX),
    Unsuitable(Need.SMTPUTF8, MX),
]
DOMAINS = ["a.example", "b.example", "c.example", "example.org"]
WAY: list[Any] = [None, ("one", "two"), Unresolved(NameTrouble.NO_SUCH_DOMAIN, "x"), KeyError("a bug")]


class Life(RuleBasedStateMachine):
    """A relay's life: mail comes, hosts answer or do not, the spool fails, the relay is stopped and killed."""

    def __init__(self) -> None:
        super().__init__()
        # What the relay says of the bugs that are played here is not this test's business.
        self.observers = list(globalLogPublisher._observers)
        for observer in self.observers:
            globalLogPublisher.removeObserver(observer)
        self.accepted: dict[str, bool] = {}
        self.carried: Counter[str] = Counter()
        self.gates: list[Deferred[list[Fact]]] = []
        self.lives = 1
        self.past: list[DeliveryWorld] = []
        self.script: list[Fact | Exception | None] = [TAKEN]
        self.live(DeliveryWorld(limits=Limits(destination=2, total=5, held=12, recipients=2)))

    def live(self, world: DeliveryWorld) -> None:
        self.world = world
        world.maildir.script = self.mailbox
        for name in (*(f"mx.{domain}" for domain in DOMAINS), "one", "two"):
            world.hosts.scripts[name] = self.host

    def host(self, consignment: Consignment, peer: Peer) -> Any:
        """The next facts of the script, in turn; `None` is a host that takes its time."""
        facts: list[Fact] = []
        for _ in consignment.recipients:
            said = self.script[0]
            self.script = self.script[1:] + self.script[:1]
            if isinstance(said, Exception):
                return said
            if said is None:
                gate: Deferred[list[Fact]] = Deferred()
                gate.addCallback(self.note, consignment)
                self.gates.append(gate)
                return gate
            facts.append(said)
        return self.note(facts, consignment)

    def note(self, facts: list[Fact], consignment: Consignment) -> list[Fact]:
        facts = (facts * len(consignment.recipients))[: len(consignment.recipients)]
        for recipient, fact in zip(consignment.recipients, facts, strict=True):
            self.carried[recipient.id] += isinstance(fact, Carried)
        return facts

    def mailbox(self, consignment: Consignment) -> list[Report]:
        self.note([TAKEN], consignment)
        return [Report(recipient, Carried(False, "jon")) for recipient in consignment.recipients]

    @rule(
        addresses=st.lists(
            st.sampled_from([*(f"x@{domain}" for domain in DOMAINS), "bob@here"]), min_size=1, max_size=5
        ),
        null=st.booleans(),
        lease=st.booleans(),
    )
    def mail_comes(self, addresses: list[str], null: bool, lease: bool) -> None:
        if not self.world.spool.accepting or self.world.spool._failures:
            return
        recipients = [local(address) if address.endswith("@here") else forwarded(address) for address in addresses]
        asked = self.world.dispatcher.lease() if lease else None
        id, claims = self.world.enrol(*recipients, reverse_path=None if null else JON, lease=asked)
        self.accepted.update((f"{id}.{at}", null) for at in range(len(addresses)))
        self.world.dispatcher.accept(claims)

    @rule(script=st.lists(st.sampled_from([*FACTS, None, KeyError("a bug")]), min_size=1, max_size=5))
    def hosts_change(self, script: list[Fact | Exception | None]) -> None:
        self.script = script

    @rule(domain=st.sampled_from(DOMAINS), way=st.sampled_from(WAY))
    def the_dns_changes(self, domain: str, way: Any) -> None:
        self.world.domains[domain] = way

    @precondition(lambda self: self.gates)
    @rule(at=st.integers(0, 50), fact=st.sampled_from(FACTS))
    def a_slow_host_answers(self, at: int, fact: Fact) -> None:
        gate = self.gates.pop(at % len(self.gates))
        if not gate.called:
            gate.callback([fact])

    @rule(seconds=st.sampled_from([0.5, 5.0, 60.0, 299.0, 301.0, 3600.0, 86400.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds, step=max(1.0, seconds / 100))

    @rule(unknown=st.booleans(), kept=st.booleans())
    def the_spool_fails(self, unknown: bool, kept: bool) -> None:
        if unknown:
            self.world.spool.fail(OutcomeUnknown(), kept=kept)
        else:
            self.world.spool.fail(SpoolError("disk full"))

    @rule(refused=st.booleans())
    def policies_change(self, refused: bool) -> None:
        self.world.policies.decisions.clear()
        if refused:
            self.world.policies.decisions[str(JON)] = Refused(Reply.of(451, "4.3.0", "a bug"))

    @rule()
    def it_is_killed(self) -> None:
        """What the dead one still does in another world (a thread, a late answer) is fenced off by its tokens."""
        self.begin_again()

    @rule()
    def it_is_stopped(self) -> None:
        stopped = self.world.dispatcher.stop()
        self.world.pass_time(15, step=1)
        assert stopped.called
        self.begin_again()

    def begin_again(self) -> None:
        self.lives += 1
        old = self.world
        self.past.append(old)
        new = DeliveryWorld(
            limits=Limits(destination=2, total=5, held=12, recipients=2),
            shelf=old.spool.shelf,
            at=old.reactor.seconds(),
            running=False,
        )
        Deferred.fromCoroutine(new.spool.recover())
        new.domains = old.domains
        new.policies = old.policies
        self.live(new)
        new.dispatcher.start()

    @invariant()
    def each_recipient_is_exactly_one_of_these(self) -> None:
        unsettled = Counter(self.world.spool.unsettled())
        settled = Counter(id for world in (*self.past, self.world) for id in world.spool.settled)
        both = unsettled + settled
        assert set(self.accepted) <= set(both), "a recipient is lost"
        assert all(count == 1 for count in both.values()), "a recipient is settled twice, or waits after its settlement"

    @invariant()
    def nobody_is_settled_as_carried_who_was_not(self) -> None:
        for world in (*self.past, self.world):
            for id, outcome in world.spool.settled.items():
                assert not isinstance(outcome, Delivered | Relayed) or self.carried[id]

    @invariant()
    def nobody_is_carried_twice_in_one_life(self) -> None:
        assert all(count <= self.lives for count in self.carried.values())

    def teardown(self) -> None:
        """In the end everything is well again, and a week later all mail has gone."""
        try:
            self.script = [TAKEN]
            self.world.domains.clear()
            self.world.policies.decisions.clear()
            for gate in self.gates:
                if not gate.called:
                    gate.callback([TAKEN])
            self.world.pass_time(7 * 86400.0, step=600.0)
            assert self.world.spool.unsettled() == []
            assert (self.world.dispatcher.active, self.world.dispatcher.held) == (0, 0)
            assert self.world.reactor.getDelayedCalls() == []
            self.each_recipient_is_exactly_one_of_these()
            self.every_failure_was_told_or_has_a_recorded_reason()
        finally:
            for observer in self.observers:
                globalLogPublisher.addObserver(observer)

    def every_failure_was_told_or_has_a_recorded_reason(self) -> None:
        worlds = (*self.past, self.world)
        told = Counter(
            (step.claim.entry.id, len(commit) > 1 and any(type(other).__name__ == "Enrol" for other in commit))
            for world in worlds
            for commit in world.spool.commits
            for step in commit
            if type(step).__name__ == "Settle"
            for _, outcome in step.outcomes
            if isinstance(outcome, Failed) and step.claim.entry.envelope.reverse_path is not None
        )
        unnoticed = {event["id"] for world in worlds for event in world.log.said("unnoticed")}
        assert all(with_notice or id in unnoticed for id, with_notice in told)
        # Nobody is ever told about a notice.
        senders = {step.entry.envelope.reverse_path for world in worlds for step in world.spool.notices()}
        assert senders <= {None}
        assert isinstance(JON, Address)


LifeTests = Life.TestCase
LifeTests.settings = settings(max_examples=60, stateful_step_count=40)
