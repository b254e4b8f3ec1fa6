"""The straight way: a message for a host that has a connection for it needs no coroutine, whatever becomes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from attrs import define, evolve, field, frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from relay.agents.pool import Keeping, Pool
from relay.agents.smtp import Passing, SmtpTransmitter
from relay.delivery.attempt import Attempts
from relay.delivery.consulting import Consulted
from relay.delivery.destination import Limits
from relay.delivery.dispatch import Dispatcher, Pace
from relay.delivery.exchangers import Exchangers
from relay.delivery.notices import Notices
from relay.delivery.retry import Schedules
from relay.delivery.trouble import carried, judge
from relay.delivery.work import Work
from relay.interfaces import (
    Claim,
    Consignment,
    Enrol,
    IAttemptScreening,
    IPassing,
    IPlace,
    ITransmitter,
    IWillingAgent,
    IWillingTransmitter,
    OutcomeUnknown,
    Report,
)
from relay.mail.address import Address
from relay.mail.dsn import NO_WISHES, Notify, Wishes
from relay.mail.envelope import ByMode, Client, DeliverBy, Envelope, Form
from relay.mail.outcome import Carried, Fact, Failed, Peer, Relayed, Unwritten
from relay.mail.phases import AttemptInquiry, AttemptVerdict
from relay.mail.queue import Entry, Recipient, destination
from relay.mail.reply import Reply
from relay.mail.routing import Deliver, Forward, Inquiry, NextHop, Reject
from relay.net.client import Dialer
from relay.net.clock import ReactorClock
from relay.net.waiting import start
from relay.testing.internet import FakeInternet
from relay.testing.peers import Drop, FakeExchange, Moment, Say, Slow, Stall
from tests.delivery_world import JON, Log, Policies, RecordingSpool

PEERS = (Peer("mx1.b.example", "192.0.2.1"), Peer("mx2.b.example", "192.0.2.2"))
ROUTE = Forward(NextHop("b.example", tls="none"))
NO, CLOSING = Say("550 5.1.1 No such mailbox"), Say("421 4.3.2 Closing")
SUCCESS = Wishes(frozenset({Notify.SUCCESS}))


class Noting(SmtpTransmitter):
    """Notes what begins in one step, and what needs more."""

    begun: list[Passing]
    called: list[Any]

    def set_off(self, *more: Any) -> Passing | None:
        passing = super().set_off(*more)
        if passing is not None:
            self.begun.append(passing)
        return passing

    async def transmit(
        self, consignment: Consignment, peer: Peer, sent: Any = None, place: IPlace | None = None, passing: Any = None
    ) -> Sequence[Report]:
        self.called.append(passing)
        return await super().transmit(consignment, peer, sent, place, passing)


@implementer(IAttemptScreening)
class Refusing:
    """Policies that let nothing through."""

    async def attempt(self, attempt: AttemptInquiry, inquiry: Inquiry) -> AttemptVerdict:
        return Reject(Reply.of(550, "5.7.1", "Not now, not ever"))


class StraightTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.time = Clock()
        clock = self.clock = ReactorClock(self.time, lambda: 1.7e9 + self.time.seconds())  # type: ignore[arg-type]
        internet = FakeInternet(self.time)
        self.host, self.other = FakeExchange(clock=self.time), FakeExchange(clock=self.time)
        for peer, host in zip(PEERS, (self.host, self.other), strict=True):
            internet.add(peer.address, host)
        self.spool, self.log = RecordingSpool(clock), Log()
        dialer = Dialer(internet, clock, "relay.example.org")  # type: ignore[arg-type]
        self.transmitter = Noting(dialer, pool=Pool(clock, Keeping()))
        object.__setattr__(self.transmitter, "begun", [])
        object.__setattr__(self.transmitter, "called", [])
        self.dispatcher = Dispatcher(
            spool=self.spool,
            clock=clock,
            mail_log=self.log,
            attempts=Attempts({}, self.transmitter, lambda hop: Exchangers(PEERS)),
            notices=Notices("relay.example.org", Policies(), clock),
            random=lambda: 0.5,
            pace=Pace(attempt=400.0),
        )
        self.dispatcher.start()
        # Somebody has come this way before.
        self.accept()
        self.assertEqual((self.waits, len(self.transmitter.begun), self.transmitter.called), (0, 1, []))
        self.transmitter.begun.clear()

    def accept(
        self,
        content: bytes = b"Subject: hello\r\n\r\nhello\r\n.\r\n",
        wishes: Wishes = NO_WISHES,
        to: Address = JON,
        turns: bool = True,
        route: Forward | Deliver = ROUTE,
        **more: Any,
    ) -> str:
        """A message comes; its recipient's id. `turns`: of the reactor, before the next one does."""
        draft = self.spool.begin(Form.WIRE)
        draft.write(content)
        entry = Entry(
            draft.id, self.clock.now(), Envelope(JON, client=Client("192.0.2.99"), **more), b"Received: here\r\n"
        )
        recipient = Recipient(f"{draft.id}.0", to, to, route, destination(route), "p", wishes)
        claims: Any = start(self.spool.commit([Enrol(entry, draft, (recipient,), 300.0)]))
        self.dispatcher.accept(claims)
        if turns:
            self.pass_time(0.1)
        return recipient.id

    def pass_time(self, seconds: float) -> None:
        self.time.pump([0.0] * 5 + [seconds] + [0.0] * 5)

    @property
    def waits(self) -> int:
        return len(self.spool.unsettled())


