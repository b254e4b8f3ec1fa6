from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

import relay.smtp.outgoing as sending
from relay.mail.envelope import Form
from relay.smtp.outgoing import CHUNK, PIECE, ContentDamaged, chunks, in_one_piece, outgoing

HEAD = b"Received: from a\r\n\tby b; now\r\n"

#: Plain content with everything that matters at a border: dots, line ends, what looks like the terminator.
contents = st.lists(st.sampled_from([b".", b"..", b"\r\n", b"\r\n.\r\n", b"a", b"\xff\x00", b"x" * 300])).map(b"".join)
cuts = st.lists(st.integers(0, 10**6), max_size=8)


def cut(octets: bytes, at: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted({index % (len(octets) + 1) for index in at}), len(octets)]
    return [octets[start:end] for start, end in pairwise(edges)]


def stuffed(plain: bytes) -> bytes:
    """RFC 5321 section 4.5.2, line by line."""
    if plain and not plain.endswith(b"\r\n"):
        plain += b"\r\n"
    lines = plain.split(b"\r\n")[:-1]
    return b"".join((b"." + line if line.startswith(b".") else line) + b"\r\n" for line in lines) + b".\r\n"


def sent(head: bytes, form: Form, blocks: Iterable[bytes]) -> bytes:
    return b"".join(outgoing(head, form, blocks))


class OutgoingTests(SynchronousTestCase):
    @given(contents, cuts)
    def test_plain_content_is_stuffed_and_terminated_with_its_head(self, plain: bytes, at: list[int]) -> None:
        self.assertEqual(sent(HEAD, Form.PLAIN, cut(plain, at)), stuffed(HEAD + plain))

    @given(contents, cuts)
    def test_wire_content_goes_out_as_it_was_kept_behind_its_head(self, plain: bytes, at: list[int]) -> None:
        kept = stuffed(plain)
        self.assertEqual(sent(HEAD, Form.WIRE, cut(kept, at)), HEAD + kept)

    @given(st.sampled_from([b"", HEAD, b".x: y\r\n", b"x:\r\n.y\r\n"]), st.one_of(contents, contents.map(stuffed)))
    @example(b"", b".\r\n")
    @example(b"", b".\r\n.\r\n")
    @example(b"", b"\n.\r\n")
    @example(HEAD, b"a\r\n.\r\n\r\n.\r\n")
    @example(HEAD, b"a\r\n.\r\n.\r\n")
    @example(HEAD, b"a\r\n.\r\nb.c\r\n.d\r\n.\r\n")
    @example(HEAD, b"a.b\r\n..\r\n.c\r\n.\r\n")
    def test_what_is_little_goes_out_in_one_piece_as_it_would_in_several(self, head: bytes, kept: bytes) -> None:
        try:
            expected = sent(head, Form.WIRE, [kept])
        except ContentDamaged:
            self.assertRaises(ContentDamaged, in_one_piece, head, kept)
        else:
            self.assertEqual(in_one_piece(head, kept), expected)

    def test_an_empty_message_is_its_terminator(self) -> None:
        self.assertEqual(sent(b"", Form.PLAIN, []), b".\r\n")
        self.assertEqual(sent(b"", Form.WIRE, [b".\r\n"]), b".\r\n")
        self.assertEqual(sent(HEAD, Form.WIRE, [b".\r\n"]), HEAD + b".\r\n")

    def test_a_head_that_begins_with_a_dot_is_stuffed_too(self) -> None:
        self.assertEqual(sent(b".x: y\r\n", Form.WIRE, [b"a\r\n.\r\n"]), b"..x: y\r\na\r\n.\r\n")
        self.assertEqual(sent(b".x: y\r\n", Form.PLAIN, [b"a\r\n"]), b"..x: y\r\na\r\n.\r\n")

    def test_content_behind_the_terminator_is_never_sent(self) -> None:
        for blocks in (
            [b"a\r\n.\r\nMAIL FROM:<x@y>\r\n"],
            [b".\r\nMAIL FROM:<x@y>\r\n"],
            [b"a\r\n.\r\n", b"MAIL FROM:<x@y>\r\n"],
            [b"a\r\n", b".\r\n", b"b\r\n.\r\n"],
            [b"a\r\n.", b"\r\nb\r\n.\r\n"],
            [b"a\r\n.\r\n.\r\n"],
            [b"a\r\n.\r\n", b".\r\n"],
            [b"x" * PIECE + b"\r\n.\r\n", b"", b"b\r\n.\r\n"],
            [b"x.\r\n" * PIECE + b".\r\n", b"", b"", b"b\r\n.\r\n"],
            [b"x" * PIECE + b"\r", b"\n", b".", b"\r", b"\nb\r\n.\r\n"],
        ):
            gone = bytearray()
            with self.assertRaises(ContentDamaged):
                for piece in outgoing(HEAD, Form.WIRE, blocks):
                    gone += piece
            self.assertNotIn(b"\r\n.\r\n", gone, blocks)

    @given(st.lists(st.sampled_from([b"a", b".", b"\r", b"\n", b"\r\n", b".\r\n", b"\r\n.\r\n"])), cuts)
    def test_wherever_blocks_end_the_terminator_leaves_if_it_is_the_end_and_not_at_all_if_not(
        self, parts: list[bytes], at: list[int]
    ) -> None:
        self.patch(sending, "PIECE", 8)
        kept = b"".join(parts)
        gone = bytearray()
        whole = (b"\r\n" + kept).find(b"\r\n.\r\n") == len(kept) - 3 >= 0
        try:
            for piece in outgoing(HEAD, Form.WIRE, [*cut(kept, at), b""]):
                gone += piece
        except ContentDamaged:
            self.assertFalse(whole)
            self.assertNotIn(b"\r\n.\r\n", gone)
        else:
            self.assertTrue(whole)
            self.assertEqual(gone, HEAD + kept)

    def test_content_that_was_cut_short_never_gets_a_terminator(self) -> None:
        for blocks in ([], [b""], [b"a\r\n"], [b"a\r\n."], [b"a\r\n.\r"], [b"a.\r\n"], [b"a\r\n..\r\n"]):
            with self.assertRaises(ContentDamaged):
                sent(b"", Form.WIRE, blocks)

    @given(contents, st.sampled_from([b"\r", b"\n", b"\n.\n", b"\n.\r\n", b"\r\n\n", b"\r\r\n"]), contents, cuts)
    def test_a_cr_or_lf_alone_never_leaves_with_a_terminator(
        self, before: bytes, alone: bytes, after: bytes, at: list[int]
    ) -> None:
        # "a" on both sides, so that neither neighbour makes a CRLF of it.
        with self.assertRaises(ContentDamaged):
            sent(HEAD, Form.PLAIN, cut(before + b"a" + alone + b"a" + after, at))

    def test_a_cr_alone_at_the_very_end_is_found_too(self) -> None:
        for blocks in ([b"a\r"], [b"a", b"\r"], [b"a\r", b""]):
            with self.assertRaises(ContentDamaged):
                sent(HEAD, Form.PLAIN, blocks)

    def test_a_small_message_is_one_piece(self) -> None:
        for form, kept in ((Form.PLAIN, b"hello"), (Form.WIRE, b"hello\r\n.\r\n")):
            self.assertEqual(len(list(outgoing(HEAD, form, [kept[:2], kept[2:]]))), 1)

    def test_blocks_are_drawn_one_by_one_as_pieces_are_taken(self) -> None:
        drawn = []

        def blocks() -> Iterator[bytes]:
            for number in range(20):
                drawn.append(number)
                yield b"x" * (PIECE - 2) + b"\r\n"

        pieces = outgoing(HEAD, Form.PLAIN, blocks())
        for count in range(1, 10):
            self.assertLessEqual(len(next(pieces)), 2 * PIECE)
            self.assertLessEqual(len(drawn), count + 1)


