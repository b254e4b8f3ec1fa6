from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

import relay.smtp.replies as replies
from relay.mail.reply import Reply
from relay.smtp.replies import LINES, OCTETS, Nonsense, ReplyReader

Heard = list[Reply | Nonsense]

#: What servers say, and what they should not, in pieces that a property can put together.
PIECES = [
    b"250 2.1.0 Ok\r\n",
    b"250-first\r\n250 second\r\n",
    b"354\r\n",
    b"550-5.1.1 unknown\r\n550 5.1.1 user\r\n",
    b"250-",
    b"250",
    b" ",
    b"-",
    b"\r",
    b"\n",
    b"\r\n",
    b"\xe9\x00",
    b"199 x\r\n",
    b"6",
    b"SSH-2.0-OpenSSH\r\n",
]


def hear(pieces: Iterable[bytes]) -> Heard:
    """All that is heard until nothing more is, or nonsense: of that there is no end."""
    reader = ReplyReader()
    heard: Heard = []
    for piece in pieces:
        reader.receive_data(piece)
        while (reply := reader.next_reply()) is not None:
            heard.append(reply)
            if isinstance(reply, Nonsense):
                return heard
    return heard


def cut(octets: bytes, at: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted({index % (len(octets) + 1) for index in at}), len(octets)]
    return [octets[start:end] for start, end in pairwise(edges)]


