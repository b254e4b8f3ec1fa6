from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from attrs import evolve, frozen
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from relay.agents.needs import proposal_for, transaction_for
from relay.agents.pool import Lines
from relay.agents.smtp import SmtpTransmitter
from relay.interfaces import Consignment, IContent, ITransmitter, Report
from relay.mail.address import Address
from relay.mail.dsn import NO_WISHES, Notify, Return, Wishes
from relay.mail.envelope import Body, ByMode, DeliverBy, Envelope, Form
from relay.mail.outcome import Answered, Breakage, Broke, Carried, Fact, Need, Peer, Phase, Unsuitable
from relay.mail.queue import Entry, Recipient
from relay.mail.reply import Reply
from relay.mail.routing import Forward, NextHop
from relay.net.client import Dialer
from relay.net.clock import ReactorClock
from relay.smtp.course import spoken
from relay.smtp.features import Features
from relay.smtp.parameters import Terms, lacking, mail, rcpt
from relay.testing.internet import FakeInternet, whole
from relay.testing.peers import OFFERS, Drop, FakeExchange, Say, Stall

PEER = Peer("mx.example.net", "192.0.2.9")
SENDER = Address.parse("sender@example.org")
JON, ANN, JÖRG = (Address.parse(f"{name}@example.net") for name in ("jon", "ann", "jörg"))
HEAD = b"Received: from a by b; now\r\n"
MESSAGE = b"Subject: hello\r\n\r\nhello\r\n"


@implementer(IContent)
@frozen
class Kept:
    """Content as a spool would keep it."""

    form: Form
    octets: tuple[bytes, ...]
    size: int

    def blocks(self) -> Iterator[bytes]:
        yield from self.octets


def kept(plain: bytes, form: Form = Form.PLAIN, at: Iterable[int] = ()) -> Kept:
    """A message that was received in one form or the other, in blocks that end anywhere."""
    octets = plain
    if form is Form.WIRE:
        lines = (b"\r\n" + plain).replace(b"\r\n.", b"\r\n..")[2:]
        octets = lines + (b".\r\n" if not plain or plain.endswith(b"\r\n") else b"\r\n.\r\n")
    edges = [0, *sorted({index % (len(octets) + 1) for index in at}), len(octets)]
    blocks = tuple(octets[edges[index] : edges[index + 1]] for index in range(len(edges) - 1))
    return Kept(form, blocks, len(plain))


def consignment(
    content: Kept | None = None,
    recipients: Sequence[Address] = (JON, ANN),
    *,
    reverse_path: Address | None = SENDER,
    body: Body = Body.SEVEN_BIT,
    smtputf8: bool = False,
    head: bytes = HEAD,
) -> Consignment:
    entry = Entry("Q1", 0.0, Envelope(reverse_path, body, smtputf8), head)
    return Consignment(
        entry,
        tuple(
            Recipient(f"R{index}", address, address, Forward("example.net"), "example.net")
            for index, address in enumerate(recipients)
        ),
        content or kept(MESSAGE),
        head,
    )


class TransmitTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.internet = FakeInternet(self.clock)
        self.exchange = FakeExchange()
        self.internet.add(PEER.address, self.exchange)
        clock = ReactorClock(self.clock, calendar=lambda: 0.0)  # type: ignore[arg-type]
        self.transmitter = SmtpTransmitter(Dialer(self.internet, clock, "relay.example.org"))

    def begin(self, consignment: Consignment, peer: Peer = PEER) -> Deferred[Sequence[Report]]:
        reports = Deferred.fromCoroutine(self.transmitter.transmit(consignment, peer))
        self.clock.advance(0)
        return reports

    def transmit(self, consignment: Consignment, peer: Peer = PEER) -> list[Fact]:
        """The facts about the recipients, in their order."""
        reports = self.successResultOf(self.begin(consignment, peer))
        self.assertEqual(tuple(report.recipient for report in reports), consignment.recipients)
        self.assertEqual(self.exchange.open, 0)
        self.assertEqual(self.exchange.complaints, [])
        return [report.fact for report in reports]


