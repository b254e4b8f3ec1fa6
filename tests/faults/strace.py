"""Killing at an exact system call, by strace's fault injection, where strace is installed and may trace."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: What a thread may be killed at, and how many of these calls one makes in a round, as a power of ten: the call at which
#: the kill comes is chosen evenly among the powers. A name with "?" may be unknown on this kind of machine.
CALLS_A_ROUND: Final = {
    "pwrite64": 2.7,
    "fdatasync": 2.0,
    "fsync": 1.7,
    "write": 2.3,
    "?open,openat": 2.0,
    "?rename,?renameat,renameat2": 1.2,
    "?unlink,unlinkat": 1.2,
    "?link,linkat": 1.0,
    "ftruncate": 0.3,
    "sendto": 2.5,
    "recvfrom": 2.5,
}
CALLS: Final = tuple(CALLS_A_ROUND)


def works() -> bool:
    """Whether strace is here and may trace."""
    if shutil.which("strace") is None:
        return False
    tried = subprocess.run(["strace", "-e", "trace=none", "true"], capture_output=True, check=False, timeout=30)
    return tried.returncode == 0


@contextmanager
def killing(pid: int, call: str, number: int) -> Iterator[None]:
    """Meanwhile the process gets SIGKILL as one of its threads enters this call for the `number`th time."""
    strace = subprocess.Popen(
        [
            "strace",
            "--follow-forks",
            f"--trace={call}",
            f"--inject={call}:signal=KILL:when={number}",
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
