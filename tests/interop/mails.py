"""Messages that tend to be damaged on their way, and what is compared of them where they arrive."""

from __future__ import annotations

import re
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Final

_HEADER: Final = (
    b"From: Bob <bob@client.test>\r\nTo: Jon <jon@localhost>\r\nDate: Mon, 02 Jan 2023 15:04:05 +0000\r\n"
    b"Message-ID: <%s@client.test>\r\nSubject: %s\r\n"
)
_BIG_LINE: Final = b"Two hundred thousand lines of this make a message that no buffer holds by luck.\r\n"


def mail(name: str, body: bytes, *fields: bytes) -> bytes:
    """A message with the usual fields, and those given below them."""
    label = name.encode()
    return _HEADER % (label, label) + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


#: By name. Each ends a line with CRLF, as a message must, and has all fields that anybody would add.
PLAIN: Final[dict[str, bytes]] = {
    "text": mail("text", b"Hello!\r\n"),
    "empty": mail("empty", b""),
    "dots": mail("dots", b".\r\n..\r\n...\r\n.hidden\r\nend.\r\n.\r\n"),
    "blank-lines": mail("blank-lines", b"\r\n\r\n  \r\n\t\r\nbetween\r\n\r\n\r\n"),
    "folded": mail(
        "folded", b"x\r\n", b"X-Folded: one\r\n\ttwo\r\n   three", b"X-Empty:", b"x-odd-CASE:  two  blanks "
    ),
    "long-lines": mail("long-lines", b"a" * 998 + b"\r\n" + b"." * 997 + b"\r\n"),
    "from-line": mail("from-line", b"From here on\r\n>From there\r\nFrom the start\r\n"),
    "mime": mail(
        "mime",
        b"--b\r\nContent-Type: text/plain\r\n\r\nHi\r\n--b\r\nContent-Type: application/octet-stream\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\nAAEC/w==\r\n--b--\r\n",
        b"MIME-Version: 1.0",
        b'Content-Type: multipart/mixed; boundary="b"',
    ),
}

#: Needs 8BITMIME.
EIGHT_BIT: Final = mail(
    "eight-bit",
    "Grüße, 你好, здравствуйте\r\n".encode() + bytes(range(0x80, 0x100)) + b"\r\n",
    b"MIME-Version: 1.0",
    b"Content-Type: text/plain; charset=utf-8",
    b"Content-Transfer-Encoding: 8bit",
)

#: 8 MiB.
BIG: Final = mail("big", _BIG_LINE * (8 * 1024 * 1024 // len(_BIG_LINE)))

EVERYTHING: Final = {**PLAIN, "eight-bit": EIGHT_BIT, "big": BIG}

#: What a mail system puts on top of a message (RFC 5321 section 4.4), and what Postfix's Maildir adds.
_TRACE: Final = re.compile(
    rb"(?:(?:Received|Return-Path|Delivered-To|X-Original-To):(?:[^\n]*\n[ \t])*[^\n]*\n)*", re.IGNORECASE
)


def without_trace(octets: bytes) -> bytes:
    """What is left of a message when the trace fields on its top are taken off, with CRLF at the end of lines."""
    traced = _TRACE.match(octets)
    assert traced is not None
    assert traced.group(), f"there is no trace field on top: {octets[:200]!r}"
    rest = octets[traced.end() :]
    return rest if b"\r\n" in rest else rest.replace(b"\n", b"\r\n")


def assert_same(octets: bytes, expected: bytes) -> None:
    """That not one octet differs; else an `AssertionError` that shows the place, and not all of them."""
    if octets != expected:
        at = next((i for i, (a, b) in enumerate(zip(octets, expected, strict=False)) if a != b), -1)
        at = min(len(octets), len(expected)) if at < 0 else at
        around = slice(max(at - 60, 0), at + 60)
        sizes = f"{len(octets)} octets for {len(expected)}"
        raise AssertionError(f"{sizes}, from octet {at} on: {octets[around]!r} for {expected[around]!r}")


def trace(octets: bytes) -> list[bytes]:
    """The trace fields on top of a message, the newest first, unfolded."""
    found = _TRACE.match(octets)
    assert found is not None
    unfolded = re.sub(rb"\r?\n[ \t]+", b" ", found.group())
    return unfolded.split(b"\r\n" if b"\r\n" in unfolded else b"\n")[:-1]


def subject(octets: bytes) -> str:
    """By which a message of this module is known."""
    found = re.search(rb"^Subject: ([\w-]+)\r?$", octets, re.MULTILINE)
    assert found is not None, octets[:300]
    return found[1].decode()


def in_maildir(path: Path) -> list[bytes]:
    """What has been delivered there, seen or not. A message is there as a whole or not at all."""
    return [message.read_bytes() for message in sorted(messages(path))]


def messages(path: Path) -> list[Path]:
    """The files of a Maildir's messages, which may not be there yet."""
    folders = (path / name for name in ("new", "cur"))
    return [message for folder in folders if folder.is_dir() for message in folder.iterdir()]


def report(notice: bytes) -> tuple[Message, list[Message]]:
    """The machine's part of a notice (RFC 3464): what it says of the message, and of each recipient."""
    parsed = BytesParser().parsebytes(notice)
    [status] = [part for part in parsed.walk() if part.get_content_type() == "message/delivery-status"]
    groups = status.get_payload()
    assert isinstance(groups, list)
    of_message, *of_recipients = groups
    assert isinstance(of_message, Message)
    return of_message, [group for group in of_recipients if isinstance(group, Message) and len(group)]
