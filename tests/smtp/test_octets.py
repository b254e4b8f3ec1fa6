"""Content's two forms: what DATA carries, and the message."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.smtp.octets import is_lines, plain, stuffed, wire

#: Where stuffing goes wrong: line ends, dots, and something else, in any order.
MESSAGES = st.lists(st.sampled_from([b"\r\n", b".", b"a", b"\r\n.", b"..", b"\r", b"\n", b"\x00"]), max_size=12).map(
    b"".join
)


def cut(octets: bytes, lengths: list[int]) -> list[bytes]:
    pieces = []
    for length in lengths:
        pieces.append(octets[:length])
        octets = octets[length:]
    return [*pieces, octets]


CUTS = st.lists(st.integers(0, 4), max_size=12)


def as_rfc_5321_says(message: bytes) -> bytes:
    """RFC 5321 section 4.5.2, line by line."""
    if message and not message.endswith(b"\r\n"):
        message += b"\r\n"
    lines = message.split(b"\r\n")[:-1]
    return b"".join((b"." + line if line.startswith(b".") else line) + b"\r\n" for line in lines) + b".\r\n"


class OctetsTests(SynchronousTestCase):
    @given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"a", b"\xe9", b"\x00"]), max_size=8).map(b"".join))
    def test_a_newline_alone_is_no_end_of_a_line(self, octets: bytes) -> None:
        rest = octets.replace(b"\r\n", b"")
        self.assertEqual(is_lines(octets), b"\r" not in rest and b"\n" not in rest)

    @given(MESSAGES, CUTS)
    def test_stuffing_is_what_the_rfc_says_wherever_the_blocks_are_cut(self, message: bytes, cuts: list[int]) -> None:
        self.assertEqual(b"".join(wire(cut(message, cuts))), as_rfc_5321_says(message))

    @given(MESSAGES, CUTS)
    def test_unstuffing_gives_the_message_back(self, message: bytes, cuts: list[int]) -> None:
        complete = message if not message or message.endswith(b"\r\n") else message + b"\r\n"
        self.assertEqual(b"".join(plain(cut(as_rfc_5321_says(message), cuts))), complete)

    @given(MESSAGES, st.integers(0, 12))
    def test_the_beginning_of_what_is_not_stuffed_is_plain(self, message: bytes, length: int) -> None:
        sent = b"".join(wire([message]))[:length]
        if not stuffed(sent):
            self.assertTrue((message + b"\r\n").startswith(sent))

    @given(MESSAGES, CUTS)
    def test_what_is_sent_ends_only_at_its_end(self, message: bytes, cuts: list[int]) -> None:
        sent = b"\r\n" + b"".join(wire(cut(message, cuts)))
        self.assertEqual(sent.find(b"\r\n.\r\n"), len(sent) - 5)

    def test_an_empty_message_is_a_terminator(self) -> None:
        self.assertEqual(b"".join(wire([])), b".\r\n")
        self.assertEqual(b"".join(plain([b".\r\n"])), b"")
