"""Addresses: what is one, what is none, and which two are the same."""

from __future__ import annotations

import string
from collections.abc import Callable

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address, AddressError, _parsed_by_parts, canonical_domain, parse_address

CANONICAL = [
    ("jon@frogbog", Address("jon", "frogbog"), "jon@frogbog"),
    ("Jon@Frogbog.EXAMPLE", Address("Jon", "frogbog.example"), "Jon@frogbog.example"),
    ('"jon"@frogbog', Address("jon", "frogbog"), "jon@frogbog"),
    ('"jon the frog"@x', Address("jon the frog", "x"), '"jon the frog"@x'),
    (r'"a\"b\\c"@x', Address('a"b\\c', "x"), r'"a\"b\\c"@x'),
    ('"a@b"@x', Address("a@b", "x"), '"a@b"@x'),
    ('""@x', Address("", "x"), '""@x'),
    ("jon%elsewhere@here", Address("jon%elsewhere", "here"), "jon%elsewhere@here"),
    ("here!jon@x", Address("here!jon", "x"), "here!jon@x"),
    ("jon@[192.0.2.1]", Address("jon", "[192.0.2.1]"), "jon@[192.0.2.1]"),
    ("jon@[ipv6:2001:DB8::0:1]", Address("jon", "[IPv6:2001:db8::1]"), "jon@[IPv6:2001:db8::1]"),
    ("jon@Bücher.example", Address("jon", "xn--bcher-kva.example"), "jon@xn--bcher-kva.example"),
    ("jön@x", Address("jön", "x"), "jön@x"),
    ("jon@under_score.example", Address("jon", "under_score.example"), "jon@under_score.example"),
    ("a" * 64 + "@x", Address("a" * 64, "x"), "a" * 64 + "@x"),
]

NONE = [
    ("jon", "there is no @ and no domain"),
    ("", "there is no @ and no domain"),
    ("@x", "the local part is empty"),
    ("jon@", "the domain is empty"),
    (".jon@x", "the local part is malformed"),
    ("jon.@x", "the local part is malformed"),
    ("jo..n@x", "the local part is malformed"),
    ("jo n@x", "the local part is malformed"),
    ("jon@x@y", "there is more than one @"),
    ("<jon@x>", "the local part is malformed"),
    ("@a,@b:jon@x", "the local part is empty"),
    ('"jon@x', "the quoted local part is not closed"),
    ('"jon"x@y', "there must be an @ behind the quoted local part"),
    ('"a\tb"@x', "the local part has control characters"),
    ('"a\\', "a backslash is followed by nothing that can be quoted"),
    ("jon@x..y", "the domain is malformed"),
    ("jon@x.", "the domain is malformed"),
    ("jon@-x", "the domain is malformed"),
    ("jon@x y", "the domain has characters that no domain has"),
    ("jon@x/y", "the domain has characters that no domain has"),
    ("jon@[192.0.2]", "the address literal is malformed"),
    ("jon@[192.0.2.1", "the address literal is not closed"),
    ("jon@[IPv6:fe80::1%eth0]", "the address literal is malformed"),
    ("a" * 65 + "@x", "the local part is longer than 64 octets"),
    ("ö" * 33 + "@x", "the local part is longer than 64 octets"),
    ("a@" + "b" * 64, "the domain is malformed"),
    ("a@" + ".".join(["b" * 60] * 5), "the address is too long"),
    ("a" * 60 + "@" + ".".join("ö" * 25), "the address is too long"),
    ("jon@\u200dx", "the domain is not a valid internationalized name"),
    ("jo\u202en@x", "the local part is malformed"),
    ("jo\ud800n@x", "the local part is malformed"),
]

ATOMS = st.text(string.ascii_letters + string.digits + "!#$%&'*+/=?^_`{|}~-", min_size=1, max_size=10)
LOCALS = st.one_of(
    st.lists(ATOMS, min_size=1, max_size=4).map(".".join),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
)
DOMAINS = st.lists(st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True), min_size=1, max_size=4).map(
    ".".join
)
#: Near what a usual address is: in any letter case, and about as long as its parts may be.
NEARLY_USUAL = st.builds(
    "{}@{}".format,
    LOCALS | st.text("aZ.", min_size=62, max_size=66) | st.text("aZ._-@ \n\u00f6", max_size=6),
    st.lists(
        st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True) | st.text("bY-", min_size=60, max_size=65), max_size=5
    ).map(".".join)
    | st.text("bY0._-@ \n\u00fc[", max_size=6),
)


def told(read: Callable[[str], Address], text: str) -> tuple[Address | str, ...]:
    try:
        address = read(text)
    except AddressError as problem:
        return (str(problem),)
    return address, address.text, address.ascii


class AddressTests(SynchronousTestCase):
    def test_an_address_has_one_canonical_form(self) -> None:
        for text, address, written in CANONICAL:
            with self.subTest(text):
                self.assertEqual(parse_address(text), address)
                self.assertEqual(str(address), written)

    def test_what_is_no_address_is_told_why(self) -> None:
        for text, why in NONE:
            with self.subTest(text):
                self.assertEqual(str(self.assertRaises(AddressError, parse_address, text)), why)

    def test_only_a_local_part_can_need_smtputf8(self) -> None:
        self.assertTrue(parse_address("jon@bücher.example").ascii)
        self.assertFalse(parse_address("jön@frogbog").ascii)

    @given(LOCALS, DOMAINS)
    def test_what_is_written_is_read_as_the_same_address(self, local: str, domain: str) -> None:
        try:
            address = Address(local, canonical_domain(domain))
        except AddressError:  # by chance `xn--` and no A-label
            return
        if len(str(address).partition("@")[0]) > 64:
            return
        try:
            self.assertEqual(parse_address(str(address)), address)
        except AddressError:
            self.assertGreater(len(str(address).rpartition("@")[0]), 64)

    @given(st.text(max_size=300))
    def test_no_text_does_more_harm_than_not_to_be_an_address(self, text: str) -> None:
        try:
            address = parse_address(text)
        except AddressError:
            return
        self.assertNotIn("\r", str(address))
        self.assertNotIn("\n", str(address))
        self.assertEqual(parse_address(str(address)), address)

    @given(NEARLY_USUAL)
    def test_a_usual_address_is_read_at_once_and_as_any_other(self, text: str) -> None:
        self.assertEqual(told(parse_address, text), told(_parsed_by_parts, text))

    def test_it_is_told_as_it_is_now_and_not_as_what_it_was_made_of(self) -> None:
        changed = evolve(parse_address("jon@frogbog"), local="jön the frog")
        self.assertEqual((changed.text, changed.ascii), ('"jön the frog"@frogbog', False))
