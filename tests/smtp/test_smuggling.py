"""
Smuggling: no way to end a content by which one message becomes two.

Everything is sent through the whole relay, and judged by what the next host receives. What is right is said by
`tests.fuzz.naive`, which reads line by line and shares nothing with `relay.smtp`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.agents.smtp import SmtpTransmitter
from relay.config.errors import ConfigurationError
from relay.interfaces import Consignment, IContent
from relay.mail.address import Address
from relay.mail.envelope import Envelope, Form
from relay.mail.outcome import Carried, Fact, Peer
from relay.mail.queue import Entry, Recipient
from relay.mail.routing import Forward
from relay.net.client import Dialer
from relay.net.clock import ReactorClock
from relay.smtp.outgoing import ContentDamaged
from relay.testing.internet import FakeInternet
from relay.testing.peers import FakeExchange, Message
from relay.testing.world import MailWorld
from tests.fuzz import naive

CONFIGURATION = """
hostname = "mx.test"

[[listener]]
name = "strict"
address = "127.0.0.1:2525"

[[listener]]
name = "lenient"
address = "127.0.0.1:2526"
newlines = "lenient"

[[policy]]
use = "forward"
"""
STRICT, LENIENT = range(2)
CRLF, LF = b"\r\n", b"\n"
#: What a session can be: its listener, and how its client ends the first line.
SESSIONS: Final = ((STRICT, CRLF), (LENIENT, CRLF), (LENIENT, LF))

#: A second message, for whoever reads on behind an end that is none.
HIDDEN = b"MAIL FROM:<evil@far.test>\r\nRCPT TO:<victim@far.test>\r\nDATA\r\nSubject: evil\r\n\r\nevil\r\n.\r\n"
HEADER = b"Subject: one\r\n\r\n"

_BEFORE = (b"", b"\r", b"\n", b"\r\n", b"\r\r\n", b"\n\r", b"\r\n\r", b"\r\n\n", b"\0", b"\r\n\0", b"\r\0\n", b"\r\n ")
_DOTS = (b".", b"..", b"...")
_AFTER = (b"", b"\r", b"\n", b"\r\n", b"\r\r\n", b"\n\r", b"\n\n", b"\0", b"\0\r\n", b"\r\0\n", b" \r\n")
#: Every way in which a dot can stand between CR, LF, NUL and blanks.
ENDINGS: Final = tuple(map(b"".join, itertools.product(_BEFORE, _DOTS, _AFTER)))
#: Those that some server somewhere has been known to take for an end, and two that are innocent.
KNOWN: Final = (
    *(
        b"\n.\n",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r",
        b"\r\n.\r",
        b"\r.\r\n",
        b"\n.\r",
        b"\r.\n",
        b"\n\n.\r\n",
        b"\r\r\n.\r\r\n",
    ),
    *(b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\0\r\n.\0\r\n", b"\r\0\n.\r\0\n", b"\r\n..\r\n", b"\r\n.x\r\n"),
)
BLOCK = 64 * 1024


class SmugglingCase(SynchronousTestCase):
    """A relay that forwards everything, and the next host."""

    def setUp(self) -> None:
        self.world = MailWorld(CONFIGURATION)
        self.next_hop = self.world.exchange("far.test", "192.0.2.25")

    def send(self, listener: int, newline: bytes, content: bytes, cuts: Iterable[int] = ()) -> list[int]:
        """
        A whole session, with QUIT behind `content` (which has its own end, or none); returns the codes of the replies.

        `cuts` are places in the content at which the network cuts; else all comes at once.
        """
        conversation = self.world.connect("127.0.0.1", listener)
        opening = newline.join((b"EHLO c", b"MAIL FROM:<ann@here.test>", b"RCPT TO:<bob@far.test>", b"DATA", b""))
        content += b"QUIT" + newline
        edges = [0, *sorted(cuts), len(content)]
        first, *rest = (content[begin:end] for begin, end in itertools.pairwise(edges))
        conversation.send(opening + first)
        for piece in rest:
            conversation.send(piece)
        lines = conversation.greeting + conversation.replies()
        self.world.settle()
        conversation.hang_up()
        return [int(line[:3]) for line in lines if line[3:4] != "-"]

    def received(self) -> list[Message]:
        """What the next host has got, since the last look; and that nobody has done there what nobody may do."""
        messages = list(self.next_hop.messages)
        self.next_hop.messages.clear()
        # A dot that our client's client has not doubled goes on as it came, and whoever reads it drops it as we do.
        self.assertEqual([each for each in self.next_hop.complaints if not each.startswith("a dot that was not")], [])
        self.assertEqual(self.next_hop.unpromised, [])
        self.assertEqual(self.world.spool.shelf.entries, {})
        return messages

    def judge(self, listener: int, newline: bytes, content: bytes, cuts: Iterable[int] = ()) -> str:
        """
        Send `content`, which has its end at its end, and QUIT: it is one message, or it is none.

        Returns which it was: "one", "none" (550), or "two" if there is a true end in its midst too, as this session has
        it: what stands behind that are commands, and rightly so.
        """
        expected = naive.read_content(content, newline)
        self.assertIsNotNone(expected.used)
        codes = self.send(listener, newline, content, cuts)
        messages = self.received()
        self.assertEqual(codes[:5], [220, 250, 250, 250, 354])
        if expected.has_bare_newline:
            self.assertEqual(codes[5], 550)
        else:
            self.assertEqual(codes[5], 250)
            [message] = [each for each in messages if each.reverse_path == "ann@here.test"]
            messages.remove(message)
            self.assertEqual(message.recipients, ("bob@far.test",))
            head, date, rest = message.content.partition(b" +0000\r\n")
            self.assertTrue(date)
            self.assertTrue(head.startswith(b"Received: from c "))
            # Text without a header section is divided from ours by an empty line (docs/QUIRKS.md).
            seam = b"" if content.startswith((b"Subject:", b"a:", newline)) else CRLF
            self.assertEqual(rest, seam + expected.plain)
        if expected.used != len(content):
            return "two"
        self.assertEqual((codes[6:], messages), ([221], []))
        return "none" if expected.has_bare_newline else "one"


class MatrixTests(SmugglingCase):
    """One test for each kind of session, each with every ending."""

    def run_matrix(self, listener: int, newline: bytes) -> None:
        came: dict[str, set[bytes]] = {"one": set(), "none": set(), "two": set()}
        for ending in ENDINGS:
            with self.subTest(ending):
                before, behind = ((HEADER + b"one").replace(CRLF, newline), HIDDEN.replace(CRLF, newline))
                came[self.judge(listener, newline, before + ending + behind)].add(ending)
        # The model says which it is; that each was there shows that something was asked.
        self.assertGreater(len(came["one"]), 20)
        self.assertGreater(len(came["none"]), 200)
        true_end = newline + b"." + newline
        self.assertEqual(came["two"], {ending for ending in ENDINGS if true_end in ending})

    def test_strict(self) -> None:
        self.run_matrix(STRICT, CRLF)

    def test_lenient_that_begins_with_crlf(self) -> None:
        self.run_matrix(LENIENT, CRLF)

    def test_lenient_that_begins_with_lf(self) -> None:
        self.run_matrix(LENIENT, LF)

    def test_a_strict_session_that_begins_with_lf_is_none(self) -> None:
        for ending in KNOWN:
            codes = self.send(STRICT, LF, HEADER + b"one" + ending + HIDDEN)
            self.assertEqual((codes, self.received()), ([220, 421], []))

    def test_a_true_end_is_one(self) -> None:
        """Lest the matrix be right because nothing is ever delivered, nor anything executed."""
        for listener, newline in SESSIONS:
            content = (HEADER + b"one\r\n.\r\n" + HIDDEN).replace(CRLF, newline)
            codes = self.send(listener, newline, content)
            self.assertEqual(codes, [220, 250, 250, 250, 354, 250, 250, 250, 354, 250, 221])
            first, second = self.received()
            self.assertEqual((first.reverse_path, second.reverse_path), ("ann@here.test", "evil@far.test"))
            self.assertTrue(first.content.endswith(b" +0000\r\n" + HEADER + b"one\r\n"))
            self.assertTrue(second.content.endswith(b" +0000\r\nSubject: evil\r\n\r\nevil\r\n"))

    def test_only_our_own_people_may_be_lenient(self) -> None:
        for address in ("0.0.0.0:25", "[::]:25", "192.0.2.1:25", "[2001:db8::1]:25", "10.0.0.1:25", "systemd:smtp"):
            with self.assertRaises(ConfigurationError, msg=address):
                MailWorld(CONFIGURATION.replace("127.0.0.1:2526", address))

    def test_content_that_never_ends_is_never_delivered(self) -> None:
        for listener, newline in SESSIONS:
            for ending in KNOWN:
                content = HEADER.replace(CRLF, newline) + b"one" + ending + b"two"
                if naive.read_content(content, newline).used is None:
                    codes = self.send(listener, newline, content)
                    self.assertEqual((codes, self.received()), ([220, 250, 250, 250, 354], []), ending)

    def test_it_means_nothing_that_the_content_begins_with_it(self) -> None:
        for listener, newline in SESSIONS:
            for ending in (b".\n", b".\r", b".\r\r\n", b"..\r\n", b"\n.\n", b"\r.\r\n", b"\0.\r\n", b".\0\r\n"):
                if not ending.startswith(b"." + newline):
                    with self.subTest(f"{listener} {newline!r} {ending!r}"):
                        self.judge(listener, newline, ending + HIDDEN.replace(CRLF, newline))


class BorderTests(SmugglingCase):
    """The same wherever the network cuts, and at the borders of our own pieces of 64 KiB."""

    def test_a_cut_anywhere_in_the_ending(self) -> None:
        for (listener, newline), ending in itertools.product(SESSIONS, KNOWN):
            before = HEADER.replace(CRLF, newline) + b"one"
            content = before + ending + HIDDEN.replace(CRLF, newline)
            for cut in range(len(before) - 1, len(before) + len(ending) + 2):
                with self.subTest(f"{listener} {newline!r} {ending!r} {cut}"):
                    self.judge(listener, newline, content, [cut])

    def test_octet_by_octet(self) -> None:
        for (listener, newline), ending in itertools.product(SESSIONS, KNOWN):
            content = (b"a: b\r\n\r\n".replace(CRLF, newline)) + ending + HIDDEN.replace(CRLF, newline)
            self.judge(listener, newline, content, range(1, len(content) + 4))

    def test_an_ending_on_the_border_of_64_kib(self) -> None:
        for (listener, newline), ending in itertools.product(SESSIONS, KNOWN):
            header = HEADER.replace(CRLF, newline)
            for before in range(len(ending) + 2):
                # The border of a piece stands behind so many octets of the ending.
                filling = b"x" * (BLOCK - len(header) - before)
                content = header + filling + ending + HIDDEN.replace(CRLF, newline)
                with self.subTest(f"{listener} {newline!r} {ending!r} {before}"):
                    self.judge(listener, newline, content)

    def test_a_line_of_dots_on_the_border_of_64_kib(self) -> None:
        for listener, newline in SESSIONS:
            for before, dots in itertools.product(range(6), (b"..", b"...", b"..x", b".x")):
                filling = HEADER + b"x" * (BLOCK - len(HEADER) - before)
                content = (filling + CRLF + dots + CRLF + dots + CRLF + b".\r\n").replace(CRLF, newline)
                for cuts in ([], [BLOCK], [BLOCK - 1, BLOCK + 1]):
                    self.assertEqual(self.judge(listener, newline, content, cuts), "one")

    def test_a_true_end_on_the_border_of_64_kib_is_one(self) -> None:
        for listener, newline in SESSIONS:
            for before in range(6):
                header = HEADER.replace(CRLF, newline)
                content = header + b"x" * (BLOCK - len(header) - before) + newline + b"." + newline
                codes = self.send(listener, newline, content + b"NOOP" + newline)
                self.assertEqual(codes[5:], [250, 250, 221])
                self.assertEqual(len(self.received()), 1)

    @given(
        st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"\r\n.", b".", b"..", b"a", b"\0"]), max_size=14).map(
            b"".join
        ),
        st.lists(st.integers(0, 40), max_size=5),
        st.sampled_from(SESSIONS),
    )
    def test_whatever_it_is_it_is_one_message_or_none(
        self, octets: bytes, cuts: list[int], session: tuple[int, bytes]
    ) -> None:
        listener, newline = session
        content = HEADER.replace(CRLF, newline) + octets + HIDDEN.replace(CRLF, newline)
        self.judge(listener, newline, content, cuts)


# The other direction: what leaves.

PEER: Final = Peer("mx.far.test", "192.0.2.25")
JON: Final = Address.parse("jon@far.test")
HEAD: Final = b"Received: from a\r\n\tby b; now\r\n"
_TOKENS = st.sampled_from([b"\r\n", b"\r\n.", b".", b"..", b"a", b"\0", b"\r\n.\r\n", b"\xff", b"x" * 300])
_BARE = st.sampled_from([b"\r", b"\n", b"\n.\n", b"\r.\r", b"\r\n.\n", b"\n.\r\n", b"\r\r\n.\r\r\n"])
#: Where a message is cut into blocks.
_CUTS = st.lists(st.integers(0, 60), max_size=6)


@implementer(IContent)
@frozen
class Kept:
    """Content as a spool keeps it."""

    form: Form
    octets: tuple[bytes, ...]
    size: int = 0

    def blocks(self) -> Iterator[bytes]:
        return iter(self.octets)


def in_blocks(octets: bytes, cuts: Iterable[int]) -> tuple[bytes, ...]:
    edges = [0, *sorted(min(cut, len(octets)) for cut in cuts), len(octets)]
    return tuple(octets[begin:end] for begin, end in itertools.pairwise(edges))


class LeavingTests(SynchronousTestCase):
    """Our client, with any content that a spool could hold, and the octets that the next host gets."""

    def setUp(self) -> None:
        self.clock = Clock()

    def transmit(self, form: Form, blocks: Sequence[bytes]) -> tuple[FakeExchange, Fact | Exception]:
        internet, exchange = FakeInternet(self.clock), FakeExchange()
        internet.add(PEER.address, exchange)
        time = ReactorClock(self.clock, calendar=lambda: 0.0)
        transmitter = SmtpTransmitter(Dialer(internet, time, "mx.test"))
        entry = Entry("Q1", 0.0, Envelope(None), HEAD)
        recipients = (Recipient("R1", JON, JON, Forward("far.test"), "far.test"),)
        consignment = Consignment(entry, recipients, Kept(form, tuple(blocks)), HEAD)
        done: list[Fact | Exception] = []
        waiting = Deferred.fromCoroutine(transmitter.transmit(consignment, PEER))
        waiting.addCallbacks(lambda reports: done.append(reports[0].fact), lambda failure: done.append(failure.value))
        for _ in range(5):
            self.clock.advance(0)
        [fact] = done
        return exchange, fact

    def said(self, exchange: FakeExchange) -> bytes:
        return b"".join(octets for who, octets in exchange.transcript if who == "C")

    def arrives(self, message: bytes, form: Form, blocks: Sequence[bytes]) -> None:
        """One message, this one; and no CR or LF alone among all that we have said."""
        exchange, fact = self.transmit(form, blocks)
        self.assertIsInstance(fact, Carried)
        self.assertEqual(exchange.complaints, [])
        self.assertEqual([each.content for each in exchange.messages], [message])
        said = self.said(exchange)
        self.assertFalse(naive.is_bare(said))
        commands, _, sent = said.partition(b"DATA\r\n")
        self.assertEqual(commands.count(b"\r\n"), 3)
        # Behind the one terminator there is nothing but QUIT.
        self.assertEqual(sent[naive.read_content(sent).used :], b"QUIT\r\n")

    def does_not_arrive(self, form: Form, blocks: Sequence[bytes]) -> None:
        """The connection ends without a terminator, and the next host has nothing."""
        exchange, fact = self.transmit(form, blocks)
        self.assertIsInstance(fact, ContentDamaged)
        self.assertEqual((exchange.messages, exchange.unpromised), ([], []))
        sent = self.said(exchange).partition(b"DATA\r\n")[2]
        self.assertIsNone(naive.read_content(sent).used)
        # Nor has anybody who takes less for an end.
        self.assertNotIn(b"\n.\n", sent.replace(b"\r", b"\n").replace(b"\n\n", b"\n"))

    @given(st.lists(_TOKENS, max_size=12).map(b"".join), _CUTS)
    def test_a_message_in_plain_form_arrives_as_it_is(self, message: bytes, cuts: list[int]) -> None:
        whole = message if not message or message.endswith(b"\r\n") else message + b"\r\n"
        self.arrives(HEAD + whole, Form.PLAIN, in_blocks(message, cuts))

    @given(st.lists(_TOKENS, max_size=12).map(b"".join), _CUTS)
    def test_a_message_in_wire_form_arrives_as_it_is(self, message: bytes, cuts: list[int]) -> None:
        whole = message if not message or message.endswith(b"\r\n") else message + b"\r\n"
        self.arrives(HEAD + whole, Form.WIRE, in_blocks(naive.stuff(message), cuts))

    @given(st.lists(_TOKENS, max_size=6).map(b"".join), _BARE, st.lists(_TOKENS, max_size=6).map(b"".join), _CUTS)
    def test_a_cr_or_lf_alone_in_plain_form_does_not(
        self, before: bytes, bare: bytes, after: bytes, cuts: list[int]
    ) -> None:
        self.does_not_arrive(Form.PLAIN, in_blocks(before + b"a" + bare + b"a" + after, cuts))

    @given(st.lists(_TOKENS, max_size=6).map(b"".join), st.lists(_TOKENS, max_size=6).map(b"".join), _CUTS)
    def test_what_stands_behind_a_terminator_does_not(self, before: bytes, after: bytes, cuts: list[int]) -> None:
        damaged = naive.stuff(before) + HIDDEN + naive.stuff(after)
        self.does_not_arrive(Form.WIRE, in_blocks(damaged, cuts))

    def test_dots_and_ends_on_the_border_of_64_kib_arrive_as_they_are(self) -> None:
        for ending, before in itertools.product((b"\r\n.", b"\r\n..\r\n", b"\r\n.\r\n", b".\r\n.\r\n."), range(6)):
            message = b"a: b\r\n\r\n" + b"x" * (BLOCK - 8 - before) + ending + b"y\r\n"
            for cuts in ([], [BLOCK], [BLOCK - 1, BLOCK, BLOCK + 1]):
                self.arrives(HEAD + message, Form.PLAIN, in_blocks(message, cuts))
                self.arrives(HEAD + message, Form.WIRE, in_blocks(naive.stuff(message), cuts))
