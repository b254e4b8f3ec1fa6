"""What kind of trouble a refusal is, by the words of those who refuse."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.delivery.classes import TABLE, Kind, Row, kind_of, kind_of_reply, kind_of_status
from relay.mail.outcome import (
    Answered,
    Breakage,
    Broke,
    Carried,
    Fact,
    Misbehaved,
    NameTrouble,
    Need,
    Peer,
    Phase,
    RefusedByPolicy,
    TlsTrouble,
    Unauthenticated,
    Unencrypted,
    Unresolved,
    Unsuitable,
    Unwritten,
)
from relay.mail.reply import Reply
from relay.mail.selection import GIVEN_UP

MX = Peer("mx.example.net", "192.0.2.1")
P, K = Phase, Kind

#: Each line is a reply, and what it means. Behind `@` the phase, where it is not RCPT.
EXAMPLES = {
    K.LOGIN: """
554 5.7.1 We do not know you @AUTH
550 5.7.1 Client was not authenticated; Authentication required
550 Authentication is required for relay
550 Sender must be authenticated
530 5.7.0 Log in first @MAIL
530 Say who you are @MAIL
535 5.7.8 Not now
""",
    K.TLS: """
454 4.7.0 TLS not available due to local problem @STARTTLS
530 5.7.0 Must issue a STARTTLS command first @MAIL
530 Session: TLS is required @MAIL
530 5.7.0 TLS required @MAIL
550 5.7.0 Encryption required for this recipient
554 5.7.10 no
""",
    K.NO_SUCH_USER: """
550 5.4.1 Recipient address rejected: Access denied. [MW2NAM.example.com 2026-11-23T05:00:00Z]
550 5.7.1 RESOLVER.ADR.RecipNotFound; not found
550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).
550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking
550 5.1.6 Gone elsewhere, and no spam please
550 5.7.1 User unknown
550 5.7.1 Unknown user: virus@example.net
550 5.7.1 <spam@example.net>: No such user here
550 5.7.1 User not found
550 5.7.1 No such recipient
550 5.7.1 Recipient not found
554 5.7.1 delivery error: Requested mail action aborted, mailbox not found
550 5.7.1 No such mailbox
550 5.7.1 Unknown recipient
550 5.7.1 Recipient unknown
550 5.7.1 It does not exist
550 5.7.1 It doesn't exist
554 5.0.0 Sorry, no mailbox here by that name. (#5.1.1)
550 5.7.1 Unrouteable address
550 5.7.1 Invalid recipient
550 5.7.1 Invalid mailbox
550 5.7.1 This is not a valid mailbox
550 5.7.1 Unknown address
550 5.7.1 Address unknown
554 5.7.9 delivery error: dd This user doesn't have a yahoo.com account [-5]
501 5.1.3 Bad address
550 no
""",
    K.RELAYING: """
550 5.7.64 TenantAttribution; Relay Access Denied SMTP
550 5.7.64 TenantAttribution
554 5.7.1 <jon@example.net>: Relay access denied
550 5.7.1 Relaying denied. IP name lookup failed
550 relay not permitted
550 5.7.1 Unable to relay
550 You are not permitted to relay through this server
553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)
550 relaying not allowed
""",
    K.REPUTATION: """
550 5.7.606 Access denied, banned sending IP [192.0.2.1]. To request removal from this list please visit
550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. (S3140)
550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. (S3150)
421 4.7.1 [TS03] All messages from 192.0.2.1 will be permanently deferred; Retrying will NOT succeed. @GREETING
553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.1 @GREETING
553 5.7.1 [BL23] Connections not accepted from IP addresses @GREETING
554 5.7.0 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1 @GREETING
554 resimta 192.0.2.1 Comcast block for mail abuse. BL000000 @MAIL
550 5.7.1 Service unavailable, see www.spamhaus.org/query
554 5.7.1 see https://www.spamcop.net/bl.shtml
554 5.7.1 see http://www.barracudacentral.org/reputation-lookup
554 5.7.1 see https://www.barracudacentral.org/
554 5.7.1 see dnsbl.sorbs.net
554 5.7.1 see www.sorbs.net
554 5.7.1 see www.uceprotect.net
554 5.7.1 see lookup.abusix.com
554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using bl.example.org
550 5.7.1 Your IP is blacklisted
550 5.7.1 Your IP is on a blocklist
550 5.7.1 Please contact your provider since part of their network is on our block list
550 5.7.1 DNSBL: you are on it
550 5.7.1 likely suspicious due to the very low reputation of the sending IP address
554 No SMTP service here @GREETING
""",
    K.AUTHENTICITY: """
