"""What MAIL and RCPT say of a message, to whom."""

from __future__ import annotations

from itertools import product

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address
from relay.mail.dsn import Notify, Return, Wishes, decoded, is_xtext
from relay.mail.envelope import ByMode
from relay.mail.outcome import Need
from relay.smtp.course import spoken
from relay.smtp.features import Features
from relay.smtp.parameters import Terms, ascii_form, lacking, mail, plainly, rcpt, xtext
from relay.smtp.transaction import By, Transaction

ALL = ("SIZE", "8BITMIME", "DSN", "AUTH PLAIN", "REQUIRETLS", "MT-PRIORITY", "DELIVERBY", "CHUNKING", "BINARYMIME")
ONE = Transaction(None, (Address("jon", "example.net"),))


ADDRESSES = st.builds(
    Address,
    st.sampled_from(["jon", "ann", "J.D", "a b", "50%", "%s", "jörg", "a+b=c"]),
    st.sampled_from(["b", "[192.0.2.1]"]),
)
ORCPTS = st.sampled_from(["", "rfc822;a+2Bb@c", "utf-8;jörg@b"])


def terms(*offers: str, **more: bool) -> Terms:
    return Terms(Features.offered(["mx", *offers]), **more)


def said(transaction: Transaction, given: Terms) -> str:
    return mail(transaction, given)


class MailTests(SynchronousTestCase):
    def test_all_at_once(self) -> None:
        transaction = Transaction(
            Address("a", "b"),
            (Address("jon", "example.net"),),
            size=7,
            binary=True,
            returns=Return.HEADERS,
            envid="x",
            require_tls=True,
            priority=3,
            by=By(60, ByMode.RETURN, trace=True),
        )
        self.assertEqual(
            said(transaction, terms(*ALL, verified=True, assured=True, authenticated=True)),
            "MAIL FROM:<a@b> SIZE=7 BODY=BINARYMIME RET=HDRS ENVID=x AUTH=<> REQUIRETLS MT-PRIORITY=3 BY=60;RT",
        )

    def test_what_was_not_offered_is_not_said(self) -> None:
        transaction = evolve(ONE, returns=Return.FULL, envid="x", priority=3, by=By(60, ByMode.NOTIFY))
        self.assertEqual(said(transaction, terms("HELP", authenticated=True)), "MAIL FROM:<>")

    def test_a_notice_that_should_travel_in_tls_alone_asks_for_it_where_it_can(self) -> None:
        guarded = evolve(ONE, require_tls=True)
        self.assertEqual(said(guarded, terms(*ALL)), "MAIL FROM:<> REQUIRETLS")
        self.assertEqual(said(guarded, terms("DSN")), "MAIL FROM:<>")

    def test_a_server_that_looks_at_no_clock_is_asked_to_say_when_it_is_late(self) -> None:
        hurried = evolve(ONE, reverse_path=Address("a", "b"), by=By(60, ByMode.NOTIFY))
        asked = "RCPT TO:<jon@example.net>"
        for wishes, words in (
            ((), " NOTIFY=FAILURE,DELAY"),
            ((Wishes(frozenset({Notify.SUCCESS})),), " NOTIFY=SUCCESS,DELAY"),
            ((Wishes(frozenset({Notify.NEVER})),), " NOTIFY=NEVER"),
        ):
            self.assertEqual(rcpt(evolve(hurried, wishes=wishes), 0, terms("DSN")), asked + words)
        self.assertEqual(rcpt(hurried, 0, terms("DSN", "DELIVERBY")), asked)
        self.assertEqual(rcpt(hurried, 0, terms("DELIVERBY")), asked)
        self.assertEqual(rcpt(evolve(hurried, reverse_path=None), 0, terms("DSN")), asked)
        self.assertEqual(rcpt(evolve(hurried, by=By(60, ByMode.RETURN)), 0, terms("DSN")), asked)

    def test_who_delivers_is_not_asked_to_tell(self) -> None:
        transaction = evolve(ONE, returns=Return.FULL, envid="x", wishes=(Wishes(frozenset(Notify)),))
        given = terms(*ALL, lmtp=True)
        self.assertEqual(said(transaction, given), "MAIL FROM:<>")
        self.assertEqual(rcpt(transaction, 0, given), "RCPT TO:<jon@example.net>")

    def test_time_that_is_too_short_for_a_server_is_not_said_to_it(self) -> None:
        for seconds, words in ((59, ""), (60, " BY=60;N")):
            transaction = evolve(ONE, by=By(seconds, ByMode.NOTIFY))
            self.assertEqual(said(transaction, terms("DELIVERBY 60,x")), "MAIL FROM:<>" + words)

    def test_what_a_message_needs_is_found_lacking(self) -> None:
        for transaction, known, need in (
            (evolve(ONE, binary=True), terms("BINARYMIME"), Need.BINARY),
            (evolve(ONE, binary=True), terms("CHUNKING"), Need.BINARY),
            (evolve(ONE, binary=True), terms(*ALL), None),
            (evolve(ONE, require_tls=True), terms(), None),
            (evolve(ONE, by=By(60, ByMode.RETURN)), terms(), Need.DELIVER_BY),
            (evolve(ONE, by=By(60, ByMode.RETURN)), terms("DELIVERBY 61"), Need.DELIVER_BY),
            (evolve(ONE, by=By(60, ByMode.RETURN)), terms("DELIVERBY"), None),
            (evolve(ONE, by=By(0, ByMode.RETURN)), terms("DELIVERBY"), Need.DELIVER_BY),
            (evolve(ONE, by=By(-5, ByMode.NOTIFY)), terms(), None),
        ):
            self.assertIs(lacking(transaction, known), need, (transaction, known))

    def test_what_requires_tls_needs_three_things(self) -> None:
        guarded = evolve(ONE, reverse_path=Address("a", "b"), require_tls=True)
        for offers, verified, assured in product(((), ("REQUIRETLS",)), (False, True), (False, True)):
            need = None if offers and verified and assured else Need.REQUIRE_TLS
            known = terms(*offers, verified=verified, assured=assured)
            self.assertIs(lacking(guarded, known), need, known)
            self.assertIs(lacking(evolve(guarded, reverse_path=None), known), None)


