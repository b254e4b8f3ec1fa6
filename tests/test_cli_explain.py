"""`relayctl explain` and `relayctl why` as people type them, for a relay in memory, and what the control socket says."""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click

from relay.assembly import answers_for_control
from relay.cli import ask, offline
from relay.config.errors import ConfigurationError, Problem
from relay.control.api import MOST_SAID
from relay.history.memory import MemoryHistory
from relay.mail.explanation import Explanation
from relay.testing.world import MailWorld
from tests.speaking import VERDICTS, Speaking
from tests.test_cli_queue import CommandCase
from tests.test_control_queue import Socket
from tests.test_rehearsal import CONFIGURATION, MAILBOXES, MESSAGE, OUTBOUND, speaking


class ExplainingCase(CommandCase):
    """A relay that keeps a history, with policies in all phases."""

    policies = speaking("nose", "AtContent", "reject", about="spam") + MAILBOXES + OUTBOUND

    def setUp(self) -> None:
        super().setUp()
        self.history = MemoryHistory()
        self.world = MailWorld(CONFIGURATION + self.policies, history=self.history)
        self.world.exchange("far.example", "192.0.2.25")
        self.socket = Socket(answers_for_control(self.world.relay, 42, {}, self.history))
        self.patch(os, "environ", {name: value for name, value in os.environ.items() if name != "RELAY_CONFIG"})
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        self.folder = Path(folder)

    def refusal(self) -> str:
        """A client is refused at RCPT; what it hears."""
        talk = self.world.connect("192.0.2.7")
        for line in ("EHLO c.example", "MAIL FROM:<ann@x.example>"):
            talk.say(line)
        return talk.say("RCPT TO:<nobody@here.example>")[-1]


class ExplainTests(ExplainingCase):
    def test_it_reads_as_a_session_would_go(self) -> None:
        self.assertEqual(
            [
                line
                for line in self.lines("explain", "eve@far.example", "--client", "127.0.0.1", "--from", "a@x.example")
            ],
            [
                "a@x.example -> eve@far.example",
                "client 127.0.0.1, helo [127.0.0.1], listener mx",
                "",
                "recipient eve@far.example",
                "  mailboxes       no opinion                                             0.0 ms",
                "  outbound        forward to far.example                                 0.0 ms",
                "                  because onward by MX of far.example",
                "",
                "reply      250 2.1.5 Recipient ok",
                "goes to    far.example for eve@far.example, by policy 'outbound'",
                "           because onward by MX of far.example",
                "           TLS: may, where it is offered",
                "           mx10.far.example[192.0.2.25]:25",
            ],
        )

    def test_what_would_be_refused_is_status_1(self) -> None:
        lines = self.lines("explain", "eve@far.example", status=1)
        self.assertIn("reply      550 5.7.1 <eve@far.example>: relaying denied", lines)
        self.assertIn("  outbound        skipped: its condition 'client' does not hold", lines)

    def test_a_program_gets_all_of_it(self) -> None:
        said = json.loads(self.run_it("explain", "bob@here.example", "--helo", "c.example", "--json").stdout)
        told = Explanation.from_json(said)
        self.assertEqual((told.mail.helo, told.mail.sender, told.mail.client), ("c.example", "<>", "192.0.2.1"))
        self.assertEqual(told.ways[0].to, "agent maildir")

    def test_every_word_counts(self) -> None:
        mail = [
            "bob@here.example",
            "--from",
            "<a@x.example>",
            "--client",
            "unix",
            "--auth",
            "jon",
            "--listener",
            "local",
        ]
        told = Explanation.from_json(json.loads(self.run_it("explain", *mail, "--tls", "--json", status=1).stdout)).mail
        self.assertEqual((told.client, told.helo, told.user, told.listener), ("", "localhost", "jon", "local"))
        self.assertEqual((told.sender, told.tls), ("a@x.example", "TLSv1.3"))

    def test_a_message_is_shown_to_policies_as_a_client_would_send_it(self) -> None:
        file = self.folder / "message"
        file.write_bytes(b"Subject: no spam\n\n.\nText\n")
        mail = ("explain", "bob@here.example", "--from", "spam@x.example", "--message")
        lines = self.lines(*mail, str(file), status=1)
        self.assertIn("by         policy 'nose'", lines)
        # From standard input it is the same.
        typed = self.run_it(*mail, "-", status=1, typed=file.read_text()).stdout
        self.assertIn("by         policy 'nose'", typed.splitlines())

    def declining(self, *_: Any) -> Any:
        raise click.ClickException("there was no answer")

    def test_what_cannot_be_asked_is_said(self) -> None:
        for arguments, words in (
            (["bob"], "the recipient 'bob' is no address"),
            (["bob@here.example", "--from", "a"], "the sender 'a' is no address"),
            (["bob@here.example", "--client", "here"], "is no IP address"),
            (["bob@here.example", "--listener", "nowhere"], "there is no listener 'nowhere': there is mx, local"),
        ):
            self.assertIn(words, self.run_it("explain", *arguments, status=2).stderr)
        self.run_it("explain", "bob@here.example", "-c", "x", "--socket", "y", status=2)
        self.patch(offline, "explained", self.declining)
        self.assertIn("no answer", self.run_it("explain", "bob@here.example", "-c", "x", status=2).stderr)
        for words, said in (({"nonsense": "x"}, "'nonsense' is not understood"), ({"message": "\x00"}, "be base64")):
            self.refused(self.socket.post("explain", to="bob@here.example", **words), 400, said)

    def test_for_a_message_that_is_too_long_for_the_relay_there_is_another_way(self) -> None:
        file = self.folder / "large.eml"
        file.write_bytes(MESSAGE + b"x" * MOST_SAID)
        said = self.run_it("explain", "bob@here.example", "--message", str(file), status=2).stderr
        self.assertIn("octets may be said at once; --config FILE asks that configuration, with no such limit", said)

    def test_policies_that_cannot_be_made_any_more_are_told(self) -> None:
        def broken(*_: Any) -> Any:
            raise ConfigurationError([Problem("relay.toml", 7, "policy.1", "its table has gone")])

        self.patch(self.world.relay.rehearsal, "_make", broken)
        self.refused(self.socket.get("explain", to="bob@here.example"), 503, "its table has gone")

    def test_a_message_travels_whole(self) -> None:
        seen: list[Any] = []
        self.patch(Speaking, "_say", lambda _, inquiry: seen.append(inquiry) or VERDICTS["abstain"])
        self.patch(Speaking, "examine", Speaking._say)
        self.post("explain", to="bob@here.example", message=base64.b64encode(MESSAGE).decode())
        self.assertEqual(seen[0].size, len(MESSAGE))


