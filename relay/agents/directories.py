"""Directories that are there, and will still be there after a power cut."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from relay.net.disk import DIRECTORY, Disk, opened, sync_directory

#: Directories that are remembered as durable. Beyond that all are forgotten, and synced once more.
MOST = 10_000

#: What a directory answers in which we could not have made another one.
_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL}


class Directories:
    """
    Makes directories, and makes sure once in the life of a process that each is durable.

    That a directory exists says nothing: it may have been made a moment before this process's predecessor was
    killed, and its name may never have been synced. May be used by several threads.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._durable: set[str] = set()

    def ensure(self, path: str, *inside: str) -> None:
        """
        Make this absolute path a durable directory, with those above it and those of these names in it. What is new
        is for its owner only. Always called with the same names for the same path.

        Raises `OSError`. What is there already and is no directory is found by whoever opens it.
        """
        if path in self._durable:
            return
        unsure = []
        above = os.path.dirname(path)
        while above not in self._durable and above != "/":
            unsure.append(above)
            above = os.path.dirname(above)
        for directory in reversed(unsure):
            self._make(directory)
            self._remember(directory)
        self._make(path)
        if inside:
            self._make_inside(path, inside)
        self._remember(path)

    def forget(self) -> None:
        """Somebody has removed one that was thought to be durable; no matter which."""
        self._durable.clear()

    def _remember(self, path: str) -> None:
        if len(self._durable) >= MOST:
            self._durable.clear()
        self._durable.add(path)

    def _make(self, path: str) -> None:
        made = True
        try:
            self._disk.mkdir(path)
        except FileExistsError:
            made = False
        try:
            sync_directory(self._disk, os.path.dirname(path))
        except OSError as error:
            if made or error.errno not in _NOT_OURS:
                raise

    def _make_inside(self, path: str, names: tuple[str, ...]) -> None:
        with opened(self._disk, path, DIRECTORY) as fd:
            for name in names:
                with suppress(FileExistsError):
                    self._disk.mkdir(name, at=fd)
            self._disk.sync(fd)