class WishTests(SynchronousTestCase):
    def test_notify_and_orcpt_are_said_of_each(self) -> None:
        for wishes, words in (
            (Wishes(), ""),
            (Wishes(frozenset({Notify.NEVER})), " NOTIFY=NEVER"),
            (Wishes(frozenset({Notify.DELAY, Notify.FAILURE, Notify.SUCCESS})), " NOTIFY=SUCCESS,FAILURE,DELAY"),
            (Wishes(None, "rfc822;a+2Bb@x"), " ORCPT=rfc822;a+2Bb@x"),
            (Wishes(None, "utf-8;jörg@x"), " ORCPT=utf-8;j\\x{F6}rg@x"),
        ):
            transaction = evolve(ONE, wishes=(wishes,))
            self.assertEqual(rcpt(transaction, 0, terms("DSN")), "RCPT TO:<jon@example.net>" + words)
            self.assertEqual(rcpt(transaction, 0, terms()), "RCPT TO:<jon@example.net>")

    @given(st.text(st.characters(max_codepoint=127)))
    def test_xtext_can_be_read_again(self, text: str) -> None:
        self.assertTrue(is_xtext(xtext(text)))
        self.assertEqual(decoded(xtext(text)), text)

    @given(st.text())
    def test_what_is_made_of_utf8_is_ascii(self, text: str) -> None:
        self.assertTrue(ascii_form(text).isascii())


class PlainlyTests(SynchronousTestCase):
    @given(
        st.none() | ADDRESSES,
        ADDRESSES,
        st.sampled_from([0, 1, 1000]),
        st.booleans(),
        ORCPTS,
        st.sets(st.sampled_from([*ALL, "PIPELINING", "SIZE 999", "SMTPUTF8"])),
        st.booleans(),
        st.booleans(),
    )
    def test_in_one_piece_is_said_what_is_said_of_any_transaction_or_nothing(
        self,
        sender: Address | None,
        recipient: Address,
        size: int,
        eight_bit: bool,
        orcpt: str,
        offers: set[str],
        authenticated: bool,
        lmtp: bool,
    ) -> None:
        given = terms(*sorted(offers), authenticated=authenticated, lmtp=lmtp)
        form = given.plain_eight_bit if eight_bit else given.plain
        octets = plainly(form, given, "" if sender is None else sender.text, size, recipient.text, orcpt)
        wishes = (Wishes(None, orcpt),)
        transaction = Transaction(sender, (recipient,), size, eight_bit=eight_bit, wishes=wishes)
        ascii = recipient.ascii and (sender is None or sender.ascii) and (orcpt.isascii() or not given.wishes)
        certain = size > 0 and ascii
        self.assertEqual(bool(octets), certain and given.features.pipelining and lacking(transaction, given) is None)
        if octets:
            self.assertEqual(octets, spoken((mail(transaction, given), rcpt(transaction, 0, given), "DATA")))

    def test_what_no_command_may_have_is_not_said(self) -> None:
        given = terms("PIPELINING", "DSN")
        for odd in ("a\r\nRSET", "a\0", "a\x7f", "a\u2028"):
            self.assertEqual(plainly(given.plain, given, odd, 1, "a@b"), b"")
            self.assertEqual(plainly(given.plain, given, "a@b", 1, odd), b"")
            self.assertEqual(plainly(given.plain, given, "a@b", 1, "a@b", odd), b"")
