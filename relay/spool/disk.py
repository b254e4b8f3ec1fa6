"""What a spool asks of the disk, beyond what everybody does."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from relay.net.disk import Disk


class SpoolDisk(Disk):
    """The machine's disk, with SQLite on it."""

    def connect(self, path: str) -> sqlite3.Connection:
        """A connection that begins and ends transactions only when told, for the thread that asked. `sqlite3.Error`."""
        return sqlite3.connect(path, isolation_level=None, timeout=5.0)

    def space(self, path: str) -> os.statvfs_result:
        """How much the file system of this directory has free."""
        return os.statvfs(path)


def create(disk: Disk, path: Path) -> int:
    """A new file for us alone, to be written. It is an error if there is one, or a symbolic link."""
    return disk.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW)


def remove(disk: Disk, path: Path) -> None:
    """Take the name away; that it is gone already is no error."""
    with suppress(FileNotFoundError):
        disk.unlink(str(path))


def make_directory(disk: Disk, path: Path) -> None:
    """Make it for us alone, if it is not there."""
    with suppress(FileExistsError):
        disk.mkdir(str(path))