class TransmitTests(TransmitTestCase):
    def test_it_provides_what_carries_mail_onward(self) -> None:
        verifyObject(ITransmitter, self.transmitter)

    def test_a_message_is_carried_onward_and_quit_is_said_behind_it(self) -> None:
        facts = self.transmit(consignment())
        self.assertEqual(facts, [Carried(True, "mx.example.net[192.0.2.9]:25", "250 2.0.0 Ok: queued as 1")] * 2)
        (message,) = self.exchange.messages
        self.assertEqual(message.reverse_path, "sender@example.org")
        self.assertEqual(message.recipients, ("jon@example.net", "ann@example.net"))
        self.assertEqual(message.content, HEAD + MESSAGE)
        self.assertEqual(message.hello, "relay.example.org")
        self.assertEqual(message.parameters, (f"SIZE={len(HEAD + MESSAGE)}",))
        self.assertIn(("C", b"QUIT\r\n"), self.exchange.transcript)

    def test_nobody_waits_for_the_answer_to_quit(self) -> None:
        self.exchange.at("QUIT", Stall())
        self.assertIsInstance(self.successResultOf(self.begin(consignment()))[0].fact, Carried)
        self.assertEqual(self.exchange.open, 1)
        self.clock.advance(5)
        self.assertEqual(self.exchange.open, 0)

    def test_each_recipient_has_its_own_fact(self) -> None:
        self.exchange.at("RCPT", Say("550 5.1.1 Unknown"), about="jon@")
        answered, carried = self.transmit(consignment())
        self.assertEqual(answered, Answered(Reply.of(550, "5.1.1", "Unknown"), Phase.RCPT, PEER))
        self.assertIsInstance(carried, Carried)

    def test_a_host_that_cannot_be_reached_is_a_fact_for_everybody(self) -> None:
        for fact in self.transmit(consignment(), Peer("mx.example.net", "192.0.2.77")):
            assert isinstance(fact, Broke)
            self.assertEqual((fact.breakage, fact.phase), (Breakage.UNREACHABLE, Phase.CONNECT))

    def test_a_server_of_rfc_821_is_sent_what_it_can_take(self) -> None:
        self.exchange.extended = False
        self.assertIsInstance(self.transmit(consignment())[1], Carried)
        self.assertEqual(self.exchange.messages[0].parameters, ())

    def test_a_connection_lost_before_the_reply_to_the_content_is_no_failure_of_the_transmitter(self) -> None:
        self.exchange.at("END", Drop())
        self.assertEqual(self.transmit(consignment()), [Broke(Breakage.LOST, Phase.END, PEER)] * 2)

    def test_damaged_content_is_raised_and_nothing_of_it_is_a_message(self) -> None:
        for damaged in (
            Kept(Form.WIRE, (b"Subject: x\r\n",), 12),
            Kept(Form.WIRE, (b"a\r\n.\r\nMAIL FROM:<x@y>\r\n.\r\n",), 20),
            Kept(Form.PLAIN, (b"a\n.\nb\r\n",), 6),
        ):
            self.failureResultOf(self.begin(consignment(damaged)), ValueError)
            self.clock.advance(0)
            self.assertEqual(self.exchange.open, 0)
        self.assertEqual(self.exchange.messages + self.exchange.unpromised, [])

    def test_cancelling_closes_the_connection(self) -> None:
        for moment in ("GREETING", "MAIL", "END"):
            self.exchange.at(moment, Stall(), times=1)
            reports = self.begin(consignment())
            reports.cancel()
            self.failureResultOf(reports, CancelledError)
            self.clock.advance(0)
            self.assertEqual((self.exchange.open, self.clock.getDelayedCalls()), (0, []))


