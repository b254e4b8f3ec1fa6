from __future__ import annotations

import contextlib
import errno
import gc
import shutil
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.interfaces import SpoolError
from relay.mail.envelope import Form
from relay.smtp.octets import plain, wire
from relay.spool.contents import BLOCK, Budget, Draft, FileContent, MemoryContent, PlainSize, Shelving, plain_size
from relay.spool.layout import Layout, prepare
from relay.testing.disk import FaultyDisk

ID = "0123456789ABCD"

LINES = st.lists(st.sampled_from([b".", b"\r\n", b"\r", b"\n", b"x", b"..", b".\r\n"])).map(b"".join)


def cut(octets: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(octets) + 1) for place in places), len(octets)]
    return [octets[begin:end] for begin, end in pairwise(edges)]


class SizeTests(SynchronousTestCase):
    @given(LINES, st.lists(st.integers(0, 100), max_size=6))
    def test_the_size_is_that_of_the_plain_form_however_it_was_cut(self, message: bytes, places: list[int]) -> None:
        received = b"".join(wire([message]))
        expected = len(b"".join(plain([received])))
        measure = PlainSize(Form.WIRE)
        for block in cut(received, places):
            measure.take(block)
        self.assertEqual(measure.size, expected)
        self.assertEqual(plain_size(Form.WIRE, received), expected)
        self.assertEqual(measure.length, len(received))

    @given(LINES)
    def test_plain_content_has_the_size_it_has(self, message: bytes) -> None:
        measure = PlainSize(Form.PLAIN)
        measure.take(message)
        self.assertEqual([measure.size, plain_size(Form.PLAIN, message)], [len(message)] * 2)

    @given(LINES, st.sampled_from([b"", b"\r\n.\r\n", b".\r\n"]))
    def test_any_octets_have_the_size_that_they_have_in_blocks(self, octets: bytes, end: bytes) -> None:
        """Nobody has looked at what a spool that was written before has in a row."""
        measure = PlainSize(Form.WIRE)
        measure.take(octets + end)
        self.assertEqual(plain_size(Form.WIRE, octets + end), measure.size)

    def test_content_without_its_end_has_no_negative_size(self) -> None:
        self.assertEqual(plain_size(Form.WIRE, b""), 0)
        self.assertEqual(PlainSize(Form.WIRE).size, 0)


class DraftTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.disk = FaultyDisk()
        path = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, path)
        self.layout = Layout(Path(path) / "spool")
        prepare(self.layout, self.disk)
        self.disk.calls.clear()
        self.budget = Budget(1000)
        self.draft = Draft(ID, Form.PLAIN, Shelving(self.layout, self.disk, self.budget, in_row=100))

    @property
    def file(self) -> Path:
        return self.layout.content / "D" / ID

    def test_what_was_written_is_read_back_before_it_is_kept(self) -> None:
        for size in (10, 100, 101, BLOCK + 5):
            draft = Draft(ID, Form.PLAIN, Shelving(self.layout, self.disk, Budget(10**6), in_row=100))
            self.assertEqual(list(draft.blocks()), [])
            draft.write(b"x" * size)
            self.assertEqual([b"".join(draft.blocks()) for _ in range(2)], [b"x" * size] * 2)
            draft.abandon()

    def test_a_beginning_is_replaced_wherever_the_content_is(self) -> None:
        for size in (10, 90, 100, 101, 3 * BLOCK):
            for length, octets in ((0, b""), (4, b"1234"), (4, b"longer" * 40), (9, b""), (size, b"all of it")):
                draft = Draft(ID, Form.PLAIN, Shelving(self.layout, self.disk, Budget(10**6), in_row=100))
                content = bytes(range(10)) + b"x" * (size - 10)
                draft.write(content)
                draft.replace(length, octets)
                expected = octets + content[length:]
                self.assertEqual(b"".join(draft.blocks()), expected)
                draft.write(b"more")
                kept, _, file = draft.keep()
                self.assertEqual((b"".join(kept.blocks()), kept.length), (expected + b"more", len(expected) + 4))
                self.assertEqual(kept.size, kept.length)
                if file is not None:
                    self.disk.close(file)
                draft.destroy()
        self.assertEqual(list(self.layout.content.rglob(ID)), [])

    def test_a_draft_whose_copy_fails_is_of_no_more_use(self) -> None:
        def copy(disk: FaultyDisk) -> None:
            draft = Draft(ID, Form.PLAIN, Shelving(self.layout, disk, self.budget, in_row=100))
            draft.write(b"x" * 200)
            draft.replace(5, b"other")

        counting = FaultyDisk()
        copy(counting)
        shutil.rmtree(self.layout.content)
        prepare(self.layout, FaultyDisk())
        for number in range(1, len(counting.calls) + 1):
            disk = FaultyDisk(number, errno.EIO)
            draft = Draft(ID, Form.PLAIN, Shelving(self.layout, disk, self.budget, in_row=100))
            try:
                draft.write(b"x" * 200)
                draft.replace(5, b"other")
            except OSError:
                # All of what it was, or nothing at all: never half a copy.
                with contextlib.suppress(OSError, SpoolError):
                    self.assertEqual(draft.keep()[0].length, 200)
            draft.abandon()
            draft.destroy()
            shutil.rmtree(self.layout.content)
            prepare(self.layout, FaultyDisk())

    def test_small_content_never_meets_the_disk(self) -> None:
        self.draft.write(b"x" * 60)
        self.draft.write(b"y" * 40)
        content, *rest = self.draft.keep()
        self.assertEqual(rest, [b"x" * 60 + b"y" * 40, None])
        self.assertEqual((content.length, content.size, list(content.blocks())), (100, 100, [b"x" * 60 + b"y" * 40]))
        self.assertEqual(self.disk.calls, [])

    def test_larger_content_goes_to_a_file_as_it_arrives(self) -> None:
        self.draft.write(b"x" * 60)
        self.draft.write(b"y" * 41)
        self.assertEqual(self.file.read_bytes(), b"x" * 60 + b"y" * 41)
        self.draft.write(b"z")
        self.assertEqual(self.file.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.budget.left, 1000)
        content, octets, file = self.draft.keep()
        assert file is not None
        self.disk.close(file)
        self.assertEqual((octets, content.length, content.size), (None, 102, 102))
        self.assertEqual(b"".join(content.blocks()), b"x" * 60 + b"y" * 41 + b"z")

    def test_when_memory_is_short_small_content_goes_to_a_file_too(self) -> None:
        others = [Draft(f"0123456789ABC{n}", Form.PLAIN, self.draft._shelving) for n in range(10)]
        for other in others:
            other.write(b"x" * 99)
        self.draft.write(b"y" * 20)
        self.assertTrue(self.file.exists())
        self.draft.abandon()
        others[0].abandon()
        self.assertEqual(self.budget.left, 1000 - 9 * 99)

    def test_what_is_given_back_is_there_when_it_is_needed(self) -> None:
        for _ in range(5000):
            self.assertTrue(self.budget.take(600))
            self.assertFalse(self.budget.take(401))
            self.assertTrue(self.budget.take(0))
            self.budget.give_back(0)
            self.budget.give_back(600)
            self.assertEqual(self.budget.left, 1000)
        self.assertLess(len(self.budget._returned), 200)

    def test_drafts_that_were_never_written_to_are_empty(self) -> None:
        shelving = self.draft._shelving
        self.assertEqual(list(self.draft.blocks()), [])
        content, octets, file = self.draft.keep()
        self.assertEqual((octets, file, content.size, list(content.blocks())), (b"", None, 0, [b""]))
        self.assertRaises(ValueError, self.draft.write, b"x")
        self.assertRaises(ValueError, self.draft.replace, 0, b"x")
        self.assertRaises(ValueError, self.draft.keep)
        replaced = Draft(ID, Form.PLAIN, shelving)
        replaced.replace(0, b"abc")
        replaced.replace(1, b"")
        self.assertEqual(list(replaced.blocks()), [b"bc"])
        for leave in (Draft.abandon, Draft.destroy):
            left = Draft(ID, Form.PLAIN, shelving)
            leave(left)
            self.assertRaises((OSError, ValueError), left.write, b"x")
            left.abandon()
        replaced.abandon()
        self.assertEqual((shelving.open, self.disk.calls), (set(), []))

    def test_memory_is_given_back_when_nobody_has_the_content(self) -> None:
        self.draft.write(b"x" * 60)
        content, *_ = self.draft.keep()
        del self.draft, _
        self.assertEqual(self.budget.left, 940)
        self.assertEqual(b"".join(content.blocks()), b"x" * 60)
        del content
        gc.collect()
        self.assertEqual(self.budget.left, 1000)
        self.assertTrue(self.budget.take(1000))

    def test_an_abandoned_draft_leaves_nothing(self) -> None:
        self.draft.write(b"x" * 101)
        self.draft.abandon()
        self.assertFalse(self.file.exists())
        self.draft.abandon()
        self.assertRaises(ValueError, self.draft.write, b"x")
        self.assertRaises(ValueError, self.draft.keep)

    def test_a_draft_that_is_kept_is_abandoned_in_vain(self) -> None:
        self.draft.write(b"x" * 101)
        *_, file = self.draft.keep()
        self.draft.abandon()
        self.assertTrue(self.file.exists())
        assert file is not None
        self.disk.close(file)

    def test_another_entrys_file_is_never_written_nor_removed(self) -> None:
        self.file.write_bytes(b"somebody else's")
        self.assertRaises(FileExistsError, self.draft.write, b"x" * 101)
        self.assertRaises(OSError, self.draft.write, b"x")
        self.assertRaises(SpoolError, self.draft.keep)
        self.draft.destroy()
        self.assertEqual(self.file.read_bytes(), b"somebody else's")

    def test_a_draft_that_met_a_full_disk_takes_no_more_and_cannot_be_kept(self) -> None:
        disk = FaultyDisk(2, errno.ENOSPC)
        draft = Draft(ID, Form.PLAIN, Shelving(self.layout, disk, self.budget, in_row=100))
        self.assertRaises(OSError, draft.write, b"x" * 101)
        self.assertEqual(disk.names, ["open", "write"])
        self.assertRaises(OSError, draft.write, b"y")
        self.assertRaises(SpoolError, draft.keep)
        draft.destroy()
        self.assertFalse(self.file.exists())

    def test_content_from_a_file_comes_in_bounded_blocks_for_each_attempt(self) -> None:
        self.file.write_bytes(b"x" * (BLOCK + 1))
        content = FileContent(Form.PLAIN, BLOCK + 1, BLOCK + 1, self.file, self.disk)
        for _ in range(2):
            self.assertEqual([len(block) for block in content.blocks()], [BLOCK, 1])

    def test_content_from_memory_comes_in_bounded_blocks(self) -> None:
        content = MemoryContent(Form.PLAIN, BLOCK + 1, b"x" * (BLOCK + 1))
        self.assertEqual([len(block) for block in content.blocks()], [BLOCK, 1])

    def test_a_file_that_is_gone_or_shorter_than_it_was_cannot_be_read(self) -> None:
        content = FileContent(Form.PLAIN, 100, 100, self.file, self.disk)
        self.assertRaises(OSError, list, content.blocks())
        self.file.write_bytes(b"x" * 99)
        self.assertRaises(OSError, list, content.blocks())

    def test_an_attempt_that_stops_reading_closes_the_file(self) -> None:
        self.file.write_bytes(b"x" * (BLOCK + 1))
        blocks = FileContent(Form.PLAIN, BLOCK + 1, BLOCK + 1, self.file, self.disk).blocks()
        next(blocks)
        before = len(list(Path("/proc/self/fd").iterdir()))
        blocks.close()  # type: ignore[attr-defined]
        self.assertEqual(len(list(Path("/proc/self/fd").iterdir())), before - 1)
