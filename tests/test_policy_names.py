from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address, AddressError
from relay.policy.names import Mailboxes, about, fold, without_detail
from relay.testing.strategies import addresses


class NamesTests(SynchronousTestCase):
    def test_letter_case_and_the_way_a_character_is_written_mean_nothing(self) -> None:
        self.assertEqual(fold("Jon.DOE"), "jon.doe")
        self.assertEqual(fold("JO\N{COMBINING DIAERESIS}RG"), fold("jörg"))

    @given(st.text())
    def test_what_is_folded_stays_as_it_is(self, local: str) -> None:
        self.assertEqual(fold(fold(local)), fold(local))

    def test_an_address_is_found_however_its_letters_are_written(self) -> None:
        mailboxes = Mailboxes(["Jon@Example.ORG", "jo\N{COMBINING DIAERESIS}rg@bücher.example"])
        for text in "jon@example.org", "JON@EXAMPLE.ORG", "JÖRG@xn--bcher-kva.example", '"Jon"@example.org':
            self.assertIn(Address.parse(text), mailboxes)
        for text in "ann@example.org", "jon@example.com", "jon@mail.example.org", "jon+x@example.org":
            self.assertNotIn(Address.parse(text), mailboxes)

    def test_a_domain_is_everybody_in_it_and_nobody_below(self) -> None:
        mailboxes = Mailboxes(["Shop.Example.org", "[192.0.2.1]"])
        for text in "jon@shop.example.org", "ANN@SHOP.example.ORG", "jon@[192.0.2.1]":
            self.assertIn(Address.parse(text), mailboxes)
        for text in "jon@example.org", "jon@sub.shop.example.org", "shop.example.org@example.com":
            self.assertNotIn(Address.parse(text), mailboxes)

    def test_the_null_reverse_path_is_in_it_only_if_it_is_named(self) -> None:
        self.assertIn(None, Mailboxes(["<>", "example.org"]))
        self.assertNotIn(None, Mailboxes(["example.org"]))

    def test_what_is_no_address_is_said_to_be_none(self) -> None:
        for text in "", "jon@", "a b@example.org", "jon@exa mple.org", "example..org":
            self.assertRaises(AddressError, Mailboxes, [text])

    @given(addresses())
    def test_whoever_is_named_is_found(self, address: Address) -> None:
        for text in str(address), str(Address(address.local.upper(), address.domain)), address.domain:
            self.assertIn(address, Mailboxes([text]))
        self.assertNotIn(address, Mailboxes([]))

    def test_a_detail_is_what_follows_the_first_separator_that_is_not_at_the_beginning(self) -> None:
        cases = {("jon+a+b", "+"): "jon", ("+jon", "+"): "+jon", ("jon", "+"): "jon", ("jon+a", ""): "jon+a"}
        for (local, separator), plain in cases.items():
            self.assertEqual(without_detail(local, separator), plain)

    def test_a_reply_about_an_address_shows_nothing_that_a_reply_cannot(self) -> None:
        self.assertEqual(str(about(Address("jörg", "x.example"), 550, "5.1.1", "no")), "550 5.1.1 <j?rg@x.example>: no")
