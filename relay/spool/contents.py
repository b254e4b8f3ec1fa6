"""Content: in memory while it is small, in a file when it is not. For the reactor's thread."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from attrs import define, field, frozen
from zope.interface import implementer

from relay.interfaces import IContent, IDraft, SpoolError
from relay.mail.envelope import Form
from relay.net.disk import Disk, opened, sync_directory, write_all
from relay.spool.disk import create, remove
from relay.spool.layout import Layout

#: What `IContent.blocks` may hand out at once.
BLOCK = 256 * 1024


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
        while self._returned:
            self._left += self._returned.popleft()
        if octets > self._left:
            return False
        self._left -= octets
        return True

    @property
    def left(self) -> int:
        return self._left + sum(self._returned)


#: Pieces that content in memory may consist of.
_CHUNKS = 256


class Octets:
    """Octets in memory, counted by a budget for as long as anybody has them."""

    __slots__ = ("_budget", "chunks", "length")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.chunks: list[bytes] = []
        self.length = 0

    def append(self, octets: bytes, length: int) -> bool:
        """Take these too, which are so many; false, and nothing taken, where there is no room."""
        if not self._budget.take(length):
            return False
        chunks = self.chunks
        chunks.append(octets)
        self.length += length
        if len(chunks) > _CHUNKS:
            # Somebody sends a few octets at a time, and each piece costs more than it holds.
            self.joined()
        return True

    def joined(self) -> bytes:
        chunks = self.chunks
        if len(chunks) != 1:
            chunks[:] = [b"".join(chunks)]
        return chunks[0]

    def __del__(self) -> None:
        self._budget.give_back(self.length)


def plain_size(form: Form, octets: bytes) -> int:
    """
    How many octets this content, given in its own form, has in plain form.

    In wire form each line that begins with a dot has one octet too many. The last such line is the terminator, which
    has two more (`relay.smtp.octets` un-stuffs; this only counts).
    """
    if form is Form.PLAIN:
        return len(octets)
    size = len(octets) - octets.count(b"\r\n.") - 2
    if octets[:1] == b".":
        size -= 1
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
class MemoryContent:
    """Content that is in memory."""

    __slots__ = ("_octets", "form", "size")

    def __init__(self, form: Form, size: int, octets: Octets | bytes) -> None:
        self.form = form
        self.size = size
        self._octets = octets

    def blocks(self) -> Iterator[bytes]:
        octets = self._octets if isinstance(self._octets, bytes) else self._octets.joined()
        if len(octets) <= BLOCK:
            return iter((octets,))
        return (octets[at : at + BLOCK] for at in range(0, len(octets), BLOCK))


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


@define(eq=False)
class Kept:
    """A draft's content as a commit takes it over."""

    content: MemoryContent | FileContent
    length: int
    #: For the row, or `None` where a file has it.
    octets: bytes | None
    #: The file that must be made durable before the row is written; who takes it over closes it.
    file: int | None


@implementer(IDraft)
class Draft:
    """
    A draft is in memory until it is larger than a row should be, or until memory is short; from then
    on it is in its file, which is made in that moment and written as octets arrive.
    """

    __slots__ = ("_file", "_made_file", "_measure", "_memory", "_shelving", "_used", "form", "id")

    def __init__(self, id: str, form: Form, shelving: Shelving) -> None:
        self.id = id
        self.form = form
        self._shelving = shelving
        #: Of what is in the file.
        self._measure: PlainSize | None = None
        #: `None` once there is a file, or the draft is used up.
        self._memory: Octets | None = Octets(shelving.budget)
        self._file: int | None = None
        self._made_file = False
        self._used = False
        shelving.open.add(id)

    def write(self, octets: bytes) -> None:
        if self._used:
            raise ValueError(f"the draft {self.id} is committed or abandoned: nothing can be written to it")
        memory = self._memory
        if memory is not None:
            length = len(octets)
            if memory.length + length <= self._shelving.in_row and memory.append(octets, length):
                return
            self._move_to_file(memory)
        self._append(octets)

    def blocks(self) -> Iterator[bytes]:
        if self._memory is not None:
            return MemoryContent(self.form, 0, self._memory).blocks() if self._memory.chunks else iter(())
        if self._file is None or self._measure is None:
            raise OSError(errno.EIO, "the draft could not be written before", self.id)
        path = self._shelving.layout.file(self.id)
        return FileContent(self.form, 0, self._measure.length, path, self._shelving.disk).blocks()

    def replace(self, length: int, octets: bytes) -> None:
        if self._used:
            raise ValueError(f"the draft {self.id} is committed or abandoned: nothing can be replaced in it")
        rest = _without(self.blocks(), length)
        if self._memory is not None:
            self._memory = Octets(self._shelving.budget)
            self.write(octets + b"".join(rest))
            return
        # The old file has no name from now on, and is read to its end: a draft that is half a copy is nobody's.
        first = next(rest, b"")
        self._let_go()
        remove(self._shelving.disk, self._shelving.layout.file(self.id))
        self._begin_file()
        self._append(octets + first)
        for block in rest:
            self._append(block)

    def abandon(self) -> None:
        if not self._used:
            self._used = True
            self._shelving.open.discard(self.id)
            self.destroy()

    def keep(self) -> Kept:
        """What a commit takes over. The draft is used up by it, whatever becomes of the commit."""
        if self._used:
            raise ValueError(f"the draft {self.id} was used before")
        self._used = True
        self._shelving.open.discard(self.id)
        memory, self._memory = self._memory, None
        if memory is not None:
            octets = memory.chunks[0] if len(memory.chunks) == 1 else memory.joined()
            form = self.form
            return Kept(MemoryContent(form, plain_size(form, octets), memory), memory.length, octets, None)
        file, self._file = self._file, None
        measure = self._measure
        if file is None or measure is None:
            raise SpoolError(f"the draft {self.id} could not be written")
        path = self._shelving.layout.file(self.id)
        content = FileContent(self.form, measure.size, measure.length, path, self._shelving.disk)
        return Kept(content, measure.length, None, file)

    def destroy(self) -> None:
        """Whatever it has is of no use any more: it was abandoned, or its commit has proved not to have happened."""
        self._memory = None
        self._let_go()
        if self._made_file:
            self._made_file = False
            # What cannot be removed now is when the spool recovers.
            with suppress(OSError):
                remove(self._shelving.disk, self._shelving.layout.file(self.id))

    def _move_to_file(self, memory: Octets) -> None:
        self._memory = None
        self._begin_file()
        if memory.length:
            self._append(memory.joined())

    def _begin_file(self) -> None:
        self._file = create(self._shelving.disk, self._shelving.layout.file(self.id))
        self._made_file = True
        self._measure = PlainSize(self.form)

    def _append(self, octets: bytes) -> None:
        file, measure = self._file, self._measure
        if file is None or measure is None:
            raise OSError(errno.EIO, "the draft could not be written before", self.id)
        try:
            write_all(self._shelving.disk, file, octets)
        except OSError:
            # A part of it may be there: what follows must not be taken for its continuation.
            self._let_go()
            raise
        measure.take(octets)

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                self._shelving.disk.close(file)


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
