"""Destinations that are slow, full, down, or want to be sent little: what the dispatcher does with their mail."""

from __future__ import annotations

from collections import Counter

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from relay.delivery.destination import Condition, Limits, Particular
from relay.delivery.health import Rate
from relay.delivery.retry import Schedule
from relay.interfaces import Consignment
from relay.mail.address import Address
from relay.mail.dsn import Notify
from relay.mail.outcome import Answered, Breakage, Broke, Carried, Failed, Peer, Phase, Relayed
from relay.mail.reply import Reply
from relay.testing.internet import FakeInternet
from relay.testing.peers import Drop, FakeExchange, Fault, Moment, Say
from relay.testing.world import MailWorld
from tests.delivery_world import DeliveryWorld, forwarded, wishing

MX = Peer("mx.example.net", "192.0.2.1")
DOWN = Broke(Breakage.REFUSED, Phase.CONNECT, MX)
TOO_MANY = Answered(Reply.of(421, "4.7.0", "Too many connections"), Phase.GREETING, MX)
GREYLISTED = Answered(Reply.of(450, "4.7.1", "greylisted"), Phase.RCPT, MX)
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


class SlowHost:
    """It takes its time for each message, and more than `most` at once it does not take."""

    def __init__(self, world: DeliveryWorld, seconds: float = 1.0, most: int = 1000) -> None:
        self.world, self.seconds, self.most = world, seconds, most
        self.open = self.peak = self.refused = 0

    def __call__(self, consignment: Consignment, peer: Peer) -> object:
        if self.open >= self.most:
            self.refused += 1
            return TOO_MANY
        self.open += 1
        self.peak = max(self.peak, self.open)
        answer: Deferred[Carried] = Deferred(lambda _: self._done())
        self.world.reactor.callLater(self.seconds, self._answer, answer)
        return answer

    def _answer(self, answer: Deferred[Carried]) -> None:
        if not answer.called:
            self._done()
            answer.callback(Carried(True, "mx"))

    def _done(self) -> None:
        self.open -= 1


class SchedulingTestCase(SynchronousTestCase):
    def at_destination(self, world: DeliveryWorld, name: str = "example.net") -> Condition:
        [found] = [each for each in world.dispatcher.destinations() if each.name == name]
        return found

    def attempts(self, world: DeliveryWorld, host: str = "mx.example.net") -> list[float]:
        return [at for at, name, _ in world.hosts.calls if name == host]


class ConcurrencyTests(SchedulingTestCase):
    def test_it_begins_with_two_and_grows_with_success(self) -> None:
        world = DeliveryWorld()
        world.hosts.scripts["mx.example.net"] = host = SlowHost(world)
        for _ in range(200):
            world.accept(forwarded("ann@example.net"))
        self.assertEqual(world.dispatcher.active, 2)
        world.pass_time(60, step=1)
        self.assertEqual((host.peak, len(world.spool.settled)), (20, 200))

    def test_it_settles_at_what_the_host_takes_at_once_and_nothing_fails(self) -> None:
        world = DeliveryWorld()
        world.hosts.scripts["mx.example.net"] = host = SlowHost(world, most=3)
        for _ in range(240):
            world.accept(forwarded("ann@example.net"))
        world.pass_time(4 * MINUTE, step=1)
        self.assertEqual(self.at_destination(world).limit, 3)
        self.assertLessEqual(host.refused, 3)
        world.pass_time(HOUR, step=1)
        self.assertEqual({type(outcome) for outcome in world.spool.settled.values()}, {Relayed})
        self.assertEqual(len(world.spool.settled), 240)

    def test_hosts_that_are_down_beside_one_that_is_well_are_no_trouble_of_the_destination(self) -> None:
        world = DeliveryWorld()
        world.domains["example.net"] = ["mx1", "mx2", "mx3"]
        world.hosts.answering("mx1", DOWN)
        world.hosts.answering("mx2", DOWN)
        for _ in range(50):
            world.accept(forwarded("ann@example.net"))
        self.assertEqual(len(world.spool.settled), 50)
        self.assertEqual(world.dispatcher.destinations(), ())

    def test_greylisting_is_no_trouble_either(self) -> None:
        world = DeliveryWorld()
        world.hosts.answering("mx.example.net", *[GREYLISTED] * 10, Carried(True, "mx"))
        for _ in range(10):
            world.accept(forwarded("ann@example.net"))
        self.assertEqual(len(self.attempts(world)), 10)
        world.pass_time(10 * MINUTE)
        self.assertEqual((len(self.attempts(world)), len(world.spool.settled)), (20, 10))


