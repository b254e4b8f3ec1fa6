"""Reverse-paths in our own domain for mail of others, and back."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address, parse_address
from relay.mail.srs import Srs, Unfit
from relay.mail.verp import verp

DAY = 86400.0
NOW = 20_780 * DAY + 100
SECRET = b"0123456789abcdefghij"
OURS = Srs("srs.example", (SECRET,))
THEIRS = Srs("forwarder.example", (b"jihgfedcba9876543210",))
ANN = Address("ann", "sender.example")

#: What names may have in them that rewriting could stumble over.
LOCALS = st.text("abAZ09=+-._SRS01", min_size=1, max_size=24).filter(lambda local: local.strip(".") == local)
DOMAINS = st.sampled_from(["sender.example", "a-b.example.org", "xn--bcher-kva.example"])
SENDERS = st.builds(Address, LOCALS, DOMAINS)


def path(text: str) -> Address:
    return parse_address(text)


def there(srs: Srs, sender: Address, now: float = NOW) -> Address:
    made = srs.rewritten(sender, now)
    assert made is not None
    return made


class RoundTripTests(SynchronousTestCase):
    def test_a_reverse_path_becomes_one_of_ours_and_its_sender_is_found_behind_it(self) -> None:
        made = there(OURS, ANN)
        self.assertRegex(str(made), r"\ASRS0=[A-Z2-7]{8}=[A-Z2-7]{2}=sender\.example=ann@srs\.example\Z")
        self.assertEqual(OURS.original(made, NOW), ANN)

    @given(SENDERS, st.floats(0, 4e9))
    def test_so_it_is_of_everybody_at_any_time(self, sender: Address, now: float) -> None:
        found = OURS.rewritten(sender, now)
        assume(found is not None)
        made = found or sender
        self.assertEqual(path(str(made)), made)
        if made.local.startswith("SRS0"):
            self.assertEqual(OURS.original(made, now), sender)

    @given(SENDERS, st.floats(0, 4e9))
    def test_over_several_forwarders_it_goes_back_to_the_first_and_then_to_the_sender(
        self, sender: Address, now: float
    ) -> None:
        first = THEIRS.rewritten(sender, now)
        assume(first is not None and first.local.startswith("SRS0"))
        assert first is not None
        last = Srs("last.example", (SECRET,))
        second = OURS.rewritten(first, now)
        assume(second is not None)
        assert second is not None
        third = last.rewritten(second, now)
        assume(third is not None)
        assert third is not None
        self.assertTrue(second.local.startswith("SRS1="))
        self.assertTrue(third.local.startswith("SRS1="))
        # The second one is not asked.
        self.assertEqual(last.original(third, now), first)
        self.assertEqual(OURS.original(second, now), first)
        self.assertEqual(THEIRS.original(first, now), sender)

    def test_forwarders_with_another_separator_get_theirs_back(self) -> None:
        for sender in ("SRS0+x=ab=sender.example=ann@other.example", "srs0-x=ab=sender.example=ann@other.example"):
            made = there(OURS, path(sender))
            self.assertTrue(made.local.startswith("SRS1="), made)
            self.assertEqual(OURS.original(made, NOW), path(f"SRS0{sender[4:]}"))

    def test_a_relay_that_folds_letter_case_does_no_harm(self) -> None:
        for fold in (str.lower, str.upper):
            first = there(OURS, Address("Ann", "sender.example"))
            folded = OURS.original(Address(fold(first.local), "srs.example"), NOW)
            self.assertEqual(folded, Address(fold("Ann"), ANN.domain))
            second = there(OURS, there(THEIRS, ANN))
            found = OURS.original(Address(fold(second.local), "srs.example"), NOW)
            assert isinstance(found, Address)
            self.assertEqual(THEIRS.original(found, NOW), Address(fold("ann"), ANN.domain))

    def test_what_only_looks_like_srs_is_a_name_like_any_other(self) -> None:
        for local in ("SRS1=", "SRS1=x", "SRS1=x=y", "SRS1=x=y=z", "SRS1=x=b d==z", "srs0", "SRS2=x"):
            sender = Address(local, "sender.example")
            made = there(OURS, sender)
            self.assertTrue(made.local.startswith("SRS0="), local)
            self.assertEqual(OURS.original(made, NOW), sender)

    def test_what_needs_no_other_or_can_have_none_stays(self) -> None:
        for sender in ("ann@srs.example", "ann@[192.0.2.1]", f"{'a' * 50}@sender.example"):
            self.assertIsNone(OURS.rewritten(path(sender), NOW), sender)
        self.assertEqual(len(there(OURS, Address("a" * 32, "sender.example")).local), 64)
        self.assertIsNone(OURS.rewritten(Address("a" * 33, "sender.example"), NOW))
        # With its quotes it would be too long.
        self.assertIsNone(OURS.rewritten(Address(f"{'a' * 29}..b", "sender.example"), NOW))

    def test_other_addresses_are_none_of_ours(self) -> None:
        made = there(OURS, ANN)
        for address in (ANN, Address(made.local, "other.example"), Address("postmaster", "srs.example")):
            self.assertIsNone(OURS.original(address, NOW))


class AttackTests(SynchronousTestCase):
    def test_without_the_secret_nobody_makes_one(self) -> None:
        for other in (b"", SECRET[:-1], SECRET + b"x"):
            made = there(Srs("srs.example", (other,)), ANN)
            self.assertIs(OURS.original(made, NOW), Unfit.FORGED)

    @given(SENDERS, st.data())
    def test_no_character_of_one_can_be_changed_but_by_letter_case(self, sender: Address, data: st.DataObject) -> None:
        made = OURS.rewritten(sender, NOW) or sender
        assume(made.domain == OURS.domain and made.local.startswith("SRS0"))
        at = data.draw(st.integers(0, len(made.local) - 1))
        to = data.draw(st.sampled_from("abXY27=+-."))
        changed = made.local[:at] + to + made.local[at + 1 :]
        assume(changed.lower() != made.local.lower())
        self.assertNotIsInstance(OURS.original(Address(changed, "srs.example"), NOW), Address)

    @given(st.text("SRS01=+-abAB27.@ é", max_size=40), st.sampled_from(["SRS0=", "SRS1=", "srs0+", "SRS1-", ""]))
    def test_nonsense_is_no_more_than_forged(self, text: str, prefix: str) -> None:
        self.assertIn(OURS.original(Address(prefix + text, "srs.example"), NOW), (None, Unfit.FORGED))

    def test_one_kind_is_not_made_of_the_other(self) -> None:
        made = there(OURS, Address("x==y=z", "sender.example"))
        _, hashed, rest = made.local.split("=", 2)
        self.assertIs(OURS.original(Address(f"SRS1={hashed}={rest}", "srs.example"), NOW), Unfit.FORGED)

    def test_one_is_good_for_so_many_days(self) -> None:
        # Days are counted in a circle of 1024.
        for made_at in (NOW, 1023 * DAY, 1024 * DAY, 2047 * DAY + 5):
            made = there(OURS, ANN, made_at)
            for later in (-1, 0, 1, 21):
                self.assertEqual(OURS.original(made, made_at + later * DAY), ANN, later)
            for later in (-2, 22, 100, 1000):
                self.assertIs(OURS.original(made, made_at + later * DAY), Unfit.OVER, later)
            self.assertEqual(OURS.signed(made), ANN)

    def test_a_secret_can_be_replaced_while_old_addresses_are_about(self) -> None:
        both = Srs("srs.example", (b"a new one of 20 chars", SECRET))
        self.assertEqual(both.original(there(OURS, ANN), NOW), ANN)
        self.assertIs(OURS.original(there(both, ANN), NOW), Unfit.FORGED)

    def test_the_secret_is_not_shown(self) -> None:
        self.assertNotIn("0123456789", repr(OURS))


class VerpTests(SynchronousTestCase):
    def test_each_recipient_has_a_reverse_path_of_its_own(self) -> None:
        for sender, recipient, made in (
            ("news@example.org", "bob@example.net", "news+bob=example.net@example.org"),
            ("news+may@example.org", "b=ob@example.net", "news+may+b=ob=example.net@example.org"),
            ("news@example.org", "jörg@example.net", "news+jörg=example.net@example.org"),
            ("news@example.org", "bob@[192.0.2.1]", None),
            ("news@example.org", f"{'b' * 47}@example.net", f"news+{'b' * 47}=example.net@example.org"),
            ("news@example.org", f"{'b' * 48}@example.net", None),
            ("news@example.org", f'"{"b" * 44}..b"@example.net', None),
        ):
            self.assertEqual(verp(path(sender), path(recipient)), made and path(made))
