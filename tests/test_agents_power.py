"""Copies in Maildirs and a power cut: what is said to be carried is there, whole, and nothing else can be seen."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from relay.agents.copies import Copy
from relay.agents.maildir_round import MaildirRound
from relay.agents.rounds import Posting
from relay.mail.outcome import Carried
from relay.testing.disk import FaultyDisk, Gone
from tests.local_mail import consignment, to

#: Two messages for one Maildir, and one for each of two others.
FOLDERS = ("jon", "jon", "ann", "eve")


class Forgetful(FaultyDisk):
    """
    One that has, after a `power_cut`, nothing but what was synced: of a file its content, of a directory its names. Or,
    since a disk may have more than it was asked to, all `names`, but of what was not synced of contents a half.
    """

    def __init__(self, root: Path, n: int | None = None, error: int | None = None) -> None:
        super().__init__(n, error)
        self._root = root
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        # What is there in the beginning has been there for long.
        for path in (root, *root.rglob("*")):
            self._note(path)

    def _note(self, path: Path | str) -> None:
        node = os.stat(path)
        if stat.S_ISDIR(node.st_mode):
            names = self._names[node.st_ino] = dict[str, int]()
            for name in os.listdir(path):
                # Above our root others come and go meanwhile.
                with contextlib.suppress(FileNotFoundError):
                    names[name] = os.lstat(os.path.join(path, name)).st_ino
        else:
            self._contents[node.st_ino] = Path(path).read_bytes()

    def open(self, path: str, flags: int, mode: int = 0o600, at: int | None = None) -> int:
        fd = super().open(path, flags, mode, at)
        if flags & os.O_EXCL:
            self._contents.pop(os.fstat(fd).st_ino, None)
        return fd

    def mkdir(self, path: str, mode: int = 0o700, at: int | None = None) -> None:
        super().mkdir(path, mode, at)
        self._names.pop(os.stat(path, dir_fd=at).st_ino, None)

    def sync(self, fd: int) -> None:
        super().sync(fd)
        self._note(f"/proc/self/fd/{fd}")

    def power_cut(self, names: bool) -> None:
        left = self._left(self._root, names)
        for path in self._root.iterdir():
            shutil.rmtree(path)
        _make(self._root, left)

    def _left(self, path: Path, names: bool) -> Any:
        node = path.stat()
        if stat.S_ISREG(node.st_mode):
            octets = path.read_bytes()
            return self._contents.get(node.st_ino, octets[: len(octets) // 2] if names else b"")
        durable = self._names.get(node.st_ino, {})
        return {
            inner.name: self._left(inner, names)
            for inner in path.iterdir()
            if names or durable.get(inner.name) == inner.stat().st_ino
        }


def _make(path: Path, left: Any) -> None:
    if isinstance(left, bytes):
        path.write_bytes(left)
        return
    path.mkdir(exist_ok=True)
    for name, inner in left.items():
        _make(path / name, inner)


class PowerCutTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        self.count = itertools.count()

    def begin(self, prepared: bool) -> None:
        for path in self.root.iterdir():
            shutil.rmtree(path)
        if prepared:
            for folder, part in itertools.product(set(FOLDERS), ("tmp", "new", "cur")):
                (self.root / folder / part).mkdir(parents=True)

    def carry(self, disk: FaultyDisk, those: Iterable[int] = range(4), fresh: bool = False) -> Sequence[Posting]:
        """A process that puts them there, in one round; perhaps it is ended amid that."""
        postings = []
        for n in those:
            folder = str(self.root / FOLDERS[n])
            mail = consignment(to(f"{n}@example.net", "maildir", folder=folder), id=f"id{n}")
            copy = Copy(mail.entry, mail.recipients, mail.content, mail.head)
            postings.append(Posting(folder, evolve(copy, fresh=fresh)))
        with contextlib.suppress(Gone):
            MaildirRound(disk, lambda entry: entry.id, lambda: f"temporary{next(self.count)}")(postings)
        return postings

    def seen(self) -> list[str]:
        """Those that somebody sees, who are whole."""
        files = list(self.root.glob("*/new/*"))
        for file in files:
            octets = file.read_bytes()
            self.assertTrue(octets.startswith(b"Return-Path: ") and octets.endswith(b">From you\n"), octets)
        return sorted(file.name for file in files)

    def every_call(self, *kinds: tuple[bool, bool]) -> Iterable[tuple[int, bool]]:
        """`kinds`: whether the Maildirs are there, and whether the messages are known not to be."""
        for prepared, fresh in kinds:
            self.begin(prepared)
            disk = Forgetful(self.root)
            self.carry(disk, fresh=fresh)
            for n in range(1, len(disk.calls) + 2):
                self.begin(prepared)
                yield n, fresh

    def check(self, disk: Forgetful, postings: Sequence[Posting], names: bool) -> None:
        """After a power cut those that were carried are there, and the others can be, and then each is there once."""
        carried = {n for n, posting in enumerate(postings) if isinstance(posting.outcome, Carried)}
        disk.heal()
        disk.power_cut(names)
        self.assertLessEqual({f"id{n}" for n in carried}, set(self.seen()))
        again = Forgetful(self.root)
        outcomes = [posting.outcome for posting in self.carry(again, set(range(4)) - carried)]
        self.assertTrue(all(isinstance(outcome, Carried) for outcome in outcomes), outcomes)
        again.power_cut(names)
        self.assertEqual(self.seen(), ["id0", "id1", "id2", "id3"])

    def test_at_whichever_call_it_comes(self) -> None:
        for names in False, True:
            for n, fresh in self.every_call((False, False), (True, True)):
                with self.subTest(names=names, fresh=fresh, n=n):
                    disk = Forgetful(self.root, n)
                    self.check(disk, self.carry(disk, fresh=fresh), names)

    def test_behind_an_error_of_whichever_call(self) -> None:
        for n, fresh in self.every_call((False, False), (True, True)):
            with self.subTest(fresh=fresh, n=n):
                disk = Forgetful(self.root, n, errno.EIO)
                self.check(disk, self.carry(disk, fresh=fresh), False)

    def test_when_one_that_was_killed_has_been_followed_by_another(self) -> None:
        """It finds names there of which nobody has said that they are durable."""
        for n, fresh in self.every_call((True, True)):
            with self.subTest(n=n):
                disk = Forgetful(self.root, n)
                self.carry(disk, fresh=fresh)
                disk.heal()
                self.check(disk, self.carry(disk), False)
