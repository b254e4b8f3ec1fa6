from __future__ import annotations

from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase

from relay.delivery.reach import Reach

PUBLIC = ["192.0.2.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2001:db8::1", "2a00::1", "64:ff9b::808:808"]
INSIDE = [
    *("127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "192.168.255.255", "169.254.169.254", "100.64.0.1"),
    *("0.1.2.3", "240.0.0.1", "255.255.255.255", "::1", "fc00::1", "fd12::1", "fe80::1", "fec0::1"),
    *("192.0.0.1", "198.18.0.1", "198.19.255.255", "64:ff9b:1::7f00:1", "100::1"),
    # IPv6 that comes out at IPv4: mapped, compatible, NAT64, 6to4.
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::7f00:1", "64:ff9b::7f00:1", "2002:7f00:1::1"),
]
NO_SINGLE_HOST = ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "::ffff:0.0.0.0", "::ffff:224.0.0.1"]


class PermissionTests(SynchronousTestCase):
    def test_public_addresses_are_permitted(self) -> None:
        for address in PUBLIC:
            self.assertTrue(Reach().permits(address, private=False), address)

    def test_addresses_inside_are_permitted_only_if_they_are_meant(self) -> None:
        for address in INSIDE:
            self.assertFalse(Reach().permits(address, private=False), address)
            self.assertTrue(Reach().permits(address, private=True), address)

    def test_what_is_no_single_host_is_never_meant(self) -> None:
        everything = Reach(allow_private=(ip_network("0.0.0.0/0"), ip_network("::/0")))
        for address in NO_SINGLE_HOST:
            self.assertFalse(everything.permits(address, private=True), address)

    def test_an_address_of_this_machine_is_not_connected_to(self) -> None:
        reach = Reach(is_local=lambda address: address == "192.0.2.1")
        self.assertFalse(reach.permits("192.0.2.1", private=False))
        self.assertFalse(reach.permits("::ffff:192.0.2.1", private=False))
        self.assertTrue(reach.permits("192.0.2.2", private=False))

    def test_allowed_networks_are_connected_to(self) -> None:
        reach = Reach(is_local=lambda _: True, allow_private=(ip_network("10.0.0.0/8"), ip_network("fd00::/16")))
        for address, permitted in (
            ("10.1.1.1", True),
            ("::ffff:10.1.1.1", True),
            ("fd00::5", True),
            ("fd01::5", False),
            ("192.168.0.1", False),
            ("192.0.2.1", False),
        ):
            self.assertEqual(reach.permits(address, private=False), permitted, address)


class OwnAddressTests(SynchronousTestCase):
    def test_a_listener_is_met_at_its_address_and_port(self) -> None:
        reach = Reach(listeners={("192.0.2.1", 25), ("2001:db8::1", 25)}, is_local=lambda _: True)
        self.assertTrue(reach.is_us("192.0.2.1", 25))
        self.assertTrue(reach.is_us("::ffff:192.0.2.1", 25))
        self.assertTrue(reach.is_us("2001:db8:0::1", 25))
        self.assertFalse(reach.is_us("192.0.2.1", 2525))
        self.assertFalse(reach.is_us("192.0.2.2", 25))

    def test_a_listener_everywhere_is_met_at_each_address_of_the_machine(self) -> None:
        for everywhere in "0.0.0.0", "::":
            reach = Reach(listeners={(everywhere, 25)}, is_local=lambda address: address == "192.0.2.1")
            self.assertTrue(reach.is_us("192.0.2.1", 25))
            self.assertFalse(reach.is_us("192.0.2.1", 26))
            self.assertFalse(reach.is_us("192.0.2.2", 25))