class StraightTests(StraightTestCase):
    def test_what_is_carried_is_settled_without_a_coroutine(self) -> None:
        id = self.accept()
        [passing] = self.transmitter.begun
        verifyObject(IPassing, passing)
        self.assertEqual((self.transmitter.called, self.waits, self.dispatcher.held), ([], 0, 0))
        self.assertIsInstance(self.spool.settled[id], Relayed)
        self.assertEqual((self.host.connections, len(self.host.messages), self.host.complaints), (1, 2, []))

    def test_several_at_once_follow_each_other(self) -> None:
        for _ in range(10):
            self.accept()
        self.assertEqual((len(self.transmitter.begun), self.transmitter.called, self.waits), (10, [], 0))
        self.assertEqual((self.host.connections, len(self.host.messages), self.host.complaints), (1, 11, []))

    def test_a_sender_is_told_what_was_refused(self) -> None:
        self.host.at("RCPT", NO, times=1)
        id = self.accept()
        self.assertIsInstance(self.spool.settled[id], Failed)
        self.assertEqual(len(self.spool.notices()), 1)
        self.assertEqual(self.transmitter.called[0], self.transmitter.begun[0])

    def test_another_host_is_asked_where_the_first_one_cannot_take_it_now(self) -> None:
        self.host.at("END", Say("452 4.3.1 Full"), times=1)
        id = self.accept()
        self.assertEqual(len(self.other.messages), 1)
        self.assertIsInstance(self.spool.settled[id], Relayed)

    def test_where_the_connection_was_over_before_it_another_one_is_made(self) -> None:
        for fault in (Drop(), CLOSING):
            self.host.at("MAIL", fault, times=1)
            id = self.accept()
            self.assertIsInstance(self.spool.settled[id], Relayed)
        self.assertEqual((self.host.connections, len(self.host.messages), self.other.connections), (3, 3, 0))

    def test_where_it_is_not_known_what_became_of_it_it_waits(self) -> None:
        self.host.at("END", Drop(), times=1)
        id = self.accept()
        [pending] = self.spool.pending()
        self.assertEqual((pending.recipient.id, pending.attempts), (id, 1))

    def test_whoever_wants_to_hear_of_success_does(self) -> None:
        self.accept(wishes=SUCCESS)
        # The notice goes that way, too.
        self.assertEqual((len(self.transmitter.begun), len(self.spool.notices())), (2, 1))

    def test_so_does_whoever_has_said_until_when_it_has_to_be_there(self) -> None:
        self.accept(deliver_by=DeliverBy(self.clock.now() + 60, ByMode.NOTIFY, trace=True))
        self.assertEqual(len(self.spool.notices()), 1)

    def test_what_came_too_late_is_not_sent(self) -> None:
        id = self.accept(deliver_by=DeliverBy(self.clock.now() - 1, ByMode.RETURN))
        self.assertIsInstance(self.spool.settled[id], Failed)
        # The one that has come before, and the notice.
        self.assertEqual([m.reverse_path for m in self.host.messages], [str(JON), ""])

    def test_content_that_is_damaged_harms_nobody_else(self) -> None:
        self.accept(b"Subject: x\r\n\r\n.\r\nMAIL FROM:<a@b>\r\n.\r\n")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual((self.waits, [message.content for message in self.host.unpromised]), (1, []))
        self.accept()
        self.assertEqual((self.waits, len(self.host.messages)), (1, 2))

    def test_one_that_takes_too_long_is_cut_short(self) -> None:
        self.host.at("END", Stall(), times=1)
        self.accept()
        self.pass_time(300.0)
        self.assertEqual(self.dispatcher.active, 1)
        for _ in range(2):
            self.pass_time(100.0)
        self.assertEqual(self.dispatcher.active, 0)
        self.assertEqual([one.attempts for one in self.spool.pending()], [1])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_what_is_on_its_way_when_another_configuration_comes_is_judged_as_it_began(self) -> None:
        """Whoever refuses all from now on has not refused this one, which is where it was sent."""
        self.host.at("END", Slow(1.0), times=1)
        id = self.accept(wishes=SUCCESS)
        refusing = Consulted(Attempts({}, self.transmitter, lambda hop: Exchangers(PEERS)), Refusing())
        notices = Notices("relay.example.org", Policies(), self.clock)
        self.dispatcher.adopt(
            attempts=refusing,
            notices=notices,
            schedules=Schedules(),
            limits=Limits(),
            routes=Policies(),
            parted=lambda: None,
        )
        self.pass_time(1.0)
        self.assertIsInstance(self.spool.settled[id], Relayed)
        later = self.accept()
        self.assertIsInstance(self.spool.settled[later], Failed)

    def test_at_the_end_it_goes_back_as_it_was(self) -> None:
        self.host.at("DATA", Stall(), times=1)
        id = self.accept()
        stopped = self.dispatcher.stop()
        self.assertNoResult(stopped)
        self.pass_time(5.0)
        self.successResultOf(stopped)
        self.assertEqual(([one.attempts for one in self.spool.pending()], self.spool.unclaimed()), ([0], [id]))

    def test_whose_recipients_somebody_else_has_is_noted_as_lost(self) -> None:
        self.host.at("DATA", Stall(), times=1)
        id = self.accept()
        self.spool.steal(id.rpartition(".")[0])
        for _ in range(4):
            self.pass_time(100.0)
        self.assertEqual((self.dispatcher.active, self.dispatcher.held), (0, 0))
        self.assertIn("claim_lost", [what for what, _ in self.log.events])
        self.assertEqual(len(self.host.messages), 1)

    def settled_together(self, count: int = 4) -> list[str]:
        """So many whose final replies come while the commit of the first one's settlement is under way."""
        self.host.at("END", Slow(1.0), times=count)
        ids = [self.accept() for _ in range(count)]
        self.spool.hold()
        for _ in range(2 * count):
            self.pass_time(1.0)
        self.assertEqual((len(self.host.messages), self.waits), (count + 1, count))
        return ids

    def test_what_is_carried_while_a_commit_runs_is_settled_by_the_next_one(self) -> None:
        ids = self.settled_together()
        before = len(self.spool.commits)
        self.spool.release()
        self.assertEqual([len(steps) for steps in self.spool.commits[before:]], [1, 3])
        self.assertEqual((sorted(self.spool.settled)[-4:], self.waits, self.dispatcher.held), (sorted(ids), 0, 0))

    def test_where_one_of_these_is_somebody_elses_the_others_are_settled_all_the_same(self) -> None:
        ids = self.settled_together()
        self.spool.steal(ids[2].rpartition(".")[0])
        self.spool.release()
        self.assertEqual(([*self.spool.unsettled()], self.dispatcher.held), ([ids[2]], 0))
        self.assertEqual(len(self.log.said("claim_lost")), 1)

    def test_where_they_cannot_be_written_each_is_tried_again_by_itself(self) -> None:
        ids = self.settled_together()
        self.spool.fail(OSError(28, "No space left on device"), OSError(5, "Input/output error"))
        self.spool.release()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertEqual(self.waits, 4)
        for _ in range(12):
            self.pass_time(1.0)
        self.flushLoggedErrors(OSError)
        self.assertEqual((sorted(self.spool.settled)[-4:], self.waits, self.dispatcher.held), (sorted(ids), 0, 0))
        self.assertEqual(len(self.host.messages), 5)

    def test_where_nobody_knows_whether_they_were_written_none_is_sent_again(self) -> None:
        self.settled_together()
        self.spool.fail(OutcomeUnknown("the disk is gone"), OutcomeUnknown("the disk is gone"), kept=True)
        self.spool.release()
        for _ in range(12):
            self.pass_time(1.0)
        self.flushLoggedErrors(OutcomeUnknown)
        self.assertEqual((self.waits, self.dispatcher.held, len(self.host.messages)), (0, 0, 5))


