"""A message as a program or a person types it, made into one that can be sent (RFC 6409 section 8, RFC 5322)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

from attrs import frozen

from relay.cli.addressees import addressees

_FIELD: Final = re.compile(rb"[!-9;-~]+[ \t]*:")
#: What programs put on top of a message in an mbox file.
_SEPARATORS: Final = (b"From ", b">From ")
#: Nobody but the sender is to see them.
_SECRET: Final = frozenset({b"bcc", b"resent-bcc"})
_TO: Final = (b"to", b"cc", b"bcc")
#: RFC 5322 section 3.2.3 and blanks: a name that needs no quotation marks.
_PHRASE: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+\Z")


@frozen
class Author:
    """What is said of the author where the message says nothing, each as it stands in a field."""

    mailbox: str
    date: str
    message_id: str


@frozen
class Letter:
    """A message: its header fields, each whole with its line ends, and its body, empty line not included."""

    fields: tuple[bytes, ...]
    body: bytes

    @classmethod
    def of(cls, octets: bytes) -> Letter:
        """
        What was typed. Lines end with LF, CRLF or CR, and afterwards with CRLF. Text without a header section is all
        body; a header section that is not ended by an empty line ends where no field is.
        """
        lines = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        if lines[-1] == b"":
            lines.pop()
        if lines and lines[0].startswith(_SEPARATORS):
            del lines[0]
        fields: list[bytes] = []
        at = 0
        for at, line in enumerate(lines):  # noqa: B007, it is used behind the loop
            if _FIELD.match(line):
                fields.append(line + b"\r\n")
            elif line[:1] in (b" ", b"\t") and fields and line.strip():
                fields[-1] += line + b"\r\n"
            else:
                break
        else:
            return cls(tuple(fields), b"")
        rest = lines[at + 1 :] if not lines[at] else lines[at:]
        return cls(tuple(fields), b"".join(line + b"\r\n" for line in rest))

    def addressees(self) -> list[str]:
        """To whom it is addressed; or resent, if it says so (RFC 5322 section 3.6.6)."""
        resent = [b"resent-" + name for name in _TO]
        names = resent if any(_name(field) in resent for field in self.fields) else _TO
        found: list[str] = []
        for field in self.fields:
            if _name(field) in names:
                found += addressees(_body(field))
        return found

    def sendable(self, author: Author) -> bytes:
        """The message as it leaves: without what nobody may see, and with what each message has to have."""
        fields = [field for field in self.fields if _name(field) not in _SECRET]
        names = {_name(field) for field in fields}
        fields += _missing(names, author)
        return b"".join(fields) + b"\r\n" + self.body

    @property
    def eight_bit(self) -> bool:
        """Whether it has octets above 127."""
        return not (self.body.isascii() and all(field.isascii() for field in self.fields))


def read(stream: BinaryIO, *, dots: bool) -> bytes:
    """All of it; or, unless `dots` are lines like any other, what stands before a line that is a dot."""
    return stream.read() if dots else b"".join(_up_to_the_dot(stream))


def phrase(name: str) -> str:
    """
    A full name as it stands before an address (RFC 5322 section 3.2.5, RFC 2047). Octets of it that are no UTF-8, as
    the system's list of users may have them, are replaced.
    """
    name = " ".join(name.encode("utf-8", "surrogateescape").decode("utf-8", "replace").split())
    if not name.isascii():
        from email.header import Header

        return Header(name, "utf-8").encode()
    name = "".join(c for c in name if c.isprintable())
    if not name or _PHRASE.match(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _up_to_the_dot(lines: Iterable[bytes]) -> Iterator[bytes]:
    for line in lines:
        if line.rstrip(b"\r\n") == b".":
            return
        yield line


def _missing(names: set[bytes], author: Author) -> Iterator[bytes]:
    resent = any(name.startswith(b"resent-") for name in names)
    for name, text in (("From", author.mailbox), ("Date", author.date), ("Message-ID", author.message_id)):
        if name.lower().encode() not in names:
            yield f"{name}: {text}\r\n".encode()
        elif resent and f"resent-{name}".lower().encode() not in names:
            yield f"Resent-{name}: {text}\r\n".encode()


def _name(field: bytes) -> bytes:
    return field.partition(b":")[0].rstrip().lower()


def _body(field: bytes) -> str:
    return field.partition(b":")[2].decode("utf-8", "surrogateescape").replace("\r\n", "")
