"""What the benchmark's special measurements make of what they have measured, and their loads against our own servers."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from bench import idle, latency, noop, queue, tls
from bench.idle import MB, Crowd, Rest
from bench.noop import most_of
from bench.pacing import due_times
from bench.queue import Queue
from bench.servers import Sink
from relay.net.tls_selfmade import own_certificate
from tests.interop.peers import Server, free_port

HERE = Path(__file__).parents[1]


def series(name: str, *rates: float, resume: bool = False) -> tls.Series:
    """A second for each run, in which the last message arrived as soon as it was taken."""
    target = tls.Target(name, 25, "all@sink.test", (), None)
    runs = tuple(tls.Run(round(rate), 1.0, 1.0, 0.5, 0.25, resumed=round(rate) if resume else 0) for rate in rates)
    return tls.Series(target, resume, runs)


class TlsTests(SynchronousTestCase):
    found = (
        series("relay", 120, 1200, 60),
        series("relay, discards", 90, 90, 90),
        series("postfix", 100, 1000, 40),
        series("twisted.mail", 100, 100, 100),
        series("relay", 400, 400, 400, resume=True),
        series("relay, discards", 500, 500, 500, resume=True),
        series("postfix", 400, 400, 400, resume=True),
    )

    def test_the_ratio_is_the_median_of_the_rounds(self) -> None:
        self.assertEqual(tls.ratio(self.found[0], self.found[2]), 1.2)

    def test_a_message_counts_when_it_has_arrived(self) -> None:
        self.assertEqual(tls.Run(100, 1.0, 4.0, 0.0, 0.0, 0).rate, 25)

    def test_each_target_is_judged_and_like_is_compared_with_like(self) -> None:
        said = [(line.target, line.met) for line in tls.lines(self.found)]
        self.assertEqual(
            said,
            [
                (">= 1.2 x Postfix", True),
                (">= 1 x twisted.mail", False),
                ("none", None),
                (">= 1.2 x Postfix", False),
                (">= 1 x twisted.mail", True),
                ("none", None),
            ],
        )

    def test_whoever_is_not_installed_leaves_the_target_open(self) -> None:
        ours = [each for each in self.found if each.target.name.startswith("relay")]
        self.assertEqual([line.met for line in tls.lines(ours)], [None] * 4)

    def test_the_figures_of_each_run_and_of_the_load_itself_can_be_had(self) -> None:
        shown: dict[str, Any] = json.loads(json.dumps(dict(tls.lines(self.found)[0].values)))
        self.assertEqual(len(shown["postfix"]["runs"]), 3)
        self.assertEqual(shown["relay"]["cores_of_the_load"], 0.25)


class LatencyTests(SynchronousTestCase):
    def test_messages_become_due_at_the_rate_and_at_the_same_times_in_each_run(self) -> None:
        times = due_times(1000, 10)
        self.assertEqual(times, due_times(1000, 10))
        self.assertEqual(times, sorted(times))
        self.assertLess(abs(len(times) - 10_000), 300)
        self.assertLess(times[-1], 10)

    def test_a_line_has_the_medians_of_the_rounds_and_how_far_they_are_apart(self) -> None:
        run = latency.Run(100, 1.0, 9.0, 20.0, 2.0, 30.0, 0.5, 0.1)
        runs = (run, evolve(run, median=3.0, most=7.0), evolve(run, median=2.0, most=8.0))
        line = latency.Series("relay", 345.0, "half of its peak", runs).line()
        self.assertEqual((line.target, line.met), ("none", None))
        self.assertIn("p50 2.00 ms (1.00 to 3.00), p99 8.00 ms (7.00 to 9.00)", line.figure)


class NoopTests(SynchronousTestCase):
    def test_ninety_nine_of_a_hundred_are_meant(self) -> None:
        self.assertEqual(most_of([float(number) for number in range(101)]), 99.0)

    def test_the_median_of_the_rounds_is_judged(self) -> None:
        for worst, met in (20.0, True), (20.1, False):
            runs = [noop.Run((each,) * 100, 1000.0) for each in (5.0, worst, 90.0)]
            line = noop.line((0.1, 0.2), runs)
            self.assertEqual((line.met, line.values["value"]), (met, pytest.approx(worst)))


class IdleTests(SynchronousTestCase):
    def test_sixty_megabytes_of_an_idle_process_are_the_target(self) -> None:
        for octets, met in (60 * MB, True), (60 * MB + 1, False):
            rests = [Rest(octets, 1), Rest(octets + 1, 1), Rest(0, 1)]
            self.assertEqual(idle.rest_line(rests, Rest(1, 1), Rest(2, 2)).met, met)

    def test_sessions_and_greetings_are_judged_by_the_medians_of_the_rounds(self) -> None:
        def crowd(more: int, longest: float) -> Crowd:
            return Crowd(10_000, False, 50 * MB, (50 + more) * MB, 60 * MB, (0.001, longest))

        rounds = [crowd(60, 0.1), crowd(1, 0.001), crowd(100, 9.0)]
        self.assertEqual([line.met for line in idle.crowd_lines(rounds)], [True, True])
        self.assertEqual([line.met for line in idle.crowd_lines([crowd(61, 0.11)] * 3)], [False, False])


class QueueTests(SynchronousTestCase):
    def test_a_long_queue_is_judged_by_its_claims_its_memory_and_its_starts(self) -> None:
        short = Queue(1000, 1.0, 0.001, (1.0,), 10 * MB, 20 * MB, 1000.0)
        long = Queue(100_000, 9.0, 0.005, (9.0, 5.0, 1.0), 10 * MB, 110 * MB, 900.0)
        self.assertEqual([line.met for line in queue.lines(short, long)], [True, True, True])
        worse = Queue(100_000, 9.0, 0.0051, (5.1, 5.1, 1.0), 10 * MB, 111 * MB, 900.0)
        self.assertEqual([line.met for line in queue.lines(short, worse)], [False, False, False])


@pytest.mark.system
class LoadTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.folder = Path(directory.name)

    def ran(self, *words: str) -> dict[str, Any]:
        ran = subprocess.run(
            [sys.executable, "-m", *words], cwd=HERE, capture_output=True, text=True, timeout=60, check=False
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        said: dict[str, Any] = json.loads(ran.stdout)
        return said

    def test_the_load_that_does_not_wait_brings_what_was_due(self) -> None:
        sink = Sink(self.folder, own=True)
        self.addCleanup(sink.stop)
        words = ("--sessions", "5", "--rate", "400", "--seconds", "0.5", "127.0.0.1", str(sink.port), "a@b")
        said = self.ran("bench.pacing", *words)
        self.assertEqual(len(said["ended"]), len(due_times(400, 0.5)))
        self.assertEqual(sink.count, len(said["ended"]))
        self.assertTrue(all(ended <= whole for ended, whole in zip(said["ended"], said["whole"], strict=True)))

    def test_each_connection_begins_tls_and_brings_a_message(self) -> None:
        certificate, port = self.folder / "certificate.pem", free_port()
        own_certificate("relay.test", certificate, time.time())
        words = ("-m", "bench.peers.twisted_mail_server", str(port), str(certificate))
        server = Server(self.folder / "log", sys.executable, *words, environ={"PYTHONPATH": str(HERE)})
        self.addCleanup(server.stop)
        server.wait_for(("127.0.0.1", port))
        said = self.ran("bench.tls_client", "--sessions", "3", "--seconds", "0.3", "127.0.0.1", str(port), "a@b")
        self.assertGreater(said["connections"], 3)
        self.assertEqual(said["resumed"], 0)
        self.assertGreaterEqual(said["seconds"], 0.3)
