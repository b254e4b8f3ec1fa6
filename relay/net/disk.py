"""
The system calls that keep things on disk, in one place where a test can make them fail.

Durability is the caller's: what counts is the order (RELIABILITY, Durability). A new file survives a power cut
once the file was synced, then given its name, then the directory of that name was synced. None of the
three may be left out. A failed sync is never retried on the same descriptor: the kernel reports it once.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

#: `struct flock`: a write lock, from the start, of any length, on behalf of no process (`F_OFD_SETLK` wants 0).
_WHOLE_FILE = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


class Disk:
    """
    The machine's disk. Each method is one system call and raises `OSError`. All of them may wait for a disk, so none
    is called from the reactor's thread but for the mail log's writes, which end in the kernel's memory.

    `at` is the descriptor of the directory that a relative path starts from. Descriptors are closed on exec.
    """

    def open(self, path: str, flags: int, mode: int = 0o600, at: int | None = None) -> int:
        return os.open(path, flags | os.O_CLOEXEC, mode, dir_fd=at)

    def close(self, fd: int) -> None:
        os.close(fd)

    def read(self, fd: int, most: int) -> bytes:
        return os.read(fd, most)

    def write(self, fd: int, octets: bytes | memoryview) -> int:
        """Perhaps not all of it: see `write_all`."""
        return os.write(fd, octets)

    def sync(self, fd: int) -> None:
        """`fsync`, for a file or for the directory that names it."""
        os.fsync(fd)

    def write_out(self, fd: int) -> None:
        """
        Begin to write to the disk what a file has that is not there yet, and wait for nothing (`posix_fadvise` says
        on Linux that it "requests" what is clean to be forgotten, and does this to what is not). It makes nothing
        durable: it is said of several files before the first of them is synced, so that they go to the disk together.
        """
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def truncate(self, fd: int, length: int) -> None:
        os.ftruncate(fd, length)

    def seek(self, fd: int, position: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(fd, position, whence)

    def stat(self, path: str, at: int | None = None) -> os.stat_result:
        """Of what has this name, a symbolic link itself included."""
        return os.stat(path, dir_fd=at, follow_symlinks=False)

    def fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def link(self, old: str, new: str, old_at: int | None = None, new_at: int | None = None) -> None:
        os.link(old, new, src_dir_fd=old_at, dst_dir_fd=new_at, follow_symlinks=False)

    def rename(self, old: str, new: str, old_at: int | None = None, new_at: int | None = None) -> None:
        os.rename(old, new, src_dir_fd=old_at, dst_dir_fd=new_at)

    def unlink(self, path: str, at: int | None = None) -> None:
        os.unlink(path, dir_fd=at)

    def mkdir(self, path: str, mode: int = 0o700, at: int | None = None) -> None:
        os.mkdir(path, mode, dir_fd=at)

    def lock(self, fd: int) -> bool:
        """
        The exclusive `fcntl` lock of a file open for writing, or false if somebody has it. Held until it is closed.

        It belongs to this opening of the file and not, as `fcntl.lockf` has it, to the process: so threads exclude each
        other too, and closing another descriptor of the file does not end it. Programs that use `lockf` respect it.
        """
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _WHOLE_FILE)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def times(self, fd: int, accessed: int, modified: int) -> None:
        """Set both, in nanoseconds. Only for the file's owner."""
        os.utime(fd, ns=(accessed, modified))

    def listdir(self, path: str | int) -> list[str]:
        """The names in a directory, which may be given by its descriptor."""
        return os.listdir(path)


#: How a directory is opened that is to be one: a symbolic link would lead who knows where.
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextmanager
def opened(disk: Disk, path: str, flags: int, mode: int = 0o600, at: int | None = None) -> Iterator[int]:
    """A descriptor that is closed again in any case."""
    fd = disk.open(path, flags, mode, at)
    try:
        yield fd
    finally:
        disk.close(fd)


def write_all(disk: Disk, fd: int, octets: bytes) -> None:
    """Write all of it. On an error some of it may have been written."""
    written = disk.write(fd, octets)
    while written < len(octets):
        more = disk.write(fd, memoryview(octets)[written:])
        if not more:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        written += more


def sync_directory(disk: Disk, path: str) -> None:
    """Make durable which names the directory has."""
    with opened(disk, path, os.O_RDONLY | os.O_DIRECTORY) as fd:
        disk.sync(fd)
