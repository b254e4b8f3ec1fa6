"""`relayctl suppress` as people type it, for a relay in memory: what it prints, and its exit status."""

from __future__ import annotations

import json

from relay.cli.suppress import lines
from relay.control import suppression
from relay.mail.address import Address
from tests.test_cli_queue import CommandCase
from tests.test_control_suppression import ANN, BOB, ListedCase


class SuppressTests(CommandCase, ListedCase):
    def test_a_table_says_who_and_until_when_and_by_whom_and_why(self) -> None:
        self.fail_mail(ANN)
        self.list.add(Address("somebody", "b.example"), "has died", "root")
        self.assertEqual(
            self.lines("suppress", "list"),
            [
                "address             until       by    because",
                "ann@a.example       2026-12-23  -     550 5.1.1 no",
                "somebody@b.example  2026-12-23  root  has died",
            ],
        )

    def test_a_program_gets_all_of_it_however_many_pages_that_are(self) -> None:
        self.patch(suppression, "PAGE", 2)
        for n in range(5):
            self.fail_mail(Address(f"u{n}", "a.example"))
        listed = json.loads(self.run_it("suppress", "list", "--json").stdout)
        self.assertEqual([each["address"] for each in listed], [f"u{n}@a.example" for n in range(5)])
        self.assertEqual(set(listed[0]), {"address", "since", "until", "because", "by"})

    def test_an_empty_list_is_status_1(self) -> None:
        result = self.run_it("suppress", "list", status=1)
        self.assertEqual((result.stdout, result.stderr), ("", "nobody is on the suppression list\n"))
        self.assertEqual(json.loads(self.run_it("suppress", "list", "--json", status=1).stdout), [])

    def test_an_address_is_put_on_it_and_taken_off(self) -> None:
        self.assertEqual(
            self.lines("suppress", "add", "bob@B.example", "--because", "has left us"),
            ["bob@b.example is on the suppression list until 2026-12-23"],
        )
        found = self.list.find(BOB)
        self.assertEqual(found and found.because, "has left us")
        off = "bob@b.example is no longer on the suppression list"
        self.assertEqual(self.lines("suppress", "remove", "<bob@b.example>"), [off])
        self.assertIsNone(self.list.find(BOB))
        self.assertIn("is not on the", self.run_it("suppress", "remove", "bob@b.example", status=1).stderr)
        self.assertIn("bob: ", self.run_it("suppress", "add", "bob", status=1).stderr)

    def test_what_others_wrote_moves_no_cursor(self) -> None:
        one = {"address": "a@x", "until": 0.0, "by": "", "because": "\x1b[2J\n"}
        self.assertEqual(list(lines([one]))[1], "a@x      1970-01-01  -   ?[2J?")


class NoListTests(CommandCase):
    def test_a_relay_that_keeps_none_says_how_it_would(self) -> None:
        for words in (["list"], ["add", "ann@a.example"], ["remove", "ann@a.example"]):
            self.assertIn("say keep = true in [suppression]", self.run_it("suppress", *words, status=1).stderr)