@implementer(IPassing)
@define(eq=False)
class Gone:
    """What became of it is known."""

    facts: Sequence[Fact]
    over: bool = False
    problem: BaseException | None = None

    def cancel(self) -> None:
        """There is nothing to end."""


@implementer(IWillingTransmitter)
@define
class Foregone:
    """Hosts of which it is known what they say: when they are met, or a little later."""

    fact: Fact
    at_once: bool
    #: What was set off, and what was handed to `transmit`.
    begun: list[tuple[Gone, Any]] = field(factory=list)
    met: list[IPassing | None] = field(factory=list)

    def set_off(self, consignment: Consignment, peer: Peer, place: Any) -> Gone:
        passing = Gone((self.fact,), self.at_once)
        self.begun.append((passing, place))
        return passing

    def arrive(self) -> None:
        passing, place = self.begun[-1]
        passing.over = True
        place.arrived()

    async def transmit(
        self, consignment: Consignment, peer: Peer, sent: Any = None, place: Any = None, passing: Any = None
    ) -> Sequence[Report]:
        self.met.append(passing)
        return [Report(consignment.recipients[0], self.fact)]


class OutcomeTests(StraightTestCase):
    FACTS = (
        Carried(True, "mx1.b.example", "250 2.0.0 Ok", told=True, tls="TLSv1.3:X", timed=False),
        Carried(True, "mx1.b.example", "250 2.0.0 Ok", told=False, tls="", timed=True),
        Carried(False, "mx1.b.example", "250 2.1.5 Delivered", tls="TLSv1.3:X"),
    )

    def set_off(self, fact: Fact, at_once: bool) -> tuple[Foregone, str]:
        attempts, hosts = self.dispatcher._attempts, Foregone(fact, at_once)
        assert isinstance(attempts, Attempts)
        self.dispatcher._attempts = evolve(attempts, transmitter=hosts)
        return hosts, self.accept()

    def test_it_is_what_would_have_come_of_the_fact_anyway(self) -> None:
        for fact in self.FACTS:
            hosts, id = self.set_off(fact, at_once=False)
            hosts.arrive()
            self.pass_time(0.1)
            self.assertEqual((self.spool.settled[id], hosts.met), (carried(fact), []))

    def test_what_is_over_at_once_is_gone_on_with_and_not_sent_again(self) -> None:
        for fact in self.FACTS:
            hosts, id = self.set_off(fact, at_once=True)
            self.assertEqual((self.spool.settled[id], hosts.met), (carried(fact), [hosts.begun[0][0]]))

    def crowd(self) -> None:
        """Two are under way, and four wait."""
        self.host.at("DATA", Slow(1.0))
        for _ in range(6):
            self.accept()
        self.spool.hold()
        self.assertEqual(self.conditions(), (2, 0, 4))

    def conditions(self) -> tuple[int, int, int]:
        [condition] = self.dispatcher.destinations()
        return condition.active, condition.trailing, condition.waiting

    def test_nobody_follows_while_nothing_can_be_written_down(self) -> None:
        self.crowd()
        self.dispatcher._ledger.troubled = True
        self.pass_time(0.9)
        self.assertEqual((len(self.host.messages) > 1, self.conditions()[2]), (True, 4))
        self.spool.release()
        for _ in range(6):
            self.pass_time(1.0)
        self.assertEqual((self.waits, len(self.host.messages)), (0, 7))

    def test_nor_while_it_is_not_certain_that_what_is_held_is_ours(self) -> None:
        self.crowd()
        leases = self.dispatcher._leases
        sure_until, leases.sure_until = leases.sure_until, 0.0
        self.pass_time(0.9)
        self.assertEqual((len(self.host.messages) > 1, self.conditions()[2]), (True, 4))
        leases.sure_until = sure_until
        self.dispatcher._eased()
        self.spool.release()
        for _ in range(6):
            self.pass_time(1.0)
        self.assertEqual((self.waits, len(self.host.messages)), (0, 7))


