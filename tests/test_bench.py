"""The benchmark's arithmetic, and its own load and sink."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from bench.client import Budget, dialogue
from bench.handshakes import Compared, Kind, Shaken
from bench.idle import MB, Crowd
from bench.machine import Stat, parsed, raise_file_limit, used
from bench.queue import Queue, missed
from bench.report import Result, Run, Series, as_json, comparisons, name, ratio
from bench.scenarios import CELLS, KIB, MIB, USUALLY, Durability, Load, Route, cross, enough
from bench.servers import Sink, clear, delivered
from bench.trees import checked_out

LOAD = Load(1024, 10, reuse=True)


YES, HALF, NO = Durability.YES, Durability.HALF, Durability.NO


def series(server: str, *runs: Run, route: Route = Route.SINK, durable: Durability = YES) -> Series:
    return Series(server, route, durable, runs)


class RunTests(SynchronousTestCase):
    def test_rates_are_messages_by_seconds_and_cpu_is_for_each(self) -> None:
        run = Run(1000, accepted=2.0, finished=4.0, cpu=0.5)
        self.assertEqual((run.accepted_rate, run.finished_rate, run.cpu_each), (500, 250, 0.5))

    def test_a_series_is_told_by_its_median_and_how_far_its_rounds_are_apart(self) -> None:
        rounds = series("relay", Run(100, 1.0, 1.0, 0.1), Run(100, 0.5, 0.5, 0.2), Run(100, 2.0, 2.0, 0.9))
        self.assertEqual(rounds.of(lambda run: run.accepted_rate), 100)
        self.assertEqual(rounds.of(lambda run: run.cpu_each), 2)
        self.assertEqual(rounds.spread, (200 - 50) / 100)


class RatioTests(SynchronousTestCase):
    def test_it_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_the_medians(self) -> None:
        # The machine was busy in the second round, and slowed both down.
        ours = series("relay", Run(100, 1.0, 1.0, 1.0), Run(100, 10.0, 10.0, 1.0), Run(100, 0.25, 0.25, 1.0))
        theirs = series("postfix", Run(100, 2.0, 2.0, 1.0), Run(100, 20.0, 20.0, 1.0), Run(100, 1.5, 1.5, 1.0))
        self.assertEqual(ratio(ours, theirs, lambda run: run.finished_rate), 2.0)

    def test_counts_may_differ_since_rates_are_compared(self) -> None:
        ours, theirs = series("relay", Run(5000, 1.0, 1.0, 1.0)), series("postfix", Run(500, 1.0, 1.0, 1.0))
        self.assertEqual(ratio(ours, theirs, lambda run: run.finished_rate), 10.0)
        self.assertAlmostEqual(ratio(ours, theirs, lambda run: run.cpu_each) or 0.0, 0.1)

    def test_nothing_is_said_of_cpu_that_was_too_little_to_be_counted(self) -> None:
        ours, theirs = series("relay", Run(10, 1.0, 1.0, 0.1)), series("aiosmtpd", Run(10, 1.0, 1.0, 0.0))
        self.assertIsNone(ratio(ours, theirs, lambda run: run.cpu_each))

    def test_rounds_that_are_missing_are_a_mistake(self) -> None:
        one, three = series("relay", Run(1, 1.0, 1.0, 1.0)), series("postfix", *[Run(1, 1.0, 1.0, 1.0)] * 3)
        with self.assertRaises(ValueError):
            ratio(one, three, lambda run: run.finished_rate)


class ReportTests(SynchronousTestCase):
    result = Result(
        LOAD,
        (
            series("relay", Run(1000, 1.0, 2.0, 0.5), Run(1000, 1.0, 2.0, 0.5, duplicates=3)),
            series("postfix", Run(100, 1.0, 1.0, 0.2), Run(100, 1.0, 1.0, 0.2)),
            series("relay", *[Run(1000, 0.5, 0.5, 0.1)] * 2, route=Route.DISCARD, durable=NO),
            series("aiosmtpd", *[Run(1000, 1.0, 1.0, 0.2)] * 2, route=Route.DISCARD, durable=NO),
        ),
    )

    def test_like_is_compared_with_like_and_what_is_not_is_said_to_be_unlike(self) -> None:
        said = [(name(each.ours), name(each.theirs), each.finished, each.fair) for each in comparisons(self.result)]
        self.assertEqual(
            said,
            [
                ("relay -> sink", "postfix -> sink", 5.0, True),
                ("relay -> sink", "aiosmtpd -> discard", 0.5, False),
                ("relay -> discard", "aiosmtpd -> discard", 2.0, True),
            ],
        )

    def test_the_relay_of_before_is_compared_with_that_of_now_route_by_route(self) -> None:
        runs = [Run(1000, 1.0, 1.0, 0.5), Run(1000, 1.0, 1.0, 0.5)]
        routes = (Route.SINK, Route.DISCARD)
        before = [series("relay@1234567", *runs, route=route) for route in routes]
        now = [series("relay", *runs, route=route) for route in routes]
        said = [(name(each.ours), name(each.theirs)) for each in comparisons(Result(LOAD, (*now, *before)))]
        self.assertEqual(
            said,
            [("relay -> sink", "relay@1234567 -> sink"), ("relay -> discard", "relay@1234567 -> discard")],
        )

    def test_what_is_accepted_and_held_is_compared_with_what_keeps_nothing_only_where_the_other_cannot_hold(
        self,
    ) -> None:
        runs = [Run(1000, 1.0, 1.0, 0.5)]
        held = [series(who, *runs, route=Route.HOLD) for who in ("relay", "postfix")]
        thrown = [series(who, *runs, route=Route.DISCARD, durable=NO) for who in ("postfix", "aiosmtpd")]
        said = [(name(each.theirs), each.fair) for each in comparisons(Result(LOAD, (*held, *thrown)))]
        self.assertEqual(said, [("postfix -> hold", True), ("aiosmtpd -> discard", False)])

    def test_more_workers_are_ours_too_and_compared_with_the_others_but_not_with_one(self) -> None:
        runs = [Run(1000, 1.0, 1.0, 0.5)]
        of_all = tuple(series(who, *runs) for who in ("relay", "relay, 2 workers", "postfix"))
        said = [(name(each.ours), name(each.theirs)) for each in comparisons(Result(LOAD, of_all))]
        self.assertEqual(said, [("relay -> sink", "postfix -> sink"), ("relay, 2 workers -> sink", "postfix -> sink")])

    def test_what_has_failed_is_compared_with_nothing(self) -> None:
        ours = series("relay", Run(1000, 1.0, 1.0, 0.5))
        failed = Series("postfix", Route.SINK, YES, (), "it has lost messages")
        self.assertEqual(comparisons(Result(LOAD, (ours, failed))), [])

    def test_the_json_has_every_run(self) -> None:
        [result] = json.loads(json.dumps(as_json([self.result])))
        self.assertEqual(result["load"], {"size": 1024, "sessions": 10, "reuse": True})
        self.assertEqual([len(each["runs"]) for each in result["series"]], [2, 2, 2, 2])
        self.assertEqual(result["series"][0]["finished_rate"], 500.0)
        self.assertEqual(result["series"][0]["durable"], "yes")
        self.assertEqual(len(result["comparisons"]), 3)

    def test_the_json_says_why_something_has_failed(self) -> None:
        failed = Series("haraka", Route.SINK, HALF, (), "it has ended")
        [result] = as_json([Result(LOAD, (failed,))])
        self.assertEqual(
            result["series"], [{"server": "haraka", "route": "sink", "durable": "half", "failed": "it has ended"}]
        )


class ExtentTests(SynchronousTestCase):
    def test_a_run_has_as_many_messages_as_the_time_is_meant_for_within_bounds(self) -> None:
        self.assertEqual(enough(USUALLY, tried=100, seconds=0.1), 1000 * USUALLY.seconds)
        self.assertEqual(enough(USUALLY, tried=100, seconds=0.001), USUALLY.most)
        self.assertEqual(enough(USUALLY, tried=100, seconds=100.0), USUALLY.least)

    def test_each_session_has_a_message(self) -> None:
        self.assertEqual(enough(USUALLY, tried=100, seconds=10.0, sessions=500), 500)

    def test_the_whole_cross_has_every_size_number_of_sessions_kind_of_connection_and_route_once(self) -> None:
        done = [(each.load, route) for each in (*CELLS, *cross()) for route in each.routes]
        self.assertEqual(len(done), len(set(done)))
        self.assertEqual(
            set(done),
            {
                (Load(size, sessions, reuse), route)
                for size in (KIB, 10 * KIB, MIB)
                for sessions in (1, 10, 100, 500)
                for reuse in (False, True)
                for route in Route
            },
        )


def shaken(handshakes: int, seconds: float, resumed: int = 0) -> Shaken:
    return Shaken(handshakes, seconds, seconds / 2, resumed)


class HandshakeTests(SynchronousTestCase):
    def compared(self, kind: Kind, relay: Shaken, bare: Shaken) -> Compared:
        return Compared(kind, (relay,), (bare,), (shaken(100, 1.0),))

    def test_where_tls_begins_at_once_the_relay_as_a_whole_is_judged(self) -> None:
        kind = Kind(starttls=False, resume=False)
        self.assertEqual(self.compared(kind, shaken(90, 1.0), shaken(10, 1.0)).missed, [])
        self.assertEqual(
            self.compared(kind, shaken(89, 1.0), shaken(100, 1.0)).missed,
            ["implicit, new sessions: 0.89 of Twisted's"],
        )

    def test_by_starttls_it_is_the_tls_without_the_dialogue(self) -> None:
        kind = Kind(starttls=True, resume=False)
        self.assertEqual(self.compared(kind, shaken(10, 1.0), shaken(90, 1.0)).missed, [])
        self.assertEqual(
            self.compared(kind, shaken(100, 1.0), shaken(89, 1.0)).missed,
            ["STARTTLS, new sessions: 0.89 of Twisted's"],
        )

    def test_of_sessions_that_are_to_be_resumed_all_have_to_be(self) -> None:
        kind = Kind(starttls=True, resume=True)
        all_of_them, all_but_one = shaken(100, 9.0, resumed=100), shaken(100, 9.0, resumed=99)
        self.assertEqual(self.compared(kind, all_of_them, all_of_them).missed, [])
        for relay, bare in (all_of_them, all_but_one), (all_but_one, all_of_them):
            self.assertEqual(self.compared(kind, relay, bare).missed, ["STARTTLS, resumed sessions: not all of them"])

    def test_a_line_says_how_far_one_is_from_the_other(self) -> None:
        said = str(self.compared(Kind(starttls=False, resume=False), shaken(50, 1.0, resumed=5), shaken(100, 1.0)))
        self.assertIn("  relay             50 a second   10.000 ms of CPU each   10% resumed   0.50 of", said)


class IdleTests(SynchronousTestCase):
    def crowd(self, more: int, *greetings: float, tls: bool = False) -> Crowd:
        return Crowd(10_000, tls, 50 * MB, (50 + more) * MB, 60 * MB, greetings)

    def test_sixty_megabytes_and_a_tenth_of_a_second_are_the_target(self) -> None:
        self.assertEqual(self.crowd(60, 0.001, 0.099).missed, [])
        self.assertEqual(self.crowd(61, 0.001, 0.2).missed, ["61.0 MB more than at rest", "a greeting after 200 ms"])

    def test_in_tls_there_is_none(self) -> None:
        self.assertEqual(self.crowd(600, 1.0, tls=True).missed, [])

    def test_what_a_session_costs_is_said(self) -> None:
        said = str(self.crowd(25, 0.001, 0.002))
        self.assertIn("10,000 idle sessions: 50.0 MB at rest, 75.0 with them, 60.0 when they had gone\n", said)
        self.assertIn("25.0 MB more (at most 60.0), 2,500 octets each", said)


class FileLimitTests(SynchronousTestCase):
    def test_a_limit_that_is_high_enough_is_left_alone_and_one_that_cannot_be_raised_is_said(self) -> None:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        raise_file_limit(10)
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), before)
        with self.assertRaisesRegex(OSError, "ulimit -Hn 9223372036854775000"):
            raise_file_limit(9223372036854775000)
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), before)


class CpuTests(SynchronousTestCase):
    def test_a_name_with_blanks_and_parentheses_is_no_hindrance(self) -> None:
        line = "42 (a) (b c)) S 7 42 42 0 -1 4194560 100 0 0 0 150 50 30 20 20 0 1 0 100 1000 10"
        stat = parsed(line)
        self.assertEqual(stat.parent, 7)
        self.assertEqual(stat.cpu, parsed("1 (x) S 1 0 0 0 0 0 0 0 0 0 250 0 0 0 0").cpu)

    def test_what_all_processes_of_a_server_have_used_is_counted_once(self) -> None:
        stats = {1: Stat(0, 100.0), 10: Stat(1, 1.0), 11: Stat(10, 2.0), 12: Stat(11, 4.0), 20: Stat(1, 8.0)}
        self.assertEqual(used(stats, [10]), 7.0)
        self.assertEqual(used(stats, [10, 20]), 15.0)


class ClientTests(SynchronousTestCase):
    def test_a_connection_is_for_one_message_or_for_as_many_as_are_left(self) -> None:
        for reuse, messages in (False, 1), (True, 3):
            budget = Budget(3)
            self.assertTrue(budget.take())
            said = [line for line, _ in dialogue(budget, "jon@sink.test", b"hi\r\n.\r\n", reuse)]
            self.assertEqual(said.count(b"hi\r\n.\r\n"), messages)
            self.assertEqual(said[-1], b"QUIT\r\n")


class TreeTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.folder = Path(directory.name)
        self.repository = self.folder / "repository"
        self.repository.mkdir()
        self.git("init", "--quiet")
        for number in "12":
            (self.repository / "file").write_text(number)
            self.git("add", "file")
            self.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", number)

    def git(self, *words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=self.repository, check=True, capture_output=True, text=True, timeout=60
        ).stdout

    def test_a_revision_is_there_in_a_folder_of_its_own_and_gone_afterwards(self) -> None:
        with checked_out("HEAD~1", self.folder, self.repository) as tree:
            self.assertEqual((tree.path / "file").read_text(), "1")
            self.assertEqual(tree.name, f"relay@{self.git('rev-parse', '--short', 'HEAD~1').strip()}")
        self.assertFalse(tree.path.exists())
        self.assertEqual(len(self.git("worktree", "list").splitlines()), 1)
        self.assertEqual((self.repository / "file").read_text(), "2")

    def test_one_that_does_not_exist_is_a_mistake(self) -> None:
        with self.assertRaisesRegex(ValueError, "HEAD~2"), checked_out("HEAD~2", self.folder, self.repository):
            pass


@pytest.mark.system
class OwnLoadTests(SynchronousTestCase):
    def test_our_load_arrives_at_our_sink(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        sink = Sink(Path(directory.name), own=True)
        self.addCleanup(sink.stop)
        before = 0
        for options in [], ["--reuse"]:
            for size in "100", "300000":
                words = ("--sessions", "7", "--messages", "50", "--size", size, "127.0.0.1", str(sink.port), "a@b")
                ran = subprocess.run(
                    [sys.executable, "-m", "bench.client", *options, *words],
                    cwd=Path(__file__).parents[1],
                    capture_output=True,
                    timeout=60,
                    check=False,
                )
                self.assertEqual((ran.returncode, ran.stderr), (0, b""))
                self.assertEqual(sink.count, before + 50)
                before += 50


class QueueTests(SynchronousTestCase):
    def queue(self, queued: int, claim: float = 0.001, first: float = 1.0, most: int = 50 * MB) -> Queue:
        return Queue(queued, 1.0, claim, (first,), 10 * MB, most, 1000.0)

    def test_a_target_that_is_missed_is_named(self) -> None:
        self.assertEqual(missed([self.queue(1000), self.queue(1_000_000, first=6.0, claim=0.004)]), [])
        self.assertEqual(missed([self.queue(1000, most=111 * MB)]), ["1,000 take too much memory"])
        self.assertEqual(missed([self.queue(100_000, first=5.1)]), ["100,000 start too late"])
        self.assertEqual(
            missed([self.queue(1000), self.queue(100_000, claim=0.02)]),
            ["a claim from 100,000 takes longer than from 1,000"],
        )


class MaildirTests(SynchronousTestCase):
    def test_what_was_delivered_is_put_aside_and_not_removed(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        maildir = Path(directory.name) / "all"
        clear(maildir)
        self.assertEqual(delivered(maildir), 0)
        (maildir / "new").mkdir(parents=True)
        (maildir / "new").chmod(0o750)
        for _ in range(2):
            (maildir / "new/one").touch()
            self.assertEqual(delivered(maildir), 1)
            clear(maildir)
            self.assertEqual(delivered(maildir), 0)
        self.assertEqual((maildir / "new").stat().st_mode & 0o777, 0o750)
        self.assertEqual(len(list(maildir.parent.glob("*/new/one"))), 2)
