"""
Smuggling where content comes or goes otherwise than by DATA in clear: LMTP, behind STARTTLS, by BDAT, as BINARYMIME.

As in `test_smuggling`, everything goes through the whole relay and is judged by what the next host receives; which is
told by DATA, or by BDAT, or takes BINARYMIME too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Final

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.testing.peers import OFFERS, Message
from tests.fuzz import naive
from tests.smtp.test_smuggling import CRLF, ENDINGS, HEADER, HIDDEN, KNOWN, LF, SmugglingCase
from tests.stage import StagedWorld

CONFIGURATION = """
hostname = "mx.test"

[[listener]]
name    = "world"
address = "192.0.2.1:25"
tls     = "offer"
also    = ["BINARYMIME"]

[[listener]]
name     = "lmtp"
address  = "127.0.0.1:24"
protocol = "lmtp"
newlines = "lenient"
also     = ["BINARYMIME"]

[[policy]]
use = "forward"
"""
WORLD, LMTP = range(2)
CHUNKED: Final = (*OFFERS, "CHUNKING")
BINARY: Final = (*CHUNKED, "BINARYMIME")
#: By what the next host may be told of content.
NEXT_HOPS: Final = {"DATA": OFFERS, "BDAT": CHUNKED, "BINARYMIME": BINARY}


class StagedCase(SmugglingCase):
    """The same relay, with other ways in."""

    world: StagedWorld  # type: ignore[assignment]
    #: Whether the session is behind a handshake.
    handshake = False
    offers: tuple[str, ...] = OFFERS

    def setUp(self) -> None:
        self.world = StagedWorld(CONFIGURATION)
        self.next_hop = self.world.exchange("far.test", "192.0.2.25", offers=self.offers)

    def send(self, listener: int, newline: bytes, content: bytes, cuts: Iterable[int] = ()) -> list[int]:
        client = self.world.meet("127.0.0.1", listener)
        codes = client.greeting
        if self.handshake:
            client.codes("EHLO c", "STARTTLS")
            client.handshake()
        hello = b"LHLO c" if listener == LMTP else b"EHLO c"
        opening = newline.join((hello, b"MAIL FROM:<ann@here.test>", b"RCPT TO:<bob@far.test>", b"DATA", b""))
        content += b"QUIT" + newline
        edges = [0, *sorted(cuts), len(content)]
        first, *rest = (content[begin:end] for begin, end in itertools.pairwise(edges))
        client.send(opening + first)
        for piece in rest:
            client.send(piece)
        codes = codes + client.replies()
        self.world.settle()
        client.hang_up()
        return [int(line[:3]) for line in codes if line[3:4] != "-"]

    def run_matrix(self, listener: int, newline: bytes) -> None:
        hidden = HIDDEN.replace(CRLF, newline)
        if listener == LMTP:
            hidden = b"LHLO d" + newline + hidden
        came: dict[str, set[bytes]] = {"one": set(), "none": set(), "two": set()}
        for ending in ENDINGS:
            with self.subTest(ending):
                before = (HEADER + b"one").replace(CRLF, newline)
                came[self.judge(listener, newline, before + ending + hidden)].add(ending)
        self.assertGreater(min(len(came["one"]), len(came["none"]) - 180), 20)
        true_end = newline + b"." + newline
        self.assertEqual(came["two"], {ending for ending in ENDINGS if true_end in ending})


class LmtpTests(StagedCase):
    def test_strict(self) -> None:
        self.run_matrix(LMTP, CRLF)

    def test_lenient(self) -> None:
        self.run_matrix(LMTP, LF)

    def test_several_recipients_hear_of_one_message_each(self) -> None:
        """A reply too many or too few would answer another message's content."""
        for ending in KNOWN:
            client = self.world.meet("127.0.0.1", LMTP)
            recipients = [f"RCPT TO:<{name}@far.test>" for name in ("a", "b", "c")]
            self.assertEqual(client.codes("LHLO c", "MAIL FROM:<>", *recipients, "DATA"), [250] * 5 + [354])
            content = HEADER + b"one" + ending + HIDDEN
            expected = naive.read_content(content)
            client.send(content + b"NOOP\r\n")
            self.world.settle()
            codes = client.codes()
            self.assertEqual(codes, [550 if expected.has_bare_newline else 250] * 3 + [250], ending)
            self.assertEqual(len(self.received()), 0 if expected.has_bare_newline else 1)


class BehindStartTlsTests(StagedCase):
    handshake = True

    def test_strict(self) -> None:
        self.run_matrix(WORLD, CRLF)


class OnwardByChunksTests(StagedCase):
    """What came by DATA goes on by BDAT: the dots that were doubled are doubled no more."""

    offers = CHUNKED

    def test_strict(self) -> None:
        self.run_matrix(WORLD, CRLF)

    def test_what_is_no_end_for_us_is_content_for_the_next_host(self) -> None:
        for dots in (b"..", b"...", b"..x", b".x"):
            self.assertEqual(self.judge(WORLD, CRLF, HEADER + dots + CRLF + dots + CRLF + b".\r\n"), "one")


