"""The Message-ID, as it is found in header sections."""

from __future__ import annotations

from email.parser import BytesHeaderParser
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.message_id import message_id
from tests.test_listeners import MX, ListenerCase

NAME = b"<1234.Abc+x=%@mail.example.org>"
FOUND = NAME.decode()


class MessageIdTests(SynchronousTestCase):
    def test_it_is_found_wherever_it_stands_and_however_it_is_written(self) -> None:
        for field in (
            b"Message-ID: %s\r\n",
            b"message-id:%s\r\n",
            b"MESSAGE-Id \t:\t%s \r\n",
            b"Message-ID:\r\n %s\r\n",
            b"Message-ID: \r\n\t %s (a comment)\r\n",
        ):
            for section in (field % NAME, b"A: b\r\n" + field % NAME + b"C: d\r\n\r\n", b"A: b\r\n" + field % NAME):
                self.assertEqual(message_id(section), FOUND)
                self.assertEqual(message_id(bytearray(section)), FOUND)

    def test_the_first_one_counts(self) -> None:
        self.assertEqual(message_id(b"Message-ID: %s\r\nMessage-ID: <other@x>\r\n\r\n" % NAME), FOUND)

    def test_what_is_none_is_none(self) -> None:
        for section in (
            b"",
            b"Subject: Message-ID: %s\r\n" % NAME,
            b"X-Message-ID: %s\r\n" % NAME,
            b"A: b\r\n Message-ID: %s\r\n" % NAME,
            b"Message-IDs: %s\r\n" % NAME,
            b"Message-ID: 1234@example.org\r\n",
            b"Message-ID: <>\r\n",
            b"Message-ID: <a b@x>\r\n",
            b"Message-ID: <" + b"x" * 991 + b">\r\n",
            b"Message-ID: <a@x\r\n\r\n>",
        ):
            self.assertEqual(message_id(section), "", section)

    def test_octets_that_are_no_text_do_no_harm(self) -> None:
        self.assertEqual(message_id("Message-ID: <ä@x>\r\n".encode()), "<ä@x>")
        self.assertEqual(message_id(b"Message-ID: <\xff@x>\r\n"), "<\ufffd@x>")

    @given(st.text("aA\t -", max_size=5), st.sampled_from([" ", "", "\r\n ", "\t"]), st.text("abc.@$", min_size=1))
    def test_another_reader_finds_the_same(self, before: str, blank: str, name: str) -> None:
        section = f"X: {before}\r\nMessage-ID:{blank}<{name}>\r\nY: z\r\n\r\n".encode()
        known = BytesHeaderParser().parsebytes(section)["Message-ID"]
        self.assertEqual(message_id(section), " ".join(known.split()))


class MailLogTests(ListenerCase):
    """The mail log names it, and so the history can find it."""

    def accepted(self, client: Any, *content: str) -> dict[str, object]:
        self.say(client, "EHLO c", "MAIL FROM:<ann@here.test>", "RCPT TO:<bob@here.test>", "DATA")
        self.assertEqual(self.codes(client, *content, "."), ["250"])
        [event] = self.world.log.named("accepted")
        return event

    def test_the_message_id_of_what_is_accepted_is_noted(self) -> None:
        event = self.accepted(self.connect(MX), "Message-ID: <1@example.org>", "", "x")
        self.assertEqual(event["message_id"], "<1@example.org>")

    def test_what_has_none_is_noted_without(self) -> None:
        self.assertNotIn("message_id", self.accepted(self.connect(MX), "Subject: x", "", "Message-ID: <1@x>"))

    def test_the_one_that_we_have_given_it_is_noted(self) -> None:
        event = self.accepted(self.authenticated(), "Subject: x", "", "x")
        self.assertEqual(event["message_id"], f"<{event['id']}@mx.test>")
        ((mail,),) = self.world.mailboxes.values()
        self.assertIn(f"Message-ID: {event['message_id']}".encode(), mail.octets)
