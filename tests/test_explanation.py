"""Explanations: what is kept of them, and how they read."""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address
from relay.mail.answer import Absent, Exchange, Found, Unanswered, in_words
from relay.mail.decision import Placement
from relay.mail.edits import AddField, AddRecipient, RemoveField, ReplaceField, ReplaceRecipients
from relay.mail.envelope import Client
from relay.mail.explanation import MOST, Decided, Explanation, Mail, Step, Way, way
from relay.mail.explanation_text import text
from relay.mail.outcome import Peer
from relay.mail.phases import Each, Edit
from relay.mail.reply import Reply
from relay.mail.routing import (
    ABSTAIN,
    Accept,
    Delay,
    Deliver,
    Discard,
    Forward,
    Hold,
    NextHop,
    Note,
    Reject,
    Rewrite,
)
from relay.mail.verdict import LONGEST, words
from relay.policy.looking import Look
from relay.policy.steps import Asked, Skipped

ANN, BOB = Address("ann", "x.example"), Address("bob", "here.example")
JON = Address("jon", "far.example")
CLIENT = Client("192.0.2.9", helo="mx.x.example", listener="mx")
OK = Reply.of(250, "2.0.0", "Ok: queued as NG79W8MR4E21H9")
NO = Reply.of(550, "5.7.1", "relaying denied")

TEXTS = st.text(max_size=300)
STEPS = st.builds(
    Step,
    phase=st.sampled_from(("connection", "sender", "recipient", "content")),
    policy=TEXTS,
    recipient=TEXTS,
    guard=TEXTS,
    verdict=TEXTS,
    because=TEXTS,
    failed=st.booleans(),
    looks=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=3).map(tuple),
    milliseconds=st.floats(0, 1e6),
)
WAYS = st.builds(Way, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, st.lists(TEXTS, max_size=2).map(tuple), TEXTS)
EXPLANATIONS = st.builds(
    Explanation,
    mail=st.builds(Mail, TEXTS, st.lists(TEXTS, max_size=2).map(tuple), TEXTS, TEXTS, TEXTS, TEXTS, TEXTS),
    steps=st.lists(STEPS, max_size=5).map(tuple),
    reply=TEXTS,
    policy=TEXTS,
    because=TEXTS,
    ways=st.lists(WAYS, max_size=3).map(tuple),
    left_out=st.integers(0, 9),
)


def decided(**more: Any) -> Decided:
    """A message from Ann to Bob, whose alias leads to Jon."""
    steps = (
        Skipped(None, "dnsbl", "client", "connection"),
        Asked(None, "spf", Note({"spf": "pass"}, "a record says so"), 0.0123, phase="sender", looks=(LOOK,)),
        Asked(BOB, "aliases", Rewrite((JON,), "alias"), 0.0001),
        Asked(JON, "outbound", Forward("far.example", because="onward"), 0.00002),
    )
    placement = Placement(JON, BOB, Forward("far.example"), "outbound", "onward")
    said = {"sender": ANN, "recipients": (BOB,), "placements": (placement,), "reply": OK}
    return Decided(**{"steps": steps, "client": CLIENT, **said, **more})


LOOK = Look("dns", "x.example TXT", "v=spf1 -all")


class KeepingTests(SynchronousTestCase):
    @given(EXPLANATIONS)
    def test_what_is_kept_as_json_comes_back_as_it_was(self, explanation: Explanation) -> None:
        kept = Explanation.from_json(json.loads(json.dumps(explanation.to_json())))
        self.assertEqual(kept, explanation)
        # And so does what is for people alone.
        self.assertEqual([step.looks for step in kept.steps], [step.looks for step in explanation.steps])
        self.assertEqual(
            [(way.hosts, way.trouble) for way in kept.ways], [(w.hosts, w.trouble) for w in explanation.ways]
        )
        for step, before in zip(kept.steps, explanation.steps, strict=True):
            self.assertAlmostEqual(step.milliseconds, before.milliseconds, 2)

    def test_what_says_nothing_takes_no_room(self) -> None:
        kept = Explanation(Mail(recipients=("a@b",)), (Step("sender", "p", verdict="no opinion"),), "250 Ok").to_json()
        step = {"phase": "sender", "policy": "p", "verdict": "no opinion"}
        self.assertEqual(json.loads(json.dumps(kept)), {"recipients": ["a@b"], "steps": [step], "reply": "250 Ok"})

    def test_what_was_never_kept_is_no_explanation(self) -> None:
        for value in ({"steps": [{"nonsense": 1}]}, {"reply": "", "nonsense": 1}, {"steps": [{"looks": [["a"]]}]}):
            self.assertRaises((KeyError, TypeError, ValueError), Explanation.from_json, value)

    def test_of_very_much_the_first_is_kept_and_the_rest_counted(self) -> None:
        steps = [Asked(BOB, str(number), ABSTAIN, 0.0, looks=(LOOK,) * 3) for number in range(MOST + 5)]
        told = decided(steps=steps, recipients=(BOB,) * (MOST + 1)).explanation()
        self.assertEqual((len(told.steps), len(told.mail.recipients), told.left_out), (MOST, MOST, 6))
        self.assertEqual(sum(len(step.looks) for step in told.steps), MOST)


