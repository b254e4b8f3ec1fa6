"""Workers that end are started again, and all end when the relay does."""

from __future__ import annotations

import signal
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from relay.net.clock import ReactorClock
from relay.net.line import Line
from relay.sharing import Share
from relay.workers.crew import GOOD_LIFE, MARGIN, Crew, Post
from relay.workers.orders import Ended

KILLED = Ended(signal=9)


class Body:
    """A process of a worker's, without a machine."""

    def __init__(self, share: Share, line: Line, ended: Callable[[Ended], object]) -> None:
        self.share = share
        self.line = line
        self.pid = 1000 + share.index
        self.signals: list[int] = []
        self.ended = ended
        self.transport = StringTransport()
        line.makeConnection(self.transport)

    def signal(self, number: int) -> None:
        self.signals.append(number)

    def says(self, topic: str) -> None:
        self.line.dataReceived(b'{"topic": "%s", "body": {}}\n' % topic.encode())


class CrewTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.bodies: list[Body] = []
        self.told: list[str] = []
        self.fail_to_start = False
        shares = (Share(0, 2), Share(1, 2), Share(2, 2, True))
        self.crew = Crew(
            ReactorClock(self.clock),
            self.begin,
            shares,
            joined=lambda post: self.tell("joined", post),
            left=lambda post: self.tell("left", post),
            hopeless=lambda post, status: self.told.append(f"hopeless {post.share.index} {status}"),
            unable=lambda post, status: self.told.append(f"unable {post.share.index} {status}"),
        )
        self.crew.start()

    def tell(self, what: str, post: Post) -> None:
        self.told.append(f"{what} {post.share.index}")

    def begin(self, share: Share, line: Line, ended: Callable[[Ended], object]) -> Body:
        if self.fail_to_start:
            raise OSError(11, "no processes left")
        self.bodies.append(Body(share, line, ended))
        return self.bodies[-1]

    def ready(self) -> None:
        for body in self.bodies:
            body.says("ready")

    def starts_of(self, index: int) -> int:
        return sum(body.share.index == index for body in self.bodies)

    def end_of(self, index: int, how: Ended = KILLED) -> None:
        [*_, last] = [body for body in self.bodies if body.share.index == index]
        last.ended(how)

    def test_each_is_started_once_and_joins_when_it_is_ready(self) -> None:
        self.assertEqual([body.share.index for body in self.bodies], [0, 1, 2])
        self.assertEqual(self.told, [])
        self.bodies[1].says("ready")
        self.bodies[1].says("ready")
        self.assertEqual(self.told, ["joined 1"])
        self.assertEqual([post.proved for post in self.crew.posts], [False, True, False])

    def test_the_first_time_it_is_started_again_at_once(self) -> None:
        self.ready()
        self.end_of(1)
        self.assertIsNone(self.crew.posts[1].process)
        self.clock.advance(0)
        self.assertEqual(self.starts_of(1), 2)
        self.assertEqual(self.told[3:], ["left 1"])
        self.bodies[-1].says("ready")
        self.assertEqual(self.told[4:], ["joined 1"])

    def test_one_that_ends_again_and_again_rests_longer_and_longer(self) -> None:
        self.ready()
        self.end_of(1)
        self.clock.advance(0)
        for rest in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0):
            starts = self.starts_of(1)
            self.end_of(1)
            self.clock.advance(rest - 0.01)
            self.assertEqual(self.starts_of(1), starts, rest)
            self.clock.advance(0.02)
            self.assertEqual(self.starts_of(1), starts + 1, rest)
        self.assertEqual(self.starts_of(0), 1)

    def test_a_minute_of_good_life_makes_up_for_all(self) -> None:
        self.ready()
        for _ in range(5):
            self.end_of(1)
            self.clock.advance(30)
        self.bodies[-1].says("ready")
        self.clock.advance(GOOD_LIFE)
        starts = self.starts_of(1)
        self.end_of(1)
        self.clock.advance(0)
        self.assertEqual(self.starts_of(1), starts + 1)

    def test_time_in_which_it_was_only_being_started_is_no_good_life(self) -> None:
        self.ready()
        self.end_of(1)
        self.clock.advance(GOOD_LIFE)
        self.end_of(1)
        self.clock.advance(0)
        self.assertEqual(self.starts_of(1), 2)

    def test_one_that_cannot_even_begin_is_hopeless_unless_it_was_killed(self) -> None:
        self.end_of(0)
        self.assertEqual(self.told, ["left 0"])
        self.clock.advance(0)
        self.end_of(0, Ended(status=78))
        self.assertEqual(self.told[1:], ["left 0", "hopeless 0 78"])
        self.clock.advance(3600)
        self.assertEqual(self.starts_of(0), 2)

    def test_one_that_ends_in_order_before_it_has_served_was_told_to_by_somebody(self) -> None:
        self.end_of(0, Ended(status=0))
        self.assertEqual(self.told, ["left 0"])
        self.clock.advance(0)
        self.assertEqual(self.starts_of(0), 2)

    def test_a_retired_one_that_cannot_begin_is_tried_again_and_that_is_said_once(self) -> None:
        self.bodies[0].says("ready")
        self.bodies[1].says("ready")
        self.end_of(2, Ended(status=1))
        self.assertEqual(self.told[2:], ["left 2", "unable 2 1"])
        self.assertEqual(self.crew.posts[2].unable, Ended(status=1))
        for rest in (0, 0.1, 0.2):
            self.clock.advance(rest)
            self.end_of(2, Ended(status=1))
        self.assertEqual((self.starts_of(2), self.told[4:]), (4, ["left 2"] * 3))
        self.clock.advance(0.4)
        self.end_of(2, Ended(status=75))
        self.assertEqual(self.told[-1], "unable 2 75")
        self.clock.advance(0.8)
        self.bodies[-1].says("ready")
        self.assertIsNone(self.crew.posts[2].unable)
        self.assertEqual(self.told[-1], "joined 2")

    def test_one_that_has_served_once_is_tried_for_ever(self) -> None:
        self.ready()
        self.end_of(0, Ended(status=78))
        self.clock.advance(0)
        self.end_of(0, Ended(status=78))
        self.clock.advance(1)
        self.assertEqual(self.starts_of(0), 3)

    def test_where_no_process_can_be_made_it_is_tried_again(self) -> None:
        self.ready()
        self.fail_to_start = True
        self.end_of(0)
        self.clock.advance(0)
        self.fail_to_start = False
        self.clock.advance(0.1)
        self.assertEqual(self.starts_of(0), 2)

    def test_where_none_could_ever_be_made_it_is_hopeless(self) -> None:
        self.end_of(0)
        self.fail_to_start = True
        self.clock.advance(0)
        self.assertEqual(self.told, ["left 0", "hopeless 0 71"])
        self.clock.advance(3600)
        self.assertEqual(self.starts_of(0), 1)

    def test_what_one_says_that_has_ended_counts_for_nothing(self) -> None:
        self.ready()
        self.end_of(0)
        self.clock.advance(0)
        self.bodies[0].says("ready")
        self.assertIsNone(self.crew.posts[0].since)

    def test_to_stop_is_to_tell_all_and_to_wait_for_all(self) -> None:
        self.ready()
        stopped = Deferred.fromCoroutine(self.crew.stop())
        self.assertEqual([body.signals for body in self.bodies], [[signal.SIGTERM]] * 3)
        for index in range(3):
            self.assertNoResult(stopped)
            self.end_of(index, Ended(status=0))
        self.successResultOf(stopped)
        self.successResultOf(Deferred.fromCoroutine(self.crew.stop()))
        self.clock.advance(3600)
        self.assertEqual(len(self.bodies), 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_does_not_end_is_killed(self) -> None:
        self.ready()
        stopped = Deferred.fromCoroutine(self.crew.stop())
        self.end_of(0, Ended(status=0))
        self.clock.advance(MARGIN)
        self.assertEqual([body.signals[1:] for body in self.bodies], [[], [signal.SIGKILL], [signal.SIGKILL]])
        self.end_of(1)
        self.end_of(2)
        self.successResultOf(stopped)

    def test_one_that_rests_is_not_started_when_the_relay_stops(self) -> None:
        self.ready()
        self.end_of(0)
        stopped = Deferred.fromCoroutine(self.crew.stop())
        self.end_of(1, Ended(status=0))
        self.end_of(2, Ended(status=0))
        self.successResultOf(stopped)
        self.clock.advance(3600)
        self.assertEqual(len(self.bodies), 3)

    def test_who_has_nothing_left_to_do_is_dismissed_and_its_post_given_up(self) -> None:
        self.ready()
        self.crew.dismiss(self.crew.posts[2])
        self.assertEqual(self.bodies[2].signals, [signal.SIGTERM])
        self.end_of(2, Ended(status=0))
        self.assertEqual([post.share.index for post in self.crew.posts], [0, 1])
        self.clock.advance(3600)
        self.assertEqual(len(self.bodies), 3)

    def test_who_did_not_end_in_order_keeps_its_post(self) -> None:
        self.ready()
        self.crew.dismiss(self.crew.posts[2])
        self.end_of(2)
        self.assertEqual(len(self.crew.posts), 3)
        # Somebody has to find out again that there is nothing left.
        self.clock.advance(0)
        self.assertEqual(self.starts_of(2), 2)
        self.bodies[-1].says("ready")
        self.crew.dismiss(self.crew.posts[2])
        self.end_of(2, Ended(status=0))
        self.assertEqual(len(self.crew.posts), 2)

    def test_a_signal_is_sent_to_all_who_are_there(self) -> None:
        self.ready()
        self.end_of(0)
        self.crew.signal(signal.SIGUSR1)
        self.assertEqual([body.signals for body in self.bodies], [[], [signal.SIGUSR1], [signal.SIGUSR1]])
