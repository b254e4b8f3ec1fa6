"""What a worker is told to begin with, and what the parent hears of it."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.error import ProcessTerminated
from twisted.logger import LogEvent, LogLevel, capturedLogs, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relay.config.errors import ConfigurationError
from relay.net.line import Line
from relay.sharing import Share
from relay.workers.orders import Ended, Launch, Orders, Process, Reading

TEXT = 'greeting = "$hostname of $user"\n[spool]\npath = "spool"\n'


class OrdersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reading = Reading("relay.toml", "/srv/relay", TEXT, "0123456789ab", "mx.test", "ann")

    def test_what_is_written_is_read_by_who_has_the_descriptor_and_it_is_closed(self) -> None:
        orders = Orders(self.reading, Share(1, 2, True), 3, {"mx": 5, "ä": 6}, 7)
        descriptor = orders.written()
        self.assertEqual(Orders.read(descriptor), orders)
        with self.assertRaises(OSError):
            os.fstat(descriptor)

    def test_settings_are_those_of_the_share_whatever_the_file_says_by_now(self) -> None:
        settings = Orders(self.reading, Share(1, 2), 1, {}).settings()
        self.assertEqual(settings.greeting, "mx.test of ann")
        self.assertEqual(settings.spool.path, Path("/srv/relay/spool/shards/1"))

    def test_a_file_is_read_with_its_digest_and_its_folder(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "relay.toml"
            file.write_text(TEXT)
            reading = Reading.of(str(file))
            self.assertEqual((reading.text, reading.base, len(reading.digest)), (TEXT, str(file.parent.resolve()), 12))
            file.unlink()
            with self.assertRaises(ConfigurationError):
                Reading.of(str(file))


class ProcessTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ended: list[Ended] = []
        self.process = Process(1, Line(), self.ended.append)
        self.logged: list[tuple[str, Any, str]] = []
        globalLogPublisher.addObserver(self.note)
        self.addCleanup(globalLogPublisher.removeObserver, self.note)

    def note(self, event: LogEvent) -> None:
        self.logged.append((event["log_namespace"], event["log_level"], event["text"]))

    def test_a_line_of_its_log_is_one_of_ours_however_it_is_cut(self) -> None:
        line = json.dumps({"level": "warn", "namespace": "relay.tls", "text": "two\nlines"}).encode() + b"\n"
        self.process.childDataReceived(2, line[:20])
        self.process.childDataReceived(2, line[20:] + line)
        self.assertEqual(self.logged, [("relay.tls", LogLevel.warn, "two\nlines")] * 2)

    def test_what_is_no_line_of_a_log_is_told_too(self) -> None:
        for said in (b"Traceback", b"[1]", b'{"level": "loud", "namespace": "x", "text": "y"}', b"\xff{"):
            self.process.childDataReceived(2, said + b"\n")
        self.assertEqual(next(text for _, _, text in self.logged), "Traceback")
        self.assertEqual([(where, level) for where, level, _ in self.logged], [("relay.worker", LogLevel.warn)] * 4)

    def test_braces_in_it_mean_nothing(self) -> None:
        self.process.childDataReceived(2, b"{0} {worker} %s\n")
        self.assertEqual(self.logged[0][2], "{0} {worker} %s")

    def test_a_line_without_an_end_is_told_in_pieces(self) -> None:
        for _ in range(10):
            self.process.childDataReceived(2, b"x" * 100_000)
        self.assertEqual([len(text) for _, _, text in self.logged], [300_000] * 3)
        self.process.processEnded(Failure(ProcessTerminated(1)))
        self.assertEqual([len(text) for _, _, text in self.logged], [300_000] * 3 + [100_000])

    def test_how_it_has_ended_is_told(self) -> None:
        self.process.processExited(Failure(ProcessTerminated(78)))
        self.process.processExited(Failure(ProcessTerminated(None, 9)))
        self.assertEqual(self.ended, [Ended(status=78), Ended(signal=9)])


class LaunchTests(SynchronousTestCase):
    def test_what_a_retired_one_says_each_time_that_it_cannot_begin_is_said_once(self) -> None:
        launch = Launch(SpawnsNothing(), {})
        reading = Reading("no.toml", "/nowhere", "", "d1", "mx.test", "ann")

        def said(share: Share, text: str) -> int:
            process: Any = launch(Orders(reading, share, 0, {}), Line(), lambda ended: None)
            with capturedLogs() as events:
                process.childDataReceived(2, f"{text}\n".encode())
            return len(events)

        retired = Share(1, 1, True)
        self.assertEqual([said(retired, text) for text in ("damaged", "damaged", "full", "damaged")], [1, 0, 1, 0])
        self.assertEqual([said(Share(0, 1), "damaged") for _ in range(2)], [1, 1])
        launch.served(1)
        self.assertEqual([said(retired, text) for text in ("damaged", "damaged")], [1, 0])


class SpawnsNothing:
    def spawnProcess(self, *_words: Any, **_more: Any) -> None:
        """Nothing runs."""

    def adoptStreamConnection(self, *_words: Any) -> None:
        """Nobody is heard."""
