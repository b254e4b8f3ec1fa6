"""The header of a proxy: who it says the client is, and that nothing else is taken for one."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.smtp.proxy import Announced, Heard, Nonsense, ProxyReader
from tests.smtp.test_octets import CUTS, cut

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
TCP4, UDP4, TCP6, UDP6, UNIX_STREAM, UNIX_DATAGRAM, UNSPECIFIED = 0x11, 0x12, 0x21, 0x22, 0x31, 0x32, 0x00


def heard(octets: bytes) -> Heard:
    """What is made of octets that come in one segment."""
    return ProxyReader().receive_data(octets)


def heard_in_pieces(pieces: list[bytes]) -> tuple[Heard, bytes]:
    """What is made of octets that come in pieces, and those that came after the answer."""
    reader = ProxyReader()
    for number, piece in enumerate(pieces, 1):
        answer = reader.receive_data(piece)
        if answer is not None:
            return answer, b"".join(pieces[number:])
    return None, b""


def block(command: int, family: int, addresses: bytes, length: int | None = None) -> bytes:
    length = len(addresses) if length is None else length
    return SIGNATURE + bytes((command, family)) + length.to_bytes(2) + addresses


def addresses(source: str, port: int) -> bytes:
    ip = IPv6Address(source) if ":" in source else IPv4Address(source)
    return ip.packed + type(ip)(1).packed + port.to_bytes(2) + b"\x00\x19"


def tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + len(value).to_bytes(2) + value


IPS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
PORTS = st.integers(0, 65535)


@st.composite
def headers(draw: st.DrawFn) -> tuple[bytes, str, int]:
    """A header of either version, and the client that it names."""
    ip, port = draw(IPS), draw(PORTS)
    if draw(st.booleans()):
        family, other = ("TCP6", "::1") if ":" in ip else ("TCP4", "192.0.2.1")
        return f"PROXY {family} {ip} {other} {port} 25\r\n".encode(), ip, port
    more = b"".join(draw(st.lists(st.builds(tlv, st.integers(0, 255), st.binary(max_size=20)), max_size=3)))
    return block(PROXY, TCP6 if ":" in ip else TCP4, addresses(ip, port) + more), ip, port


def canonical(ip: str) -> str:
    mapped = IPv6Address(ip).ipv4_mapped if ":" in ip else None
    return str(mapped or ip)


class LineTests(SynchronousTestCase):
    def test_a_line_names_the_client(self) -> None:
        self.assertEqual(
            heard(b"PROXY TCP4 192.0.2.7 192.0.2.25 56324 25\r\nEHLO c\r\n"),
            Announced("192.0.2.7", 56324, b"EHLO c\r\n"),
        )
        self.assertEqual(
            heard(b"PROXY TCP6 2001:DB8:0::7 2001:db8::25 56324 25\r\n"), Announced("2001:db8::7", 56324, b"")
        )

    def test_a_client_of_ipv4_on_a_socket_of_ipv6_is_one_of_ipv4(self) -> None:
        for source in (b"::ffff:192.0.2.7", b"::ffff:c000:207"):
            self.assertEqual(heard(b"PROXY TCP6 " + source + b" ::1 1 25\r\n"), Announced("192.0.2.7", 1, b""))
        self.assertEqual(heard(block(PROXY, TCP6, addresses("::ffff:192.0.2.7", 1))), Announced("192.0.2.7", 1, b""))

    def test_an_unknown_client_has_the_address_of_the_connection(self) -> None:
        for line in (
            b"PROXY UNKNOWN\r\n",
            b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n",
            b"PROXY UNKNOWN \xff anything at all\r\n",
        ):
            self.assertEqual(heard(line + b"NOOP\r\n"), Announced(None, 0, b"NOOP\r\n"))

    def test_the_longest_line_is_read_and_a_longer_one_is_not(self) -> None:
        line = b"PROXY UNKNOWN " + b"x" * 91
        self.assertEqual(heard(line + b"\r\n"), Announced(None, 0, b""))
        self.assertIsInstance(heard(line + b"x\r\n"), Nonsense)
        self.assertIsNone(heard(line + b"\r"))
        self.assertIsInstance(heard(line + b"xx"), Nonsense)

    def test_what_is_written_otherwise_is_nonsense(self) -> None:
        for line in (
            b"PROXY TCP4 192.0.2.7 192.0.2.25 56324 25\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.25 56324\n 25\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.25 56324 25\r\r\n",
            b"PROXY UNKNOWN\r\r\n",
            b"PROXY UNKNOWN \r x\r\n",
            b"PROXY UNKNOWN x\r\r\n",
            b"PROXY UNKNOWN\nEHLO",
            b"PROXY UNKNOWNX\r\n",
            b"proxy TCP4 192.0.2.7 192.0.2.25 56324 25\r\n",
            b"PROXY tcp4 192.0.2.7 192.0.2.25 56324 25\r\n",
            b"PROXY UDP4 192.0.2.7 192.0.2.25 56324 25\r\n",
            b"PROXY TCP4  192.0.2.7 192.0.2.25 56324 25\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.25 56324 25 \r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.25 56324\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.25 065 25\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.25 +65 25\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.25 6_5 25\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.25 65536 25\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.25 65 000025\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.25 65 \r\n",
            b"PROXY TCP4 192.0.2.07 192.0.2.25 56324 25\r\n",
            b"PROXY TCP4 192.0.2 192.0.2.25 56324 25\r\n",
            b"PROXY TCP4 192.0.2.256 192.0.2.25 56324 25\r\n",
            b"PROXY TCP4 192.0.2.7 2001:db8::1 56324 25\r\n",
            b"PROXY TCP4 2001:db8::1 192.0.2.7 56324 25\r\n",
            b"PROXY TCP6 192.0.2.7 192.0.2.25 56324 25\r\n",
            b"PROXY TCP6 fe80::1%eth0 2001:db8::1 56324 25\r\n",
            b"PROXY TCP6 2001:db8:::1 2001:db8::1 56324 25\r\n",
            b"PROXY TCP4 192.0.2.\xb2 192.0.2.25 56324 25\r\n",
            b"PROXY \r\n",
            b"PROXY\r\n",
        ):
            with self.subTest(line):
                self.assertIsInstance(heard(line), Nonsense)


class BlockTests(SynchronousTestCase):
    def test_a_block_names_the_client(self) -> None:
        self.assertEqual(
            heard(block(PROXY, TCP4, addresses("192.0.2.7", 56324)) + b"EHLO c\r\n"),
            Announced("192.0.2.7", 56324, b"EHLO c\r\n"),
        )
        self.assertEqual(
            heard(block(PROXY, TCP6, addresses("2001:db8::7", 56324))), Announced("2001:db8::7", 56324, b"")
        )

    def test_what_stands_behind_the_addresses_is_skipped(self) -> None:
        more = tlv(1, b"smtp") + tlv(0xE0, b"\r\n" * 100) + b"\xff"
        self.assertEqual(
            heard(block(PROXY, TCP4, addresses("192.0.2.7", 1) + more) + b"NOOP"), Announced("192.0.2.7", 1, b"NOOP")
        )

    def test_a_proxy_that_speaks_for_itself_has_the_address_of_the_connection(self) -> None:
        for header in (
            block(LOCAL, UNSPECIFIED, b""),
            block(LOCAL, TCP4, addresses("192.0.2.7", 1)),
            block(LOCAL, TCP6, b"short"),
            block(LOCAL, 0xFF, b"of a family that nobody knows"),
        ):
            with self.subTest(header):
                self.assertEqual(heard(header + b"QUIT\r\n"), Announced(None, 0, b"QUIT\r\n"))

    def test_a_client_without_an_ip_address_has_the_address_of_the_connection(self) -> None:
        paths = b"/run/client".ljust(108, b"\x00") + b"/run/server".ljust(108, b"\x00")
        for header in (
            block(PROXY, UNIX_STREAM, paths),
            block(PROXY, UNIX_DATAGRAM, paths),
            block(PROXY, UDP4, addresses("192.0.2.7", 1)),
            block(PROXY, UDP6, addresses("2001:db8::7", 1)),
            block(PROXY, UNSPECIFIED, b""),
            block(PROXY, 0x10, addresses("192.0.2.7", 1)),
            block(PROXY, 0x01, b"anything"),
        ):
            with self.subTest(header):
                self.assertEqual(heard(header + b"QUIT\r\n"), Announced(None, 0, b"QUIT\r\n"))

    def test_what_is_built_otherwise_is_nonsense(self) -> None:
        client = addresses("192.0.2.7", 1)
        for header in (
            block(0x11, TCP4, client),
            block(0x31, TCP4, client),
            block(0x22, TCP4, client),
            block(0x2F, TCP4, client),
            block(PROXY, 0x41, client),
            block(PROXY, 0x13, client),
            block(PROXY, TCP4, client[:-1]),
            block(PROXY, TCP6, client),
            block(PROXY, UNIX_STREAM, b"\x00" * 215),
            b"\r\n\r\n\x00\r\nQUIT\r\n",
        ):
            with self.subTest(header):
                self.assertIsInstance(heard(header), Nonsense)

    def test_a_block_is_read_up_to_its_bound(self) -> None:
        filled = addresses("192.0.2.7", 1).ljust(4096, b"\x00")
        self.assertEqual(heard(block(PROXY, TCP4, filled)), Announced("192.0.2.7", 1, b""))
        self.assertIsInstance(heard(block(PROXY, TCP4, b"", 4097)), Nonsense)
        self.assertIsInstance(heard(block(LOCAL, UNSPECIFIED, b"", 65535)), Nonsense)


class ReaderTests(SynchronousTestCase):
    @given(headers(), st.binary(max_size=20), CUTS)
    def test_where_the_network_cuts_means_nothing(
        self, header: tuple[bytes, str, int], rest: bytes, cuts: list[int]
    ) -> None:
        octets, ip, port = header
        for pieces in (cut(octets + rest, cuts), [bytes((octet,)) for octet in octets + rest]):
            answer, later = heard_in_pieces(pieces)
            assert isinstance(answer, Announced), answer
            self.assertEqual((answer.address, answer.port), (canonical(ip), port))
            self.assertEqual(answer.rest + later, rest)

    @given(headers(), st.data())
    def test_a_header_that_is_not_complete_is_waited_for(
        self, header: tuple[bytes, str, int], data: st.DataObject
    ) -> None:
        octets = header[0]
        self.assertIsNone(heard(octets[: data.draw(st.integers(0, len(octets) - 1))]))

    @given(st.one_of(st.binary(max_size=300), headers().map(lambda header: header[0])), st.data())
    def test_octet_by_octet_is_as_all_at_once_whatever_the_octets_are(self, octets: bytes, data: st.DataObject) -> None:
        octets = data.draw(st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21"])) + octets
        answer, later = heard_in_pieces([bytes((octet,)) for octet in octets])
        at_once = heard(octets)
        if isinstance(answer, Announced):
            self.assertEqual(at_once, Announced(answer.address, answer.port, answer.rest + later))
        else:
            self.assertIs(type(answer), type(at_once))

    def test_a_client_without_a_header_is_told_from_one_at_its_first_octet(self) -> None:
        for octets in (b"E", b"H", b"\x16", b"\n", b"\x00", b"PE", b"\r\r", b"\r\n\r\nA"):
            with self.subTest(octets):
                self.assertIsInstance(heard(octets), Nonsense)

    def test_what_a_header_cannot_become_is_not_collected(self) -> None:
        reader = ProxyReader()
        answers = [reader.receive_data(b"x" if number > 5 else b"PROXY "[number : number + 1]) for number in range(107)]
        self.assertEqual(answers[:106], [None] * 106)
        self.assertIsInstance(answers[106], Nonsense)
