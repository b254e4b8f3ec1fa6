"""Addresses of hosts on the Internet, and those that nobody far away has: one list for whoever asks."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.delivery.reach import Reach
from relay.net.public import is_public
from relay.policy import clients

PUBLIC = (
    *("8.8.8.8", "192.0.2.1", "100.128.0.1", "172.32.0.1", "223.255.255.255"),
    *("192.0.1.1", "198.17.255.255", "198.20.0.1"),
    *("2001:db8::1", "2a00::1", "64:ff9b::1", "64:ff9b:2::1"),
)
NOT_PUBLIC = (
    *("0.0.0.1", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.1.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255"),
    *("192.0.0.1", "198.18.0.1", "198.19.255.255"),
    *("64:ff9b:1::1", "100::1", "::", "::1", "fc00::1", "fdff::1", "fe80::1", "fec0::1", "ff02::1"),
)


class PublicTests(SynchronousTestCase):
    def test_nobody_far_away_has_such_an_address(self) -> None:
        for address in PUBLIC:
            self.assertTrue(is_public(ip_address(address)), address)
        for address in NOT_PUBLIC:
            self.assertFalse(is_public(ip_address(address)), address)

    def test_a_client_at_an_ipv4_address_is_that_wherever_it_is_seen(self) -> None:
        self.assertTrue(clients.is_public("::ffff:192.0.2.1"))
        self.assertFalse(clients.is_public("::ffff:10.0.0.1"))
        self.assertFalse(clients.is_public("fe80::1%eth0"))

    @given(st.sampled_from([*PUBLIC, *NOT_PUBLIC]).map(ip_address) | st.ip_addresses())
    def test_whom_we_would_connect_to_may_have_connected_to_us(self, ip: IPv4Address | IPv6Address) -> None:
        # Not the other way round: one that embeds a private address is nobody to connect to.
        if Reach().permits(str(ip), private=False):
            self.assertTrue(clients.is_public(str(ip)))
