"""
The agent that puts mail into Maildirs: a file for each message, complete from the moment it can be seen.

https://cr.yp.to/proto/maildir.html says what a Maildir is. In its order, and with what RELIABILITY adds: the file
is written and synced in `tmp`, gets its name in `new`, and the directory `new` is synced; then it is carried.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from attrs import frozen
from zope.interface import implementer

from relay.agents.copies import Copy, carry_copies
from relay.agents.directories import Directories
from relay.agents.places import FolderParameters
from relay.interfaces import Consignment, IAgent, IClock, Report
from relay.mail.outcome import Carried, Fact
from relay.mail.queue import Entry
from relay.net.disk import DIRECTORY, Disk, opened, write_all
from relay.net.threads import IThreads, Stop

#: `/` ends a name and `:` begins a reader's flags, so neither may stand in what a name is made of.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9._-]")

#: Where a reader moves a message that it has seen, and one that it has also shown.
_MOVED = (":2,", ":2,S")


@frozen
class _Maildir:
    """Descriptors of its three directories, so that nobody who owns it can lead us elsewhere by a symbolic link."""

    tmp: int
    new: int
    cur: int


@implementer(IAgent)
class MaildirAgent:
    """
    Carries `Deliver("maildir", {"folder": ...})`. `folder` is the Maildir's absolute path; it is made if need be.

    The name of a file comes from the queue id, so a message that was written, but whose settlement the
    spool did not live to see, is found again and not written twice.
    """

    Options = FolderParameters

    def __init__(self, clock: IClock, hostname: str, threads: IThreads, disk: Disk | None = None) -> None:
        self._clock = clock
        self._host = _NOT_IN_A_NAME.sub("_", hostname.lower())[:100]
        self._threads = threads
        self._disk = disk or Disk()
        self._directories = Directories(self._disk)
        #: In a container every process has the same number, and finds what the one before it has left.
        self._life = secrets.token_hex(8)
        self._count = itertools.count(1)

    def carry(self, consignment: Consignment) -> Awaitable[Sequence[Report]]:
        return carry_copies("maildir", consignment, "folder", self._put)

    def _put(self, folder: str, copy: Copy) -> Awaitable[Fact]:
        return self._threads.run(partial(self._write, folder, copy))

    def _write(self, folder: str, copy: Copy, stop: Stop) -> Fact:
        name = self._name(copy.entry)
        with self._open(folder) as maildir:
            there = self._find(maildir, name)
            if there is not None:
                # Whoever wrote it may have been killed before the directory was synced.
                self._disk.sync(there)
                return Carried(onward=False, by=folder, text="it was there already")
            temporary = self._temporary_name()
            try:
                self._write_file(maildir.tmp, temporary, copy, stop)
                stop.check()
                # This overwrites nobody: who has this name is this message.
                self._disk.rename(temporary, name, maildir.tmp, maildir.new)
            except BaseException:
                with suppress(OSError):
                    self._disk.unlink(temporary, maildir.tmp)
                raise
            self._sync_new(maildir.new, name)
        return Carried(onward=False, by=folder)

    @contextmanager
    def _open(self, folder: str) -> Iterator[_Maildir]:
        with ExitStack() as stack:
            try:
                maildir = self._enter(stack, folder)
            except FileNotFoundError:
                self._directories.forget()
                maildir = self._enter(stack, folder)
            yield maildir

    def _enter(self, stack: ExitStack, folder: str) -> _Maildir:
        self._directories.ensure(folder, "tmp", "new", "cur")
        at = stack.enter_context(opened(self._disk, folder, DIRECTORY))
        tmp, new, cur = (
            stack.enter_context(opened(self._disk, name, DIRECTORY, at=at)) for name in ("tmp", "new", "cur")
        )
        return _Maildir(tmp, new, cur)

    def _find(self, maildir: _Maildir, name: str) -> int | None:
        """
        The directory in which the message is already. A reader that has set more flags than "seen" meanwhile makes
        a duplicate of it: to look for that would be to list the whole mailbox.
        """
        places = [(maildir.new, name), *((maildir.cur, name + moved) for moved in _MOVED)]
        for at, path in places:
            with suppress(FileNotFoundError):
                self._disk.stat(path, at)
                return at
        return None

    def _write_file(self, at: int, name: str, copy: Copy, stop: Stop) -> None:
        with opened(self._disk, name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, at=at) as fd:
            for block in copy.lines():
                stop.check()
                write_all(self._disk, fd, block)
            self._disk.sync(fd)

    def _sync_new(self, at: int, name: str) -> None:
        try:
            self._disk.sync(at)
        except OSError:
            # A second sync would succeed and prove nothing, so the next attempt must not find the name.
            with suppress(OSError):
                self._disk.unlink(name, at)
            raise

    def _name(self, entry: Entry) -> str:
        if not _ID.match(entry.id):
            raise ValueError(f"{entry.id!r} cannot be part of a file's name")
        return f"{int(entry.arrived)}.R{entry.id}.{self._host}"

    def _temporary_name(self) -> str:
        """No two attempts write the same file: one that was cancelled may still be at work."""
        return f"{int(self._clock.calendar())}.P{os.getpid()}R{self._life}Q{next(self._count)}.{self._host}"
