"""
The agent that puts mail into mbox files: all messages of a mailbox one behind the other, as `mail -f FILE` reads them.

The format is RFC 4155's, with the quoting called mboxrd, which can be undone: a line that begins with any number of `>`
and then `From ` gets one more `>`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial

from twisted.internet.defer import DeferredLock
from zope.interface import implementer

from relay.agents.appending import append, repair
from relay.agents.copies import Copy, carry_copies
from relay.agents.directories import Directories
from relay.agents.locking import Locks
from relay.agents.places import FileParameters
from relay.interfaces import Consignment, IAgent, IClock, Report
from relay.mail.address import Address
from relay.mail.outcome import Carried, Fact
from relay.mail.queue import Recipient
from relay.mail.routing import Deliver
from relay.net.disk import Disk
from relay.net.threads import IThreads, Stop

_LOOKS_FIRST = re.compile(rb"(\n>*)From ")


@implementer(IAgent)
class MboxAgent:
    """
    Carries `Deliver("mbox", {"file": ..., "create": ...})`. `file` is an absolute path, and `create` is `yes` if it may
    be made where it is not there; without it mail for a file that is not there waits.

    Copies for one file are appended in the order in which they came, one at a time, so that a file that somebody keeps
    locked has at most one thread waiting.
    """

    Options = FileParameters

    def __init__(self, clock: IClock, threads: IThreads, disk: Disk | None = None, locks: Locks | None = None) -> None:
        self._clock = clock
        self._threads = threads
        self._disk = disk or Disk()
        self._directories = Directories(self._disk)
        self._locks = locks or Locks(clock, self._disk)
        self._turns: dict[str, DeferredLock] = {}

    def carry(self, consignment: Consignment) -> Awaitable[Sequence[Report]]:
        return carry_copies("mbox", consignment, "file", self._put)

    async def _put(self, file: str, copy: Copy) -> Fact:
        turn = self._turns.setdefault(file, DeferredLock())
        await turn.acquire()
        try:
            return await self._threads.run(partial(self._append, file, copy))
        finally:
            turn.release()
            if not turn.locked:
                self._turns.pop(file, None)

    def _append(self, file: str, copy: Copy, stop: Stop) -> Fact:
        create = any(_may_create(recipient) for recipient in copy.recipients)
        if create:
            self._directories.ensure(os.path.dirname(file))
        with self._locks.hold(file, create, stop) as fd:
            if repair(self._disk, file, fd, copy.entry.id):
                return Carried(onward=False, by=file, text="it was there already")
            accessed = self._disk.fstat(fd).st_atime_ns
            text = message(
                copy.lines(), copy.entry.envelope.reverse_path, self._clock.calendar(), self._last_octets(fd)
            )
            append(self._disk, file, fd, copy.entry.id, text, stop)
            # To look at its end was not to read it: shells tell new mail by a file that was written after it was read.
            with suppress(OSError):
                self._disk.times(fd, accessed, self._disk.fstat(fd).st_mtime_ns)
        return Carried(onward=False, by=file)

    def _last_octets(self, fd: int) -> bytes:
        size = self._disk.fstat(fd).st_size
        self._disk.seek(fd, max(0, size - 2))
        return self._disk.read(fd, 2)


def _may_create(recipient: Recipient) -> bool:
    return isinstance(recipient.route, Deliver) and recipient.route.parameters.get("create") == "yes"


def message(lines: Iterable[bytes], sender: Address | None, when: float, before: bytes) -> Iterator[bytes]:
    """
    A message with all that stands around it in an mbox. `before` is what the file ends with, two octets if it has them:
    an empty line must be between two messages.
    """
    gap = b"" if before in (b"", b"\n", b"\n\n") else b"\n" if before.endswith(b"\n") else b"\n\n"
    yield gap + from_line(sender, when)
    last = b"\n"
    for block in quoted(lines):
        yield block
        last = block[-1:]
    yield b"\n" if last == b"\n" else b"\n\n"


def from_line(sender: Address | None, when: float) -> bytes:
    """The line that begins a message (RFC 4155). A blank ends its address, but may stand in a quoted local part."""
    address = str(sender).replace(" ", "-") if sender is not None else "MAILER-DAEMON"
    return f"From {address} {time.asctime(time.gmtime(when))}\n".encode()


def quoted(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Whole text, its lines ended by LF, with a `>` before each line that would look like the first of a message."""
    fresh = True  # what was yielded ends with a line's beginning, or with that and some ">"
    held = b""  # a part of "From " at the end of a block
    for block in blocks:
        joined = held + block
        keep = next((n for n in (4, 3, 2, 1) if joined.endswith(b"From"[:n])), 0)
        out, held = joined[: len(joined) - keep], joined[len(joined) - keep :]
        if out:
            yield _quote(out, fresh)
            line = out.rpartition(b"\n")
            fresh = (fresh or bool(line[1])) and not line[2].strip(b">")
    if held:
        yield held


def _quote(octets: bytes, fresh: bool) -> bytes:
    if b"From " not in octets:
        return octets
    return _LOOKS_FIRST.sub(rb"\1>From ", (b"\n" if fresh else b" ") + octets)[1:]
