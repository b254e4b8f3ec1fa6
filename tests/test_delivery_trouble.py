from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.delivery.trouble import TABLE, About, Judgement, after_another_host, judge
from relay.mail.outcome import (
    Answered,
    Breakage,
    Broke,
    Carried,
    Delayed,
    Delivered,
    Fact,
    Failed,
    Misbehaved,
    NameTrouble,
    Need,
    Peer,
    Phase,
    RefusedByPolicy,
    Relayed,
    TlsTrouble,
    Unauthenticated,
    Unencrypted,
    Unresolved,
    Unsuitable,
    Unwritten,
)
from relay.mail.reply import Reply

MX = Peer("mx.example.net", "192.0.2.1")


def said(phase: Phase, code: int, status: str | None = None, text: str = "no") -> Answered:
    return Answered(Reply.of(code, status, text), phase, MX)


def broke(phase: Phase, breakage: Breakage) -> Broke:
    return Broke(breakage, phase, MX)


def unresolved(trouble: NameTrouble) -> Unresolved:
    return Unresolved(trouble, "example.net")


P, B, N = Phase, Breakage, NameTrouble
LATER, NEVER = Delayed, Failed

#: What each fact must mean: outcome, status, of whom it speaks, whether another host may be asked at once.
EXPECTED: list[tuple[Fact, bool, type, str, About, bool]] = [
    (unresolved(N.UNANSWERED), False, LATER, "4.4.3", About.DESTINATION, True),
    (unresolved(N.UNANSWERED), True, LATER, "4.4.3", About.DESTINATION, True),
    (unresolved(N.NO_SUCH_DOMAIN), True, LATER, "4.3.5", About.OURSELVES, True),
    (unresolved(N.NULL_MX), True, LATER, "4.3.5", About.OURSELVES, True),
    (unresolved(N.NO_SUCH_DOMAIN), False, NEVER, "5.1.2", About.DESTINATION, True),
    (unresolved(N.NO_ADDRESS), False, NEVER, "5.4.4", About.DESTINATION, True),
    (unresolved(N.NULL_MX), False, NEVER, "5.1.10", About.DESTINATION, True),
    (unresolved(N.LOOP), False, NEVER, "5.4.6", About.DESTINATION, True),
    (unresolved(N.FORBIDDEN), False, NEVER, "5.4.4", About.DESTINATION, True),
    (broke(P.CONNECT, B.REFUSED), False, LATER, "4.4.1", About.HOST, True),
    (broke(P.CONNECT, B.UNREACHABLE), False, LATER, "4.4.1", About.HOST, True),
    (broke(P.CONNECT, B.TIMEOUT), False, LATER, "4.4.1", About.HOST, True),
    (broke(P.CONNECT, B.NO_SOCKET), False, LATER, "4.3.5", About.OURSELVES, True),
    (broke(P.GREETING, B.TIMEOUT), False, LATER, "4.4.2", About.HOST, True),
    (broke(P.HELLO, B.LOST), False, LATER, "4.4.2", About.HOST, True),
    (broke(P.RCPT, B.LOST), False, LATER, "4.4.2", About.HOST, True),
    (broke(P.CONTENT, B.LOST), False, LATER, "4.4.2", About.HOST, True),
    (broke(P.MAIL, B.NONSENSE), False, LATER, "4.5.0", About.HOST, True),
    (broke(P.END, B.LOST), False, LATER, "4.4.2", About.HOST, False),
    (broke(P.END, B.TIMEOUT), False, LATER, "4.4.2", About.HOST, False),
    (broke(P.END, B.NONSENSE), False, LATER, "4.5.0", About.HOST, False),
    (said(P.GREETING, 421, "4.7.0"), False, LATER, "4.7.0", About.HOST, True),
    (said(P.RCPT, 421), False, LATER, "4.3.2", About.HOST, True),
    (said(P.END, 421, "4.3.2"), False, LATER, "4.3.2", About.HOST, True),
    (said(P.GREETING, 554), False, LATER, "4.3.2", About.HOST, True),
    (said(P.GREETING, 450, "4.7.1"), False, LATER, "4.7.1", About.HOST, True),
    (said(P.HELLO, 550, "5.7.1"), False, LATER, "4.3.2", About.HOST, True),
    (said(P.MAIL, 503, "5.5.1"), False, LATER, "4.5.1", About.HOST, True),
    (said(P.DATA, 503), False, LATER, "4.5.1", About.HOST, True),
    (said(P.MAIL, 555, "5.5.4"), False, LATER, "4.5.4", About.HOST, True),
    (said(P.RCPT, 555), False, LATER, "4.5.4", About.HOST, True),
    (said(P.END, 503), False, NEVER, "5.0.0", About.MESSAGE, False),
    (said(P.STARTTLS, 421, "4.3.2"), False, LATER, "4.3.2", About.HOST, True),
    (said(P.AUTH, 454), False, LATER, "4.7.0", About.HOST, True),
    (said(P.AUTH, 454, "4.7.9"), False, LATER, "4.7.9", About.HOST, True),
    (said(P.AUTH, 535, "5.7.8"), False, LATER, "4.7.8", About.OURSELVES, False),
    (said(P.AUTH, 534, "5.7.9"), False, LATER, "4.7.8", About.OURSELVES, False),
    (said(P.MAIL, 530, "5.7.0"), False, LATER, "4.7.0", About.OURSELVES, True),
    (said(P.RCPT, 530), False, LATER, "4.7.0", About.OURSELVES, True),
    (said(P.END, 530), False, NEVER, "5.0.0", About.MESSAGE, False),
    (said(P.COPY, 552, "5.2.2"), False, NEVER, "5.2.2", About.RECIPIENT, False),
    (said(P.COPY, 552), False, NEVER, "5.0.0", About.RECIPIENT, False),
    (said(P.COPY, 452, "4.2.2"), False, LATER, "4.2.2", About.RECIPIENT, False),
    (said(P.COPY, 451, "4.3.0"), False, LATER, "4.3.0", About.RECIPIENT, False),
    (Unencrypted(TlsTrouble.NOT_OFFERED, MX), False, LATER, "4.7.4", About.HOST, True),
    (Unencrypted(TlsTrouble.REFUSED, MX, "454 no"), False, LATER, "4.7.5", About.HOST, True),
    (Unencrypted(TlsTrouble.FAILED, MX, "no shared cipher"), False, LATER, "4.7.5", About.HOST, True),
    (Unauthenticated(MX, "no such login"), False, LATER, "4.7.8", About.OURSELVES, True),
    (Unsuitable(Need.BINARY, MX), False, NEVER, "5.6.3", About.HOST, True),
    (Unsuitable(Need.REQUIRE_TLS, MX), False, NEVER, "5.7.30", About.HOST, True),
    (Unsuitable(Need.DELIVER_BY, MX), False, NEVER, "5.3.3", About.HOST, True),
    (said(P.RCPT, 552), False, LATER, "4.5.3", About.RECIPIENT, False),
    (said(P.RCPT, 552, "5.5.3"), False, LATER, "4.5.3", About.RECIPIENT, False),
    (said(P.RCPT, 552, "5.2.2"), False, NEVER, "5.2.2", About.RECIPIENT, False),
    (said(P.RCPT, 452, "4.5.3"), False, LATER, "4.5.3", About.RECIPIENT, False),
    (said(P.MAIL, 452), False, LATER, "4.3.1", About.HOST, True),
    (said(P.MAIL, 452, "4.2.2"), False, LATER, "4.2.2", About.MESSAGE, False),
    (said(P.DATA, 451, "4.3.0"), False, LATER, "4.3.0", About.HOST, True),
    (said(P.END, 451, "4.3.5"), False, LATER, "4.3.5", About.HOST, True),
    (said(P.RCPT, 451, "4.3.0"), False, LATER, "4.3.0", About.RECIPIENT, False),
    (said(P.RCPT, 450, "4.7.1"), False, LATER, "4.7.1", About.RECIPIENT, False),
    (said(P.RCPT, 450), False, LATER, "4.0.0", About.RECIPIENT, False),
    (said(P.END, 451), False, LATER, "4.0.0", About.MESSAGE, False),
    (said(P.END, 451, "4.7.1"), False, LATER, "4.7.1", About.MESSAGE, False),
    (said(P.RCPT, 550, "5.1.1"), False, NEVER, "5.1.1", About.RECIPIENT, False),
    (said(P.RCPT, 550), False, NEVER, "5.0.0", About.RECIPIENT, False),
    (said(P.MAIL, 550, "5.7.1"), False, NEVER, "5.7.1", About.MESSAGE, False),
    (said(P.DATA, 554), False, NEVER, "5.0.0", About.MESSAGE, False),
    (said(P.CONTENT, 552, "5.3.4"), False, NEVER, "5.3.4", About.MESSAGE, False),
    (said(P.END, 554, "5.6.0"), False, NEVER, "5.6.0", About.MESSAGE, False),
    (said(P.DATA, 250, "2.0.0"), False, LATER, "4.5.0", About.HOST, True),
    (Unsuitable(Need.SMTPUTF8, MX), False, NEVER, "5.6.7", About.HOST, True),
    (Unsuitable(Need.EIGHT_BIT, MX), False, NEVER, "5.6.3", About.HOST, True),
    (Unsuitable(Need.SIZE, MX), False, NEVER, "5.3.4", About.MESSAGE, False),
    (Unwritten("jon", "gone", "ENOENT", permanent=True), False, NEVER, "5.1.1", About.RECIPIENT, False),
    (Unwritten("jon", "no", "", permanent=True), False, NEVER, "5.2.0", About.RECIPIENT, False),
    (Unwritten("jon", "full", "EDQUOT"), False, LATER, "4.2.2", About.RECIPIENT, False),
    (Unwritten("jon", "full", "ENOSPC"), False, LATER, "4.3.1", About.OURSELVES, False),
    (Unwritten("jon", "gone", "ENOENT"), False, LATER, "4.2.0", About.RECIPIENT, False),
    (Unwritten("jon", "denied", "EACCES"), False, LATER, "4.2.0", About.RECIPIENT, False),
    (RefusedByPolicy(Reply.of(550, "5.7.26", "no")), False, NEVER, "5.7.26", About.RECIPIENT, False),
    (RefusedByPolicy(Reply.of(550, None, "no")), False, NEVER, "5.7.1", About.RECIPIENT, False),
    (RefusedByPolicy(Reply.of(450, "4.2.1", "later")), False, LATER, "4.2.1", About.RECIPIENT, False),
    (RefusedByPolicy(Reply.of(450, None, "later")), False, LATER, "4.7.1", About.RECIPIENT, False),
    (Misbehaved("maildir"), False, LATER, "4.3.0", About.OURSELVES, False),
]

