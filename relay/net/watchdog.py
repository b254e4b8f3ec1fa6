"""
Whether the reactor makes progress, and whose code it is that keeps it from that.

While a policy computes for seconds, or waits for something in a way that is not Twisted's, nobody is served: no client,
no delivery, no timer. Nobody but another thread can notice.
"""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, TypeAlias

from attrs import frozen
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from relay.net.clock import cancel
from relay.net.exhaustion import Exhaustion
from relay.net.frames import frame_of, place, stacks

#: Seconds between two beats of the reactor, and between two looks at them.
EVERY: Final = 0.25
#: Seconds without a beat that are worth a line in the log.
PATIENCE: Final = 1.0
#: What is excused without a beat, beside the longest time in which nothing could have happened: so often the limit.
_EXCUSED: Final = 3
#: Seconds that a log gets for a line: a disk that hangs must not keep the watchdog from what it is here for.
_LOG_PATIENCE: Final = 5.0


@frozen
class Stalled:
    """There has been no beat for so many seconds, and there still is none."""

    seconds: float


@frozen
class Recovered:
    """There was none for so many seconds, and now there is. `unseen`: no look was possible meanwhile."""

    seconds: float
    unseen: bool = False


@frozen
class Hopeless:
    """There has been none for so long that there will be none."""

    seconds: float


Finding: TypeAlias = Stalled | Recovered | Hopeless


class Pulse:
    """
    What is found out from beats and looks; all times are handed in.

    A process that was stopped as a whole (by a debugger, SIGSTOP, a machine that slept) has not stalled. That is seen
    by the looks, which were not made either while no processor time was used: a computation that lets no other thread
    run uses some.

    Such a time is excused however long it was, since a machine may sleep for a night. Where there is one after the
    other and never a beat between them, it is no sleep: code waits, and lets no other thread run for seconds at a time.
    Of those others no more than three times the limit is excused.
    """

    def __init__(self, limit: float = 0.0, patience: float = PATIENCE) -> None:
        """`limit`: seconds until it is hopeless; 0: it never is."""
        self._limit = limit
        self._patience = patience
        self._beat: float | None = None
        #: The longest time between two beats since the last look.
        self._longest = 0.0
        self._looked = 0.0
        self._cpu = 0.0
        #: Seconds since the last beat in which nothing could have happened: the longest time, and all others.
        self._longest_late = 0.0
        self._late = 0.0
        #: The beat that was the last one at the last look.
        self._seen: float | None = None
        self._told = False

    def beat(self, now: float) -> None:
        """The reactor has had its turn. Called in its thread."""
        if self._beat is not None and now - self._beat > self._longest:
            self._longest = now - self._beat
        self._beat = now

    def look(self, now: float, cpu: float) -> Finding | None:
        """What is new; `cpu` is the processor time of the process in seconds. Called in the watchdog's thread."""
        gap, used = now - self._looked, cpu - self._cpu
        self._looked, self._cpu = now, cpu
        beat = self._beat
        if beat is None:
            return None
        if gap > EVERY + self._patience and used < gap / 2:
            self._late += min(gap, self._longest_late)
            self._longest_late = max(gap, self._longest_late)
        if beat != self._seen:
            self._seen = beat
            return self._recovered()
        still = now - beat - self._excused()
        if self._limit and still >= self._limit:
            return Hopeless(still)
        if still >= self._patience + EVERY and not self._told:
            self._told = True
            return Stalled(still)
        return None

    def _excused(self) -> float:
        others = min(self._late, _EXCUSED * self._limit) if self._limit else self._late
        return self._longest_late + others

    def _recovered(self) -> Recovered | None:
        lasted, self._longest = self._longest - self._excused(), 0.0
        told, self._told, self._longest_late, self._late = self._told, False, 0.0, 0.0
        if told or lasted >= self._patience + EVERY:
            return Recovered(lasted, unseen=not told)
        return None


