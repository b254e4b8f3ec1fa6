"""What the benchmark says: its targets, its page, and its picture."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from attrs import asdict, evolve
from twisted.trial.unittest import SynchronousTestCase

from bench.chart import groups, svg
from bench.goals import GOALS, lines
from bench.machine import Memory, Stat, family, memory_of, used_exactly
from bench.page import About, page
from bench.report import Result, Run, Series
from bench.scenarios import CELLS, KIB, USUAL, Durability, Load, Route
from bench.special import specials
from bench.targets import Line, Round, at_least, at_most, missing_part, table

MACHINE = {
    "cores": 2,
    "processor": "Abacus <9000>",
    "memory_gib": 24,
    "kernel": "6.1",
    "python": "3.11",
    "filesystem": "ext4",
    "syncs_a_second": 6000,
    "load_before": 0.1,
}
ABOUT = About(
    "1234567",
    "2026-11-23T10:00:00+00:00",
    "make bench",
    MACHINE,
    "smtp-source",
    {"relay": ("1234567", 'hostname = "relay.test"\n'), "postfix": ("3.7", "main.cf")},
    {"haraka": "npm is not here"},
    ("1 MiB, 500 sessions, new connections",),
    600.0,
)


def of(server: str, *rates: int, route: Route = Route.SINK, durable: Durability = Durability.YES) -> Series:
    """A server's rounds, by its messages a second. It has two cores, and uses both."""
    runs = (Run(rate, 1.0, 1.0, 2.0, memory=Memory(3 * 2**20, 2 * 2**20)) for rate in rates)
    return Series(server, route, durable, tuple(runs))


def nobody(name: str) -> str:
    return ""


class TargetTests(SynchronousTestCase):
    def test_a_target_is_met_from_its_bound_on(self) -> None:
        for ratio, met in (2.0, True), (1.99, False), (None, None):
            self.assertIs(at_least("x", 2, "Postfix", ratio, "why").met, met)
        for ratio, met in (0.1, True), (0.101, False), (None, None):
            self.assertIs(at_most("x", 0.1, "Postfix", ratio, "why").met, met)

    def test_a_figure_is_not_rounded_to_the_other_side(self) -> None:
        self.assertEqual(at_least("x", 2, "Postfix", 1.996, "fast").figure, "1.996 x (fast)")
        self.assertEqual(at_most("x", 0.1, "Postfix", 0.1004, "fast").figure, "0.1004 x (fast)")
        self.assertEqual(at_least("x", 2, "Postfix", 1.2345, "fast").figure, "1.23 x (fast)")

    def test_how_much_is_missing_is_said_of_what_is_missed_and_of_nothing_else(self) -> None:
        self.assertAlmostEqual(missing_part(at_least("x", 8, "Postfix", 6, "")) or 0, 0.25)
        self.assertAlmostEqual(missing_part(at_most("x", 0.1, "Postfix", 0.15, "")) or 0, 0.5)
        self.assertIsNone(missing_part(at_least("x", 8, "Postfix", 9, "")))
        self.assertIsNone(missing_part(at_least("x", 8, "Postfix", None, "")))
        self.assertAlmostEqual(
            missing_part(Line("x", "<= 20 ms", "30 ms", False, {"bound": 20, "value": 30})) or 0, 0.5
        )

    def test_the_table_has_a_line_for_each_with_its_verdict(self) -> None:
        told = table(
            [
                at_least("relayed", 8, "Postfix", 6, "600/s to 100/s"),
                at_least("held", 2, "Postfix", 3, "300/s to 100/s"),
                at_least("tls", 1, "Postfix", None, "Postfix is not installed"),
                Line("idle", "<= 60 MB", "70 MB", False),
            ]
        )
        self.assertEqual(
            told.splitlines()[2:],
            [
                "| relayed | >= 8 x Postfix | 6.00 x (600/s to 100/s) | **no**, 25% short |",
                "| held | >= 2 x Postfix | 3.00 x (300/s to 100/s) | yes |",
                "| tls | >= 1 x Postfix | not measured: Postfix is not installed | - |",
                "| idle | <= 60 MB | 70 MB | **no** |",
            ],
        )