@define(eq=False)
class Posted(Gone):
    """On its way into one of the `Mailboxes`."""

    by: Any = None

    def cancel(self) -> None:
        self.by.arrive(TOO_LONG)


@implementer(IWillingAgent)
@define
class Mailboxes:
    """An agent that says what becomes of a copy when the test does."""

    #: What is said at once, if it is.
    fact: Fact | None = None
    begun: list[tuple[Gone, Any]] = field(factory=list)
    carried: list[Consignment] = field(factory=list)

    def set_off(self, consignment: Consignment, traveller: Any) -> Gone:
        facts = () if self.fact is None else (self.fact,)
        passing = Posted(facts, self.fact is not None, by=self)
        self.begun.append((passing, traveller))
        return passing

    def arrive(self, fact: Fact | None, problem: BaseException | None = None) -> None:
        passing, traveller = self.begun[-1]
        passing.facts, passing.problem, passing.over = () if fact is None else (fact,), problem, True
        traveller.arrived()

    def carry(self, consignment: Consignment) -> Sequence[Report]:
        self.carried.append(consignment)
        return [Report(recipient, KEPT) for recipient in consignment.recipients]


KEPT = Carried(False, "/var/vmail/jon")
FULL = Unwritten("/var/vmail/jon", "No space left on device", "ENOSPC")
TOO_LONG = Unwritten("/var/vmail/jon", "it took too long")


