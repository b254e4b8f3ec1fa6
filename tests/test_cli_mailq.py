"""`relay-mailq`: the queue, as programs read it that know Postfix."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socketserver
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from relay.cli import mailq, sendmail
from relay.cli.mailq import Queued, Waiting, json_lines, pages, text_lines

NOON = 1795435200.0

WAITS = Queued(
    "NG79W8MR4E21H9",
    "deferred",
    NOON,
    1234,
    "ann@example.org",
    (
        Waiting("bob@example.net", "connection refused (4.4.1)"),
        Waiting("carol@example.net", "connection refused (4.4.1)"),
        Waiting("dave@example.com"),
    ),
)
ACTIVE = Queued("NG79W8MR9XYZ0K", "active", NOON + 86400 * 9, 3000, "", (Waiting("zoe@example.info"),))
HELD = Queued("NG79W8MRZZZZZZ", "hold", NOON, 12345678, "x@y\x1b", (Waiting("a@b", "held by policy 'odd'\n"),))


def as_json(entry: Queued) -> dict[str, Any]:
    """As the control socket says it."""
    return {
        "id": entry.id,
        "queue": entry.queue,
        "arrived": entry.arrived,
        "size": entry.size,
        "sender": entry.sender,
        "recipients": [{"address": each.address, "delay_reason": each.delay_reason} for each in entry.recipients],
    }


class Control(socketserver.ThreadingUnixStreamServer):
    """The control socket of a relay with these entries, two on a page."""

    daemon_threads = True

    def __init__(self, path: str, entries: list[Queued]) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                after = self.path.partition("?after=")[2]
                behind = [entry for entry in entries if entry.id > after]
                more = behind[1].id if len(behind) > 2 else None
                value = json.dumps({"entries": [as_json(entry) for entry in behind[:2]], "next": more}).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(value)

            def log_message(self, *_: object) -> None:
                pass

            def address_string(self) -> str:
                return "local"

        super().__init__(path, Answers)


class TextTests(SynchronousTestCase):
    def setUp(self) -> None:
        zone = os.environ.get("TZ")
        self.addCleanup(self.in_zone, zone)
        self.in_zone("UTC")

    @staticmethod
    def in_zone(zone: str | None) -> None:
        if zone is None:
            os.environ.pop("TZ", None)
        else:
            os.environ["TZ"] = zone
        time.tzset()

    def test_a_queue_as_postfix_prints_it(self) -> None:
        self.assertEqual(
            list(text_lines([WAITS, ACTIVE, HELD])),
            [
                "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------",
                "NG79W8MR4E21H9        1234 Mon Nov 23 12:00:00 ann@example.org",
                "                                               dave@example.com",
                "                                                (connection refused (4.4.1))",
                "                                               bob@example.net",
                "                                               carol@example.net",
                "",
                "NG79W8MR9XYZ0K*       3000 Wed Dec  2 12:00:00 MAILER-DAEMON",
                "                                               zoe@example.info",
                "",
                "NG79W8MRZZZZZZ!   12345678 Mon Nov 23 12:00:00 x@y?",
                "                                                     (held by policy 'odd'?)",
                "                                               a@b",
                "",
                "-- 12060 Kbytes in 3 Requests.",
            ],
        )
        self.assertEqual(list(text_lines([ACTIVE]))[-1], "-- 2 Kbytes in 1 Request.")

    def test_an_empty_queue(self) -> None:
        self.assertEqual(list(text_lines([])), ["Mail queue is empty"])
        self.assertEqual(list(json_lines([])), [])

    def test_json_has_the_names_of_postfix(self) -> None:
        said = [json.loads(line) for line in json_lines([WAITS, ACTIVE])]
        self.assertEqual(
            said[0],
            {
                "queue_name": "deferred",
                "queue_id": "NG79W8MR4E21H9",
                "arrival_time": 1795435200,
                "message_size": 1234,
                "forced_expire": False,
                "sender": "ann@example.org",
                "recipients": [
                    {"address": "bob@example.net", "delay_reason": "connection refused (4.4.1)"},
                    {"address": "carol@example.net", "delay_reason": "connection refused (4.4.1)"},
                    {"address": "dave@example.com"},
                ],
            },
        )
        self.assertEqual((said[1]["queue_name"], said[1]["sender"]), ("active", "MAILER-DAEMON"))


class AskingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        os.environ.pop("RELAY_CONFIG", None)
        self.config = Path(self.folder, "relay.toml")
        self.config.write_text('[control]\nsocket = "here.sock"\n')

    def control(self, *entries: Queued) -> Control:
        control = Control(f"{self.folder}/here.sock", list(entries))
        thread = threading.Thread(target=lambda: control.serve_forever(0.01), daemon=True)
        thread.start()
        self.addCleanup(thread.join, 10)
        self.addCleanup(control.server_close)
        self.addCleanup(control.shutdown)
        return control

    def said(self, *arguments: str, program: Any = mailq) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = program.run(arguments)
        return status, out.getvalue(), err.getvalue()

    def test_the_relay_is_asked_page_by_page(self) -> None:
        control = self.control(WAITS, ACTIVE, HELD)
        status, out, err = self.said("-C", str(self.config))
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(
            [line[:14] for line in out.splitlines() if line.startswith("NG")], [WAITS.id, ACTIVE.id, HELD.id]
        )
        self.assertEqual(control.asked, ["/queue", f"/queue?after={ACTIVE.id}"])

    def test_json_and_the_socket_itself(self) -> None:
        self.control(WAITS)
        for arguments in (("-j", "--socket", "here.sock"), ("--json", "--socket=here.sock")):
            arguments = tuple(each.replace("here.sock", f"{self.folder}/here.sock") for each in arguments)
            status, out, _ = self.said(*arguments)
            self.assertEqual((status, json.loads(out)["queue_id"]), (0, WAITS.id))

    def test_sendmail_shows_it_too(self) -> None:
        self.control()
        self.assertEqual(self.said("-bp", "-C", str(self.config), program=sendmail), (0, "Mail queue is empty\n", ""))

    def test_where_no_relay_is_the_status_is_69(self) -> None:
        status, out, err = self.said("-C", str(self.config))
        self.assertEqual((status, out), (os.EX_UNAVAILABLE, ""))
        self.assertIn("no relay answers", err)

    def test_what_is_not_understood(self) -> None:
        for arguments in (("-x",), ("-C",), ("--socket",), ("queue",), ("-jx",)):
            status, out, err = self.said(*arguments)
            self.assertEqual((arguments, status, out), (arguments, os.EX_USAGE, ""))
            self.assertIn("--help", err)

    def test_a_configuration_that_cannot_be_read_is_status_78(self) -> None:
        nowhere = f"{self.folder}/nowhere.toml"
        self.assertEqual(
            self.said("-C", nowhere),
            (os.EX_CONFIG, "", f"relay-mailq: {nowhere}: cannot be read: No such file or directory\n"),
        )
        self.config.write_text("[control\n")
        status, out, err = self.said("-C", str(self.config))
        self.assertEqual((status, out), (os.EX_CONFIG, ""))
        self.assertIn("relay.toml: this is not TOML: ", err)

    def test_the_socket_is_where_the_relay_has_it(self) -> None:
        """With a byte order mark in front, and with words that stand for others."""
        self.config.write_text('\ufeffhostname = "Mx.Test"\n[control]\nsocket = "run/$hostname.$$user"\n')
        self.assertEqual(mailq.control_socket(str(self.config)), f"{self.folder}/run/mx.test.$user")

    def test_help_says_how_to_ask(self) -> None:
        self.assertEqual(self.said("--help")[:2], (0, mailq.HELP))

    def test_pages_end(self) -> None:
        self.assertEqual(list(pages(lambda question: {"entries": [as_json(WAITS)], "next": None})), [WAITS])
