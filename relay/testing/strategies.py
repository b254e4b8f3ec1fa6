"""
Hypothesis strategies for mail: what clients say, and what there is in the DNS.

    @given(dialogues(recipients=addresses(domains=st.just("here.example"))))
    def test_whatever_comes_for_us_is_taken(dialogue): ...

All of it is well-formed: addresses that can be parsed, messages that a strict listener accepts. Names end in domains
that nobody has (RFC 2606). `sessions` are the exception: octets that a client may send by mistake or malice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import frozen
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from relay.mail.address import Address, canonical_domain, quote_local
from relay.mail.answer import Unanswered
from relay.mail.envelope import Client
from relay.mail.routing import Inquiry
from relay.smtp.octets import wire
from relay.testing.dns import Records

_ATOM: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+/=?^_`{|}~-"
_QUOTABLE: Final = "".join(map(chr, range(32, 127)))
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,10}[a-z0-9])?"
_TOPS: Final = ("example", "test", "invalid")


def domains(*, within: str = "") -> SearchStrategy[str]:
    """Domains in canonical form: of those that nobody has, or `within` one."""
    labels = st.lists(st.from_regex(_LABEL, fullmatch=True).filter(_is_a_label), min_size=1, max_size=3)
    tops = st.just(within) if within else st.sampled_from(_TOPS)
    return st.builds(lambda own, top: canonical_domain(".".join([*own, top])), labels, tops)


def _is_a_label(label: str) -> bool:
    # `xn--` says that something else is meant, which has to be right.
    return label[2:4] != "--"


def literals() -> SearchStrategy[str]:
    """Address literals, in canonical form (RFC 5321 section 4.1.3)."""
    return st.ip_addresses(v=4).map(lambda ip: f"[{ip}]") | st.ip_addresses(v=6).map(
        lambda ip: f"[IPv6:{ip.compressed}]"
    )


def local_parts(*, international: bool = False) -> SearchStrategy[str]:
    """Local parts as they are meant, without quotes: common ones, strange ones, ones that have to be quoted."""
    common = st.sampled_from(("jon", "ann", "Jon", "jon+detail", "postmaster", "o'brien", "a.b.c"))
    atoms = st.lists(st.text(_ATOM, min_size=1, max_size=12), min_size=1, max_size=3).map(".".join)
    quoted = st.text(_QUOTABLE, min_size=1, max_size=20).filter(lambda text: len(quote_local(text)) <= 64)
    if not international:
        return common | atoms | quoted
    return common | atoms | quoted | st.sampled_from(("jörg", "用户", "почта"))


def addresses(domains: SearchStrategy[str] | None = None, *, international: bool = False) -> SearchStrategy[Address]:
    """Addresses, in these domains or in any."""
    own = anywhere() if domains is None else domains
    return st.builds(Address, local_parts(international=international), own)


def anywhere() -> SearchStrategy[str]:
    """A domain or, now and then, an address literal."""
    return st.one_of(domains(), domains(), domains(), literals())


def reverse_paths() -> SearchStrategy[Address | None]:
    """Senders; `None` is the null one, `<>`."""
    return st.none() | addresses()


def client_addresses() -> SearchStrategy[str]:
    """Where clients may come from: this machine, private networks, and all others."""
    return st.one_of(
        st.sampled_from(("127.0.0.1", "::1", "10.1.2.3", "192.0.2.1", "203.0.113.9", "2001:db8::1")),
        # A client by IPv4 at a listener for both is told as such.
        st.ip_addresses().map(lambda ip: str(getattr(ip, "ipv4_mapped", None) or ip)),
    )


def clients(*, listener: str = "mx") -> SearchStrategy[Client]:
    """Clients as policies see them, some of whom have said who they are."""
    helo = domains() | literals()
    user = st.none() | st.sampled_from(("ann", "jon"))
    return st.builds(
        lambda address, helo, user: Client(address, port=54321, helo=helo, extended=True, listener=listener, user=user),
        client_addresses(),
        helo,
        user,
    )


def inquiries(recipients: SearchStrategy[Address] | None = None) -> SearchStrategy[Inquiry]:
    """Questions about a recipient, for `policy.route`."""
    whom = addresses() if recipients is None else recipients
    return st.builds(
        lambda recipient, path, client: Inquiry(recipient, recipient, path, client), whom, reverse_paths(), clients()
    )


def bodies() -> SearchStrategy[bytes]:
    """Bodies of messages: lines with CRLF, of which some begin with dots and some look like ends, or none at all."""
    lines = st.one_of(
        st.text(_QUOTABLE, max_size=78).map(str.encode),
        st.sampled_from((b"", b".", b"..", b".x", b"QUIT", b"RSET", b"-- ", b"From here on", "Grüße".encode())),
    )
    return st.lists(lines, max_size=8).map(lambda given: b"".join(line + b"\r\n" for line in given))


def messages(subjects: SearchStrategy[str] | None = None) -> SearchStrategy[bytes]:
    """Messages in plain form: a header section, perhaps with folded and strange fields, and a body."""
    words = st.text(_QUOTABLE, max_size=40).map(str.strip)
    fields = st.lists(
        st.one_of(
            st.builds("X-{}: {}".format, st.text("abcXYZ-", min_size=1, max_size=10), words),
            st.builds("Received: from {} by {};\r\n Mon, 23 Nov 2026 12:00:00 +0000".format, domains(), domains()),
            st.just("List-Id: <all.lists.example>"),
        ),
        max_size=4,
    )
    return st.builds(
        lambda sender, subject, more, body: (
            "".join(f"{field}\r\n" for field in [*more, f"From: {sender}", f"Subject: {subject}"]).encode()
            + b"\r\n"
            + body
        ),
        addresses(domains()).filter(lambda address: "\\" not in str(address)),
        words if subjects is None else subjects,
        fields,
        bodies(),
    )


@frozen
class Dialogue:
    """A client that sends one message as it should."""

    #: Its IP address.
    client: str
    helo: str
    #: `None` is the null reverse-path.
    sender: Address | None
    recipients: tuple[Address, ...]
    message: bytes

    @property
    def commands(self) -> tuple[str, ...]:
        """What it says up to DATA, line by line."""
        path = "" if self.sender is None else str(self.sender)
        body = "" if self.message.isascii() else " BODY=8BITMIME"
        named = [f"RCPT TO:<{recipient}>" for recipient in self.recipients]
        return (f"EHLO {self.helo}", f"MAIL FROM:<{path}>{body}", *named, "DATA")

    @property
    def content(self) -> bytes:
        """What it sends behind 354."""
        return b"".join(wire([self.message]))


def dialogues(
    recipients: SearchStrategy[Address] | None = None,
    *,
    senders: SearchStrategy[Address | None] | None = None,
    clients: SearchStrategy[str] | None = None,
    most: int = 4,
) -> SearchStrategy[Dialogue]:
    """Clients that send one message, to `most` recipients."""
    whom = addresses() if recipients is None else recipients
    return st.builds(
        Dialogue,
        client_addresses() if clients is None else clients,
        domains() | literals(),
        reverse_paths() if senders is None else senders,
        st.lists(whom, min_size=1, max_size=most).map(tuple),
        messages(),
    )


def sessions() -> SearchStrategy[bytes]:
    """What a client may send in one session: commands in any order, well said or not, and octets that are none."""
    path = addresses().map(str) | st.sampled_from(("", "jon", "@", "<>", "a@b@c", "x" * 300))
    command = st.one_of(
        st.builds("{} {}".format, st.sampled_from(("HELO", "EHLO", "ehlo")), domains() | literals()),
        st.builds("MAIL FROM:<{}>{}".format, path, st.sampled_from(("", " SIZE=100", " BODY=8BITMIME", " X=Y"))),
        st.builds("RCPT TO:<{}>".format, path),
        st.sampled_from(("DATA", "RSET", "NOOP", "QUIT", "VRFY x", "STARTTLS", "BDAT 5 LAST", "HELP", "", ".")),
    ).map(str.encode)
    line = st.one_of(command, command, command, st.binary(max_size=60))
    end = st.sampled_from((b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"))
    return st.lists(st.builds(bytes.__add__, line, end), max_size=20).map(b"".join)


def cuts(octets: bytes) -> SearchStrategy[Sequence[bytes]]:
    """The same octets in pieces, as a network may bring them."""
    places = st.sets(st.integers(0, len(octets)), max_size=8).map(sorted)
    return places.map(
        lambda found: [octets[a:b] for a, b in zip([0, *found], [*found, len(octets)], strict=True) if a < b]
    )


_BROKEN: Final = Unanswered("SERVFAIL")


@st.composite
def dns_worlds(draw: Any, *names: str) -> Mapping[str, Records]:
    """
    What there may be in the DNS about these domains, for `FakeWorld` and `MailWorld`: hosts
    by MX records, with addresses or without; only an address; null MX; an alias; nothing; servers that fail.
    """
    found: dict[str, Records] = {}
    for number, name in enumerate(names):
        kind = draw(st.sampled_from(("mx", "mx", "address", "null", "alias", "nothing", "broken", "broken mx")))
        address = st.ip_addresses(v=4, network="198.51.100.0/24").map(str)
        if kind == "mx":
            hosts = [f"mx{each}-{number}.hosts.test" for each in range(draw(st.integers(1, 3)))]
            preferences = [draw(st.sampled_from((0, 10, 10, 20))) for _ in hosts]
            found[name] = {"MX": list(zip(preferences, hosts, strict=True))}
            for host in hosts:
                records: Records = draw(
                    st.one_of(
                        address.map(lambda ip: {"A": [ip]}),
                        st.just({"AAAA": ["2001:db8::25"]}),
                        st.just({}),
                        st.just(_BROKEN),
                    )
                )
                found[host] = records
        elif kind == "alias":
            target = f"target{number}.hosts.test"
            found[name], found[target] = {"CNAME": target}, {"A": [draw(address)]}
        elif kind != "nothing":
            others: dict[str, Records] = {
                "address": {"A": [draw(address)]},
                "null": {"MX": [(0, "")]},
                "broken": _BROKEN,
                "broken mx": {"MX": _BROKEN},
            }
            found[name] = others[kind]
    return found
