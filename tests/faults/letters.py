"""Messages that prove themselves whole: a field in front has the SHA-256 of every octet behind it."""

from __future__ import annotations

import base64
import email
import email.policy
import hashlib
import random
import re
from typing import Final

from attrs import frozen

#: Sizes are spread evenly over their orders of magnitude, so that some need files of their own in the spool.
SMALLEST: Final = 100
LARGEST: Final = 300_000

_FIELD: Final = re.compile(rb"^X-Audit: (\S+) ([0-9a-f]{64})\n", re.MULTILINE)


@frozen
class Letter:
    """What a customer sends, with CRLF."""

    id: str
    octets: bytes


@frozen
class Arrived:
    """A letter that has been found somewhere."""

    id: str
    #: Not an octet of it is missing, changed or added.
    intact: bool


@frozen
class Notice:
    """
    A notice (RFC 3464) of which letter and which recipients.

    It quotes the letter's header, and so its id; unless the disk could not be read when it was written.
    """

    id: str | None
    #: Of the letter.
    queue_id: str
    recipients: tuple[str, ...]


@frozen
class Stray:
    """Neither of them: nobody has sent this."""

    octets: bytes


def write(id: str, chance: random.Random, size: int | None = None) -> Letter:
    """A letter of about this size, or of any."""
    size = size or int(SMALLEST * (LARGEST / SMALLEST) ** chance.random())
    lines = [b"From: <sender@localhost>", f"Subject: {id}".encode(), b""]
    body = base64.b64encode(chance.randbytes(max(1, size * 3 // 4)))
    lines += [body[at : at + 76] for at in range(0, len(body), 76)]
    # What has to be stuffed with a dot, at the border of blocks of any size.
    for at in range(3, len(lines), 7):
        lines[at] = b"." * chance.randint(1, 3) + lines[at]
    lines.append("Grüße, und\r\n.".encode())
    rest = b"\r\n".join([*lines, b""])
    return Letter(id, f"X-Audit: {id} {_digest(rest)}\r\n".encode() + rest)


def read(octets: bytes) -> Arrived | Notice | Stray:
    """What has been found in a mailbox, or has come to the sink: lines may end as they do there."""
    unix = octets.replace(b"\r\n", b"\n")
    head, _, _ = unix.partition(b"\n\n")
    found = _FIELD.search(unix)
    id = found[1].decode() if found else None
    if b"\nContent-Type: multipart/report" in head:
        return _notice(id, unix)
    if found is None or id is None:
        return Stray(octets)
    return Arrived(id, _digest(unix[found.end() :]) == found[2].decode())


def _digest(octets: bytes) -> str:
    return hashlib.sha256(octets.replace(b"\r\n", b"\n")).hexdigest()


def _notice(id: str | None, octets: bytes) -> Notice:
    notice = email.message_from_bytes(octets, policy=email.policy.default)
    parts = list(notice.walk())
    failed = [str(part["Final-Recipient"]) for part in parts if part["Final-Recipient"]]
    queue_ids = [str(part["X-Relay-Queue-Id"]) for part in parts if part["X-Relay-Queue-Id"]]
    return Notice(id, "".join(queue_ids), tuple(field.partition(";")[2].strip() for field in failed))
