"""Content: in memory while it is small, in a file when it is not. For the reactor's thread."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from attrs import field, frozen
from zope.interface import implementer

from relay.interfaces import IContent, IDraft, SpoolError
from relay.mail.envelope import Form
from relay.net.disk import Disk, opened, sync_directory, write_all
from relay.spool.disk import create, remove
from relay.spool.layout import Layout

_WIRE = Form.WIRE
#: How content in wire form ends, and how a line begins in it that has one dot more than is meant.
_END, _STUFFED = b"\r\n.\r\n", b"\r\n."
_DOT = b"."[0]

#: What `IContent.blocks` may hand out at once.
BLOCK = 256 * 1024

#: What is given back piece by piece is added up when there are so many pieces, or when they are needed.
_RETURNED = 100


class Budget:
    """How many octets of content may be in memory: those of all drafts, and of claims handed over by a commit."""

    def __init__(self, octets: int) -> None:
        self._left = octets
        #: Appending is all that another thread may do, should the collector run there and meet our octets.
        self._returned: deque[int] = deque()
        #: Octets that were taken are needed no more. Called from any thread.
        self.give_back: Callable[[int], None] = self._returned.append

    def take(self, octets: int) -> bool:
        """Whether so many more may be kept; then they are counted until they are given back."""
        if octets > self._left or len(self._returned) > _RETURNED:
            returned = self._returned
            self._left += sum([returned.popleft() for _ in range(len(returned))])
            if octets > self._left:
                return False
        self._left -= octets
        return True

    @property
    def left(self) -> int:
        return self._left + sum(self._returned)


#: Pieces that content in memory may consist of.
_CHUNKS = 256


@implementer(IContent)
class MemoryContent:
    """Content that is in memory: octets that come from a row."""

    __slots__ = ("_octets", "form", "size")

    def __init__(self, form: Form, size: int, octets: bytes) -> None:
        self.form = form
        self.size = size
        self._octets = octets

    def blocks(self) -> Iterator[bytes]:
        return in_blocks(self._octets)


def in_blocks(octets: bytes) -> Iterator[bytes]:
    if len(octets) <= BLOCK:
        return iter((octets,))
    return (octets[at : at + BLOCK] for at in range(0, len(octets), BLOCK))


@implementer(IContent)
class Octets:
    """
    Content in memory as a draft collects it, counted by a budget for as long as anybody has it.

    Its size is known when all of it is there.
    """

    __slots__ = ("_budget", "_more", "_octets", "form", "length", "size")

    def __init__(self, form: Form, octets: bytes, length: int, budget: Budget) -> None:
        """`octets`: the first of them, of this length, which the budget has counted."""
        self.form = form
        self.size = 0
        #: In its own form.
        self.length = length
        self._octets = octets
        #: What follows them, if anything does.
        self._more: list[bytes] | None = None
        self._budget = budget

    def append(self, octets: bytes, most: int) -> bool:
        """Take these too; false, and nothing taken, where that is more than `most` together, or more than is left."""
        length = len(octets)
        together = self.length + length
        if together > most or not self._budget.take(length):
            return False
        self.length = together
        more = self._more
        if more is None:
            self._more = [octets]
        else:
            more.append(octets)
            if len(more) >= _CHUNKS:
                # Somebody sends a few octets at a time, and each piece costs more than it holds.
                self.joined()
        return True

    def joined(self) -> bytes:
        more = self._more
        if more is not None:
            self._octets, self._more = b"".join((self._octets, *more)), None
        return self._octets

    def complete(self, size: int | None = None) -> bytes:
        """All of it, which is counted now unless somebody has and says its `size`."""
        octets = self._octets if self._more is None else self.joined()
        self.size = plain_size(self.form, octets) if size is None else size
        return octets

    def blocks(self) -> Iterator[bytes]:
        octets = self._octets if self._more is None else self.joined()
        return iter((octets,)) if self.length <= BLOCK else in_blocks(octets)

    def __del__(self) -> None:
        self._budget.give_back(self.length)


def plain_size(form: Form, octets: bytes) -> int:
    """
    How many octets this content, given in its own form, has in plain form.

    In wire form each line that begins with a dot has one octet too many. The last such line is the terminator, which
    has two more (`relay.smtp.octets` un-stuffs; this only counts).
    """
    size = len(octets)
    if form is not _WIRE:
        return size
    # As it is nearly always. From behind it is found in half the time.
    if size > 3 and octets.endswith(_END) and octets[0] != _DOT and octets.rfind(_STUFFED, 0, size - 3) < 0:
        return size - 3
    size -= octets.count(_STUFFED) + (3 if octets.startswith(b".") else 2)
    return size if size > 0 else 0


class PlainSize:
    """`plain_size` of content that goes by in blocks."""

    __slots__ = ("_stuffed", "_tail", "_wire", "length")

    def __init__(self, form: Form) -> None:
        self._wire = form is Form.WIRE
        #: In the content's own form.
        self.length = 0
        self._stuffed = 0
        self._tail = b"\r\n"

    def take(self, octets: bytes) -> None:
        self.length += len(octets)
        if self._wire:
            joint = self._tail + octets[:2]
            # One octet is found many times faster than three.
            dots = octets.count(b"\r\n.") if b"." in octets else 0
            self._stuffed += dots + joint.count(b"\r\n.")
            self._tail = (self._tail + octets[-2:])[-2:]

    @property
    def size(self) -> int:
        return max(self.length - self._stuffed - 2, 0) if self._wire else self.length


@implementer(IContent)
@frozen(eq=False)
class FileContent:
    """Content in a file, which is read anew for each attempt."""

    form: Form
    size: int
    length: int
    path: Path
    disk: Disk

    def blocks(self) -> Iterator[bytes]:
        """A file that is not as long as it was is no content: what was sent of it must not count."""
        with opened(self.disk, str(self.path), os.O_RDONLY) as file:
            left = self.length
            while left:
                block = self.disk.read(file, min(left, BLOCK))
                if not block:
                    raise OSError(errno.EIO, "the content is shorter than it was", str(self.path))
                left -= len(block)
                yield block


@frozen
class Shelving:
    """What a draft needs to know of its spool."""

    layout: Layout
    disk: Disk
    budget: Budget
    #: More octets than this go to a file.
    in_row: int
    #: Drafts that are being written, by their ids.
    open: set[str] = field(factory=set)


#: A draft's content as a commit takes it over, with its octets for the row, or with `None` and the file that must be
#: made durable before the row is written, which whoever takes it over closes.
Kept: TypeAlias = tuple["Octets | FileContent", bytes | None, int | None]


class DraftFile:
    """The file of a draft, which is made at once, and written as octets arrive."""

    def __init__(self, id: str, form: Form, shelving: Shelving) -> None:
        """Raises `OSError`; then there is no file of ours."""
        self._disk = shelving.disk
        self._path = shelving.layout.file(id)
        self._measure = PlainSize(form)
        self._form = form
        #: `None` when it is closed, or has been taken over.
        self._file: int | None = create(self._disk, self._path)

    def append(self, octets: bytes) -> None:
        file = self._file
        if file is None:
            raise self.lost()
        try:
            write_all(self._disk, file, octets)
        except OSError:
            # A part of it may be there: what follows must not be taken for its continuation.
            self.close()
            raise
        self._measure.take(octets)

    def content(self) -> FileContent:
        """What was written so far. Raises `OSError` behind an error."""
        if self._file is None:
            raise self.lost()
        measure = self._measure
        return FileContent(self._form, measure.size, measure.length, self._path, self._disk)

    def take_over(self) -> int:
        """The open file; who calls closes it."""
        file, self._file = self._file, None
        if file is None:
            raise self.lost()
        return file

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                self._disk.close(file)

    def remove(self) -> None:
        remove(self._disk, self._path)

    def lost(self) -> OSError:
        return OSError(errno.EIO, "the draft could not be written before", self._path.name)


@implementer(IDraft)
class Draft:
    """
    A draft is in memory until it is larger than a row should be, or until memory is short; from then
    on it is in its file, which is made in that moment and written as octets arrive.
    """

    # What most drafts do not have to begin with is the class's, and costs nothing.

    #: Nothing has been written to it, and it was not used up.
    _unwritten: bool = True
    #: Its content, while that is in memory.
    _memory: Octets | None = None
    #: Its file, if there is one.
    _file: DraftFile | None = None
    _used: bool = False

    def __init__(self, id: str, form: Form, shelving: Shelving) -> None:
        self.id = id
        self.form = form
        self._shelving = shelving
        shelving.open.add(id)

    def write(self, octets: bytes) -> None:
        shelving = self._shelving
        if self._unwritten:
            self._unwritten = False
            length = len(octets)
            if length <= shelving.in_row and shelving.budget.take(length):
                self._memory = Octets(self.form, octets, length, shelving.budget)
            else:
                self._put_into_file(octets)
            return
        memory = self._memory
        if memory is None:
            self._check_unused("be written to")
            self._in_file().append(octets)
        elif not memory.append(octets, shelving.in_row):
            self._memory = None
            self._put_into_file(memory.joined(), octets)

    def _put_into_file(self, *blocks: bytes) -> None:
        """It is in a file from here on, which has these."""
        file = self._file = DraftFile(self.id, self.form, self._shelving)
        for block in blocks:
            if block:
                file.append(block)

    def blocks(self) -> Iterator[bytes]:
        memory = self._memory
        if memory is not None:
            return memory.blocks() if memory.length else iter(())
        return iter(()) if self._unwritten else self._in_file().content().blocks()

    def replace(self, length: int, octets: bytes) -> None:
        self._check_unused("have anything replaced in it")
        rest = _without(self.blocks(), length)
        if self._memory is not None or self._unwritten:
            octets += b"".join(rest)
            self._memory, self._unwritten = None, True
            self.write(octets)
            return
        # The old file has no name from now on, and is read to its end: a draft that is half a copy is nobody's.
        first = next(rest, b"")
        old = self._in_file()
        old.close()
        old.remove()
        self._file = None
        file = self._file = DraftFile(self.id, self.form, self._shelving)
        file.append(octets + first)
        for block in rest:
            file.append(block)

    def abandon(self) -> None:
        if not self._used:
            self._used = True
            self._shelving.open.discard(self.id)
            self.destroy()

    def keep(self, size: int | None = None) -> Kept:
        """
        What a commit takes over; `size` is that of the content in plain form, for who has counted already. The draft is
        used up by it, whatever becomes of the commit.
        """
        if self._used:
            raise ValueError(f"the draft {self.id} was used before")
        self._used = True
        self._shelving.open.discard(self.id)
        memory = self._memory
        if memory is not None:
            self._memory = None
            return memory, memory.complete(size), None
        if self._unwritten:
            self._unwritten = False
            return Octets(self.form, b"", 0, self._shelving.budget), b"", None
        try:
            file = self._in_file()
            return file.content(), None, file.take_over()
        except OSError as problem:
            raise SpoolError(f"the draft {self.id} could not be written") from problem

    def destroy(self) -> None:
        """Whatever it has is of no use any more: it was abandoned, or its commit has proved not to have happened."""
        self._memory, self._unwritten = None, False
        file, self._file = self._file, None
        if file is not None:
            file.close()
            # What cannot be removed now is when the spool recovers.
            with suppress(OSError):
                file.remove()

    def _check_unused(self, what: str) -> None:
        if self._used:
            raise ValueError(f"the draft {self.id} is committed or abandoned: it cannot {what}")

    def _in_file(self) -> DraftFile:
        """The file that has what is not in memory. Raises `OSError`: it could not be made."""
        if self._file is None:
            raise OSError(errno.EIO, "the draft could not be written before", self.id)
        return self._file


def _without(blocks: Iterator[bytes], length: int) -> Iterator[bytes]:
    """The blocks but for their first octets, which are so many."""
    for block in blocks:
        if length < len(block):
            yield block[length:] if length else block
        length = max(0, length - len(block))


def make_durable(disk: Disk, file: int, shelf: Path) -> None:
    """Return when a draft's file survives a power cut: its octets, and its name. In a thread for such."""
    try:
        disk.sync(file)
    finally:
        disk.close(file)
    sync_directory(disk, str(shelf))
