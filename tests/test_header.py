from __future__ import annotations

import itertools
import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.header import count_received, field_body, section, section_end

MESSAGE = b"Received: from a\r\n\tby b\r\nReceived : from c\r\nSubject: hello\r\n\r\nReceived: not\r\n\r\nmore\r\n"


class SectionTests(SynchronousTestCase):
    def test_the_section_ends_behind_the_first_empty_line(self) -> None:
        end = section_end(MESSAGE)
        self.assertEqual(MESSAGE[end:], b"Received: not\r\n\r\nmore\r\n")

    def test_a_message_may_begin_with_its_empty_line(self) -> None:
        self.assertEqual(section_end(b"\r\nSubject: in the body\r\n\r\n"), 2)

    def test_as_long_as_no_empty_line_has_come_the_section_is_not_complete(self) -> None:
        for so_far in b"", b"\r", b"Subject: a\r\n", b"Subject: a\r\n\r":
            self.assertIsNone(section_end(so_far))

    def test_bare_line_feeds_end_nothing(self) -> None:
        self.assertIsNone(section_end(b"Subject: a\n\nbody\n"))

    @given(st.integers(0, len(MESSAGE)))
    def test_who_looks_again_with_more_octets_finds_the_same_end(self, cut: int) -> None:
        seen = section_end(MESSAGE[:cut])
        again = section_end(MESSAGE, cut) if seen is None else seen
        self.assertEqual(again, section_end(MESSAGE))

    @given(st.lists(st.integers(0, len(MESSAGE)), max_size=6))
    def test_however_content_is_cut_into_blocks_its_section_is_the_same(self, cuts: list[int]) -> None:
        edges = [0, *sorted(cuts), len(MESSAGE)]
        blocks = [MESSAGE[a:b] for a, b in itertools.pairwise(edges)]
        self.assertEqual(section(blocks), MESSAGE[: (section_end(MESSAGE) or 0) - 2])

    def test_content_without_an_empty_line_is_all_header(self) -> None:
        self.assertEqual(section([b"Subject: a\r\n", b"To: b\r\n"]), b"Subject: a\r\nTo: b\r\n")

    def test_a_section_over_the_cap_is_cut_at_a_whole_line_and_no_more_is_read(self) -> None:
        read: list[int] = []

        def blocks():  # type: ignore[no-untyped-def]
            for at in range(1000):
                read.append(at)
                yield b"X-Field: 0123456789\r\n"

        taken = section(blocks(), most=50)
        self.assertEqual(taken, b"X-Field: 0123456789\r\n" * 2)
        self.assertEqual(len(read), 3)

    def test_a_first_line_over_the_cap_leaves_nothing(self) -> None:
        self.assertEqual(section([b"x" * 100]), b"x" * 100)
        self.assertEqual(section([b"x" * 100], most=50), b"")


class ReceivedTests(SynchronousTestCase):
    def test_fields_are_counted_whatever_their_letter_case_and_old_fashioned_blanks(self) -> None:
        self.assertEqual(count_received(b"Received: a\r\nRECEIVED:b\r\nreceived \t: c\r\n"), 3)

    def test_neither_other_fields_nor_continuations_count(self) -> None:
        self.assertEqual(count_received(b"X-Received: a\r\n received: b\r\nSubject: Received: c\r\n"), 0)

    def test_a_megabyte_of_nonsense_takes_no_time(self) -> None:
        began = time.process_time()
        count_received(b"received" + b" " * 500_000 + b"\r\n" + b"received \t" * 50_000)
        count_received(b"\r\n" * 500_000)
        self.assertLess(time.process_time() - began, 0.5)


class FieldTests(SynchronousTestCase):
    def test_a_folded_field_is_read_whole(self) -> None:
        self.assertEqual(field_body(b"A: 1\r\nSubject :\r\n one\r\n\ttwo\r\nB: 2\r\n", b"subject"), b"one\ttwo")

    def test_the_first_of_several_is_taken_and_a_missing_one_is_none(self) -> None:
        self.assertEqual(field_body(b"A: 1\r\nA: 2\r\n", b"a"), b"1")
        self.assertIsNone(field_body(b"A: 1\r\n", b"b"))
