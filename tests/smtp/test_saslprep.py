from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from scramp.utils import ScramException, saslprep
from twisted.trial.unittest import SynchronousTestCase

from relay.smtp.saslprep import Unpreparable, prepare


class SaslprepTests(SynchronousTestCase):
    def test_the_examples_of_the_rfc(self) -> None:
        """RFC 4013 section 3."""
        for given_, prepared in (
            ("I\u00adX", "IX"),
            ("user", "user"),
            ("USER", "USER"),
            ("\u00aa", "a"),
            ("\u2168", "IX"),
        ):
            self.assertEqual(prepare(given_), prepared)
        for prohibited in "\u0007", "\u0627\u0031":
            self.assertRaises(Unpreparable, prepare, prohibited)

    def test_characters_that_unicode_had_not_assigned_may_be_asked_for_and_not_stored(self) -> None:
        self.assertEqual(prepare("\U0001f511"), "\U0001f511")
        self.assertRaises(Unpreparable, prepare, "\U0001f511", stored=True)

    def test_what_is_not_allowed_is_not_repeated(self) -> None:
        with self.assertRaises(Unpreparable) as caught:
            prepare("hunter2\u0007")
        self.assertNotIn("hunter2", repr(caught.exception))

    def test_text_from_right_to_left_ends_as_it_begins(self) -> None:
        self.assertEqual(prepare("\u0627\u0031\u0628"), "\u0627\u0031\u0628")
        for mixed in "\u0627a\u0628", "a\u0628", "\u0628a":
            self.assertRaises(Unpreparable, prepare, mixed)

    @given(st.text() | st.text(st.characters(max_codepoint=0x7FF), max_size=8))
    def test_it_says_what_another_implementation_says(self, text: str) -> None:
        try:
            expected: str | None = saslprep(text)
        except ScramException:
            expected = None
        try:
            found: str | None = prepare(text, stored=True)
        except Unpreparable:
            found = None
        self.assertEqual(found, expected)
