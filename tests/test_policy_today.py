from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from relay.interfaces import IRoutes
from relay.mail.decision import Accepted, Refused
from relay.mail.routing import ABSTAIN, Deliver, Forward, Reject, Rewrite
from relay.net.clock import ReactorClock
from relay.net.waiting import start
from relay.policy.alias import Alias
from relay.policy.chain import Chain, Station
from relay.policy.deliver import DeliverAll
from relay.policy.forward import ForwardAll
from relay.policy.mailbox import Mailbox
from relay.testing.policy import inquiry
from tests.policy.doubles import UNKNOWN, Says


class TodayTests(SynchronousTestCase):
    """What waits is asked about again: `routes = True` is a policy's word that it may be."""

    def chain(self, *stations: tuple[str, Any, bool]) -> Chain:
        def station(name: str, verdict: Any, routes: bool) -> Station:
            policy = Says(verdict)
            if routes:
                policy.routes = True  # type: ignore[attr-defined]
            return Station(name, policy)

        clock = ReactorClock(Clock(), lambda: 0.0)  # type: ignore[arg-type]
        return Chain([station(*each) for each in stations], clock, Logger(observer=lambda event: None))

    def today(self, chain: Chain, policy: str) -> Any:
        return start(chain.today(inquiry("ann@example.org"), policy))

    def test_only_those_that_say_so_are_asked(self) -> None:
        chain = self.chain(
            ("spam", Reject(UNKNOWN.reply), False), ("out", Forward("example.net"), True), ("end", ABSTAIN, True)
        )
        self.assertTrue(verifyObject(IRoutes, chain))
        decision = self.today(chain, "out")
        self.assertEqual([each.policy for each in decision.placements], ["out"])
        self.assertEqual(decision.placements[0].route, Forward("example.net"))

    def test_one_that_is_there_and_does_not_say_so_has_the_last_word(self) -> None:
        chain = self.chain(("mine", Deliver("x"), False), ("out", Forward("example.net"), True))
        self.assertIsNone(self.today(chain, "mine"))

    def test_one_that_is_gone_has_not(self) -> None:
        chain = self.chain(("out", Forward("example.net"), True))
        self.assertIsInstance(self.today(chain, "gone"), Accepted)
        self.assertIsNone(self.today(self.chain(("mine", Deliver("x"), False)), "gone"))

    def test_if_all_abstain_or_it_stands_for_others_there_is_no_way(self) -> None:
        for verdict in (ABSTAIN, Rewrite((inquiry("bob@example.org").recipient,)), UNKNOWN):
            self.assertIsInstance(self.today(self.chain(("out", verdict, True)), "out"), Refused)

    def test_ours_say_so_where_they_are_no_more_than_routes(self) -> None:
        for policy, routes in ((ForwardAll, True), (Mailbox, True), (DeliverAll, True), (Alias, False)):
            self.assertIs(getattr(policy, "routes", False), routes, policy)
