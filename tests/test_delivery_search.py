from __future__ import annotations

import random
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relay.delivery.exchangers import Exchangers, Surroundings
from relay.delivery.reach import Reach
from relay.delivery.search import Search
from relay.mail.outcome import NameTrouble, Peer, Unresolved
from relay.mail.routing import NextHop
from relay.net.waiting import start
from relay.testing.dns import FakeNames

ONE_HOST = {"MX": [(10, "mx.example.org")]}
SMARTHOST = NextHop("192.0.2.7", mx=False)


class SearchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.names = FakeNames({"example.org": ONE_HOST, "mx.example.org": {"A": "192.0.2.1"}})
        self.ours: set[str] = set()
        self.search = self.searching(self.names)

    def searching(self, names: FakeNames) -> Search:
        reach = Reach(listeners={("0.0.0.0", 25)}, is_local=lambda address: address in self.ours)
        return Search(Surroundings(names, random.Random(7).random, reach), self.clock.seconds)

    def find(self, next_hop: NextHop | str) -> Exchangers | Unresolved:
        hop = NextHop(next_hop) if isinstance(next_hop, str) else next_hop
        found: Any = start(self.search(hop))
        assert isinstance(found, Exchangers | Unresolved), "it waits"
        return found

    def test_nobody_is_asked_twice_in_a_second_where_a_domain_has_one_host(self) -> None:
        found = self.find("example.org")
        self.assertEqual(found, Exchangers((Peer("mx.example.org", "192.0.2.1"),)))
        asked = len(self.names.asked)
        self.clock.advance(0.9)
        self.assertIs(self.search(NextHop("example.org")), found)
        self.assertEqual(len(self.names.asked), asked)

    def test_a_second_later_the_dns_is_asked_again_and_believed(self) -> None:
        self.find("example.org")
        self.names["mx.example.org"] = {"A": "192.0.2.2"}
        self.clock.advance(1)
        self.assertEqual(self.find("example.org"), Exchangers((Peer("mx.example.org", "192.0.2.2"),)))

    def test_mail_for_several_equal_hosts_is_spread_among_them_without_asking_for_each(self) -> None:
        hosts = [(10, f"mx{at}.example.org") for at in range(4)]
        addresses = {name: {"A": f"192.0.2.{at}"} for at, (_, name) in enumerate(hosts)}
        self.names = FakeNames({"example.org": {"MX": hosts}, **addresses})
        self.search = self.searching(self.names)
        firsts: list[str] = []
        for _ in range(100):
            found = self.find("example.org")
            assert isinstance(found, Exchangers)
            self.assertEqual(len(found.peers), 4)
            firsts.append(found.peers[0].name)
        self.assertEqual(len(self.names.asked), 8 * (1 + 2 * 4))
        self.assertGreaterEqual(len(set(firsts)), 3)
        self.assertLess(max(map(firsts.count, firsts)), 80)

    def test_what_is_not_found_is_looked_for_each_time(self) -> None:
        for _ in range(2):
            found = self.find("absent.example")
            assert isinstance(found, Unresolved)
            self.assertIs(found.trouble, NameTrouble.NO_SUCH_DOMAIN)
        self.assertEqual(len(self.names.asked), 2)

    def test_ports_and_ways_of_one_name_are_told_apart(self) -> None:
        self.names = FakeNames({"example.org": {**ONE_HOST, "A": "192.0.2.9"}, "mx.example.org": {"A": "192.0.2.1"}})
        self.search = self.searching(self.names)
        for _ in range(2):
            for hop, peer in (
                (NextHop("example.org"), Peer("mx.example.org", "192.0.2.1")),
                (NextHop("example.org", port=26), Peer("mx.example.org", "192.0.2.1", 26)),
                (NextHop("example.org", mx=False), Peer("example.org", "192.0.2.9", assured=True)),
            ):
                self.assertEqual(self.find(hop), Exchangers((peer,)))

    def test_an_address_that_has_become_ours_is_a_loop_within_a_second(self) -> None:
        self.find(SMARTHOST)
        self.ours.add("192.0.2.7")
        self.clock.advance(1)
        found = self.find(SMARTHOST)
        assert isinstance(found, Unresolved)
        self.assertIs(found.trouble, NameTrouble.LOOP)

    def test_memory_is_bounded_by_what_is_used(self) -> None:
        for at in range(2500):
            self.find(NextHop("192.0.2.7", port=1000 + at, mx=False))
        self.assertLessEqual(len(self.search._kept), 1000)
