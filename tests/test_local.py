from __future__ import annotations

import socket

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relay.net import local
from relay.net.clock import ReactorClock
from relay.net.local import LocalAddresses, is_local


class LocalAddressTests(SynchronousTestCase):
    def test_loopback_is_this_machine(self) -> None:
        for address in "127.0.0.1", "127.1.2.3", "::1", "0.0.0.0", "::":
            self.assertTrue(is_local(address), address)

    def test_addresses_for_documentation_are_nobodys(self) -> None:
        for address in "192.0.2.1", "2001:db8::1", "255.255.255.255":
            self.assertFalse(is_local(address), address)

    def test_the_address_that_this_machine_speaks_from_is_its_own(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))  # sends nothing
            except OSError:
                own = "127.0.0.1"  # a machine without any network
            else:
                own = probe.getsockname()[0]
        self.assertTrue(is_local(own), own)

    def test_the_kernel_is_asked_again_after_a_while(self) -> None:
        asked: list[str] = []
        self.patch(local, "is_local", lambda address: asked.append(address) or len(asked) > 2)
        clock = Clock()
        known = LocalAddresses(ReactorClock(clock, lambda: 0.0))
        self.assertEqual([known("192.0.2.1"), known("192.0.2.2"), known("192.0.2.1")], [False, False, False])
        self.assertEqual(asked, ["192.0.2.1", "192.0.2.2"])
        clock.advance(10)
        self.assertTrue(known("192.0.2.1"))
