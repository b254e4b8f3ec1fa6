"""Who is new has to come again, and who has come again is known."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from twisted.trial.unittest import SynchronousTestCase

from relay.config.units import DAY
from relay.mail.address import Address, parse_address
from relay.mail.envelope import OURSELVES
from relay.mail.routing import ABSTAIN, Delay, Inquiry, Note
from relay.policy.greylist import Greylist, GreylistOptions, sender_key
from relay.policy.patience import in_seconds
from relay.testing.policy import FakeWorld, PolicyContract, inquiry


class Gray:
    """A greylist, and a clock that the test moves."""

    def __init__(self, **options: Any) -> None:
        self.world = FakeWorld()
        self.options = GreylistOptions.model_validate(options)
        self.restart()

    def restart(self) -> None:
        """Another process, with the same store."""
        self.policy = Greylist(self.options, self.world.world)

    def said(self, recipient: str = "jon@example.org", *arguments: Any, **more: Any) -> str:
        """The fact that it leaves, or for how many seconds it delays."""
        verdict = self.policy.route(inquiry(recipient, *arguments, **more))
        match verdict:
            case Note(facts):
                return facts["greylist"]
            case Delay(reply):
                return str(reply).split("come again in ")[1]
            case other:
                assert other is ABSTAIN, other
                return "nothing"

    def later(self, seconds: float) -> None:
        self.world.clock.advance(seconds)


class GreylistTests(PolicyContract, SynchronousTestCase):
    policy = "greylist"
    remembers = True

    def test_of_one_second_there_is_one(self) -> None:
        self.assertEqual([in_seconds(left) for left in (0.2, 1, 1.1)], ["1 second", "1 second", "2 seconds"])

    def test_who_is_new_is_asked_to_come_again_and_told_when(self) -> None:
        verdict = self.ask("jon@example.org")
        assert isinstance(verdict, Delay)
        self.assertEqual(str(verdict.reply), "450 4.7.1 <jon@example.org>: greylisted, come again in 300 seconds")
        self.assertEqual(verdict.because, "new")

    def test_who_comes_again_too_soon_waits_for_the_rest_and_no_longer(self) -> None:
        gray = Gray()
        self.assertEqual(gray.said(), "300 seconds")
        gray.later(100)
        self.assertEqual(gray.said(), "200 seconds")
        gray.later(199.5)
        self.assertEqual(gray.said(), "1 second")
        gray.later(0.5)
        self.assertEqual(gray.said(), "passed")
        self.assertEqual(gray.said(), "passed")

    def test_who_comes_too_late_is_new_again(self) -> None:
        gray = Gray(window="1h")
        gray.said()
        gray.later(3600)
        self.assertEqual(gray.said(), "300 seconds")
        gray.later(3599)
        self.assertEqual(gray.said(), "passed")

    def test_who_has_passed_is_forgotten_when_no_mail_has_come_for_long(self) -> None:
        gray = Gray()
        gray.said()
        gray.later(300)
        for _ in range(3):
            self.assertEqual(gray.said(), "passed")
            gray.later(36 * DAY - 1)
        self.assertEqual(gray.said(), "passed")
        gray.later(36 * DAY)
        self.assertEqual(gray.said(), "300 seconds")

    def test_a_restart_forgets_nobody(self) -> None:
        gray = Gray()
        gray.said()
        gray.later(300)
        gray.restart()
        self.assertEqual(gray.said(), "passed")
        gray.restart()
        self.assertEqual(gray.said(), "passed")

    def test_client_sender_and_recipient_together_are_known(self) -> None:
        gray = Gray()
        gray.said("jon@example.org", "a@x.example", "192.0.2.1")
        gray.later(300)
        for other in [
            ("ann@example.org", "a@x.example", "192.0.2.1"),
            ("jon@example.org", "b@x.example", "192.0.2.1"),
            ("jon@example.org", "a@y.example", "192.0.2.1"),
            ("jon@example.org", "<>", "192.0.2.1"),
            ("jon@example.org", "a@x.example", "192.0.3.1"),
            ("jon@example.org", "a@x.example", "2001:db8::1"),
        ]:
            self.assertEqual(gray.said(*other), "300 seconds", other)
        self.assertEqual(gray.said("JON@Example.org", "A@X.example", "192.0.2.200"), "passed")

    def test_the_network_of_a_client_is_as_wide_as_it_is_said(self) -> None:
        for options, first, same, other in [
            ({}, "192.0.2.1", "192.0.2.255", "192.0.3.1"),
            ({"ipv4": 32}, "192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ({}, "2001:db8::1", "2001:db8::ffff:0:1", "2001:db8:0:1::1"),
            ({"ipv6": 48}, "2001:db8::1", "2001:db8:0:ffff::1", "2001:db8:1::1"),
        ]:
            gray = Gray(**options)
            gray.said(client=first)
            gray.later(300)
            self.assertEqual(gray.said(client=other), "300 seconds")
            self.assertEqual(gray.said(client=same), "passed")

    def test_a_client_of_which_many_have_come_again_is_known_for_all(self) -> None:
        gray = Gray(known_after=3)
        for number in range(3):
            self.assertEqual(gray.said(f"r{number}@example.org"), "300 seconds")
        gray.later(300)
        for number in range(3):
            self.assertEqual(gray.said("new@example.org", f"new{number}x@example.com"), "300 seconds")
            self.assertEqual(gray.said(f"r{number}@example.org"), "passed")
        self.assertEqual(gray.said("whoever@example.org", "else@example.com", "192.0.2.77"), "known")
        self.assertEqual(gray.said("whoever@example.org", "else@example.com", "192.0.3.77"), "300 seconds")

    def test_the_same_triple_counts_once(self) -> None:
        gray = Gray(known_after=2)
        gray.said()
        gray.later(300)
        for _ in range(5):
            self.assertEqual(gray.said(), "passed")

    def test_a_known_client_stays_so_while_its_mail_comes(self) -> None:
        gray = Gray(known_after=1)
        gray.said()
        gray.later(300)
        gray.said()
        for _ in range(3):
            gray.later(36 * DAY - 1)
            self.assertEqual(gray.said("ann@example.org"), "known")
        gray.later(36 * DAY)
        self.assertEqual(gray.said("ann@example.org"), "300 seconds")

    def test_who_is_known_otherwise_is_not_asked_to_come_again(self) -> None:
        gray = Gray()
        self.assertEqual(gray.said(user="ann"), "nothing")
        self.assertEqual(gray.said(client=None), "nothing")
        self.assertEqual(gray.said("member@example.org", original="team@example.org"), "nothing")
        jon = parse_address("jon@example.org")
        self.assertIs(gray.policy.route(Inquiry(jon, jon, None, OURSELVES)), ABSTAIN)
        self.assertEqual(gray.world.store.items(), [])

    def test_a_clock_that_was_set_back_makes_nobody_wait_for_years(self) -> None:
        gray = Gray()
        key = "t 192.0.2.0/24 ann@sender.example jon@example.org"
        gray.world.store.put(key, str(gray.world.world.clock.now() + 1e7), 1e8)
        self.assertEqual(gray.said(), "300 seconds")
        gray.later(300)
        self.assertEqual(gray.said(), "passed")

    def test_what_nobody_could_pass_is_a_mistake(self) -> None:
        for wrong in (
            {"delay": "1h", "window": "1h"},
            {"known_after": 0},
            {"ipv4": 33},
            {"ipv4": 7},
            {"ipv6": 129},
            {"delay": "2d"},
        ):
            self.assertRaises(ValidationError, GreylistOptions.model_validate, wrong)

    @given(
        st.lists(st.tuples(st.integers(0, 7200), st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=40),
        st.integers(1, 3),
    )
    def test_nobody_passes_who_has_not_come_before_and_whoever_comes_in_time_does(
        self, visits: list[tuple[int, int, int]], known_after: int
    ) -> None:
        gray = Gray(known_after=known_after, window="1h")
        now = 0
        first: dict[tuple[int, int], int] = {}
        passed: set[tuple[int, int]] = set()
        for pause, sender, network in visits:
            gray.later(pause)
            now += pause
            triple = sender, network
            said = gray.said("jon@example.org", "abc"[sender] + "@x.example", f"192.0.{network}.1")
            if sum(1 for _, other in passed if other == network) >= known_after:
                self.assertEqual(said, "known")
                continue
            began = first.get(triple)
            if triple in passed or (began is not None and 300 <= now - began < 3600):
                self.assertEqual(said, "passed")
                passed.add(triple)
            else:
                self.assertRegex(said, r"[1-9][0-9]* seconds?\b")
                if began is None or now - began >= 3600:
                    first[triple] = now


class SenderKeyTests(SynchronousTestCase):
    def test_a_sender_with_a_number_of_its_own_in_each_message_is_the_same_the_next_time(self) -> None:
        for one, other in [
            ("bounce-12345-jon=example.org@lists.example", "bounce-12346-jon=example.org@lists.example"),
            ("prvs=1234abcdef=ann@x.example", "prvs=4567fedcba=ann@x.example"),
            ("SRS0=a1B2=XY=x.example=ann@forwarder.example", "SRS0=zZzZ=XZ=x.example=ann@forwarder.example"),
            ("msprvs1=18aBcDeF09=bounces-262049@x.example", "msprvs1=19zYxWvU87=bounces-262050@x.example"),
            ("0100018bc6cb2f4e-000000@ses.example", "0100018bc6cb9a01-000000@ses.example"),
            ("Ann@x.example", "ann@x.example"),
        ]:
            self.assertEqual(sender_key(parse_address(one)), sender_key(parse_address(other)), one)

    def test_senders_with_other_words_or_domains_are_others(self) -> None:
        texts = ["ann@x.example", "ann@y.example", "anna@x.example", "bounce-1-jon@x.example", "bounce-1-ann@x.example"]
        keys = {sender_key(parse_address(text)) for text in texts}
        self.assertEqual(len(keys), len(texts))
        self.assertNotIn(sender_key(None), keys)

    @given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64))
    def test_a_key_can_be_kept_whatever_the_sender_is(self, local: str) -> None:
        key = sender_key(Address(local, "x.example"))
        self.assertTrue(key.endswith("@x.example"))
        self.assertLessEqual(len(key), 64 + len("@x.example"))
        self.assertFalse(any(character.isdigit() for character in key) and not local.lower().startswith("srs"))
