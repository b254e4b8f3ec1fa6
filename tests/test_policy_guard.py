from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from twisted.trial.unittest import SynchronousTestCase

from relay.config.policies import When
from relay.mail.envelope import OURSELVES
from relay.policy.guard import Guard, Networks
from relay.policy.phases import PHASES
from relay.testing.policy import inquiry


def networks(*texts: str) -> Networks:
    return Networks(ip_network(text) for text in texts)


class GuardTests(SynchronousTestCase):
    def assert_skips(self, when: dict[str, Any], by: str | None, *arguments: Any, **more: Any) -> None:
        guard = Guard(When.model_validate(when))
        for _ in range(2):  # the second time from memory
            self.assertEqual(guard.skipped_by(inquiry(*arguments, **more)), by)

    def test_without_conditions_the_policy_is_always_asked(self) -> None:
        self.assertFalse(Guard(When()))
        self.assert_skips({}, None, "jon@example.org")

    def test_each_condition_holds_or_skips_by_its_name(self) -> None:
        cases: list[tuple[dict[str, Any], list[Any], list[Any]]] = [
            ({"client": ["127.0.0.0/8", "::1"]}, [{"client": "127.3.2.1"}, {"client": "::1"}], [{"client": "128.0.0.1"}]),
            ({"client": ["192.0.2.7"]}, [{"client": "192.0.2.7"}], [{"client": "192.0.2.8"}, {"client": None}]),
            ({"client": ["2001:db8::/32"]}, [{"client": "2001:DB8:1::9"}], [{"client": "2001:db9::"}, {"client": "?"}]),
            ({"listener": ["mx", "local"]}, [{"listener": "local"}], [{"listener": "submission"}, {"listener": ""}]),
            ({"sender": ["<>"]}, [{"sender": "<>"}], [{"sender": "ann@example.org"}]),
            ({"sender": ["example.org"]}, [{"sender": "Ann@EXAMPLE.org"}], [{"sender": "ann@a.example.org"}, {"sender": "<>"}]),
            ({"sender": ["Ann@example.org", "<>"]}, [{"sender": "aNN@example.org"}, {"sender": "<>"}], [{"sender": "jon@example.org"}]),
            ({"recipient": ["here.example"]}, [{"recipient": "a@here.example"}], [{"recipient": "here.example@example.org"}]),
            ({"authenticated": True}, [{"user": "jon"}], [{"user": None}]),
            ({"authenticated": False}, [{"user": None}], [{"user": "jon"}]),
        ]  # fmt: skip
        for when, holding, skipping in cases:
            (key,) = when
            for asked in holding:
                self.assert_skips(when, None, **{"recipient": "jon@example.org", **asked})
            for asked in skipping:
                self.assert_skips(when, key, **{"recipient": "jon@example.org", **asked})

    def test_a_fact_has_one_of_the_values_that_are_named(self) -> None:
        guard = Guard(When.model_validate({"facts": {"spf": ["fail", "none"], "rdns": "none"}}))
        for facts, by in [
            ({"spf": "none", "rdns": "none", "more": "yes"}, None),
            ({"spf": "fail", "rdns": "none"}, None),
            ({"spf": "pass", "rdns": "none"}, "facts"),
            ({"spf": "FAIL", "rdns": "none"}, "facts"),
            ({"spf": "fail"}, "facts"),
            ({}, "facts"),
        ]:
            for phase in PHASES:
                asked = evolve(inquiry("jon@example.org"), facts=facts)
                self.assertEqual(guard.within(phase.known).skipped_by(asked), by, (facts, phase.name))
        self.assertTrue(guard.facts)
        self.assertFalse(guard.before_facts())

    def test_a_condition_on_facts_can_come_true(self) -> None:
        for facts in ({}, {"spf": []}, {"": ["pass"]}, {"f" * 65: ["x"]}, {"spf": ["x" * 1025]}, {"spf": [1]}, ["spf"]):
            self.assertRaises(ValidationError, When.model_validate, {"facts": facts})

    def test_all_conditions_must_hold(self) -> None:
        when = {"client": ["192.0.2.0/24"], "recipient": ["example.org"]}
        self.assert_skips(when, None, "jon@example.org", client="192.0.2.1")
        self.assert_skips(when, "client", "jon@example.org", client="198.51.100.1")
        self.assert_skips(when, "recipient", "jon@example.com", client="192.0.2.1")

    def test_a_notice_of_our_own_may_go_where_mail_from_this_machine_may(self) -> None:
        ours = evolve(inquiry("ann@example.net", "<>"), client=OURSELVES)
        cases: list[tuple[dict[str, Any], str | None]] = [
            ({"client": ["127.0.0.0/8"]}, None),
            ({"client": ["192.0.2.0/24"]}, "client"),
            ({"authenticated": True}, None),
            ({"authenticated": False}, "authenticated"),
            ({"listener": ["mx"]}, "listener"),
        ]
        for when, by in cases:
            self.assertEqual(Guard(When.model_validate(when)).skipped_by(ours), by, when)

    def test_a_client_at_a_unix_socket_is_not_ourselves(self) -> None:
        self.assert_skips({"client": ["127.0.0.0/8"]}, "client", "ann@example.net", "<>", None)
        self.assert_skips({"authenticated": True}, "authenticated", "ann@example.net", "<>", None)
        self.assert_skips({"authenticated": True}, "authenticated", "a@b.example", "<>", None, listener="ourselves")

    def test_an_ipv4_client_is_one_on_a_socket_for_both_kinds(self) -> None:
        self.assert_skips({"client": ["127.0.0.0/8"]}, None, "jon@example.org", client="::ffff:127.0.0.1")
        self.assert_skips({"client": ["::/0"]}, "client", "jon@example.org", client="::ffff:127.0.0.1")
        for network, holds in (
            ("::ffff:192.0.2.0/120", True),
            ("::ffff:10.0.0.0/104", False),
            ("::ffff:192.0.0.0/104", True),
        ):
            by = None if holds else "client"
            self.assert_skips({"client": [network]}, by, "jon@example.org", client="192.0.2.9")
            self.assert_skips({"client": [network]}, by, "jon@example.org", client="::ffff:192.0.2.9")
        self.assert_skips({"client": ["::ffff:192.0.0.0/104"]}, None, "jon@example.org", client="192.255.2.9")

    def test_a_link_local_client_is_in_its_network_whatever_its_zone(self) -> None:
        self.assert_skips({"client": ["fe80::/10"]}, None, "jon@example.org", client="fe80::1%eth0")

    def test_an_address_with_a_quoted_local_part_can_be_named(self) -> None:
        self.assert_skips({"sender": ['"a b"@example.org']}, None, "jon@example.org", '"a b"@example.org')

    def test_an_empty_condition_is_a_mistake(self) -> None:
        for key in "client", "listener", "sender", "recipient":
            self.assertRaises(ValidationError, When.model_validate, {key: []})