facts = st.one_of(
    st.builds(unresolved, st.sampled_from(N)),
    st.builds(broke, st.sampled_from(P), st.sampled_from(B)),
    st.builds(said, st.sampled_from(P), st.integers(200, 599)),
    st.builds(Unencrypted, st.sampled_from(TlsTrouble), st.just(MX), st.text()),
    st.builds(Unauthenticated, st.just(MX), st.text()),
    st.builds(Unsuitable, st.sampled_from(Need), st.just(MX)),
    st.builds(
        Unwritten, st.just("jon"), st.text(), st.sampled_from(["", "EIO", "EDQUOT", "ENOSPC", "ENOENT"]), st.booleans()
    ),
    st.builds(RefusedByPolicy, st.just(Reply.of(550, None, "no"))),
    st.builds(Misbehaved, st.just("maildir")),
)


def meaning(judgement: Judgement) -> tuple[type, str, About, bool]:
    assert isinstance(judgement.outcome, Delayed | Failed)
    return type(judgement.outcome), judgement.outcome.status, judgement.about, judgement.next_host


class TroubleTests(SynchronousTestCase):
    def test_each_fact_means_what_the_table_of_this_test_says(self) -> None:
        for fact, appointed, *expected in EXPECTED:
            self.assertEqual(list(meaning(judge(fact, appointed=appointed))), expected, fact)

    def test_no_line_of_the_table_can_be_taken_out(self) -> None:
        for at, line in enumerate(TABLE):
            rest = TABLE[:at] + TABLE[at + 1 :]
            self.assertTrue(any(self.differs(rest, case) for case in EXPECTED), f"nobody would miss {line}")

    def test_no_column_of_a_line_can_be_changed(self) -> None:
        for at, line in enumerate(TABLE):
            for changed in (
                evolve(line, next_host=not line.next_host),
                evolve(line, about=next(other for other in About if other is not line.about)),
                # Where the peer's own status is what makes the line fit, the line's is never needed.
                *(() if "4.3.z" in line.what else (evolve(line, status=f"{line.fate.value}.9.9"),)),
                evolve(line, fate=next(other for other in type(line.fate) if other is not line.fate)),
            ):
                table = (*TABLE[:at], changed, *TABLE[at + 1 :])
                self.assertTrue(any(self.differs(table, case) for case in EXPECTED), f"nobody would miss {line}")

    def differs(self, table: tuple, case: tuple) -> bool:  # type: ignore[type-arg]
        fact, appointed, *expected = case
        try:
            return list(meaning(judge(fact, appointed=appointed, table=table))) != expected
        except LookupError:
            return True

    @given(facts, st.booleans())
    def test_every_fact_means_something_and_later_is_4_and_never_is_5(self, fact: Fact, appointed: bool) -> None:
        outcome = judge(fact, appointed=appointed).outcome
        assert isinstance(outcome, Delayed | Failed)
        self.assertEqual(outcome.status[0], "4" if isinstance(outcome, Delayed) else "5")
        self.assertTrue(outcome.because)
        self.assertTrue((outcome.because + outcome.diagnostic + outcome.peer).isprintable())

    @given(facts)
    def test_what_may_have_been_taken_is_not_offered_to_another_host(self, fact: Fact) -> None:
        judgement = judge(fact)
        self.assertFalse(judgement.perhaps_taken and judgement.next_host)
        self.assertEqual(judgement.perhaps_taken, isinstance(fact, Broke) and fact.phase is Phase.END)

    def test_a_copy_carried_onward_is_relayed_and_one_in_a_mailbox_is_delivered(self) -> None:
        self.assertEqual(judge(Carried(True, "mx", "250 ok")).outcome, Relayed("mx", "250 ok"))
        self.assertEqual(judge(Carried(False, "jon", "new/1")).outcome, Delivered("jon", "new/1"))

    def test_the_words_of_a_peer_are_kept_and_a_babbler_is_cut_short(self) -> None:
        reply = Reply.saying(550, "5.7.1", "words " * 2000)
        outcome = judge(Answered(reply, Phase.RCPT, MX)).outcome
        assert isinstance(outcome, Failed)
        self.assertTrue(outcome.diagnostic.startswith("550 5.7.1 words words"))
        self.assertLessEqual(len(outcome.diagnostic), 500)
        self.assertEqual(outcome.peer, "mx.example.net[192.0.2.1]:25")

    def test_what_a_failure_shows_of_our_own_machine_is_only_for_our_log(self) -> None:
        judgement = judge(Unwritten("/var/mail/jon", "Permission denied\n", "EACCES"))
        assert isinstance(judgement.outcome, Delayed)
        self.assertNotIn("/var", str(judgement.outcome))
        self.assertEqual(judgement.note, "/var/mail/jon: Permission denied?")

    def test_an_agent_that_knows_more_is_listened_to_within_its_class(self) -> None:
        for permanent, status, expected in (
            (True, "5.6.0", Failed("5.6.0", "it is wrong?")),
            (True, "4.6.0", Failed("5.2.0", "it is wrong?")),
            (False, "4.3.2", Delayed("4.3.2", "it is wrong?")),
            (False, "5.3.2", Delayed("4.2.0", "it is wrong?")),
        ):
            fact = Unwritten("fax", "text", permanent=permanent, status=status, because="it is wrong\n")
            self.assertEqual(judge(fact).outcome, expected)
        self.assertEqual(judge(Unwritten("fax", "text")).outcome, Delayed("4.2.0", "the mailbox cannot be written now"))

    def test_what_is_no_status_of_trouble_is_an_agents_mistake(self) -> None:
        for status in ("5", "2.0.0", "5.1.1 ", "5.1.1234", "550"):
            self.assertRaises(ValueError, Unwritten, "fax", "text", status=status)

    def test_what_happened_is_said_in_words(self) -> None:
        for fact, words in (
            (broke(P.CONNECT, B.REFUSED), "connection refused"),
            (broke(P.CONNECT, B.TIMEOUT), "timed out while connecting"),
            (broke(P.CONNECT, B.NO_SOCKET), "this relay could not open a connection"),
            (broke(P.GREETING, B.LOST), "connection lost at the greeting"),
            (broke(P.CONTENT, B.LOST), "connection lost while sending the content"),
            (said(P.RCPT, 550), "refused at RCPT"),
            (unresolved(N.NULL_MX), "the domain takes no mail (null MX): example.net"),
            (Unsuitable(Need.SMTPUTF8, MX), "the server does not offer SMTPUTF8, which the message needs"),
            (Unsuitable(Need.SIZE, MX), "the message is larger than the server takes"),
        ):
            outcome = judge(fact).outcome
            assert isinstance(outcome, Delayed | Failed)
            self.assertEqual(outcome.because, words)


class SeveralHostsTests(SynchronousTestCase):
    LACKS = judge(Unsuitable(Need.SMTPUTF8, MX))
    DOWN = judge(broke(P.CONNECT, B.REFUSED))
    UNKNOWN = judge(said(P.RCPT, 550, "5.1.1"))

    def test_a_copy_fails_for_what_hosts_lack_only_if_all_of_them_lack_it(self) -> None:
        self.assertIs(after_another_host(self.LACKS, self.LACKS), self.LACKS)
        self.assertIs(after_another_host(self.DOWN, self.LACKS), self.DOWN)
        self.assertIs(after_another_host(self.LACKS, self.DOWN), self.DOWN)
        self.assertIs(after_another_host(None, self.LACKS), self.LACKS)

    def test_a_host_that_knows_the_recipient_decides(self) -> None:
        self.assertIs(after_another_host(self.DOWN, self.UNKNOWN), self.UNKNOWN)
