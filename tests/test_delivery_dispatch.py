from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from itertools import pairwise
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.delivery import attempt
from relay.delivery.destination import Limits
from relay.delivery.dispatch import Pace
from relay.delivery.trouble import Judgement, judge
from relay.interfaces import (
    Consignment,
    GiveBack,
    IContent,
    OutcomeUnknown,
    Renew,
    Report,
    Settle,
    SpoolError,
)
from relay.mail.address import Address
from relay.mail.decision import Accepted, Placement, Refused
from relay.mail.envelope import Form
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
from relay.mail.routing import Discard, Forward, Hold, NextHop, Reject
from relay.mail.selection import GIVEN_UP
from tests.delivery_world import JON, DeliveryWorld, forwarded, local

MX = Peer("mx", "192.0.2.1")
TAKEN = Carried(True, "mx")
UNKNOWN = Answered(Reply.of(550, "5.1.1", "user unknown"), Phase.RCPT, MX)
GREYLISTED = Answered(Reply.of(450, "4.7.1", "greylisted"), Phase.RCPT, MX)
DOWN = Broke(Breakage.REFUSED, Phase.CONNECT, MX)
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


@implementer(IContent)
class Unreadable:
    form = Form.WIRE
    size = 100

    def blocks(self) -> Iterator[bytes]:
        raise OSError(5, "Input/output error")


class HealthyTests(SynchronousTestCase):
    def test_what_reception_hands_over_is_carried_and_settled_in_the_same_turn(self) -> None:
        world = DeliveryWorld()
        id = world.accept(forwarded("ann@example.net"), local("bob@example.com"))
        self.assertEqual(world.spool.settled, {f"{id}.0": Relayed("mx.example.net"), f"{id}.1": Delivered("bob")})
        self.assertEqual(world.spool.unsettled(), [])
        self.assertEqual((world.dispatcher.active, world.dispatcher.held), (0, 0))

    def test_nothing_is_looked_up_and_no_timer_is_set_for_it(self) -> None:
        world = DeliveryWorld()
        world.accept(forwarded("ann@example.net"))
        timers = len(world.reactor.getDelayedCalls())
        looks = world.spool.looks
        for _ in range(10):
            world.accept(forwarded("ann@example.net"))
        self.assertEqual(len(world.reactor.getDelayedCalls()), timers)
        self.assertEqual(world.spool.looks, looks)

    def test_what_is_held_is_no_reason_to_look_what_is_due(self) -> None:
        ann, route = forwarded("ann@example.net")
        for others in ((), ((ann, route),)):
            world = DeliveryWorld()
            world.pass_time(MINUTE)
            looks = world.spool.looks
            world.accept((JON, Hold("a look first")), *others, lease="asked")
            world.pass_time(MINUTE)
            self.assertEqual(world.spool.looks, looks)
            self.assertEqual(len(world.spool.settled), len(others))

    def test_nothing_is_claimed_of_what_is_held(self) -> None:
        world = DeliveryWorld(running=False)
        _, [claim] = world.enrol(forwarded("ann@example.net"))
        [pending] = claim.pending
        held = evolve(pending.recipient, route=Hold("a look first"), destination="hold")
        lease = DeliveryWorld().dispatcher.lease
        self.assertIsNone(lease(claim.entry.envelope, [held]))
        self.assertIsNotNone(lease(claim.entry.envelope, [held, pending.recipient]))

    def test_what_is_beside_something_held_is_looked_for_where_it_was_not_claimed(self) -> None:
        world = DeliveryWorld()
        ann, route = forwarded("ann@example.net")
        world.accept((JON, Hold("a look first")), (ann, route), lease=None)
        self.assertEqual(list(world.spool.settled.values()), [Relayed("mx.example.net")])

    def test_an_idle_dispatcher_has_no_timer(self) -> None:
        world = DeliveryWorld()
        world.accept(forwarded("ann@example.net"))
        world.pass_time(HOUR)
        self.assertEqual(world.reactor.getDelayedCalls(), [])

    def test_recipients_with_one_destination_go_in_one_transaction_of_fifty_at_most(self) -> None:
        world = DeliveryWorld()
        id = world.accept(*(forwarded(f"r{at}@example.net") for at in range(120)))
        self.assertEqual([len(ids) for _, _, ids in world.hosts.calls], [50, 50, 20])
        self.assertEqual(len(world.spool.settled), 120)
        self.assertEqual(len({i for _, _, ids in world.hosts.calls for i in ids}), 120)
        self.assertTrue(id)

    def test_what_was_left_in_the_spool_is_carried_when_the_dispatcher_starts(self) -> None:
        world = DeliveryWorld(running=False)
        for _ in range(250):
            world.enrol(forwarded("ann@example.net"), lease=None)
        world.dispatcher.start()
        self.assertEqual(len(world.spool.settled), 250)

    def test_the_head_stands_before_the_content(self) -> None:
        world = DeliveryWorld()
        world.accept(local("bob@example.com"))
        [consignment] = world.maildir.got
        self.assertEqual(consignment.head, b"Received: here\r\n")

    def test_the_mail_log_tells_who_got_it(self) -> None:
        world = DeliveryWorld()
        id = world.accept(forwarded("ann@example.net"), original=JON)
        self.assertEqual(
            world.log.said("relayed"),
            [
                {
                    "id": id,
                    "recipient": Address("ann", "example.net"),
                    "original": JON,
                    "destination": "example.net",
                    "by": "mx.example.net",
                    "attempts": 1,
                    "age": 0.0,
                }
            ],
        )

    def test_results_that_come_together_are_written_together(self) -> None:
        world = DeliveryWorld()
        claims = [claim for _ in range(20) for claim in world.enrol(forwarded("ann@example.net"))[1]]
        before = len(world.spool.commits)
        world.spool.hold()
        world.dispatcher.accept(claims)
        self.assertEqual(world.spool.release(), 1)
        self.assertEqual([len(steps) for steps in world.spool.commits[before:]], [1, 19])
        self.assertEqual(world.dispatcher.held, 0)