class ReplyTests(SynchronousTestCase):
    def reply(self, octets: bytes) -> Reply:
        (reply,) = hear([octets])
        assert isinstance(reply, Reply)
        return reply

    def test_a_line_is_a_code_a_status_and_a_text(self) -> None:
        self.assertEqual(self.reply(b"550 5.1.1 User unknown\r\n"), Reply.of(550, "5.1.1", "User unknown"))

    def test_what_belongs_to_another_class_is_no_status(self) -> None:
        self.assertEqual(self.reply(b"354 3.0.0 Go on\r\n"), Reply.of(354, None, "3.0.0 Go on"))
        self.assertEqual(self.reply(b"250 5.1.1 Ok\r\n"), Reply.of(250, None, "5.1.1 Ok"))

    @given(
        st.sampled_from([b"250", b"354", b"550", b"199", b"25"]),
        st.lists(
            st.sampled_from(
                [b" ", b"-", b"5.1.1", b"2.0.0", b"3.0.0", b"2.01.0", b"x", b"\xe9", b"\t", b"\r", b"y" * 250]
            )
        ),
    )
    def test_a_line_that_is_read_by_one_expression_means_what_it_means_when_it_is_looked_at_closely(
        self, code: bytes, parts: list[bytes]
    ) -> None:
        line = code + b"".join(parts) + b"\r\n"
        at_once = hear([line])
        patched = self.patch(replies, "_plain", lambda line: None)
        self.assertEqual(hear([line]), at_once)
        patched.restore()

    def test_several_lines_are_one_reply_and_each_may_repeat_the_status(self) -> None:
        self.assertEqual(
            self.reply(b"550-5.7.1 Go\r\n550-away\r\n550 5.7.1 please\r\n"),
            Reply.of(550, "5.7.1", "Go", "away", "please"),
        )

    def test_a_code_without_a_text_is_a_reply(self) -> None:
        self.assertEqual(self.reply(b"354\r\n"), Reply.of(354, None, ""))
        self.assertEqual(self.reply(b"250 \r\n"), Reply.of(250, None, ""))
        self.assertEqual(self.reply(b"250-\r\n250\r\n"), Reply.of(250, None, "", ""))
        self.assertEqual(self.reply(b"250 2.0.0\r\n"), Reply.of(250, "2.0.0", ""))

    def test_a_status_of_another_class_is_only_text(self) -> None:
        self.assertEqual(self.reply(b"450 5.1.1 later\r\n"), Reply.of(450, None, "5.1.1 later"))
        self.assertEqual(self.reply(b"354 2.0.0 go on\r\n"), Reply.of(354, None, "2.0.0 go on"))
        self.assertEqual(self.reply(b"250 2.0.0.1 version\r\n"), Reply.of(250, None, "2.0.0.1 version"))

    def test_octets_that_are_not_ascii_are_shown_as_question_marks(self) -> None:
        self.assertEqual(self.reply(b"550 \xfcber\tall\x00\r\n"), Reply.of(550, None, "?ber all?"))

    def test_an_overlong_line_is_folded_and_nothing_of_it_is_lost(self) -> None:
        reply = self.reply(b"550 " + b"x" * 5000 + b"\r\n")
        self.assertEqual("".join(reply.lines), "x" * 5000)

    def test_replies_that_come_together_are_told_apart(self) -> None:
        self.assertEqual(
            hear([b"250 a\r\n550 5.1.1 b\r\n354 c\r\n"]),
            [Reply.of(250, None, "a"), Reply.of(550, "5.1.1", "b"), Reply.of(354, None, "c")],
        )

    def test_a_hundred_lines_are_a_reply_and_one_more_is_not(self) -> None:
        most = b"250-x\r\n" * (LINES - 1) + b"250 x\r\n"
        self.assertEqual(len(self.reply(most).lines), LINES)
        self.assertEqual(hear([b"250-x\r\n" + most]), [Nonsense("a reply of more than 100 lines")])

    def test_64_kib_are_a_reply_and_one_octet_more_is_not(self) -> None:
        most = b"250 " + b"x" * (OCTETS - 6) + b"\r\n"
        self.assertIsInstance(self.reply(most), Reply)
        for octets in most.replace(b"\r\n", b"x\r\n"), b"250-x\r\n" + most:
            self.assertEqual(hear([octets]), [Nonsense("a reply of more than 65536 octets")])

    def test_the_size_of_one_reply_does_not_count_for_the_next(self) -> None:
        large = b"250 " + b"x" * 60000 + b"\r\n"
        self.assertEqual(len(hear([large * 3])), 3)

    def test_a_line_without_an_end_is_not_kept_for_ever(self) -> None:
        reader = ReplyReader()
        for _ in range(OCTETS // 1024):
            reader.receive_data(b"x" * 1024)
            self.assertIsNone(reader.next_reply())
        reader.receive_data(b"x")
        self.assertIsInstance(reader.next_reply(), Nonsense)

    def test_what_is_no_reply_is_nonsense(self) -> None:
        for octets in (
            b"\r\n",
            b"25\r\n",
            b"2500 x\r\n",
            b"250_x\r\n",
            b"250\tx\r\n",
            b" 250 x\r\n",
            b"150 x\r\n",
            b"600 x\r\n",
            b"2x0 x\r\n",
            b"SSH-2.0-OpenSSH_9\r\n",
            b"250-x\r\n251 y\r\n",
            b"250-x\r\nhello\r\n",
            b"250 x\n",
            b"250-x\n250 y\r\n",
            b"250 x\ry\r\n",
            b"250 x\r\r\n",
            "²50 x\r\n".encode(),
        ):
            heard = hear([octets])
            self.assertEqual([type(reply) for reply in heard], [Nonsense], octets)

    def test_after_nonsense_there_is_nothing_else(self) -> None:
        reader = ReplyReader()
        reader.receive_data(b"hello\r\n250 Ok\r\n")
        first = reader.next_reply()
        reader.receive_data(b"250 Ok\r\n")
        self.assertEqual(reader.next_reply(), first)

    def test_nonsense_says_what_was_heard_and_not_too_much_of_it(self) -> None:
        (heard,) = hear([b"GARBAGE\xff" * 1000 + b"\r\n"])
        assert isinstance(heard, Nonsense)
        self.assertTrue(heard.text.startswith("not a reply: GARBAGE?GARBAGE?"))
        self.assertLess(len(heard.text), 200)

    @given(st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join), st.lists(st.integers(0, 10**6)))
    def test_where_the_network_cuts_means_nothing(self, octets: bytes, at: list[int]) -> None:
        heard = hear([octets])
        self.assertEqual(hear(cut(octets, at)), heard)
        self.assertEqual(hear(octets[index : index + 1] for index in range(len(octets))), heard)

    @given(st.binary(max_size=200))
    def test_no_octets_raise(self, octets: bytes) -> None:
        hear([octets])
