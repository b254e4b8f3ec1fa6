"""`kill -9` at random moments: what a process was told is kept, the next one finds."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from relay.net.waiting import start
from relay.testing.spool_case import octets
from tests.contracts.spool.shards import SqliteShard, content_of

ROOT = Path(__file__).parents[1]
ROUNDS = 3


class KillTests(SynchronousTestCase):
    def test_what_was_kept_before_a_kill_is_there_after_it(self) -> None:
        path = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, path)
        said: list[str] = []
        for _ in range(ROUNDS):
            before = len(said)
            said += self.life_and_death(path)
            self.assertGreater(len(said), before, "it was killed before it had done anything")
        self.assertEqual([line for line in said if line[0] not in "+~-"], [])
        kept = {line[1:] for line in said if line[0] == "+"}
        settling = {line[1:] for line in said if line[0] == "~"}
        settled = {line[1:] for line in said if line[0] == "-"}
        self.assertGreater(len(kept - settling), 20)
        self.assertGreater(len(settled), 20)
        found = self.found(path)
        self.assertEqual((kept - settling) - found, set())
        self.assertEqual(settled & found, set())

    def life_and_death(self, path: str) -> list[str]:
        """What a process said until it was killed, whole lines only."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.contracts.spool.worker", path + "/spool"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        with process.stdout as output:
            first = output.readline()
            death = threading.Timer(random.uniform(0.05, 0.3), process.kill)
            death.start()
            rest = output.read()
            death.cancel()
        process.kill()
        process.wait()
        return [line.decode() for line in (first + rest).split(b"\n")[:-1]]

    def found(self, path: str) -> set[str]:
        """The ids of all entries that are there and whole."""
        shard = SqliteShard()
        self.addCleanup(shard.dispose)
        shutil.rmtree(shard.parent)
        shutil.copytree(path, shard.parent)
        spool = shard.open()
        self.assertEqual(start(spool.recover()), [])
        claims = start(spool.claim(4e9, 1_000_000, 300.0))
        assert not isinstance(claims, Deferred)
        for claim in claims:
            self.assertEqual(octets(claim.content), content_of(claim.entry.id))
        large = sorted(claim.entry.id for claim in claims if len(content_of(claim.entry.id)) > 65536)
        self.assertEqual(shard.files, large)
        return {claim.entry.id for claim in claims}
