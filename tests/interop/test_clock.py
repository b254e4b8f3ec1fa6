"""
The clock on the wall is set, by a day both ways, while a relay runs: nothing stops, and nothing ends before its time.

libfaketime stands between the relay and that clock, and leaves the monotonic one alone, as an administrator would.
"""

from __future__ import annotations

import os
import smtplib
import time
from pathlib import Path

import pytest

from tests.interop.house import InteropTestCase, logged
from tests.interop.peers import free_port, program
from tests.system.harness import RelayProcess, configuration

pytestmark = pytest.mark.interop

DAY = 86400

#: It gives up after an hour, and tries again every second.
POLICIES = """
[delivery.retry]
first = "1s"
most = "1s"
jitter = 0
give_up = "1h"
[[policy]]
use = "forward"
when = {{ recipient = ["far.test"] }}
next_hop = "127.0.0.1:{port}"
"""


def library() -> Path:
    """Where faketime(1) has its library; its own word for that differs between machines."""
    program("faketime")
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    assert found, "libfaketime is not installed; `make interop` as root installs it"
    return found[0]


class ClockTests(InteropTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.far = free_port()
        self.home = self.folder()
        self.wall = self.home / "wall"
        self.set_by(0)
        self.relay = RelayProcess(
            self.home,
            configuration(policies=POLICIES.format(port=self.far)),
            environ={
                "LD_PRELOAD": str(library()),
                "FAKETIME_TIMESTAMP_FILE": str(self.wall),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "NO_FAKE_STAT": "1",
            },
        )
        self.relay.start()
        self.addCleanup(self.end)

    def end(self) -> None:
        if self.relay.running:
            self.relay.stop()

    def set_by(self, seconds: int) -> None:
        """Set the clock on the wall, by so much from what it really is. Never half: it is read all the time."""
        new = self.wall.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        os.replace(new, self.wall)

    def attempts(self) -> int:
        return len(self.relay.said('"delayed"'))

    def send(self) -> smtplib.SMTP:
        client = smtplib.SMTP(*self.relay.address())
        client.sendmail("ann@here.test", ["bob@far.test"], b"Subject: hello\r\n\r\nHi!\r\n")
        return client

    def stepping(self, seconds: int) -> None:
        client = self.send()
        self.relay.event("delayed")
        before, mark = self.attempts(), self.relay.mark
        self.set_by(seconds)
        # What is written from now on says so: the step has come to the relay.
        year = time.strftime("%Y-%m-%d", time.gmtime(time.time() + seconds))
        self.relay.wait_for(f'"time": ?"{year}', mark)
        logged(self.relay, lambda event: event["event"] == "delayed", "attempts go on", before + 3)
        self.assertEqual(self.relay.said('"failed"'), [])
        # Nor has the step ended a session that was idle.
        self.assertEqual(client.noop()[0], 250)
        client.sendmail("ann@here.test", ["eve@far.test"], b"Subject: hello\r\n\r\nHi!\r\n")
        client.quit()
        sink = self.sink(port=self.far)
        logged(self.relay, lambda event: event["event"] == "relayed", "both arrive", 2)
        self.assertEqual(len(sink.messages), 2)

    def test_it_is_set_forward_by_a_day(self) -> None:
        self.stepping(DAY)

    def test_it_is_set_back_by_a_day(self) -> None:
        self.stepping(-DAY)
