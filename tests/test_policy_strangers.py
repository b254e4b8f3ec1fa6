"""Hosts and domains that a configuration does not name."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import settings as fewer
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.config.load import load
from relay.config.policies import PolicySettings
from relay.net.public import is_public
from relay.policy.registry import option_model
from relay.policy.strangers import strangers, too_many

Network = IPv4Network | IPv6Network


def policies(*conditions: str) -> Sequence[PolicySettings]:
    text = "".join(
        f'[[policy]]\nname = "p{at}"\nuse = "discard"\nwhen = {{ {each} }}\n' for at, each in enumerate(conditions)
    )
    read = load(text, file="x", base=Path("/etc"), hostname="mx.test", user="ann", option_model=option_model)
    return read.policy


def networks(*named: object) -> str:
    return "client = [" + ", ".join(f'"{each}"' for each in named) + "]"


def of_some_size(least: int, most: int) -> st.SearchStrategy[Any]:
    """Networks of IPv4 and, with prefixes twice as long, of IPv6."""
    numbers, lengths = st.integers(0, (1 << 32) - 1), st.integers(least, most)
    fours = st.builds(lambda number, bits: ip_network((number, bits), strict=False), numbers, lengths)
    sixes = st.builds(
        lambda number, bits: ip_network(((1 << 125) + (number << 93), 2 * bits), strict=False), numbers, lengths
    )
    return fours | sixes


class ClientTests(SynchronousTestCase):
    def test_there_are_some_of_each_family_where_hosts_of_the_internet_are(self) -> None:
        found = strangers(policies()).clients
        for version in (4, 6):
            self.assertGreater(len(found[version]), 1)
            for address in map(ip_address, found[version]):
                self.assertEqual((address.version, is_public(address)), (version, True))

    @fewer(deadline=None)
    @given(st.lists(st.lists(of_some_size(9, 32), min_size=1, max_size=3), max_size=6))
    def test_no_policy_names_them(self, named: list[list[Network]]) -> None:
        found = strangers(policies(*(networks(*each) for each in named))).clients
        for address in map(ip_address, (*found[4], *found[6])):
            self.assertTrue(is_public(address), address)
            for network in (network for each in named for network in each):
                self.assertNotIn(address, network)

    def test_who_comes_from_the_default_place_may_be_one_of_ours(self) -> None:
        (*_, first) = strangers(policies()).clients[4]
        own = ip_network((int(ip_address(first)), 8), strict=False)
        self.assertNotIn(ip_address(strangers(policies(networks(own))).clients[4][-1]), own)

    def test_where_all_are_named_by_crowds_there_are_some_of_each_crowd(self) -> None:
        found = strangers(policies(networks("0.0.0.0/1"), networks("0.0.0.0/0", "::/0"))).clients
        halves = [int(ip_address(each)) >> 31 for each in found[4]]
        self.assertEqual(sorted(halves), [0, 0, 1, 1])
        self.assertEqual(len(found[6]), 2)

    def test_where_all_are_named_one_after_the_other_there_are_strangers_all_the_same(self) -> None:
        self.assertNotEqual(strangers(policies(*(networks(f"{at}.0.0.0/8") for at in range(256)))).clients[4], ())


class CrowdTests(SynchronousTestCase):
    def test_how_many_are_too_many(self) -> None:
        for named, expected in (
            (["20.0.0.0/8"], False),
            (["20.0.0.0/8", "20.1.0.0/16", "10.0.0.0/8", "fc00::/7", "2a00::/16"], False),
            (["20.0.0.0/8", "21.0.0.0/24"], True),
            (["0.0.0.0/1", "128.0.0.0/1"], True),
            (["224.0.0.0/3", "0.0.0.0/8"], False),
            (["::ffff:0:0/96"], True),
            (["2a00::/15"], True),
            (["::/0"], True),
            ([], False),
        ):
            self.assertEqual(too_many(map(ip_network, named)), expected, named)


class DomainTests(SynchronousTestCase):
    def test_they_are_in_several_domains_and_one_is_an_address(self) -> None:
        domains = strangers(policies()).domains
        self.assertEqual([each.rpartition(".")[2] for each in domains[:-1]], ["com", "org", "de"])
        self.assertRegex(domains[-1], r"^\[[0-9.]+\]$")

    def test_no_policy_names_them(self) -> None:
        first = strangers(policies()).domains[0]
        for when in f'recipient = ["{first}"]', f'sender = ["jon@{first}"]', f'recipient = ["mx.{first}"]':
            self.assertNotIn(first, strangers(policies(when)).domains)
        self.assertNotIn(first, strangers(policies(), [first]).domains)
