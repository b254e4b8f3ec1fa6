"""What waits goes where the policies of today send it."""

from __future__ import annotations

import contextlib
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.delivery.destination import Limits
from relay.delivery.dispatch import Pace
from relay.interfaces import IRoutes
from relay.mail.address import Address
from relay.mail.decision import Accepted, Placement, Refused
from relay.mail.outcome import Breakage, Broke, Carried, Delivered, Failed, Peer, Phase, Relayed
from relay.mail.reply import Reply
from relay.mail.routing import Deliver, Discard, Forward, Hold, Inquiry, NextHop, Route
from relay.mail.selection import BY_OPERATOR
from relay.testing.world import MailWorld
from tests.delivery_world import EPOCH, JON, DeliveryWorld, expansion, forwarded, local

DOWN = Broke(Breakage.REFUSED, Phase.CONNECT, Peer("mx", "192.0.2.1"))
NO = Refused(Reply.of(550, "5.7.1", "relaying denied"), "", "every policy abstained")
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
ANN = Address.parse("ann@example.net")


@implementer(IRoutes)
@define
class Routes:
    """What the policies of today say of each address; of others that the first decision stands."""

    decisions: dict[str, Any] = field(factory=dict)
    #: The same for all others.
    everybody: Any = None
    asked: list[tuple[Inquiry, str]] = field(factory=list)

    async def today(self, inquiry: Inquiry, policy: str) -> Any:
        self.asked.append((inquiry, policy))
        said = self.decisions.get(str(inquiry.recipient), self.everybody)
        if isinstance(said, Exception):
            raise said
        return await said if isinstance(said, Deferred) else said

    def say(self, address: Address, route: Route, policy: str = "p") -> None:
        self.decisions[str(address)] = Accepted((Placement(address, address, route, policy),))


class TodayTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.routes = Routes()
        self.world = DeliveryWorld(routes=self.routes)
        self.world.hosts.answering("mx.example.net", DOWN)

    def send(self) -> str:
        return self.world.accept(forwarded("ann@example.net"))

    def test_the_first_attempt_asks_nobody(self) -> None:
        self.send()
        self.assertEqual(self.routes.asked, [])

    def test_each_later_one_does_with_what_is_known_of_the_client(self) -> None:
        self.send()
        self.world.pass_time(10 * MINUTE)
        [(inquiry, policy)] = self.routes.asked
        self.assertEqual((inquiry.recipient, inquiry.original, inquiry.reverse_path, policy), (ANN, ANN, JON, "p"))
        self.assertEqual(inquiry.client.address, "192.0.2.99")

    def test_what_was_left_by_an_earlier_relay_asks_at_once(self) -> None:
        world = DeliveryWorld(routes=self.routes, running=False)
        world.enrol(forwarded("ann@example.net"), lease=None)
        self.routes.say(ANN, Forward("example.org"))
        world.dispatcher.start()
        self.assertEqual([host for _, host, _ in world.hosts.calls], ["mx.example.org"])

    def test_it_goes_the_way_of_today_and_the_mail_log_says_so(self) -> None:
        id = self.send()
        self.routes.say(ANN, Forward(NextHop("smart.example", mx=False)), "smarthost")
        self.world.pass_time(10 * MINUTE)
        self.assertEqual(self.world.hosts.calls[-1][1], "mx.smart.example")
        self.assertIsInstance(self.world.spool.settled[f"{id}.0"], Relayed)
        self.assertEqual(
            self.world.log.said("rerouted"),
            [
                {
                    "id": id,
                    "recipient": ANN,
                    "destination": "example.net",
                    "via": "[smart.example]:25",
                    "policy": "smarthost",
                }
            ],
        )
        self.assertEqual(self.world.log.said("relayed")[0]["destination"], "[smart.example]:25")

    def test_it_may_stay_here_instead(self) -> None:
        id = self.send()
        self.routes.say(ANN, Deliver("maildir"))
        self.world.pass_time(10 * MINUTE)
        self.assertIsInstance(self.world.spool.settled[f"{id}.0"], Delivered)

    def test_the_same_way_is_no_news_whatever_is_said_of_why(self) -> None:
        self.send()
        self.routes.say(ANN, Forward("example.net", because="by another word"))
        self.world.pass_time(HOUR)
        self.assertEqual(self.world.log.said("rerouted"), [])

    def test_recipients_of_one_message_may_part(self) -> None:
        bob = Address.parse("bob@example.net")
        id = self.world.accept(forwarded("ann@example.net"), forwarded("bob@example.net"))
        self.routes.say(bob, Forward("example.org"))
        self.world.pass_time(10 * MINUTE)
        self.assertEqual(list(self.world.spool.settled), [f"{id}.1"])
        self.assertEqual([pending.attempts for pending in self.world.spool.pending()], [2])

    def test_a_refusal_delays_with_an_alarm_and_fails_only_when_patience_ends(self) -> None:
        id = self.send()
        for said in (NO, RuntimeError("a bug"), Accepted((Placement(ANN, ANN, Discard(), "p"),))):
            self.routes.decisions[str(ANN)] = said
            self.world.pass_time(6 * HOUR)
            self.assertEqual(self.world.spool.settled, {})
        self.assertTrue(self.flushLoggedErrors(RuntimeError))
        self.assertEqual(len(self.world.hosts.calls), 1)
        because = [each["because"] for each in self.world.log.said("delayed")]
        self.assertIn("the policies of today send it nowhere: every policy abstained", because)
        self.assertIn("the policies of today send it nowhere: an internal error", because)
        self.routes.decisions[str(ANN)] = NO
        self.world.pass_time(6 * DAY, step=5 * MINUTE)
        outcome = self.world.spool.settled[f"{id}.0"]
        assert isinstance(outcome, Failed)
        self.assertEqual(outcome.status, "4.3.5")
        self.assertEqual(len(self.world.notices()), 1)

    def test_when_it_is_mended_it_goes_on(self) -> None:
        id = self.send()
        self.routes.decisions[str(ANN)] = NO
        self.world.pass_time(HOUR)
        self.routes.say(ANN, Forward("example.org"))
        self.world.pass_time(HOUR)
        self.assertIsInstance(self.world.spool.settled[f"{id}.0"], Relayed)

    def test_what_has_no_way_of_its_own_is_not_asked_about(self) -> None:
        world = DeliveryWorld(routes=self.routes, running=False)
        world.enrol(expansion("list@example.com"), lease=None)
        world.enrol((ANN, Forward("example.org", because=BY_OPERATOR)), lease=None)
        world.dispatcher.start()
        self.assertEqual(self.routes.asked, [])
        self.assertEqual([host for _, host, _ in world.hosts.calls], ["mx.example.org"])

    def test_a_policy_may_think_for_a_while_and_others_do_not_wait_for_it(self) -> None:
        world = DeliveryWorld(routes=self.routes, running=False)
        self.routes.decisions[str(ANN)] = thinking = Deferred()  # type: ignore[var-annotated]
        slow, _ = world.enrol(forwarded("ann@example.net"), lease=None)
        quick, _ = world.enrol(local("bob@example.com"), lease=None)
        world.dispatcher.start()
        self.assertEqual(list(world.spool.settled), [f"{quick}.0"])
        thinking.callback(Accepted((Placement(ANN, ANN, Forward("example.org"), "p"),)))
        self.assertIn(f"{slow}.0", world.spool.settled)

    def thinking_for(self, seconds: float, recipients: int) -> DeliveryWorld:
        """A world whose policies need so long for each of the recipients of one message."""
        world = DeliveryWorld(routes=self.routes, running=False)
        addresses = [Address.parse(f"u{at}@example.net") for at in range(recipients)]
        for address in addresses:
            self.routes.decisions[str(address)] = said = Deferred()  # type: ignore[var-annotated]
            world.reactor.callLater(seconds, said.callback, None)
        world.enrol(*[forwarded(str(address)) for address in addresses], lease=None)
        world.dispatcher.start()
        return world

    def test_the_recipients_of_a_message_do_not_wait_for_each_other(self) -> None:
        world = self.thinking_for(9.0, 40)
        self.assertEqual(len(self.routes.asked), 40)
        world.pass_time(HOUR, step=1)
        self.assertEqual([at for at, _, _ in world.hosts.calls], [9.0])
        self.assertEqual(len(world.spool.settled), 40)

    def test_whoever_has_no_answer_in_time_is_delayed_and_the_others_go(self) -> None:
        world = DeliveryWorld(routes=self.routes, running=False)
        self.routes.decisions["bob@example.net"] = never = Deferred()  # type: ignore[var-annotated]
        id, _ = world.enrol(forwarded("ann@example.net"), forwarded("bob@example.net"), lease=None)
        world.dispatcher.start()
        world.pass_time(99, step=1)
        self.assertEqual(list(world.spool.settled), [f"{id}.0"])
        self.assertEqual([(one.attempts, one.due > world.clock.now()) for one in world.spool.pending()], [(1, True)])
        self.assertIn("no answer within 75 s", str(world.log.said("delayed")[0]["because"]))
        self.assertTrue(never.called)

    def test_patience_ends_and_the_sender_is_told_though_the_policies_never_answer(self) -> None:
        @implementer(IRoutes)
        class Mute:
            async def today(self, inquiry: Inquiry, policy: str) -> Any:
                return await Deferred()

        world = DeliveryWorld(routes=Mute(), running=False)
        id, _ = world.enrol(forwarded("ann@example.net"), lease=None)
        world.dispatcher.start()
        world.pass_time(6 * DAY, step=MINUTE)
        self.assertIsInstance(world.spool.settled[f"{id}.0"], Failed)
        self.assertEqual(len(world.notices()), 1)
        self.assertEqual(world.log.said("claim_lost"), [])

    def test_a_policy_that_does_not_end_when_it_is_told_to_keeps_nobody_waiting(self) -> None:
        @implementer(IRoutes)
        class Stubborn:
            async def today(self, inquiry: Inquiry, policy: str) -> Any:
                while True:
                    with contextlib.suppress(CancelledError):
                        await Deferred()

        world = DeliveryWorld(routes=Stubborn(), running=False)
        world.enrol(forwarded("ann@example.net"), lease=None)
        world.dispatcher.start()
        world.pass_time(99, step=1)
        self.assertEqual([one.attempts for one in world.spool.pending()], [1])

    def test_what_policies_think_about_stays_ours(self) -> None:
        world = DeliveryWorld(routes=self.routes, running=False, pace=Pace(lease=90.0, thinking=2.5), at=DAY)
        self.routes.decisions[str(ANN)] = thinking = Deferred()  # type: ignore[var-annotated]
        id, _ = world.enrol(forwarded("ann@example.net"), lease=None)
        world.dispatcher.start()
        world.pass_time(80, step=1)
        [row] = world.spool.shelf.recipients[id].values()
        self.assertGreater(row.wake, EPOCH + DAY + 90.0)
        self.assertEqual(len(self.routes.asked), 1)
        self.assertFalse(thinking.called)

    def test_what_another_relay_took_meanwhile_is_not_carried(self) -> None:
        world = DeliveryWorld(routes=self.routes, running=False, pace=Pace(lease=90.0, thinking=2.5))
        self.routes.decisions[str(ANN)] = said = Deferred()  # type: ignore[var-annotated]
        world.reactor.callLater(100.0, said.callback, None)
        id, _ = world.enrol(forwarded("ann@example.net"), lease=None)
        world.dispatcher.start()
        world.spool.steal(id)
        world.pass_time(HOUR, step=1)
        self.assertEqual((world.hosts.calls, world.spool.settled), ([], {}))

    def test_a_long_queue_that_goes_another_way_today_is_not_claimed_and_given_back_in_a_circle(self) -> None:
        world = DeliveryWorld(
            routes=self.routes, running=False, limits=Limits(destination=2, first=2, total=20, held=40)
        )
        self.routes.say(ANN, Forward("example.org"))
        gates: list[Deferred[Any]] = []

        def slow(*_: object) -> Deferred[Any]:
            gates.append(Deferred())
            return gates[-1]

        world.hosts.scripts["mx.example.org"] = slow
        for _ in range(200):
            world.enrol(forwarded("ann@example.net"), lease=None)
        world.dispatcher.start()
        self.assertLess(world.spool.looks, 10)
        for gate in gates:
            gate.callback(Carried(True, "mx"))
        world.hosts.scripts.clear()
        world.pass_time(MINUTE, step=1)
        self.assertEqual(len(world.spool.settled), 200)

    def test_no_more_is_claimed_than_can_be_held_while_policies_think(self) -> None:
        world = DeliveryWorld(routes=self.routes, running=False, limits=Limits(held=40))
        self.routes.everybody = Deferred()
        for _ in range(100):
            world.enrol(forwarded("ann@example.net"), lease=None)
        world.dispatcher.start()
        self.assertEqual(len(self.routes.asked), 40)

    def test_a_relay_that_stops_meanwhile_gives_it_back(self) -> None:
        world = DeliveryWorld(routes=self.routes, running=False)
        self.routes.decisions[str(ANN)] = thinking = Deferred()  # type: ignore[var-annotated]
        world.enrol(forwarded("ann@example.net"), lease=None)
        world.dispatcher.start()
        world.spool.hold()
        stopped = world.dispatcher.stop()
        thinking.callback(None)
        world.spool.release()
        self.successResultOf(stopped)
        self.assertEqual(len(world.spool.unsettled()), 1)

    def test_a_relay_that_stops_does_not_wait_for_the_policies(self) -> None:
        world = DeliveryWorld(routes=self.routes, running=False)
        self.routes.decisions[str(ANN)] = Deferred()
        world.enrol(forwarded("ann@example.net"), lease=None)
        world.dispatcher.start()
        self.successResultOf(world.dispatcher.stop())
        self.assertEqual(len(world.spool.unclaimed()), 1)
        self.assertEqual(world.reactor.getDelayedCalls(), [])


