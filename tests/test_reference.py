"""References: short, told on the telephone, and found again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.reference import BITS, read_reference, reference, referred, unreferred
from relay.mail.reply import LINE_TEXT, Reply

NUMBERS = st.integers(0, 2**BITS - 1)


class ReferenceTests(SynchronousTestCase):
    @given(NUMBERS, st.sampled_from(("{}", "[ref {}]", "ref {}", " [REF {}]\n", "ref: {}", "[ref {}")))
    def test_it_is_read_in_every_way_in_which_people_write_it(self, number: int, written: str) -> None:
        ref = reference(number)
        self.assertEqual(len(ref), 6)
        for text in (ref, ref.lower(), ref.replace("1", "I").replace("0", "o"), ref.replace("1", "l")):
            self.assertEqual(read_reference(written.format(text)), ref)

    @given(NUMBERS, NUMBERS)
    def test_two_numbers_have_two_references(self, one: int, other: int) -> None:
        self.assertEqual(reference(one) == reference(other), one == other)

    def test_those_at_the_ends(self) -> None:
        self.assertEqual((reference(0), reference(1), reference(2**BITS - 1)), ("000000", "000001", "ZZZZZZ"))

    def test_what_is_none_is_none(self) -> None:
        for text in ("", "7K3QX", "7K3QX23", "7K3QXU", "7K3-QX2", "a@b.example", "[ref ]", "NG79W8MR4E21H9", "７K3QX2"):
            self.assertIsNone(read_reference(text))


class ReferredTests(SynchronousTestCase):
    def test_it_stands_at_the_end_of_the_last_line(self) -> None:
        reply = referred(Reply.of(550, "5.7.1", "one", "two"), "7K3QX2")
        self.assertEqual(reply.wire, b"550-5.7.1 one\r\n550 5.7.1 two [ref 7K3QX2]\r\n")
        self.assertEqual(referred(Reply.of(450, None, ""), "7K3QX2").wire, b"450 [ref 7K3QX2]\r\n")

    @given(NUMBERS, st.lists(st.integers(0, LINE_TEXT), min_size=1, max_size=3))
    def test_no_line_becomes_too_long_and_nothing_is_lost(self, number: int, lengths: list[int]) -> None:
        ref = reference(number)
        reply = Reply.of(550, "5.7.1", *("x" * length for length in lengths))
        marked = referred(reply, ref)
        self.assertTrue(all(len(line) <= 512 for line in marked.wire.splitlines(keepends=True)))
        self.assertTrue(marked.wire.endswith(b"[ref %b]\r\n" % ref.encode()))
        self.assertEqual((marked.code, marked.status), (reply.code, reply.status))
        self.assertEqual("".join(marked.lines).count("x"), sum(lengths))
        self.assertEqual(unreferred(str(marked)).rstrip(), str(reply).rstrip())

    def test_a_text_without_one_stays_as_it_is(self) -> None:
        for text in ("550 no", "550 [ref 7K3QX2] no", "550 no [ref 7K3QXU]", ""):
            self.assertEqual(unreferred(text), text)