ADDRESSES = st.ip_addresses()
NETWORKS = st.builds(
    lambda address, length: ip_network(f"{address}/{length % (address.max_prefixlen + 1)}", strict=False),
    ADDRESSES,
    st.integers(0, 128),
)


class NetworksTests(SynchronousTestCase):
    @given(st.lists(NETWORKS, max_size=6), ADDRESSES)
    def test_an_address_is_in_the_networks_that_hold_it(self, given: Any, address: Any) -> None:
        if address.version == 6 and address.ipv4_mapped is not None:
            return
        # A network of IPv4 addresses in the clothes of IPv6 holds those, and is not what this is about.
        given = [each for each in given if each.version == 4 or not each.subnet_of(IPv6Network("::ffff:0:0/96"))]
        expected = any(address.version == network.version and address in network for network in given)
        self.assertIs(str(address) in Networks(given), expected)

    @given(NETWORKS, st.data())
    def test_every_address_of_a_network_is_in_it(self, network: Any, data: Any) -> None:
        if network.version == 6 and network.overlaps(IPv6Network("::ffff:0:0/96")) and network.prefixlen < 96:
            return
        low, high = int(network.network_address), int(network.broadcast_address)
        number = data.draw(st.integers(low, high))
        address = ip_address(number) if network.version == 4 else IPv6Network((number, 128)).network_address
        self.assertIn(str(address), Networks([network]))

    def test_what_is_remembered_does_not_grow_without_end(self) -> None:
        some = Networks([IPv4Network("10.0.0.0/8")])
        for number in range(25_000):
            self.assertIn(f"10.0.{number // 250}.{number % 250}", some)
            self.assertNotIn(f"11.0.{number // 250}.{number % 250}", some)
        self.assertLessEqual(len(some.known), 10_000)
        self.assertIn("10.0.0.1", some)
