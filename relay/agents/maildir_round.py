"""
What is done on the disk to put copies into Maildirs, for all copies of a round together.

For each copy in the order that makes it durable: its file is written in `tmp` and synced, gets its name in `new`, and
the directory `new` is synced; then it is carried. For several of them each of these steps is done for all before the
next one is begun. So the disk is busy with all of their files when the first one is synced, and a directory is synced
once for all names that it has got.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress

from attrs import define, field

from relay.agents.copies import Copy
from relay.agents.directories import Directories
from relay.agents.rounds import Posting
from relay.mail.outcome import Carried
from relay.mail.queue import Entry
from relay.net.disk import DIRECTORY, Disk, opened, write_all

#: Where a reader moves a message that it has seen, and one that it has also shown.
_MOVED = (":2,", ":2,S")
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
#: What a copy has of its content is written in pieces of this size or more, and in one if it has less.
_PIECE = 64 * 1024


@define(eq=False)
class _Maildir:
    """Descriptors of its three directories, so that nobody who owns it can lead us elsewhere by a symbolic link."""

    tmp: int
    new: int
    cur: int
    #: On which device it is, and where there: one Maildir may have several paths.
    place: tuple[int, int]
    #: Those that have a name in `new` or `cur` by now: with each that name, and what is to be said of it once the
    #: directory is synced.
    named: dict[int, list[tuple[Posting, str, Carried]]] = field(factory=dict)


@define(eq=False)
class _File:
    """A copy in `tmp`."""

    posting: Posting
    maildir: _Maildir
    name: str
    temporary: str
    #: `None`: it is closed.
    fd: int | None


class MaildirRound:
    """A round (`relay.agents.rounds`). May be made by several threads at once."""

    def __init__(self, disk: Disk, name: Callable[[Entry], str], temporary_name: Callable[[], str]) -> None:
        """`name` of a message in each Maildir, and a `temporary_name` that nobody else has."""
        self._disk = disk
        self._directories = Directories(disk)
        self._name = name
        self._temporary_name = temporary_name

    def __call__(self, postings: Sequence[Posting]) -> None:
        files: list[_File] = []
        with ExitStack() as stack:
            maildirs: dict[str, _Maildir] = {}
            try:
                self._write(postings, maildirs, files, stack)
                if len(files) > 1:
                    for file in files:
                        self._write_out(file)
                named = [file for file in files if self._sync(file)]
                for file in named:
                    self._give_its_name(file)
            finally:
                for file in files:
                    with suppress(OSError):
                        self._close(file)
            for maildir in dict.fromkeys(maildirs.values()):
                self._settle(maildir)

    def _write(
        self, postings: Sequence[Posting], maildirs: dict[str, _Maildir], files: list[_File], stack: ExitStack
    ) -> None:
        """Those of which the file is complete are in `files`; of others there is an outcome, or they were there."""
        for posting in postings:
            try:
                posting.check()
                name = self._name(posting.copy.entry)
                maildir = maildirs.get(posting.folder)
                if maildir is None:
                    found = self._open(posting.folder, stack)
                    maildir = next((other for other in maildirs.values() if other.place == found.place), found)
                    maildirs[posting.folder] = maildir
                posting.device = maildir.place[0]
                there = None if posting.copy.fresh else self._find(maildir, name)
                if there is not None:
                    # Whoever wrote it may have been killed before the directory was synced.
                    already = Carried(onward=False, by=posting.folder, text="it was there already")
                    maildir.named.setdefault(there, []).append((posting, name, already))
                    continue
                temporary = self._temporary_name()
                fd = self._make(maildir, temporary)
                file = _File(posting, maildir, name, temporary, fd)
                files.append(file)
                self._fill(file, fd)
            except Exception as problem:
                posting.outcome = problem

    def _make(self, maildir: _Maildir, temporary: str) -> int:
        try:
            return self._disk.open(temporary, _NEW_FILE, at=maildir.tmp)
        except OSError as problem:
            # Nobody has seen this file, and each attempt has another one.
            problem.filename = "tmp"
            raise

    def _fill(self, file: _File, fd: int) -> None:
        try:
            for piece in _pieces(file.posting.copy):
                file.posting.check()
                write_all(self._disk, fd, piece)
        except Exception:
            self._take_away(file)
            raise

    def _write_out(self, file: _File) -> None:
        if file.fd is not None:
            # Where this cannot be begun, it is begun when it is waited for.
            with suppress(OSError):
                self._disk.write_out(file.fd)

    def _sync(self, file: _File) -> bool:
        """Whether the content is durable."""
        if file.fd is None:
            return False
        try:
            # Who stops a relay waits for one sync, and not for those of a whole round.
            file.posting.check()
            self._disk.sync(file.fd)
            # On some file systems this is where a quota is met.
            self._close(file)
        except Exception as problem:
            file.posting.outcome = problem
            self._take_away(file)
            return False
        return True

    def _give_its_name(self, file: _File) -> None:
        posting, maildir = file.posting, file.maildir
        try:
            posting.check()
            # This overwrites nobody: who has this name is this message.
            self._disk.rename(file.temporary, file.name, maildir.tmp, maildir.new)
        except Exception as problem:
            if isinstance(problem, OSError):
                # As of the one in `tmp`: what is to blame is the directory.
                problem.filename = "new"
            posting.outcome = problem
            self._take_away(file)
        else:
            carried = Carried(onward=False, by=posting.folder)
            maildir.named.setdefault(maildir.new, []).append((posting, file.name, carried))

    def _settle(self, maildir: _Maildir) -> None:
        """The last sync makes durable what names its directories have."""
        for directory, those in maildir.named.items():
            try:
                self._disk.sync(directory)
            except Exception as problem:
                for posting, name, _ in those:
                    posting.outcome = problem
                    if directory == maildir.new:
                        # A second sync would succeed and prove nothing, so the next attempt must not find the name.
                        with suppress(OSError):
                            self._disk.unlink(name, directory)
            else:
                for posting, _, carried in those:
                    posting.outcome = carried

    def _open(self, folder: str, stack: ExitStack) -> _Maildir:
        try:
            return self._enter(folder, stack)
        except FileNotFoundError:
            self._directories.forget()
            return self._enter(folder, stack)

    def _enter(self, folder: str, stack: ExitStack) -> _Maildir:
        disk = self._disk
        self._directories.ensure(folder, "tmp", "new", "cur")
        with ExitStack() as mine, opened(disk, folder, DIRECTORY) as at:
            tmp, new, cur = (mine.enter_context(opened(disk, name, DIRECTORY, at=at)) for name in ("tmp", "new", "cur"))
            node = disk.fstat(at)
            stack.push(mine.pop_all())
        return _Maildir(tmp, new, cur, (node.st_dev, node.st_ino))

    def _find(self, maildir: _Maildir, name: str) -> int | None:
        """
        The directory in which the message is already. A reader that has set more flags than "seen" meanwhile makes
        a duplicate of it: to look for that would be to list the whole mailbox.
        """
        places = [(maildir.new, name), *((maildir.cur, name + moved) for moved in _MOVED)]
        for at, path in places:
            with suppress(FileNotFoundError):
                try:
                    self._disk.stat(path, at)
                except OSError as problem:
                    problem.filename = "new" if at == maildir.new else "cur"
                    raise
                return at
        return None

    def _take_away(self, file: _File) -> None:
        with suppress(OSError):
            self._close(file)
        with suppress(OSError):
            self._disk.unlink(file.temporary, file.maildir.tmp)

    def _close(self, file: _File) -> None:
        fd, file.fd = file.fd, None
        if fd is not None:
            self._disk.close(fd)


def _pieces(copy: Copy) -> Iterator[bytes]:
    """A copy's lines, joined to pieces that are worth a call."""
    pieces: list[bytes] = []
    length = 0
    for block in copy.lines():
        pieces.append(block)
        length += len(block)
        if length >= _PIECE:
            yield b"".join(pieces)
            pieces.clear()
            length = 0
    if pieces:
        yield b"".join(pieces)
