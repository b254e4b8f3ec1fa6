"""Code that does not come to an end, in the main thread and with no reactor: it is stopped, and named."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from relay.net.overtime import Bounded, Overtime

#: Seconds: enough for what comes to an end at once, and little to wait for.
SOON = 0.05


def for_ever() -> None:
    while True:  # here it loops
        pass


def whose() -> str:
    return "ann's"


class OvertimeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.before = signal.getsignal(signal.SIGALRM)
        # Somebody else has a timer: whoever looks after the tests, say.
        before = signal.setitimer(signal.ITIMER_REAL, 1000)
        self.addCleanup(lambda: signal.setitimer(signal.ITIMER_REAL, *before))

    def nothing_is_left(self) -> None:
        """All is as it was before."""
        self.assertIs(signal.getsignal(signal.SIGALRM), self.before)
        self.assertGreater(signal.getitimer(signal.ITIMER_REAL)[0], 900)
        self.assertEqual(signal.getitimer(signal.ITIMER_REAL)[1], 0)
        self.assertEqual(signal.getitimer(signal.ITIMER_PROF), (0.0, 0.0))

    def late(self, do: Callable[[Bounded], object]) -> Overtime:
        with self.assertRaises(Overtime) as caught, Bounded(SOON, whose) as bounded:
            do(bounded)
        self.nothing_is_left()
        overtime: Overtime = caught.exception
        return overtime

    def test_it_is_stopped_where_it_is(self) -> None:
        late = self.late(lambda _: for_ever())
        self.assertEqual((late.seconds, late.whose), (SOON, "ann's"))
        line = for_ever.__code__.co_firstlineno + 1
        self.assertRegex(late.place, rf"test_overtime\.py:({line}|{line + 1}) \(for_ever\)")

    def test_so_is_what_waits(self) -> None:
        self.assertIn("threading", self.late(lambda _: threading.Event().wait()).place)

    def test_whoever_catches_it_does_not_keep_it(self) -> None:
        def catch(_: Bounded) -> None:
            with contextlib.suppress(BaseException):
                for_ever()

        self.assertIn("for_ever", self.late(catch).place)

    def test_what_comes_to_an_end_may_begin_again(self) -> None:
        def again_and_again(bounded: Bounded) -> None:
            for _ in range(3):
                bounded.put_off()
                self.assertLessEqual(signal.getitimer(signal.ITIMER_REAL)[0], SOON)
            for_ever()

        self.late(again_and_again)

    def test_what_is_in_time_leaves_nothing_behind(self) -> None:
        for seconds in (60.0, 0.0):
            with Bounded(seconds, whose):
                self.assertEqual(signal.getitimer(signal.ITIMER_REAL)[0] <= 60, seconds > 0)
            self.nothing_is_left()

    def test_in_another_thread_there_is_no_end_and_no_harm(self) -> None:
        entered: list[bool] = []

        def work() -> None:
            with Bounded(60.0, whose) as bounded:
                bounded.put_off()
                entered.append(True)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        self.assertEqual(entered, [True])
        self.nothing_is_left()
