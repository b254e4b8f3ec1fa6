"""Copies that nobody sees, and those that are not made."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.edits import AddRecipient
from relay.mail.phases import Edit
from relay.mail.routing import ABSTAIN
from relay.policy.bcc import Bcc, BccOptions
from relay.testing.policy import FakeWorld, PolicyContract
from relay.testing.questions import MESSAGE, content, put

TABLE = {
    "jon@example.org": "audit@example.org",
    "example.org": "all@example.net, audit@example.org",
    "<>": "notices@example.org",
}


def copies(*recipients: str, message: bytes = MESSAGE, sender: str = "ann@sender.example", **options: Any) -> list[str]:
    """Who gets a copy."""
    world = FakeWorld(tables={"copies": TABLE}).world
    policy = Bcc(BccOptions.model_validate(options or {"to": ["audit@example.org"]}), world)
    verdict = put(policy, content(message, *recipients, sender=sender))
    if verdict is ABSTAIN:
        return []
    assert isinstance(verdict, Edit)
    addresses = [str(change.recipient) for change in verdict.changes if isinstance(change, AddRecipient)]
    assert verdict.because == f"a copy for {', '.join(addresses)}"
    return addresses


class BccTests(PolicyContract, SynchronousTestCase):
    policy = "bcc"
    options = {"to": ["audit@example.org"]}  # noqa: RUF012

    def test_each_address_that_is_named_gets_a_copy(self) -> None:
        self.assertEqual(copies(), ["audit@example.org"])
        self.assertEqual(copies(to=["b@x.example", "a@X.example", "b@x.example"]), ["b@x.example", "a@x.example"])

    def test_a_table_says_who_for_each_recipient(self) -> None:
        self.assertEqual(copies("jon@example.org", table="copies"), ["audit@example.org"])
        self.assertEqual(
            copies("jon@example.org", "bob@example.org", table="copies"), ["audit@example.org", "all@example.net"]
        )
        self.assertEqual(copies("jon@example.com", table="copies"), [])

    def test_or_for_the_sender(self) -> None:
        more = {"table": "copies", "look_up": "sender"}
        self.assertEqual(copies(sender="jon@example.org", **more), ["audit@example.org"])
        self.assertEqual(copies("jon@example.org", sender="bob@example.com", **more), [])

    def test_notices_are_not_copied_unless_that_is_wanted(self) -> None:
        self.assertEqual(copies(sender="<>"), [])
        self.assertEqual(copies(sender="<>", to=["audit@example.org"], notices=True), ["audit@example.org"])
        more = {"table": "copies", "look_up": "sender", "notices": True}
        self.assertEqual(copies(sender="<>", **more), ["notices@example.org"])

    def test_who_receives_it_anyway_gets_no_copy(self) -> None:
        self.assertEqual(copies("jon@example.org", "AUDIT@example.org"), [])
        more = {"to": ["a@x.example", "B@x.example"]}
        self.assertEqual(copies("b@x.example", "c@x.example", **more), ["a@x.example"])

    def test_mail_to_nobody_but_those_who_get_copies_is_not_copied(self) -> None:
        self.assertEqual(copies("b@x.example", to=["a@x.example", "B@x.example"]), [])

    def test_a_copy_that_comes_back_is_not_copied_for_ever(self) -> None:
        ours = b"Received: from x.example (x.example [192.0.2.1])\r\n\tby mx.example.org with ESMTP id 1; today\r\n"
        other = ours.replace(b"mx.example.org", b"mx.example.org.example")
        self.assertEqual(copies(message=ours * 5 + other * 9 + MESSAGE), ["audit@example.org"])
        self.assertEqual(copies(message=ours * 6 + MESSAGE), [])

    @given(st.lists(st.sampled_from(["a@x.example", "b@x.example", "c@x.example", "A@x.example"]), min_size=1))
    def test_a_loop_of_copies_comes_to_an_end(self, recipients: list[str]) -> None:
        """Whoever gets a copy sends it to all recipients again, by way of us."""
        to = ["a@x.example", "b@x.example"]
        for _ in range(3):
            recipients = copies(*recipients, to=to)
            if not recipients:
                return
        self.fail(f"copies of copies are made for {recipients}")

    def test_it_has_to_be_said_to_whom(self) -> None:
        for wrong in (
            {},
            {"to": []},
            {"to": ["nobody"]},
            {"to": ["a@x.example"], "table": "copies"},
            {"table": "copies", "file": "copies"},
            {"table": "copies", "look_up": "client"},
        ):
            self.assertRaises(ValidationError, BccOptions.model_validate, wrong)

    def test_a_table_of_what_are_no_addresses_is_an_error(self) -> None:
        for wrong in ({"jon@example.org": "nobody"}, {"jon@example.org": ""}, {"JON@example.org": "a@x.example"}):
            world = FakeWorld(tables={"copies": wrong}).world
            self.assertRaises(ValueError, Bcc, BccOptions.model_validate({"table": "copies"}), world)
