"""Lists in the DNS: what their answers mean, whom they are asked about, and what comes of it."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from relay.interfaces import IConnectionPolicy, ISenderPolicy
from relay.mail.answer import Unanswered
from relay.mail.routing import ABSTAIN, Accept, Delay, Note, Reject
from relay.net.waiting import start
from relay.policy.dnsbl import Dnsbl, DnsblOptions
from relay.policy.dnswl import Dnswl, DnswlOptions
from relay.policy.list_answers import Meaning, Pattern, meaning, reversed_address
from relay.testing.policy import FakeWorld, PolicyContract
from relay.testing.questions import Question, connecting, put, sending

LISTED = {"9.2.0.192.bl.test": {"A": ["127.0.0.2"], "TXT": ["see http://bl.test/?192.0.2.9"]}}
CLIENT = "192.0.2.9"


class Asked:
    """A policy, its world, and what it says."""

    def __init__(self, names: Any = LISTED, policy: Any = Dnsbl, **options: Any) -> None:
        self.world = FakeWorld(names)
        self.model = DnsblOptions if policy is Dnsbl else DnswlOptions
        self.make, self.options = policy, {"lists": [{"zone": "bl.test"}], **options}
        self.restart()

    def restart(self) -> None:
        self.policy = self.make(self.model.model_validate(self.options), self.world.world)

    def put(self, question: Question | None = None) -> Any:
        return start(put(self.policy, question or connecting(CLIENT)))


def lists(**weights: float) -> list[dict[str, Any]]:
    return [{"zone": f"{name}.test", "weight": weight} for name, weight in weights.items()]


class DnsblTests(PolicyContract, SynchronousTestCase):
    policy = "dnsbl"
    options = {"lists": [{"zone": "bl.test"}]}  # noqa: RUF012
    names = LISTED
    inquiries = (connecting(CLIENT),)

    def test_a_client_that_is_listed_is_refused_and_told_why(self) -> None:
        verdict = Asked().put()
        assert isinstance(verdict, Reject)
        self.assertEqual(str(verdict.reply), "550 5.7.1 192.0.2.9 is listed by bl.test: see http://bl.test/?192.0.2.9")
        self.assertEqual(verdict.because, "192.0.2.9 is listed by bl.test: 1")

    def test_one_that_is_not_may_stay_and_this_is_known(self) -> None:
        verdict = Asked().put(connecting("192.0.2.8"))
        self.assertEqual(verdict, Note({"dnsbl": "none", "dnsbl.score": "0", "dnsbl.lists": ""}, verdict.because))
        self.assertEqual(verdict.because, "192.0.2.8 is not listed")

    def test_octets_and_nibbles_are_asked_about_backwards(self) -> None:
        asked = Asked()
        for client in (CLIENT, "::ffff:192.0.2.9", "2001:db8::567:89ab"):
            asked.put(connecting(client))
        six = "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.test"
        self.assertEqual(
            [name for name, kind in asked.world.names.asked if kind == "A"],
            ["9.2.0.192.bl.test", "9.2.0.192.bl.test", six],
        )

    def test_it_has_no_opinion_on_clients_that_are_not_on_the_internet(self) -> None:
        asked = Asked()
        for client in ("127.0.0.1", "::1", "10.1.2.3", "192.168.1.1", "fe80::1%eth0", "fd00::1", "100.64.0.1", None):
            self.assertIs(asked.put(connecting(client)), ABSTAIN, client)
        self.assertEqual(asked.world.names.asked, [])

    def test_scores_add_up_to_a_delay_and_to_a_refusal(self) -> None:
        names = {f"9.2.0.192.{name}.test": {"A": ["127.0.0.2"]} for name in ("a", "b", "good")}
        for weights, kind in [
            ({"a": 1, "none": 5}, Note),
            ({"a": 2}, Delay),
            ({"a": 1, "b": 1}, Delay),
            ({"a": 2, "b": 1}, Reject),
            ({"a": 2, "b": 1, "good": -1}, Delay),
            ({"a": 2, "b": 1, "good": -2}, Note),
        ]:
            verdict = Asked(names, lists=lists(**weights), delay=2, reject=3).put()
            self.assertIsInstance(verdict, kind, weights)
            if kind is Delay:
                self.assertEqual((verdict.reply.code, verdict.reply.status), (450, "4.7.1"))

    @given(st.lists(st.tuples(st.integers(-5, 5).filter(bool), st.booleans(), st.booleans()), min_size=1, max_size=6))
    def test_whoever_answers_when_only_the_score_decides(self, given: list[tuple[int, bool, bool]]) -> None:
        """Of each list: its weight, whether it lists the client, and whether it takes its time."""
        names = {f"9.2.0.192.l{at}.test": {"A": ["127.0.0.2"]} for at, (_, there, _) in enumerate(given) if there}
        asked = Asked(
            names, lists=lists(**{f"l{at}": weight for at, (weight, _, _) in enumerate(given)}), reject=3, delay=1
        )
        held = [(f"9.2.0.192.l{at}.test", "A") for at, (_, _, slow) in enumerate(given) if slow]
        for question in held:
            asked.world.names.hold(*question)
        waiting = asked.put()
        for question in reversed(held):
            asked.world.clock.advance(0.1)
            asked.world.names.release(*question)
        verdict = self.successResultOf(waiting) if isinstance(waiting, Deferred) else waiting
        score = sum(weight for weight, there, _ in given if there)
        if not names or score < 1:
            self.assertEqual(verdict.facts["dnsbl.score"], str(score))
        else:
            self.assertIsInstance(verdict, Reject if score >= 3 else Delay)

    def test_it_may_do_no_more_than_leave_facts(self) -> None:
        verdict = Asked(lists=[*lists(bl=2.5), {"zone": "bl.test", "name": "again"}], reject="never", fact="rbl").put()
        self.assertEqual(dict(verdict.facts), {"rbl": "listed", "rbl.score": "3.5", "rbl.lists": "bl.test, again"})
        provided = Asked(fact="rbl").policy.provides
        self.assertEqual(provided, verdict.facts.keys())

    def test_only_answers_that_count_do(self) -> None:
        for answers, expected in [
            (["127.0.0.2"], Reject),
            (["127.0.0.11"], Reject),
            (["127.0.0.1", "127.0.0.5"], Reject),
            (["127.0.0.12"], Note),
            (["127.0.1.2"], Note),
        ]:
            asked = Asked(
                {"9.2.0.192.bl.test": {"A": answers}}, lists=[{"zone": "bl.test", "answers": ["127.0.0.[2-11]"]}]
            )
            self.assertIsInstance(asked.put(), expected, answers)

    def test_the_same_list_may_weigh_more_for_another_answer(self) -> None:
        asked = Asked(
            lists=[
                {"zone": "bl.test", "answers": ["127.0.0.2"], "weight": 3},
                {"zone": "bl.test", "answers": ["127.0.0.10"], "weight": 1},
            ],
            reject="never",
        )
        self.assertEqual(asked.put().facts["dnsbl.score"], "3")
        self.assertEqual(asked.world.names.asked.count(("9.2.0.192.bl.test", "A")), 1)

    def test_what_a_list_says_is_bounded_and_printable(self) -> None:
        names = {"9.2.0.192.bl.test": {"A": ["127.0.0.2"], "TXT": ["böse\r\n250 Ok \x1b " + "x" * 5000]}}
        reply = Asked(names).put().reply
        self.assertEqual(len(reply.lines), 1)
        self.assertLess(len(reply.lines[0]), 260)
        self.assertIn("b?se 250 Ok ? xxx", reply.lines[0])
        self.assertNotIn("x", str(Asked(names, text=False).put().reply))

    def test_a_key_in_a_zone_is_not_shown(self) -> None:
        names = {"9.2.0.192.secret.test": {"A": ["127.0.0.2"]}}
        verdict = Asked(names, lists=[{"zone": "secret.test", "name": "bl"}]).put()
        self.assertNotIn("secret", f"{verdict.reply} {verdict.because}")

    def test_the_domain_of_the_sender_is_asked_about_at_mail(self) -> None:
        asked = Asked({"spam.example.bl.test": {"A": ["127.0.0.2"]}}, of="sender")
        self.assertEqual(
            (ISenderPolicy.providedBy(asked.policy), IConnectionPolicy.providedBy(asked.policy)), (True, False)
        )
        verdict = asked.put(sending("ann@spam.example"))
        self.assertEqual(str(verdict.reply), "550 5.7.1 the sender's domain spam.example is listed by bl.test")
        self.assertIsInstance(asked.put(sending("ann@fine.example")), Note)
        for sender in ("<>", "ann@[192.0.2.9]"):
            self.assertIs(asked.put(sending(sender)), ABSTAIN)

    def test_so_is_the_name_that_a_client_has_said(self) -> None:
        asked = Asked({"spam.example.bl.test": {"A": ["127.0.0.2"]}}, of="helo")
        self.assertIsInstance(asked.put(sending(helo="SPAM.example")), Reject)
        self.assertIsInstance(asked.put(sending(helo="fine.example")), Note)
        for helo in ("localhost", "[192.0.2.9]", "192.0.2.9", "what is this", "a" * 64 + ".example", "", "x..y"):
            self.assertIs(asked.put(sending(helo=helo)), ABSTAIN, helo)

    def test_a_name_that_is_too_long_to_be_asked_about_is_not(self) -> None:
        helo = ".".join(["a" * 60] * 4) + ".example"
        asked = Asked(of="helo")
        self.assertEqual(asked.put(sending(helo=helo)).facts["dnsbl"], "none")
        self.assertEqual(asked.world.names.asked, [])


class TroubleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.warnings: list[Any] = []
        globalLogPublisher.addObserver(self._observe)
        self.addCleanup(globalLogPublisher.removeObserver, self._observe)

    def _observe(self, event: Any) -> None:
        if event.get("log_namespace") == "relay.testing.policy":
            self.warnings.append((event["list"], event["what"]))

    def test_an_error_is_no_listing_and_is_said_once_an_hour(self) -> None:
        names = {"9.2.0.192.bl.test": {"A": ["127.0.0.2", "127.255.255.254"]}}
        asked = Asked(names)
        for _ in range(3):
            self.assertEqual(asked.put().facts["dnsbl"], "none")
            asked.restart()
        said = ("bl.test", "has answered 127.0.0.2, 127.255.255.254, which is an error")
        self.assertEqual(self.warnings, [said])
        asked.world.clock.advance(3601)
        asked.put()
        self.assertEqual(self.warnings, [said] * 2)

    def test_a_zone_that_answers_whatever_it_is_asked_lists_nobody(self) -> None:
        for answers in (["192.0.2.80"], ["127.0.0.2", "203.0.113.1"], ["0.0.0.0"]):
            self.warnings.clear()
            self.assertEqual(Asked({"9.2.0.192.bl.test": {"A": answers}}).put().facts["dnsbl.score"], "0")
            self.assertEqual(len(self.warnings), 1)
            self.assertIn("outside of 127.0.0.0/8", self.warnings[0][1])

    def test_a_list_that_is_out_of_order_counts_nothing_and_the_others_go_on(self) -> None:
        names = {**LISTED, "9.2.0.192.broken.test": Unanswered("SERVFAIL"), "8.2.0.192.broken.test": Unanswered("no")}
        asked = Asked(names, lists=lists(broken=5, bl=1), reject=2)
        verdict = asked.put()
        self.assertEqual((verdict.facts["dnsbl"], verdict.facts["dnsbl.score"]), ("listed", "1"))
        self.assertEqual(asked.put(connecting("192.0.2.8")).facts["dnsbl"], "unsure")
        self.assertEqual(self.warnings, [("broken.test", "has not answered (SERVFAIL)")])

    def test_why_a_list_was_silent_before_is_not_told_of_a_later_question(self) -> None:
        names = {f"{n}.2.0.192.broken.test": Unanswered(f"trouble {n}") for n in (8, 9)}
        asked = Asked(names, lists=lists(broken=5))
        asked.put()
        asked.put(connecting("192.0.2.8"))
        kept = dict(asked.world.store.items())
        self.assertEqual(list(kept), ["said broken.test"])
        self.assertNotIn("trouble", kept["said broken.test"])

    def test_all_are_asked_at_the_same_time_and_none_is_waited_for_too_long(self) -> None:
        asked = Asked(lists=lists(slow=5, bl=1, slower=5), patience=3, reject=1)
        for zone in ("slow.test", "bl.test", "slower.test"):
            asked.world.names.hold(f"9.2.0.192.{zone}", "A")
        waiting = asked.put()
        assert isinstance(waiting, Deferred)
        self.assertEqual([name for name, _ in asked.world.names.asked], [f"9.2.0.192.{zone}" for zone in ("slow.test", "bl.test", "slower.test")])  # fmt: skip
        asked.world.clock.advance(1)
        asked.world.names.release("9.2.0.192.bl.test", "A")
        asked.world.clock.advance(1.9)
        self.assertNoResult(waiting)
        asked.world.clock.advance(0.1)
        verdict = self.successResultOf(waiting)
        self.assertEqual(verdict.because, "192.0.2.9 is listed by bl.test: 1; no answer from slow.test, slower.test")
        self.assertIsInstance(verdict, Reject)

    def test_who_is_cancelled_leaves_nothing_waiting(self) -> None:
        asked = Asked(lists=lists(a=1, b=1))
        for zone in ("a.test", "b.test"):
            asked.world.names.hold(f"9.2.0.192.{zone}", "A")
        waiting = asked.put()
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        self.assertEqual(asked.world.clock.getDelayedCalls(), [])


class DnswlTests(PolicyContract, SynchronousTestCase):
    policy = "dnswl"
    options = {"lists": [{"zone": "bl.test"}]}  # noqa: RUF012
    names = LISTED
    inquiries = (connecting(CLIENT),)

    def test_a_client_that_somebody_speaks_for_is_accepted(self) -> None:
        verdict = Asked(policy=Dnswl).put()
        self.assertEqual(
            verdict,
            Accept(
                "192.0.2.9 is listed by bl.test: 1",
                {"dnswl": "listed", "dnswl.score": "1", "dnswl.lists": "bl.test"},
            ),
        )

    def test_one_that_nobody_speaks_for_is_not(self) -> None:
        self.assertEqual(Asked(policy=Dnswl).put(connecting("192.0.2.8")).facts["dnswl"], "none")
        self.assertIs(Asked(policy=Dnswl).put(connecting("10.0.0.1")), ABSTAIN)

    def test_the_score_may_not_be_enough_or_never_be(self) -> None:
        for accept in (2, "never"):
            verdict = Asked(policy=Dnswl, accept=accept).put()
            self.assertIsInstance(verdict, Note)
            self.assertEqual(verdict.facts["dnswl"], "listed")

    def test_senders_and_names_are_asked_about_at_mail(self) -> None:
        names = {"good.example.bl.test": {"A": ["127.0.0.2"]}}
        self.assertIsInstance(Asked(names, Dnswl, of="sender").put(sending("a@good.example")), Accept)
        self.assertIsInstance(Asked(names, Dnswl, of="helo").put(sending(helo="good.example")), Accept)
        self.assertIs(Asked(names, Dnswl, of="sender").put(sending("<>")), ABSTAIN)

    def test_an_error_speaks_for_nobody(self) -> None:
        for answer in ("127.255.255.255", "192.0.2.1"):
            self.assertIsInstance(Asked({"9.2.0.192.bl.test": {"A": [answer]}}, Dnswl).put(), Note)


class OptionsTests(SynchronousTestCase):
    def test_what_cannot_be_meant_is_an_error(self) -> None:
        for wrong in (
            {},
            {"lists": []},
            {"lists": [{}]},
            {"lists": [{"zone": "not a zone"}]},
            {"lists": [{"zone": ".".join(["a" * 60] * 3)}]},
            {"lists": [{"zone": "bl.test", "weight": 0}]},
            {"lists": [{"zone": "bl.test", "answers": ["192.0.2.1"]}]},
            {"lists": [{"zone": "bl.test", "answers": ["127.255.255.1"]}]},
            {"lists": [{"zone": "bl.test"}], "of": "recipient"},
            {"lists": [{"zone": "bl.test"}], "reject": "always"},
            {"lists": [{"zone": "bl.test"}], "patience": "2m"},
            {"lists": [{"zone": "bl.test"}], "fact": "two words"},
        ):
            self.assertRaises(ValidationError, DnsblOptions.model_validate, wrong)


class AnswersTests(SynchronousTestCase):
    def test_patterns_have_numbers_and_ranges(self) -> None:
        for text, inside, outside in [
            ("127.0.0.2", ["127.0.0.2"], ["127.0.0.3", "127.0.1.2"]),
            ("127.0.0.[2-11]", ["127.0.0.2", "127.0.0.11"], ["127.0.0.1", "127.0.0.12"]),
            ("127.0.[0-255].[1,3]", ["127.0.7.3", "127.0.255.1"], ["127.0.7.2", "127.1.7.3"]),
            ("127.0.0.[1, 4-5]", ["127.0.0.5"], ["127.0.0.2"]),
        ]:
            pattern = Pattern.parse(text)
            for address in inside:
                self.assertIn(IPv4Address(address), pattern)
            for address in outside:
                self.assertNotIn(IPv4Address(address), pattern)

    def test_what_is_no_pattern_is_refused(self) -> None:
        for text in (
            "", "127.0.0", "127.0.0.256", "127.0.0.2-4", "127.0.0.[4-2]", "127.0.0.[", "127.0.0.[]", "127.0.0.2.3",
            "127.0.0.x", "128.0.0.1", "[126-127].0.0.1", "127.255.255.[0-9]", "127.0.0.1,2", "127.0.0.[1000]",
        ):  # fmt: skip
            self.assertRaises(ValueError, Pattern.parse, text)

    @given(st.lists(st.ip_addresses(v=4).map(str), min_size=1, max_size=4))
    def test_nobody_is_listed_by_an_address_of_the_internet(self, answers: list[str]) -> None:
        if any(not answer.startswith("127.") for answer in answers):
            self.assertIs(meaning(answers, ()), Meaning.FOREIGN)
            self.assertIs(meaning(["127.0.0.2", *answers], ()), Meaning.FOREIGN)

    @given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
    def test_what_counts_is_what_the_range_says(self, low: int, high: int, octet: int) -> None:
        low, high = sorted((low, high))
        found = meaning([f"127.0.0.{octet}"], [Pattern.parse(f"127.0.0.[{low}-{high}]")])
        self.assertIs(found, Meaning.LISTED if low <= octet <= high else Meaning.OTHER)

    @given(st.ip_addresses())
    def test_an_address_is_reversed_into_its_parts(self, ip: Any) -> None:
        parts = reversed_address(ip).split(".")[::-1]
        text = ".".join(parts) if ip.version == 4 else ":".join("".join(parts[at : at + 4]) for at in range(0, 32, 4))
        self.assertEqual(ip_address(text), ip)
