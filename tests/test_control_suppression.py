"""What an operator may ask of the suppression list of a relay that runs, and change in it, over the control socket."""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from relay.assembly import Surroundings
from relay.control import suppression
from relay.delivery.suppression import Suppressions
from relay.mail.address import Address
from relay.net.clock import ReactorClock
from relay.testing import world
from relay.testing.policy import NOON
from tests.test_control_queue import VALUES, ControlCase

DAY = 86400.0
ANN, BOB = Address("ann", "a.example"), Address("bob", "b.example")


class ListedCase(ControlCase):
    """A relay that keeps a list."""

    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.file = folder / "suppressed"
        self.moment = Clock()
        clock = ReactorClock(self.moment, lambda: NOON + self.moment.seconds())  # type: ignore[arg-type]
        self.list = Suppressions(self.file, clock)
        self.patch(world, "Surroundings", partial(Surroundings, suppressions=self.list))
        super().setUp()

    def fail_mail(self, address: Address) -> None:
        self.list.event("failed", recipient=address, status="5.1.1", diagnostic="550 5.1.1 no", peer="mx.a.example")


class SuppressionTests(ListedCase):
    def test_the_list_says_who_is_on_it_and_until_when_and_why_and_by_whom(self) -> None:
        self.assertEqual(self.get("suppress"), {"suppressed": [], "next": ""})
        self.fail_mail(ANN)
        self.moment.advance(60)
        self.list.add(BOB, "has died", "root")
        ann = {"address": "ann@a.example", "since": NOON, "until": NOON + 30 * DAY, "because": "550 5.1.1 no", "by": ""}
        bob = {"address": "bob@b.example", "since": NOON + 60, "until": NOON + 60 + 30 * DAY, "because": "has died"}
        self.assertEqual(self.get("suppress"), {"suppressed": [ann, {**bob, "by": "root"}], "next": ""})

    def test_who_is_put_on_it_is_refused_from_then_on_and_the_mail_log_says_who_did_it(self) -> None:
        said = self.post("suppress/add", address="<ann@A.example>", because="has left\r\nus")
        self.assertEqual((said["address"], said["by"], said["until"]), ("ann@a.example", "unknown", NOON + 30 * DAY))
        found = self.list.find(ANN)
        assert found is not None
        self.assertEqual((found.because, found.by), ("has left??us", "unknown"))
        [event] = self.events("suppressed")
        self.assertEqual(event, {"recipient": ANN, "because": "has left??us", "operator": "unknown"})
        conversation = self.world.connect("127.0.0.1")
        conversation.say("EHLO client.test")
        conversation.say("MAIL FROM:<jon@here.test>")
        *_, reply = conversation.say("RCPT TO:<ann@a.example>")
        self.assertIn("550 5.1.1", reply)
        self.assertIn("has left", reply)

    def test_without_a_reason_a_client_is_told_that_it_was_an_operator(self) -> None:
        self.assertEqual(self.post("suppress/add", address="ann@a.example")["because"], "an operator has said so")

    def test_who_is_taken_off_is_off_after_a_restart_too_and_the_mail_log_says_who_did_it(self) -> None:
        self.fail_mail(ANN)
        self.fail_mail(BOB)
        self.assertEqual(self.post("suppress/remove", address=" ann@a.example "), {"removed": "ann@a.example"})
        self.assertEqual([each["address"] for each in self.get("suppress")["suppressed"]], ["bob@b.example"])
        self.assertEqual(self.events("unsuppressed"), [{"recipient": ANN, "operator": "unknown"}])
        again = Suppressions(self.file, self.world.time)
        again.load()
        self.assertEqual([one.address for one in again.listed()], [BOB])

    def test_who_is_not_on_it_cannot_be_taken_off_and_nothing_is_logged(self) -> None:
        self.refused(self.socket.post("suppress/remove", address="ann@a.example"), 404, "ann@a.example is not on the")
        self.assertEqual(self.events("unsuppressed"), [])

    def test_what_is_no_address_is_refused_in_words(self) -> None:
        for act in ("suppress/add", "suppress/remove"):
            self.refused(self.socket.post(act, address="ann"), 400, "ann: ")
            self.assertEqual(self.socket.post(act)[0], 400)
            self.refused(self.socket.post(act, address=7), 400, "'address' should be a text")
        self.assertEqual((self.events("suppressed"), self.list.listed()), ([], ()))

    def test_a_long_list_comes_in_pages_and_none_is_missed_or_told_twice(self) -> None:
        for n in range(10):
            self.fail_mail(Address(f"u{n}", "a.example"))
            self.moment.advance(n % 2)
        for most in ("1", "3", "5", "10", "11"):
            listed: list[str] = []
            after = ""
            while True:
                said = self.get("suppress", most=most, after=after)
                self.assertIn(len(said["suppressed"]), range(1, int(most) + 1))
                listed += [each["address"] for each in said["suppressed"]]
                after = said["next"]
                if not after:
                    break
            self.assertEqual(listed, [f"u{n}@a.example" for n in range(10)], most)

    def test_who_is_taken_off_between_two_pages_moves_nobody_else(self) -> None:
        for n in range(4):
            self.fail_mail(Address(f"u{n}", "a.example"))
        first = self.get("suppress", most="2")
        for n in (0, 1):
            self.list.remove(Address(f"u{n}", "a.example"))
        rest = self.get("suppress", after=first["next"])["suppressed"]
        self.assertEqual([each["address"] for each in rest], ["u2@a.example", "u3@a.example"])

    def test_a_page_is_as_long_as_is_usual_if_nobody_says_anything(self) -> None:
        self.patch(suppression, "PAGE", 2)
        for n in range(3):
            self.fail_mail(Address(f"u{n}", "a.example"))
        said = self.get("suppress")
        self.assertEqual((len(said["suppressed"]), bool(said["next"])), (2, True))
        self.refused(self.socket.get("suppress", most="0"), 400, "'most' is a number")
        self.refused(self.socket.get("suppress", after="yesterday"), 400, "'after' is what the page before")

    @given(
        st.sampled_from(["suppress/add", "suppress/remove"]),
        st.dictionaries(st.sampled_from(["address", "because", "after", "most"]), VALUES, max_size=4),
        st.sampled_from([{}, {"address": "ann@a.example"}]),
    )
    def test_whatever_is_said_it_is_answered_and_is_no_fault_of_ours(
        self, act: str, words: dict[str, Any], more: dict[str, str]
    ) -> None:
        status, said = self.socket.post(act, **{**words, **more})
        self.assertIn(status, {200, 400, 404}, said)
        status, said = self.socket.get("suppress", **{name: str(value) for name, value in words.items()})
        self.assertIn(status, {200, 400}, said)


class NoListTests(ControlCase):
    def test_a_relay_that_keeps_none_says_how_it_would(self) -> None:
        words = "say keep = true in [suppression]"
        self.refused(self.socket.get("suppress"), 404, words)
        for act in ("suppress/add", "suppress/remove"):
            self.refused(self.socket.post(act, address="ann@a.example"), 404, words)
        self.assertEqual(self.events("suppressed"), [])
