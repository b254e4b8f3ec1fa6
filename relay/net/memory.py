"""What the C library does with memory that was given back to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

#: By these an operator tells the GNU library the same, or otherwise: what begins so is not contradicted.
_SAID_BY_OPERATOR: Final = ("MALLOC_", "GLIBC_TUNABLES")

# As <malloc.h> has them.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

#: So much that is free at the end of the heap is kept.
KEPT: Final = 16 * 1024 * 1024
#: What is not larger comes from the heap. Content is read in pieces of a quarter of it.
FROM_HEAP: Final = 1024 * 1024


def keep_freed(
    environment: Mapping[str, str] = os.environ, mallopt: Callable[[int, int], object] | None = None
) -> None:
    """
    Have the C library keep some of the memory that is free, for what comes next.

    The GNU one gives back to the kernel all but a few hundred KiB, and the pieces of a large content are as large: each
    of them came in pages that the kernel had to find and to clear again, 150 for a message of 1 MiB and a tenth of its
    time. Where the library is another one, nothing happens; nor where the `environment` says what is to be kept.
    """
    if any(name.startswith(_SAID_BY_OPERATOR) for name in environment):
        return
    if mallopt is None:
        with suppress(ImportError, OSError, AttributeError):
            import ctypes

            mallopt = ctypes.CDLL(None).mallopt
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, FROM_HEAP)
        mallopt(_M_TRIM_THRESHOLD, KEPT)
