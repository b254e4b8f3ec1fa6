"""
The worker that has had this share before, and may have it for some seconds yet.

When a parent was killed its workers finish what is in flight and end, while another parent starts already; and that one
may be killed, too. So a worker waits for what it is to have, and meanwhile looks whether anybody waits for it.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from relay.config.settings import Settings
from relay.net.disk import Disk, opened
from relay.spool.layout import Layout
from relay.workers.crew import MARGIN

#: Seconds that another process gets to leave: one whose parent was killed ends in good order.
PATIENCE: Final = 20.0
_EVERY: Final = 0.1


def wait_for_share(settings: Settings, line: int) -> None:
    """
    Return when no other process has the shard of these settings, nor answers at their control socket; or when that has
    lasted too long: whoever opens them says so. Ends the process when the other end of this `line` is gone.
    """
    deadline = time.monotonic() + PATIENCE
    _wait(lambda: not answers(settings.control.socket), line, deadline)
    if settings.spool.engine != "memory":
        _wait(lambda: is_free(settings.spool.path), line, deadline)


def _wait(free: Callable[[], bool], line: int, deadline: float) -> None:
    other = select.poll()
    other.register(line, select.POLLRDHUP)
    while True:
        # It has the relay's sockets, so that nobody else can bind them while it is there.
        if other.poll(0):
            raise SystemExit(os.EX_OK)
        if free() or time.monotonic() >= deadline:
            return
        other.poll(_EVERY * 1000)


def is_free(shard: Path) -> bool:
    """Whether nobody has this shard, as far as is known: the spool says what else is wrong with it."""
    disk = Disk()
    try:
        with opened(disk, str(Layout(shard).lock), os.O_RDWR | os.O_NOFOLLOW) as file:
            return bool(disk.lock(file))
    except OSError:
        return True


def answers(path: Path) -> bool:
    """Whether anybody listens at this socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except OSError as problem:
            return problem.errno == errno.EAGAIN  # so many wait to be answered
    return True


def end_in_time() -> None:
    """
    The parent is gone, which would have killed a worker that does not end: so the kernel does, after as many seconds.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(round(MARGIN))
