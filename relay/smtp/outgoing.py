"""
Content on its way out, head first: what DATA carries, the terminator exactly once and last, or chunks for BDAT.

This is the last gate. What would let a part of a message be read as commands by the next host is never sent: it is
our own fault if it comes this far, so it is an exception, and the connection ends without the terminator or the last
chunk, after which the peer keeps nothing (RFC 5321 section 4.1.1.4).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from relay.mail.envelope import Form
from relay.smtp.octets import CRLF, TERMINATOR, is_lines, plain, wire

#: Smaller pieces are joined until they are this large, so that a small message is one write.
PIECE: Final = 64 * 1024
#: A chunk is at least as large, but for the last one: each costs a reply, and is in memory as a whole.
CHUNK: Final = 256 * 1024

_END: Final = CRLF + TERMINATOR
_ENDING: Final = len(_END)
#: So many octets of it may stand in the block before the one where it ends.
_BEFORE: Final = _ENDING - 1
_DOT: Final = ord(".")


class ContentDamaged(ValueError):
    """The kept content is not what its form says."""


def outgoing(head: bytes, form: Form, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """
    The octets that follow a 354, in pieces.

    Content in wire form goes out as it was kept, terminator included, and plain content is stuffed together with the
    head. Raises `ContentDamaged`, and what reading the blocks raises. Never holds more than two blocks.
    """
    if form is Form.WIRE:
        return _as_kept(_stuffed(head), blocks)
    return _joined(wire(_whole_lines(chain((head,), blocks))))


def in_one_piece(head: bytes, content: bytes) -> bytes:
    """What `outgoing` makes of content in wire form that is little. Raises `ContentDamaged`."""
    # The terminator stands where the content ends, and not before that; an empty message is nothing else. Up to the
    # last dot before its own there is often little to search, and from behind that takes a third of the time.
    if (
        not content.endswith(_END)
        or content.rfind(_END, 0, content.rfind(b".", 0, -3) + 3) >= 0
        or (content[0] == _DOT and content.startswith(TERMINATOR))
    ) and content != TERMINATOR:
        raise ContentDamaged("the content has no terminator, or there is something behind it")
    return (_stuffed(head) if head[:1] == b"." or head.rfind(b"\r\n.") >= 0 else head) + content


def _stuffed(head: bytes) -> bytes:
    """The head in wire form. It is ended by CRLF, so nothing is missing but the dots."""
    stuffed = head.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if head[:1] == b"." else stuffed


def chunks(head: bytes, form: Form, blocks: Iterable[bytes], *, binary: bool = False) -> Iterator[bytes]:
    """
    The message in chunks, each with its BDAT and the last with `LAST` (RFC 3030 section 2): nothing is stuffed.

    Raises as `outgoing` does. `binary` content (BODY=BINARYMIME) is octets and not lines: a CR or LF alone means
    nothing in it.
    """
    if form is Form.WIRE:
        return _framed(chain((head,), plain(_as_kept(b"", blocks))))
    return _framed(chain((head,), blocks if binary else _whole_lines(blocks)))


def _framed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """An empty chunk may be the last one: that there is nothing more is known late."""
    waiting = [b""]
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= CHUNK:
            waiting[0] = b"BDAT %d\r\n" % size
            yield b"".join(waiting)
            waiting = [b""]
            size = 0
    waiting[0] = b"BDAT %d LAST\r\n" % size
    yield b"".join(waiting)


def _as_kept(head: bytes, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The head, and wire content, untouched, if it has its terminator at its end and nowhere else."""
    before = CRLF  # content begins at the start of a line
    waiting, size = head, 0
    ended = False
    for block in blocks:
        if not block:
            continue
        if ended:
            raise ContentDamaged("there is content behind its terminator")
        if size >= PIECE or (size and len(block) >= PIECE):
            # What is large already is not copied for the sake of a few octets before it.
            yield waiting
            waiting = b""
        waiting += block
        size = len(waiting)
        end = _end_of_content(before, block)
        if end >= 0:
            ended = True
            if block[end:]:
                raise ContentDamaged("there is content behind its terminator")
        before = (before + block[-_BEFORE:])[-_BEFORE:]
    if not ended:
        raise ContentDamaged("the content has no terminator")
    yield waiting


def _end_of_content(before: bytes, block: bytes) -> int:
    """The position in `block` behind the first terminator, or -1 if there is none; `before` are the octets before."""
    seam = (before + block[:_BEFORE]).find(_END)
    if seam >= 0:
        return seam + _BEFORE + 1 - len(before)
    # Looking for one octet is twenty times as fast as for five, and most of what is large has no dots (base64).
    dot = block.find(b".")
    if dot < 0:
        return -1
    end = block.find(_END, dot - 2 if dot > 2 else 0)
    return end if end < 0 else end + _BEFORE + 1


def _whole_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Plain content, if no CR and no LF in it stands alone: there are servers that take them for the end of a line."""
    held = b""
    for block in blocks:
        octets = held + block
        held = b"\r" if octets.endswith(b"\r") else b""
        if held:
            octets = octets[:-1]
        if not is_lines(octets):
            raise ContentDamaged("there is a CR or LF alone in the content")
        yield octets
    if held:
        raise ContentDamaged("there is a CR or LF alone in the content")


def _joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= PIECE:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
    if size:
        yield b"".join(waiting)