550 5.7.515 Access denied, sending domain example.org doesn't meet the required authentication level
550 5.7.1 rejected per DMARC
550 5.7.1 DKIM signature missing
550 5.7.1 SPF check failed
550 5.7.1 SPF: fail
550 5.7.1 Sender Policy Framework says no
550 5.7.1 This mail is unauthenticated, which poses a security risk
550 5.7.1 No reverse DNS
550 5.7.1 rDNS is missing
450 4.7.1 Client host rejected: cannot find your hostname, [192.0.2.1]
450 4.7.1 Client host rejected: cannot find your reverse hostname, [192.0.2.1]
550 5.7.1 The IP address sending this message does not have a PTR record setup
554 Bad DNS PTR resource record. @GREETING
550 5.7.23 no
""",
    K.RATE: """
451 4.7.652 The mail server [192.0.2.1] has exceeded the maximum number of connections.
432 4.3.2 STOREDRV; recipient thread or concurrent connections limit exceeded
451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (AS77712)
421 RP-001 (COL004) Unfortunately, some messages from 192.0.2.1 weren't sent @MAIL
421 RP-002 (COL004) Unfortunately, some messages from 192.0.2.1 weren't sent @MAIL
421 RP-003 (COL004) Unfortunately, some messages from 192.0.2.1 weren't sent @MAIL
421 4.7.28 Our system has detected an unusual rate of unsolicited mail originating from your IP @END
450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages
450 4.2.1 The user you are trying to contact is receiving mail too quickly
550 5.4.5 Daily user sending quota exceeded. @END
421 4.7.0 Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints @MAIL
421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred @MAIL
421 4.7.0 [TS01] Messages from 192.0.2.1 temporarily deferred @MAIL
421 4.7.0 Rate limit reached @MAIL
421 4.7.0 Too many connections @GREETING
421 4.7.0 Too many messages @MAIL
421 4.7.0 Too many concurrent sessions @GREETING
421 4.7.0 Throttled @MAIL
452 4.7.1 Too many emails
451 4.7.1 Too many recipients
550 5.7.1 You have reached your sending limit
450 4.7.28 no
452 no
""",
    K.FULL: """
554 5.0.0 STOREDRV.Deliver; delivery result banner [QuotaExceeded]
552 5.2.2 The email account that you tried to reach is over quota.
452 4.2.2 No more, and no spam
550 5.7.1 Mailbox full
550 5.7.1 The mailbox is full
550 5.7.1 Over quota
550 5.7.1 User is overquota
550 5.7.1 Quota exceeded (mailbox for user is full)
550 5.7.1 His quota has been reached
452 4.7.1 The recipient is out of storage
550 5.7.1 Has exceeded storage
550 5.7.1 The recipient's inbox is full
552 no
""",
    K.CONTENT: """
550 SC-001 (COL004) Unfortunately, messages from 192.0.2.1 weren't sent. @MAIL
550 SC-002 (COL004) Unfortunately, messages from 192.0.2.1 weren't sent. @MAIL
552 5.7.0 This message was blocked because its content presents a potential security issue. @END
550 5.7.1 This looks like spam @END
554 5.7.1 A virus was found @END
554 5.7.1 Malware was found @END
554 5.7.1 This is phishing @END
550 5.7.1 Our system has detected that this message is likely unsolicited mail. @END
554 5.7.1 Malicious @END
554 5.7.1 Message content rejected @END
554 5.7.1 That kind of attachment we do not take @END
""",
    K.MESSAGE: """
550 5.7.1 This message is not RFC 5322 compliant @END
554 5.6.0 no @END
""",
    K.INACTIVE: """