class GoalTests(SynchronousTestCase):
    results = (
        Result(
            USUAL,
            (
                of("relay", 400, 500, 600),
                of("relay, 2 workers", 800, 900, 1000),
                of("postfix", 100, 100, 100),
                of("relay", 6000, 6000, 6000, route=Route.HOLD),
                of("postfix", 100, 100, 100, route=Route.HOLD),
                of("aiosmtpd", 1000, 1000, 1000, route=Route.DISCARD, durable=Durability.NO),
                of("smtp-sink", 20000, 20000, 20000, route=Route.DISCARD, durable=Durability.NO),
            ),
        ),
    )

    def test_every_goal_is_measured_by_the_cells_of_a_usual_run(self) -> None:
        measured = {(cell.load, route) for cell in CELLS for route in cell.routes}
        self.assertEqual([goal for goal in GOALS if (goal.load, goal.route) not in measured], [])

    def test_each_of_ours_has_a_line_with_the_figures_of_both_and_how_far_the_rounds_are_apart(self) -> None:
        said = [line for line in lines(self.results, nobody) if line.met is not None]
        self.assertEqual(
            [(line.scenario.partition(":")[0], line.target, line.figure, line.met) for line in said],
            [
                (
                    "relay end to end, durable",
                    ">= 15 x Postfix",
                    "5.00 x (500/s to 100/s; rounds 4.00 to 6.00)",
                    False,
                ),
                (
                    "relay end to end, durable",
                    ">= 15 x Postfix",
                    "9.00 x (900/s to 100/s; rounds 8.00 to 10.00)",
                    False,
                ),
                (
                    "accept only, durable",
                    ">= 5 x aiosmtpd, which keeps nothing",
                    "6.00 x (6,000/s to 1,000/s; rounds 6.00 to 6.00)",
                    True,
                ),
                (
                    "accept only, durable",
                    ">= 0.5 x smtp-sink, which keeps nothing",
                    "0.30 x (6,000/s to 20,000/s; rounds 0.30 to 0.30)",
                    False,
                ),
                (
                    "CPU for each message, relay end to end, durable",
                    "<= 0.1 x Postfix",
                    "0.20 x (4.000 ms to 20.000 ms; rounds 0.17 to 0.25)",
                    False,
                ),
                (
                    "CPU for each message, relay end to end, durable (2 workers)",
                    "<= 0.1 x Postfix",
                    "0.11 x (2.222 ms to 20.000 ms; rounds 0.10 to 0.12)",
                    False,
                ),
            ],
        )
        self.assertEqual([line.scenario.endswith("(2 workers)") for line in said[:2]], [False, True])

    def test_what_is_not_measured_is_named_with_its_reason(self) -> None:
        said = list(lines([], {"postfix": "Postfix is not installed"}.get))  # type: ignore[arg-type]
        self.assertEqual(len(said), len(GOALS))
        self.assertEqual(said[0].figure, "not measured: Postfix is not installed")
        self.assertIn("not measured: not in this run", {line.figure for line in said})

    def test_lines_are_json(self) -> None:
        json.dumps([asdict(line) for line in lines(self.results, nobody)])


