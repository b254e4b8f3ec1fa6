"""`relayctl` where a relay is several processes: it reads like one, and what is missing is said."""

from __future__ import annotations

import contextlib
import io
import json
import os
from typing import Any

from click.testing import CliRunner, Result

from relay.cli import ask, mailq
from relay.cli.relayctl import main
from relay.control.api import Refused
from tests.test_control_together import TogetherCase


class WorkersCase(TogetherCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(ask, "_said", self.said)
        self.ids = [self.post_mail(at, "x@a.example", "y@b.example") for at in (1, 0, 1, 2)]

    def said(self, path: str | None, method: str, what: str, body: str | None, timeout: float) -> Any:
        """What `relay.cli.ask` does over a socket."""
        octets = (body or "").encode()
        head = f"{method} /{what} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(octets)}\r\n\r\n"
        status, value = self.socket.say(head.encode() + octets)
        if status != 200:
            raise ask.Declined(value["error"], status)
        return value

    def run_it(self, *arguments: str, status: int = 0) -> Result:
        result = CliRunner().invoke(main, arguments)
        self.assertEqual(result.exit_code, status, result.output)
        return result


class WholeTests(WorkersCase):
    def test_the_queue_reads_like_one(self) -> None:
        listed = self.run_it("queue", "list", "--json").stdout.splitlines()
        self.assertEqual([json.loads(line)["id"] for line in listed], self.ids)
        for most in (1, 3):
            listed = self.run_it("queue", "list", "--json", "-n", str(most)).stdout.splitlines()
            self.assertEqual([json.loads(line)["id"] for line in listed], self.ids[:most])
        self.assertRegex(self.run_it("queue", "count").stdout, r"a.example +0 +4 +0 +0 +4\n")
        self.assertTrue(self.run_it("queue", "show", self.ids[3]).stdout.startswith(self.ids[3]))

    def test_acts_are_counted_together(self) -> None:
        self.assertEqual(self.run_it("queue", "hold", "--dest", "a.example", "--dry-run").stdout[:10], "would hold")
        self.assertEqual(self.run_it("queue", "hold", "--dest", "a.example").stdout, "4 recipients held\n")
        self.assertEqual(self.run_it("queue", "delete", self.ids[3], "--yes").stdout, "2 recipients deleted\n")
        self.run_it("queue", "show", self.ids[3], status=1)
        self.assertEqual(self.run_it("queue", "release", "--all").stdout[:21], "3 recipients released")

    def test_the_status_has_a_line_for_each_worker(self) -> None:
        lines = self.run_it("status").stdout.splitlines()
        self.assertRegex(lines[0], r"^relay .* on mx.test, process 99, up 4m 0s$")
        self.assertEqual(
            lines[2:5],
            [
                "worker 0: process 100, up 4m 0s, 1 connected, 1 message queued",
                "worker 1: process 101, up 4m 0s, 2 connected, 2 messages queued",
                "worker 2, for what is left of its queue: process 102, up 4m 0s, 1 connected, 1 message queued",
            ],
        )
        self.assertTrue(any(line.startswith("queue: 4 messages") for line in lines))

    def test_the_status_says_where_a_pause_does_not_hold(self) -> None:
        self.processes[1].world.relay.dispatcher.pause("a.example")
        lines = self.run_it("status").stdout.splitlines()
        self.assertIn("NOT PAUSED EVERYWHERE: a.example goes on in worker 0, 2", lines)
        self.run_it("dest", "pause", "a.example")
        self.assertNotIn("EVERYWHERE", self.run_it("status").stdout)

    def test_a_destination_has_the_part_of_each_worker(self) -> None:
        text = self.run_it("dest", "show", "a.example").stdout
        self.assertIn("    worker 2: 0 under way of ", text)
        self.assertEqual(self.run_it("dest", "pause", "a.example").stdout, "a.example is paused\n")
        self.assertIn("paused", self.run_it("dest", "list").stdout)
        self.assertIn("worker 1: 0 under way of ", self.run_it("dest", "show", "a.example").stdout)

    def test_the_other_commands_read_like_one(self) -> None:
        self.assertIn(self.ids[2], self.run_it("trace", "jon@example.net").stdout)
        self.assertIn(self.ids[2], self.run_it("why", "jon@example.net").stdout)
        self.assertIn("x@a.example", self.run_it("explain", "x@a.example").stdout)
        self.assertIn("123456", self.run_it("reload").stdout)
        self.assertIn("since the start: 4 accepted", self.run_it("top", "--once").stdout)


class MissingTests(WorkersCase):
    def setUp(self) -> None:
        super().setUp()
        self.silence(1, "it is being started")

    def test_what_is_missing_is_said_once_and_the_status_is_75(self) -> None:
        result = self.run_it("queue", "list", "-n", "2", status=os.EX_TEMPFAIL)
        self.assertEqual(result.stderr, "not all of it: worker 1: it is being started\n")
        self.assertNotIn(self.ids[0], result.stdout)
        for command in (("queue", "count"), ("dest", "list"), ("trace", "x@a.example"), ("status",), ("top", "--once")):
            result = self.run_it(*command, status=os.EX_TEMPFAIL)
            self.assertEqual(result.stderr.count("not all of it: worker 1: it is being started\n"), 1, command)

    def test_that_nothing_was_found_is_not_known(self) -> None:
        for command in (("trace", "nobody@example.org"), ("queue", "list", "--to", "nobody@example.org")):
            self.assertIn("not all of it", self.run_it(*command, status=os.EX_TEMPFAIL).stderr)

    def test_what_is_done_in_a_part_is_told_as_a_part(self) -> None:
        result = self.run_it("queue", "hold", "--all", status=os.EX_TEMPFAIL)
        self.assertEqual(result.stdout, "4 recipients held\n")
        self.assertIn("not all of it: worker 1", result.stderr)
        result = self.run_it("dest", "pause", "a.example", status=os.EX_TEMPFAIL)
        self.assertIn("not all of it: worker 1", result.stderr)

    def test_a_worker_that_is_silent_has_a_line_in_the_status(self) -> None:
        lines = self.run_it("status", status=os.EX_TEMPFAIL).stdout.splitlines()
        self.assertEqual(lines[3], "worker 1: process 101, DOES NOT ANSWER")

    def test_what_the_relay_refuses_is_refused_as_ever(self) -> None:
        result = self.run_it("explain", "soup", status=2)
        self.assertNotIn("not all of it", result.stderr)
        self.processes[0].trouble = Refused("no", 503)
        self.processes[2].trouble = Refused("no", 503)
        self.run_it("queue", "list", status=1)

    def test_other_programs_hear_of_it_too(self) -> None:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = mailq.run(["--socket", "somewhere"])
        self.assertEqual((status, err.getvalue()), (75, "relay-mailq: not all of it: worker 1: it is being started\n"))
        self.assertIn("in 2 Requests", out.getvalue())