class TroubleTests(SynchronousTestCase):
    def test_a_domain_that_is_down_for_five_days_is_tried_again_and_again_and_its_sender_told_once(self) -> None:
        world = DeliveryWorld()
        world.hosts.answering("mx.example.net", DOWN)
        id = world.accept(forwarded("ann@example.net"))
        world.pass_time(6 * DAY, step=5 * MINUTE)
        times = [at / MINUTE for at, host, _ in world.hosts.calls if host == "mx.example.net"]
        # 5 10 20 40 80 160 240 minutes, then every four hours, and a last one at five days.
        self.assertEqual(times[:9], [0, 5, 15, 35, 75, 155, 315, 555, 795])
        self.assertEqual(times[-1], 5 * DAY / MINUTE)
        self.assertTrue(all(b - a <= 240 for a, b in pairwise(times)))
        self.assertEqual(
            world.spool.settled[f"{id}.0"],
            Failed("4.4.1", "gave up after 5 days: connection refused", "", "mx[192.0.2.1]:25"),
        )
        [notice] = world.notices()
        self.assertEqual(notice.arrived - 1_700_000_000, 5 * DAY)
        self.assertIn("Gave up after 5 days: connection refused.", world.notice_texts()[0])
        self.assertEqual(world.spool.unsettled(), [])
        self.assertEqual([host for _, host, _ in world.hosts.calls if host == "mx.example.org"], ["mx.example.org"])
        self.assertEqual(world.reactor.getDelayedCalls(), [])

    def test_nobody_is_told_of_a_notice_that_fails(self) -> None:
        world = DeliveryWorld()
        world.hosts.answering("mx.example.net", UNKNOWN)
        id = world.accept(forwarded("ann@example.net"), reverse_path=None)
        self.assertIsInstance(world.spool.settled[f"{id}.0"], Failed)
        self.assertEqual(world.notices(), [])
        self.assertEqual(world.log.said("unnoticed"), [{"id": id, "because": "null reverse-path"}])

    def test_a_notice_that_cannot_be_delivered_is_given_up_after_two_days_in_silence(self) -> None:
        world = DeliveryWorld()
        world.hosts.answering("mx.example.net", UNKNOWN)
        world.hosts.answering("mx.example.org", DOWN)
        world.accept(forwarded("ann@example.net"))
        world.pass_time(3 * DAY, step=5 * MINUTE)
        self.assertEqual(len(world.notices()), 1)
        self.assertEqual(world.spool.unsettled(), [])
        self.assertEqual(world.hosts.calls[-1][:2], (2 * DAY, "mx.example.org"))

    def test_a_refused_recipient_fails_at_once_and_its_notice_is_on_its_way_in_the_same_turn(self) -> None:
        world = DeliveryWorld()
        world.hosts.answering("mx.example.net", UNKNOWN)
        id = world.accept(forwarded("ann@example.net"))
        self.assertEqual(world.spool.settled[f"{id}.0"].status, "5.1.1")  # type: ignore[union-attr]
        self.assertEqual([host for _, host, _ in world.hosts.calls], ["mx.example.net", "mx.example.org"])
        [noticed] = world.log.said("noticed")
        self.assertEqual(noticed["id"], id)

    def test_who_failed_is_settled_in_the_commit_that_keeps_the_notice(self) -> None:
        world = DeliveryWorld()
        world.hosts.answering("mx.example.net", UNKNOWN)
        world.accept(forwarded("ann@example.net"))
        [commit] = [c for c in world.spool.commits if any(isinstance(s, Settle) for s in c) and len(c) == 2]
        self.assertEqual([type(step).__name__ for step in commit], ["Settle", "Enrol"])

    def test_each_recipient_is_judged_by_itself_and_one_notice_names_all_that_failed(self) -> None:
        world = DeliveryWorld()
        world.hosts.scripts["mx.example.net"] = lambda *_: [TAKEN, UNKNOWN, GREYLISTED, UNKNOWN]
        id = world.accept(*(forwarded(f"{name}@example.net") for name in "abcd"))
        self.assertEqual(sorted(world.spool.settled), [*(f"{id}.{n}" for n in (0, 1, 3)), f"{world.notices()[0].id}.0"])
        [text] = world.notice_texts()
        self.assertIn("Final-Recipient: rfc822; b@example.net", text)
        self.assertIn("Final-Recipient: rfc822; d@example.net", text)
        self.assertNotIn("a@example.net", text)
        self.assertNotIn("c@example.net", text)
        world.hosts.answering("mx.example.net", TAKEN)
        world.pass_time(5 * MINUTE)
        self.assertEqual(world.hosts.calls[-1], (300.0, "mx.example.net", (f"{id}.2",)))
        self.assertEqual(len(world.notices()), 1)

    def test_a_notice_speaks_of_the_address_that_the_sender_named(self) -> None:
        world = DeliveryWorld()
        world.hosts.answering("mx.example.net", UNKNOWN)
        world.accept(forwarded("secret@example.net"), original=Address("info", "example.com"))
        self.assertIn("Final-Recipient: rfc822; info@example.com", world.notice_texts()[0])
        self.assertNotIn("secret@", world.notice_texts()[0])

    def test_the_mail_log_tells_why_it_waits_and_for_how_long(self) -> None:
        world = DeliveryWorld()
        world.hosts.answering("mx.example.net", GREYLISTED)
        id = world.accept(forwarded("ann@example.net"))
        [event] = world.log.said("delayed")
        self.assertEqual(
            event,
            {
                "id": id,
                "recipient": Address("ann", "example.net"),
                "destination": "example.net",
                "peer": "mx[192.0.2.1]:25",
                "status": "4.7.1",
                "class": "greylisting",
                "because": "refused at RCPT",
                "diagnostic": "450 4.7.1 greylisted",
                "about": "recipient",
                "attempts": 1,
                "age": 0.0,
                "again_in": 300,
            },
        )

    def test_a_copy_that_policy_refuses_after_all_fails(self) -> None:
        world = DeliveryWorld()
        id = world.accept((Address("x", "example.net"), Reject(Reply.of(550, "5.7.1", "not you"))))
        self.assertEqual(world.spool.settled[f"{id}.0"], Failed("5.7.1", "refused by policy", "550 5.7.1 not you"))

    def test_whom_an_operator_gives_up_no_policy_has_refused(self) -> None:
        world = DeliveryWorld()
        id = world.accept((Address("x", "example.net"), GIVEN_UP))
        said = str(GIVEN_UP.reply)
        expected = Failed("5.0.0", "given up by the operator of this relay", said)
        self.assertEqual(world.spool.settled[f"{id}.0"], expected)


