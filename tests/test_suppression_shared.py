"""One suppression list of several workers."""

from __future__ import annotations

import json

from relay.delivery.suppression import Suppressed, Suppressions
from relay.delivery.suppression_shared import SharedSuppressions
from relay.testing.policy import NOON
from tests.test_store_shared import Parent
from tests.test_suppression import ANN, BOB, DAY, EVE, PEER, ListCase


class SharedListTests(ListCase):
    def setUp(self) -> None:
        super().setUp()
        self.parent = Parent()
        self.one, self.two, self.three = (self.worker(index) for index in range(3))

    def worker(self, index: int) -> SharedSuppressions:
        made = SharedSuppressions(self.file, self.clock, line=self.parent.ear(index), index=index)
        made.load()
        return made

    def fail_at(self, worker: Suppressions) -> None:
        worker.event("failed", id="Q", recipient=ANN, status="5.1.1", diagnostic="550 5.1.1 no", peer=PEER)

    def test_who_has_failed_at_one_worker_is_known_to_all(self) -> None:
        self.fail_at(self.two)
        self.assertIsNone(self.one.find(ANN))
        self.parent.pass_on()
        for worker in self.one, self.two, self.three:
            self.assertEqual(worker.find(ANN), Suppressed(ANN, NOON, NOON + 30 * DAY, "550 5.1.1 no"))
        self.assertEqual(self.parent.lines, 1)

    def test_mail_that_one_worker_got_rid_of_takes_it_off_everywhere(self) -> None:
        self.fail_at(self.two)
        self.parent.pass_on()
        self.three.event("relayed", recipient=ANN)
        self.parent.pass_on()
        for worker in self.one, self.two, self.three:
            self.assertEqual(worker.listed(), ())
        self.assertFalse(self.one.remove(ANN))

    def test_whoever_begins_finds_all_of_it_in_the_file(self) -> None:
        self.fail_at(self.two)
        self.three.add(BOB, "has asked for it", "root")
        self.one.add(EVE, "has left", "root")
        self.parent.pass_on()
        self.two.remove(EVE)
        # Nobody has said the last of it yet: whoever begins finds it, and hears it again.
        four = self.worker(3)
        self.assertEqual(self.on(four), [ANN, BOB])
        self.parent.pass_on()
        self.assertEqual(self.on(four), [ANN, BOB])
        self.assertEqual(self.on(self.worker(0)), [ANN, BOB])
        self.assertEqual(self.on(self.made()), [ANN, BOB])

    def test_only_the_first_worker_writes_the_file_anew(self) -> None:
        for _ in range(1500):
            self.two.add(ANN, "", "root")
        self.parent.pass_on()
        self.assertEqual(len(self.file.read_text().splitlines()), 1500)
        self.three.add(BOB, "", "root")
        self.parent.pass_on()
        self.assertEqual(len(self.file.read_text().splitlines()), 1501)
        self.one.add(EVE, "", "root")
        self.parent.pass_on()
        self.assertEqual(len(self.file.read_text().splitlines()), 3)
        self.two.remove(EVE)
        self.assertEqual([json.loads(line)["until"] for line in self.file.read_text().splitlines()][3:], [0])

    def test_only_the_first_worker_mends_the_file(self) -> None:
        self.fail_at(self.two)
        with self.file.open("a") as file:
            file.write("nonsense\n")
        self.assertEqual(self.on(self.worker(1)), [ANN])
        self.assertIn("nonsense", self.file.read_text())
        self.assertEqual(self.said, [])
        self.assertEqual(self.on(self.worker(0)), [ANN])
        self.assertNotIn("nonsense", self.file.read_text())
        self.assertEqual(len(self.said), 1)
