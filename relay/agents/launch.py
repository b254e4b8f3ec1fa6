"""
Becomes the program that the agent `pipe` runs: in a session of its own, with its limits, as its user.

    python -I -S launch.py "relay=PID cpu=SECONDS memory=OCTETS uid=N gid=N groups=N,N" DIRECTORY PROGRAM [ARGUMENT...]

Of its first argument each part may be missing. With `relay` the program does not outlive that process, its parent: who
comes after a relay that was killed starts the program again for the same mail. (On Linux; what the program has itself
started is not ended.)

A process of its own, since none of this may be done between fork and exec in one that has threads. It imports
nothing of the relay, which costs time, and says EX_OSERR if the program cannot be run.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

#: Descriptors of a program: programs that use select(2), or close all they may have, know no more. The relay has raised
#: its own.
_DESCRIPTORS = 1024
#: linux/prctl.h: the signal that a process gets when the thread ends that has started it.
_PR_SET_PDEATHSIG = 1


def launch(words: list[str]) -> NoReturn:
    settings, directory, *command = words
    try:
        _prepare(dict(each.split("=", 1) for each in settings.split()), directory)
        os.execv(command[0], command)  # noqa: S606  # the program that the operator has named, and no shell
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        os.write(2, f"cannot run {command[0]}: {reason}\n".encode("utf-8", "replace"))
        os._exit(os.EX_OSERR)


def _prepare(settings: dict[str, str], directory: str) -> None:
    end_with_the_parent = _tie() if "relay" in settings else None
    # All that it starts is in its group, and can be ended with it.
    os.setsid()
    os.umask(0o077)
    for key, kind in (("cpu", resource.RLIMIT_CPU), ("memory", resource.RLIMIT_AS)):
        if key in settings:
            limit = int(settings[key])
            resource.setrlimit(kind, (limit, limit))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = _DESCRIPTORS if most == resource.RLIM_INFINITY else min(_DESCRIPTORS, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, most))
    # Python ignores them, and what is ignored stays so behind exec: `yes | head` would not end.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core has the mail in it
    if "uid" in settings:
        os.setgroups([int(group) for group in settings["groups"].split(",") if group])
        os.setgid(int(settings["gid"]))
        os.setuid(int(settings["uid"]))
    if end_with_the_parent is not None:
        # Behind setuid, which undoes it. Whose parent has ended before has another one now.
        end_with_the_parent()
        if os.getppid() != int(settings["relay"]):
            os._exit(os.EX_TEMPFAIL)
    # As whom it then is: who may not look into the directory does not run there.
    os.chdir(directory)


def _tie() -> Callable[[], None] | None:
    """What makes this process end with its parent, if that can be had; to be looked for while there is memory."""
    if sys.platform == "linux":
        with suppress(ImportError, OSError, AttributeError):
            import ctypes

            prctl = ctypes.CDLL(None, use_errno=True).prctl
            return lambda: prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    return None


if __name__ == "__main__":
    launch(sys.argv[1:])