class NeedTests(TransmitTestCase):
    """What a message needs is asked for, and what it needs and is not offered keeps it here."""

    UTF8 = "Subject: grüße\r\n\r\nhello\r\n".encode()
    EIGHT = "Subject: hello\r\n\r\ngrüße\r\n".encode()

    def offer(self, *offers: str) -> None:
        self.exchange.offers = offers

    def parameters(self, consignment: Consignment) -> tuple[str, ...]:
        facts = self.transmit(consignment)
        self.assertEqual([type(fact) for fact in facts], [Carried] * len(facts))
        return tuple(each for each in self.exchange.messages[-1].parameters if not each.startswith("SIZE="))

    def test_content_that_was_declared_is_declared_again(self) -> None:
        for plain in (self.EIGHT, MESSAGE):
            declared = consignment(kept(plain), body=Body.EIGHT_BIT)
            self.assertEqual(self.parameters(declared), ("BODY=8BITMIME",))

    def test_declared_content_of_7_bits_needs_nothing(self) -> None:
        self.offer("PIPELINING")
        self.assertEqual(self.parameters(consignment(body=Body.EIGHT_BIT)), ())

    def test_declared_content_of_8_bits_is_not_sent_where_8bitmime_is_not_offered(self) -> None:
        self.offer("PIPELINING")
        for content in (kept(self.EIGHT), kept(self.EIGHT, Form.WIRE, range(50))):
            facts = self.transmit(consignment(content, body=Body.EIGHT_BIT))
            self.assertEqual(facts, [Unsuitable(Need.EIGHT_BIT, PEER)] * 2)
        facts = self.transmit(consignment(body=Body.EIGHT_BIT, head="X: ü\r\n".encode()))
        self.assertEqual(facts, [Unsuitable(Need.EIGHT_BIT, PEER)] * 2)

    def test_8_bits_that_nobody_declared_are_sent_as_they_came(self) -> None:
        for offers in (("PIPELINING",), OFFERS):
            self.offer(*offers)
            self.assertEqual(self.parameters(consignment(kept(self.EIGHT))), ())
            self.assertEqual(self.exchange.messages[-1].content, HEAD + self.EIGHT)

    def test_smtputf8_is_asked_for_only_by_what_needs_it(self) -> None:
        for sent, asked in (
            (consignment(smtputf8=True), ()),
            (consignment(kept(self.EIGHT), smtputf8=True), ()),
            (consignment(kept(self.UTF8), smtputf8=True), ("BODY=8BITMIME", "SMTPUTF8")),
            (consignment(smtputf8=True, head="Received: für\r\n".encode()), ("BODY=8BITMIME", "SMTPUTF8")),
            (consignment(recipients=[JÖRG], smtputf8=True), ("SMTPUTF8",)),
            # An alias may stand for an address that the client never knew of.
            (consignment(recipients=[JÖRG]), ("SMTPUTF8",)),
            (consignment(reverse_path=JÖRG, smtputf8=True), ("SMTPUTF8",)),
            # A header that is not ASCII is as old as mail; nobody said that it was UTF-8.
            (consignment(kept(self.UTF8)), ()),
        ):
            self.assertEqual(self.parameters(sent), asked)

    def test_what_does_not_need_smtputf8_goes_where_it_is_not_offered(self) -> None:
        self.offer("8BITMIME")
        for sent in (consignment(smtputf8=True), consignment(kept(self.EIGHT), smtputf8=True)):
            self.assertEqual(self.parameters(sent), ())

    def test_what_needs_smtputf8_does_not(self) -> None:
        self.offer("8BITMIME")
        unsuitable = Unsuitable(Need.SMTPUTF8, PEER)
        for sent in (
            consignment(kept(self.UTF8), smtputf8=True),
            consignment(kept(self.UTF8, Form.WIRE, range(60)), smtputf8=True),
            consignment(reverse_path=JÖRG, smtputf8=True),
        ):
            self.assertEqual(self.transmit(sent), [unsuitable] * 2)
        facts = self.transmit(consignment(recipients=[JON, JÖRG], smtputf8=True))
        self.assertEqual(facts[1], unsuitable)
        self.assertIsInstance(facts[0], Carried)

    def test_the_header_section_ends_at_the_empty_line_wherever_the_blocks_end(self) -> None:
        for plain, head, international in (
            (self.UTF8, HEAD, True),
            (self.EIGHT, HEAD, False),
            ("\r\nü\r\n".encode(), HEAD, False),
            ("\r\nü\r\n".encode(), b"", False),
            ("ü\r\n".encode(), b"", True),
            (b"", b"", False),
            ("Subject: x\r\nX: ü".encode(), b"", True),
        ):
            for at in ((), range(60), range(0, 60, 2), range(1, 60, 3)):
                sent = consignment(kept(plain, at=at), smtputf8=True, head=head)
                self.assertEqual(transaction_for(sent, Features()).international, international, (plain, at))

    @given(
        st.builds(
            Envelope,
            reverse_path=st.sampled_from([SENDER, None, JÖRG]),
            body=st.sampled_from(Body),
            smtputf8=st.booleans(),
            returns=st.sampled_from([None, None, Return.HEADERS]),
            envid=st.sampled_from(["", "", "QQ"]),
            require_tls=st.booleans(),
            priority=st.sampled_from([None, None, 0]),
            deliver_by=st.sampled_from([None, None, DeliverBy(9.0, ByMode.NOTIFY)]),
        )
        | st.builds(Envelope, st.sampled_from([SENDER, None]), st.sampled_from(Body)),
        st.builds(
            Recipient,
            st.just("R1"),
            st.sampled_from([JON, JÖRG]),
            st.sampled_from([JON, JÖRG, Address("a+b=c d", "example.net"), Address("x" * 64, "y" * 440)]),
            st.sampled_from([Forward("example.net"), Forward("example.net", reverse_path=ANN)]),
            st.just("example.net"),
            wishes=st.sampled_from([NO_WISHES, Wishes(None, "rfc822;x@y"), Wishes(frozenset({Notify.NEVER}))]),
        ),
        st.sampled_from(Form),
        st.sets(st.sampled_from(["DSN", "8BITMIME", "CHUNKING", "BINARYMIME", "SMTPUTF8"])),
        st.booleans(),
    )
    @example(
        Envelope(SENDER),
        Recipient("R1", JON, JON, Forward("example.net"), "example.net", wishes=Wishes(frozenset({Notify.NEVER}))),
        Form.WIRE,
        {"DSN"},
        False,
    )
    @example(
        Envelope(SENDER, Body.EIGHT_BIT),
        Recipient("R1", JON, ANN, Forward("b"), "b"),
        Form.WIRE,
        {"DSN", "8BITMIME"},
        False,
    )
    @example(Envelope(SENDER), Recipient("R1", JON, ANN, Forward("b"), "b"), Form.PLAIN, {"CHUNKING"}, False)
    @example(Envelope(SENDER), Recipient("R1", JON, ANN, Forward("b"), "b"), Form.WIRE, {"DSN"}, True)
    def test_what_needs_no_closer_look_is_what_a_closer_look_finds(
        self, envelope: Envelope, recipient: Recipient, form: Form, offers: set[str], lmtp: bool
    ) -> None:
        features = Features.offered(("mx", "PIPELINING", *offers))
        terms = Terms(features, lmtp=lmtp)
        sent = evolve(
            consignment(kept(self.EIGHT, form)),
            entry=Entry("Q1", 0.0, envelope, HEAD),
            recipients=(recipient,),
        )
        proposal = proposal_for(sent, terms)
        found = transaction_for(sent, features)
        if proposal:
            self.assertFalse(found.chunked)
            self.assertIsNone(lacking(found, terms))
            self.assertEqual(proposal, spoken((mail(found, terms), rcpt(found, 0, terms), "DATA")))
        elif envelope == Envelope(envelope.reverse_path) and recipient.wishes is NO_WISHES:
            ascii = recipient.address.ascii and (found.reverse_path is None or found.reverse_path.ascii)
            self.assertTrue(found.chunked or not ascii)

    def test_messages_that_go_another_way_are_not_met_on_the_way_that_is_known(self) -> None:
        hop = NextHop(PEER.address, mx=False, tls="may")
        for _ in range(2):
            in_clear, guarded = (
                evolve(consignment(), entry=Entry("Q1", 0.0, envelope, HEAD), next_hop=hop)
                for envelope in (Envelope(SENDER), Envelope(SENDER, require_tls=True))
            )
            self.assertIsInstance(self.transmit(in_clear)[0], Carried)
            self.assertEqual(self.transmit(guarded)[0], Unsuitable(Need.REQUIRE_TLS, PEER))
            self.assertIsInstance(self.transmit(evolve(in_clear, next_hop=evolve(hop, tls="none")))[0], Carried)

    def test_a_message_that_must_not_travel_in_clear_goes_its_own_way(self) -> None:
        peer, hop = evolve(PEER, assured=True), NextHop(PEER.address, mx=False, tls="may")
        levels = []
        for envelope in (Envelope(SENDER), Envelope(SENDER, require_tls=True)) * 2:
            lines = self.transmitter._lines(
                evolve(consignment(), entry=Entry("Q1", 0.0, envelope, HEAD), next_hop=hop), peer
            )
            assert isinstance(lines, Lines)
            levels.append(lines.way.tls)
        self.assertEqual(levels, ["may", "verify"] * 2)

    def test_what_is_known_of_ways_is_bounded(self) -> None:
        self.internet.add(PEER.address, self.exchange)
        for _ in range(600):
            hop = NextHop(PEER.address, mx=False, tls="none")
            self.assertIsInstance(self.transmit(evolve(consignment(), next_hop=hop))[0], Carried)
        self.assertLess(len(self.transmitter._known), 300)

    def test_a_message_larger_than_the_host_takes_stays_here(self) -> None:
        size = len(HEAD + MESSAGE)
        self.offer(f"SIZE {size - 1}")
        self.assertEqual(self.transmit(consignment()), [Unsuitable(Need.SIZE, PEER)] * 2)
        self.offer(f"SIZE {size}")
        self.assertIsInstance(self.transmit(consignment())[0], Carried)


#: All that matters at a border: dots, line ends, what looks like the terminator.
contents = st.lists(
    st.sampled_from([b".", b"..", b"\r\n", b"\r\n.\r\n", b"a", b"\xff\x00", b"QUIT\r\n", b"x" * 300]), max_size=30
).map(b"".join)


class WireTests(TransmitTestCase):
    @given(
        contents,
        st.sampled_from([Form.PLAIN, Form.WIRE]),
        st.lists(st.integers(0, 10**6), max_size=8),
        st.sampled_from([whole, lambda waiting: 1, lambda waiting: 1 + waiting // 3]),
    )
    def test_what_arrives_is_the_head_and_the_message(self, plain, form, at, cut) -> None:  # type: ignore[no-untyped-def]
        self.setUp()
        self.internet.cut = cut
        self.assertIsInstance(self.transmit(consignment(kept(plain, form, at)))[0], Carried)
        ended = plain if not plain or plain.endswith(b"\r\n") else plain + b"\r\n"
        self.assertEqual(self.exchange.messages[0].content, HEAD + ended)