class Watchdog:
    """
    Tells the log when the reactor stands still, and when it goes on. When there is no hope it tells all stacks and ends
    the process with status 70 (EX_SOFTWARE), for its supervisor to start another one: nothing that was promised is lost
    by that.
    """

    def __init__(
        self,
        clock: Any,
        limit: float,
        who: Callable[[FrameType], str],
        *,
        log: Logger | None = None,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        """
        `clock` is the reactor. `limit` as in `Pulse`. `who` has the name of the policy whose code is at work where the
        reactor's innermost frame is this one, or "".
        """
        self._pulse = Pulse(limit)
        self._exhaustion = Exhaustion(limit)
        self._who = who
        self._log = log or Logger(namespace="relay.watchdog")
        self._end = end
        self._beating = LoopingCall(self._beat)
        self._beating.clock = clock
        self._call_later = clock.callLater
        self._first: Any = None
        self._reactors = 0
        self._stopped = threading.Event()

    def start(self) -> None:
        """Called in the reactor's thread, which is the main one."""
        self._reactors = threading.get_ident()
        self._exhaustion.start()
        # With the first turn of a reactor that may not run yet: there may be clients in the second one.
        self._first = self._call_later(0, self._beating.start, EVERY)
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        self._exhaustion.stop()
        cancel(self._first)
        if self._beating.running:
            self._beating.stop()

    def _beat(self) -> None:
        self._pulse.beat(time.monotonic())

    def _watch(self) -> None:
        while not self._stopped.wait(EVERY):
            self._exhaustion.put_off()
            finding = self._pulse.look(time.monotonic(), time.process_time())
            if finding is not None:
                self.tell(finding)

    def tell(self, finding: Finding) -> None:
        """Called in the watchdog's thread."""
        match finding:
            case Stalled(seconds):
                self._tell_of_stall(seconds)
            case Recovered(seconds, unseen):
                self._tell_of_recovery(seconds, unseen)
            case Hopeless(seconds):
                self._give_up(seconds)

    def _tell_of_stall(self, seconds: float) -> None:
        frame = frame_of(self._reactors)
        if frame is None:
            return
        policy, where = self._who(frame), place(frame)
        # A machine that is too busy keeps nobody's code from going on but ours.
        log = self._log.error if policy else self._log.warn
        _apart(
            lambda: log(
                "The reactor stands still for {seconds:.1f} s by now, and nobody is served: {culprit} {where}",
                seconds=seconds,
                culprit=f"the policy {policy} blocks at" if policy else "it is at",
                policy=policy,
                where=where,
            )
        )

    def _tell_of_recovery(self, seconds: float, unseen: bool) -> None:
        why = ", by code that lets no other thread run, such as a regular expression" if unseen else ""
        _apart(
            lambda: self._log.warn(
                "The reactor goes on, after it has stood still for {seconds:.1f} s{why}", seconds=seconds, why=why
            )
        )

    def _give_up(self, seconds: float) -> None:
        frame = frame_of(self._reactors)
        policy, all_stacks = self._who(frame) if frame else "", stacks()
        told = _apart(
            lambda: self._log.critical(
                "The reactor has stood still for {seconds:.1f} s{culprit}: the process ends, for its supervisor to "
                "start another one\n{stacks}",
                seconds=seconds,
                culprit=f", by the policy {policy}" if policy else "",
                policy=policy,
                stacks=all_stacks,
            )
        )
        if not told:
            _apart(lambda: faulthandler.dump_traceback(file=2, all_threads=True))
        self._end(os.EX_SOFTWARE)


def _apart(say: Callable[[], object]) -> bool:
    """Whether it was said in time: the reactor's thread may stand still since it has the log, and never lets go."""
    thread = threading.Thread(target=say, name="watchdog's log", daemon=True)
    thread.start()
    thread.join(_LOG_PATIENCE)
    return not thread.is_alive()
