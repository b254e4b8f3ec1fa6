"""In processes of their own, since a process has one reactor."""

from __future__ import annotations

import subprocess
import sys
import textwrap

from twisted.trial.unittest import SynchronousTestCase


def run_python(program: str) -> str:
    """What `program` prints, run by a new interpreter that must end well within half a minute."""
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30, check=False
    )
    return ran.stdout + ran.stderr


#: From its third look on, this wall clock has been set back by an hour.
CLOCK_SET_BACK = """
    import itertools, time
    wall, looks = time.time, itertools.count()
    time.time = lambda: wall() - (3600 if next(looks) >= 2 else 0)
"""


class ReactorTests(SynchronousTestCase):
    def test_a_timer_runs_out_though_the_wall_clock_is_set_back(self) -> None:
        said = run_python(
            CLOCK_SET_BACK
            + """
    from relay.net.reactor import install_monotonic_reactor
    reactor = install_monotonic_reactor()
    reactor.callLater(0.05, lambda: (print("in time"), reactor.stop()))
    reactor.callLater(0.01, lambda: reactor.callLater(0.01, print, "and from within a call"))
    reactor.run()
    """
        )
        self.assertEqual(said, "and from within a call\nin time\n")

    def test_a_reactor_that_is_installed_already_is_respected(self) -> None:
        said = run_python(
            """
            from twisted.internet import selectreactor
            selectreactor.install()
            from relay.net.reactor import install_monotonic_reactor
            from twisted.internet import reactor
            print(install_monotonic_reactor() is reactor, type(reactor).__name__)
            """
        )
        self.assertEqual(said, "True SelectReactor\n")

    def test_asking_twice_gives_the_same_one(self) -> None:
        said = run_python(
            """
            from relay.net.reactor import install_monotonic_reactor as install
            print(install() is install(), type(install()).__name__)
            """
        )
        self.assertEqual(said, "True RelayReactor\n")
