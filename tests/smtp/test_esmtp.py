"""The values of the parameters of MAIL and RCPT, as their RFCs have them."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from relay.mail.dsn import Notify, Return
from relay.mail.envelope import Body, ByMode
from relay.mail.reply import Reply
from relay.smtp import esmtp
from relay.smtp.esmtp import Reader
from relay.smtp.events import By


class ReaderCase(SynchronousTestCase):
    def takes(self, reader: Reader, *values: str | None) -> list[Any]:
        """The one argument that each of these is read as."""
        taken = []
        for value in values:
            read = reader(value)
            assert not isinstance(read, Reply), f"{value!r}: {read}"
            taken += list(read.values()) or [None]
        return taken

    def refuses(self, reader: Reader, *values: str | None, code: int = 501) -> None:
        for value in values:
            read = reader(value)
            assert isinstance(read, Reply), f"{value!r} was taken"
            self.assertEqual((read.code, read.status), (code, "5.5.4"), value)


class MailTests(ReaderCase):
    def test_size_is_up_to_twenty_digits(self) -> None:
        self.assertEqual(self.takes(esmtp.size, "0", "1" * 20), [0, int("1" * 20)])
        self.refuses(esmtp.size, None, "1" * 21, "-1", "+1", "1_0", "\u0663", "0x1", "1.0")

    def test_body(self) -> None:
        self.assertEqual(self.takes(esmtp.body, "7bit", "8BITMIME"), [Body.SEVEN_BIT, Body.EIGHT_BIT])
        self.refuses(esmtp.body, None, "9BIT")
        self.refuses(esmtp.body, "BINARYMIME", code=504)
        self.assertEqual(
            self.takes(esmtp.body_or_binary, "binarymime", "8BITMIME", "7BIT"),
            [Body.BINARY, Body.EIGHT_BIT, Body.SEVEN_BIT],
        )
        self.refuses(esmtp.body_or_binary, None, "BINARY")

    def test_what_has_no_value_takes_none(self) -> None:
        for reader in (esmtp.smtputf8, esmtp.requiretls, esmtp.prdr):
            self.assertEqual(self.takes(reader, None), [True])
            self.refuses(reader, "yes", "1")

    def test_ret(self) -> None:
        self.assertEqual(self.takes(esmtp.ret, "FULL", "hdrs"), [Return.FULL, Return.HEADERS])
        self.refuses(esmtp.ret, None, "HEADERS", "FULL,HDRS")

    def test_envid_is_xtext_of_printable_ascii_and_kept_as_it_came(self) -> None:
        self.assertEqual(self.takes(esmtp.envid, "QQ+2B314159", "x" * 100), ["QQ+2B314159", "x" * 100])
        self.refuses(esmtp.envid, None, "x" * 101, "a b", "a+0A", "+7F", "+C3+B6", "a+2b", "a+", "\u00f6")

    def test_by_has_seconds_to_come_where_the_message_would_be_returned(self) -> None:
        self.assertEqual(
            self.takes(esmtp.by, "60;R", "60;rt", "-60;N", "0;N", "+999999999;NT"),
            [
                By(60, ByMode.RETURN),
                By(60, ByMode.RETURN, True),
                By(-60, ByMode.NOTIFY),
                By(0, ByMode.NOTIFY),
                By(999999999, ByMode.NOTIFY, True),
            ],
        )
        self.refuses(esmtp.by, None, "0;R", "-1;R", "60", "60;", "60;T", "60;RN", "1000000000;R", "6 0;R", "60;R;T")

    def test_priority_is_from_minus_nine_to_nine(self) -> None:
        self.assertEqual(self.takes(esmtp.priority, "-9", "0", "9"), [-9, 0, 9])
        self.refuses(esmtp.priority, None, "10", "-10", "-0", "+1", "00", "x", "\u0661")

    def test_hold_for(self) -> None:
        self.assertEqual(self.takes(esmtp.hold_for, "1", "999999999"), [1, 999999999])
        self.refuses(esmtp.hold_for, None, "0", "1000000000", "-1", "1.5")

    def test_hold_until_is_a_time_that_there_is(self) -> None:
        self.assertEqual(
            self.takes(esmtp.hold_until, "2030-01-31T12:00:00Z", "2030-01-31t13:00:00+01:00"), [1896091200.0] * 2
        )
        self.refuses(
            esmtp.hold_until,
            *(None, "2030-01-31", "2030-02-31T12:00:00Z", "2030-01-31T12:00:00", "2030-01-31T25:00:00Z"),
            *("0000-01-01T00:00:00Z", "2030-01-31 12:00:00Z", "2030-01-31T12:00:00+0100"),
        )

    def test_auth_is_nobody_or_an_address_and_means_nothing(self) -> None:
        self.assertEqual(self.takes(esmtp.auth, "<>", "e+3Dmc2@example.com", "ann", "<a@b>"), [None] * 4)
        self.refuses(esmtp.auth, None, "", "a+0A@b.test", "a+2@b.test")


class RcptTests(ReaderCase):
    def test_notify_is_never_or_each_word_once(self) -> None:
        [never, all_of_them] = self.takes(esmtp.notify, "never", "SUCCESS,failure,Delay")
        self.assertEqual(never, {Notify.NEVER})
        self.assertEqual(all_of_them, {Notify.SUCCESS, Notify.FAILURE, Notify.DELAY})
        self.refuses(esmtp.notify, None, "", "NEVER,SUCCESS", "NEVER,NEVER", "DELAY,DELAY", "SUCCESS,", "SUCCESS DELAY")

    def test_orcpt_is_a_type_and_xtext_and_kept_as_it_came(self) -> None:
        for value in ("rfc822;bob@far.test", "X-400;a+2Bb", "utf-8;j\u00f6rg@far.test", "rfc822;" + "x" * 493):
            self.assertEqual(self.takes(esmtp.orcpt, value), [value])
        self.refuses(
            esmtp.orcpt,
            *(
                None,
                "bob@far.test",
                "rfc822;",
                ";x",
                "r c;x",
                "rfc822;a b",
                "rfc822;a+0A",
                "rfc822;\u00f6",
                "rfc822;+7F",
            ),
            *("rfc822;" + "x" * 494, "utf-8;a+20b", "utf-8;a b", "utf-8;", "rf(c;x"),
        )