class SeveralHostsTests(SynchronousTestCase):
    def hosts_asked(self, world: DeliveryWorld) -> list[str]:
        return [host for _, host, _ in world.hosts.calls if host != "mx.example.org"]

    def test_with_half_the_hosts_dead_mail_gets_through_at_once(self) -> None:
        world = DeliveryWorld()
        world.domains["example.net"] = ("a", "b", "c", "d")
        world.hosts.answering("a", DOWN)
        world.hosts.answering("b", Broke(Breakage.TIMEOUT, Phase.GREETING, MX))
        id = world.accept(forwarded("ann@example.net"))
        self.assertEqual(self.hosts_asked(world), ["a", "b", "c"])
        self.assertEqual(world.spool.settled, {f"{id}.0": Relayed("c")})

    def test_who_is_settled_is_not_sent_to_the_next_host(self) -> None:
        world = DeliveryWorld()
        world.domains["example.net"] = ("a", "b")
        lost = Broke(Breakage.LOST, Phase.RCPT, MX)
        world.hosts.scripts["a"] = lambda *_: [TAKEN, UNKNOWN, lost, GREYLISTED]
        id = world.accept(*(forwarded(f"{name}@example.net") for name in "abcd"))
        self.assertEqual(world.hosts.calls[1][1:], ("b", (f"{id}.2",)))

    def test_after_the_content_was_sent_no_other_host_is_asked_at_once(self) -> None:
        world = DeliveryWorld()
        world.domains["example.net"] = ("a", "b")
        world.hosts.answering("a", Broke(Breakage.LOST, Phase.END, MX))
        world.accept(forwarded("ann@example.net"))
        self.assertEqual(self.hosts_asked(world), ["a"])
        self.assertEqual(world.log.said("delayed")[0]["perhaps_taken"], "yes")
        world.pass_time(5 * MINUTE)
        self.assertEqual(self.hosts_asked(world), ["a", "a"])

    def test_at_most_five_addresses_are_tried_in_an_attempt(self) -> None:
        world = DeliveryWorld()
        world.domains["example.net"] = tuple("abcdefg")
        for name in "abcdefg":
            world.hosts.answering(name, DOWN)
        world.accept(forwarded("ann@example.net"))
        self.assertEqual(self.hosts_asked(world), list("abcde"))

    def test_at_most_three_hosts_are_spoken_to_in_an_attempt(self) -> None:
        world = DeliveryWorld()
        world.domains["example.net"] = tuple("abcdefg")
        busy = Answered(Reply.of(421, "4.3.2", "busy"), Phase.GREETING, MX)
        world.hosts.answering("a", DOWN)
        for name in "bcdefg":
            world.hosts.answering(name, busy)
        world.accept(forwarded("ann@example.net"))
        self.assertEqual(self.hosts_asked(world), list("abcd"))

    def test_a_copy_fails_for_what_the_hosts_lack_only_if_each_of_them_lacks_it(self) -> None:
        world = DeliveryWorld()
        world.domains["example.net"] = ("a", "b")
        lacks = Unsuitable(Need.SMTPUTF8, MX)
        world.hosts.answering("a", DOWN, lacks)
        world.hosts.answering("b", lacks)
        id = world.accept(forwarded("ann@example.net"))
        self.assertEqual(world.spool.unsettled(), [f"{id}.0"])
        world.pass_time(5 * MINUTE)
        self.assertEqual(world.spool.settled[f"{id}.0"].status, "5.6.7")  # type: ignore[union-attr]

    def test_a_next_hop_is_not_asked_when_the_one_before_it_has_taken_the_mail(self) -> None:
        world = DeliveryWorld()
        world.accept(forwarded("ann@example.net", "a.example.com", "b.example.com"))
        self.assertEqual(self.hosts_asked(world), ["mx.a.example.com"])

    def test_the_next_of_several_next_hops_is_asked_when_the_first_is_not_there(self) -> None:
        world = DeliveryWorld()
        first, second = NextHop("smart1.example.com", mx=False), NextHop("smart2.example.com", 2525, mx=False)
        world.domains["smart1.example.com"] = Unresolved(NameTrouble.NO_SUCH_DOMAIN, "smart1.example.com")
        id = world.accept(forwarded("ann@example.net", first, second))
        self.assertEqual(world.spool.settled, {f"{id}.0": Relayed("mx.smart2.example.com")})

    def test_recipients_that_share_only_the_first_next_hop_go_their_own_ways(self) -> None:
        world = DeliveryWorld()
        world.domains["smart.example.com"] = Unresolved(NameTrouble.UNANSWERED, "smart.example.com")
        id = world.accept(
            forwarded("a@example.net", "smart.example.com", "b1.example.com"),
            forwarded("b@example.net", "smart.example.com", "b2.example.com"),
        )
        self.assertEqual(
            world.spool.settled, {f"{id}.0": Relayed("mx.b1.example.com"), f"{id}.1": Relayed("mx.b2.example.com")}
        )

    def test_a_next_hop_that_uses_up_its_share_of_an_attempt_leaves_one_to_the_next(self) -> None:
        world = DeliveryWorld()
        world.domains["smart.example.com"] = tuple("abcdefg")
        for name in "abcdefg":
            world.hosts.answering(name, DOWN)
        id = world.accept(forwarded("ann@example.net", "smart.example.com", "fallback.example.com"))
        self.assertEqual(self.hosts_asked(world), [*"abcde", "mx.fallback.example.com"])
        self.assertEqual(world.spool.settled, {f"{id}.0": Relayed("mx.fallback.example.com")})

    def test_a_host_named_by_the_operator_is_no_fault_of_the_recipient_even_in_its_domain(self) -> None:
        world = DeliveryWorld()
        world.domains["example.net"] = Unresolved(NameTrouble.NO_SUCH_DOMAIN, "example.net")
        id = world.accept(forwarded("ann@example.net", NextHop("example.net", mx=False)))
        self.assertEqual(world.spool.unsettled(), [f"{id}.0"])

    def test_a_smarthost_that_does_not_exist_delays_mail_and_a_domain_that_does_not_fails_it(self) -> None:
        world = DeliveryWorld()
        for name in "smart.example.com", "example.net":
            world.domains[name] = Unresolved(NameTrouble.NO_SUCH_DOMAIN, name)
        waits = world.accept(forwarded("ann@example.com", NextHop("smart.example.com")))
        fails = world.accept(forwarded("ann@example.net"))
        self.assertEqual(world.spool.unsettled(), [f"{waits}.0"])
        self.assertEqual(world.spool.settled[f"{fails}.0"].status, "5.1.2")  # type: ignore[union-attr]


