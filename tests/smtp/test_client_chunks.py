"""Chunks and LMTP, step by step: what is due to what, and what a break in between means."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address
from relay.mail.outcome import Answered, Breakage, Broke, Carried, Fact, Peer, Phase
from relay.smtp.client import ClientSession
from relay.smtp.transaction import Approach, Proceed, Settled, Transaction

PEER = Peer("mx.example.net", "192.0.2.9")
JON, ANN = (Address(name, "example.net") for name in ("jon", "ann"))
CHUNKED = Transaction(None, (JON, ANN), chunked=True)
PLAINLY = Transaction(None, (JON, ANN))
OK = b"250 Ok\r\n"


class StepsTestCase(SynchronousTestCase):
    def open(self, *offers: str, lmtp: bool = False) -> ClientSession:
        self.session = session = ClientSession("relay.test", PEER, approach=Approach(lmtp=lmtp))
        session.connected()
        session.receive_data(b"220 mx\r\n")
        lines = ["mx", *offers]
        session.receive_data(b"".join(b"250%c%s\r\n" % (b"- "[line is lines[-1]], line.encode()) for line in lines))
        self.events()
        session.data_to_send()
        return session

    def events(self) -> list[object]:
        events = []
        while (event := self.session.next_event()) is not None:
            events.append(event)
        return events

    def facts(self) -> tuple[Fact, ...]:
        """The facts about the one transaction that was settled since."""
        (settled,) = [event for event in self.events() if isinstance(event, Settled)]
        return settled.facts


class ChunkTests(StepsTestCase):
    def sending(self, *offers: str) -> ClientSession:
        """Both recipients are accepted, and the content may begin."""
        session = self.open("CHUNKING", *offers)
        session.begin(CHUNKED)
        for _ in range(3):
            session.receive_data(OK)
        self.assertEqual(self.events(), [Proceed()])
        session.data_to_send()
        return session

    def test_content_is_not_sent_before_the_recipients_are_answered(self) -> None:
        session = self.open("CHUNKING", "PIPELINING")
        session.begin(CHUNKED)
        self.assertNotIn(b"DATA", session.data_to_send())
        for _ in range(2):
            session.receive_data(OK)
            self.assertEqual(self.events(), [])
        session.receive_data(b"550 No\r\n")
        self.assertEqual(self.events(), [Proceed()])

    def test_if_nobody_was_accepted_there_is_no_content_and_the_next_one_begins_anew(self) -> None:
        for offers in (("CHUNKING", "PIPELINING"), ("CHUNKING",)):
            session = self.open(*offers)
            session.begin(CHUNKED)
            for reply in (OK, b"550 One\r\n", b"550 Two\r\n"):
                session.receive_data(reply)
            self.assertEqual([type(fact) for fact in self.facts()], [Answered] * 2)
            session.data_to_send()
            session.begin(CHUNKED)
            self.assertTrue(session.data_to_send().startswith(b"RSET\r\n"))

    def test_behind_a_reset_three_replies_are_due_that_do_not_speak_of_data(self) -> None:
        for replies in ((OK, OK, OK), (OK * 3,)):
            session = self.open("CHUNKING", "PIPELINING")
            session.begin(Transaction(None, (JON,)))
            session.receive_data(OK * 2 + b"554 No\r\n")
            session.data_to_send()
            session.begin(Transaction(None, (JON,), chunked=True))
            self.assertEqual(session.data_to_send(), b"RSET\r\nMAIL FROM:<>\r\nRCPT TO:<jon@example.net>\r\n")
            self.assertEqual([type(event) for event in self.events()], [Settled])
            for reply in replies:
                self.assertEqual(self.events(), [])
                session.receive_data(reply)
            self.assertEqual(self.events(), [Proceed()])

    def test_chunks_are_not_for_who_has_not_offered_them(self) -> None:
        session = self.open("PIPELINING")
        self.assertRaises(ValueError, session.begin, CHUNKED)
        self.assertTrue(session.idle)

    def test_each_chunk_is_answered_and_the_last_answer_counts(self) -> None:
        session = self.sending("PIPELINING")
        session.piece_sent()
        self.assertFalse(session.holds_content)
        session.content_sent()
        session.receive_data(OK)
        self.assertEqual(self.events(), [])
        session.receive_data(OK)
        self.assertEqual([type(fact) for fact in self.facts()], [Carried] * 2)
        self.assertTrue(session.idle)

    def test_without_pipelining_each_chunk_waits_for_the_answer_to_the_one_before(self) -> None:
        session = self.sending()
        self.assertFalse(session.holds_content)
        session.piece_sent()
        self.assertTrue(session.holds_content)
        session.receive_data(OK)
        self.assertFalse(session.holds_content)

    def test_after_a_refused_chunk_nothing_more_of_it_is_wanted(self) -> None:
        session = self.sending("PIPELINING")
        session.piece_sent()
        session.piece_sent()
        self.assertTrue(session.wants_content)
        session.receive_data(b"452 4.3.1 Full\r\n")
        self.assertFalse(session.wants_content)
        self.assertEqual(self.events(), [])
        session.receive_data(b"503 5.5.1 What?\r\n")
        for fact in self.facts():
            assert isinstance(fact, Answered)
            self.assertEqual((fact.reply.code, fact.phase), (452, Phase.CONTENT))
        session.begin(CHUNKED)
        self.assertTrue(session.data_to_send().startswith(b"RSET\r\n"))

    def test_after_a_refused_last_chunk_the_next_transaction_begins_anew(self) -> None:
        session = self.sending("PIPELINING")
        session.content_sent()
        session.receive_data(b"554 No\r\n")
        self.facts()
        session.begin(CHUNKED)
        self.assertTrue(session.data_to_send().startswith(b"RSET\r\n"))

    def test_who_has_the_last_chunk_may_have_taken_the_message(self) -> None:
        for last, phase in ((False, Phase.CONTENT), (True, Phase.END)):
            session = self.sending("PIPELINING")
            session.piece_sent()
            if last:
                session.content_sent()
            session.break_off(Breakage.LOST)
            self.assertEqual(self.facts(), (Broke(Breakage.LOST, phase, PEER),) * 2)

    def test_a_go_ahead_is_no_answer_to_a_chunk(self) -> None:
        session = self.sending("PIPELINING")
        session.content_sent()
        session.receive_data(b"354 Go on\r\n")
        (fact, _) = self.facts()
        assert isinstance(fact, Broke)
        self.assertIs(fact.breakage, Breakage.NONSENSE)

    def test_the_next_transaction_may_begin_while_the_last_chunk_is_not_answered(self) -> None:
        session = self.sending("PIPELINING")
        session.piece_sent()
        session.content_sent()
        self.assertFalse(session.can_begin)
        session.receive_data(OK)
        self.assertTrue(session.can_begin)
        session.begin(CHUNKED)
        session.receive_data(OK)
        self.facts()
        for _ in range(3):
            session.receive_data(OK)
        self.assertEqual(self.events(), [Proceed()])


class LmtpTests(StepsTestCase):
    def test_there_are_as_many_answers_as_were_accepted(self) -> None:
        for chunked in (False, True):
            session = self.open("PIPELINING", "CHUNKING", lmtp=True)
            session.begin(CHUNKED if chunked else PLAINLY)
            for reply in (OK, b"550 No\r\n", OK, *(() if chunked else (b"354 Go on\r\n",))):
                session.receive_data(reply)
            session.content_sent()
            session.receive_data(OK)
            refused, carried = self.facts()
            assert isinstance(refused, Answered)
            assert isinstance(carried, Carried)
            self.assertEqual((refused.phase, carried.onward), (Phase.RCPT, False))

    def test_an_answer_too_many_is_one_that_nobody_asked_for(self) -> None:
        session = self.open("PIPELINING", lmtp=True)
        session.begin(PLAINLY)
        session.receive_data(OK * 3 + b"354 Go on\r\n")
        session.content_sent()
        session.receive_data(OK * 3)
        self.assertEqual([type(fact) for fact in self.facts()], [Carried] * 2)
        self.assertTrue(session.over)

    def test_a_go_ahead_for_nobody_ends_the_conversation(self) -> None:
        session = self.open("PIPELINING", lmtp=True)
        session.begin(PLAINLY)
        session.data_to_send()
        session.receive_data(OK + b"550 No\r\n" * 2 + b"354 Go on\r\n")
        self.assertEqual([type(fact) for fact in self.facts()], [Answered] * 2)
        self.assertEqual((session.over, session.data_to_send()), (True, b""))

    def test_421_behind_the_content_speaks_of_all_that_were_not_answered(self) -> None:
        session = self.open("PIPELINING", lmtp=True)
        session.begin(PLAINLY)
        session.receive_data(OK * 3 + b"354 Go on\r\n")
        session.content_sent()
        session.receive_data(OK + b"421 Closing\r\n")
        carried, answered = self.facts()
        self.assertIsInstance(carried, Carried)
        assert isinstance(answered, Answered)
        self.assertEqual(answered.reply.code, 421)
