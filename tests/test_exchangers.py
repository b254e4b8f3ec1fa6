from __future__ import annotations

import random as chance
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from itertools import count
from typing import Any, Final

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from relay.delivery.exchangers import Exchangers, Surroundings, find
from relay.delivery.reach import Reach
from relay.mail.answer import Absent, Answer, Unanswered
from relay.mail.outcome import NameTrouble, Peer, Unresolved
from relay.mail.routing import NextHop
from relay.net.waiting import start
from relay.testing.dns import FakeNames, Records

SERVFAIL = Unanswered("SERVFAIL")
OUR_ADDRESS = "203.0.113.25"


def as_written() -> Any:
    """A "random" that leaves everything in the order of the records."""
    numbers = count()
    return lambda: next(numbers)


class FindingCase(SynchronousTestCase):
    def find(
        self,
        next_hop: NextHop | str,
        names: dict[str, Records],
        *,
        random: Any = None,
        most: int = 5,
        signed: Iterable[str] = (),
        **reach: Any,
    ) -> Exchangers | Unresolved:
        hop = NextHop(next_hop) if isinstance(next_hop, str) else next_hop
        reach.setdefault("listeners", {("0.0.0.0", 25)})
        reach.setdefault("is_local", lambda address: address in (OUR_ADDRESS, "2001:db8:25::1"))
        self.names = FakeNames(names, signed)
        surroundings = Surroundings(self.names, random or as_written(), Reach(**reach), most)
        found: Any = start(find(hop, surroundings))
        assert isinstance(found, Exchangers | Unresolved), "it waits"
        return found

    def addresses(self, *args: Any, **kw: Any) -> list[str]:
        found = self.find(*args, **kw)
        assert isinstance(found, Exchangers), found
        return [peer.address for peer in found.peers]

    def trouble(self, *args: Any, **kw: Any) -> NameTrouble:
        found = self.find(*args, **kw)
        assert isinstance(found, Unresolved), found
        return found.trouble


class SocketTests(FindingCase):
    def test_a_unix_socket_is_where_it_is_and_nobody_is_asked(self) -> None:
        found = self.find(NextHop("unix:/run/lmtp", mx=False, lmtp=True), {})
        self.assertEqual(found, Exchangers((Peer("unix:/run/lmtp", assured=True),)))
        self.assertEqual(str(Peer("unix:/run/lmtp")), "unix:/run/lmtp")


