"""What a client is called, and who says so."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.answer import Unanswered
from relay.mail.routing import ABSTAIN, Delay, Note, Reject
from relay.net.waiting import start
from relay.policy.client_names import ClientNames, ClientNamesOptions
from relay.testing.policy import FakeWorld, PolicyContract
from relay.testing.questions import connecting, put, sending

SILENT = Unanswered("SERVFAIL")


def pointer(last: int) -> str:
    return f"{last}.2.0.192.in-addr.arpa"


SIX = "1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa"
NAMES: dict[str, Any] = {
    pointer(1): {"PTR": ["mail.client.example"]},
    "mail.client.example": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
    SIX: {"PTR": ["mail.client.example"]},
    pointer(2): {"PTR": ["mail.client.example"]},
    pointer(3): {"PTR": SILENT},
    pointer(4): {"PTR": ["silent.example"]},
    "silent.example": SILENT,
    pointer(5): {"PTR": ["other.example", "silent.example", "five.example"]},
    "five.example": {"A": ["192.0.2.99", "192.0.2.5"]},
    pointer(6): {"PTR": ["h-192-0-2-6.dyn.client.example"]},
    "h-192-0-2-6.dyn.client.example": {"A": ["192.0.2.6"]},
    pointer(7): {"PTR": [f"n{number}.example" for number in range(11)]},
    "n10.example": {"A": ["192.0.2.7"]},
    "client.example": {"A": ["192.0.2.1"]},
    "only-mail.example": {"MX": [(10, "mail.client.example")]},
    "six.example": {"AAAA": ["2001:db8::1"]},
    "mx.example.org": {"A": ["203.0.113.1"]},
}
#: By the last number of the client's address: what is known of it, and which checks it fails.
CLIENTS: dict[int, tuple[dict[str, str], set[str]]] = {
    1: ({"rdns": "mail.client.example", "fcrdns": "pass"}, set()),
    2: ({"rdns": "mail.client.example", "fcrdns": "fail"}, {"rdns_unconfirmed"}),
    3: ({"rdns": "unsure", "fcrdns": "unsure"}, set()),
    4: ({"rdns": "silent.example", "fcrdns": "unsure"}, set()),
    5: ({"rdns": "five.example", "fcrdns": "pass"}, set()),
    6: (
        {"rdns": "h-192-0-2-6.dyn.client.example", "fcrdns": "pass", "rdns.generic": "*.dyn.*"},
        {"rdns_generic"},
    ),
    7: ({"rdns": "n0.example", "fcrdns": "fail"}, {"rdns_unconfirmed"}),
    8: ({"rdns": "none", "fcrdns": "none"}, {"rdns_missing"}),
}
#: What is said with HELO, from 192.0.2.1: the fact, and the check that it fails.
HELLOS = {
    "client.example": "ok",
    "Client.EXAMPLE.": "malformed",
    "CLIENT.example": "ok",
    "only-mail.example": "ok",
    "six.example": "ok",
    "[192.0.2.1]": "ok",
    "[192.0.2.2]": "mismatch",
    "[IPv6:2001:db8::1]": "mismatch",
    "[IPv6:::ffff:192.0.2.1]": "ok",
    "192.0.2.1": "malformed",
    "[192.0.2]": "malformed",
    "frogbog": "malformed",
    "": "malformed",
    "two words.example": "malformed",
    "-.example": "malformed",
    "clïent.example": "malformed",
    "gone.example": "unresolved",
    "silent.example": "unsure",
    "mx.example.org": "ours",
    "MX.example.ORG": "ours",
    "alias.example.org": "ours",
    "[203.0.113.1]": "ours",
    "[127.0.0.1]": "ours",
}
GENERIC = {"generic": ["pool-*", "*.DYN.*"]}
OURS = {"names": ["alias.example.org"], "addresses": ["203.0.113.1"]}
CHECKS = ("rdns_missing", "rdns_unconfirmed", "rdns_generic")
HELO_CHECKS = ("helo_malformed", "helo_ours", "helo_unresolved", "helo_mismatch")


def asked(question: Any, **options: Any) -> Any:
    policy = ClientNames(ClientNamesOptions.model_validate(options), FakeWorld(NAMES).world)
    return start(put(policy, question))


class ClientNamesTests(PolicyContract, SynchronousTestCase):
    policy = "client-names"
    options = {**GENERIC, **OURS}  # noqa: RUF012
    names = NAMES
    inquiries = (
        *(connecting(f"192.0.2.{last}") for last in CLIENTS),
        *(sending(helo=helo) for helo in HELLOS),
    )

    # Reverse DNS.

    def test_what_the_dns_calls_a_client_is_a_fact_for_others(self) -> None:
        for last, (facts, _) in CLIENTS.items():
            verdict = asked(connecting(f"192.0.2.{last}"), **GENERIC)
            assert isinstance(verdict, Note), (last, verdict)
            self.assertEqual(dict(verdict.facts), facts, last)
        verdict = asked(connecting("2001:db8::1"))
        self.assertEqual(dict(verdict.facts), CLIENTS[1][0])
        self.assertEqual(asked(connecting("::ffff:192.0.2.1")), asked(connecting("192.0.2.1")))

    def test_each_check_refuses_whom_it_is_about_and_nobody_else(self) -> None:
        for check in CHECKS:
            for last, (_, failed) in CLIENTS.items():
                rejected, delayed = (
                    asked(connecting(f"192.0.2.{last}"), **GENERIC, **{check: action}) for action in ("reject", "delay")
                )
                self.assertEqual(isinstance(rejected, Reject), check in failed, (check, last))
                self.assertEqual(isinstance(delayed, Delay), check in failed, (check, last))

    def test_a_client_is_refused_in_words_that_its_operator_can_act_on(self) -> None:
        for check, last, text in [
            ("rdns_missing", 8, "7.25 your address has no name in the DNS"),
            ("rdns_unconfirmed", 2, "7.25 the name of your address in the DNS does not lead back to it"),
            ("rdns_generic", 6, "7.1 the name of your address in the DNS is not that of a mail server"),
        ]:
            for action, before in (("reject", "554 5."), ("delay", "421 4.")):
                verdict = asked(connecting(f"192.0.2.{last}"), **GENERIC, **{check: action})
                self.assertEqual(str(verdict.reply), before + text)
        self.assertEqual(
            asked(connecting("192.0.2.2"), rdns_unconfirmed="reject").because,
            "192.0.2.2 is mail.client.example, which is not 192.0.2.2",
        )

    def test_where_the_dns_is_silent_the_client_stays_unless_it_should_come_again(self) -> None:
        for last in (3, 4):
            for options, kind in [
                ({"rdns_unconfirmed": "reject"}, Note),
                ({"rdns_unconfirmed": "reject", "unsure": "delay"}, Delay),
                ({"unsure": "delay"}, Note),
            ]:
                self.assertIs(type(asked(connecting(f"192.0.2.{last}"), **options)), kind, (last, options))
        verdict = asked(connecting("192.0.2.3"), rdns_missing="reject", unsure="delay")
        self.assertEqual(str(verdict.reply), "421 4.4.3 your name cannot be looked up now")

    def test_the_stricter_of_two_actions_counts(self) -> None:
        given = {"generic": ["mail.*"], "rdns_unconfirmed": "delay", "rdns_generic": "reject"}
        self.assertIsInstance(asked(connecting("192.0.2.2"), **given), Reject)

    def test_what_is_ignored_is_not_even_looked_up(self) -> None:
        for ignored, asks in [
            ((), [(pointer(2), "PTR"), ("mail.client.example", "A")]),
            (("rdns_unconfirmed",), [(pointer(2), "PTR")]),
            (("rdns_unconfirmed", "rdns_missing"), []),
            (CHECKS, []),
        ]:
            fake = FakeWorld(NAMES)
            options = ClientNamesOptions.model_validate(dict.fromkeys(ignored, "ignore"))
            start(ClientNames(options, fake.world).connect(connecting("192.0.2.2")))
            self.assertEqual(fake.names.asked, asks)

    def test_a_client_without_an_address_has_no_name(self) -> None:
        self.assertIs(asked(connecting(None), rdns_missing="reject"), ABSTAIN)

    def test_it_does_not_wait_for_the_dns_for_longer_than_it_may(self) -> None:
        fake = FakeWorld(NAMES)
        fake.names.hold(pointer(1), "PTR")
        waiting = start(ClientNames(ClientNamesOptions(patience=2), fake.world).connect(connecting()))
        assert isinstance(waiting, Deferred)
        fake.clock.advance(2)
        self.assertEqual(dict(self.successResultOf(waiting).facts), CLIENTS[3][0])

    # HELO.

    def test_what_a_client_calls_itself_is_looked_at(self) -> None:
        for helo, fact in HELLOS.items():
            verdict = asked(sending(helo=helo), **OURS, helo_ours="note")
            assert isinstance(verdict, Note), (helo, verdict)
            self.assertEqual(dict(verdict.facts), {"helo": fact}, helo)

    def test_each_check_of_helo_refuses_what_it_is_about_and_nothing_else(self) -> None:
        for check in HELO_CHECKS:
            noting = {other: "note" for other in HELO_CHECKS if other != check}
            for helo, fact in HELLOS.items():
                rejected, delayed, ignored = (
                    asked(sending(helo=helo), **OURS, **noting, **{check: action})
                    for action in ("reject", "delay", "ignore")
                )
                self.assertEqual(isinstance(rejected, Reject), f"helo_{fact}" == check, (check, helo))
                self.assertEqual(isinstance(delayed, Delay), f"helo_{fact}" == check, (check, helo))
                self.assertIsInstance(ignored, Note)
                self.assertEqual(
                    ignored.facts["helo"] == "ok",
                    fact == "ok" or f"helo_{fact}" == check or (check == "helo_unresolved" and fact == "unsure"),
                    (check, helo),
                )

    def test_a_sender_is_refused_with_the_codes_of_mail(self) -> None:
        for check, helo, text in [
            ("helo_malformed", "frogbog", "7.1 what you said with HELO is no full name of a host"),
            ("helo_ours", "mx.example.org", "7.1 what you said with HELO is our name and not yours"),
            ("helo_unresolved", "gone.example", "7.1 what you said with HELO does not exist"),
            ("helo_mismatch", "[192.0.2.2]", "7.1 what you said with HELO is not your address"),
        ]:
            for action, before in (("reject", "550 5."), ("delay", "451 4.")):
                self.assertEqual(str(asked(sending(helo=helo), **{check: action}).reply), before + text)
        verdict = asked(sending(helo="silent.example"), helo_unresolved="reject", unsure="delay")
        self.assertEqual(str(verdict.reply), "451 4.4.3 your name cannot be looked up now")
        self.assertIsInstance(asked(sending(helo="silent.example"), helo_unresolved="reject"), Note)

    def test_unless_it_is_told_otherwise_it_refuses_nobody_but_who_takes_our_name(self) -> None:
        for helo, fact in HELLOS.items():
            self.assertEqual(isinstance(asked(sending(helo=helo), **OURS), Reject), fact == "ours", helo)
        for last in CLIENTS:
            self.assertIsInstance(asked(connecting(f"192.0.2.{last}"), **GENERIC), Note)

    def test_we_may_say_our_name(self) -> None:
        for client in ("127.0.0.1", "::1", "203.0.113.1", None):
            for helo in ("mx.example.org", "alias.example.org", "[203.0.113.1]", "[127.0.0.1]"):
                self.assertIsInstance(asked(sending(client=client, helo=helo), **OURS), Note, (client, helo))

    def test_who_has_said_who_they_are_may_call_their_reader_what_they_want(self) -> None:
        strict = dict.fromkeys(HELO_CHECKS, "reject")
        for helo in HELLOS:
            self.assertIs(asked(sending(helo=helo, user="ann"), **strict), ABSTAIN)

    def test_where_all_is_ignored_nothing_is_looked_at(self) -> None:
        self.assertIs(asked(sending(helo="gone.example"), **dict.fromkeys(HELO_CHECKS, "ignore")), ABSTAIN)

    @given(st.text(max_size=100))
    def test_whatever_a_client_calls_itself_there_is_a_verdict(self, helo: str) -> None:
        strict = dict.fromkeys(HELO_CHECKS, "reject")
        self.assertIsInstance(asked(sending(helo=helo), **strict), Reject | Note)

    # Options.

    def test_patterns_are_names_with_stars(self) -> None:
        for wrong in ("", "two words", "[ab].example", "x" * 256, "é.example"):
            self.assertRaises(ValidationError, ClientNamesOptions.model_validate, {"generic": [wrong]})
        for pattern, name, matches in [
            ("*.dyn.*", "a.dyn.example", True),
            ("*.dyn.*", "a-dyn.example", False),
            ("dsl-*", "dsl-1.example", True),
            ("dsl-*", "adsl-1.example", False),
            ("h?.example", "h1.example", True),
            ("h?.example", "h12.example", False),
        ]:
            fake = FakeWorld({pointer(1): {"PTR": [name]}})
            options = ClientNamesOptions.model_validate({"generic": [pattern], "rdns_generic": "reject"})
            verdict: Any = start(ClientNames(options, fake.world).connect(connecting()))
            self.assertEqual(isinstance(verdict, Reject), matches, (pattern, name))

    def test_a_name_and_a_pattern_of_many_stars_are_no_work(self) -> None:
        fake = FakeWorld({pointer(1): {"PTR": ["a-" * 100 + "b"]}})
        options = ClientNamesOptions.model_validate({"generic": ["*-" * 60 + "x"]})
        verdict: Any = start(ClientNames(options, fake.world).connect(connecting()))
        self.assertNotIn("rdns.generic", verdict.facts)
