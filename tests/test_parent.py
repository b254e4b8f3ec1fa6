"""What the parent of several workers does, where no process is needed to see it."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from relay.config.errors import ConfigurationError
from relay.control.api import Refused
from relay.net.line import Line
from relay.parent import ParentService, from_file
from relay.sharing import Share
from relay.workers.orders import Ended, Launch, Reading

TEXT = 'hostname = "mx.test"\n[[listener]]\naddress = "127.0.0.1:25"\n[spool]\npath = "spool"\n'


class Reactor(Clock):
    """Notes how it is to end."""

    def __init__(self) -> None:
        super().__init__()
        self.last: list[Any] = []
        self.stopped = 0

    def addSystemEventTrigger(self, phase: str, event: str, callback: Any, *arguments: Any) -> None:
        self.last.append((phase, event, *arguments))

    def stop(self) -> None:
        self.stopped += 1


class Reads:
    """Counts how often a configuration is to be read."""

    busy = False

    def __init__(self) -> None:
        self.times = 0

    def left(self, post: object) -> None:
        """Nobody is waited for."""

    async def __call__(self) -> None:
        self.times += 1


class Body:
    pid = 1

    def __init__(self, line: Line) -> None:
        self.line = line

    def signal(self, number: int) -> None:
        """It does not hear."""


class FileTests(SynchronousTestCase):
    def test_a_spool_that_cannot_be_looked_into_is_the_operators(self) -> None:
        """As one of another user, or one that leads to itself."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        file, spool = Path(folder.name) / "relay.toml", Path(folder.name) / "spool"
        file.write_text(TEXT)
        spool.symlink_to(spool)
        error = self.assertRaises(ConfigurationError, from_file, str(file), Reactor())
        self.assertEqual(str(error), f"{file}:5: spool.path: {spool}/shards: {os.strerror(errno.ELOOP)}")


class ParentTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        file = Path(folder.name) / "relay.toml"
        file.write_text(TEXT)
        reading = Reading.of(str(file))
        self.shard = str(Path(folder.name) / "spool" / "shards" / "2")
        self.reactor, self.reads = Reactor(), Reads()
        shares = (Share(0, 2), Share(1, 2), Share(2, 2, True))
        self.parent = parent = ParentService(reading, reading.settings(), shares, self.reactor)
        parent._adopting = self.reads  # type: ignore[assignment]
        parent._launch = Launch(self.reactor, {})
        self.ended: dict[int, Any] = {}
        parent._crew._start = self.begin
        parent._crew.start()

    def begin(self, share: Share, line: Line, ended: Any) -> Body:
        self.ended[share.index] = ended
        return Body(line)

    def serves(self, index: int) -> None:
        self.parent._crew._serves(self.parent._crew.posts[index])

    def test_what_is_said_while_workers_start_is_done_when_all_serve(self) -> None:
        self.parent._reread()
        self.parent._reread()
        self.serves(0)
        self.assertEqual(self.reads.times, 0)
        # A retired one may never serve.
        self.serves(1)
        self.assertEqual(self.reads.times, 1)
        self.parent._reread()
        self.assertEqual(self.reads.times, 2)

    def test_where_nothing_was_said_nothing_is_read(self) -> None:
        self.serves(0)
        self.serves(1)
        self.assertEqual(self.reads.times, 0)

    def test_a_supervisor_is_told_the_status_of_a_worker_that_cannot_begin(self) -> None:
        for status, told in ((os.EX_TEMPFAIL, os.EX_TEMPFAIL), (os.EX_CONFIG, os.EX_CONFIG), (1, 1), (71, 1)):
            self.setUp()
            self.ended[1](Ended(status=status))
            self.assertEqual((self.reactor.last, self.reactor.stopped), ([("after", "shutdown", told)], 1))
            self.flushLoggedErrors()

    def test_of_a_retired_one_that_cannot_begin_the_log_and_status_say_where_its_mail_is(self) -> None:
        self.serves(0)
        self.serves(1)
        with capturedLogs() as events:
            self.ended[2](Ended(status=1))
        self.assertIn(self.shard, formatEvent(events[-1]))
        self.assertEqual((self.reactor.last, self.reactor.stopped), ([], 0))
        [worker] = [each for each in self.parent._workers() if each.retired]
        try:
            worker.ask("status", {}, False).send(None)  # type: ignore[attr-defined]
        except Refused as refused:
            self.assertIn(self.shard, refused.sentence)
        else:
            self.fail("it has answered")
