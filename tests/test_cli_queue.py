"""`relayctl` as people type it, for a relay in memory: what it prints, and its exit status."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner, Result

from relay.cli import ask, progress, top
from relay.cli.options import Duration, shown, size_text, span
from relay.cli.progress import Progress
from relay.cli.relayctl import main
from tests.test_control_queue import ControlCase


class CommandCase(ControlCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(ask, "_said", self.said)

    def said(self, path: str | None, method: str, what: str, body: str | None, timeout: float) -> Any:
        """What `relay.cli.ask` does over a socket."""
        octets = (body or "").encode()
        head = f"{method} /{what} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(octets)}\r\n\r\n"
        status, value = self.socket.say(head.encode() + octets)
        if status != 200:
            raise ask.Declined(value["error"], status)
        return value

    def run_it(self, *arguments: str, status: int = 0, typed: str = "") -> Result:
        result = CliRunner().invoke(main, arguments, input=typed)
        self.assertEqual(result.exit_code, status, result.output)
        return result

    def lines(self, *arguments: str, status: int = 0) -> list[str]:
        return self.run_it(*arguments, status=status).output.splitlines()


class QueueTests(CommandCase):
    def test_a_list_says_who_waits_and_why(self) -> None:
        id = self.post_mail("x@a.example", "y@b.example")
        lines = self.lines("queue", "list")
        self.assertRegex(lines[0], rf"^{id} +1m 0s +\d+ +from jon@example.net$")
        self.assertRegex(lines[1], r"^    x@a.example by a.example: deferred, tried once, due in \dm \d+s$")
        self.assertIn("it waits for its next attempt", lines[2])
        self.assertRegex(lines[3], r"^        last: .*\(4.4.1\)")
        self.assertEqual(len(lines), 7)
        self.assertEqual(len(self.lines("queue", "list", "--to", "@b.example")), 4)

    def test_a_list_for_programs_has_a_message_a_line(self) -> None:
        ids = [self.post_mail("x@a.example") for _ in range(3)]
        self.assertEqual([json.loads(line)["id"] for line in self.lines("queue", "list", "--json")], ids)
        self.assertEqual(len(self.lines("queue", "list", "--json", "-n", "2")), 2)

    def test_an_empty_queue_is_status_1(self) -> None:
        for command in (["list"], ["count"], ["hold", "--all"], ["retry", "NOBODY"]):
            self.assertIn("nobody in the queue is meant", self.run_it("queue", *command, status=1).output)

    def test_a_count_has_the_most_first_and_a_total(self) -> None:
        for domain, many in (("a", 1), ("b", 3), ("c", 2)):
            for n in range(many):
                self.post_mail(f"u{n}@{domain}.example")
        rows = [line.split() for line in self.lines("queue", "count")]
        self.assertEqual(rows[0], ["destination", "waiting", "deferred", "active", "held", "total"])
        self.assertEqual([row[0] for row in rows[1:]], ["b.example", "c.example", "a.example", "total"])
        self.assertEqual([row[-1] for row in rows[1:]], ["3", "2", "1", "6"])
        rows = [line.split() for line in self.lines("queue", "count", "-n", "1")]
        self.assertEqual(rows[2], ["2", "others", "0", "3", "0", "0", "3"])
        said = json.loads("\n".join(self.lines("queue", "count", "--json", "--by", "sender")))
        self.assertEqual(said, {"by": "sender", "groups": {"jon@example.net": {"deferred": 6}}})

    def test_a_message_is_shown(self) -> None:
        id = self.post_mail("x@a.example")
        text = self.run_it("queue", "show", id).output
        for words in (id, "from jon@example.net", "brought by client.test [127.0.0.1]", "x@a.example by a.example"):
            self.assertIn(words, text)
        self.assertIn("no message NOBODY", self.run_it("queue", "show", "NOBODY", status=1).output)
        self.assertEqual(json.loads(self.run_it("queue", "show", id, "--json").output)["id"], id)

    def test_an_act_says_what_it_has_done(self) -> None:
        self.post_mail("x@a.example", "y@b.example")
        for arguments, words in (
            (["hold", "--dest", "a.example"], "1 recipient held"),
            (["hold", "--all"], "1 recipient held; 1 were held already"),
            (["release", "--to", "*@*"], "2 recipients released"),
            (["retry", "--from", "jon@example.net"], "2 recipients due now"),
            (["reroute", "--via", "[192.0.2.1]:26", "--dest", "b.*"], "1 recipient rerouted"),
            (["delete", "--dest", "[192.*"], "1 recipient deleted"),
            (["fail", "--older", "1m"], "1 recipient given up"),
        ):
            self.assertEqual(self.lines("queue", *arguments), [words], arguments)
            self.world.pass_time(60)

    def test_who_is_being_carried_is_to_be_asked_for_again(self) -> None:
        self.world.send("jon@example.net", ["x@a.example"], b"Subject: x\r\n\r\n")
        text = self.run_it("queue", "hold", "--all", status=75).output
        self.assertEqual(text, "0 recipients held; 1 are being carried at this moment: say it again\n")
        said = json.loads(self.run_it("queue", "hold", "--all", "--json", status=75).output)
        self.assertEqual(said, {"done": 0, "busy": 1, "unmoved": 0})

    def test_nothing_is_done_where_it_is_only_asked_what_would_be(self) -> None:
        self.post_mail("x@a.example", "y@b.example")
        self.assertEqual(self.lines("queue", "delete", "--all", "--dry-run"), ["would delete 2 recipients"])
        said = json.loads(self.run_it("queue", "fail", "--to", "@a.example", "--dry-run", "--json").output)
        self.assertEqual(said, {"would": 1, "busy": 0})
        self.run_it("queue", "hold", "--to", "nobody@x", "--dry-run", status=1)
        self.assertEqual(len(self.get("queue")["entries"][0]["recipients"]), 2)

    def test_nobody_is_meant_by_saying_nothing(self) -> None:
        self.post_mail("x@a.example")
        for verb in ("retry", "hold", "release", "delete", "fail"):
            self.assertIn("who is meant?", self.run_it("queue", verb, status=2).output)
        self.assertIn("who is meant?", self.run_it("queue", "reroute", "--via", "x", status=2).output)
        self.run_it("queue", "reroute", "--all", status=2)
        self.run_it("queue", "hold", "--state", "ill", status=2)
        self.run_it("queue", "hold", *(str(number) for number in range(501)), status=2)

    def test_what_is_empty_is_never_taken_for_what_was_not_said(self) -> None:
        self.post_mail("x@a.example")
        for option in ("--to", "--from", "--dest", "--policy", "--state", "--older", "--reason"):
            for empty in ("", " "):
                self.run_it("queue", "delete", "--dry-run", "--state", "deferred", option, empty, status=2)
        for command in (
            ["queue", "delete", "--state", "deferred", ""],
            ["queue", "list", "A", " "],
            ["queue", "list", "--socket", ""],
            ["queue", "list", "-c", ""],
            ["queue", "show", ""],
            ["queue", "reroute", "--all", "--via", ""],
            ["dest", "pause", ""],
            ["suppress", "add", ""],
            ["trace", ""],
        ):
            self.run_it(*command, status=2)

    def test_what_is_no_utf_8_is_said_to_be_none(self) -> None:
        for command in ["queue", "list", "--to", "\udcff"], ["trace", "\udcff"], ["queue", "hold", "\udcff"]:
            self.assertIn("is not in UTF-8", self.run_it(*command, status=2).output)

    def test_what_cannot_be_undone_is_asked_at_a_terminal(self) -> None:
        self.post_mail("x@a.example")

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        import relay.cli.queue as commands

        self.patch(commands.sys, "stdin", Terminal())
        self.patch(commands.click, "confirm", self.refuse)
        self.assertRaises(click.Abort, main.main, ["queue", "delete", "--all"], standalone_mode=False)
        self.assertEqual(len(self.get("queue")["entries"]), 1)
        main.main(["queue", "hold", "--all"], standalone_mode=False)
        main.main(["queue", "delete", "--all", "--yes"], standalone_mode=False)
        self.assertEqual(self.get("queue")["entries"], [])

    def refuse(self, text: str, **_: object) -> None:
        self.assertEqual(text, "delete 1 recipient?")
        raise click.Abort

    def test_what_others_wrote_moves_no_cursor(self) -> None:
        self.assertEqual(shown("a\x1b[2Jb\n"), "a?[2Jb?")


class OtherCommandTests(CommandCase):
    def test_how_the_relay_is(self) -> None:
        self.post_mail("x@a.example")
        lines = self.lines("status")
        self.assertIn("relay ", lines[0])
        self.assertIn("queue: 1 message; recipients: 1 waiting", "\n".join(lines))

    def test_top_prints_once_how_it_is(self) -> None:
        self.post_mail("x@a.example")
        text = self.run_it("top", "--once").output
        self.assertIn("since the start: 1 accepted, 0 refused, 0 delivered, 0 relayed", text)
        self.assertIn("a.example", text)
        self.assertNotIn("\x1b", text)

    def test_top_draws_it_again_until_it_is_stopped(self) -> None:
        naps = iter([None])

        def sleep(seconds: float) -> None:
            self.assertEqual(seconds, 5.0)
            if next(naps, "no more") == "no more":
                raise KeyboardInterrupt

        self.patch(top.time, "sleep", sleep)
        text = self.run_it("top", "--interval", "5").output
        self.assertEqual(text.count("\x1b[H\x1b[J"), 2)
        self.assertEqual((text.count("since the start:"), text.count("a second:")), (1, 1))

    def test_what_is_paused_is_said_first(self) -> None:
        self.world.relay.dispatcher.pause("a.example")
        self.assertIn("paused by an operator: a.example", self.lines("status")[1])
        self.assertIn("an operator has paused", "\n".join(self.lines("dest", "show", "a.example")))
        [row] = [line.split() for line in self.lines("dest", "list")[1:]]
        self.assertEqual((row[0], row[-1]), ("a.example", "paused"))
        self.post_mail("x@a.example")
        self.assertIn("        an operator has paused its destination", "\n".join(self.lines("queue", "list")))
        self.assertEqual(self.lines("dest", "resume", "a.example"), ["a.example goes on"])
        self.assertNotIn("paused", self.run_it("status").output)

    def test_top_says_how_much_happens_in_a_second(self) -> None:
        first = top.look(None, None)
        self.post_mail("x@a.example")
        second = top.look(None, first._replace(at=top.time.monotonic() - 2.0, counted=-1e9))._replace(at=first.at + 2.0)
        self.assertIn("a second: 0.5 accepted", "\n".join(top.picture(second, first)))

    def test_a_long_queue_is_not_counted_at_each_look(self) -> None:
        first = top.look(None, None)._replace(counting=1e6)
        self.post_mail("x@a.example")
        self.assertEqual(top.look(None, first).groups, {})

    def test_destinations_are_listed(self) -> None:
        lines = self.lines("dest", "list")
        self.assertEqual(lines[0].split()[:4], ["destination", "active", "limit", "ready"])
        self.assertIn("nothing is known", self.run_it("dest", "show", "nowhere.example", status=1).output)

    def test_a_destination_that_is_meant_by_a_part_of_its_name_is_named(self) -> None:
        self.post_mail("x@a.example")
        self.assertEqual(
            self.lines("dest", "pause", "a.ex"),
            ["a.ex is paused, though nothing is under way to it at this moment; known is a.example"],
        )

    def test_without_a_history_a_trace_says_so(self) -> None:
        self.assertIn("keeps no history", self.run_it("trace", "x@a.example", status=1).output)

    def test_an_error_of_the_relay_is_status_1(self) -> None:
        self.post_mail("x@a.example")
        text = self.run_it("queue", "reroute", "--via", "a..b", "--all", status=1).output
        self.assertIn("is no next hop", text)

    def test_no_relay_is_status_69(self) -> None:
        self.patch(ask, "_said", _SAID)
        nowhere = str(Path(self.mktemp()) / "control.sock")
        for command in (["status"], ["queue", "list"], ["queue", "hold", "--all"], ["dest", "list"], ["top", "--once"]):
            self.assertIn("no relay answers", self.run_it(*command, "--socket", nowhere, status=69).output)

    def test_a_configuration_that_is_not_there_is_status_78(self) -> None:
        said = self.run_it("status", "-c", "nowhere.toml", status=78).output
        self.assertEqual(said, "Error: nowhere.toml: cannot be read: No such file or directory\n")


_SAID = ask._said


class PartTests(CommandCase):
    def test_durations(self) -> None:
        convert = Duration().convert
        for text, seconds in (("90", 90), ("90s", 90), ("1.5m", 90), ("1h", 3600), ("5d", 432000), ("2w", 1209600)):
            self.assertEqual(convert(text, None, None), seconds)
        for text in ("", "h", "1y", "-1h", "nan", "inf", "1e11"):
            self.assertRaises(click.BadParameter, convert, text, None, None)

    def test_spans_and_sizes(self) -> None:
        self.assertEqual([span(n) for n in (0, 59, 60, 3661, 90000)], ["0s", "59s", "1m 0s", "1h 1m", "1d 1h"])
        self.assertEqual(
            [size_text(n) for n in (0, 9, 812, 1000, 2048, 25 << 20, 5 << 30)],
            ["0", "9", "812", "1.0K", "2.0K", "25M", "5.0G"],
        )

    def test_progress_is_for_a_person_at_a_terminal_and_for_many(self) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        for stream, total, shows in (
            (Terminal(), progress.FEW, True),
            (Terminal(), 5, False),
            (io.StringIO(), 10**6, False),
        ):
            with Progress("hold", total, stream) as bar:
                bar.at(total // 2)
                bar.at(2 * total)
            self.assertEqual(bool(stream.getvalue()), shows)
        terminal = Terminal()
        with Progress("hold", 2000, terminal) as bar:
            bar.at(1000)
        self.assertIn(f"\rhold [{'#' * 15}{' ' * 15}] 1000 of 2000", terminal.getvalue())