class WhyTests(ExplainingCase):
    def test_whoever_was_refused_is_told_why_by_the_reference(self) -> None:
        heard = self.refusal()
        self.assertRegex(heard, r"^550 5.1.1 .* \[ref [0-9A-Z]{6}\]$")
        ref = heard[-7:-1]
        for written in (ref, ref.lower(), f"[ref {ref}]"):
            lines = self.lines("why", written)
            self.assertRegex(lines[0], rf"^\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\dZ  \[ref {ref}\]$")
            self.assertEqual(lines[1], "ann@x.example -> nobody@here.example")
            self.assertIn(
                heard, " ".join(line.strip() for line in lines if line[:1] in " r").replace("reply      ", "")
            )

    def test_whoever_was_accepted_is_found_by_the_queue_id_and_addresses(self) -> None:
        id = self.world.send("ann@x.example", "bob@here.example", MESSAGE)
        for text in (id, "ann@x.example", "bob@here.example"):
            lines = self.lines("why", text)
            self.assertTrue(lines[0].endswith(f"Z  {id}"))
            self.assertIn("goes to    agent maildir for bob@here.example, by policy 'mailboxes'", lines)

    def test_several_are_told_the_newest_first(self) -> None:
        refs = [self.refusal()[-7:-1] for _ in range(25)]
        lines = self.lines("why", "192.0.2.7")
        found = [line[-7:-1] for line in lines if line[:2] == "20"]
        self.assertEqual(found, refs[:4:-1])
        self.assertEqual(lines[-1], "There is more, which is older.")

    def test_a_program_gets_all_of_it(self) -> None:
        ref = self.refusal()[-7:-1]
        (account,) = json.loads(self.run_it("why", ref, "--json").stdout)["accounts"]
        self.assertEqual((account["ref"], account["id"]), (ref, ""))
        self.assertEqual(account["explanation"]["policy"], "mailboxes")

    def test_of_what_nobody_knows_it_says_so_and_how_far_back_it_goes(self) -> None:
        self.assertIn("The history is empty", self.run_it("why", "7K3QX2", status=1).output)
        self.refusal()
        self.assertIn("The history goes back to ", self.run_it("why", "x@y.example", status=1).output)
        self.refused(self.socket.get("why"), 400, "why what?")

    def test_a_relay_without_a_history_says_so(self) -> None:
        self.socket = Socket(answers_for_control(self.world.relay, 42, {}))
        self.assertIn("keep = true", self.run_it("why", "7K3QX2", status=1).stderr)


class WhereTests(ExplainingCase):
    """Who is asked."""

    def test_a_configuration_is_asked_without_any_relay(self) -> None:
        asked: list[Any] = []
        answer = {"reply": "250 2.1.5 Recipient ok"}
        self.patch(offline, "explained", lambda file, words: asked.append((file, words)) or answer)
        self.patch(ask, "_said", None)
        self.run_it("explain", "bob@here.example", "--config", "new.toml")
        self.assertEqual(asked, [("new.toml", {"to": "bob@here.example"})])

    def test_the_environment_says_only_where_the_relay_is(self) -> None:
        paths: list[Any] = []

        def said(path: str | None, *more: Any) -> Any:
            paths.append(path)
            return {"reply": "250 2.1.5 Recipient ok"}

        file = self.folder / "relay.toml"
        file.write_text('[control]\nsocket = "here.sock"\n' + CONFIGURATION + MAILBOXES)
        self.patch(ask, "_said", said)
        self.patch(os, "environ", {**os.environ, "RELAY_CONFIG": str(file)})
        self.run_it("explain", "bob@here.example")
        self.run_it("explain", "bob@here.example", "--socket", "other.sock")
        self.assertEqual(paths, [str(self.folder / "here.sock"), "other.sock"])

    def test_where_there_is_no_relay_each_command_names_the_options_that_help_it(self) -> None:
        self.patch(ask, "_said", _SAID)
        (self.folder / "message").write_text("Subject: hello\n\nHi!\n")
        nowhere = ("--socket", str(self.folder / "none.sock"))
        for more in (), ("--message", str(self.folder / "message")):
            said = self.run_it("explain", "bob@here.example", *more, *nowhere, status=69).stderr
            self.assertIn("none.sock: [Errno 2] No such file or directory (say --socket PATH, or --config FILE", said)
            self.assertEqual(said.count("("), 1)
        self.assertIn("(say --config FILE or --socket PATH)", self.run_it("why", "x", *nowhere, status=69).stderr)


_SAID = ask._said
