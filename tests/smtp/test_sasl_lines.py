from __future__ import annotations

from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.smtp.sasl_lines import (
    LONGEST,
    Cancelled,
    Malformed,
    decode,
    decode_challenge,
    decode_initial,
    encode,
    encode_initial,
)


class LineTests(SynchronousTestCase):
    def test_an_empty_initial_response_is_written_as_an_equals_sign(self) -> None:
        self.assertEqual(decode_initial(b"="), b"")
        self.assertEqual(encode_initial(b""), b"=")
        self.assertEqual(decode_initial(b""), Malformed())

    def test_an_empty_response_is_an_empty_line_and_an_equals_sign_is_borne(self) -> None:
        self.assertEqual(decode(b""), b"")
        self.assertEqual(encode(b""), b"")
        self.assertEqual(decode(b"="), b"")
        self.assertEqual(decode(b"=="), Malformed())

    def test_a_star_cancels_and_is_no_initial_response(self) -> None:
        self.assertEqual(decode(b"*"), Cancelled())
        self.assertEqual(decode_initial(b"*"), Malformed())
        self.assertEqual(decode(b"**"), Malformed())

    def test_base64_is_read_strictly(self) -> None:
        for line in (
            b"YW4",  # padding left out
            b"YW4==",  # in excess
            b"YW5=",  # bits that mean nothing are set
            b"YW5u=",
            b"YW4=YW4=",  # something behind the padding
            b" YW5u",
            b"YW5u ",
            b"YW\n5u",
            b"YW-_",  # the other alphabet
            b"Y",
            b"====",
            b"YW5u\xc3\xa4",
            b"YW5u\0",
        ):
            self.assertEqual(decode(line), Malformed(), line)
            self.assertEqual(decode_initial(line), Malformed(), line)

    def test_a_line_has_at_most_12288_octets_with_its_end(self) -> None:
        fits = b64encode(bytes((LONGEST - 2) // 4 * 3))
        self.assertEqual(len(fits) + 2, LONGEST - 2)
        self.assertEqual(decode(fits), bytes(len(fits) // 4 * 3))
        self.assertEqual(decode(fits + b"AAAA"), Malformed(too_long=True))
        self.assertEqual(decode_initial(fits + b"AAAA"), Malformed(too_long=True))

    @given(st.binary())
    def test_what_is_encoded_is_decoded(self, octets: bytes) -> None:
        self.assertEqual(decode(encode(octets)), octets)
        self.assertEqual(decode_initial(encode_initial(octets)), octets)
        self.assertEqual(decode_challenge(encode(octets).decode()), octets)

    @given(st.binary() | st.text("AB=*+/ ").map(str.encode), st.text())
    def test_no_line_raises_and_only_one_way_to_write_it_is_read(self, line: bytes, text: str) -> None:
        decode_challenge(text)
        for octets in decode(line), decode_initial(line):
            if isinstance(octets, bytes):
                self.assertIn(line, (b64encode(octets), b"="))
