"""`openssl s_client`: certificates, versions and sessions, and mail that somebody types through it."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Final

import pytest

from tests.interop.mails import trace, without_trace
from tests.interop.office import OfficeTestCase, close_office, write_certificate
from tests.interop.peers import run
from tests.interop.typist import Typist

pytestmark = pytest.mark.interop
tearDownModule = close_office

#: Old versions of TLS need weak digests, which today's OpenSSL would not offer itself.
ANYTHING: Final = ("-cipher", "DEFAULT@SECLEVEL=0")

TYPED: Final = b"Subject: typed\r\n\r\nHi!\r\n.\r\nbye\r\n"


class SClientTestCase(OfficeTestCase):
    def words(self, listener: str, *options: str | Path) -> tuple[str | Path, ...]:
        """A command that believes in our authority and in nobody else."""
        connect = ("s_client", "-connect", ":".join(self.host_and_port(listener)))
        starttls = () if listener == "submissions" else ("-starttls", "smtp")
        return ("openssl", *connect, *starttls, "-CAfile", self.authority, "-verify_return_error", "-crlf", *options)

    def seen(self, listener: str, *options: str | Path, status: int | None = 0) -> str:
        """Connect, say QUIT, wait until the other side has closed: what it has told about the connection."""
        return run(*self.words(listener, *options, "-ign_eof"), stdin=b"quit\n", status=status).decode(errors="replace")

    def typist(self, listener: str, *options: str | Path) -> Typist:
        person = Typist(*self.words(listener, "-brief", *options))
        self.addCleanup(person.__exit__, None, None, None)
        person.reads("^Verification: OK")
        return person


class TypedTests(SClientTestCase):
    """A capital R at the start of a line would make s_client renegotiate, so people type small letters."""

    def converse(self, person: Typist, to: str) -> None:
        for line, answer in (
            (f"mail from:<bob@client.test> body=8bitmime size={len(TYPED)}", r"^250 2\.1\.0 "),
            (f"rcpt to:<{to}>", r"^250 2\.1\.5 "),
            ("data", r"^354 "),
        ):
            person.types(line).reads(answer)
        for line in ("Subject: typed", "", "Hi!", "..", "bye"):
            person.types(line)
        person.types(".").reads(r"^250 2\.0\.0 Ok: queued as \S+")
        person.types("quit").reads(r"^221 ")
        self.assertEqual(person.waits(), 0)

    def test_a_message_behind_starttls_to_the_host_that_was_asked_for(self) -> None:
        for version, protocol in ((), "TLSv1.3"), (("-tls1_2",), "TLSv1.2"):
            person = self.typist("mx", "-servername", "mail.example", "-verify_hostname", "mail.example", *version)
            person.reads(r"^Verified peername: mail\.example")
            self.assertIn(f"Protocol version: {protocol}", person.screen)
            person.types("ehlo client.test").reads(r"^250 HELP")
            self.assertNotIn("STARTTLS", person.screen.partition("250-mx.test")[2])
            user = f"typed-{protocol[-1]}"
            self.converse(person, f"{user}@localhost")
            [octets] = self.in_mailbox(user)
            self.assertCame(octets, TYPED, b"ESMTPS")
            self.assertIn(f"(using {protocol} with cipher ".encode(), trace(octets)[-1])

    def test_a_message_where_tls_is_from_the_first_octet_on(self) -> None:
        person = self.typist("submissions", "-servername", "mx.test", "-verify_hostname", "mx.test")
        person.reads(r"^220 mx\.test ESMTP relay")
        person.types("ehlo client.test").reads(r"^250 HELP")
        person.types("auth login").reads(r"^334 VXNlcm5hbWU6")
        person.types("YW5u").reads(r"^334 UGFzc3dvcmQ6")
        person.types("Y29ycmVjdCBob3JzZQ==").reads(r"^235 2\.7\.0 ")
        self.converse(person, "typed-implicit@elsewhere.test")
        [octets] = self.sent_out("typed-implicit")
        self.assertIn(b" with ESMTPSA id ", trace(octets)[-1])
        # It had neither, and RFC 6409 section 8 lets us help it.
        self.assertRegex(without_trace(octets), rb"(?m)^Date: ")
        self.assertRegex(without_trace(octets), rb"(?m)^Message-ID: <\S+@mx\.test>\r$")

    def test_who_shows_a_certificate_is_the_user_that_it_stands_for(self) -> None:
        person = self.typist("submission", "-cert", self.office.folder / "ann.pem")
        person.types("ehlo client.test").reads(r"^250-AUTH EXTERNAL ")
        person.types("auth external =").reads(r"^235 2\.7\.0 ")
        self.converse(person, "by-certificate@elsewhere.test")
        [octets] = self.sent_out("by-certificate")
        self.assertIn(b" with ESMTPSA id ", trace(octets)[-1])

    def test_who_shows_one_that_we_do_not_believe_is_nobody_in_particular(self) -> None:
        person = self.typist("submission", "-cert", self.office.folder / "stranger.pem")
        person.types("ehlo client.test").reads(r"^250-AUTH SCRAM")
        person.types("auth external =").reads(r"^504 5\.5\.4 ")
        person.types("mail from:<ann@client.test>").reads(r"^530 5\.7\.0 ")
        person.types("quit").reads(r"^221 ")


class CertificateTests(SClientTestCase):
    def test_who_names_a_host_sees_its_certificate_and_who_names_none_the_first(self) -> None:
        for listener in "mx", "submissions":
            for asked, shown in (
                (("-servername", "mail.example"), "mail.example"),
                (("-servername", "mx.test"), "mx.test"),
                (("-servername", "nobody.example"), "mx.test"),
                (("-noservername",), "mx.test"),
            ):
                said = self.seen(listener, *asked, "-verify_hostname", shown, "-brief")
                self.assertIn("Verification: OK", said)
                self.assertIn(f"Verified peername: {shown}", said)

    def test_another_host_than_the_one_that_was_meant_is_noticed(self) -> None:
        said = self.seen("mx", "-servername", "mx.test", "-verify_hostname", "mail.example", "-brief", status=1)
        self.assertRegex(said, "(?i)hostname mismatch")

    def test_the_whole_chain_is_shown_and_no_more(self) -> None:
        for host, length in (("mx.test", 1), ("mail.example", 2)):  # without the authority that everybody has
            shown = self.seen("mx", "-servername", host, "-showcerts")
            self.assertEqual(shown.count("BEGIN CERTIFICATE"), length)

    def test_clients_are_asked_for_a_certificate_only_where_one_is_wanted(self) -> None:
        self.assertIn("No client certificate CA names sent", self.seen("mx"))
        self.assertIn("People of the tests", self.seen("submission"))


class VersionTests(SClientTestCase):
    def test_tls_1_2_and_1_3_are_spoken(self) -> None:
        for listener in "mx", "submission", "submissions":
            self.assertIn("Protocol version: TLSv1.2", self.seen(listener, "-brief", "-tls1_2"))
            self.assertIn("Protocol version: TLSv1.3", self.seen(listener, "-brief", "-tls1_3"))

    def test_older_versions_are_refused(self) -> None:
        for version in "-tls1", "-tls1_1":
            said = self.seen("mx", version, *ANYTHING, status=1)
            self.assertIn("alert protocol version", said)

    def test_a_listener_may_want_tls_1_3(self) -> None:
        self.assertIn("alert protocol version", self.seen("modern", "-tls1_2", status=1))
        self.assertIn("Protocol version: TLSv1.3", self.seen("modern", "-brief"))

    def test_a_cipher_without_forward_secrecy_is_refused(self) -> None:
        for cipher in "AES128-GCM-SHA256", "AES256-SHA", "NULL-SHA256":
            said = self.seen("mx", "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0", status=1)
            self.assertIn("alert handshake failure", said)

    def test_nobody_renegotiates(self) -> None:
        with Typist(*self.words("mx", "-tls1_2")) as person:
            person.reads(r"(?m)^250 HELP")
            self.assertIn("Secure Renegotiation IS supported", person.screen)
            person.types("R").reads("RENEGOTIATING")
            person.reads("no renegotiation")


class SessionTests(SClientTestCase):
    """What clients that come back keep of a connection."""

    def states(self, listener: str, *options: str | Path) -> list[str]:
        return re.findall(r"(?m)^(New|Reused), TLSv1\.\d, ", self.seen(listener, *options))

    def test_by_tls_1_2_a_client_comes_back_with_its_ticket(self) -> None:
        for listener in "mx", "submissions":
            self.assertEqual(self.states(listener, "-tls1_2", "-reconnect"), ["New", *["Reused"] * 5])

    def test_by_tls_1_3_too(self) -> None:
        for listener in "mx", "submissions":
            ticket = self.folder() / "ticket"
            self.assertEqual(self.states(listener, "-sess_out", ticket), ["New"])
            self.assertEqual(self.states(listener, "-sess_in", ticket), ["Reused"])

    def test_a_session_of_one_listener_is_worth_nothing_at_another(self) -> None:
        ticket = self.folder() / "ticket"
        self.states("mx", "-sess_out", ticket)
        self.assertEqual(self.states("submissions", "-sess_in", ticket), ["New"])

    def test_where_certificates_of_clients_are_wanted_none_is_resumed(self) -> None:
        ticket = self.folder() / "ticket"
        self.states("submission", "-sess_out", ticket)
        self.assertEqual(self.states("submission", *(("-sess_in", ticket) if ticket.exists() else ())), ["New"])
        self.assertEqual(self.states("submission", "-tls1_2", "-reconnect"), ["New"] * 6)


class ChangingTests(SClientTestCase):
    """A relay of its own, whose certificates change."""

    def test_a_new_certificate_is_shown_without_a_restart(self) -> None:
        self.assertIn("Verified peername: mail.example", self.shown())
        write_certificate(self.office.folder / "servers/c.pem", "new.example")
        self.office.send_signal(signal.SIGHUP)
        self.office.wait_for("The certificates have changed and are in use now")
        said = self.seen("mx", "-servername", "new.example", "-verify_hostname", "new.example", "-brief")
        self.assertIn("Verified peername: new.example", said)

    def shown(self) -> str:
        return self.seen("mx", "-servername", "mail.example", "-verify_hostname", "mail.example", "-brief")
