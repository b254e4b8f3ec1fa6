"""What an operator's word makes of a recipient, and what it leaves as it was."""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address
from relay.mail.queue import Pending, Recipient
from relay.mail.routing import Deliver, Forward, NextHop, Route
from relay.mail.selection import BY_OPERATOR, Queued, Reroute, State, course

JON = Address("jon", "x.test")
PATH = Address("news+jon=x.test", "list.test")
ELSEWHERE = Forward(NextHop("192.0.2.9", mx=False))


def rerouted(before: Route, route: Forward | Deliver) -> Route:
    pending = Pending(Recipient("Q.0", JON, JON, before, "x.test"))
    found = course(Reroute(route), Queued("Q", 0.0, None, 1, pending, State.WAITING), 100.0)
    assert found is not None
    return found.route


class RerouteTests(SynchronousTestCase):
    def test_onward_a_copy_keeps_the_reverse_path_that_a_policy_has_given_it(self) -> None:
        kept = evolve(ELSEWHERE, because=BY_OPERATOR, reverse_path=PATH)
        self.assertEqual(rerouted(Forward("x.test", reverse_path=PATH), ELSEWHERE), kept)
        self.assertEqual(rerouted(kept, ELSEWHERE), kept)

    def test_a_route_that_brings_a_reverse_path_keeps_its_own(self) -> None:
        own = evolve(ELSEWHERE, reverse_path=JON)
        self.assertEqual(
            rerouted(Forward("x.test", reverse_path=PATH), own), evolve(own, because=BY_OPERATOR, reverse_path=JON)
        )

    def test_a_mailbox_gets_the_senders_own_address(self) -> None:
        before = Forward("x.test", reverse_path=PATH)
        for route in Deliver("maildir"), Forward(NextHop("unix:/run/lmtp", mx=False, lmtp=True)):
            self.assertEqual(rerouted(before, route), evolve(route, because=BY_OPERATOR))

    def test_a_copy_that_had_none_gets_none(self) -> None:
        for before in Forward("x.test"), Deliver("maildir"):
            self.assertEqual(rerouted(before, ELSEWHERE), evolve(ELSEWHERE, because=BY_OPERATOR))