def unframed(pieces: Iterable[bytes]) -> tuple[bytes, list[int]]:
    """What chunks carry, read as RFC 3030 has it, and how large each was. Only the last one is the last."""
    content, sizes, ended = b"", [], False
    for piece in pieces:
        line, _, octets = piece.partition(b"\r\n")
        verb, size, *last = line.split(b" ")
        assert not ended
        assert (verb, int(size)) == (b"BDAT", len(octets))
        assert last in ([], [b"LAST"])
        ended = bool(last)
        content += octets
        sizes.append(len(octets))
    assert ended
    return content, sizes


class ChunkTests(SynchronousTestCase):
    @given(contents, cuts, st.sampled_from(Form))
    def test_chunks_carry_the_message_as_it_is(self, plain: bytes, at: list[int], form: Form) -> None:
        kept = stuffed(plain) if form is Form.WIRE else plain
        ended = plain if form is Form.PLAIN or not plain or plain.endswith(b"\r\n") else plain + b"\r\n"
        self.assertEqual(unframed(chunks(HEAD, form, cut(kept, at)))[0], HEAD + ended)

    def test_a_small_message_is_one_chunk(self) -> None:
        for form, kept in ((Form.PLAIN, b"hello"), (Form.WIRE, b"hello\r\n.\r\n")):
            self.assertEqual(len(unframed(chunks(HEAD, form, [kept[:2], kept[2:]]))[1]), 1)

    def test_a_chunk_is_large_but_not_without_bound(self) -> None:
        for block in (100, PIECE, CHUNK):
            content, sizes = unframed(chunks(HEAD, Form.PLAIN, [b"x" * block] * (5 * CHUNK // block)))
            self.assertEqual(content, HEAD + b"x" * (len(content) - len(HEAD)))
            self.assertTrue(all(CHUNK <= size <= CHUNK + block + len(HEAD) for size in sizes[:-1]), sizes)

    def test_blocks_are_drawn_as_chunks_are_taken(self) -> None:
        drawn = []

        def blocks() -> Iterator[bytes]:
            for number in range(40):
                drawn.append(number)
                yield b"x" * PIECE

        pieces = chunks(b"", Form.PLAIN, blocks())
        for count in range(1, 9):
            next(pieces)
            self.assertLessEqual(len(drawn), count * CHUNK // PIECE + 1)

    def test_damaged_content_never_has_a_last_chunk(self) -> None:
        for form, kept in (
            (Form.WIRE, b"a\r\n"),
            (Form.WIRE, b"a\r\n.\r\nb\r\n.\r\n"),
            (Form.PLAIN, b"a\n.\nb\r\n"),
            (Form.PLAIN, b"a\r"),
        ):
            for at in ([], range(20)):
                gone = b""
                with self.assertRaises(ContentDamaged):
                    for piece in chunks(HEAD, form, cut(kept, at)):
                        gone += piece
                self.assertNotIn(b"LAST", gone)

    def test_of_binary_content_a_line_end_alone_is_a_part(self) -> None:
        self.assertEqual(unframed(chunks(b"", Form.PLAIN, [b"a\n.\r", b"\0b"], binary=True))[0], b"a\n.\r\0b")
