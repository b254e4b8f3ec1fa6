"""Encoded words, as people read them, and in the time that honest ones take."""

from __future__ import annotations

import codecs
import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail import encoded_words
from relay.mail.encoded_words import decoded
from relay.mail.fields import MOST_TEXT, Field

#: What a header section may have at most.
SECTION = 256 * 1024

pieces = st.sampled_from(
    [
        b"=?",
        b"?=",
        b"?",
        b"utf-8",
        b"iso-2022-jp",
        b"q",
        b"b",
        b"B",
        b"*de",
        b"=C3",
        b"=BC",
        b"w7w",
        b"=",
        b" ",
        b"\xff",
    ]
)


def seconds(body: bytes) -> float:
    """What decoding takes, with whatever else the machine does left out as far as it can be."""
    taken = []
    for _ in range(5):
        began = time.process_time()
        decoded(body)
        taken.append(time.process_time() - began)
    return min(taken)


class EncodedWordsTests(SynchronousTestCase):
    def test_words_are_shown_as_a_reader_sees_them(self) -> None:
        for body, text in [
            (b"plain", "plain"),
            (b"=?utf-8?q?J=C3=B6rg?=", "Jörg"),
            (b"=?ISO-8859-1?Q?a=E9_b?=", "aé b"),
            (b"=?utf-8?B?w7w=?=", "ü"),
            (b"=?utf-8?b?w7w?=", "ü"),
            (b"=?iso-2022-jp?b?GyRCJUYlOSVIGyhC?=", "テスト"),
            (b"=?utf-8*de?q?a?=", "a"),
            (b"=?utf-8?q?with blanks?=", "with blanks"),
            (b"=?utf-8?q?You?= have won =?utf-8?q?=E2=82=AC?= 1", "You have won € 1"),
            (b"(=?utf-8?q?a?=)", "(a)"),
            ("ümlaut =?utf-8?q?a?=".encode(), "ümlaut a"),
        ]:
            self.assertEqual(decoded(body), text)

    def test_blanks_between_words_are_no_part_of_the_text(self) -> None:
        self.assertEqual(decoded(b" =?utf-8?q?a?= \t =?iso-8859-1?q?b?= c =?utf-8?q?d?= "), " ab c d ")

    def test_a_character_may_begin_in_one_word_and_end_in_the_next(self) -> None:
        self.assertEqual(decoded(b"=?utf-8?q?=C3?= =?UTF-8?b?vA==?="), "ü")
        self.assertEqual(decoded(b"=?utf-8?q?=C3?= x =?utf-8?q?=BC?="), "\ufffd x \ufffd")

    def test_what_nobody_can_read_stays_as_it_is(self) -> None:
        for body in ("=?x-unknown?q?a?=", "=?utf-8?x?a?=", "=?utf-8?b?a?=", "=?utf-8?q?a", "=?punycode?q?a?=", "=?=?="):
            self.assertEqual(decoded(body.encode()), body)
        self.assertEqual(decoded(b"=?x?q?a?= =?utf-8?q?b?="), "=?x?q?a?= b")

    def test_a_charset_is_looked_up_nowhere_but_in_a_table(self) -> None:
        seen: list[str] = []
        codecs.register(search := lambda name: seen.append(name))
        self.addCleanup(codecs.unregister, search)
        decoded(b"=?x-of-a-stranger?q?a?= =?rot13?q?a?=")
        self.assertEqual(seen, [])
        for codec in encoded_words._CODECS.values():
            codecs.lookup(codec)

    @given(st.lists(pieces | st.binary(max_size=4)).map(b"".join))
    def test_whatever_stands_there_becomes_a_text_that_can_be_written(self, body: bytes) -> None:
        decoded(body).encode()

    def test_hostile_words_take_no_longer_than_honest_ones(self) -> None:
        for piece in (b"=?a?q?x ", b"=?", b"=?utf-8?b?", b"=?a*", b"=?utf-8?q?x?= ", b"=?utf-8?q?", b"? "):
            self.assertLess(seconds(b"=?" + piece * (SECTION // len(piece))), 0.25, piece)

    def test_of_a_hostile_field_the_beginning_is_decoded_and_once(self) -> None:
        field = Field(b"Subject: " + b"=?a?q?x " * (SECTION // 8) + b"\r\n")
        began = time.process_time()
        for _ in range(100):
            self.assertEqual(len(field.text), MOST_TEXT)
        self.assertLess(time.process_time() - began, 0.05)
        self.assertIs(field.text, field.text)
