"""A decision's JSON, written at once: it is what the explanation says of itself."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.history import shorthand
from relay.history.decisions import LONGEST, kept_at_once, row
from relay.history.shorthand import Shorthand
from relay.mail.address import Address
from relay.mail.decision import Placement
from relay.mail.envelope import Client
from relay.mail.explanation import MOST, Decided
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Delay, Deliver, Discard, Forward, Hold, Note, Reject, Rewrite
from relay.mail.tls import TlsFacts
from relay.policy.looking import Look
from relay.policy.steps import Asked, Skipped

ANN, BOB = Address("ann", "x.example"), Address("b\u00f6b", "here.example")
OK, NO = Reply.of(250, "2.0.0", "Ok: queued as NG79W8MR4E21H9"), Reply.of(550, "5.7.1", "no")
LATER = Reply.of(451, "4.7.1", "later")

TEXTS = st.text(max_size=5) | st.sampled_from(("", "alias", "\udc80", '"', "y" * 500))
ADDRESSES = st.sampled_from((ANN, BOB))
ROUTES: Any = (
    st.just(Forward("far.example"))
    | st.builds(lambda because: Forward("far.example", because=because), TEXTS)
    | st.sampled_from((Deliver("maildir", {"directory": "d"}), Discard("out"), Hold("in"), Reject(NO, "no")))
)
VERDICTS = ROUTES | st.sampled_from((ABSTAIN, Note({"spf": "pass"}, "so"), Rewrite((ANN, BOB), "alias"), Delay(LATER)))
LOOKS = st.lists(st.builds(Look, TEXTS, TEXTS, TEXTS), max_size=3).map(tuple)
PHASES = st.sampled_from(("connection", "sender", "recipient", "content"))
ASKED = st.tuples(st.none() | ADDRESSES, TEXTS, VERDICTS, st.floats(0, 100), st.booleans(), PHASES, LOOKS)
SKIPPED = st.tuples(st.none() | ADDRESSES, TEXTS, TEXTS, PHASES)
STEPS = ASKED.map(lambda given: Asked(*given)) | SKIPPED.map(lambda given: Skipped(*given))
CLIENTS = st.builds(
    Client,
    st.sampled_from((None, "192.0.2.9")),
    helo=TEXTS,
    listener=TEXTS,
    user=st.none() | TEXTS,
    tls=st.sampled_from((None, TlsFacts("TLSv1.3", "AES", 256))),
)
DECISIONS = st.builds(
    Decided,
    st.lists(STEPS, max_size=4),
    CLIENTS,
    st.sampled_from((OK, NO)),
    st.sampled_from((None, "", ANN, BOB)),
    st.lists(ADDRESSES, max_size=3),
    TEXTS,
    TEXTS,
    st.lists(st.builds(Placement, ADDRESSES, ADDRESSES, ROUTES, TEXTS, TEXTS), max_size=3),
)


class ShorthandTests(SynchronousTestCase):
    shorthand = Shorthand()

    @given(DECISIONS)
    def test_it_says_what_the_explanation_says(self, decision: Decided) -> None:
        said = self.shorthand.of(decision)
        if any(isinstance(step, Asked) and step.failed for step in decision.steps):
            self.assertIsNone(said)
        else:
            self.assertEqual(json.loads(str(said)), json.loads(json.dumps(decision.explanation().to_json())))

    def test_what_is_forgotten_is_said_again(self) -> None:
        self.patch(shorthand, "_REMEMBERED", 2)  # type: ignore[no-untyped-call]
        each = [
            Decided(
                (), Client(f"192.0.2.{n}"), OK, ANN, (BOB,), placements=(Placement(BOB, BOB, Forward("a.example")),)
            )
            for n in range(9)
        ]
        said = [self.shorthand.of(decision) for decision in each + each]
        self.assertEqual(said, [row(decision)[0] for decision in each + each])

    def test_a_client_that_comes_again_is_not_another_one(self) -> None:
        tls = TlsFacts("TLSv1.3", "AES", 256)
        clients = [Client("192.0.2.9", port, helo=helo, tls=tls) for helo in ("a.example", "b") for port in range(50)]
        said = Shorthand()
        told = {said.of(Decided((), client, OK)) for client in clients}
        self.assertEqual(told, {row(Decided((), client, OK))[0] for client in clients})
        self.assertEqual((len(told), len(said._clients._said)), (2, 2))

    def test_of_very_much_something_is_left_out_and_that_takes_thought(self) -> None:
        few: dict[str, Any] = {"steps": (), "client": Client("192.0.2.9"), "reply": OK}
        step = Asked(BOB, "a", ABSTAIN, 0.0)
        looking = Asked(BOB, "a", ABSTAIN, 0.0, looks=(Look("dns", "a", "b"),) * 50)
        placement = Placement(BOB, BOB, Forward("a.example"))
        for name, one in (("steps", step), ("recipients", BOB), ("placements", placement)):
            self.assertIsNotNone(self.shorthand.of(Decided(**{**few, name: (one,) * MOST})))
            self.assertIsNone(self.shorthand.of(Decided(**{**few, name: (one,) * (MOST + 1)})))
        self.assertIsNone(self.shorthand.of(Decided(**{**few, "steps": (looking,) * 5})))
        long = Asked(BOB, "a", Discard("y" * 300), 0.0)
        self.assertGreater(len(str(self.shorthand.of(Decided(**{**few, "steps": (long,) * MOST})))), LONGEST)
        self.assertIsNone(kept_at_once(Decided(**{**few, "steps": (long,) * MOST}), self.shorthand))

    def test_refusals_are_found_by_what_they_say_so_that_takes_thought_too(self) -> None:
        self.assertIsNone(kept_at_once(Decided((), Client(None), NO), self.shorthand))
        self.assertIsNotNone(kept_at_once(Decided((), Client(None), OK), self.shorthand))
