"""The header section as it comes in: how large it is, and how often the message has been passed on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.config.limits import Limits
from relay.mail.reply import Reply
from relay.reception.inspection import Bounds, Inspection
from relay.smtp import answers

LIMITS = Limits(header=4096, header_field=1000, header_fields=20, hops=3)


def inspected(content: bytes, cut: int = 10**6) -> Inspection:
    inspection = Inspection(Bounds.of(LIMITS))
    for at in range(0, len(content), cut):
        inspection.take(content[at : at + cut])
    inspection.end()
    return inspection


def fault(content: bytes) -> Reply | None:
    faults = {inspected(content, cut).fault for cut in (1, 7, 10**6)}
    assert len(faults) == 1, faults
    return faults.pop()


def fields(count: int, size: int = 10) -> bytes:
    return (b"X: " + b"x" * (size - 5) + b"\r\n") * count


BODY = b"\r\nbody\r\n.\r\n"


class InspectionTests(SynchronousTestCase):
    def test_the_message_id_is_noted_however_it_came(self) -> None:
        section = b"Subject: x\r\nMessage-Id: <1@example.org>\r\n"
        for cut in (1, 7, 10**6):
            self.assertEqual(inspected(section + BODY, cut).message_id, "<1@example.org>")
            self.assertEqual(inspected(b"Subject: x\r\n" + BODY + section, cut).message_id, "")
        self.assertEqual(inspected(section).message_id, "<1@example.org>")
        self.assertEqual(inspected(b"text\r\n" + section).message_id, "")

    def test_fields_up_to_the_limit_are_taken(self) -> None:
        self.assertIsNone(fault(fields(20) + BODY))
        self.assertEqual(fault(fields(21) + BODY), answers.HEADER_TOO_LARGE)

    def test_a_folded_line_is_no_field_of_its_own(self) -> None:
        self.assertIsNone(fault(fields(20) + b" folded\r\n\tonce more\r\n" * 10 + BODY))

    def test_a_field_up_to_the_limit_is_taken_folded_or_not(self) -> None:
        self.assertIsNone(fault(fields(1, 1000) + BODY))
        self.assertEqual(fault(fields(1, 1001) + BODY), answers.HEADER_TOO_LARGE)
        self.assertEqual(
            fault(b"X: x\r\n" + b" 90 octets long " * 6 + b"\r\n" + b" more\r\n" * 150 + BODY), answers.HEADER_TOO_LARGE
        )

    def test_a_section_over_the_limit_is_refused(self) -> None:
        self.assertIsNone(fault(fields(4, 900) + BODY))
        self.assertEqual(fault(fields(5, 900) + BODY), answers.HEADER_TOO_LARGE)
        self.assertEqual(fault(b"X: x\r\n" + fields(2000)), answers.HEADER_TOO_LARGE)

    def test_more_hops_than_the_limit_are_a_loop(self) -> None:
        self.assertIsNone(fault(b"Received: a\r\n" * 3 + BODY))
        self.assertEqual(fault(b"received : a\r\n" * 4 + BODY), answers.TOO_MANY_HOPS)

    def test_hops_are_counted_also_where_the_last_line_has_no_end(self) -> None:
        self.assertIsNone(inspected(b"Received: a\r\n" * 2 + b"Received: a").fault)
        self.assertEqual(inspected(b"Received: a\r\n" * 3 + b"Received: a").fault, answers.TOO_MANY_HOPS)

    def test_the_body_is_not_inspected(self) -> None:
        self.assertIsNone(fault(b"X: x\r\n\r\n" + b"Received: a\r\n" * 9 + b"X: " + b"x" * 9000 + b"\r\n.\r\n"))

    def test_text_typed_by_hand_has_no_header_section(self) -> None:
        for text in (
            b"hello there\r\n.\r\n",
            b".\r\n",
            b"..\r\n.\r\n",
            b"Hello Jon: how are you?\r\n.\r\n",
            b"x" * 9000 + b"\r\n.\r\n",
        ):
            with self.subTest(text[:20]):
                self.assertTrue(inspected(text).headless)
                self.assertIsNone(fault(text))

    def test_a_header_section_may_be_empty(self) -> None:
        self.assertFalse(inspected(b"\r\nhello\r\n.\r\n").headless)
        self.assertFalse(inspected(b"Subject: hello\r\n.\r\n").headless)

    @given(st.binary(max_size=300), st.integers(1, 9))
    def test_where_the_network_cuts_means_nothing(self, content: bytes, cut: int) -> None:
        whole, pieces = inspected(content), inspected(content, cut)
        self.assertEqual((whole.fault, whole.headless), (pieces.fault, pieces.headless))
