from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TextIO

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relay.net.clock import ReactorClock
from relay.policy.tables import FileTable


def numbers(file: TextIO) -> list[int]:
    return [int(line) for line in file]


class FileTableTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.path = folder / "table"
        self.path.write_text("1\n2\n")
        self.clock = Clock()

    def table(self) -> FileTable[list[int]]:
        return FileTable(self.path, numbers, ReactorClock(self.clock))

    def test_it_says_what_the_file_says(self) -> None:
        self.assertEqual(self.table().current(), [1, 2])

    def test_a_file_that_has_changed_is_read_again(self) -> None:
        table = self.table()
        self.path.write_text("3\n")
        self.clock.advance(1)
        self.assertEqual(table.current(), [3])

    def test_a_file_that_was_replaced_by_one_of_the_same_age_and_size_is_read_again(self) -> None:
        table, before = self.table(), self.path.stat()
        other = self.path.with_name("new")
        other.write_text("8\n9\n")
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        other.replace(self.path)
        self.clock.advance(1)
        self.assertEqual(table.current(), [8, 9])

    def test_it_is_looked_at_once_a_second_at_most(self) -> None:
        table = self.table()
        self.path.write_text("3\n")
        self.clock.advance(0.9)
        self.assertEqual(table.current(), [1, 2])
        self.path.unlink()
        self.clock.advance(0.2)
        self.assertRaises(ValueError, table.current)
        self.path.write_text("4\n")
        self.assertRaises(ValueError, table.current)
        self.clock.advance(1)
        self.assertEqual(table.current(), [4])

    def test_an_unchanged_file_is_not_read_again(self) -> None:
        read: list[str] = []
        table = FileTable(self.path, lambda file: read.append(file.read()), ReactorClock(self.clock))
        for _ in range(5):
            self.clock.advance(1)
            table.current()
        self.assertEqual(len(read), 1)

    def test_a_file_that_is_not_there_or_makes_no_sense_at_first_is_a_mistake(self) -> None:
        self.path.write_text("one\n")
        self.assertRaises(ValueError, self.table)
        self.path.write_bytes(b"\xff")
        self.assertRaises(ValueError, self.table)
        self.path.unlink()
        self.assertRaises(FileNotFoundError, self.table)

    def test_a_file_that_makes_no_sense_any_more_is_not_believed_and_names_itself(self) -> None:
        table = self.table()
        self.path.write_text("one\n")
        self.clock.advance(1)
        for _ in range(2):
            error = self.assertRaises(ValueError, table.current)
            self.assertIn(str(self.path), str(error))
        self.path.write_text("1\n")
        self.clock.advance(1)
        self.assertEqual(table.current(), [1])