class MailboxTests(StraightTestCase):
    """A copy for an agent that is willing."""

    def hand_over(self, fact: Fact | None = None, **more: Any) -> tuple[Mailboxes, str]:
        attempts, boxes = self.dispatcher._attempts, Mailboxes(fact)
        assert isinstance(attempts, Attempts)
        self.dispatcher._attempts = evolve(attempts, agents={"maildir": boxes})
        return boxes, self.accept(route=Deliver("maildir", {"folder": "/var/vmail/jon"}), **more)

    def test_what_is_carried_is_settled_without_a_coroutine(self) -> None:
        boxes, id = self.hand_over()
        self.assertEqual(self.dispatcher.active, 1)
        boxes.arrive(KEPT)
        self.pass_time(0.1)
        self.assertEqual((self.spool.settled[id], boxes.carried), (carried(KEPT), []))
        self.assertEqual((self.waits, self.dispatcher.held), (0, 0))

    def test_what_is_over_at_once_is_not_carried_again(self) -> None:
        boxes, id = self.hand_over(KEPT)
        self.assertEqual((self.spool.settled[id], len(boxes.begun), boxes.carried), (carried(KEPT), 1, []))

    def test_what_could_not_be_written_waits(self) -> None:
        boxes, id = self.hand_over()
        boxes.arrive(FULL)
        self.pass_time(0.1)
        [pending] = self.spool.pending()
        self.assertEqual((pending.recipient.id, pending.attempts, boxes.carried), (id, 1, []))
        self.assertEqual(pending.last, judge(FULL).outcome)

    def test_where_it_stumbled_that_is_our_fault_and_it_waits(self) -> None:
        boxes, _ = self.hand_over()
        boxes.arrive(None, RuntimeError("a mistake"))
        self.pass_time(0.1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(([one.attempts for one in self.spool.pending()], boxes.carried), ([1], []))

    def test_whoever_wants_to_hear_of_success_does(self) -> None:
        boxes, _ = self.hand_over(wishes=SUCCESS)
        boxes.arrive(KEPT)
        self.pass_time(0.1)
        self.assertEqual(len(self.spool.notices()), 1)

    def test_what_has_to_be_there_in_time_is_for_the_other_way(self) -> None:
        boxes, _ = self.hand_over(deliver_by=DeliverBy(self.clock.now() + 60, ByMode.NOTIFY, trace=True))
        self.assertEqual((boxes.begun, len(boxes.carried)), ([], 1))

    def test_one_that_takes_too_long_is_cut_short_and_that_is_said(self) -> None:
        self.hand_over()
        for _ in range(5):
            self.pass_time(100.0)
        self.assertEqual(self.dispatcher.active, 0)
        [pending] = self.spool.pending()
        self.assertEqual((pending.attempts, pending.last), (1, judge(TOO_LONG).outcome))

    def test_at_the_end_it_goes_back_as_it_was(self) -> None:
        _, id = self.hand_over()
        stopped = self.dispatcher.stop()
        self.pass_time(5.0)
        self.successResultOf(stopped)
        self.assertEqual(([one.attempts for one in self.spool.pending()], self.spool.unclaimed()), ([0], [id]))


@implementer(ITransmitter)
@frozen
class Reluctant:
    """Not willing to do anything without a coroutine."""

    transmitter: SmtpTransmitter

    def transmit(self, *more: Any) -> Awaitable[Sequence[Report]]:
        return self.transmitter.transmit(*more)


class Way(StraightTestCase):
    """One of the ways on which the same mail may go."""

    def runTest(self) -> None:
        """It is played."""

    def wait_for_turns(self) -> None:
        """Nothing begins at once from now on."""
        admit = self.dispatcher._destinations.admit

        def admit_to_wait(claim: Claim, name: str, now: float, at_once: bool = False) -> Work | None:
            return admit(claim, name, now)

        self.dispatcher._destinations.admit = admit_to_wait  # type: ignore[method-assign]

    def need_coroutines(self) -> None:
        attempts = self.dispatcher._attempts
        assert isinstance(attempts, Attempts)
        self.dispatcher._attempts = evolve(attempts, transmitter=Reluctant(self.transmitter))

    def play(self, steps: Sequence[_Step]) -> None:
        for number, (together, moment, fault, seconds) in enumerate(steps):
            address = Address(f"u{number}", "b.example")
            if fault is not None:
                self.host.at(moment, fault, times=1, about=str(address) if moment == "RCPT" else "")
            self.accept(to=address, turns=not together)
            if seconds:
                self.pass_time(seconds)
        for _ in range(5):
            self.pass_time(1000.0)

    def came_to(self) -> dict[str, list[object]]:
        """What became of each recipient: the words of the mail log, but for ids and times."""
        told: dict[str, list[object]] = {}
        for what, fields in self.log.events:
            said = {name: value for name, value in fields.items() if name not in ("id", "notice", "age", "again_in")}
            told.setdefault(str(fields.get("recipient")), []).append((what, said))
        return told


#: Whether the next one comes in the same turn of the reactor; at which moment the host does what; seconds.
_Step: TypeAlias = tuple[bool, Moment, Any, float]


class AgreementTests(SynchronousTestCase):
    """A message that begins at once, and one that goes without a coroutine, comes to what it would come to anyway."""

    MOMENTS = st.sampled_from(["MAIL", "RCPT", "DATA", "END"])
    FAULTS = st.sampled_from([None, None, None, NO, Say("450 4.7.1 Later"), CLOSING, Drop(), Slow(1.0)])
    PAUSES = st.sampled_from([0.0, 0.0, 0.5, 5.0])

    def played(self, steps: Sequence[_Step], *changes: Callable[[Way], None]) -> Way:
        way = Way()
        way.setUp()
        for change in changes:
            change(way)
        way.play(steps)
        return way

    @given(st.lists(st.tuples(st.booleans(), MOMENTS, FAULTS, PAUSES), min_size=1, max_size=12))
    def test_to_begin_at_once_changes_nothing(self, steps: Sequence[_Step]) -> None:
        at_once, in_turn = self.played(steps), self.played(steps, Way.wait_for_turns)
        self.assertEqual(at_once.came_to(), in_turn.came_to())
        for one, other in (at_once.host, in_turn.host), (at_once.other, in_turn.other):
            self.assertEqual(
                [message.recipients for message in one.messages], [message.recipients for message in other.messages]
            )
            self.assertEqual(one.connections, other.connections)

    @given(st.lists(st.tuples(st.booleans(), st.just("RCPT"), FAULTS, PAUSES), min_size=1, max_size=12))
    def test_to_need_no_coroutine_changes_nothing_for_any_recipient(self, steps: Sequence[_Step]) -> None:
        straight, general = self.played(steps), self.played(steps, Way.need_coroutines)
        self.assertEqual(straight.came_to(), general.came_to())
        self.assertEqual(general.transmitter.begun, [])
        self.assertEqual(straight.waits, general.waits)

    @given(st.lists(st.tuples(st.booleans(), st.sampled_from(["GREETING", "EHLO"]), FAULTS, st.just(10.0)), max_size=6))
    def test_nor_where_a_connection_has_to_be_made_for_each(self, steps: Sequence[_Step]) -> None:
        straight, general = self.played(steps), self.played(steps, Way.need_coroutines)
        self.assertEqual(straight.came_to(), general.came_to())
        self.assertEqual((straight.waits, general.waits), (0, 0))
        self.assertEqual(straight.host.connections, general.host.connections)
        self.assertEqual(straight.other.connections, general.other.connections)