class ChunkCase(SynchronousTestCase):
    """Content by BDAT, to each kind of next host."""

    def setUp(self) -> None:
        self.worlds = {name: StagedWorld(CONFIGURATION) for name in NEXT_HOPS}
        self.hops = {
            name: world.exchange("far.test", "192.0.2.25", offers=NEXT_HOPS[name])
            for name, world in self.worlds.items()
        }

    def send(self, hop: str, chunks: Iterable[bytes], *, body: str = "8BITMIME", listener: int = WORLD) -> list[int]:
        client = self.worlds[hop].meet("127.0.0.1", listener)
        pieces = list(chunks)
        octets = b"".join(
            b"BDAT %d%s\r\n" % (len(piece), b" LAST" if number == len(pieces) - 1 else b"") + piece
            for number, piece in enumerate(pieces)
        )
        self.assertEqual(
            client.codes(
                "LHLO c" if listener == LMTP else "EHLO c",
                f"MAIL FROM:<ann@here.test> BODY={body}",
                "RCPT TO:<bob@far.test>",
            ),
            [250] * 3,
        )
        client.send(octets + b"NOOP\r\nQUIT\r\n")
        self.worlds[hop].settle()
        codes = client.codes()
        client.hang_up()
        return codes

    def received(self, hop: str) -> list[Message]:
        exchange = self.hops[hop]
        messages = list(exchange.messages)
        exchange.messages.clear()
        self.assertEqual((exchange.complaints, exchange.unpromised), ([], []))
        return messages

    def judge(self, hop: str, chunks: Iterable[bytes], *, listener: int = WORLD) -> None:
        """It is one message, the same one, or none."""
        pieces = list(chunks)
        content = b"".join(pieces)
        codes = self.send(hop, pieces, listener=listener)
        messages = self.received(hop)
        self.assertEqual(self.worlds[hop].spool.shelf.entries, {})
        if naive.is_bare(content):
            self.assertIn(550, codes)
            self.assertEqual((codes[-2:], messages), ([250, 221], []))
            return
        self.assertEqual(codes, [250] * (len(pieces) + 1) + [221])
        [message] = [each for each in messages if each.reverse_path == "ann@here.test"]
        self.assertEqual((len(messages), message.recipients), (1, ("bob@far.test",)))
        # A last line without an end has to have one where it is said by DATA.
        end = b"" if content.endswith(CRLF) or hop != "DATA" else CRLF
        self.assertTrue(message.content.endswith(b" +0000\r\n" + content + end), message.content)


class ChunkTests(ChunkCase):
    def test_every_ending_in_one_chunk(self) -> None:
        for hop, ending in itertools.product(NEXT_HOPS, ENDINGS):
            with self.subTest(f"{hop} {ending!r}"):
                self.judge(hop, [HEADER + b"one" + ending + HIDDEN])

    def test_every_known_ending_on_each_border_of_chunks(self) -> None:
        for hop, ending in itertools.product(NEXT_HOPS, KNOWN):
            content = HEADER + b"one" + ending + HIDDEN
            begin = len(HEADER) + 3
            for cut in range(begin - 1, begin + len(ending) + 2):
                with self.subTest(f"{hop} {ending!r} {cut}"):
                    self.judge(hop, [content[:cut], content[cut:]])

    def test_lmtp(self) -> None:
        for hop, ending in itertools.product(NEXT_HOPS, KNOWN):
            content = HEADER + b"one" + ending + HIDDEN
            self.judge(hop, [content[:20], content[20:]], listener=LMTP)

    @given(
        st.sampled_from(sorted(NEXT_HOPS)),
        st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"\r\n.", b".", b"a", b"\0"]), max_size=12).map(b"".join),
        st.lists(st.integers(0, 40), max_size=4),
    )
    def test_whatever_it_is_it_is_one_message_or_none(self, hop: str, octets: bytes, cuts: list[int]) -> None:
        content = HEADER + octets + HIDDEN
        edges = [0, *sorted(cuts), len(content)]
        self.judge(hop, [content[begin:end] for begin, end in itertools.pairwise(edges)])


class BinaryTests(ChunkCase):
    """BINARYMIME may have any octets. So it goes on by BDAT, or not at all."""

    def test_it_goes_on_only_where_it_is_taken_and_not_an_octet_changed(self) -> None:
        for hop, ending in itertools.product(NEXT_HOPS, KNOWN):
            content = HEADER + b"one" + ending + HIDDEN
            with self.subTest(f"{hop} {ending!r}"):
                self.assertEqual(self.send(hop, [content], body="BINARYMIME"), [250, 250, 221])
                messages = [each for each in self.received(hop) if each.reverse_path == "ann@here.test"]
                if hop == "BINARYMIME" or not (naive.is_bare(content) or b"\0" in content):
                    # What has lines in spite of its name may be told in lines.
                    [message] = messages
                    self.assertTrue(message.content.endswith(b" +0000\r\n" + content))
                else:
                    self.assertEqual(messages, [])

    def test_what_was_declared_otherwise_is_held_to_it(self) -> None:
        for body, hop in itertools.product(("7BIT", "8BITMIME"), NEXT_HOPS):
            self.assertEqual(self.send(hop, [HEADER + b"a\n.\nb"], body=body), [550, 250, 221])
            self.assertEqual(self.received(hop), [])

    def test_data_brings_no_such_content(self) -> None:
        client = self.worlds["BINARYMIME"].meet("127.0.0.1", WORLD)
        said = client.codes("EHLO c", "MAIL FROM:<a@b.test> BODY=BINARYMIME", "RCPT TO:<bob@far.test>", "DATA", "NOOP")
        self.assertEqual(said, [250, 250, 250, 503, 250])

    def test_what_was_declared_for_one_message_counts_for_no_other(self) -> None:
        for between in (b"RSET\r\n", b"EHLO d\r\n", b"BDAT 3 LAST\r\na\nb"):
            client = self.worlds["BINARYMIME"].meet("127.0.0.1", WORLD)
            opening = b"MAIL FROM:<a@b.test>%s\r\nRCPT TO:<bob@far.test>\r\n"
            client.send(b"EHLO c\r\n" + opening % b" BODY=BINARYMIME" + between + opening % b"")
            client.send(b"BDAT 3 LAST\r\na\nb")
            self.worlds["BINARYMIME"].settle()
            self.assertEqual(client.codes()[-3:], [250, 250, 550], between)
