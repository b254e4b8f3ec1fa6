"""A reactor that stands still is noticed by another thread: who keeps it, for how long, and when there is no hope."""

from __future__ import annotations

import copy
import faulthandler
import signal
import sys
import sysconfig
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from relay.net import watchdog
from relay.net.exhaustion import Exhaustion
from relay.net.frames import frame_of, place, stacks
from relay.net.waiting import start
from relay.net.watchdog import EVERY, Hopeless, Pulse, Recovered, Stalled, Watchdog
from relay.policy.chain import Station
from relay.policy.culprit import culprit

HERE = Path(__file__).name


class Times:
    """A pulse, and the time that passes: for the reactor, for the watchdog, for the processor."""

    def __init__(self, limit: float = 60.0) -> None:
        self.pulse = Pulse(limit)
        self.now = 1000.0
        self.cpu = 5.0
        self.pulse.look(self.now, self.cpu)

    def pass_time(self, seconds: float, *, beating: bool = True, looking: bool = True, busy: float = 0.0) -> list[Any]:
        """So much time passes in steps of a quarter of a second, and what is found meanwhile."""
        found = []
        for _ in range(round(seconds / EVERY)):
            self.now += EVERY
            self.cpu += busy * EVERY
            if beating:
                self.pulse.beat(self.now)
            if looking:
                found.append(self.pulse.look(self.now, self.cpu))
        return [each for each in found if each is not None]

    def look(self) -> Any:
        self.now += EVERY
        return self.pulse.look(self.now, self.cpu)


class PulseTests(SynchronousTestCase):
    def test_a_reactor_that_has_not_begun_is_not_looked_at(self) -> None:
        self.assertEqual(Times().pass_time(500, beating=False), [])

    @given(st.integers(1, 1000))
    def test_of_one_that_goes_on_nothing_is_said(self, seconds: int) -> None:
        self.assertEqual(Times().pass_time(seconds), [])

    def test_a_stall_is_told_once_and_its_end_too(self) -> None:
        times = Times()
        times.pass_time(5)
        self.assertEqual(times.pass_time(0.75, beating=False), [])
        self.assertEqual(times.pass_time(30, beating=False), [Stalled(1.25)])
        self.assertEqual(times.pass_time(5), [Recovered(31.0)])
        self.assertEqual(times.pass_time(5), [])
        self.assertEqual(times.pass_time(2, beating=False), [Stalled(1.25)], "and the next one, too")

    def test_less_than_a_second_is_not_told(self) -> None:
        times = Times()
        times.pass_time(5)
        times.pass_time(0.75, beating=False)
        self.assertEqual(times.pass_time(5), [])

    def test_behind_its_limit_it_is_hopeless(self) -> None:
        times = Times(limit=3)
        times.pass_time(1)
        self.assertEqual(times.pass_time(3, beating=False), [Stalled(1.25), Hopeless(3.0)])

    def test_without_a_limit_it_never_is(self) -> None:
        times = Times(limit=0)
        times.pass_time(1)
        self.assertEqual(times.pass_time(10_000, beating=False), [Stalled(1.25)])

    def test_a_process_that_was_stopped_has_not_stalled(self) -> None:
        times = Times(limit=3)
        times.pass_time(1)
        times.pass_time(100, beating=False, looking=False)
        self.assertEqual(times.pass_time(1, beating=False), [], "it has its second from now on")
        self.assertEqual(times.pass_time(5), [])

    def test_a_process_that_was_stopped_while_it_stalled_has_stalled_for_the_rest_of_the_time(self) -> None:
        times = Times(limit=10)
        times.pass_time(1)
        self.assertEqual(times.pass_time(2, beating=False), [Stalled(1.25)])
        times.pass_time(100, beating=False, looking=False)
        self.assertIsNone(times.look())
        self.assertEqual(times.pass_time(1), [Recovered(2.25)])

    def test_a_night_is_excused_whole(self) -> None:
        times = Times(limit=10)
        times.pass_time(1)
        times.pass_time(30_000, beating=False, looking=False)
        self.assertEqual(times.pass_time(1, beating=False), [])

    def test_looks_that_are_late_again_and_again_without_a_beat_are_no_sleep(self) -> None:
        times = Times(limit=10)
        times.pass_time(1)
        found = []
        for _ in range(30):
            times.pass_time(2, beating=False, looking=False)
            found.append(times.look())
        self.assertIn(Hopeless, map(type, found))
        self.assertEqual(found[:14], [None] * 14, "three times the limit is excused, and one of them whole")

    def test_nor_are_they_where_one_of_them_was_one(self) -> None:
        times = Times(limit=10)
        times.pass_time(1)
        for _ in range(10):
            times.pass_time(2, beating=False, looking=False)
            times.look()
        times.pass_time(30_000, beating=False, looking=False)
        self.assertNotIsInstance(times.look(), Hopeless)

    def test_a_machine_that_is_stopped_again_and_again_but_has_its_beats_has_not_stalled(self) -> None:
        times = Times(limit=3)
        for _ in range(100):
            times.pass_time(0.5)
            self.assertEqual(times.pass_time(2, beating=False, looking=False), [])
            self.assertIsNone(times.look())

    def test_a_computation_that_lets_no_other_thread_run_is_told_when_it_has_ended(self) -> None:
        times = Times()
        times.pass_time(1)
        times.pass_time(5, beating=False, looking=False, busy=1.0)
        self.assertEqual(times.pass_time(1), [Recovered(5.25, unseen=True)])

    def test_and_when_it_has_taken_too_long_it_is_hopeless(self) -> None:
        times = Times(limit=3)
        times.pass_time(1)
        times.pass_time(5, beating=False, looking=False, busy=1.0)
        self.assertEqual(times.look(), Hopeless(5.25))