class SamenessTests(SynchronousTestCase):
    def test_times_answers_hosts_and_references_are_different_each_time(self) -> None:
        told = decided().explanation()
        steps = tuple(evolve(step, milliseconds=99.0, looks=(("dns", "a", "b"),)) for step in told.steps)
        ways = tuple(evolve(way, hosts=("mx",), trouble="no") for way in told.ways)
        self.assertTrue(told.same_as(evolve(told, steps=steps, ways=ways, reply="250 2.1.5 Recipient ok")))
        refused = evolve(told, reply="550 5.7.1 no [ref 7K3QX2]")
        self.assertTrue(refused.same_as(evolve(told, reply="550 5.7.1 no")))
        self.assertFalse(refused.same_as(evolve(told, reply="550 5.7.1 never")))

    def test_all_else_counts(self) -> None:
        told = decided().explanation()
        for other in (
            evolve(told, steps=told.steps[1:]),
            evolve(told, steps=tuple(evolve(step, because="?") for step in told.steps)),
            evolve(told, ways=()),
            evolve(told, mail=evolve(told.mail, client="192.0.2.1")),
            evolve(told, policy="?"),
            evolve(told, reply="450 4.7.1 no"),
        ):
            self.assertFalse(told.same_as(other))


class TellingTests(SynchronousTestCase):
    maxDiff = None

    def test_a_condition_about_what_comes_later_is_not_known_yet(self) -> None:
        for phase, guard, said in (
            ("connection", "sender", "is not known yet"),
            ("sender", "sender", "does not hold"),
            ("sender", "recipient", "is not known yet"),
            ("recipient", "recipient", "does not hold"),
        ):
            told = evolve(decided().explanation(), steps=(Step(phase, "small", guard=guard),))
            self.assertIn(f"  small           skipped: its condition '{guard}' {said}", text(told))

    def test_an_accepted_message_reads_phase_by_phase(self) -> None:
        told = decided().explanation()
        told = evolve(told, ways=(evolve(told.ways[0], hosts=("mx.far.example[192.0.2.25]:25",)),))
        self.assertEqual(
            text(told),
            [
                "ann@x.example -> bob@here.example",
                "client 192.0.2.9, helo mx.x.example, listener mx",
                "",
                "connection",
                "  dnsbl           skipped: its condition 'client' does not hold",
                "sender",
                "  spf             no opinion, noting spf=pass                           12.3 ms",
                "                  because a record says so",
                "                  dns x.example TXT: v=spf1 -all",
                "recipient bob@here.example",
                "  aliases         stands for jon@far.example                             0.1 ms",
                "                  because alias",
                "recipient jon@far.example",
                "  outbound        forward to far.example                                 0.0 ms",
                "                  because onward",
                "",
                "reply      250 2.0.0 Ok: queued as NG79W8MR4E21H9",
                "goes to    far.example for jon@far.example, by policy 'outbound'",
                "           because onward",
                "           TLS: may, where it is offered",
                "           mx.far.example[192.0.2.25]:25",
            ],
        )

    def test_a_refused_client_at_a_unix_socket_reads_plainly(self) -> None:
        step = Asked(None, "a-name-that-is-too-long-here", Reject(NO, "never"), 0.0, True, "connection")
        told = Decided([step], Client(None), NO, policy="gate", because="never").explanation()
        self.assertEqual(
            text(told),
            [
                "a client at a Unix socket",
                "",
                "connection",
                "  a-name-that-is-too-long-here",
                "                  it failed: reject: 550 5.7.1 relaying denied           0.0 ms",
                "                  because never",
                "",
                "reply      550 5.7.1 relaying denied",
                "by         policy 'gate'",
                "because    never",
            ],
        )

    def test_where_nobody_was_asked_it_says_so(self) -> None:
        self.assertIn("no policy was asked", text(decided(steps=()).explanation()))

    @given(EXPLANATIONS)
    def test_no_line_is_wider_than_a_terminal_or_moves_its_cursor(self, explanation: Explanation) -> None:
        names = [step.policy for step in explanation.steps] + [step.recipient for step in explanation.steps]
        for line in text(explanation):
            self.assertTrue(line.isprintable())
            if len(line) > 79:  # a name is never cut
                self.assertTrue(any(len(name) > 60 for name in names))


