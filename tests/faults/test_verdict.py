"""The audit can fail: each thing that it looks for is put into its evidence, and it complains."""

from __future__ import annotations

import random

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.faults.evidence import FALSEHOODS, Arrival, Evidence, Fate, Where, falsify, verdict
from tests.faults.letters import Arrived, Notice, Stray, read, write

FATES = {
    ("m1", "jon@localhost"): Fate.ACKNOWLEDGED,
    ("m1", "alice@north.test"): Fate.ACKNOWLEDGED,
    ("m1", "elvis@localhost"): Fate.REFUSED,
    ("m2", "gone@north.test"): Fate.ACKNOWLEDGED,
    ("m3", "jon@localhost"): Fate.UNANSWERED,
    ("m4", "jon@localhost"): Fate.UNANSWERED,
    ("m5", "jon@localhost"): Fate.UNFINISHED,
}
WELL = Evidence(
    FATES,
    arrivals=[
        Arrival(("m1", "jon@localhost"), Where.MAILBOX),
        Arrival(("m1", "alice@north.test"), Where.ONWARD, answered=False),
        Arrival(("m1", "alice@north.test"), Where.ONWARD),
        Arrival(("m3", "jon@localhost"), Where.MAILBOX),
    ],
    told=[("m2", "gone@north.test")],
    hopeless=frozenset({"gone@north.test"}),
)


class VerdictTests(SynchronousTestCase):
    def complaints(self, evidence: Evidence) -> list[str]:
        return [complaint.partition(":")[0] for complaint in verdict(evidence).complaints]

    def test_where_all_is_well_it_counts_and_does_not_complain(self) -> None:
        judged = verdict(WELL)
        self.assertEqual(judged.complaints, [])
        counts = {name.strip(): count for name, count in judged.counts.items() if count}
        self.assertEqual(
            counts,
            {
                "messages sent": 5,
                "copies sent": 7,
                "acknowledged": 3,
                "refused": 1,
                "unanswered": 2,
                "unfinished": 1,
                "delivered": 3,
                "in mailboxes": 2,
                "onward": 2,
                "failed, sender told": 1,
                "duplicates": 1,
                "onward, twice": 1,
                "since the sink hung up": 1,
            },
        )

    def test_each_falsehood_is_noticed_and_nothing_else(self) -> None:
        for name, falsehood in FALSEHOODS.items():
            self.assertEqual(self.complaints(falsify(WELL, name)), [falsehood.complaint], name)

    def test_a_copy_that_has_arrived_only_in_pieces_is_lost(self) -> None:
        torn = [Arrival(("m1", "jon@localhost"), Where.MAILBOX, intact=False), *WELL.arrivals[1:]]
        self.assertEqual(self.complaints(evolve(WELL, arrivals=torn)), ["LOST", "CORRUPT"])

    def test_a_failure_of_which_the_sender_was_not_told_is_a_loss(self) -> None:
        self.assertEqual(self.complaints(evolve(WELL, told=[])), ["LOST"])

    def test_a_notice_about_someone_whom_nobody_has_refused_is_wrong(self) -> None:
        told = [*WELL.told, ("m1", "jon@localhost")]
        self.assertEqual(self.complaints(evolve(WELL, told=told)), ["FAILED"])

    def test_what_its_client_never_finished_must_not_be_found(self) -> None:
        found = [*WELL.arrivals, Arrival(("m5", "jon@localhost"), Where.MAILBOX)]
        self.assertEqual(self.complaints(evolve(WELL, arrivals=found)), ["DELIVERED"])

    def test_what_nobody_has_sent_and_what_is_left_over_is_named(self) -> None:
        found = [*WELL.arrivals, Arrival(("m9", "jon@localhost"), Where.MAILBOX)]
        evidence = evolve(WELL, arrivals=found, strays=["nonsense"], queued=2, damaged=1, alarms=["Traceback"])
        self.assertEqual(self.complaints(evidence), ["UNKNOWN", "UNKNOWN", "LOG", "CORRUPT", "QUEUED"])


class LetterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.letter = write("m1", random.Random(1), 3000)
        self.head = b"Return-Path: <a@b>\nReceived: from x\n\tby y;\n\tMon\n"

    def test_a_letter_is_whole_with_any_line_ends_and_what_is_prepended(self) -> None:
        octets = self.letter.octets
        for found in octets, octets.replace(b"\r\n", b"\n"), self.head + octets.replace(b"\r\n", b"\n"):
            self.assertEqual(read(found), Arrived("m1", intact=True))

    def test_a_letter_with_any_octet_missing_changed_or_added_is_not_whole(self) -> None:
        octets = self.letter.octets
        behind = octets.index(b"\n") + 1
        for at in range(behind, len(octets), 37):
            for found in octets[:at], octets[:at] + b"." + octets[at:], octets[:at] + b"~" + octets[at + 1 :]:
                self.assertEqual(read(found), Arrived("m1", intact=False), at)
        self.assertEqual(read(octets + b"\r\n"), Arrived("m1", intact=False))

    def test_letters_are_of_all_sizes(self) -> None:
        chance = random.Random(2)
        sizes = sorted(len(write("m", chance).octets) for _ in range(200))
        self.assertLess(sizes[0], 400)
        self.assertGreater(sizes[-1], 250_000)
        self.assertGreater(sum(size > 64 * 1024 for size in sizes), 20)

    def test_a_notice_is_told_from_a_letter_that_it_quotes(self) -> None:
        header = self.letter.octets.partition(b"\r\n\r\n")[0]
        notice = (
            b'From: <MAILER-DAEMON@mx.test>\nMIME-Version: 1.0\nContent-Type: multipart/report; boundary="x"\n\n'
            b"--x\n\nsorry\n--x\nContent-Type: message/delivery-status\n\nReporting-MTA: dns;mx.test\nX-Relay-Queue-Id: NG7\n\n"
            b"Final-Recipient: rfc822;gone@north.test\nAction: failed\nStatus: 5.1.1\n\n"
            b"--x\nContent-Type: text/rfc822-headers\n\n" + header.replace(b"\r\n", b"\n") + b"\n\n--x--\n"
        )
        self.assertEqual(read(notice), Notice("m1", "NG7", ("gone@north.test",)))
        self.assertEqual(read(notice.replace(b"X-Audit", b"X")), Notice(None, "NG7", ("gone@north.test",)))

    def test_anything_else_is_a_stray(self) -> None:
        self.assertEqual(read(b"Subject: hello\n\nHi\n"), Stray(b"Subject: hello\n\nHi\n"))