class PauseTests(SchedulingTestCase):
    def test_a_host_that_is_down_is_not_stormed(self) -> None:
        world = DeliveryWorld()
        world.random = iter(at % 97 / 97 for at in range(1, 10**9)).__next__
        world.hosts.answering("mx.example.net", DOWN)
        for _ in range(500):
            world.accept(forwarded("ann@example.net"))
        self.assertEqual(len(self.attempts(world)), 3)
        self.assertEqual(world.dispatcher.held, 0)
        world.pass_time(2 * HOUR, step=1)
        # Probes at 1, 2, 4, 8, 16 and then every 30 minutes, of 500 messages that are due four times each.
        self.assertLess(len(self.attempts(world)), 14)
        self.assertEqual(len(world.spool.unsettled()), 500)

    def test_what_is_put_off_says_why_and_comes_when_the_pause_is_over(self) -> None:
        world = DeliveryWorld()
        world.hosts.answering("mx.example.net", DOWN)
        for _ in range(4):
            world.accept(forwarded("ann@example.net"))
        [*_, last] = world.log.said("delayed")
        self.assertEqual((last["status"], last["because"]), ("4.4.1", "not tried again yet: connection refused"))
        state = self.at_destination(world)
        self.assertEqual((state.paused_by, state.waiting, state.limit), ("relay", 0, 1))
        self.assertEqual(state.last_trouble and state.last_trouble.because, "connection refused")
        for pending in world.spool.pending()[-1:]:
            self.assertGreaterEqual(pending.due, state.paused_until or 0)

    def test_what_comes_amid_a_long_pause_waits_for_its_end_and_not_all_of_it_for_the_same_moment(self) -> None:
        world = DeliveryWorld(limits=Limits(pause=1800.0))
        world.random = iter(at % 97 / 97 for at in range(1, 10**9)).__next__
        world.hosts.answering("mx.example.net", DOWN)
        for _ in range(20):
            world.accept(forwarded("ann@example.net"))
        until = self.at_destination(world).paused_until
        dues = sorted(pending.due for pending in world.spool.pending())[3:]
        assert until is not None
        self.assertGreaterEqual(dues[0], until)
        self.assertGreater(dues[-1] - dues[0], 100)

    def test_but_not_longer_than_patience_lasts(self) -> None:
        world = DeliveryWorld(limits=Limits(pause=7200.0, longest_pause=7200.0), schedule=Schedule(give_up=HOUR))
        world.hosts.answering("mx.example.net", DOWN)
        for _ in range(5):
            world.accept(forwarded("ann@example.net"))
        world.pass_time(HOUR + MINUTE)
        self.assertEqual(sum(isinstance(outcome, Failed) for outcome in world.spool.settled.values()), 5)
        self.assertEqual(len(world.notices()), 5)

    def test_when_the_host_is_back_the_probe_is_alone_and_then_there_are_two(self) -> None:
        world = DeliveryWorld()
        world.hosts.answering("mx.example.net", DOWN)
        for _ in range(100):
            world.accept(forwarded("ann@example.net"))
        world.hosts.scripts["mx.example.net"] = host = SlowHost(world, seconds=5)
        world.random = iter(at % 97 / 97 for at in range(1, 10**9)).__next__
        peaks = []
        for _ in range(60 * 12):
            world.pass_time(1, step=1)
            peaks.append(world.dispatcher.active)
        first = next(at for at, active in enumerate(peaks) if active)
        self.assertEqual(set(peaks[first : first + 4]), {1})
        self.assertLessEqual(max(peaks[first : first + 10]), 2)
        self.assertEqual(len(world.spool.settled), 100)
        self.assertEqual((host.refused, self.at_destination(world).paused_by), (0, ""))

    def test_patience_ends_though_nothing_is_tried_and_the_sender_is_told_why(self) -> None:
        world = DeliveryWorld()
        world.dispatcher.pause("example.net")
        id = world.accept(forwarded("ann@example.net"))
        world.pass_time(6 * DAY, step=5 * MINUTE)
        self.assertEqual(self.attempts(world), [])
        outcome = world.spool.settled[f"{id}.0"]
        assert isinstance(outcome, Failed)
        self.assertEqual(outcome.because, "gave up after 5 days: the operator has paused the destination")
        self.assertEqual(len(world.notices()), 1)

    def test_whoever_wants_to_hear_of_a_delay_hears_of_it_all_the_same(self) -> None:
        world = DeliveryWorld()
        world.dispatcher.pause("example.net")
        world.accept(forwarded("ann@example.net"), wishes=wishing(Notify.DELAY))
        world.pass_time(5 * HOUR, step=5 * MINUTE)
        self.assertEqual(len(world.notices()), 1)

    def test_another_destination_is_not_paused_with_it(self) -> None:
        world = DeliveryWorld()
        world.hosts.answering("mx.example.net", DOWN)
        for _ in range(10):
            world.accept(forwarded("ann@example.net"))
        world.accept(forwarded("bob@example.org"))
        self.assertEqual(len(self.attempts(world, "mx.example.org")), 1)

    def test_the_operator_pauses_and_resumes(self) -> None:
        world = DeliveryWorld()
        world.hosts.scripts["mx.example.net"] = SlowHost(world)
        for _ in range(10):
            world.accept(forwarded("ann@example.net"))
        world.dispatcher.pause("example.net")
        self.assertEqual(world.dispatcher.held, 2)
        world.pass_time(HOUR)
        self.assertEqual((len(world.spool.settled), self.at_destination(world).paused_by), (2, "operator"))
        world.dispatcher.resume("example.net")
        Deferred.fromCoroutine(world.dispatcher.hasten("example.net"))
        world.pass_time(MINUTE, step=1)
        self.assertEqual((len(world.spool.settled), self.attempts(world)[2:3] != []), (10, True))

    def test_a_host_that_asks_for_its_mail_is_not_paused_any_more(self) -> None:
        world = DeliveryWorld()
        world.hosts.answering("mx.example.net", DOWN)
        for _ in range(10):
            world.accept(forwarded("ann@example.net"))
        world.hosts.answering("mx.example.net", Carried(True, "mx"))
        Deferred.fromCoroutine(world.dispatcher.hasten("example.net"))
        self.assertEqual(len(world.spool.settled), 10)

    def test_what_is_put_off_while_the_relay_stops_is_not_forgotten(self) -> None:
        world = DeliveryWorld()
        world.hosts.answering("mx.example.net", DOWN)
        for _ in range(5):
            world.accept(forwarded("ann@example.net"))
        _, claims = world.enrol(forwarded("ann@example.net"))
        world.spool.hold()
        world.dispatcher.accept(claims)
        stopped = world.dispatcher.stop()
        self.assertNoResult(stopped)
        world.spool.release()
        self.successResultOf(stopped)
        self.assertEqual(len(world.spool.unclaimed()), 6)


