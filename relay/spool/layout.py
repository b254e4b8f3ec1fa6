"""Where a spool's files are, and what must be true of its directory."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from relay.net.disk import Disk, opened, sync_directory
from relay.spool.disk import make_directory
from relay.spool.errors import SpoolUnusable
from relay.spool.identity import ALPHABET


@frozen
class Layout:
    """The directory of one spool. Paths only; nothing is touched."""

    path: Path

    @property
    def database(self) -> Path:
        """Entries, recipients, and content up to 64 KiB."""
        return self.path / "spool.db"

    @property
    def lock(self) -> Path:
        """Locked by the process that owns the spool, which writes its number there."""
        return self.path / "lock"

    @property
    def content(self) -> Path:
        """Files of larger content."""
        return self.path / "content"

    @property
    def shelves(self) -> tuple[Path, ...]:
        """The directories that the files are spread over, by the last character of an id, which is random."""
        return tuple(self.content / character for character in ALPHABET)

    def shelf(self, id: str) -> Path:
        return self.content / id[-1]

    def file(self, id: str) -> Path:
        return self.content / id[-1] / id


def prepare(layout: Layout, disk: Disk) -> None:
    """
    Make what is not there, durably, and refuse a directory that everybody may write in.

    Directories are synced even if they were there: who made them may have died before it did that.
    """
    try:
        layout.path.parent.mkdir(parents=True, exist_ok=True)
        for directory in (layout.path, layout.content):
            make_directory(disk, directory)
            with opened(disk, str(directory), os.O_RDONLY | os.O_DIRECTORY) as opening:
                if disk.fstat(opening).st_mode & stat.S_IWOTH:
                    raise SpoolUnusable(f"{directory}: everybody may write there; say `chmod o-w {directory}`")
        for shelf in layout.shelves:
            make_directory(disk, shelf)
        for directory in (layout.content, layout.path):
            sync_directory(disk, str(directory))
        # Others' directories need not be ours to read; then it was not we who made ours.
        with suppress(PermissionError):
            sync_directory(disk, str(layout.path.parent))
    except OSError as problem:
        raise SpoolUnusable(f"{problem.filename or layout.path}: {problem.strerror}") from problem
