"""
The end of a process in which not even its watchdog can run.

Code outside of Python may keep all threads from running for as long as it computes: a regular expression does that, and
the wrong one on a stranger's text does it for hours. Then only the kernel can end the process.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading


class Exhaustion:
    """
    When the process has used so many seconds of processor time since `put_off`, its stacks are written to standard
    error, and SIGPROF ends it.

    It counts processor time so that a process that was stopped, or has slept, is not taken for one that computes.
    """

    def __init__(self, limit: float) -> None:
        """`limit`: seconds; 0: never."""
        self._limit = limit
        self._on_guard = False
        #: One thread puts it off while another one ends it.
        self._lock = threading.Lock()

    def start(self) -> None:
        """Called in the main thread. Nothing happens where somebody else wants to hear of SIGPROF: a profiler, say."""
        if not self._limit or signal.getsignal(signal.SIGPROF) is not signal.SIG_DFL or sys.__stderr__ is None:
            return
        faulthandler.register(signal.SIGPROF, file=sys.__stderr__.fileno(), all_threads=True, chain=True)
        self._on_guard = True
        self.put_off()

    def put_off(self) -> None:
        """All is well. Called in any thread."""
        with self._lock:
            if self._on_guard:
                signal.setitimer(signal.ITIMER_PROF, self._limit)

    def stop(self) -> None:
        with self._lock:
            if self._on_guard:
                self._on_guard = False
                signal.setitimer(signal.ITIMER_PROF, 0)
                faulthandler.unregister(signal.SIGPROF)
