"""
The two locks that programs of Unix agree on for a file of mail: `fcntl` on the file, and `FILE.lock` beside it.

Both are tried without waiting, and both are let go if one of them is not to be had, so that nobody who takes them
in the other order waits for us while we wait for them. `mail`, mutt, procmail, Dovecot, Postfix and Exim keep them.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from relay.interfaces import IClock
from relay.net.disk import Disk, write_all
from relay.net.threads import Stop

#: A lock file that a stranger has left behind is removed if for so many seconds neither it nor the mailbox was
#: touched, and nobody has the `fcntl` lock. Postfix has the same (`stale_lock_time`).
STALE = 500.0

#: Seconds between attempts, five in all. It is a thread that waits.
PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.2, 1.32)

#: What stands in a lock file of ours: liblockfile looks for the number of a process, and 0 is none.
_NO_PROCESS = b"0\n"


def hidden(path: str, what: str) -> str:
    """A file of our own beside a mailbox. Mailboxes' names do not begin with a dot, so it is no mailbox in any list."""
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}.{what}")


class Locks:
    """
    Opens files of mail under both locks.

    A lock file of ours is a second name of a hidden file, which is itself locked for as long as its maker lives. So one
    that a killed process has left is known at once, and taken over.
    """

    def __init__(
        self,
        clock: IClock,
        disk: Disk,
        pauses: Sequence[float] = PAUSES,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._disk = disk
        self._pauses = pauses
        self._sleep = sleep

    @contextmanager
    def hold(self, path: str, create: bool, stop: Stop) -> Iterator[int]:
        """
        The file, open for reading and appending, and nobody else's until the context ends.

        Raises `OSError`: what opening it raises, and `EAGAIN` if somebody else keeps a lock for longer than we wait.
        """
        for pause in (*self._pauses, None):
            stop.check()
            with ExitStack() as stack:
                fd = self._take(stack, path, create)
                if fd is not None:
                    yield fd
                    return
            if pause is not None:
                self._sleep(pause)
        raise BlockingIOError(errno.EAGAIN, "The mailbox is locked")

    def _take(self, stack: ExitStack, path: str, create: bool) -> int | None:
        fd = self._open(path, create)
        stack.callback(self._disk.close, fd)
        found = self._disk.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            # A second name, in a directory that everybody can write, is how a stranger has a file written to.
            raise OSError(errno.EPERM, "Not an ordinary file with one name")
        if not self._disk.lock(fd) or not self._lock_beside(stack, path, found.st_mtime):
            return None
        # Mail programs may put a new file in the place of the old one, which we would then have locked.
        return fd if self._names(path, found) else None

    def _open(self, path: str, create: bool) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            return self._disk.open(path, flags)
        except FileNotFoundError:
            if not create:
                raise
            return self._disk.open(path, flags | os.O_CREAT)

    def _names(self, path: str, found: os.stat_result) -> bool:
        try:
            now = self._disk.stat(path)
        except FileNotFoundError:
            return False
        return (now.st_dev, now.st_ino) == (found.st_dev, found.st_ino)

    def _lock_beside(self, stack: ExitStack, path: str, touched: float) -> bool:
        own, lock = hidden(path, "relay-lock"), path + ".lock"
        fd = self._disk.open(own, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        stack.callback(self._disk.close, fd)
        found = self._disk.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise OSError(errno.EPERM, f"{own} is not the relay's")
        # Whoever of us had it before may have removed it a moment ago.
        if not self._disk.lock(fd) or not self._names(own, found):
            return False
        stack.callback(self._release, own, lock, found)
        if not found.st_size:
            write_all(self._disk, fd, _NO_PROCESS)
        try:
            self._disk.link(own, lock)
        except FileExistsError:
            if not self._names(lock, found):
                self._remove_stale(lock, touched)
                return False
        return True

    def _remove_stale(self, lock: str, touched: float) -> None:
        with suppress(FileNotFoundError):
            if self._clock.calendar() - max(touched, self._disk.stat(lock).st_mtime) > STALE:
                self._disk.unlink(lock)

    def _release(self, own: str, lock: str, found: os.stat_result) -> None:
        # If the lock file stays our own must stay too, since by that it is known as ours.
        with suppress(OSError):
            if self._names(lock, found):
                self._disk.unlink(lock)
            self._disk.unlink(own)