class RateTests(SchedulingTestCase):
    def world(self, count: int, seconds: float) -> DeliveryWorld:
        return DeliveryWorld(limits=Limits(particular={"example.net": Particular(rate=Rate(count, seconds))}))

    def test_a_destination_gets_no_more_than_its_rate(self) -> None:
        world = self.world(60, 60)
        for _ in range(200):
            world.accept(forwarded("ann@example.net"))
        self.assertEqual(len(self.attempts(world)), 6)
        world.pass_time(250, step=0.5)
        self.assertEqual(len(world.spool.settled), 200)
        minutes = Counter(at // 60 for at in self.attempts(world))
        self.assertLessEqual(max(minutes.values()), 66)
        self.assertGreaterEqual(self.attempts(world)[-1], 193)

    def test_others_do_not_wait_for_it(self) -> None:
        world = self.world(1, 3600)
        for _ in range(10):
            world.accept(forwarded("ann@example.net"))
        world.accept(forwarded("bob@example.org"))
        self.assertEqual(len(self.attempts(world, "mx.example.org")), 1)
        self.assertEqual((self.at_destination(world).rate_left, self.at_destination(world).waiting), (0, 9))

    def test_each_of_two_destinations_begins_when_its_own_rate_permits_it(self) -> None:
        rates = {"example.net": Particular(rate=Rate(1, 60)), "example.org": Particular(rate=Rate(1, 80))}
        world = DeliveryWorld(limits=Limits(particular=rates))
        for address in ("ann@example.net", "bob@example.org") * 2:
            world.accept(forwarded(address))
        # Its second attempt does not end, so nothing else happens when the other destination may begin.
        world.hosts.scripts["mx.example.net"] = lambda *_: Deferred()
        world.pass_time(90, step=1)
        self.assertEqual(self.attempts(world), [0, 60])
        self.assertEqual(self.attempts(world, "mx.example.org"), [0, 80])

    def test_a_relay_that_stops_does_not_wait_for_it(self) -> None:
        world = self.world(1, 3600)
        for _ in range(10):
            world.accept(forwarded("ann@example.net"))
        self.successResultOf(world.dispatcher.stop())
        self.assertEqual((len(world.spool.unclaimed()), world.reactor.getDelayedCalls()), (9, []))


class FairnessTests(SchedulingTestCase):
    NEWS = Address("news", "lists.test")

    def test_a_newsletter_does_not_delay_one_persons_mail(self) -> None:
        world = DeliveryWorld()
        world.hosts.scripts["mx.example.net"] = SlowHost(world, seconds=1)
        for _ in range(2000):
            world.accept(forwarded("ann@example.net"), reverse_path=self.NEWS)
        world.pass_time(10, step=1)
        id = world.accept(forwarded("ann@example.net"))
        before = len(world.hosts.calls)
        world.pass_time(2, step=1)
        self.assertIn(f"{id}.0", world.spool.settled)
        began = next(at for at, (_, _, ids) in enumerate(world.hosts.calls) if f"{id}.0" in ids)
        self.assertLessEqual(began - before, 2)
        world.pass_time(HOUR, step=1)
        self.assertEqual(len(world.spool.settled), 2001)

    def test_nor_when_no_more_of_it_has_a_place_in_memory(self) -> None:
        world = DeliveryWorld(limits=Limits(destination=2, total=20, held=100))
        world.hosts.scripts["mx.example.net"] = SlowHost(world, seconds=1)
        for _ in range(400):
            world.accept(forwarded("ann@example.net"), reverse_path=self.NEWS)
        id = world.accept(forwarded("ann@example.net"))
        world.pass_time(3, step=1)
        self.assertIn(f"{id}.0", world.spool.settled)
        world.pass_time(HOUR, step=1)
        self.assertEqual(len(world.spool.settled), 401)


class LongQueueTests(SchedulingTestCase):
    """What is left out since enough of it waits in memory is not looked through again and again."""

    def setUp(self) -> None:
        self.world = world = DeliveryWorld(limits=Limits(destination=2, total=20, held=100), running=False)
        world.hosts.scripts["mx.slow.example"] = SlowHost(world, seconds=1)
        for _ in range(400):
            world.enrol(forwarded("ann@slow.example"), lease=None)

    def test_it_is_looked_for_more_when_half_of_what_may_wait_is_gone(self) -> None:
        self.world.dispatcher.start()
        before = self.world.spool.looks
        self.world.pass_time(100, step=1)
        self.assertEqual(len(self.world.spool.settled), 200)
        # Of 25 that may wait more are claimed when half of them have begun: once for each twelve, and some looks beside.
        self.assertLess(self.world.spool.looks - before, 30)

    def test_all_of_it_is_carried_in_the_end(self) -> None:
        self.world.dispatcher.start()
        self.world.pass_time(HOUR, step=1)
        self.assertEqual(len(self.world.spool.settled), 400)

    def test_what_others_are_sent_is_looked_for_at_its_time_all_the_same(self) -> None:
        world = self.world
        world.hosts.answering("mx.example.net", GREYLISTED, Carried(True, "mx"))
        world.dispatcher.start()
        delayed = world.accept(forwarded("ann@example.net"))
        world.pass_time(30, step=1)
        late, _ = world.enrol(forwarded("ann@example.org"), lease=None)
        world.dispatcher.accept(())
        self.assertIn(f"{late}.0", world.spool.settled)
        self.assertNotIn(f"{delayed}.0", world.spool.settled)
        world.pass_time(4.6 * MINUTE, step=1)
        self.assertIn(f"{delayed}.0", world.spool.settled)

    def test_be_it_in_a_moment(self) -> None:
        world = DeliveryWorld(
            limits=Limits(destination=2, total=20, held=100), running=False, schedule=Schedule(first=10.0)
        )
        world.hosts.scripts["mx.slow.example"] = SlowHost(world, seconds=300)
        for _ in range(400):
            world.enrol(forwarded("ann@slow.example"), lease=None)
        world.hosts.answering("mx.example.net", GREYLISTED, Carried(True, "mx"))
        world.dispatcher.start()
        world.pass_time(1, step=1)
        delayed = world.accept(forwarded("ann@example.net"))
        world.pass_time(12, step=1)
        self.assertIn(f"{delayed}.0", world.spool.settled)

    def test_and_what_is_hastened(self) -> None:
        world = self.world
        world.hosts.answering("mx.example.net", GREYLISTED, Carried(True, "mx"))
        world.dispatcher.start()
        delayed = world.accept(forwarded("ann@example.net"))
        world.pass_time(30, step=1)
        Deferred.fromCoroutine(world.dispatcher.hasten("example.net"))
        self.assertIn(f"{delayed}.0", world.spool.settled)


class CrowdedExchange(FakeExchange):
    """It says 421 to whoever comes while it has three connections."""

    refused = 0

    def fault_at(self, moment: Moment, number: int, command: str) -> Fault | None:
        if moment == "GREETING" and self.open > 3:
            self.refused += 1
            return Say("421 4.7.0 Too many connections")
        return super().fault_at(moment, number, command)


class WorldTests(SynchronousTestCase):
    """The same with everything else that is real: names, connections that are kept, replies."""

    CONFIGURATION = """
hostname = "mx.test"
[[listener]]
address = "127.0.0.1:2525"
[[policy]]
use = "forward"
when = { client = ["127.0.0.0/8"] }
"""
    MAIL = b"Subject: hello\r\n\r\nHi!\r\n"

    def send(self, world: MailWorld, count: int) -> None:
        for _ in range(count):
            world.send("ann@here.test", "bob@example.org", self.MAIL)

    def failed(self, world: MailWorld) -> int:
        return sum(event == "failed" for event, _ in world.log.events)

    def test_a_provider_that_takes_three_connections_gets_three(self) -> None:
        world = MailWorld(self.CONFIGURATION, latency=0.1)
        world.exchange("example.org", "192.0.2.25")
        crowded = CrowdedExchange("mx10.example.org", clock=world.clock)
        world.internet.add("192.0.2.25", crowded)
        self.send(world, 200)
        world.pass_time(HOUR)
        self.assertEqual((len(crowded.messages), self.failed(world)), (200, 0))
        self.assertLessEqual(crowded.refused, 4)
        self.assertLessEqual(crowded.connections, 12)

    def test_half_of_the_exchangers_may_be_dead(self) -> None:
        world = MailWorld(self.CONFIGURATION, latency=0.1)
        for at in range(4):
            exchange = world.exchange("example.org", f"192.0.2.{at}", preference=at)
            if at % 2 == 0:
                world.internet.remove(f"192.0.2.{at}")
        self.send(world, 50)
        world.pass_time(MINUTE)
        self.assertEqual(sum(event == "relayed" for event, _ in world.log.events), 50)
        self.assertIsInstance(world.internet, FakeInternet)
        self.assertEqual(exchange.complaints, [])

    def test_greylisting_delays_once(self) -> None:
        world = MailWorld(self.CONFIGURATION)
        mx = world.exchange("example.org", "192.0.2.25")
        mx.at("RCPT", Say("450 4.7.1 Greylisted, come back in 5 minutes"), times=1)
        self.send(world, 1)
        world.pass_time(10 * MINUTE)
        self.assertEqual((len(mx.messages), self.failed(world)), (1, 0))

    def test_a_peer_that_takes_the_message_and_drops_before_its_reply_gets_one_duplicate_at_most(self) -> None:
        world = MailWorld(self.CONFIGURATION)
        mx = world.exchange("example.org", "192.0.2.25")
        mx.at("END", Drop(), times=1)
        self.send(world, 1)
        world.pass_time(DAY)
        self.assertEqual((len(mx.unpromised), len(mx.messages)), (1, 1))

    def test_a_domain_that_was_down_for_days_gets_its_mail_and_no_flood(self) -> None:
        world = MailWorld(self.CONFIGURATION, latency=0.05)
        mx = world.exchange("example.org", "192.0.2.25")
        world.internet.remove("192.0.2.25")
        self.send(world, 60)
        world.pass_time(2 * DAY)
        attempts = len(world.internet.attempts)
        self.assertLess(attempts, 150)
        world.internet.add("192.0.2.25", mx)
        world.pass_time(6 * HOUR)
        self.assertEqual((len(mx.messages), self.failed(world)), (60, 0))

    def test_a_policy_has_its_own_schedule_and_the_rest_is_that_of_the_relay(self) -> None:
        retry = 'retry = { first = "1m", factor = 1 }\n'
        world = MailWorld(
            "[delivery.retry]\njitter = 0\n" + self.CONFIGURATION.replace('hostname = "mx.test"', "") + retry
        )
        mx = world.exchange("example.org", "192.0.2.25")
        mx.at("RCPT", Say("450 4.2.2 Full"), times=4)
        self.send(world, 1)
        world.pass_time(4 * MINUTE + 1)
        self.assertEqual(len(mx.messages), 1)

    def test_a_destination_may_be_named_with_a_rate_and_a_number_of_sessions(self) -> None:
        own = '[[delivery.destination]]\nname = "Example.ORG"\nrate = "60/1m"\nmost = 1\n'
        world = MailWorld(own + self.CONFIGURATION.replace('hostname = "mx.test"', ""), latency=0.01)
        mx = world.exchange("example.org", "192.0.2.25")
        self.send(world, 30)
        world.pass_time(2.5)
        self.assertEqual((mx.connections, len(mx.messages)), (1, 8))
        world.pass_time(30)
        self.assertEqual(len(mx.messages), 30)

    def test_a_relay_that_stops_says_quit_on_what_it_had_kept(self) -> None:
        world = MailWorld(self.CONFIGURATION)
        mx = world.exchange("example.org", "192.0.2.25")
        self.send(world, 1)
        world.settle()
        self.assertEqual(mx.open, 1)
        self.successResultOf(world.relay.dispatcher.stop())
        world.settle()
        self.assertEqual((mx.open, mx.transcript[-2]), (0, ("C", b"QUIT\r\n")))