554 30 Sorry, your message cannot be delivered. This mailbox is disabled (554.30). @END
550 5.7.1 The email account that you tried to reach is disabled.
550 5.7.1 Mailbox disabled
550 5.7.1 It is inactive
550 5.7.1 The account was suspended
550 5.7.1 The account was deactivated
550 5.2.1 no
""",
    K.POLICY: """
550 5.0.0 [CS01] Message rejected @END
550 5.0.0 [HM08] Message rejected @END
550 Administrative prohibition - envelope blocked
550 Administrative prohibition
550 Envelope blocked - User Entry
550 Rejected by header-based manually Blocked Senders @END
450 4.1.8 <ann@example.org>: Sender address rejected: Domain does not exist
550 Sender rejected: does not exist
550 Sender denied: does not exist
554 Message rejected due to local policy
554 5.0.9 Message not accepted for policy reasons. @END
550 Policy violation
550 Rejected by policy
550 Prohibited by us
550 Access denied
550 Not authorized
550 5.7.1 no
""",
    K.GREYLISTING: """
451 4.3.0 Greylisted, see http://example.net/help
451 4.3.0 Graylisted
451 4.3.0 Grey-listed
451 4.3.0 Grey listed
451 4.3.0 Gray listed
450 4.7.1 Come again
451 no
""",
    K.TOO_LARGE: """
554 5.3.4 Your message exceeded our limits @MAIL
554 5.2.3 no @MAIL
550 5.0.0 Message size exceeds fixed maximum message size @MAIL
550 5.0.0 Message size exceeds ours @MAIL
550 5.0.0 Message too large @END
550 5.0.0 Message too big @END
550 5.0.0 Exceeds size limit @END
550 5.0.0 Size limit exceeded @END
550 5.0.0 Larger than our maximum message size @END
552 no @END
""",
    K.LOOP: """
554 5.4.6 Hop count exceeded @END
554 5.0.0 Too many hops @END
554 5.0.0 Mail loop @END
554 5.0.0 Mail for example.net loops back to myself
554 5.0.0 Routing loop detected @END
""",
    K.SERVER: """
450 4.0.0 Server busy @MAIL
450 4.0.0 We are too busy @MAIL
450 4.0.0 System load is high @MAIL
450 4.0.0 Insufficient system storage @MAIL
450 4.0.0 Disk full @MAIL
450 4.0.0 Shutting down
450 4.3.2 no
421 no
451 no @END
450 no @GREETING
""",
    K.DNS: """