class Slow:
    """A policy, for its code."""

    def here(self) -> FrameType:
        return sys._getframe()

    async def later(self) -> FrameType:
        return sys._getframe()


class Slower(Slow):
    pass


class PlaceTests(SynchronousTestCase):
    def test_a_place_is_a_file_a_line_and_a_function(self) -> None:
        self.assertRegex(place(Slow().here()), rf"^/\S*{HERE}:\d+ \(Slow\.here\)$")

    def test_code_of_ours_is_passed_by_for_who_was_called_by_it(self) -> None:
        frames = []
        start(_returning(lambda: frames.append(place(sys._getframe()))))
        self.assertIn(f"{HERE}:", frames[0])

    def test_what_pythons_own_code_waits_for_is_told_with_who_has_called_it(self) -> None:
        where: list[str] = []
        began, go_on = threading.Event(), threading.Event()

        def wait() -> None:
            began.set()
            go_on.wait(20)

        # As the reactor has a policy in its stack: what is Twisted's stands further out.
        thread = threading.Thread(target=Deferring(wait))
        thread.start()
        began.wait(20)
        assert thread.ident is not None
        while not where or "threading" not in where[-1]:
            frame = frame_of(thread.ident)
            assert frame is not None
            where.append(place(frame))
        go_on.set()
        thread.join(20)
        self.assertRegex(where[-1], rf"/\S*{HERE}:\d+ \(\S*wait\), by way of /\S*threading\.py:\d+ \(\S*wait\)$")

    def test_what_is_installed_beside_python_is_nobody_of_pythons(self) -> None:
        file = f"{sysconfig.get_paths()['purelib']}/guest/policy.py"
        came: list[str] = []

        class Copied:
            def __copy__(self) -> None:
                came.append(place(sys._getframe(1)))

        space: dict[str, Any] = {"copy": copy.copy, "it": Copied()}
        exec(compile("def route():\n    copy(it)", file, "exec"), space)
        Deferring(space["route"])()
        self.assertRegex(came[0], rf"^{file}:2 \(route\), by way of /\S*/copy\.py:\d+ \(copy\)$")

    def test_what_has_started_us_is_not_to_blame(self) -> None:
        """The innermost frame is Python's own, and outside of Twisted's there is only who runs the tests."""
        came: list[str] = []

        clock = Clock()
        clock.callLater(0, lambda: came.append(place(sys._getframe(1))))
        clock.advance(0)
        self.assertRegex(came[-1], r"twisted/internet/task\.py:\d+ \(Clock\.advance\)$")

    def test_all_stacks_are_those_of_all_threads_but_the_one_that_asks(self) -> None:
        go_on = threading.Event()
        thread = threading.Thread(target=go_on.wait, args=(20,), name="a patient one")
        thread.start()
        told = stacks()
        go_on.set()
        thread.join(20)
        self.assertIn("Thread a patient one", told)
        self.assertNotIn("test_all_stacks", told)