class VerdictTests(SynchronousTestCase):
    def test_each_verdict_has_words(self) -> None:
        edit = Edit(
            (
                AddField("X-A", "one\r\n two"),
                RemoveField("X-B"),
                RemoveField("X-C", 2),
                ReplaceField("X-D", "d"),
                AddRecipient(BOB),
                ReplaceRecipients((JON,)),
            ),
            facts={"a": "b"},
        )
        for verdict, said in (
            (ABSTAIN, "no opinion"),
            (Accept(), "accept"),
            (Accept(facts={"a": "b"}), "accept, noting a=b"),
            (Note({"a": "b"}), "no opinion, noting a=b"),
            (Reject(NO), "reject: 550 5.7.1 relaying denied"),
            (Delay(Reply.of(450, "4.7.1", "later")), "delay: 450 4.7.1 later"),
            (Deliver("maildir", {"directory": "/mail/x"}), "deliver by maildir"),
            (Deliver("pipe", {"command": "/bin/ticket --password=secret"}), "deliver by pipe:ticket"),
            (Forward(("a.example", NextHop("b.example", 587, mx=False))), "forward to a.example, [b.example]:587"),
            (Rewrite((BOB, JON)), "stands for bob@here.example, jon@far.example"),
            (Rewrite((BOB,) * 12), "stands for " + ", ".join(["bob@here.example"] * 10) + " and 2 more"),
            (Discard(), "discard"),
            (Hold(), "hold"),
            (
                edit,
                "add X-A: one two, remove X-B, remove X-C number 2, replace X-D: d, send a copy to bob@here.example, "
                "send it to jon@far.example instead, noting a=b",
            ),
            (Each({BOB: Reject(NO), JON: ABSTAIN}), f"{BOB}: reject: 550 5.7.1 relaying denied, {JON}: no opinion"),
        ):
            self.assertEqual(words(verdict), said)

    def test_a_long_text_is_cut(self) -> None:
        self.assertEqual(len(words(Reject(Reply.of(550, None, *["x" * 400] * 9)))), LONGEST + 3)


class WayTests(SynchronousTestCase):
    def test_where_a_copy_goes(self) -> None:
        def to(route: Any) -> tuple[str, str]:
            told = way(Placement(JON, BOB, route))
            return told.to, told.tls

        self.assertEqual(to(Forward("far.example")), ("far.example", "may"))
        self.assertEqual(to(Forward("far.example", reverse_path=BOB)), ("far.example from bob@here.example", "may"))
        hops = (NextHop("a.example", tls="verify", login="x"), NextHop("b.example", tls="verify"))
        self.assertEqual(to(Forward(hops)), ("a.example;tls=verify;login=x, b.example;tls=verify", "verify"))
        self.assertEqual(to(Forward(NextHop("unix:/run/lmtp", mx=False, lmtp=True))), ("unix:/run/lmtp", ""))
        self.assertEqual(to(Deliver("pipe", {"command": "/bin/ticket --password=x"})), ("agent pipe:ticket", ""))
        self.assertEqual(to(Hold()), ("hold", ""))
        self.assertEqual(to(Discard()), ("discard", ""))
        self.assertEqual(to(Reject(NO)), ("reject: 550 5.7.1 relaying denied", ""))

    def test_what_was_found_there(self) -> None:
        told = way(Placement(JON, BOB, Forward("far.example")), [Peer("mx", "192.0.2.1"), Peer("/run/lmtp")], "no")
        self.assertEqual((told.hosts, told.trouble), (("mx[192.0.2.1]:25", "/run/lmtp"), "no"))


class AnswerTests(SynchronousTestCase):
    def test_what_the_dns_said_has_words(self) -> None:
        for answer, said in (
            (Found(("192.0.2.1", "192.0.2.2"), authentic=True), "192.0.2.1, 192.0.2.2"),
            (Found((Exchange(10, "mx.example.org"), Exchange(0, ""))), "10 mx.example.org, 0 ."),
            (Absent(nonexistent=True), "no such name"),
            (Absent(nonexistent=False), "no such records"),
            (Unanswered("SERVFAIL"), "no answer: SERVFAIL"),
        ):
            self.assertEqual(in_words(answer), said)