class SpecialTests(SynchronousTestCase):
    def test_one_that_fails_is_a_line_and_the_others_go_on(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            said = specials(Round(Path(folder), say=lambda _: None), ["nowhere", "trees"])
        self.assertEqual([line.met for line in said], [False, False])
        self.assertIn("No module named 'bench.nowhere'", said[0].figure)
        self.assertEqual(said[1].figure, "failed: it has no targets")


class PageTests(SynchronousTestCase):
    results = (
        *GoalTests.results,
        Result(
            Load(10 * KIB, 100, reuse=True),
            (of("relay", 100), Series("postfix", Route.SINK, Durability.YES, (), "it has\nlost messages")),
        ),
    )

    def page(self) -> str:
        return page(ABOUT, self.results, list(lines(self.results, nobody)))

    def test_it_names_the_command_the_commit_the_day_and_the_machine(self) -> None:
        self.assertIn("`make bench` at 1234567, 2026-11-23T10:00:00+00:00, in 600 s, on 2 cores of Abacus", self.page())

    def test_targets_come_first_and_then_every_figure(self) -> None:
        said = self.page()
        self.assertLess(said.index("## Targets"), said.index("## 1 KiB, 100 sessions, reused connections"))
        self.assertIn(
            "| ours is so many times theirs (CPU) | relay -> sink | relay, 2 workers -> sink | relay -> hold |\n", said
        )
        self.assertIn("| postfix -> sink | 5.00 (0.20) | 9.00 (0.11) |  |\n", said)
        self.assertIn("| smtp-sink -> discard | 0.03 (40.00) | 0.04 (22.22) | 0.30 (3.33) |\n", said)
        self.assertIn("| relay -> sink | 500 | 500 | 40% | 4.000 | 3, 2 | yes |\n", said)

    def test_what_is_missing_has_failed_or_was_left_out_is_named(self) -> None:
        said = self.page()
        self.assertIn("* haraka: npm is not here\n", said)
        self.assertIn("| postfix -> sink | failed: it has lost messages |", said)
        self.assertIn("There was no time for: 1 MiB, 500 sessions, new connections.", said)

    def test_each_configuration_is_shown(self) -> None:
        self.assertIn('### relay (1234567)\n\n```\nhostname = "relay.test"\n```', self.page())


class ChartTests(SynchronousTestCase):
    results = GoalTests.results

    def drawn(self, about: About = ABOUT) -> Any:
        return ElementTree.fromstring(svg(about, self.results))

    def test_it_has_a_bar_for_each_that_relays_and_each_that_accepts(self) -> None:
        self.assertEqual(
            [(group.title.partition(":")[0], [bar.who for bar in group.bars]) for group in groups(self.results)],
            [
                ("relayed", ["relay", "relay, 2 workers", "Postfix"]),
                ("accepted", ["relay", "Postfix", "aiosmtpd", "smtp-sink"]),
            ],
        )

    def test_a_bar_is_as_long_as_its_figure_in_its_group(self) -> None:
        rects = [each for each in self.drawn().iter() if each.tag.endswith("rect") and each.get("height") == "16"]
        self.assertEqual([int(each.get("width")) for each in rects[:3]], [222, 400, 44])
        self.assertEqual(
            [each.get("class") for each in rects[3:]], ["ours", "durable", "keeps-nothing", "keeps-nothing"]
        )

    def test_it_names_what_it_is_of_whatever_the_machine_is_called(self) -> None:
        said = "".join(self.drawn().itertext())
        for part in "make bench", "1234567", "2026-11-23", "2 cores of Abacus <9000>", "900/s, 9.0 x":
            self.assertIn(part, said)

    def test_it_says_so_if_the_machine_was_busy(self) -> None:
        self.assertNotIn("did other things", svg(ABOUT, self.results))
        self.assertIn("did other things", svg(evolve(ABOUT, machine={**MACHINE, "load_before": 1.0}), self.results))

    def test_nothing_reaches_over_its_edge(self) -> None:
        drawn = self.drawn(evolve(ABOUT, commit="1234567, with changes"))
        _, _, width, height = map(int, drawn.get("viewBox").split())
        for each in drawn.iter():
            self.assertLessEqual(int(each.get("x", 0)) + int(each.get("width", 0)), width)
            self.assertLessEqual(int(each.get("y", 0)), height)

    def test_it_can_be_read_in_the_dark(self) -> None:
        self.assertIn("prefers-color-scheme: dark", svg(ABOUT, self.results))


class MemoryTests(SynchronousTestCase):
    def test_children_and_theirs_belong_to_a_server(self) -> None:
        stats = {1: Stat(0, 0.0), 10: Stat(1, 0.0), 11: Stat(10, 0.0), 12: Stat(11, 0.0), 20: Stat(1, 0.0)}
        self.assertEqual(family(stats, [10]), [10, 11, 12])

    def test_cpu_is_told_by_the_scheduler_and_at_least_as_much_as_the_kernel_counts(self) -> None:
        while time.process_time() < 0.05:
            pass
        pid = os.getpid()
        before = time.process_time()
        exactly = used_exactly({pid: Stat(1, 0.0)}, [pid])
        self.assertTrue(before * 0.5 <= exactly <= time.process_time() * 1.5, (before, exactly))
        self.assertEqual(used_exactly({pid: Stat(1, 1e6 + 5.0, ended=5.0)}, [pid]), 1e6 + 5.0)
        # It has ended since; what its children had used is known all the same.
        self.assertEqual(used_exactly({2**22 + 1: Stat(1, 7.0, ended=5.0)}, [2**22 + 1]), 7.0)

    def test_a_process_has_some_and_one_that_has_ended_has_none(self) -> None:
        own = memory_of([os.getpid(), 2**22 + 1])
        self.assertGreater(own.rss, 2**20)
        self.assertGreaterEqual(own.rss, own.pss)
        self.assertEqual(memory_of([2**22 + 1]), Memory(0, 0))
