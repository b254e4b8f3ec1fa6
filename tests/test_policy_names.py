from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address
from relay.policy.names import about, fold, without_detail


class NamesTests(SynchronousTestCase):
    def test_letter_case_and_the_way_a_character_is_written_mean_nothing(self) -> None:
        self.assertEqual(fold("Jon.DOE"), "jon.doe")
        self.assertEqual(fold("JO\N{COMBINING DIAERESIS}RG"), fold("jörg"))

    @given(st.text())
    def test_what_is_folded_stays_as_it_is(self, local: str) -> None:
        self.assertEqual(fold(fold(local)), fold(local))

    def test_a_detail_is_what_follows_the_first_separator_that_is_not_at_the_beginning(self) -> None:
        cases = {("jon+a+b", "+"): "jon", ("+jon", "+"): "+jon", ("jon", "+"): "jon", ("jon+a", ""): "jon+a"}
        for (local, separator), plain in cases.items():
            self.assertEqual(without_detail(local, separator), plain)

    def test_a_reply_about_an_address_shows_nothing_that_a_reply_cannot(self) -> None:
        self.assertEqual(str(about(Address("jörg", "x.example"), 550, "5.1.1", "no")), "550 5.1.1 <j?rg@x.example>: no")
