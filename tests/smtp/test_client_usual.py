"""
What is said and heard with nearly every message is said and heard in one step; it means what it means to whoever says it
in words of his own and reads the answers octet by octet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address
from relay.mail.outcome import Breakage, Carried, Peer
from relay.smtp.client import ClientSession
from relay.smtp.transaction import Approach, Proceed, Settled, Transaction
from tests.calls import calls_of
from tests.smtp.proposing import propose

PEER = Peer("mx.example.net", "192.0.2.9")
JON, ANN = Address("jon", "example.net"), Address("ann", "example.net")
OFFERED = b"250-mx\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
YES, MORE, NO, BYE = b"250 2.1.0 Ok\r\n", b"354 Go ahead\r\n", b"550 5.1.1 No\r\n", b"421 4.3.2 Closing\r\n"
SEVERAL = b"250-2.0.0 Ok\r\n250 2.0.0 queued\r\n"
USUAL = (YES, YES, MORE)
KEPT = b"250 2.0.0 Ok: queued as 4711\r\n"
#: What takes a message as well, in other words or in none.
TAKING = (
    KEPT,
    SEVERAL,
    b"250\r\n",
    b"250 \r\n",
    b"250 2.0.0\r\n",
    b"250 2.0.0 \r\n",
    b"251 4.0.0 Ok\r\n",
    b"250  2.0.0 Ok \r\n",
    b"250 2.0.0000 Ok\r\n",
    b"250 O\tk\r\n",
    b"250 O\xffk\r\n",
    b"299 " + b"x" * 496 + b"\r\n",
    b"250 2.0.0 " + b"x" * 496 + b"\r\n",
)


class Listener:
    """A session that carries one message behind the other on what a server says, and what it makes of that."""

    def __init__(self, *, lmtp: bool = False, whole: bool) -> None:
        self.session = ClientSession("relay.test", PEER, approach=Approach(lmtp=lmtp))
        self.whole = whole
        self.events: list[Any] = []
        self.said = b""
        self.session.connected()
        self.hear(b"220 mx\r\n")
        self.hear(OFFERED)

    def begin(self, count: int) -> None:
        if self.session.can_begin:
            if self.whole and count == 1:
                propose(self.session, JON, JON, 9)
            else:
                self.session.begin(Transaction(JON, (JON, ANN)[:count], 9))
        self.turn()

    def hear(self, octets: bytes) -> None:
        for piece in (octets,) if self.whole else [octets[at : at + 1] for at in range(len(octets))]:
            self.session.receive_data(piece)
        self.turn()

    def send(self) -> None:
        if self.session.wants_content:
            self.session.content_sent()
            assert self.session.can_begin == self.session._may_begin()

    def turn(self) -> None:
        while (event := self.session.next_event()) is not None:
            self.events.append(event)
        self.said += self.session.data_to_send()
        assert self.session.can_begin == self.session._may_begin()

    @property
    def state(self) -> object:
        session = self.session
        return self.events, self.said, session.over, session.phase, session.deadline, session.can_begin, session.idle


#: What goes well in other words, or in several, or not quite; to MAIL and RCPT, and to DATA.
WELL = st.sampled_from(
    [
        YES,
        b"250 2.1.5 <jon@example.net> 4711-x\r\n",
        b"251\r\n",
        b"250 \r\n",
        SEVERAL,
        b"250 O\tk\r\n",
        b"250\tOk\r\n",
        b"250 Ok\r\r\n",
        b"250 Ok\n",
        b"250Ok\r\n",
        b"250 " + b"x" * 600 + b"\r\n",
    ]
)
MORES = st.sampled_from([MORE, b"354\r\n", b"399 \r\n", b"354-Go\r\n354 ahead\r\n", b"354 Go ahead\n", MORE + b"250"])

REPLIES = st.sampled_from([YES] * 6 + [MORE, NO, BYE, SEVERAL, b"250 Ok\n", b"25"])
SEGMENTS = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from([(), (), (KEPT,), (KEPT,), (KEPT, KEPT), (NO,), (BYE,), (SEVERAL,), (YES, YES)]),
            st.tuples(st.sampled_from(TAKING)),
        ),
        st.one_of(
            *[st.just(USUAL)] * 4, st.just((YES, *USUAL)), st.tuples(WELL, WELL, MORES), st.lists(REPLIES, max_size=4)
        ),
        st.integers(0, 2),
        st.booleans(),
    ),
    max_size=12,
)


class UsualTests(SynchronousTestCase):
    @given(SEGMENTS, st.booleans())
    @example([((), USUAL, 1, True), ((KEPT,), USUAL, 0, True)], False)
    @example([((), (YES, *USUAL), 2, True), ((KEPT,), (), 0, True), ((KEPT,), USUAL, 1, True)], True)
    @example([((), (YES, *USUAL), 2, True), ((), (), 1, True), ((KEPT, KEPT), USUAL, 1, True)], True)
    @example([((), USUAL, 1, True), ((KEPT,), (), 1, True), ((), USUAL, 0, True)], False)
    @example([((), USUAL, 1, True), ((KEPT,), USUAL, 1, True), ((BYE,), USUAL, 1, True)], False)
    @example([((), USUAL, 1, True), ((NO,), USUAL, 1, True), ((KEPT,), (YES, NO, MORE), 1, True)], False)
    @example([((), USUAL, 1, True), ((), USUAL, 2, True), ((KEPT, YES), USUAL, 1, False)], True)
    def test_in_one_piece_it_means_what_it_means_octet_by_octet(
        self, segments: Sequence[tuple[Sequence[bytes], Sequence[bytes], int, bool]], lmtp: bool
    ) -> None:
        both = Listener(lmtp=lmtp, whole=True), Listener(lmtp=lmtp, whole=False)
        for ahead, replies, count, sends in segments:
            for each in both:
                if count:
                    each.begin(count)
                each.hear(b"".join((*ahead, *replies)))
                if sends:
                    each.send()
            self.assertEqual(both[0].state, both[1].state)
        for each in both:
            each.session.break_off(Breakage.LOST)
            each.turn()
        self.assertEqual(both[0].state, both[1].state)

    def test_whatever_takes_a_message_is_told_in_the_same_words(self) -> None:
        for reply in TAKING:
            both = Listener(whole=True), Listener(whole=False)
            for each in both:
                each.begin(1)
                each.hear(b"".join(USUAL))
                each.send()
                each.hear(reply)
            self.assertIsInstance(both[0].events[-1].facts[0], Carried)
            self.assertEqual(both[0].state, both[1].state, reply)

    def test_a_message_behind_another_one_is_taken_in_few_calls(self) -> None:
        listener = Listener(whole=True)
        listener.begin(1)
        listener.hear(b"".join(USUAL))
        listener.send()
        listener.begin(1)
        segment = b"".join((KEPT, *USUAL))
        self.assertLessEqual(calls_of(lambda: listener.session.receive_data(segment)), 10)
        listener.turn()
        self.assertEqual([type(event) for event in listener.events[-3:]], [Proceed, Settled, Proceed])
        self.assertIsInstance(listener.events[-2].facts[0], Carried)
