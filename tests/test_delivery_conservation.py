"""
Law L3 as a machine: whatever happens, each recipient is exactly one of unsettled, delivered, relayed, failed, or deleted
by an operator's act that is recorded.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher

from relay.control.api import Asked
from relay.control.dispatching import Dispatching
from relay.control.queue import QueueDesk
from relay.control.running import Running
from relay.delivery.destination import Limits, Particular
from relay.delivery.health import Rate
from relay.interfaces import Consignment, Enrol, OutcomeUnknown, Report, Settle, SpoolError
from relay.mail.decision import Accepted, Placement, Refused
from relay.mail.dsn import Notify, Wishes
from relay.mail.envelope import ByMode, DeliverBy
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
from relay.mail.queue import EXPANSION, Entry, Recipient
from relay.mail.reply import Reply
from relay.mail.routing import Deliver, Forward
from relay.mail.selection import State
from relay.mail.waiting import Reason
from relay.net.waiting import start
from tests.delivery_world import JON, DeliveryWorld, expansion, forwarded, local, wishing
from tests.test_delivery_today import Routes
from tests.test_notice import status_of

MX = Peer("mx", "192.0.2.1")
TAKEN = Carried(True, "mx")
FACTS: list[Fact] = [
    TAKEN,
    Carried(True, "mx", told=True),
    Answered(Reply.of(550, "5.1.1", "unknown"), Phase.RCPT, MX),
    Answered(Reply.of(450, "4.7.1", "greylisted"), Phase.RCPT, MX),
    Answered(Reply.of(421, "4.3.2", "busy"), Phase.GREETING, MX),
    Broke(Breakage.REFUSED, Phase.CONNECT, MX),
    Broke(Breakage.LOST, Phase.END, MX),
    Unsuitable(Need.SMTPUTF8, MX),
]
DOMAINS = ["a.example", "b.example", "c.example", "example.org"]
WAY: list[Any] = [None, ("one", "two"), Unresolved(NameTrouble.NO_SUCH_DOMAIN, "x"), KeyError("a bug")]
WISHES = st.sampled_from(
    [
        Wishes(),
        wishing(Notify.NEVER),
        wishing(Notify.SUCCESS),
        wishing(Notify.FAILURE, Notify.DELAY),
        wishing(Notify.SUCCESS, Notify.FAILURE, Notify.DELAY),
    ]
)
#: What else MAIL said; times are seconds from then on.
SAID = st.sampled_from(
    [
        *({} for _ in range(5)),
        {"deliver_by": DeliverBy(1000.0, ByMode.RETURN)},
        {"deliver_by": DeliverBy(1000.0, ByMode.NOTIFY)},
        {"deliver_by": DeliverBy(-5.0, ByMode.NOTIFY), "priority": -4},
        {"release": 4000.0},
        {"release": 90_000.0, "priority": 5},
    ]
)


#: What an operator says: an act, and who is meant.
VERBS = st.sampled_from(["hold", "release", "retry", "delete", "fail", "reroute"])
MEANT = st.sampled_from(
    [
        *({"all": True} for _ in range(6)),
        *({"to": f"@{domain}"} for domain in DOMAINS),
        *({"state": state.value} for state in State),
        {"reason": "refused"},
        {"from": "<>"},
        {"older": 3600},
    ]
)


LIMITS = Limits(destination=2, total=5, held=12, recipients=2, particular={"c.example": Particular(rate=Rate(30, 60))})


class Life(RuleBasedStateMachine):
    """A relay's life: mail comes, hosts answer or do not, the spool fails, the relay is stopped and killed."""

    def __init__(self) -> None:
        super().__init__()
        # What the relay says of the bugs that are played here is not this test's business.
        self.observers = list(globalLogPublisher._observers)
        for observer in self.observers:
            globalLogPublisher.removeObserver(observer)
        self.accepted: dict[str, bool] = {}
        self.names = 0
        #: The ids of messages with a deadline.
        self.deadlines: set[str] = set()
        #: The id of each recipient, by its entry's and its address, as the mail log names it.
        self.named: dict[tuple[str, str], str] = {}
        self.carried: Counter[str] = Counter()
        self.gates: list[Deferred[list[Fact]]] = []
        self.lives = 1
        self.past: list[DeliveryWorld] = []
        self.script: list[Fact | Exception | None] = [TAKEN]
        self.routes = Routes()
        self.live(DeliveryWorld(limits=LIMITS, routes=self.routes))

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
        to=st.lists(st.tuples(st.sampled_from([*DOMAINS, "here", "alias"]), WISHES), min_size=1, max_size=5),
        null=st.booleans(),
        lease=st.booleans(),
        said=SAID,
    )
    def mail_comes(self, to: list[tuple[str, Wishes]], null: bool, lease: bool, said: dict[str, Any]) -> None:
        if not self.world.spool.accepting or self.world.spool._failures:
            return
        recipients, wishes = [], []
        for domain, wished in to:
            # No two recipients have one address: so a notice says which of them it is about.
            self.names += 1
            way = {"here": local, "alias": expansion}.get(domain, forwarded)
            recipients.append(way(f"u{self.names}@{domain}"))
            wishes.append(wishing(Notify.SUCCESS, Notify.FAILURE) if domain == "alias" else wished)
        now = self.world.clock.now()
        said = {
            name: evolve(value, until=now + value.until)
            if isinstance(value, DeliverBy)
            else value and now + value
            if name == "release"
            else value
            for name, value in said.items()
        }
        asked = "asked" if lease else None
        id, claims = self.world.enrol(
            *recipients, reverse_path=None if null else JON, lease=asked, wishes=wishes, **said
        )
        self.accepted.update((f"{id}.{at}", null) for at in range(len(to)))
        self.named.update(((id, str(address)), f"{id}.{at}") for at, (address, _) in enumerate(recipients))
        self.deadlines.update([id] * ("deliver_by" in said))
        self.world.dispatcher.accept(claims, () if claims else self.world.kept(id))

    @rule(domain=st.sampled_from(DOMAINS))
    def somebody_is_in_haste(self, domain: str) -> None:
        # Not at the very moment at which an attempt was due.
        self.world.reactor.advance(0.123)
        with suppress(SpoolError):
            start(self.world.dispatcher.hasten(domain))

    @rule(verb=VERBS, meant=MEANT, via=st.sampled_from(DOMAINS))
    def an_operator_acts(self, verb: str, meant: dict[str, Any], via: str) -> None:
        self.world.reactor.advance(0.123)
        words = {**meant, **({"via": via} if verb == "reroute" else {})}
        with suppress(SpoolError, OutcomeUnknown):
            self.act(verb, words)

    @rule(domain=st.sampled_from(DOMAINS), pausing=st.booleans())
    def an_operator_pauses_or_resumes_a_destination(self, domain: str, pausing: bool) -> None:
        self.world.reactor.advance(0.123)
        (self.world.dispatcher.pause if pausing else self.world.dispatcher.resume)(domain)

    def desk(self) -> QueueDesk:
        world = self.world
        running = Running(
            world.clock, world.spool, world.log, Dispatching(world.dispatcher), "mx", 1, 0.0, list, {}, world.policies
        )
        return QueueDesk(running)

    def act(self, verb: str, words: dict[str, Any]) -> None:
        said = start(self.desk().acts()[f"queue/{verb}"](Asked(words, "root")))
        assert said["next"] == ""

    @rule(
        script=st.lists(st.sampled_from([*FACTS, None, KeyError("a bug")]), min_size=1, max_size=5)
        | st.just([Broke(Breakage.REFUSED, Phase.CONNECT, MX)])
    )
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

    @precondition(lambda self: self.world.hosts.sent)
    @rule(at=st.integers(0, 50))
    def a_host_has_a_message_and_has_not_answered_yet(self, at: int) -> None:
        # Or it has, and this comes too late.
        sent = list(self.world.hosts.sent.values())
        sent[at % len(sent)]()

    @rule(seconds=st.sampled_from([0.5, 5.0, 60.0, 299.0, 301.0, 3600.0, 18000.0, 86400.0]))
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

    @rule(way=st.sampled_from([None, "a.example", "b.example", "here", "nowhere", "a bug"]))
    def the_configuration_changes(self, way: str | None) -> None:
        """Everybody goes this way today; `None`: as they were sent."""
        match way:
            case None:
                self.routes.everybody = None
            case "nowhere":
                self.routes.everybody = Refused(Reply.of(550, "5.7.1", "relaying denied"))
            case "a bug":
                self.routes.everybody = KeyError("a bug")
            case "here":
                self.routes.everybody = Accepted((Placement(JON, JON, Deliver("maildir"), "p"),))
            case domain:
                self.routes.everybody = Accepted((Placement(JON, JON, Forward(domain), "p"),))

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
            limits=LIMITS,
            routes=self.routes,
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
        deleted = {
            self.named.get((event["id"], str(event["recipient"])))
            for world in (*self.past, self.world)
            for event in world.log.said("deleted")
        }
        lost = set(self.accepted) - set(both)
        assert lost <= deleted, "a recipient is lost"
        certain = {
            self.named.get((event["id"], str(event["recipient"])))
            for world in (*self.past, self.world)
            for event in world.log.said("deleted")
            if not event.get("perhaps")
        }
        assert not certain & (set(both) - {None}), "a recipient is there that was deleted"
        assert all(count == 1 for count in both.values()), "a recipient is settled twice, or waits after its settlement"

    @invariant()
    def each_queued_recipient_has_a_reason_from_the_closed_set(self) -> None:
        said = start(self.desk().listed(Asked({"most": "5000"})))
        reasons = {each["id"]: each["why"] for entry in said["entries"] for each in entry["recipients"]}
        assert sorted(reasons) == sorted(self.world.spool.unsettled())
        assert set(reasons.values()) <= {reason.value for reason in Reason}

    @invariant()
    def nobody_is_settled_as_carried_who_was_not(self) -> None:
        for world in (*self.past, self.world):
            for id, outcome in world.spool.settled.items():
                expanded = isinstance(outcome, Delivered) and outcome.by == EXPANSION.agent
                assert expanded or not isinstance(outcome, Delivered | Relayed) or self.carried[id]

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
            for domain in DOMAINS:
                self.world.dispatcher.resume(domain)
            # Failures that nobody has met yet, and what they make of the spool, end with time.
            self.world.pass_time(600.0, step=1.0)
            self.world.spool._failures.clear()
            self.world.pass_time(600.0, step=1.0)
            self.act("release", {"all": True})
            self.world.pass_time(7 * 86400.0, step=600.0)
            assert self.world.spool.unsettled() == []
            assert (self.world.dispatcher.active, self.world.dispatcher.held) == (0, 0)
            assert self.world.reactor.getDelayedCalls() == []
            self.each_recipient_is_exactly_one_of_these()
            self.what_was_asked_for_was_told_once_or_has_a_recorded_reason()
        finally:
            for observer in self.observers:
                globalLogPublisher.addObserver(observer)

    def what_was_asked_for_was_told_once_or_has_a_recorded_reason(self) -> None:
        worlds = (*self.past, self.world)
        told = Counter(
            (f"{fields['X-Relay-Queue-Id']} {one['Final-Recipient'].removeprefix('rfc822; ')}", one["Action"])
            for world in worlds
            for notice in world.spool.notices()
            for fields, *about in [status_of(world.spool.texts[notice.entry.id])]
            for one in about
        )
        unnoticed = {event["id"] for world in worlds for event in world.log.said("unnoticed")}
        for world in worlds:
            for commit in world.spool.commits:
                kept_a_notice = any(isinstance(step, Enrol) for step in commit[1:])
                for step in commit:
                    if isinstance(step, Settle):
                        entry = step.claim.entry
                        for recipient, outcome in step.outcomes:
                            who = f"{entry.id} {recipient.address}"
                            wanted = self.wanted(entry, recipient, outcome)
                            if wanted is None:
                                assert not told[who, "failed"] + told[who, "delivered"] + told[who, "expanded"]
                                assert not told[who, "relayed"] or entry.envelope.deliver_by is not None
                            else:
                                assert told[who, wanted] == 1 or entry.id in unnoticed, (who, wanted)
                                assert kept_a_notice or entry.id in unnoticed
        assert all(count == 1 for (_, action), count in told.items() if action != "delayed"), told
        # A delay may be told for its length, and for a deadline.
        delays = {who: count for (who, action), count in told.items() if action == "delayed"}
        assert all(count <= 1 + (who.partition(" ")[0] in self.deadlines) for who, count in delays.items()), delays
        # Nobody is ever told about a notice.
        senders = {step.entry.envelope.reverse_path for world in worlds for step in world.spool.notices()}
        assert senders <= {None}

    def wanted(self, entry: Entry, recipient: Recipient, outcome: object) -> str | None:
        """What the sender has to be told of this outcome, or `None` for nothing."""
        wishes = recipient.wishes
        if entry.envelope.reverse_path is None:
            return None
        if isinstance(outcome, Failed):
            return "failed" if wishes.wants(Notify.FAILURE) else None
        if isinstance(outcome, Delivered) and wishes.wants(Notify.SUCCESS):
            return "expanded" if recipient.route == EXPANSION else "delivered"
        if isinstance(outcome, Relayed) and wishes.wants(Notify.SUCCESS) and not outcome.told:
            return "relayed"
        return None


LifeTests = Life.TestCase
LifeTests.settings = settings(max_examples=250, stateful_step_count=40)