class OurFaultTests(SynchronousTestCase):
    def assert_delayed(self, world: DeliveryWorld, id: str) -> None:
        """It waits for five minutes, is carried then, and its sender is never told."""
        self.assertEqual(world.spool.unclaimed(), [f"{id}.0"])
        [delayed] = world.log.said("delayed")
        self.assertEqual((delayed["status"], delayed["because"]), ("4.3.0", "an internal error"))
        world.hosts.scripts.clear()
        world.domains.clear()
        world.maildir.script = lambda c: [Report(r, Carried(False, "late")) for r in c.recipients]
        world.pass_time(5 * MINUTE)
        self.assertNotIsInstance(world.spool.settled[f"{id}.0"], Failed)
        self.assertEqual(world.notices(), [])

    def test_an_agent_that_raises_delays_its_mail_and_nobody_elses(self) -> None:
        def fail(_: Consignment) -> None:
            raise KeyError("a bug")

        world = DeliveryWorld()
        world.maildir.script = fail
        id = world.accept(local("bob@example.com"))
        other = world.accept(forwarded("ann@example.net"))
        self.assertIn(f"{other}.0", world.spool.settled)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assert_delayed(world, id)

    def test_an_agent_that_reports_nothing_nonsense_or_of_others_delays_its_mail(self) -> None:
        for nonsense in [], None, 42, ["x"]:
            world = DeliveryWorld()
            world.maildir.script = lambda _, nonsense=nonsense: nonsense
            id = world.accept(local("bob@example.com"))
            self.flushLoggedErrors()
            self.assert_delayed(world, id)

    def test_an_agent_that_fails_after_it_has_waited_delays_its_mail(self) -> None:
        world = DeliveryWorld()
        waiting: Deferred[object] = Deferred()
        world.maildir.script = lambda _: waiting
        id = world.accept(local("bob@example.com"))
        waiting.errback(KeyError("a bug"))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assert_delayed(world, id)

    def test_an_agent_may_set_variables_while_it_works_and_its_mail_is_delivered_once(self) -> None:
        carried: ContextVar[str] = ContextVar("carried", default="nothing")
        world = DeliveryWorld()
        gates: list[Deferred[None]] = []

        async def carry(consignment: Consignment) -> object:
            token = carried.set(consignment.entry.id)
            try:
                gates.append(Deferred())
                await gates[-1]
                return [Report(r, Carried(False, carried.get())) for r in consignment.recipients]
            finally:
                carried.reset(token)

        world.maildir.script = carry
        ids = [world.accept(local("bob@example.com")) for _ in range(2)]
        self.assertEqual(carried.get(), "nothing")
        for gate in reversed(gates):
            gate.callback(None)
        self.assertEqual(world.spool.settled, {f"{id}.0": Delivered(id) for id in ids})
        self.assertEqual(len(gates), 2)

    def test_an_agent_that_is_no_longer_there_delays_its_mail(self) -> None:
        world = DeliveryWorld()
        world.accept(local("bob@example.com", "gone"))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual(world.log.said("delayed")[0]["status"], "4.3.0")

    def test_a_transmitter_or_a_search_that_raises_delays_the_mail(self) -> None:
        world = DeliveryWorld()
        world.hosts.answering("mx.example.net", ValueError("a bug"))
        id = world.accept(forwarded("ann@example.net"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assert_delayed(world, id)
        world = DeliveryWorld()
        world.domains["example.net"] = ValueError("a bug")
        id = world.accept(forwarded("ann@example.net"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assert_delayed(world, id)

    def test_nonsense_about_one_recipient_does_not_make_us_forget_another(self) -> None:
        world = DeliveryWorld()
        world.maildir.script = lambda c: [Report(c.recipients[0], None), Report(c.recipients[1], Carried(False, "b"))]
        id = world.accept(local("a@example.com"), local("b@example.com"))
        self.assertEqual(world.spool.settled, {f"{id}.1": Delivered("b")})
        self.assertEqual(world.spool.unclaimed(), [f"{id}.0"])

    def test_a_bug_in_judging_does_not_make_us_forget_what_was_carried(self) -> None:
        def stumble(fact: Fact, **how: bool) -> Judgement:
            if fact == UNKNOWN:
                raise KeyError("a bug")
            return judge(fact, **how)

        self.patch(attempt, "judge", stumble)
        world = DeliveryWorld()
        world.hosts.scripts["mx.example.net"] = lambda *_: [TAKEN, UNKNOWN]
        id = world.accept(forwarded("a@example.net"), forwarded("b@example.net"))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual(world.spool.settled, {f"{id}.0": Relayed("mx")})
        self.assertEqual(world.spool.unclaimed(), [f"{id}.1"])

    def test_an_agent_that_claims_to_have_carried_twice_is_believed_once(self) -> None:
        world = DeliveryWorld()
        world.maildir.script = lambda c: [
            Report(c.recipients[0], Carried(False, "x")),
            Report(c.recipients[0], UNKNOWN),
        ]
        id = world.accept(local("bob@example.com"))
        self.assertEqual(world.spool.settled, {f"{id}.0": Delivered("x")})

    def test_an_attempt_that_never_ends_is_cut_short(self) -> None:
        world = DeliveryWorld(pace=Pace(attempt=HOUR))
        world.maildir.script = lambda _: Deferred()
        world.accept(local("bob@example.com"))
        world.pass_time(2 * HOUR)
        self.assertGreaterEqual(len(world.log.said("delayed")), 1)
        self.assertEqual(world.log.said("delayed")[0]["status"], "4.3.0")

    def test_what_was_carried_stays_carried_though_we_stumble_over_it_afterwards(self) -> None:
        world = DeliveryWorld()
        world.hosts.scripts["mx.example.net"] = lambda *_: [TAKEN, GREYLISTED]
        world.random = lambda: {}["a bug"]
        id = world.accept(forwarded("a@example.net"), forwarded("b@example.net"))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual(world.spool.settled, {f"{id}.0": Relayed("mx")})
        self.assertEqual(world.spool.unclaimed(), [f"{id}.1"])
        world.random = lambda: 0.5
        world.hosts.answering("mx.example.net", TAKEN)
        world.pass_time(5 * MINUTE)
        self.assertEqual(world.spool.unsettled(), [])


class NoticeRouteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = world = DeliveryWorld()
        world.hosts.answering("mx.example.net", UNKNOWN)

    def assert_settled_without(self, id: str, because: str) -> None:
        self.assertIsInstance(self.world.spool.settled[f"{id}.0"], Failed)
        self.assertEqual(self.world.notices(), [])
        self.assertEqual(self.world.log.said("unnoticed"), [{"id": id, "because": because}])

    def test_the_way_of_a_notice_is_asked_of_the_policies_as_mail_of_our_own(self) -> None:
        self.world.accept(forwarded("ann@example.net"))
        [inquiry] = self.world.policies.asked
        self.assertEqual((inquiry.recipient, inquiry.reverse_path, inquiry.client.listener), (JON, None, "ourselves"))

    def test_a_notice_follows_an_alias_to_several(self) -> None:
        placements = tuple(Placement(Address(name, "example.com"), JON, Forward("example.com")) for name in "xy")
        self.world.policies.decisions[str(JON)] = Accepted(placements)
        id = self.world.accept(forwarded("ann@example.net"))
        [notice] = self.world.notices()
        self.assertEqual(sorted(self.world.spool.settled), [f"{id}.0", f"{notice.id}.0", f"{notice.id}.1"])

    def test_a_sender_that_policy_refuses_is_not_told_and_the_log_says_so(self) -> None:
        self.world.policies.decisions[str(JON)] = Refused(Reply.of(550, "5.1.1", "user unknown"))
        id = self.world.accept(forwarded("ann@example.net"))
        self.assert_settled_without(id, "the sender's address is refused: 550 5.1.1 user unknown")

    def test_a_sender_whose_mail_is_thrown_away_is_not_told(self) -> None:
        self.world.policies.decisions[str(JON)] = Accepted((Placement(JON, JON, Discard()),))
        id = self.world.accept(forwarded("ann@example.net"))
        self.assert_settled_without(id, "mail for the sender's address is discarded")

    def test_nobody_is_told_that_an_automatic_reply_has_failed(self) -> None:
        text = b"Subject: away\r\nAuto-Submitted: auto-replied; x=y\r\n\r\naway\r\n"
        id = self.world.accept(forwarded("ann@example.net"), text=text)
        self.assert_settled_without(id, "the message was an automatic reply")

    def test_who_sends_reports_by_a_program_is_told(self) -> None:
        text = b"Subject: report\r\nAuto-Submitted: auto-generated\r\n\r\nall well\r\n"
        self.world.accept(forwarded("ann@example.net"), text=text)
        self.assertEqual(len(self.world.notices()), 1)

    def test_while_policies_cannot_say_the_way_the_failure_waits(self) -> None:
        for trouble in Refused(Reply.of(451, "4.3.0", "a bug")), KeyError("a bug"):
            self.setUp()
            world = self.world
            world.policies.decisions[str(JON)] = trouble
            id = world.accept(forwarded("ann@example.net"))
            self.flushLoggedErrors(KeyError)
            self.assertEqual(world.spool.unclaimed(), [f"{id}.0"])
            self.assertEqual(len(world.log.said("notice_delayed")), 1)
            world.policies.decisions.clear()
            world.pass_time(5 * MINUTE)
            self.assertIsInstance(world.spool.settled[f"{id}.0"], Failed)
            self.assertEqual(len(world.notices()), 1)

    def test_and_no_longer_than_patience_lasts(self) -> None:
        self.world.policies.decisions[str(JON)] = Refused(Reply.of(451, "4.3.0", "a bug"))
        id = self.world.accept(forwarded("ann@example.net"))
        self.world.pass_time(6 * DAY, step=HOUR)
        self.assert_settled_without(id, "the way to the sender is not known now: 451 4.3.0 a bug")

    def test_a_notice_about_content_that_cannot_be_read_quotes_what_is_known(self) -> None:
        id, [claim] = self.world.enrol(forwarded("ann@example.net"))
        self.world.dispatcher.accept([evolve(claim, content=Unreadable())])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        [text] = self.world.notice_texts()
        self.assertIn("Received: here", text)
        self.assertIn(f"{id}.0", self.world.spool.settled)

    def test_of_a_message_that_came_without_a_header_no_text_is_quoted(self) -> None:
        _, [claim] = self.world.enrol(forwarded("ann@example.net"), text=b"Auto-Submitted: auto-replied, he said\r\n")
        headless = evolve(claim.entry, head=b"Received: here\r\n\r\n")
        self.world.dispatcher.accept([evolve(claim, entry=headless)])
        [text] = self.world.notice_texts()
        self.assertIn("\r\n\r\nReceived: here\r\n\r\n--", text)
        self.assertNotIn("he said", text)

    def test_a_notice_quotes_the_header_and_answers_the_message(self) -> None:
        self.world.accept(forwarded("ann@example.net"))
        [text] = self.world.notice_texts()
        self.assertIn("\r\n\r\nReceived: here\r\nSubject: hello\r\nMessage-ID: <1@example.org>\r\n\r\n--", text)
        self.assertIn("In-Reply-To: <1@example.org>", text)


class CrowdTests(SynchronousTestCase):
    def test_a_slow_destination_does_not_hold_up_another(self) -> None:
        world = DeliveryWorld()
        world.hosts.scripts["mx.slow.example"] = lambda *_: Deferred()
        for _ in range(500):
            world.accept(forwarded("x@slow.example"))
        fast = world.accept(forwarded("ann@example.net"))
        self.assertIn(f"{fast}.0", world.spool.settled)
        self.assertEqual(world.dispatcher.active, 2)

    def test_many_slow_destinations_together_leave_a_place_for_the_next_healthy_one(self) -> None:
        world = DeliveryWorld(limits=Limits(destination=20, first=20, total=50, held=200))
        for slow in range(10):
            world.hosts.scripts[f"mx.slow{slow}.example"] = lambda *_: Deferred()
            for _ in range(30):
                world.accept(forwarded(f"x@slow{slow}.example"))
        self.assertLess(world.dispatcher.active, 50)
        self.assertLess(world.dispatcher.held, 200)
        fast = world.accept(forwarded("ann@example.net"))
        self.assertIn(f"{fast}.0", world.spool.settled)

    def test_what_has_no_place_goes_back_and_is_claimed_when_there_is_one(self) -> None:
        world = DeliveryWorld(limits=Limits(destination=2, total=5, held=20))
        waiting: list[Deferred[Carried]] = []

        def slowly(*_: object) -> Deferred[Carried]:
            waiting.append(Deferred())
            return waiting[-1]

        world.hosts.scripts["mx.slow.example"] = slowly
        for _ in range(100):
            world.accept(forwarded("x@slow.example"))
        self.assertEqual(world.dispatcher.active, 2)
        self.assertLess(world.dispatcher.held, 10)
        self.assertGreater(len(world.spool.unclaimed()), 90)
        while waiting:
            waiting.pop(0).callback(TAKEN)
            self.assertLessEqual(world.dispatcher.active, 2)
        self.assertEqual(len(world.spool.settled), 100)
        self.assertEqual(len(world.hosts.calls), 100)

    def test_destinations_take_turns(self) -> None:
        world = DeliveryWorld(limits=Limits(destination=1, total=1))
        gate: Deferred[Carried] = Deferred()
        world.hosts.scripts["mx.a.example"] = lambda *_: gate
        world.accept(forwarded("x@a.example"))
        for domain in ("a", "a", "b", "b", "c"):
            world.accept(forwarded(f"x@{domain}.example"))
        world.hosts.scripts.clear()
        gate.callback(TAKEN)
        order = [host.split(".")[1] for _, host, _ in world.hosts.calls]
        self.assertEqual(sorted(order[1:4]), ["a", "b", "c"])
        self.assertEqual(sorted(order), list("aaabbc"))

    def test_when_it_has_enough_to_do_new_mail_waits_in_the_spool_and_is_found_there(self) -> None:
        world = DeliveryWorld(limits=Limits(destination=2, total=2, held=8))
        gates: list[Deferred[Carried]] = []

        def slowly(*_: object) -> Deferred[Carried]:
            gates.append(Deferred())
            return gates[-1]

        world.hosts.scripts["mx.slow.example"] = slowly
        self.assertEqual(world.lease(), 300.0)
        for _ in range(4):
            world.accept(forwarded("x@slow.example"))
        self.assertIsNone(world.lease())
        world.enrol(forwarded("ann@example.net"), lease=None)
        world.hosts.scripts.clear()
        for gate in gates:
            gate.callback(TAKEN)
        world.pass_time(10, step=1)
        self.assertEqual(world.spool.unsettled(), [])
        self.assertEqual(world.lease(), 300.0)

    def test_what_is_given_back_for_a_destination_that_is_full_is_not_looked_for_before_there_is_a_place(self) -> None:
        world = DeliveryWorld(limits=Limits(destination=2, total=100, held=20))
        gates: list[Deferred[Carried]] = []

        def slowly(*_: object) -> Deferred[Carried]:
            gates.append(Deferred())
            return gates[-1]

        world.hosts.scripts["mx.slow.example"] = slowly
        for _ in range(12):
            world.accept(forwarded("x@slow.example"))
        given_back = len(world.spool.unclaimed())
        self.assertGreater(given_back, 3)
        looks = world.spool.looks
        world.accept(forwarded("x@slow.example"))
        self.assertEqual(len(world.spool.unclaimed()), given_back + 1)
        self.assertEqual(world.spool.looks, looks)
        world.hosts.scripts.clear()
        for gate in gates:
            gate.callback(TAKEN)
        self.assertEqual(world.spool.unsettled(), [])

    def test_what_has_no_place_is_not_claimed_and_not_looked_for_before_there_is_one(self) -> None:
        world = DeliveryWorld(limits=Limits(destination=2, total=100, held=40))
        gates: list[Deferred[Carried]] = []

        def slowly(*_: object) -> Deferred[Carried]:
            gates.append(Deferred())
            return gates[-1]

        world.hosts.scripts["mx.slow.example"] = slowly
        while world.lease("x@slow.example"):
            world.accept(forwarded("x@slow.example"), lease="asked")
        # Others have a place there, and so has whoever has less than others.
        self.assertEqual(world.lease(), 300.0)
        self.assertEqual(world.lease("x@slow.example", Address("somebody", "example.com")), 300.0)
        looks = world.spool.looks
        for at in range(20):
            world.accept(forwarded("x@slow.example"), lease="asked")
            self.assertLessEqual(world.spool.looks, looks + 2, at)
        self.assertEqual(len(world.spool.unclaimed()), 20)
        while gate := next((gate for gate in gates if not gate.called), None):
            gate.callback(TAKEN)
        self.assertEqual(world.spool.unsettled(), [])
        self.assertEqual([step for commit in world.spool.commits for step in commit if isinstance(step, GiveBack)], [])

    def test_a_message_of_which_one_recipient_has_a_place_is_claimed(self) -> None:
        world = DeliveryWorld(limits=Limits(destination=1, total=100, held=40))
        world.hosts.scripts["mx.slow.example"] = lambda *_: Deferred()
        while world.lease("x@slow.example"):
            world.accept(forwarded("x@slow.example"))
        id = world.accept(forwarded("x@slow.example"), forwarded("ann@example.net"), lease="asked")
        self.assertIn(f"{id}.1", world.spool.settled)
        self.assertIn(f"{id}.0", world.spool.unclaimed())

    def test_even_if_it_comes_after_there_was_room_again(self) -> None:
        world = DeliveryWorld(limits=Limits(destination=2, total=2, held=8))
        gate: Deferred[Carried] = Deferred()
        world.hosts.scripts["mx.slow.example"] = lambda *_: gate
        for _ in range(4):
            world.accept(forwarded("x@slow.example"))
        self.assertIsNone(world.lease())
        world.hosts.scripts.clear()
        gate.callback(TAKEN)
        id, _ = world.enrol(forwarded("ann@example.net"), lease=None)
        world.pass_time(6, step=1)
        self.assertIn(f"{id}.0", world.spool.settled)

    def test_what_could_not_be_claimed_for_want_of_room_is_claimed_when_there_is_some(self) -> None:
        gates: list[Deferred[Carried]] = []

        def slowly(*_: object) -> Deferred[Carried]:
            gates.append(Deferred())
            return gates[-1]

        for total in 5, 10:
            world = DeliveryWorld(limits=Limits(destination=2, total=total, held=10), running=False)
            for at in range(40):
                world.hosts.scripts[f"mx.slow{at}.example"] = slowly
                world.enrol(forwarded(f"x@slow{at}.example"), lease=None)
            world.dispatcher.start()
            while gates:
                self.assertLessEqual(world.dispatcher.held, 10)
                gates.pop(0).callback(TAKEN)
            self.assertEqual(len(world.spool.settled), 40)

    def test_reception_may_say_that_something_was_left_in_the_spool(self) -> None:
        world = DeliveryWorld()
        id, _ = world.enrol(forwarded("ann@example.net"), lease=None)
        world.dispatcher.accept(())
        self.assertIn(f"{id}.0", world.spool.settled)


class LeaseTests(SynchronousTestCase):
    def slow(self) -> tuple[DeliveryWorld, str, Deferred[Carried]]:
        """Something is on its way to a host that takes its time."""
        world, gate = DeliveryWorld(), Deferred[Carried]()
        world.hosts.scripts["mx.example.net"] = lambda *_: gate
        id = world.accept(forwarded("ann@example.net"))
        world.hosts.scripts.clear()
        return world, id, gate

    def test_while_an_attempt_lasts_its_lease_is_renewed(self) -> None:
        world, id, gate = self.slow()
        world.pass_time(HOUR)
        renewals = [step for commit in world.spool.commits for step in commit if isinstance(step, Renew)]
        self.assertGreater(len(renewals), 10)
        gate.callback(TAKEN)
        self.assertEqual(world.spool.settled, {f"{id}.0": Relayed("mx")})
        self.assertEqual(len(world.hosts.calls), 1)

    def test_a_claim_whose_lease_was_over_when_it_came_is_not_carried_but_claimed_again(self) -> None:
        world = DeliveryWorld()
        id, claims = world.enrol(forwarded("ann@example.net"), lease=300.0)
        world.hosts.scripts["mx.example.net"] = lambda *_: gate
        gate: Deferred[Carried] = Deferred()
        world.reactor.advance(400.0)
        world.dispatcher.accept(claims)
        self.assertEqual(len(world.hosts.calls), 1)
        world.dispatcher.wake()
        world.pass_time(MINUTE, step=1)
        self.assertEqual([ids for _, _, ids in world.hosts.calls], [(f"{id}.0",)])
        gate.callback(TAKEN)
        self.assertEqual(world.spool.settled, {f"{id}.0": Relayed("mx")})
        self.assertEqual((world.dispatcher.held, world.log.said("claim_lost")), (0, []))

    def test_a_lease_that_was_lost_ends_the_attempt_and_the_other_holder_goes_on(self) -> None:
        world, id, _ = self.slow()
        world.spool.steal(id)
        world.pass_time(400)
        self.assertEqual(world.dispatcher.active, 0)
        self.assertEqual(world.dispatcher.held, 0)
        self.assertEqual(world.log.said("claim_lost")[0]["id"], id)
        self.assertEqual(world.spool.settled, {})

    def test_one_lost_lease_leaves_the_others(self) -> None:
        world, id, _ = self.slow()
        gate: Deferred[Carried] = Deferred()
        world.hosts.scripts["mx.example.net"] = lambda *_: gate
        other = world.accept(forwarded("ann@example.net"))
        world.spool.steal(id)
        world.pass_time(HOUR)
        self.assertEqual(world.dispatcher.active, 1)
        self.assertEqual(world.log.said("claim_lost")[0]["id"], id)
        gate.callback(TAKEN)
        self.assertEqual(world.spool.settled, {f"{other}.0": Relayed("mx")})

    def test_a_settlement_that_comes_too_late_is_dropped_and_logged(self) -> None:
        world, id, gate = self.slow()
        world.spool.steal(id)
        gate.callback(TAKEN)
        self.assertEqual(world.spool.settled, {})
        self.assertEqual(world.log.said("claim_lost")[0]["id"], id)
        self.assertEqual(world.dispatcher.held, 0)

    def test_a_relay_that_stood_still_for_long_does_not_claim_what_it_holds(self) -> None:
        world, id, gate = self.slow()
        _, claims = world.enrol(forwarded("ann@example.net"))
        world.spool.fail(SpoolError("disk full"))
        world.dispatcher.accept(claims)
        world.dispatcher.wake()
        # The first that happens when it goes on is that the other message is settled, and the spool asked.
        world.reactor.advance(HOUR)
        world.pass_time(HOUR)
        self.assertEqual(len(self.flushLoggedErrors(SpoolError)), 1)
        self.assertEqual(len(world.hosts.calls), 2)
        gate.callback(TAKEN)
        self.assertEqual(world.spool.settled[f"{id}.0"], Relayed("mx"))

    def test_an_attempt_that_stood_still_for_long_is_not_followed_by_another_before_leases_are_renewed(self) -> None:
        world = DeliveryWorld()
        begun: list[str] = []

        def stand_still(consignment: Consignment, _: object) -> Carried:
            begun.append(consignment.entry.id)
            if len(begun) == 1:
                world.reactor.rightNow += HOUR
            return TAKEN

        world.hosts.scripts["mx.example.net"] = stand_still
        enrolled = [world.enrol(forwarded("ann@example.net")) for _ in range(2)]
        (first, _), (second, _) = enrolled
        world.dispatcher.accept([claim for _, claims in enrolled for claim in claims])
        self.assertEqual(begun, [first])
        world.pass_time(HOUR)
        self.assertEqual(begun, [first, second])
        self.assertEqual(world.spool.unsettled(), [])

    def test_leases_that_could_not_be_renewed_do_not_matter_any_more_once_nothing_is_held(self) -> None:
        world, _, gate = self.slow()
        world.spool.fail(SpoolError("disk full"))
        world.pass_time(2 * MINUTE)
        gate.callback(TAKEN)
        id, _ = world.enrol(forwarded("ann@example.net"), lease=None)
        world.dispatcher.wake()
        self.flushLoggedErrors(SpoolError)
        self.assertIn(f"{id}.0", world.spool.settled)

    def test_mail_that_comes_while_leases_are_renewed_is_looked_for_afterwards(self) -> None:
        world, _, _ = self.slow()
        id, _ = world.enrol(forwarded("ann@example.net"), lease=None)
        world.spool.hold()
        world.pass_time(100)
        world.dispatcher.accept(())
        self.assertEqual(len(world.hosts.calls), 1)
        world.spool.release()
        self.assertIn(f"{id}.0", world.spool.settled)

    def test_what_was_lost_before_its_turn_came_is_not_carried(self) -> None:
        world = DeliveryWorld(limits=Limits(destination=1))
        gate: Deferred[Carried] = Deferred()
        world.hosts.scripts["mx.example.net"] = lambda *_: gate
        first, second = (world.accept(forwarded("ann@example.net")) for _ in range(2))
        world.spool.steal(second)
        world.pass_time(HOUR)
        gate.callback(TAKEN)
        self.assertEqual(world.spool.settled, {f"{first}.0": Relayed("mx")})
        self.assertEqual(len(world.hosts.calls), 1)
        self.assertEqual(world.dispatcher.held, 0)

    def test_leases_that_cannot_be_renewed_are_not_claimed_again_by_ourselves(self) -> None:
        world, id, gate = self.slow()
        world.spool.fail(*[SpoolError("disk full")] * 6)
        world.pass_time(11 * MINUTE, step=10)
        world.dispatcher.wake()
        world.dispatcher.accept(())
        self.assertEqual(len(self.flushLoggedErrors(SpoolError)), 6)
        self.assertEqual(len(world.hosts.calls), 1)
        gate.callback(TAKEN)
        self.assertEqual(world.spool.settled, {f"{id}.0": Relayed("mx")})


class SpoolTroubleTests(SynchronousTestCase):
    def test_a_settlement_that_cannot_be_written_is_tried_until_it_is_and_nothing_is_sent_again(self) -> None:
        world = DeliveryWorld()
        id, claims = world.enrol(forwarded("ann@example.net"))
        world.spool.fail(*[SpoolError("disk full")] * 5)
        world.dispatcher.accept(claims)
        self.assertEqual(world.spool.settled, {})
        self.assertIsNone(world.lease())
        world.pass_time(1 + 2 + 4 + 8 + 16, step=1)
        self.assertEqual(len(self.flushLoggedErrors(SpoolError)), 5)
        self.assertEqual(world.spool.settled, {f"{id}.0": Relayed("mx.example.net")})
        self.assertEqual(len(world.hosts.calls), 1)
        self.assertEqual(world.lease(), 300.0)

    def test_however_long_it_takes(self) -> None:
        world = DeliveryWorld()
        id, claims = world.enrol(forwarded("ann@example.net"))
        world.spool.fail(*[SpoolError("disk full")] * 200)
        world.dispatcher.accept(claims)
        world.pass_time(DAY, step=10)
        self.flushLoggedErrors(SpoolError)
        self.assertEqual(world.spool.settled, {f"{id}.0": Relayed("mx.example.net")})
        self.assertEqual(len(world.hosts.calls), 1)

    def test_meanwhile_nothing_new_is_carried_and_afterwards_it_is(self) -> None:
        world = DeliveryWorld()
        _, claims = world.enrol(forwarded("ann@example.net"))
        _, more = world.enrol(forwarded("ann@example.net"))
        world.enrol(forwarded("ann@example.net"), lease=None)
        world.spool.fail(*[SpoolError("disk full")] * 3)
        world.dispatcher.accept(claims)
        world.dispatcher.accept(more)
        world.dispatcher.wake()
        self.assertEqual(len(world.hosts.calls), 1)
        world.pass_time(10, step=1)
        self.flushLoggedErrors(SpoolError)
        self.assertEqual(len(world.hosts.calls), 3)
        self.assertEqual(len(world.spool.settled), 3)

    def test_what_waited_meanwhile_begins_afterwards(self) -> None:
        world = DeliveryWorld()
        _, claims = world.enrol(forwarded("ann@example.net"))
        _, more = world.enrol(forwarded("ann@example.net"))
        world.spool.fail(SpoolError("disk full"))
        world.dispatcher.accept(claims)
        world.dispatcher.accept(more)
        world.pass_time(2, step=1)
        self.flushLoggedErrors(SpoolError)
        self.assertEqual(len(world.spool.settled), 2)

    def test_a_mail_log_that_fails_changes_nothing(self) -> None:
        world = DeliveryWorld()
        self.patch(type(world.log), "event", lambda *_, **__: {}["a bug"])
        world.hosts.answering("mx.example.net", UNKNOWN)
        id = world.accept(forwarded("ann@example.net"))
        self.assertTrue(self.flushLoggedErrors(KeyError))
        self.assertIsInstance(world.spool.settled[f"{id}.0"], Failed)
        self.assertEqual(len(world.notices()), 1)
        self.assertEqual((world.dispatcher.active, world.dispatcher.held), (0, 0))

    def test_an_unknown_outcome_that_had_happened_is_not_written_twice(self) -> None:
        for happened in True, False:
            world = DeliveryWorld()
            world.hosts.answering("mx.example.net", UNKNOWN)
            id, claims = world.enrol(forwarded("ann@example.net"))
            world.spool.fail(OutcomeUnknown(), kept=happened)
            world.dispatcher.accept(claims)
            self.assertEqual(f"{id}.0" in world.spool.settled, happened)
            self.assertFalse(world.spool.accepting)
            world.pass_time(10 * MINUTE, step=1)
            self.assertEqual(len(self.flushLoggedErrors(OutcomeUnknown)), 1)
            self.assertIsInstance(world.spool.settled[f"{id}.0"], Failed)
            self.assertEqual(len(world.notices()), 1)
            self.assertEqual(world.log.said("claim_lost"), [])
            self.assertEqual(world.spool.unsettled(), [])
            self.assertEqual(world.dispatcher.held, 0)

    def test_a_notice_for_which_there_is_no_place_waits_and_others_are_settled_meanwhile(self) -> None:
        world = DeliveryWorld()
        world.hosts.answering("mx.example.net", UNKNOWN)
        id, claims = world.enrol(forwarded("ann@example.net"))
        _, others = world.enrol(forwarded("bob@example.com"))
        world.spool.full = True
        world.dispatcher.accept(claims)
        world.dispatcher.accept(others)
        world.spool.full = False
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        world.pass_time(2, step=1)
        self.assertIsInstance(world.spool.settled[f"{id}.0"], Failed)
        self.assertEqual(len(world.notices()), 1)
        self.assertEqual(world.spool.unsettled(), [])

    def test_one_lost_claim_in_a_common_commit_does_not_take_the_others_with_it(self) -> None:
        world = DeliveryWorld()
        claims = []
        for _ in range(5):
            id, claimed = world.enrol(forwarded("ann@example.net"))
            claims += claimed
        world.spool.steal(id)
        world.spool.hold()
        world.dispatcher.accept(claims)
        world.spool.release()
        self.assertEqual(len(world.spool.settled), 4)
        self.assertEqual([event["id"] for event in world.log.said("claim_lost")], [id])
        self.assertEqual(world.dispatcher.held, 0)

    def test_a_spool_that_cannot_say_what_is_due_is_asked_again(self) -> None:
        world = DeliveryWorld(running=False)
        id, _ = world.enrol(forwarded("ann@example.net"), lease=None)
        claim, faults = world.spool.claim, [SpoolError("busy"), KeyError("a bug")]

        async def fail(*args: object) -> object:
            if faults:
                raise faults.pop()
            return await claim(*args)  # type: ignore[arg-type]

        world.spool.claim = fail  # type: ignore[method-assign, assignment]
        world.dispatcher.start()
        world.pass_time(3, step=1)
        self.assertEqual(len(self.flushLoggedErrors(SpoolError, KeyError)), 2)
        self.assertIn(f"{id}.0", world.spool.settled)


class FollowingTests(SynchronousTestCase):
    """When a message is sent, and nothing but the reply to it is awaited, the next one follows."""

    def setUp(self) -> None:
        self.world = DeliveryWorld(limits=Limits(destination=2, first=2))
        self.gates: list[Deferred[Carried]] = []
        self.world.hosts.scripts["mx.slow.example"] = self.slowly
        self.ids = [f"{self.world.accept(forwarded('x@slow.example'))}.0" for _ in range(8)]

    def slowly(self, *_: object) -> Deferred[Carried]:
        self.gates.append(Deferred())
        return self.gates[-1]

    def is_sent(self, at: int) -> None:
        self.world.hosts.sent[self.ids[at]]()

    def test_it_begins_when_the_one_ahead_is_sent(self) -> None:
        self.assertEqual(len(self.world.hosts.calls), 2)
        self.is_sent(0)
        self.assertEqual([ids for _, _, ids in self.world.hosts.calls], [(id,) for id in self.ids[:3]])
        self.assertEqual(self.world.dispatcher.active, 3)
        [condition] = self.world.dispatcher.destinations()
        self.assertEqual((condition.active, condition.trailing, condition.limit), (2, 1, 2))

    def test_each_is_settled_by_its_own_reply_in_whatever_order_they_come(self) -> None:
        self.is_sent(0)
        self.is_sent(1)
        self.gates[3].callback(TAKEN)
        self.gates[0].callback(Answered(Reply.of(554, "5.6.0", "No"), Phase.END, MX))  # type: ignore[arg-type]
        self.assertEqual(set(self.world.spool.settled) & set(self.ids), {self.ids[0], self.ids[3]})
        self.assertIsInstance(self.world.spool.settled[self.ids[0]], Failed)
        while gate := next((gate for gate in self.gates if not gate.called), None):
            gate.callback(TAKEN)
        self.assertEqual(len(self.world.spool.settled), 8 + 1)  # and the notice
        self.assertEqual(self.world.dispatcher.active, 0)

    def test_what_is_told_too_late_changes_nothing(self) -> None:
        self.gates[0].callback(TAKEN)
        calls = len(self.world.hosts.calls)
        self.is_sent(0)
        self.assertEqual((len(self.world.hosts.calls), self.world.dispatcher.active), (calls, 2))

    def test_stopping_waits_for_what_trails_and_nothing_follows_any_more(self) -> None:
        self.is_sent(0)
        stopping = self.world.dispatcher.stop()
        self.is_sent(1)
        for gate in self.gates[1:]:
            gate.callback(TAKEN)
        self.assertNoResult(stopping)
        self.gates[0].callback(TAKEN)
        self.successResultOf(stopping)
        self.assertEqual(set(self.world.spool.settled), set(self.ids[:3]))
        self.assertEqual(len(self.world.spool.unclaimed()), 5)

    def test_what_trails_is_cut_short_with_the_rest(self) -> None:
        self.is_sent(0)
        stopping = self.world.dispatcher.stop()
        self.world.pass_time(6, step=1)
        self.successResultOf(stopping)
        self.assertEqual(len(self.world.spool.unclaimed()), 8)

    def test_not_behind_a_message_that_has_more_ways_to_go(self) -> None:
        id = self.world.accept(forwarded("x@slow.example"), forwarded("x@slow.example", "slow.example", "b.example"))
        while f"{id}.0" not in [ids[0] for _, _, ids in self.world.hosts.calls]:
            next(gate for gate in self.gates if not gate.called).callback(TAKEN)
        self.assertNotIn(f"{id}.0", self.world.hosts.sent)


class StopTests(SynchronousTestCase):
    def test_stopping_an_idle_dispatcher_takes_no_time(self) -> None:
        world = DeliveryWorld()
        self.successResultOf(world.dispatcher.stop())
        self.successResultOf(world.dispatcher.stop())
        self.assertEqual(world.reactor.getDelayedCalls(), [])

    def claiming(self) -> tuple[DeliveryWorld, str, Deferred[None]]:
        """A claim has been asked for, and comes when the `Deferred` fires."""
        world = DeliveryWorld(running=False)
        id, _ = world.enrol(forwarded("ann@example.net"), lease=None)
        claim, gate = world.spool.claim, Deferred[None]()

        async def slowly(*args: Any) -> Any:
            claims = await claim(*args)
            await gate
            return claims

        world.spool.claim = slowly  # type: ignore[method-assign]
        world.dispatcher.start()
        return world, id, gate

    def test_a_claim_that_is_on_its_way_is_waited_for_and_goes_back(self) -> None:
        world, id, gate = self.claiming()
        stopping = world.dispatcher.stop()
        self.assertNoResult(stopping)
        gate.callback(None)
        self.successResultOf(stopping)
        self.assertEqual((world.spool.unclaimed(), world.hosts.calls), ([f"{id}.0"], []))
        self.assertEqual(world.reactor.getDelayedCalls(), [])

    def test_so_is_one_that_brings_nothing_or_fails(self) -> None:
        for ends in (lambda gate: gate.callback(None), lambda gate: gate.errback(SpoolError("no"))):
            world, id, gate = self.claiming()
            world.spool.steal(id)
            stopping = world.dispatcher.stop()
            ends(gate)
            self.successResultOf(stopping)
            self.assertEqual(world.reactor.getDelayedCalls(), [])

    def test_but_not_for_ever(self) -> None:
        world, _, _ = self.claiming()
        stopping = world.dispatcher.stop()
        world.pass_time(11, step=1)
        self.successResultOf(stopping)

    def under_load(self) -> tuple[DeliveryWorld, list[Deferred[Carried]]]:
        world = DeliveryWorld(limits=Limits(destination=3, first=3))
        gates: list[Deferred[Carried]] = []

        def slowly(*_: object) -> Deferred[Carried]:
            gates.append(Deferred())
            return gates[-1]

        world.hosts.scripts["mx.slow.example"] = slowly
        for _ in range(10):
            world.accept(forwarded("x@slow.example"))
        return world, gates

    def test_what_is_under_way_may_end_and_the_rest_goes_back_in_one_commit(self) -> None:
        world, gates = self.under_load()
        stopping = world.dispatcher.stop()
        world.pass_time(2)
        self.assertNoResult(stopping)
        for gate in gates:
            gate.callback(TAKEN)
        self.successResultOf(stopping)
        self.assertEqual(len(world.spool.settled), 3)
        self.assertEqual(len(world.spool.unclaimed()), 7)
        given_back = [c for c in world.spool.commits if any(isinstance(step, GiveBack) for step in c)]
        self.assertEqual(len(given_back), 1)
        self.assertEqual(len(world.hosts.calls), 3)
        self.assertEqual(world.reactor.getDelayedCalls(), [])

    def test_what_does_not_end_within_seconds_is_cut_short_and_goes_back_as_it_was(self) -> None:
        world, _ = self.under_load()
        stopping = world.dispatcher.stop()
        world.pass_time(6, step=1)
        self.successResultOf(stopping)
        self.assertEqual(len(world.spool.unclaimed()), 10)
        self.assertEqual({pending.attempts for pending in world.spool.pending()}, {0})
        self.assertEqual(world.reactor.getDelayedCalls(), [])

    def test_what_was_carried_before_the_cut_is_settled(self) -> None:
        world = DeliveryWorld()
        world.domains["example.net"] = ("a", "b")
        world.hosts.scripts["a"] = lambda *_: [TAKEN, Broke(Breakage.LOST, Phase.RCPT, MX)]
        world.hosts.scripts["b"] = lambda *_: Deferred()
        id = world.accept(forwarded("a@example.net"), forwarded("b@example.net"))
        stopping = world.dispatcher.stop()
        world.pass_time(6, step=1)
        self.successResultOf(stopping)
        self.assertEqual(world.spool.settled, {f"{id}.0": Relayed("mx")})
        self.assertEqual(world.spool.unclaimed(), [f"{id}.1"])

    def test_an_agent_that_cannot_be_cut_short_does_not_keep_the_relay(self) -> None:
        world = DeliveryWorld()
        world.maildir.script = self.deaf
        world.accept(local("bob@example.com"))
        stopping = world.dispatcher.stop()
        world.pass_time(11, step=1)
        self.successResultOf(stopping)

    async def deaf(self, _: object) -> None:
        while True:
            try:
                await Deferred[None]()
            except Exception:
                continue

    def test_a_spool_that_takes_no_commits_does_not_keep_the_relay(self) -> None:
        world, gates = self.under_load()
        world.spool.fail(*[SpoolError("disk full")] * 20)
        stopping = world.dispatcher.stop()
        for gate in gates:
            gate.callback(TAKEN)
        world.pass_time(11, step=1)
        self.successResultOf(stopping)
        self.assertTrue(self.flushLoggedErrors(SpoolError))
        self.assertEqual(world.reactor.getDelayedCalls(), [])

    def test_what_is_handed_over_afterwards_goes_back(self) -> None:
        world, gates = self.under_load()
        stopping = world.dispatcher.stop()
        id = world.accept(forwarded("ann@example.net"))
        for gate in gates:
            gate.callback(TAKEN)
        self.successResultOf(stopping)
        self.assertIn(f"{id}.0", world.spool.unclaimed())
        self.assertIsNone(world.lease())

    def test_a_failure_whose_sender_cannot_be_told_in_time_goes_back(self) -> None:
        world = DeliveryWorld()
        world.hosts.answering("mx.example.net", UNKNOWN)
        world.policies.decisions[str(JON)] = Deferred()
        id = world.accept(forwarded("ann@example.net"))
        stopping = world.dispatcher.stop()
        world.pass_time(6, step=1)
        self.successResultOf(stopping)
        self.assertEqual(world.spool.unclaimed(), [f"{id}.0"])
        self.assertEqual(world.spool.settled, {})
        self.assertEqual([pending.attempts for pending in world.spool.pending()], [0])
