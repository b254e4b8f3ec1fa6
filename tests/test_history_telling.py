"""What `relayctl trace` will say: sentences about the lives of messages."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.history.telling import _SENTENCES, sentence, span, tell, tell_all, tell_why
from relay.mail.history import Accounts, Findings, Happening, Life
from relay.net.maillog import EVENTS

NOON = 1795435200.0
ID = "NG79W8MR4E21H9"


def happening(at: float, what: str, **fields: Any) -> Happening:
    return Happening(NOON + at, what, fields)


ACCEPTED = happening(
    0,
    "accepted",
    sender="ann@example.org",
    recipients=2,
    to="bob@example.net, carol@example.com",
    size=1234,
    client="192.0.2.7",
    helo="c.example",
    listener="mx",
    tls="TLSv1.3",
    message_id="<1@example.org>",
)
RELAYED = happening(
    0.1, "relayed", recipient="bob@example.net", by="mx.example.net[192.0.2.9]:25", text="250 Ok", attempts=1, age=0.1
)
DELAYED = happening(
    30,
    "delayed",
    recipient="carol@example.com",
    status="4.4.1",
    because="connection refused",
    peer="mx.example.com[192.0.2.10]:25",
    attempts=1,
    age=30,
    again_in=300,
)
FAILED = happening(
    330,
    "failed",
    recipient="carol@example.com",
    status="5.1.1",
    because="the mailbox does not exist",
    diagnostic="550 5.1.1 unknown",
    peer="mx.example.com[192.0.2.10]:25",
    attempts=2,
    age=330,
)


class TellingTests(SynchronousTestCase):
    def test_what_we_have_refused_ourselves_is_not_said_to_be_anybody_elses_word(self) -> None:
        ours = happening(330, "failed", recipient="carol@example.com", status="5.0.0", diagnostic="550 5.0.0 Given up")
        self.assertIn("5.0.0: this relay said '550 5.0.0 Given up'", "".join(tell(Life(ID, (ours,)))))

    def test_a_life_from_the_first_to_the_last(self) -> None:
        noticed = happening(330, "noticed", notice="NG79W8MR9XYZ0K", recipient="ann@example.org")
        self.assertEqual(
            tell(Life(ID, (ACCEPTED, RELAYED, DELAYED, FAILED, noticed))),
            [
                ID,
                "  2026-11-23 12:00:00Z  accepted from ann@example.org for bob@example.net, carol@example.com"
                " (2 recipients), 1234 octets, from c.example [192.0.2.7] at listener mx in TLSv1.3."
                " Message-ID: <1@example.org>",
                "  2026-11-23 12:00:00Z  bob@example.net: relayed to mx.example.net[192.0.2.9]:25, which said '250 Ok'"
                " (attempt 1, 0.1 s after it came)",
                "  2026-11-23 12:00:30Z  carol@example.com: not yet: connection refused (4.4.1) at"
                " mx.example.com[192.0.2.10]:25 (attempt 1, 30 s after it came); the next attempt in 5 min",
                "  2026-11-23 12:05:30Z  carol@example.com: failed for good: the mailbox does not exist (5.1.1):"
                " mx.example.com[192.0.2.10]:25 said '550 5.1.1 unknown' (attempt 2, 5 min after it came)",
                "  2026-11-23 12:05:30Z  the sender will be told: notice NG79W8MR9XYZ0K to ann@example.org is in the"
                " queue",
                "  bob@example.net was relayed.",
                "  carol@example.com has failed.",
            ],
        )

    def test_what_still_waits_is_said_to_wait(self) -> None:
        self.assertEqual(
            tell(Life(ID, (ACCEPTED, DELAYED)))[-2:],
            [
                "  carol@example.com is in the queue: the next attempt was planned for 2026-11-23 12:05:30Z.",
                "  bob@example.net is in the queue: nothing has happened to it yet.",
            ],
        )

    def test_who_was_reached_by_an_alias_does_not_wait(self) -> None:
        members = happening(1, "delivered", recipient="dave@example.org", original="Carol@example.com")
        self.assertEqual(
            tell(Life(ID, (ACCEPTED, RELAYED, members)))[-2:],
            ["  bob@example.net was relayed.", "  dave@example.org was delivered."],
        )

    def test_a_refusal_says_why_and_to_whom(self) -> None:
        refused = happening(
            0,
            "refused",
            reply="550 5.7.1 relaying denied",
            sender="ann@example.org",
            recipient="bob@example.net",
            policy="nobody-else",
            because="no policy wants it",
            client="192.0.2.7",
            helo="c.example",
            listener="mx",
        )
        self.assertEqual(
            tell(Life("", (refused,))),
            [
                "refused before it was a message",
                "  2026-11-23 12:00:00Z  refused from ann@example.org for bob@example.net with '550 5.7.1 relaying"
                " denied' by policy 'nobody-else' because no policy wants it, from c.example [192.0.2.7] at listener mx",
            ],
        )

    def test_a_refusal_of_a_local_program_that_said_nothing_else(self) -> None:
        self.assertEqual(
            sentence(happening(0, "refused", reply="421 4.4.2 idle")),
            "refused with '421 4.4.2 idle', from a local program",
        )

    def test_a_notice_of_ours_has_the_null_reverse_path(self) -> None:
        said = sentence(happening(0, "accepted", sender="<>", recipients=1, to="ann@example.org"))
        self.assertTrue(said.startswith("accepted from the null reverse-path for ann@example.org, from"))

    def test_a_life_whose_beginning_is_gone_says_so(self) -> None:
        self.assertEqual(tell(Life(ID, (RELAYED,)))[0], f"{ID}, whose beginning is not known")

    def test_a_notice_of_ours_begins_with_the_message_that_it_tells_of(self) -> None:
        noticed = happening(1, "noticed", notice="NG79W8MR4E2AAA", recipient="ann@example.org")
        lives = (Life("NG79W8MR4E2AAA", (RELAYED,)), Life(ID, (ACCEPTED, FAILED, noticed)))
        headings = [line for line in tell_all(Findings(lives), "ann@example.org") if line.startswith("NG")]
        self.assertEqual(headings, [f"NG79W8MR4E2AAA, a notice about {ID}", ID])

    def test_what_was_left_out_is_counted_where_it_stood(self) -> None:
        life = Life(ID, (ACCEPTED, DELAYED, DELAYED, FAILED), left_out=1)
        self.assertEqual(tell(life)[3], "  ... 1 more event ...")

    def test_every_event_of_the_mail_log_has_its_sentence(self) -> None:
        self.assertEqual(set(_SENTENCES), EVENTS)

    def test_an_address_on_the_suppression_list_says_who_has_put_it_there_and_why(self) -> None:
        on = happening(0, "suppressed", recipient="a@x", because="has left", operator="root")
        self.assertEqual(sentence(on), "a@x was put on the suppression list by the operator (root): has left")
        off = happening(0, "unsuppressed", recipient="a@x", operator="root")
        self.assertEqual(sentence(off), "a@x was taken off the suppression list by the operator (root)")

    def test_an_event_of_another_relay_is_told_as_it_is(self) -> None:
        self.assertEqual(sentence(happening(0, "beamed", recipient="a@x")), "beamed recipient=a@x")

    def test_nothing_found_says_how_far_back_it_looked(self) -> None:
        self.assertEqual(
            tell_all(Findings((), since=NOON), "bob@x"),
            ["Nothing is known of bob@x. The history goes back to 2026-11-23 12:00:00Z."],
        )
        self.assertEqual(tell_all(Findings(()), "bob@x"), ["Nothing is known of bob@x. The history is empty."])

    def test_where_nothing_is_found_among_what_is_new_it_does_not_say_that_there_is_nothing(self) -> None:
        older = "lately. So much has happened since that what is older was not looked for."
        self.assertEqual(tell_all(Findings((), more=True, since=NOON), "bob@x"), [f"Nothing is known of bob@x {older}"])
        self.assertEqual(
            tell_why(Accounts((), more=True, since=NOON), "bob@x"), [f"Nobody has decided anything about bob@x {older}"]
        )

    def test_several_lives_stand_apart_and_what_is_missing_is_said(self) -> None:
        life = Life(ID, (RELAYED,))
        lines = tell_all(Findings((life, life), more=True, since=NOON, dropped=7), "bob@example.net")
        self.assertEqual(
            lines,
            [
                *tell(life),
                "",
                *tell(life),
                "",
                "There is more, which is older.",
                "",
                "7 events could not be kept since the relay started.",
            ],
        )

    def test_spans(self) -> None:
        spans = [span(seconds) for seconds in (0, 0.14, 59, 60, 3599, 3600, 5400, 172799, 172800, 183600)]
        self.assertEqual(
            spans, ["0 s", "0.1 s", "59 s", "1 min", "59 min", "1 h", "1 h 30 min", "47 h 59 min", "2 d", "2 d 3 h"]
        )

    @given(
        st.sampled_from(sorted(EVENTS)),
        st.dictionaries(
            st.sampled_from(["sender", "recipient", "to", "reply", "diagnostic", "because", "again_in", "age", "by"]),
            st.text() | st.integers(0, 10**9) | st.lists(st.text()),
        ),
    )
    def test_whatever_was_kept_a_line_stays_a_line(self, what: str, fields: dict[str, Any]) -> None:
        for line in tell(Life(ID, (Happening(NOON, what, fields),))):
            self.assertTrue(line.isprintable())