class ByMxTests(FindingCase):
    def test_the_exchanger_is_tried_at_its_address_and_at_the_destinations_port(self) -> None:
        names: dict[str, Records] = {
            "example.org": {"MX": [(10, "mx.example.org")]},
            "mx.example.org": {"A": "192.0.2.1"},
        }
        for port in 25, 2525:
            found = self.find(NextHop("example.org", port=port), names)
            self.assertEqual(found, Exchangers((Peer("mx.example.org", "192.0.2.1", port),)))

    def test_the_lowest_preference_comes_first(self) -> None:
        names: dict[str, Records] = {
            "d.example": {"MX": [(20, "b.example"), (5, "a.example"), (30, "c.example")]},
            "a.example": {"A": "192.0.2.1"},
            "b.example": {"A": "192.0.2.2"},
            "c.example": {"A": "192.0.2.3"},
        }
        self.assertEqual(self.addresses("d.example", names), ["192.0.2.1", "192.0.2.2", "192.0.2.3"])

    def test_equals_come_in_random_order(self) -> None:
        names: dict[str, Records] = {
            "d.example": {"MX": [(10, f"mx{n}.example") for n in range(3)]},
            **{f"mx{n}.example": {"A": f"192.0.2.{n}"} for n in range(3)},
        }
        random = chance.Random(4).random
        orders = {tuple(self.addresses("d.example", names, random=random)) for _ in range(100)}
        self.assertEqual(len(orders), 6)

    def test_the_addresses_of_one_host_come_in_random_order(self) -> None:
        names: dict[str, Records] = {"d.example": {"A": ["192.0.2.1", "192.0.2.2"]}}
        random = chance.Random(4).random
        orders = {tuple(self.addresses("d.example", names, random=random)) for _ in range(50)}
        self.assertEqual(len(orders), 2)

    def test_both_families_take_turns(self) -> None:
        names: dict[str, Records] = {
            "d.example": {"MX": [(10, "a.example"), (10, "b.example")]},
            "a.example": {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": ["2001:db8::1", "2001:db8::2"]},
            "b.example": {"A": ["192.0.2.3"]},
        }
        self.assertEqual(
            self.addresses("d.example", names), ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.3", "192.0.2.2"]
        )

    def test_five_addresses_are_tried_and_a_crowded_host_does_not_hide_the_next(self) -> None:
        names: dict[str, Records] = {
            "d.example": {"MX": [(10, "a.example"), (20, "b.example")]},
            "a.example": {"A": [f"192.0.2.{n}" for n in range(1, 9)]},
            "b.example": {"A": ["192.0.2.100"]},
        }
        expected = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.100"]
        self.assertEqual(self.addresses("d.example", names), expected)
        self.assertEqual(self.addresses("d.example", names, most=2), ["192.0.2.1", "192.0.2.100"])
        self.assertEqual(self.addresses("d.example", names, most=1), ["192.0.2.1"])

    def test_an_address_is_tried_once(self) -> None:
        names: dict[str, Records] = {
            "d.example": {"MX": [(10, "a.example"), (20, "b.example"), (30, "a.example")]},
            "a.example": {"A": "192.0.2.1"},
            "b.example": {"A": ["192.0.2.1", "192.0.2.2"]},
        }
        found = self.find("d.example", names)
        self.assertEqual(found, Exchangers((Peer("a.example", "192.0.2.1"), Peer("b.example", "192.0.2.2"))))

    def test_a_null_mx_is_a_no(self) -> None:
        names: dict[str, Records] = {"d.example": {"MX": [(0, "")], "A": "192.0.2.1"}}
        self.assertEqual(self.trouble("d.example", names), NameTrouble.NULL_MX)

    def test_a_null_mx_among_others_is_passed_over(self) -> None:
        names: dict[str, Records] = {"d.example": {"MX": [(0, ""), (10, "a.example")]}, "a.example": {"A": "192.0.2.1"}}
        self.assertEqual(self.addresses("d.example", names), ["192.0.2.1"])

    def test_a_domain_that_does_not_exist_is_a_no(self) -> None:
        self.assertEqual(self.trouble("d.example", {}), NameTrouble.NO_SUCH_DOMAIN)

    def test_aliases_at_the_domain_and_at_the_exchanger_are_followed(self) -> None:
        names: dict[str, Records] = {
            "d.example": {"CNAME": "real.example"},
            "real.example": {"MX": [(10, "a.example")]},
            "a.example": {"CNAME": "b.example"},
            "b.example": {"A": "192.0.2.1"},
        }
        self.assertEqual(self.find("d.example", names), Exchangers((Peer("a.example", "192.0.2.1"),)))

    def test_no_more_than_twenty_exchangers_are_looked_up(self) -> None:
        names: dict[str, Records] = {"d.example": {"MX": [(n, f"mx{n}.example") for n in range(100)]}}
        self.assertEqual(self.trouble("d.example", names), NameTrouble.NO_ADDRESS)
        self.assertEqual(len(self.names.asked), 1 + 2 * 20)
        self.assertIn(("mx19.example", "A"), self.names.asked)


class WithoutMxRecordTests(FindingCase):
    def test_the_domain_is_its_own_exchanger(self) -> None:
        names: dict[str, Records] = {"d.example": {"A": "192.0.2.1", "AAAA": "2001:db8::1"}}
        found = self.find("d.example", names)
        expected = Peer("d.example", "2001:db8::1"), Peer("d.example", "192.0.2.1")
        self.assertEqual(found, Exchangers(expected))

    def test_but_only_where_there_is_definitely_no_mx(self) -> None:
        names: dict[str, Records] = {"d.example": {"MX": SERVFAIL, "A": "192.0.2.1"}}
        self.assertEqual(self.trouble("d.example", names), NameTrouble.UNANSWERED)
        self.assertEqual(self.names.asked, [("d.example", "MX")])

    def test_and_never_if_the_exchangers_have_no_address(self) -> None:
        names: dict[str, Records] = {"d.example": {"MX": [(10, "a.example")], "A": "192.0.2.1"}}
        self.assertEqual(self.trouble("d.example", names), NameTrouble.NO_ADDRESS)

    def test_a_domain_without_any_address_takes_no_mail(self) -> None:
        names: dict[str, Records] = {"d.example": {"TXT": "hello"}}
        self.assertEqual(self.trouble("d.example", names), NameTrouble.NO_ADDRESS)


class FailingServersTests(FindingCase):
    def test_a_host_that_nobody_answers_for_is_passed_over(self) -> None:
        names: dict[str, Records] = {
            "d.example": {"MX": [(10, "a.example"), (20, "b.example")]},
            "a.example": SERVFAIL,
            "b.example": {"A": "192.0.2.2"},
        }
        self.assertEqual(self.addresses("d.example", names), ["192.0.2.2"])

    def test_half_an_answer_is_good_enough(self) -> None:
        names: dict[str, Records] = {"d.example": {"AAAA": SERVFAIL, "A": "192.0.2.1"}}
        self.assertEqual(self.addresses("d.example", names), ["192.0.2.1"])

    def test_nothing_is_final_while_a_host_is_unanswered(self) -> None:
        for other in {"TXT": "no address"}, {"A": "127.0.0.1"}, {"A": OUR_ADDRESS}:
            names: dict[str, Records] = {
                "d.example": {"MX": [(10, "a.example"), (20, "b.example")]},
                "a.example": {"AAAA": SERVFAIL},
                "b.example": other,
            }
            self.assertEqual(self.trouble("d.example", names), NameTrouble.UNANSWERED)

    def test_servers_that_contradict_each_other_have_not_answered(self) -> None:
        class Contradictory(FakeNames):
            def answer(self, name: str, kind: str) -> Answer:
                return {"MX": Absent(nonexistent=False), "A": Absent(nonexistent=True)}.get(kind, SERVFAIL)

        found: Any = start(find(NextHop("d.example"), Surroundings(Contradictory(), as_written(), Reach())))
        self.assertEqual(found.trouble, NameTrouble.UNANSWERED)

    def test_a_host_that_we_would_not_use_anyway_need_not_answer(self) -> None:
        names: dict[str, Records] = {
            "d.example": {"MX": [(10, "us.example"), (20, "b.example")]},
            "us.example": {"A": OUR_ADDRESS},
            "b.example": SERVFAIL,
        }
        self.assertEqual(self.trouble("d.example", names), NameTrouble.LOOP)


class OwnAddressTests(FindingCase):
    def test_hosts_no_better_than_we_are_would_send_it_back(self) -> None:
        names: dict[str, Records] = {
            "d.example": {"MX": [(10, "a.example"), (20, "b.example"), (20, "backup.example"), (30, "c.example")]},
            "a.example": {"A": "192.0.2.1"},
            "b.example": {"A": "192.0.2.2"},
            "backup.example": {"AAAA": "2001:db8:25::1"},
            "c.example": {"A": "192.0.2.3"},
        }
        self.assertEqual(self.addresses("d.example", names), ["192.0.2.1"])

    def test_being_the_best_exchanger_ourselves_is_a_loop(self) -> None:
        names: dict[str, Records] = {
            "d.example": {"MX": [(10, "us.example"), (20, "b.example")]},
            "us.example": {"A": ["192.0.2.9", OUR_ADDRESS]},
            "b.example": {"A": "192.0.2.2"},
        }
        self.assertEqual(self.trouble("d.example", names), NameTrouble.LOOP)
        self.assertEqual(self.trouble("us.example", names), NameTrouble.LOOP)
        self.assertEqual(self.trouble(f"[{OUR_ADDRESS}]", names), NameTrouble.LOOP)
        # A connection to no address comes out at this machine.
        self.assertEqual(self.trouble("[0.0.0.0]", names), NameTrouble.LOOP)

    def test_a_loop_is_found_by_address_and_port(self) -> None:
        names: dict[str, Records] = {"us.example": {"A": OUR_ADDRESS}}
        another_port = NextHop("us.example", port=2525)
        self.assertEqual(self.trouble(another_port, names), NameTrouble.FORBIDDEN)
        network = (ip_network("203.0.113.0/24"),)
        self.assertEqual(self.addresses(another_port, names, allow_private=network), [OUR_ADDRESS])
        self.assertEqual(self.trouble("us.example", names, allow_private=network), NameTrouble.LOOP)

    def test_an_address_that_others_know_us_by_is_ours_too(self) -> None:
        names: dict[str, Records] = {"us.example": {"A": "198.51.100.1"}}
        self.assertEqual(self.addresses("us.example", names), ["198.51.100.1"])
        listeners = {("10.0.0.1", 25), ("198.51.100.1", 25)}
        self.assertEqual(self.trouble("us.example", names, listeners=listeners), NameTrouble.LOOP)


class PrivateAddressTests(FindingCase):
    def test_a_name_in_the_dns_does_not_lead_inside(self) -> None:
        for address in "127.0.0.2", "10.1.2.3", "192.168.0.1", "172.31.0.1", "169.254.1.1", "224.0.0.1":
            names: dict[str, Records] = {"d.example": {"A": address}}
            self.assertEqual(self.trouble("d.example", names), NameTrouble.FORBIDDEN)
            self.assertEqual(self.trouble(f"[{address}]", {}), NameTrouble.FORBIDDEN)

    def test_a_private_address_among_public_ones_is_passed_over(self) -> None:
        names: dict[str, Records] = {
            "d.example": {"MX": [(10, "a.example"), (20, "b.example")]},
            "a.example": {"A": ["10.0.0.1", "192.0.2.1"], "AAAA": ["fd00::1", "::1"]},
            "b.example": {"A": "192.0.2.2"},
        }
        self.assertEqual(self.addresses("d.example", names), ["192.0.2.1", "192.0.2.2"])

    def test_networks_can_be_allowed(self) -> None:
        names: dict[str, Records] = {"d.example": {"A": ["10.0.0.1", "10.9.0.1"]}}
        networks = (ip_network("10.0.0.0/16"), ip_network("::1/128"))
        self.assertEqual(self.addresses("d.example", names, allow_private=networks), ["10.0.0.1"])

    def test_the_text_names_a_few_of_them_only(self) -> None:
        names: dict[str, Records] = {"d.example": {"A": [f"10.0.0.{n}" for n in range(90)]}}
        found = self.find("d.example", names)
        self.assertEqual(found, Unresolved(NameTrouble.FORBIDDEN, "d.example", "10.0.0.0 and 89 more"))


class LiteralTests(FindingCase):
    def test_a_domain_that_looks_like_an_address_is_a_name(self) -> None:
        self.assertEqual(self.trouble("192.0.2.1", {}), NameTrouble.NO_SUCH_DOMAIN)
        self.assertEqual(self.names.asked, [("192.0.2.1", "MX")])

    def test_an_address_literal_is_where_it_says(self) -> None:
        for literal, address in ("[192.0.2.1]", "192.0.2.1"), ("[IPv6:2001:db8::1]", "2001:db8::1"):
            self.assertEqual(self.find(literal, {}), Exchangers((Peer(literal, address, assured=True),)))
            self.assertEqual(self.names.asked, [])


class WithoutMxTests(FindingCase):
    """A host that the operator wrote: `next_hop = "host:port"`."""

    def test_its_mx_records_are_not_asked_for(self) -> None:
        names: dict[str, Records] = {"smart.example": {"MX": [(10, "a.example")], "A": "192.0.2.1"}}
        found = self.find(NextHop("smart.example", port=587, mx=False), names)
        self.assertEqual(found, Exchangers((Peer("smart.example", "192.0.2.1", 587, assured=True),)))
        self.assertEqual({kind for _, kind in self.names.asked}, {"A", "AAAA"})

    def test_it_may_be_private_or_on_this_machine(self) -> None:
        names: dict[str, Records] = {"filter.example": {"A": "10.0.0.1"}}
        for name in "filter.example", "127.0.0.1", "::1", "[127.0.0.1]", OUR_ADDRESS, "localhost":
            self.assertIsInstance(self.find(NextHop(name, port=10025, mx=False), names), Exchangers)

    def test_but_neither_this_relay_nor_a_crowd(self) -> None:
        self.assertEqual(self.trouble(NextHop(OUR_ADDRESS, mx=False), {}), NameTrouble.LOOP)
        for address in "0.0.0.0", "::", "224.0.0.1", "ff02::1":
            self.assertEqual(self.trouble(NextHop(address, port=26, mx=False), {}), NameTrouble.FORBIDDEN)

    def test_one_that_is_not_there_is_told_apart(self) -> None:
        for records, trouble in (
            ({}, NameTrouble.NO_SUCH_DOMAIN),
            ({"smart.example": {"TXT": "x"}}, NameTrouble.NO_ADDRESS),
            ({"smart.example": SERVFAIL}, NameTrouble.UNANSWERED),
        ):
            self.assertEqual(self.trouble(NextHop("smart.example", mx=False), records), trouble)


class AssuredTests(FindingCase):
    """Whether it is certain that a host is the one for the mail."""

    NAMES: Final[dict[str, Records]] = {
        "d.example": {"MX": [(10, "a.other"), (20, "b.other")], "A": "192.0.2.8"},
        "plain.example": {"A": "192.0.2.1"},
        "alias.example": {"CNAME": "d.example"},
        "a.other": {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": "2001:db8::1"},
        "b.other": {"A": "192.0.2.3"},
    }

    def assured(self, next_hop: NextHop | str, *signed: str) -> bool:
        """What counts for all of its hosts."""
        found = self.find(next_hop, self.NAMES, signed=signed)
        assert isinstance(found, Exchangers), found
        [assured] = {peer.assured for peer in found.peers}
        return assured

    def test_exchangers_are_if_the_dns_has_been_validated_that_names_them(self) -> None:
        self.assertTrue(self.assured("d.example", "d.example"))
        self.assertTrue(self.assured("alias.example", "alias.example", "d.example"))

    def test_that_their_addresses_have_been_validated_is_neither_needed_nor_enough(self) -> None:
        self.assertFalse(self.assured("d.example"))
        self.assertFalse(self.assured("d.example", "other"))
        self.assertFalse(self.assured("alias.example", "d.example", "other"))
        self.assertFalse(self.assured("alias.example", "alias.example", "other"))

    def test_a_domain_without_exchangers_is_if_it_is_proved_that_it_has_none(self) -> None:
        self.assertTrue(self.assured("plain.example", "plain.example"))
        self.assertFalse(self.assured("plain.example"))

        class AddressesAlone(FakeNames):
            def answer(self, name: str, kind: str) -> Answer:
                return evolve(super().answer(name, kind), authentic=kind in ("A", "AAAA"))

        surroundings = Surroundings(AddressesAlone(self.NAMES), as_written(), Reach())
        found: Any = start(find(NextHop("plain.example"), surroundings))
        self.assertEqual(found, Exchangers((Peer("plain.example", "192.0.2.1"),)))

    def test_a_host_that_was_named_is_whatever_the_dns_says_of_it(self) -> None:
        for hop in (
            NextHop("plain.example", mx=False),
            NextHop("alias.example", mx=False),
            NextHop("192.0.2.7", mx=False),
            NextHop("unix:/run/lmtp", mx=False, lmtp=True),
            "[192.0.2.7]",
        ):
            self.assertTrue(self.assured(hop), hop)


class WaitingTests(FindingCase):
    def setUp(self) -> None:
        self.names = FakeNames({"d.example": {"MX": [(10, "a.example")]}, "a.example": {"A": "192.0.2.1"}})
        self.surroundings = Surroundings(self.names, as_written(), Reach())

    def begin(self) -> Deferred[Exchangers | Unresolved]:
        found: Any = start(find(NextHop("d.example"), self.surroundings))
        assert isinstance(found, Deferred)
        return found

    def test_both_families_are_asked_at_once(self) -> None:
        self.names.hold("a.example", "A")
        self.names.hold("a.example", "AAAA")
        found = self.begin()
        self.assertEqual(self.names.asked[1:], [("a.example", "AAAA"), ("a.example", "A")])
        self.names.release("a.example", "A")
        self.assertNoResult(found)
        self.names.release("a.example", "AAAA")
        self.assertEqual(self.successResultOf(found), Exchangers((Peer("a.example", "192.0.2.1"),)))

    def test_it_can_be_given_up(self) -> None:
        self.names.hold("a.example", "A")
        found = self.begin()
        found.cancel()
        self.failureResultOf(found, CancelledError)


HOSTS = [f"h{n}.example" for n in range(4)]
ADDRESSES = ["192.0.2.1", "192.0.2.2", "10.0.0.1", "127.0.0.1", OUR_ADDRESS]
ADDRESSES_6 = ["2001:db8::1", "fe80::1", "::1", "2001:db8:25::1"]


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Records]:
    exchanges = st.tuples(st.integers(0, 2), st.sampled_from([*HOSTS, ""]))
    addresses = st.lists(st.sampled_from(ADDRESSES), max_size=3)
    addresses_6 = st.lists(st.sampled_from(ADDRESSES_6), max_size=3)
    names: dict[str, Records] = {
        host: draw(
            st.one_of(
                st.just(SERVFAIL),
                st.fixed_dictionaries(
                    {"A": st.one_of(st.just(SERVFAIL), addresses), "AAAA": st.one_of(st.just(SERVFAIL), addresses_6)}
                ),
            )
        )
        for host in HOSTS
    }
    names["d.example"] = {"MX": draw(st.lists(exchanges, max_size=6)), "A": draw(addresses)}
    return names


class AnyWorldTests(FindingCase):
    @given(worlds(), st.integers(0, 2**32))
    def test_no_dns_leads_us_inside_or_back_to_ourselves(self, names: dict[str, Records], seed: int) -> None:
        found = self.find("d.example", names, random=chance.Random(seed).random)
        if isinstance(found, Unresolved):
            self.assertNotEqual(found.trouble, NameTrouble.NO_SUCH_DOMAIN)
            return
        self.assertTrue(0 < len(found.peers) <= 5)
        self.assertEqual(len({peer.address for peer in found.peers}), len(found.peers))
        for peer in found.peers:
            self.assertIn(ip_address(peer.address), (*map(ip_address, ("192.0.2.1", "192.0.2.2", "2001:db8::1")),))

    @given(worlds(), st.integers(0, 2**32))
    def test_what_is_final_does_not_depend_on_a_server_that_failed(self, names: dict[str, Records], seed: int) -> None:
        """Whatever is found with hosts unanswered: with their answers it could only be more, or the same no."""
        found = self.find("d.example", names, random=chance.Random(seed).random)
        if isinstance(found, Exchangers) or found.trouble is NameTrouble.UNANSWERED:
            return
        healed: dict[str, Records] = {
            name: {"A": "192.0.2.1"}
            if isinstance(records, Unanswered)
            else {kind: "192.0.2.1" if value == SERVFAIL and kind == "A" else value for kind, value in records.items()}
            for name, records in names.items()
        }
        again = self.find("d.example", healed, random=chance.Random(seed).random)
        self.assertEqual(again, found)
