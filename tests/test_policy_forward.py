from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.routing import Forward, NextHop
from relay.policy.forward import ForwardAll, ForwardOptions
from relay.policy.onward import host
from relay.testing.policy import PolicyContract, inquiry, world


def forward(**options: Any) -> ForwardAll:
    return ForwardAll(ForwardOptions.model_validate(options), world())


def hops(recipient: str = "jon@example.net", **options: Any) -> tuple[NextHop, ...]:
    verdict = forward(**options).route(inquiry(recipient))
    assert isinstance(verdict, Forward)
    return verdict.next_hops


class ContractTests(PolicyContract, SynchronousTestCase):
    policy = ForwardAll


class SmarthostContractTests(PolicyContract, SynchronousTestCase):
    policy = ForwardAll
    options = {"next_hop": "smtp.example.net:587"}  # noqa: RUF012


class ForwardTests(SynchronousTestCase):
    def test_mail_goes_where_the_mx_records_of_the_recipients_domain_say(self) -> None:
        self.assertEqual(hops("jon@example.net"), (NextHop("example.net", 25, mx=True),))
        self.assertEqual(hops("jon@example.net", port=2525), (NextHop("example.net", 2525, mx=True),))
        self.assertEqual(hops("jon@[192.0.2.1]"), (NextHop("[192.0.2.1]"),))

    def test_the_verdict_says_why(self) -> None:
        verdict = forward().route(inquiry("jon@example.net"))
        self.assertEqual(verdict, Forward("example.net", because="onward by MX of example.net"))
        verdict = forward(next_hop="smtp.example.net").route(inquiry("jon@example.net"))
        assert isinstance(verdict, Forward)
        self.assertEqual(verdict.because, "by way of [smtp.example.net]:25")

    def test_a_next_hop_gets_everything_and_its_mx_records_mean_nothing(self) -> None:
        cases = {
            "smtp.Example.NET": NextHop("smtp.example.net", 2525, mx=False),
            "smtp.example.net:587": NextHop("smtp.example.net", 587, mx=False),
            "192.0.2.1": NextHop("192.0.2.1", 2525, mx=False),
            "192.0.2.1:26": NextHop("192.0.2.1", 26, mx=False),
            "[2001:DB8::1]": NextHop("2001:db8::1", 2525, mx=False),
            "[2001:db8::1]:26": NextHop("2001:db8::1", 26, mx=False),
            "[192.0.2.1]:26": NextHop("192.0.2.1", 26, mx=False),
            "2001:db8::1": NextHop("2001:db8::1", 2525, mx=False),
            "bücher.example": NextHop("xn--bcher-kva.example", 2525, mx=False),
        }
        for text, hop in cases.items():
            self.assertEqual(hops(next_hop=text, port=2525), (hop,), text)

    def test_several_next_hops_are_tried_in_their_order(self) -> None:
        both = hops(next_hop=["a.example.net", "b.example.net:26"])
        self.assertEqual(both, (NextHop("a.example.net", 25, mx=False), NextHop("b.example.net", 26, mx=False)))

    def test_what_is_no_host_is_a_mistake(self) -> None:
        for text in (
            "",
            ":25",
            "smtp.example.net:",
            "smtp.example.net:0",
            "smtp.example.net:65536",
            "smtp.example.net:+25",
            "smtp.example.net:smtp",
            "smtp example",
            "[2001:db8::1",
            "[2001:db8::1]25",
            "[2001:db8::1]:",
            "2001:db8::1:99999",
            "fe80::1%eth0",
            "smtp.example.net:25:26",
            "jon@example.net",
        ):
            self.assertRaises(ValueError, host, text)
            self.assertRaises(ValidationError, forward, next_hop=text)
        for value in [], [25], 25, {}, [["a"]]:
            self.assertRaises(ValidationError, forward, next_hop=value)

    def test_how_a_next_hop_is_spoken_to(self) -> None:
        self.assertEqual(hops(tls="encrypt"), (NextHop("example.net", tls="encrypt"),))
        self.assertEqual(
            hops(next_hop="smtp.example.net:587", tls="verify", login="smarthost", without=["DSN", "CHUNKING"]),
            (NextHop("smtp.example.net", 587, False, "verify", "smarthost", without=("CHUNKING", "DSN")),),
        )
        self.assertEqual(hops(without=["CHUNKING"]), (NextHop("example.net", without=("CHUNKING",)),))

    def test_from_where_and_by_what_name_a_next_hop_is_spoken_to(self) -> None:
        self.assertEqual(hops(source="192.0.2.1"), (NextHop("example.net", source=("192.0.2.1",)),))
        self.assertEqual(
            hops(source=["192.0.2.1", "2001:DB8:0::1"], hello="Bulk.Example.ORG"),
            (NextHop("example.net", source=("192.0.2.1", "2001:db8::1"), hello="bulk.example.org"),),
        )

    def test_what_is_no_address_of_ours_or_no_name_is_a_mistake(self) -> None:
        for source in (
            "",
            [],
            25,
            [25],
            {},
            "relay.example.org",
            "192.0.2.256",
            "192.0.2.0/24",
            "[2001:db8::1]",
            "fe80::1%eth0",
            "::ffff:192.0.2.1",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            ["192.0.2.1", "192.0.2.2"],
            ["2001:db8::1", "2001:db8::2"],
            ["192.0.2.1", "2001:db8::1", "192.0.2.1"],
        ):
            self.assertRaises(ValidationError, forward, source=source)
        for hello in "", "two words", "[192.0.2.1]", "a..b", "x\r\nQUIT", 5:
            self.assertRaises(ValidationError, forward, hello=hello)
        self.assertRaises(ValidationError, forward, next_hop="unix:/run/lmtp", protocol="lmtp", source="192.0.2.1")

    def test_lmtp_has_a_port_of_its_own_and_sockets(self) -> None:
        self.assertEqual(
            hops(next_hop=["192.0.2.1", "192.0.2.2:2400", "unix:/run/lmtp"], protocol="lmtp"),
            (
                NextHop("192.0.2.1", 24, mx=False, lmtp=True),
                NextHop("192.0.2.2", 2400, mx=False, lmtp=True),
                NextHop("unix:/run/lmtp", 24, mx=False, lmtp=True),
            ),
        )
        self.assertEqual(hops(next_hop="192.0.2.1", protocol="lmtp", port=26)[0].port, 26)

    def test_what_does_not_go_together_is_a_mistake(self) -> None:
        for options in (
            {"next_hop": "a.test", "login": "x"},
            {"next_hop": "a.test", "login": "x", "tls": "encrypt"},
            {"protocol": "lmtp"},
            {"next_hop": "unix:/run/lmtp"},
            {"next_hop": "unix:run/lmtp", "protocol": "lmtp"},
            {"next_hop": "unix:", "protocol": "lmtp"},
            {"next_hop": "unix:/" + "x" * 107, "protocol": "lmtp"},
            {"next_hop": "unix:/run/lmtp", "protocol": "lmtp", "tls": "encrypt"},
            {"next_hop": "unix:/run/lmtp", "protocol": "lmtp", "tls": "verify", "login": "x"},
            {"tls": "maybe"},
            {"without": ["STARTTLS"]},
            {"without": ["chunking"]},
        ):
            self.assertRaises(ValidationError, forward, **options)

    def test_srs_and_verp_do_not_go_together_nor_srs_with_a_mailbox(self) -> None:
        srs = {"domain": "srs.example.org", "secret_file": "/nowhere"}
        for options in (
            {"verp": True, "srs": srs},
            {"srs": srs, "protocol": "lmtp", "next_hop": "192.0.2.1"},
            {"srs": {"domain": "srs.example.org"}},
            {"srs": {**srs, "secret": "x"}},
            {"verp": "yes"},
        ):
            self.assertRaises(ValidationError, forward, **options)

    def test_verdicts_are_kept_ready_but_not_without_end(self) -> None:
        policy = forward()
        self.assertIs(policy.route(inquiry("jon@example.net")), policy.route(inquiry("ann@example.net")))
        for number in range(10_500):
            policy.route(inquiry(f"jon@d{number}.example"))
        self.assertLessEqual(len(policy._way._ready), 10_000)
