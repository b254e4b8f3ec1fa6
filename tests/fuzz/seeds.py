"""
The inputs that people have made, the dialogues of `tests/smtp` among them.

From them the fuzzer starts, so that it need not find out by itself how one speaks SMTP.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.fuzz import client as other_side
from tests.fuzz import exchange, server
from tests.fuzz.given import Given
from tests.smtp.test_dialogues import FILES, Dialogue, read

_ENVELOPE = b"EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n"
_HIDDEN = b"MAIL FROM:<evil@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nevil\r\n.\r\nQUIT\r\n"
#: What some server somewhere has taken for the end of content, and what is one.
ENDINGS = {
    "crlf-dot-crlf": b"\r\n.\r\n",
    "lf-dot-lf": b"\n.\n",
    "lf-dot-crlf": b"\n.\r\n",
    "crlf-dot-lf": b"\r\n.\n",
    "cr-dot-cr": b"\r.\r",
    "crlf-dot-cr": b"\r\n.\r",
    "cr-dot-crlf": b"\r.\r\n",
    "crcrlf-dot-crcrlf": b"\r\r\n.\r\r\n",
    "crlf-nul-dot-crlf": b"\r\n\0.\r\n",
    "crlf-dot-nul-crlf": b"\r\n.\0\r\n",
    "crlf-dotdot-crlf": b"\r\n..\r\n",
}
_EXTENDED = b"250-mx\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
SERVERS = {
    "takes-two-messages": _EXTENDED + b"250 a\r\n250 b\r\n250 c\r\n354 d\r\n250 e\r\n" * 2 + b"221 f\r\n",
    "knows-helo-only": b"500 a\r\n250 b\r\n250 c\r\n250 d\r\n250 e\r\n354 f\r\n250 g\r\n221 h\r\n",
    "refuses-a-recipient": _EXTENDED + b"250 2.1.0 a\r\n550-5.1.1 no\r\n550 5.1.1 one\r\n250 b\r\n354 c\r\n250 d\r\n",
    "refuses-the-sender": _EXTENDED + b"550 5.7.1 a\r\n503 b\r\n503 c\r\n354 d\r\n554 e\r\n221 f\r\n",
    "is-tired": _EXTENDED + b"250 a\r\n421 4.3.2 b\r\n",
    "does-not-want-us": b"554 5.7.1 a\r\n221 b\r\n",
    "says-lf": _EXTENDED + b"250 a\n250 b\r\n",
    "speaks-ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "never-ends": b"250-a\r\n" * 110,
    "says-1yz": _EXTENDED + b"150 a\r\n250 b\r\n",
    "answers-before-it-is-asked": _EXTENDED + b"250 a\r\n250 b\r\n250 c\r\n354 d\r\n250 e\r\n250 f\r\n",
}
_OFFERS = (
    b"250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-DSN\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-REQUIRETLS\r\n"
    b"250-DELIVERBY\r\n250-MT-PRIORITY\r\n250-LIMITS RCPTMAX=1\r\n"
)
_TAKES = b"250 a\r\n250 b\r\n250 c\r\n250 d\r\n250 e\r\n250 f\r\n"
#: What a server says that is met otherwise than plainly, its greeting included, the lengths of the pieces in which it
#: says it, and the traits.
MET = {
    "starttls": (
        b"220 a\r\n250-mx\r\n250 STARTTLS\r\n220 go\r\n" + _OFFERS + b"250 x\r\n",
        (7, 24, 8, 250),
        0b1100_0011,
    ),
    "says-more-behind-220": (b"220 a\r\n250-mx\r\n250 STARTTLS\r\n220 go\r\n250 evil\r\n", (7, 24, 90), 0b0100_0001),
    "logs-in": (
        b"220 a\r\n250-mx\r\n250 STARTTLS\r\n220 go\r\n250-mx\r\n250 AUTH PLAIN\r\n235 yes\r\n250 a\r\n250 b\r\n250 c\r\n",
        (7, 24, 8, 26, 9),
        0b0100_1011,
    ),
    "is-not-who-it-should-be": (
        b"220 a\r\n250-mx\r\n250 STARTTLS\r\n220 go\r\n250-mx\r\n250 AUTH PLAIN\r\n235 yes\r\n250 a\r\n",
        (7, 24, 8, 26, 9),
        0b0000_1010,
    ),
    "asks-for-ever": (
        b"220 a\r\n250-mx\r\n250 STARTTLS\r\n220 go\r\n250-mx\r\n250 AUTH SCRAM-SHA-256\r\n" + b"334 \r\n" * 5,
        (7, 24, 8, 33, 6),
        0b0100_1011,
    ),
    "takes-chunks": (b"220 a\r\n" + _OFFERS + b"250 x\r\n" + _TAKES, (7, 155, 9), 0b0010_0000),
    "lmtp": (
        b"220 a\r\n" + _OFFERS + b"250 x\r\n250 a\r\n250 b\r\n250 c\r\n354 d\r\n250 e\r\n450 f\r\n",
        (7, 155, 8),
        0b100,
    ),
    "has-no-tls": (b"220 a\r\n250 mx\r\n221 b\r\n", (7,), 0b10),
    "takes-wishes": (b"220 a\r\n" + _OFFERS + b"250 x\r\n" + _TAKES, (7, 155, 9), 0b1000_0000),
}
ADDRESSES = (
    "jon@frogbog",
    '"jon the \\"frog\\""@x.test',
    '"a@b"@c',
    "jon%elsewhere@here",
    "here!jon@x",
    "@a,@b:jon@x",
    "jon@[192.0.2.1]",
    "jon@[IPv6:2001:db8::ffff:192.0.2.1]",
    "jörg@Bücher.example",
    "jon@x.",
    "a" * 64 + "@" + ".".join(["b" * 60] * 3),
)
_COMMANDS = (
    b"MAIL FROM:<a@b> SIZE=10 BODY=8BITMIME SMTPUTF8",
    b'RCPT TO:<"a>b"@c>',
    b"RCPT TO:<Postmaster>",
    b"mail from: <@a,@b:c@d>",
    "RCPT TO:<jörg@bücher.test>".encode(),
    b"HELO [192.0.2.1]",
    b"HELO a\rRSET",
    b"GET / HTTP/1.1",
)
_HEADERS = {
    "folded": b"Received: from a\r\n\tby b\r\nMessage-ID:\r\n <x@y>\r\nAuto-Submitted : auto-replied\r\n\r\nbody\r\n.\r\n",
    "has-been-everywhere": b"Received: a\r\nRECEIVED\t: b\r\nreceived:c\r\n X\r\nReceived:d\r\n\r\n.\r\n",
    "none": b"just text\r\n\r\nReceived: a\r\n.\r\n",
    "empty": b"\r\nbody\r\n.\r\n",
    "many": b"A: b\r\n" * 10 + b"\r\n.\r\n",
    "never-ends": b"A: " + b"b" * 1200 + b"\r\n.\r\n",
}


_WORDS = (
    *(
        "SIZE=1000",
        "BODY=BINARYMIME",
        "SMTPUTF8",
        "RET=HDRS",
        "ENVID=QQ+2B314159",
        "ENVID=a+0D+0Ab",
        "NOTIFY=SUCCESS,FAILURE,DELAY",
    ),
    *("NOTIFY=NEVER", "ORCPT=rfc822;bob@far.test", "ORCPT=utf-8;j\u00f6rg@far.test", "AUTH=<>", "AUTH=e+3Dmc2@a.test"),
    *("BY=120;R", "BY=-60;NT", "MT-PRIORITY=-9", "HOLDFOR=3600", "HOLDUNTIL=2030-01-31T12:00:00Z", "REQUIRETLS"),
    *("NAME=one.test ADDR=IPV6:2001:db8::1 PORT=4711 PROTO=ESMTP HELO=one.test LOGIN=ann", "LOGIN=[UNAVAILABLE]"),
)
#: Responses, decoded, and flags. The mechanisms are in the order in which EHLO shows them.
_EXCHANGES = (
    (b"\0ann\0pencil", 3 | 1 << exchange.INITIAL),
    (b"\r\nann\0ann\0pencil", 3),
    (b"bob\0ann\0pencil", 3 | 1 << exchange.INITIAL),
    ("\r\n\0bob\0p\u00e4ssword".encode(), 3),
    (b"\r\nann\r\npencil", 4),
    (b"ann\r\nwrong\r\nann\r\npencil", 4 | 1 << exchange.INITIAL),
    (b"ann", 0 | 1 << exchange.INITIAL | 1 << exchange.SUBJECT),
    (b"n,,n=ann,r=fyko+d2lbbFgONRv9qkxdawL\r\nc=biws,r=fyko,p=AAAA", 2 | 1 << exchange.INITIAL),
    (b"p=tls-exporter,,n=ann,r=abc\r\nc=biws,r=abc,p=AAAA", 1 | 1 << exchange.INITIAL | 1 << exchange.BOUND),
    (b"y,a=ann,n=a=2Cn=3D,r=abc\r\nx", 2 | 1 << exchange.INITIAL | 1 << exchange.BOUND),
    (b"AGFubgBwZW5jaWw=\r\n*\r\n=\r\nAAA=\r\nAAB=", 5),
    (b"\0ann\0pencil", 3 | 1 << exchange.INITIAL | 1 << exchange.AWAY),
)


def _sessions(dialogue: Dialogue) -> Iterator[Given]:
    """The sessions of a dialogue, each of which a handshake divides from the next."""
    flags = (dialogue.newline == b"\n") << server.LENIENT
    if dialogue.listener:
        flags |= 1 << server.EVERYTHING
    traits = {
        "submission": 1 << server.NEEDS_TLS | 1 << server.NEEDS_AUTH,
        "submissions": 1 << server.SECURED | 1 << server.NEEDS_AUTH,
        "encrypted": 1 << server.NEEDS_TLS,
        "lmtp": 1 << server.LMTP,
    }.get(dialogue.listener, 0)
    traits |= (dialogue.client in ("127.0.0.1", "local")) << server.TRUSTED
    traits |= dialogue.client.startswith("192.0.2.") << server.INTRODUCING
    octets = b""
    for turn in dialogue.turns:
        if turn.handshake:
            yield _session(octets, flags, traits)
            octets, traits = b"", traits | 1 << server.SECURED
        octets += turn.octets
    yield _session(octets, flags, traits)


def _session(octets: bytes, flags: int, traits: int) -> Given:
    # Longer ones are cut by the fuzzer, and find no more.
    octets = octets[:2000]
    return Given(bytes((traits,)) + octets if flags >> server.EVERYTHING & 1 else octets, flags=flags, cuts=(3, 5))


def seeds() -> Iterator[tuple[str, str, bytes]]:
    """Of each input the target, the name, and the octets."""
    for path in FILES:
        dialogue = read(path.read_text())
        octets = b"".join(turn.octets for turn in dialogue.turns)
        for number, given in enumerate(_sessions(dialogue)):
            yield "server", f"{path.stem}-{number}", given.data
        for number, line in enumerate(octets.splitlines()):
            if 0 < len(line) < 80 and line.split()[0].isupper():
                yield "commands", f"{path.stem}-{number}", line
    for name, ending in ENDINGS.items():
        for flags in (0, 1 << server.LENIENT, 1 << server.TIGHT):
            octets = _ENVELOPE + b"one" + ending + _HIDDEN
            if flags == 1 << server.LENIENT:
                octets = octets.replace(b"\r\n", b"\n", 4)
            yield "server", f"smuggling-{name}-{flags}", Given(octets, flags=flags, cuts=(50, 1)).data
        chunk = b"one" + ending + _HIDDEN
        octets = _ENVELOPE.replace(b"DATA\r\n", b"BDAT %d LAST\r\n" % len(chunk)) + chunk + b"QUIT\r\n"
        yield "server", f"chunk-{name}", Given(octets, cuts=(70, 2)).data
        yield "content", name, Given(b"a: b\r\n\r\n..\r\none" + ending + b"two\r\n.\r\n", cuts=(3,)).data
    for name, octets in SERVERS.items():
        for flags in (0, 0b1 << other_side.SECOND | 0b11 << other_side.AHEAD):
            yield "client", f"{name}-{flags}", Given(b"220 mx\r\n" + octets, flags=flags, cuts=(9, 60, 2)).data
    for name, (octets, cuts, traits) in MET.items():
        for kind in (0, 0b10 << other_side.KIND | 1 << other_side.SECOND):
            flags = 1 << other_side.MORE | kind
            yield "client", f"{name}-{flags}", Given(bytes((traits,)) + octets, flags=flags, cuts=cuts).data
    for number, address in enumerate(ADDRESSES):
        yield "addresses", f"address-{number}", address.encode()
    for number, (octets, flags) in enumerate(_EXCHANGES):
        yield "exchange", f"exchange-{number}", Given(octets, flags=flags).data
    for number, word in enumerate(_WORDS):
        yield "parameters", f"word-{number}", word.encode()
    for number, line in enumerate(_COMMANDS):
        yield "commands", f"command-{number}", line
    for name, octets in _HEADERS.items():
        yield "header", name, Given(octets, cuts=(4, 1)).data