class WorldTests(SynchronousTestCase):
    """An operator changes the configuration while mail waits."""

    BEFORE = """
hostname = "mx.test"
[[listener]]
address = "127.0.0.1:2525"
[[policy]]
use = "alias"
[policy.aliases]
"team@here.test" = ["bob@example.org", "eve@example.org"]
[[policy]]
name = "out"
use = "forward"
when = { client = ["127.0.0.0/8"] }
next_hop = "192.0.2.66"
"""

    def restarted(self, *changes: tuple[str, str]) -> MailWorld:
        """Mail for a team waits for a smarthost that is dead, and the relay is started with another configuration."""
        world = MailWorld(self.BEFORE)
        world.send("ann@here.test", "team@here.test", b"Subject: x\r\n\r\nHi!\r\n")
        world.pass_time(MINUTE)
        for old, new in changes:
            self.assertIn(old, world._configuration)
            world._configuration = world._configuration.replace(old, new)
        world.crash()
        return world

    def test_mail_is_not_frozen_to_a_relay_that_is_dead(self) -> None:
        world = self.restarted(("192.0.2.66", "192.0.2.25"))
        mx = world.exchange("smart.test", "192.0.2.25")
        world.pass_time(HOUR)
        [message] = mx.messages
        self.assertEqual(message.recipients, ("bob@example.org", "eve@example.org"))

    def test_an_alias_is_not_expanded_twice(self) -> None:
        world = self.restarted(
            ("192.0.2.66", "192.0.2.25"),
            ('"team@here.test" =', '"bob@example.org" = ["x@here.test"]\n"team@here.test" ='),
        )
        mx = world.exchange("smart.test", "192.0.2.25")
        world.pass_time(HOUR)
        self.assertEqual(mx.messages[0].recipients, ("bob@example.org", "eve@example.org"))

    def test_if_nobody_lets_it_go_any_more_it_waits(self) -> None:
        world = self.restarted(("127.0.0.0/8", "10.0.0.0/8"))
        world.pass_time(HOUR)
        self.assertEqual({event for event, _ in world.log.events}, {"accepted", "delayed"})
        [last] = [fields for event, fields in world.log.events if event == "delayed"][-1:]
        self.assertIn("the policies of today send it nowhere", str(last["because"]))

    def test_a_policy_under_another_name_is_the_same_way(self) -> None:
        world = self.restarted(('"out"', '"outbound"'))
        world.pass_time(HOUR)
        self.assertNotIn("rerouted", {event for event, _ in world.log.events})


class HoldTests(SynchronousTestCase):
    def test_what_is_held_is_never_claimed_and_never_asked_about(self) -> None:
        routes = Routes()
        world = DeliveryWorld(routes=routes, running=False)
        world.enrol((ANN, Hold()), lease=None)
        world.dispatcher.start()
        world.pass_time(HOUR)
        self.assertEqual(routes.asked, [])
