"""Death, or an error, at an exact system call: strace's fault injection, where strace is installed and may trace."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: What a thread may be killed at, and how many of these calls one makes in a round, as a power of ten. A name with "?" may
#: be unknown on this kind of machine.
CALLS: Final = {
    "pwrite64": 2.7,
    "fdatasync": 2.0,
    "fsync": 1.7,
    "write": 2.3,
    "?open,openat": 2.0,
    "?rename,?renameat,renameat2": 0.8,
    "?unlink,unlinkat": 1.2,
    "?link,linkat": 1.0,
    "ftruncate": 0.3,
    "sendto": 2.5,
    "recvfrom": 2.5,
}
#: Those by which a disk says that something is wrong. Not `write`, by which threads wake each other, too.
DISK: Final = (
    "pwrite64",
    "fdatasync",
    "fsync",
    "?open,openat",
    "?rename,?renameat,renameat2",
    "?unlink,unlinkat",
    "?link,linkat",
)
DEATH: Final = "signal=KILL"
ERRORS: Final = ("error=EIO", "error=ENOSPC")


def works() -> bool:
    """Whether strace is here and may trace."""
    if shutil.which("strace") is None:
        return False
    tried = subprocess.run(["strace", "-e", "trace=none", "true"], capture_output=True, check=False, timeout=30)
    return tried.returncode == 0


def number(call: str, chance: random.Random) -> int:
    """The how many-th of these calls of one thread it is to be: evenly among the orders of magnitude that it reaches."""
    return round(10 ** chance.uniform(CALLS[call] / 3, CALLS[call]))


@contextmanager
def injecting(pid: int, call: str, number: int, what: str) -> Iterator[None]:
    """Meanwhile `what` happens to each thread of the process as it enters this call for the `number`th time."""
    strace = subprocess.Popen(
        [
            "strace",
            "--follow-forks",
            f"--trace={call}",
            f"--inject={call}:{what}:when={number}",
            "--output=/dev/null",
            f"--attach={pid}",
        ],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert strace.stderr is not None
    try:
        said = strace.stderr.readline()
        assert "attached" in said, f"strace does not attach: {said}"
        yield
    finally:
        strace.terminate()
        strace.communicate()
