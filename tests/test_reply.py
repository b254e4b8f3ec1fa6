"""Replies: built right, or not at all."""

from __future__ import annotations

from typing import cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail import reply
from relay.mail.reply import Reply


class _Status(str):
    """A status as a policy may have it: with other words for people."""

    __slots__ = ()

    def __str__(self) -> str:
        return "that will not do"


class ReplyTests(SynchronousTestCase):
    def test_a_reply_is_sent_as_rfc_5321_writes_it(self) -> None:
        self.assertEqual(Reply.of(250, "2.1.0", "Sender ok").wire, b"250 2.1.0 Sender ok\r\n")
        self.assertEqual(Reply.of(354, None, "go on").wire, b"354 go on\r\n")
        self.assertEqual(Reply.of(550, "5.1.1", "first", "second").wire, b"550-5.1.1 first\r\n550 5.1.1 second\r\n")
        self.assertEqual(Reply.of(250, None, "").wire, b"250\r\n")

    def test_a_reply_that_cannot_be_is_not_built(self) -> None:
        for code, status, lines in [
            (450, "5.1.1", ("the status is of another class",)),
            (550, "4.1.1", ("the status is of another class",)),
            (150, None, ("1yz is no reply of SMTP",)),
            (600, None, ("nor is 6yz",)),
            (550, "5.1", ("half a status",)),
            (550, "5.1.1000", ("too many digits",)),
            (550, "5.01.1", ("a leading zero",)),
            (250, "2.0.0", ()),
            (250, "2.0.0", ("two\r\nlines",)),
            (250, "2.0.0", ("jön",)),
            (250, "2.0.0", ("x" * 500,)),
        ]:
            with self.subTest(f"{code} {status} {lines}"):
                self.assertRaises(ValueError, Reply, code, status, lines)

    @given(st.text(max_size=3000))
    def test_somebody_elses_text_stays_in_its_reply(self, text: str) -> None:
        wire = Reply.saying(550, "5.7.1", text).wire
        lines = wire.split(b"\r\n")
        self.assertEqual(lines.pop(), b"")
        for line in lines[:-1]:
            self.assertTrue(line.startswith(b"550-5.7.1"))
        self.assertTrue(lines[-1].startswith(b"550 5.7.1"))
        for line in lines:
            self.assertLessEqual(len(line), 510)
            self.assertTrue(all(32 <= octet < 127 for octet in line))

    @given(
        st.integers(200, 599),
        st.booleans(),
        st.integers(0, 999),
        st.lists(st.text(alphabet="a 5.-\x7f", max_size=5), min_size=1, max_size=3),
    )
    def test_a_reply_is_built_and_shown_as_it_is_whatever_came_before_it(
        self, code: int, extended: bool, detail: int, lines: list[str]
    ) -> None:
        status = f"{code // 100}.0.{detail}" if extended else None
        if (extended and code // 100 == 3) or "\x7f" in "".join(lines):
            self.assertRaises(ValueError, Reply.of, code, status, *lines)
            return
        made = Reply.of(code, status, *lines)
        shown = f"{status} " if status else ""
        expected = [f"{code}-{shown}{line}".rstrip(" ") for line in lines[:-1]]
        last = f"{code} {shown}{lines[-1]}"
        expected.append(last if code == 334 else last.rstrip(" "))
        self.assertEqual(made.wire.decode().split("\r\n"), [*expected, ""])
        self.assertEqual(str(made), f"{code} {shown}{' '.join(lines)}")

    def test_what_is_known_of_codes_and_statuses_is_forgotten_again(self) -> None:
        for subject in range(1000):
            Reply.of(250, f"2.{subject}.0", "x")
            Reply.of(550, f"5.{subject}.0", "x")
        self.assertLessEqual(len(reply._BEFORE), 1000)
        self.assertEqual(Reply.of(250, "2.0.0", "x").wire, b"250 2.0.0 x\r\n")

    def test_a_code_that_only_equals_a_number_is_in_nobody_elses_reply(self) -> None:
        code, status = cast(int, 550.0), _Status("5.7.222")
        Reply.of(code, None, "no")
        Reply.of(550, status, "no")
        self.assertEqual(Reply.of(550, None, "no").wire, b"550 no\r\n")
        self.assertEqual(Reply.of(550, "5.7.222", "no").wire, b"550 5.7.222 no\r\n")

    def test_a_replys_class_says_what_it_means(self) -> None:
        meanings = {
            code: (reply.positive, reply.temporary, reply.permanent)
            for code in (220, 354, 421, 452, 500, 554)
            for reply in (Reply.of(code, None, "x"),)
        }
        yes, later, no = (True, False, False), (False, True, False), (False, False, True)
        self.assertEqual(meanings, {220: yes, 354: yes, 421: later, 452: later, 500: no, 554: no})
