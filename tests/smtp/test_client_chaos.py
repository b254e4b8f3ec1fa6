"""Whatever a server answers, whatever we had meant to say: nothing raises, everybody has a fact, and none is too good."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address
from relay.mail.outcome import Breakage, Carried, Peer
from relay.smtp.client import ClientSession
from relay.smtp.course import Course, Due, Said, Usual, due_to_proposal
from relay.smtp.sasl_client import Password, Token
from relay.smtp.transaction import (
    Approach,
    Over,
    Proceed,
    Ready,
    Settled,
    StartTls,
    Transaction,
    TurnedAway,
)
from tests.smtp.proposing import propose

PEER = Peer("mx.example.net", "192.0.2.9")
NAMES = tuple(Address(name, "example.net") for name in ("jon", "ann", "eve"))

APPROACHES = st.builds(
    Approach,
    lmtp=st.booleans(),
    tls=st.sampled_from(["none", "may", "encrypt", "verify"]),
    login=st.sampled_from([None, Password("ann", "pencil"), Token("ann", "t")]),
    nonce=st.just(lambda: "fyko+d2lbbFgONRv9qkxdawL"),
    without=st.sampled_from([frozenset(), frozenset({"CHUNKING"})]),
)
#: Mostly what is right, so that some of it comes far.
CODES = st.sampled_from([0] * 30 + [220, 235, 250, 334, 354, 421, 450, 454, 500, 503, 535, 550])
RIGHT = {Said.NOTHING: 220, Said.STARTTLS: 220, Said.AUTH: 235, Said.DATA: 354, Said.CANCEL: 501, Said.QUIT: 221}
OFFERS = st.lists(
    st.sampled_from(
        ["PIPELINING", "CHUNKING", "STARTTLS", "AUTH PLAIN LOGIN SCRAM-SHA-256 XOAUTH2", "DSN", "8BITMIME"]
    ),
    max_size=6,
)


def awaited(session: ClientSession) -> list[Due]:
    """The replies that are due."""
    match session._usual:
        case Usual.PROPOSED:
            return [*due_to_proposal(Course(1, False))]
        case Usual.SENT:
            return [(Said.CONTENT, Course(1, False), 0 if session._approach.lmtp else -1)]
        case _:
            return [*session._due]


class Chaos:
    """A server that says what `data` draws, one reply for each that is due, and our side of it."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.approach = data.draw(APPROACHES)
        self.session = ClientSession("relay.test", PEER, approach=self.approach)
        self.waiting = data.draw(st.integers(0, 3))
        self.begun: list[Transaction] = []
        self.settled: list[Settled] = []
        self.ends: list[Any] = []
        #: The first digits of the answers to what was said of each transaction, and of which recipient.
        self.answers: dict[int, list[tuple[Said, int, int]]] = defaultdict(list)
        self.pieces = 0

    def run(self) -> None:
        session, data = self.session, self.data
        session.connected()
        for _ in range(200):
            self.turn()
            if session.over:
                break
            if self.pieces:
                self.send_piece()
                continue
            if not awaited(session):
                break
            said, course, index = awaited(session)[0]
            code = data.draw(CODES) or RIGHT.get(said, 250)
            if course is not None:
                self.answers[len(self.begun)].append((said, index, code // 100))
            session.receive_data(self.reply(said, code))
        session.break_off(Breakage.LOST)
        self.turn()

    def reply(self, said: Said, code: int) -> bytes:
        if said in (Said.EHLO, Said.LHLO) and code == 250:
            lines = ["mx", *self.data.draw(OFFERS)]
            return "".join(
                f"250{'-' if at < len(lines) else ' '}{line}\r\n" for at, line in enumerate(lines, 1)
            ).encode()
        return b"%d Zm9v\r\n" % code

    def turn(self) -> None:
        session = self.session
        while (event := session.next_event()) is not None:
            assert not any(isinstance(end, Over) for end in self.ends)
            match event:
                case StartTls():
                    assert self.approach.tls != "none"
                    session.secured("TLSv1.3", verified=self.approach.tls == "verify")
                case Ready():
                    assert self.approach.tls in ("none", "may") or session._opening.tls
                    assert self.approach.login is None or session._opening.authenticated
                    self.begin()
                case Proceed():
                    self.pieces = self.data.draw(st.integers(1, 3))
                case Settled():
                    self.settled.append(event)
                    if session.idle:
                        self.begin()
                case TurnedAway() | Over():
                    self.ends.append(event)
        if not session.wants_content:
            self.pieces = 0
        session.data_to_send()
        assert session.can_begin == session._may_begin()
        assert session.over or session.deadline is None or session.deadline > 0

    def begin(self) -> None:
        session = self.session
        if not self.waiting:
            session.quit()
            return
        self.waiting -= 1
        chunked = session.features.chunking and self.data.draw(st.booleans())
        count = self.data.draw(st.integers(0, 3))
        transaction = Transaction(NAMES[0], NAMES[: count or 1], chunked=chunked and count > 0)
        self.begun.append(transaction)
        if count:
            session.begin(transaction)
        else:
            propose(session, NAMES[0], NAMES[0], 9)

    def send_piece(self) -> None:
        if self.session.holds_content:
            said, course, index = awaited(self.session)[0]
            code = self.data.draw(CODES) or 250
            assert course is not None
            self.answers[len(self.begun)].append((said, index, code // 100))
            self.session.receive_data(b"%d x\r\n" % code)
            return
        self.pieces -= 1
        if self.pieces:
            self.session.piece_sent()
        else:
            self.session.content_sent()


class ChaosTests(SynchronousTestCase):
    @given(st.data())
    def test_nobody_is_called_carried_whom_the_server_has_not_promised_to_carry(self, data: st.DataObject) -> None:
        chaos = Chaos(data)
        chaos.run()
        self.assertTrue(chaos.session.over)
        self.assertEqual(sum(isinstance(end, Over) for end in chaos.ends), 1)
        self.assertEqual(len(chaos.settled), len(chaos.begun))
        for number, (transaction, settled) in enumerate(zip(chaos.begun, chaos.settled, strict=True), 1):
            self.assertEqual(len(settled.facts), len(transaction.recipients))
            answers = chaos.answers[number]
            for index, fact in enumerate(settled.facts):
                if isinstance(fact, Carried):
                    mine = [(said, digit) for said, about, digit in answers if about in (-1, index)]
                    wanted = {Said.MAIL, Said.RCPT, Said.CONTENT} | (set() if transaction.chunked else {Said.DATA})
                    self.assertLessEqual(wanted, {said for said, _ in mine})
                    self.assertTrue(all(digit == (3 if said is Said.DATA else 2) for said, digit in mine), mine)