556 5.1.10 Domain takes no mail
550 5.1.2 Bad destination
450 4.4.3 no
""",
    K.CONNECTION: "450 4.4.1 no",
    K.OTHER: "450 4.0.0 no @DATA",
}


def examples() -> list[tuple[Reply, Phase, Kind]]:
    found = []
    for kind, lines in EXAMPLES.items():
        for line in lines.strip().splitlines():
            said, _, phase = line.partition(" @")
            code, first, rest = said.split(" ", 1)[0], *(said.split(" ", 1)[1] + " ").split(" ", 1)
            status = first if first.count(".") == 2 and first[0] in "45" else None
            text = rest.strip() if status else said.split(" ", 1)[1]
            found.append((Reply.saying(int(code), status, text), P[phase] if phase else P.RCPT, kind))
    return found


class ReplyTests(SynchronousTestCase):
    def test_each_example_is_of_its_kind(self) -> None:
        for reply, phase, kind in examples():
            self.assertEqual(kind_of_reply(reply, phase), kind, str(reply))

    def test_no_row_can_be_taken_out(self) -> None:
        replies = examples()
        self.assertTrue(all(kind_of_reply(reply, phase) is kind for reply, phase, kind in replies))
        missed_by_nobody = [
            row
            for at, row in enumerate(TABLE)
            if all(kind_of_reply(reply, phase, TABLE[:at] + TABLE[at + 1 :]) is kind for reply, phase, kind in replies)
        ]
        self.assertEqual(missed_by_nobody, [])

    def test_no_row_says_another_kind(self) -> None:
        replies = examples()
        for at, row in enumerate(TABLE):
            other = K.OURSELVES
            table = (*TABLE[:at], evolve(row, kind=other), *TABLE[at + 1 :])
            self.assertTrue(any(kind_of_reply(reply, phase, table) is other for reply, phase, _ in replies), row)

    def test_every_kind_has_an_example(self) -> None:
        self.assertEqual({K.OURSELVES, *EXAMPLES}, set(Kind))

    def test_words_are_small_letters_and_as_many_as_are_needed(self) -> None:
        for row in TABLE:
            self.assertEqual(row.words, tuple(word.lower() for word in row.words))
            self.assertNotIn("", row.words)
            self.assertNotEqual(row, Row(row.kind))

    def test_an_address_is_not_what_is_said_of_it(self) -> None:
        reply = Reply.of(550, "5.1.3", "<spam@virus.example>, greylist@example.net: bad")
        self.assertEqual(kind_of_reply(reply, P.RCPT), K.NO_SUCH_USER)

    def test_lines_of_a_reply_are_one_sentence(self) -> None:
        reply = Reply.of(550, "5.7.1", "the mailbox", "is full")
        self.assertEqual(kind_of_reply(reply, P.RCPT), K.FULL)

    @given(st.integers(400, 599), st.sampled_from(P), st.text())
    def test_whatever_is_said_has_a_kind(self, code: int, phase: Phase, text: str) -> None:
        self.assertIsInstance(kind_of_reply(Reply.saying(code, None, text), phase), Kind)


class PageTests(SynchronousTestCase):
    def test_the_page_about_the_mail_log_has_all_of_them_and_no_others(self) -> None:
        page = (Path(__file__).parent.parent / "docs/mail-log.md").read_text()
        (table,) = re.findall(r"\| class \| what it says \|\n\| --- \| --- \|\n((?:\|.*\n)+)", page)
        words = [word for row in table.splitlines() for word in re.findall("`([a-z_]+)`", row)]
        self.assertEqual(sorted(words), sorted(kind.value for kind in Kind))


class FactTests(SynchronousTestCase):
    def test_what_was_no_reply_has_a_kind_too(self) -> None:
        for fact, kind in FACTS:
            self.assertEqual(kind_of(fact), kind, fact)

    def test_a_status_alone_says_something(self) -> None:
        for status, kind in (("5.1.1", K.NO_SUCH_USER), ("4.4.1", K.CONNECTION), ("4.7.1", K.POLICY), ("", K.OTHER)):
            self.assertEqual(kind_of_status(status), kind)


NO = Reply.of(550, "5.7.1", "DMARC")
FACTS: list[tuple[Fact, Kind | None]] = [
    (Carried(True, "mx"), None),
    (RefusedByPolicy(GIVEN_UP.reply, GIVEN_UP.because), K.OTHER),
    (Answered(NO, P.RCPT, MX), K.AUTHENTICITY),
    (RefusedByPolicy(NO), K.AUTHENTICITY),
    (Broke(Breakage.TIMEOUT, P.CONNECT, MX), K.CONNECTION),
    (Broke(Breakage.NO_SOCKET, P.CONNECT, MX), K.OURSELVES),
    (Unresolved(NameTrouble.NULL_MX, "example.net"), K.DNS),
    (Unresolved(NameTrouble.LOOP, "example.net"), K.LOOP),
    (Unencrypted(TlsTrouble.FAILED, MX), K.TLS),
    (Unauthenticated(MX, "no password"), K.LOGIN),
    (Unsuitable(Need.SIZE, MX), K.TOO_LARGE),
    (Unsuitable(Need.REQUIRE_TLS, MX), K.TLS),
    (Unsuitable(Need.SMTPUTF8, MX), K.MESSAGE),
    (Unwritten("jon", "gone", "ENOENT", permanent=True), K.NO_SUCH_USER),
    (Unwritten("jon", "full", "EDQUOT"), K.FULL),
    (Unwritten("jon", "not mounted", "ENOENT"), K.OURSELVES),
    (Unwritten("/bin/x", "exit status 67", permanent=True, status="5.1.1"), K.NO_SUCH_USER),
    (Unwritten("/bin/x", "exit status 1"), K.OTHER),
    (Misbehaved("fax"), K.OURSELVES),
]
