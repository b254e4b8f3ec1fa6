"""What is heard of it when the relay begins to listen."""

from __future__ import annotations

import tempfile
from pathlib import Path

from twisted.internet.protocol import Factory
from twisted.logger import LogEvent, formatEventAsClassicLogText, globalLogPublisher
from twisted.python import log
from twisted.trial.unittest import SynchronousTestCase

from relay.config.addresses import Inet, Unix
from relay.net.listen import inherit, listen, share
from relay.net.reactor import RelayReactor
from tests.real_reactor import RealReactor


class QuietTests(SynchronousTestCase):
    def test_classes_of_ours_are_not_named_in_the_log(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        real = RealReactor(RelayReactor)
        self.addCleanup(real.close)
        events: list[LogEvent] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        for address in (Inet("127.0.0.1", 0), Unix(Path(folder.name) / "control.sock")):
            port = listen(real.reactor, address, Factory(), backlog=5)
            inherit(real.reactor, share(port), Factory(), backlog=5)
        log.msg("what others say")
        said = [formatEventAsClassicLogText(event) for event in events]
        self.assertEqual([text for text in said if text and "starting on" in text], [])
        self.assertIn("what others say", str(said[-1]))