class Deferring:
    """Calls by way of Twisted."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __call__(self) -> None:
        clock = Clock()
        clock.callLater(0, self._call)
        clock.advance(0)


async def _returning(call: Any) -> None:
    call()


class CulpritTests(SynchronousTestCase):
    def test_it_is_the_policy_that_is_asked(self) -> None:
        self.patch(sys.modules["relay.policy.asking"], "CURRENT", ["greylist"])
        self.assertEqual(culprit([], sys._getframe()), "greylist")

    def test_it_is_the_one_whose_code_goes_on_with_what_it_has_waited_for(self) -> None:
        stations = [Station("other", object()), Station("own", Slower())]
        self.assertEqual(culprit(stations, Slow().here()), "own")
        frame = start(Slower().later())
        assert isinstance(frame, FrameType)
        self.assertEqual(culprit(stations, frame), "own")

    def test_it_is_nobody(self) -> None:
        self.assertEqual(culprit([Station("own", Slower())], sys._getframe()), "")


class ExhaustionTests(SynchronousTestCase):
    """What it is for is tried under twistd (tests/system/test_watchdog.py)."""

    def left(self) -> float:
        return signal.getitimer(signal.ITIMER_PROF)[0]

    def test_it_is_put_off_as_long_as_somebody_is_well_and_nothing_of_it_stays(self) -> None:
        exhaustion = Exhaustion(1000.0)
        exhaustion.put_off()
        self.assertEqual(self.left(), 0, "it has not begun")
        exhaustion.start()
        self.addCleanup(exhaustion.stop)
        self.assertGreater(self.left(), 900)
        signal.setitimer(signal.ITIMER_PROF, 500)
        exhaustion.put_off()
        self.assertGreater(self.left(), 900)
        exhaustion.stop()
        exhaustion.put_off()
        self.assertEqual(self.left(), 0)
        self.assertFalse(faulthandler.unregister(signal.SIGPROF))

    def test_without_a_limit_or_where_a_profiler_listens_it_does_nothing(self) -> None:
        Exhaustion(0).start()
        self.assertEqual(self.left(), 0)
        self.addCleanup(signal.signal, signal.SIGPROF, signal.signal(signal.SIGPROF, lambda *_: None))
        exhaustion = Exhaustion(1000.0)
        exhaustion.start()
        self.assertEqual(self.left(), 0)


class WatchdogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[Any] = []
        self.ended: list[int] = []
        self.clock = Clock()

    def made(self, policy: str = "greylist", observer: Any = None) -> Watchdog:
        log = Logger(namespace="tests", observer=observer or self.events.append)
        found = Watchdog(self.clock, 0, lambda frame: policy, log=log, end=self.ended.append)
        found._reactors = threading.get_ident()
        return found

    @property
    def said(self) -> list[str]:
        return [formatEvent(event) for event in self.events]

    def test_a_stall_is_told_with_the_policys_name_and_its_place(self) -> None:
        self.made().tell(Stalled(1.25))
        self.made("").tell(Stalled(1.25))
        first, second = self.said
        self.assertRegex(first, r"stands still for 1\.2 s .*: the policy greylist blocks at /\S*:\d+ \(")
        self.assertRegex(second, r"stands still for 1\.2 s .*: it is at /\S*:\d+ \(")
        self.assertEqual([event["log_level"].name for event in self.events], ["error", "warn"])

    def test_its_end_is_told(self) -> None:
        self.made().tell(Recovered(3.0))
        self.made().tell(Recovered(3.0, unseen=True))
        first, second = self.said
        self.assertEqual(first, "The reactor goes on, after it has stood still for 3.0 s")
        self.assertIn("lets no other thread run", second)

    def test_where_there_is_no_hope_all_stacks_are_told_and_the_process_ends(self) -> None:
        self.made().tell(Hopeless(60.0))
        (said,) = self.said
        self.assertRegex(said, r"^The reactor has stood still for 60\.0 s, by the policy greylist: the process ends")
        self.assertIn("start another one\n", said)
        self.assertEqual(self.ended, [70])

    def test_a_log_that_hangs_keeps_it_from_nothing(self) -> None:
        self.patch(watchdog, "_LOG_PATIENCE", 0.01)
        dumped: list[Any] = []
        self.patch(watchdog.faulthandler, "dump_traceback", lambda **how: dumped.append(how))
        go_on = threading.Event()
        self.addCleanup(go_on.set)
        self.made(observer=lambda event: go_on.wait(20)).tell(Hopeless(60.0))
        self.assertEqual(dumped, [{"file": 2, "all_threads": True}])
        self.assertEqual(self.ended, [70])

    def test_the_reactor_beats_while_it_is_on_watch_and_no_longer(self) -> None:
        dog = self.made()
        before = threading.active_count()
        dog.start()
        self.assertEqual(threading.active_count(), before + 1)
        self.clock.advance(0)
        self.assertIsNotNone(dog._pulse._beat)
        dog.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        at_once = self.made()
        at_once.start()
        at_once.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        for thread in threading.enumerate():
            if thread.name == "watchdog":
                thread.join(20)
                self.assertFalse(thread.is_alive())
