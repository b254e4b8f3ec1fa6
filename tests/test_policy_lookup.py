from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import AddressError, parse_address
from relay.policy.lookup import check_key, find_address, is_plain
from relay.testing.tables import MemoryTable


class KeysTests(SynchronousTestCase):
    def test_a_key_that_nobody_would_find_is_told(self) -> None:
        for key in "jon@example.org.", "jon@EXAMPLE.org", "Jon@example.org", "jon@", "@example.org", "a b", "", ".":
            self.assertRaises(ValueError, check_key, key)
        for key in "<>", "jon@example.org", "example.org", ".example.org", "[192.0.2.1]", '"a b"@example.org':
            check_key(key)

    @settings(max_examples=500)
    @given(
        st.from_regex(r"\A[a-z0-9._+-]{1,70}@[a-z0-9.-]{1,200}\Z")
        | st.from_regex(r"\A[a-z0-9.]{1,9}@[a-z0-9.-]{1,9}\Z")
    )
    @example("a@" + "b" * 63 + ".example")
    @example("a@" + "b" * 64 + ".example")
    @example("a" * 64 + "@b.example")
    @example("a" * 65 + "@b.example")
    @example("a@xn--a.example")
    @example("a@1.2.3.4")
    @example("a@" + "b." * 90 + "example")
    def test_what_is_taken_for_plain_is_an_address_as_it_is_looked_up(self, text: str) -> None:
        if is_plain(text):
            self.assertEqual(str(parse_address(text)), text)

    @given(st.sampled_from(["Jon@Example.ORG", "a@b.c.d", "É@x.example", "a@[192.0.2.1]", "a@bücher.example", "a@x"]))
    def test_each_key_that_an_address_is_found_by_passes(self, text: str) -> None:
        try:
            address = parse_address(text)
        except AddressError:
            return
        asked: list[str] = []

        class Nosy(MemoryTable):
            def get(self, key: str) -> str | None:
                asked.append(key)
                return None

        self.assertIsNone(find_address(Nosy(), address))
        self.assertIn(address.domain, asked)
        for key in asked:
            check_key(key)
