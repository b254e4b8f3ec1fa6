"""What the C library does with memory that was given back to it."""

from __future__ import annotations

import platform
import subprocess
import sys
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from relay.net.memory import FROM_HEAP, KEPT, keep_freed

#: How many pages the kernel has to give to a process that reads content in pieces, once it has read some.
_READING = """
import resource, sys
from relay.net.memory import keep_freed
if sys.argv[1] == "kept":
    keep_freed({})
def read():
    pieces = [bytes(256 * 1024) for _ in range(16)]
read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    read()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages(kept: str) -> int:
    ran = subprocess.run(
        [sys.executable, "-c", _READING, kept], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, check=True
    )
    return int(ran.stdout)


class MemoryTests(SynchronousTestCase):
    @skipUnless(platform.libc_ver()[0] == "glibc", "another C library keeps what it wants")
    def test_pieces_of_content_come_in_pages_that_are_there(self) -> None:
        self.assertLess(pages("kept"), pages("stock") / 10)

    def test_what_the_operator_has_said_is_not_contradicted(self) -> None:
        told: list[tuple[int, int]] = []
        tell = lambda what, value: told.append((what, value))  # noqa: E731
        for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES"):
            keep_freed({"PATH": "/bin", name: "1"}, tell)
        self.assertEqual(told, [])
        keep_freed({"PATH": "/bin"}, tell)
        self.assertEqual(told, [(-3, FROM_HEAP), (-1, KEPT)])
