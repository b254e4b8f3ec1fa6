"""
Appending to a file so that a crash in the midst of it can be undone.

What is to be appended is first written to a file beside it, and synced. Only then is it copied to the end. If we do not
come to the end of that, the next one who appends finds the file beside, and sees by comparing what has happened:
a piece of our text at the very end of the file is ours, and is cut off; anything else is not touched, since another
program may have written meanwhile. The whole text at the end means that it was finished.

All of this is done under the locks of the file.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress

from attrs import frozen

from relay.agents.locking import hidden
from relay.net.disk import Disk, opened, sync_directory, write_all
from relay.net.threads import Stop

_BLOCK = 256 * 1024
#: The first line of the file beside, which is filled with blanks to this length. It is written last.
_LABEL = 160


def beside(path: str) -> str:
    return hidden(path, "relay")


@frozen
class Label:
    """Of whose text the file beside speaks, of which file, how long that was before, and how long the text is."""

    id: str
    inode: int
    before: int
    length: int

    def __bytes__(self) -> bytes:
        line = f"relay 1 {self.id} {self.inode} {self.before} {self.length}"
        return line.encode("ascii").ljust(_LABEL - 1) + b"\n"

    @classmethod
    def read(cls, octets: bytes) -> Label | None:
        words = octets.decode("ascii", "replace").split()
        if len(octets) != _LABEL or len(words) != 6 or words[:2] != ["relay", "1"]:
            return None
        if not all(word.isascii() and word.isdigit() for word in words[3:]):
            return None
        return cls(words[2], int(words[3]), int(words[4]), int(words[5]))


def repair(disk: Disk, path: str, fd: int, id: str) -> bool:
    """
    Undo what an earlier append has not finished, and say whether one for this `id` is finished already.

    Raises `OSError`; nothing may be appended then.
    """
    side = beside(path)
    try:
        with opened(disk, side, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as text:
            found = disk.fstat(text)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                raise OSError(errno.EPERM, f"{side} is not the relay's")
            label = Label.read(disk.read(text, _LABEL))
            finished = False
            if label is not None and found.st_size == _LABEL + label.length:
                finished = _finished(disk, fd, text, label)
    except FileNotFoundError:
        return False
    disk.unlink(side)
    return finished and label is not None and label.id == id


def _finished(disk: Disk, fd: int, text: int, label: Label) -> bool:
    now = disk.fstat(fd)
    written = now.st_size - label.before
    if now.st_ino != label.inode or written <= 0:
        return False
    disk.seek(fd, label.before)
    if not _same(disk, fd, text, min(written, label.length)):
        return False
    if written < label.length:
        disk.truncate(fd, label.before)
    disk.sync(fd)
    return written >= label.length


def _same(disk: Disk, one: int, other: int, length: int) -> bool:
    """Whether the next so many octets of two files are the same."""
    while length:
        expected = disk.read(one, min(length, _BLOCK))
        if not expected or _read_all(disk, other, len(expected)) != expected:
            return False
        length -= len(expected)
    return True


def _read_all(disk: Disk, fd: int, length: int) -> bytes:
    octets = b""
    while len(octets) < length and (more := disk.read(fd, length - len(octets))):
        octets += more
    return octets


def append(disk: Disk, path: str, fd: int, id: str, blocks: Iterable[bytes], stop: Stop) -> None:
    """
    Append a text: it is durable when this returns, and where this raises nothing of it is left.

    `repair` was called before. `fd` is open for appending.
    """
    found = disk.fstat(fd)
    side = beside(path)
    try:
        with opened(disk, side, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW) as text:
            write_all(disk, text, b" " * _LABEL)
            length = 0
            for block in blocks:
                stop.check()
                write_all(disk, text, block)
                length += len(block)
            disk.seek(text, 0)
            write_all(disk, text, bytes(Label(id, found.st_ino, found.st_size, length)))
            disk.sync(text)
            sync_directory(disk, os.path.dirname(path))
            for block in _blocks(disk, text):
                stop.check()
                write_all(disk, fd, block)
            disk.sync(fd)
    except BaseException:
        _cut_back(disk, fd, found.st_size, side)
        raise
    # If this fails the next one finds that the text is finished.
    with suppress(OSError):
        disk.unlink(side)


def _blocks(disk: Disk, fd: int) -> Iterator[bytes]:
    """What is left of a file."""
    while block := disk.read(fd, _BLOCK):
        yield block


def _cut_back(disk: Disk, fd: int, length: int, side: str) -> None:
    """At once, and if that fails too, the file beside stays for the next one who appends."""
    with suppress(OSError):
        if disk.fstat(fd).st_size > length:
            disk.truncate(fd, length)
            disk.sync(fd)
        disk.unlink(side)
