"""Content behind DATA: where it ends, what is wrong with it, and how large it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.reply import Reply
from relay.smtp import answers
from relay.smtp.intake import Chunks, Intake, size_of_all
from relay.smtp.octets import plain
from tests.smtp.test_octets import CUTS, MESSAGES, as_rfc_5321_says, cut


def take(pieces: list[bytes], *, lf_ended: bool = False, size_limit: int = 10**6, line_limit: int = 1000):  # type: ignore[no-untyped-def]
    """Feed the pieces as a session would; returns the intake, what was taken, and what stands behind the end."""
    intake = Intake(lf_ended=lf_ended, size_limit=size_limit, line_limit=line_limit)
    taken, input = b"", b""
    for piece in pieces:
        input += piece
        while not intake.ended:
            got = intake.take(input, 0)
            if not got.used:
                break
            taken += got.octets
            input = input[got.used :]
    return intake, taken, input


def verdict(octets: bytes, **options: int) -> Reply | None:
    fault: Reply | None = take([octets], **options)[0].fault
    return fault


def chunked(pieces: list[bytes], line_limit: int) -> Reply | None:
    """What is wrong with content that comes in one chunk."""
    chunks = Chunks(size_limit=10**6, line_limit=line_limit)
    chunks.begin(sum(map(len, pieces)), True, None)
    for piece in pieces:
        chunks.take(piece, 0)
    chunks.end()
    return chunks.fault


class IntakeTests(SynchronousTestCase):
    @given(MESSAGES, CUTS, st.integers(2, 2000))
    def test_content_is_taken_whole_wherever_the_network_cuts(
        self, message: bytes, cuts: list[int], line_limit: int
    ) -> None:
        sent = as_rfc_5321_says(message)
        intake, taken, rest = take(cut(sent + b"QUIT\r\n", cuts), line_limit=line_limit)
        self.assertTrue(intake.ended)
        self.assertEqual((taken, rest), (sent, b"QUIT\r\n"))
        self.assertEqual(intake.size, len(b"".join(plain([sent]))))
        bare = message.replace(b"\r\n", b"").translate(None, b"a.\x00")
        if bare:
            self.assertIn(intake.fault, {answers.BARE_NEWLINE, answers.CONTENT_LINE_TOO_LONG})
        elif line_limit > len(sent):
            self.assertIsNone(intake.fault)

    @given(MESSAGES, st.sampled_from([b"", b".", b"\r\n.\r\n", b"QUIT\r\n"]), st.integers(0, 30), st.integers(1, 30))
    def test_content_in_one_piece_is_seen_at_once_to_be_what_it_is(
        self, message: bytes, behind: bytes, size_limit: int, line_limit: int
    ) -> None:
        sent = as_rfc_5321_says(message)
        for octets in (sent + behind, sent[:-1], message + b"\r\n.\r\n" + behind, message):
            size = size_of_all(octets, size_limit, line_limit)
            if size is not None:
                intake, taken, rest = take([octets], size_limit=size_limit, line_limit=line_limit)
                self.assertEqual((taken, rest, intake.ended, intake.fault), (octets, b"", True, None))
                self.assertEqual(intake.size, size)

    def test_content_in_one_piece_without_faults_and_dots_is_what_is_seen_at_once(self) -> None:
        for octets, size in (
            (b"x\r\n.\r\n", 3),
            (b"\r\n.\r\n", 2),
            (b"a.b.\r\nc\r\n.\r\n", 9),
            (b"x" * 20 + b"\r\n.\r\n", 22),
            (b"x" * 21 + b"\r\n.\r\n", None),
            (b".\r\n", None),
            (b"ab\r\n", None),
            (b"", None),
            (b"..\r\n.\r\n", None),
            (b"x\r\n..\r\n.\r\n", None),
            (b"x\r\n..\r\na.b\r\n.\r\n", None),
            (b"a.\r\n.b\r\nc\r\n.\r\n", None),
            (b"a.b.\r\n.\n\r\n.\r\n", None),
            (b"x\r\n.\r\n.\r\n", None),
            (b"x\r\n.\r\n\r\n.\r\n", None),
            (b"x\n\r\n.\r\n", None),
            (b"x\r\r\n.\r\n", None),
            (b"x\r\n.\n", None),
        ):
            self.assertEqual(size_of_all(octets, 22, 20), size, octets)

    def test_content_ends_where_it_ends_first_whatever_stands_behind_it(self) -> None:
        for behind in (b"", b"QUIT\r\n", b".\r\n", b"\r\n.\r\n", b"MAIL FROM:<a@b>\r\n.\r\n"):
            intake, taken, rest = take([b"..a\r\n.b\r\n.\r\n" + behind])
            self.assertEqual((taken, rest, intake.size), (b"..a\r\n.b\r\n.\r\n", behind, 7))
            self.assertIsNone(intake.fault)

    def test_nothing_but_crlf_dot_crlf_ends_content(self) -> None:
        for ending in (
            b"\n.\n",
            b"\r.\r",
            b"\r\n.\n",
            b"\n.\r\n",
            b"\r\n.\r",
            b"\r.\r\n",
            b"\r\n\x00.\r\n",
            b"\r\r\n.\n",
        ):
            with self.subTest(ending):
                intake, taken, _ = take([b"one" + ending + b"two"])
                self.assertFalse(intake.ended)
                intake, taken, rest = take([b"one" + ending + b"two\r\n.\r\nNOOP\r\n"])
                self.assertEqual(rest, b"NOOP\r\n")
                self.assertEqual(taken, b"one" + ending + b"two\r\n.\r\n")
                if ending != b"\r\n\x00.\r\n":
                    self.assertEqual(intake.fault, answers.BARE_NEWLINE)

    @given(st.lists(st.sampled_from([b"a", b".", b"\n", b"\n."]), max_size=10).map(b"".join), CUTS)
    def test_a_person_at_netcat_ends_lines_with_lf(self, message: bytes, cuts: list[int]) -> None:
        sent = as_rfc_5321_says(message.replace(b"\n", b"\r\n"))
        intake, taken, rest = take(cut(sent.replace(b"\r\n", b"\n") + b"quit\n", cuts), lf_ended=True)
        self.assertEqual((taken, rest, intake.fault), (sent, b"quit\n", None))
        self.assertEqual(intake.size, len(b"".join(plain([sent]))))

    def test_a_cr_from_somebody_at_netcat_is_refused(self) -> None:
        self.assertEqual(verdict(b"one\r\ntwo\n.\n", lf_ended=True), answers.BARE_NEWLINE)

    def test_a_message_at_the_limit_is_taken_and_one_over_it_is_not(self) -> None:
        self.assertIsNone(verdict(b"x" * 98 + b"\r\n.\r\n", size_limit=100))
        self.assertEqual(verdict(b"x" * 99 + b"\r\n.\r\n", size_limit=100), answers.MESSAGE_TOO_LARGE)

    def test_stuffed_dots_do_not_count(self) -> None:
        self.assertIsNone(verdict(b"..\r\n" * 10 + b".\r\n", size_limit=30))
        self.assertEqual(verdict(b"..\r\n" * 10 + b".\r\n", size_limit=29), answers.MESSAGE_TOO_LARGE)

    def test_a_line_at_the_limit_is_taken_and_one_over_it_is_not(self) -> None:
        for before in (b"", b"short\r\n", b"x" * 1000 + b"\r\n"):
            with self.subTest(before[:10]):
                self.assertIsNone(verdict(before + b"x" * 1000 + b"\r\n.\r\n"))
                self.assertEqual(verdict(before + b"x" * 1001 + b"\r\n.\r\n"), answers.CONTENT_LINE_TOO_LONG)

    @given(st.lists(st.integers(0, 12), max_size=12), CUTS, st.integers(1, 12), st.booleans())
    def test_one_line_over_the_limit_is_one_too_many_wherever_it_stands(
        self, lengths: list[int], cuts: list[int], limit: int, by_chunk: bool
    ) -> None:
        content = b"".join(b"x" * length + b"\r\n" for length in lengths)
        pieces = cut(content if by_chunk else content + b".\r\n", cuts)
        fault = chunked(pieces, limit) if by_chunk else take(pieces, line_limit=limit)[0].fault
        # The terminator is a line, too, and no longer than any limit.
        self.assertEqual(fault, answers.CONTENT_LINE_TOO_LONG if max(lengths, default=0) > limit else None)

    def test_content_that_is_twice_too_large_is_hopeless(self) -> None:
        intake, _, _ = take([b"x\r\n" * 70], size_limit=100)
        self.assertTrue(intake.hopeless)
        intake, _, _ = take([b"x\r\n" * 60], size_limit=100)
        self.assertFalse(intake.hopeless)
