"""swaks with all that it knows of TLS, AUTH, XCLIENT, PROXY, PRDR and LMTP."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.interop.house import logged
from tests.interop.mails import PLAIN, trace
from tests.interop.office import USERS, OfficeTestCase, close_office
from tests.interop.peers import run

pytestmark = pytest.mark.interop
tearDownModule = close_office

TEXT: Final = PLAIN["text"]
ANN: Final = ("--auth-user", "ann", "--auth-password", USERS["ann"])
WRONG: Final = ("--auth-user", "ann", "--auth-password", "wrong")

#: How swaks ends.
DONE, GONE, NO_GREETING, NO_HELLO, MAIL_REFUSED, RCPT_REFUSED, NO_AUTH, NO_TLS, NO_XCLIENT = (
    0,
    6,
    21,
    22,
    23,
    24,
    28,
    29,
    33,
)


class SwaksTestCase(OfficeTestCase):
    def swaks(
        self, listener: str, *options: str | Path, to: str = "", status: int = DONE, sender: str = "bob@client.test"
    ) -> str:
        """A message to a recipient or several: the dialogue. `<~` is what we have said behind TLS."""
        host, port = self.host_and_port(listener)
        server = () if {"--socket"} & {*options} else ("--server", host, "--port", port)
        # It ends the content with CRLF.CRLF whatever was there before.
        message = self.written(TEXT.removesuffix(b"\r\n"))
        words = ("--helo", "client.test", "--from", sender, "--to", to or "nobody@localhost", "--data", f"@{message}")
        return run("swaks", *server, *words, *options, status=status).decode(errors="replace")

    def assertTaken(self, user: str, how: bytes, count: int = 1) -> bytes:
        """That somebody at `localhost` has got the message, by this protocol: our trace field of the last one."""
        for octets in self.in_mailbox(user, count):
            self.assertCame(octets, TEXT, how)
        return trace(octets)[-1]

    def assertSentOut(self, user: str, how: bytes = b"ESMTPSA") -> None:
        """The same of somebody at `elsewhere.test`, to whom only users may send."""
        [octets] = self.sent_out(user)
        self.assertCame(octets, TEXT, how)


class TlsTests(SwaksTestCase):
    def test_by_starttls(self) -> None:
        said = self.swaks("mx", "--tls", to="tls@localhost")
        self.assertIn("=== TLS started with cipher TLSv1.3:", said)
        self.assertIn(b"(using TLSv1.3 with cipher TLS_", self.assertTaken("tls", b"ESMTPS"))

    def test_by_starttls_and_then_in_one_segment(self) -> None:
        said = self.swaks("mx", "--tls", "--pipeline", to="tls-piped@localhost")
        self.assertRegex(said, r"\n ~> MAIL FROM:.*\n ~> RCPT TO:.*\n ~> DATA\n<~ ")
        self.assertTaken("tls-piped", b"ESMTPS")

    def test_encrypted_from_the_first_octet_on(self) -> None:
        self.swaks("submissions", "--tls-on-connect", "--auth", *ANN, to="tlsc@elsewhere.test")
        self.assertSentOut("tlsc")

    def test_where_it_is_offered_and_where_it_is_not(self) -> None:
        for option in "--tls-optional", "--tls-optional-strict":
            user = f"optional{option.count('-')}"
            self.swaks("mx", option, to=f"{user}@localhost")
            self.assertTaken(user, b"ESMTPS")
            said = self.swaks("local", option, to=f"{user}-clear@localhost")
            self.assertIn("Host did not advertise STARTTLS", said)
            self.assertTaken(f"{user}-clear", b"ESMTP")
        self.swaks("local", "--tls", status=NO_TLS)

    def test_a_certificate_that_is_verified_by_name(self) -> None:
        believing = ("--tls", "--tls-verify", "--tls-ca-path", self.authority)
        for host in "mx.test", "mail.example":
            shown = self.folder() / "shown.pem"
            self.swaks("mx", *believing, "--tls-sni", host, "--tls-get-peer-cert", shown, to=f"{host}@localhost")
            self.assertTaken(host, b"ESMTPS")
            names = run("openssl", "x509", "-in", shown, "-noout", "-ext", "subjectAltName").decode()
            self.assertIn(f"DNS:{host}", names)

    def test_a_certificate_that_is_not_believed(self) -> None:
        strangers = self.office.folder / "people.pem"
        said = self.swaks("mx", "--tls", "--tls-verify", "--tls-ca-path", strangers, status=NO_TLS)
        self.assertIn("certificate verify failed", said)

    def test_versions(self) -> None:
        for version, status in (
            ("tlsv1_2", DONE),
            ("tlsv1_3", DONE),
            ("no_tlsv1_3", DONE),
            ("tlsv1_1", NO_TLS),
            ("tlsv1", NO_TLS),
        ):
            self.swaks("mx", "--tls", "--tls-protocol", version, status=status)
        self.swaks("modern", "--tls", "--tls-protocol", "tlsv1_2", status=NO_TLS)
        self.swaks("modern", "--tls")

    def test_ciphers(self) -> None:
        for cipher, status in (("ECDHE-ECDSA-CHACHA20-POLY1305", DONE), ("AES256-SHA", NO_TLS)):
            options = ("--tls", "--tls-protocol", "tlsv1_2", "--tls-cipher", cipher)
            said = self.swaks("mx", *options, status=status)
            self.assertEqual(f"TLSv1.2:{cipher}:" in said, status == DONE)

    def test_a_certificate_of_the_clients_own(self) -> None:
        own = ("--tls-cert", self.office.folder / "ann.pem", "--tls-key", self.office.folder / "ann.pem")
        said = self.swaks("submission", "--tls", *own, "--quit-after", "EHLO")
        self.assertIn("=== TLS local DN=", said)
        self.assertIn("<~  250-AUTH EXTERNAL ", said)
        unknown = self.office.folder / "stranger.pem"
        said = self.swaks("submission", "--tls", "--tls-cert", unknown, "--tls-key", unknown, "--quit-after", "EHLO")
        self.assertNotIn("EXTERNAL", said)

    def test_nothing_in_clear_where_tls_is_required(self) -> None:
        said = self.swaks("submission", status=MAIL_REFUSED)
        self.assertRegex(said, r"(?m)^<\*\* 530 5\.7\.0 ")

    def test_a_handshake_that_somebody_breaks_off_is_no_trouble_of_ours(self) -> None:
        self.swaks("mx", "--tls", "--drop-after", "TLS", status=0)
        self.swaks("mx", "--tls", to="afterwards@localhost")
        self.assertTaken("afterwards", b"ESMTPS")


class AuthTests(SwaksTestCase):
    def test_plain_and_login(self) -> None:
        for mechanism in "PLAIN", "LOGIN":
            said = self.swaks("submission", "--tls", "--auth", mechanism, *ANN, to=f"{mechanism}@elsewhere.test")
            self.assertIn(f" ~> AUTH {mechanism}", said)
            self.assertRegex(said, r"(?m)^<~  235 2\.7\.0 ")
            self.assertSentOut(mechanism.lower())

    def test_whatever_the_two_have_in_common(self) -> None:
        self.swaks("submission", "--tls", "--auth", *ANN, to="any@elsewhere.test")
        self.assertSentOut("any")

    def test_a_name_and_a_password_in_utf_8(self) -> None:
        options = ("--auth", "PLAIN", "--auth-user", "jürgen", "--auth-password", USERS["jürgen"])
        self.swaks("submission", "--tls", *options, to="utf8@elsewhere.test")
        self.assertSentOut("utf8")
        logged(self.office, lambda event: event["event"] == "authenticated" and event["user"] == "jürgen")

    def test_a_mechanism_by_another_name(self) -> None:
        options = ("--auth-map", "SECRET=PLAIN", "--auth", "SECRET,PLAIN")
        self.swaks("submission", "--tls", *options, *ANN, to="mapped@elsewhere.test")
        self.assertSentOut("mapped")

    def test_a_wrong_password_an_unknown_user_and_none_at_all(self) -> None:
        for user, password in (("ann", "wrong"), ("nobody", USERS["ann"]), ("ANN", USERS["ann"]), ("ann", "<>")):
            options = ("--auth-user", user, "--auth-password", password)
            for mechanism in "PLAIN", "LOGIN":
                said = self.swaks("submission", "--tls", "--auth", mechanism, *options, status=NO_AUTH)
                self.assertRegex(said, r"(?m)^<~\* 535 5\.7\.8 ")

    def test_three_wrong_ones_end_the_session(self) -> None:
        said = self.swaks("submission", "--tls", "--auth", "PLAIN,LOGIN,PLAIN,LOGIN", *WRONG, status=GONE)
        self.assertEqual(re.findall(r"(?m)^<~\* (\d{3})", said), ["535", "535", "421"])

    def test_mechanisms_that_we_do_not_have(self) -> None:
        said = self.swaks("submission", "--tls", "--auth", "CRAM-MD5", *ANN, status=NO_AUTH)
        self.assertIn("Auth not attempted, requested type not available", said)

    def test_none_is_offered_in_clear(self) -> None:
        for listener in "submission", "mx", "local":
            said = self.swaks(listener, "--auth", *ANN, status=NO_AUTH)
            self.assertIn("Host did not advertise authentication", said)

    def test_where_it_may_be_left_out(self) -> None:
        for option in "--auth-optional", "--auth-optional-strict":
            user = f"may{option.count('-')}"
            self.swaks("mx", option, *ANN, to=f"{user}@localhost")
            self.assertTaken(user, b"ESMTP")
            self.swaks("mx", "--tls", option, "PLAIN", *ANN, to=f"{user}@elsewhere.test")
            self.assertSentOut(user)

    def test_who_goes_on_after_a_wrong_password_is_nobody(self) -> None:
        said = self.swaks("submission", "--tls", "--auth-optional", "PLAIN", *WRONG, status=MAIL_REFUSED)
        self.assertRegex(said, r"(?m)^<~\* 530 5\.7\.0 ")
        self.swaks("mx", "--tls", "--auth-optional", "PLAIN", *WRONG, to="x@elsewhere.test", status=RCPT_REFUSED)
        self.swaks("submission", "--tls", "--auth-optional-strict", "PLAIN", *WRONG, status=NO_AUTH)

    def test_how_passwords_are_shown_changes_nothing(self) -> None:
        said = self.swaks("submission", "--tls", "--auth", "PLAIN", *ANN, "--auth-plaintext", to="shown@elsewhere.test")
        self.assertIn(rf" ~> AUTH PLAIN \0ann\0{USERS['ann']}", said)
        self.swaks("submission", "--tls", "--auth", "PLAIN", *ANN, "--auth-hide-password", to="shown@elsewhere.test")
        self.sent_out("shown", 2)

    def test_all_of_them_on_a_listener_for_everybody(self) -> None:
        said = self.swaks("mx", "--tls", "--auth", *ANN, "--pipeline", to="mx-user@elsewhere.test")
        self.assertNotIn("relaying denied", said)
        self.assertSentOut("mx-user")

    def test_nothing_of_a_password_is_in_the_log(self) -> None:
        self.swaks("submission", "--tls", "--auth", "PLAIN", *ANN, to="quiet@elsewhere.test")
        self.assertSentOut("quiet")
        self.assertNotIn(USERS["ann"], self.office.output.text())
        self.assertNotIn("AGFubgBjb3JyZWN0", self.office.output.text())


class ProtocolTests(SwaksTestCase):
    """Whatever `--protocol` calls it, the trace field calls it by its name (RFC 3848)."""

    def test_protocols_of_smtp(self) -> None:
        for protocol, listener, how in (
            ("SMTP", "mx", b"SMTP"),
            ("ESMTP", "mx", b"ESMTP"),
            ("ESMTPS", "mx", b"ESMTPS"),
            ("ESMTPSA", "mx", b"ESMTPSA"),
            ("ESMTPSA", "submission", b"ESMTPSA"),
            ("SSMTP", "submissions", None),
            ("SSMTPA", "submissions", b"ESMTPSA"),
        ):
            user = f"{protocol}-{listener}".lower()
            options = ANN if protocol.endswith("A") else ()
            status = DONE if how else MAIL_REFUSED
            self.swaks(listener, "--protocol", protocol, *options, to=f"{user}@localhost", status=status)
            if how is not None:
                self.assertTaken(user, how)

    def test_helo_behind_tls_is_recorded_as_encrypted(self) -> None:
        self.swaks("mx", "--protocol", "SMTPS", "--tls-on-connect", status=NO_TLS)  # the listener wants STARTTLS first
        self.swaks(
            "submissions", "--protocol", "SMTPS", status=MAIL_REFUSED
        )  # and this one a user, whom HELO cannot have

    def test_protocols_of_lmtp(self) -> None:
        for protocol, how in (("LMTP", b"LMTP"), ("LMTPS", b"LMTPS"), ("LMTPSA", b"LMTPSA")):
            options = ANN if protocol.endswith("A") else ()
            users = [f"{protocol.lower()}-{number}" for number in range(3)]
            to = ",".join(f"{user}@localhost" for user in users)
            for more in (), ("--pipeline",):
                said = self.swaks("lmtp", "--protocol", protocol, *options, *more, to=to)
                self.assertEqual(len(re.findall(r"(?m)^<.  250 2\.0\.0 Ok: queued", said)), 3)
            for user in users:
                self.assertTaken(user, how, 2)

    def test_lmtp_on_a_unix_socket(self) -> None:
        socket = ("--socket", self.office.folder / "lmtp.sock")
        said = self.swaks(
            "lmtp", *socket, "--protocol", "LMTP", to="unix-1@localhost,unix-2@localhost,x@elsewhere.test"
        )
        self.assertRegex(said, r"(?m)^<\*\* 550 5\.7\.1 ")
        for user in "unix-1", "unix-2":
            self.assertTaken(user, b"LMTP")

    def test_whoever_speaks_the_other_protocol_is_told_so(self) -> None:
        said = self.swaks("mx", "--protocol", "LMTP", status=NO_HELLO)
        self.assertRegex(said, r"(?m)^<\*\* 50\d 5\.5\.\d ")
        said = self.swaks("lmtp", "--protocol", "ESMTP", status=NO_HELLO)
        self.assertRegex(said, r"(?m)^<\*\* 50\d 5\.5\.\d ")


class PrdrTests(SwaksTestCase):
    def test_a_message_with_a_reply_for_each_recipient(self) -> None:
        for options in (), ("--pipeline",), ("--tls",):
            users = [f"prdr-{len(options)}{''.join(options)}-{number}" for number in range(3)]
            said = self.swaks("mx", "--prdr", *options, to=",".join(f"{user}@localhost" for user in users))
            self.assertRegex(said, r"> MAIL FROM:<bob@client\.test> PRDR\n")
            for user in users:
                self.assertTaken(user, b"ESMTPS" if "--tls" in options else b"ESMTP")


class XclientTests(SwaksTestCase):
    """From a network that may speak for its clients."""

    def taken(self, user: str, *options: str) -> str:
        """The client that the trace field names."""
        how = b"ESMTPS" if "--tls" in options else b"ESMTP"
        self.swaks("mx", *options, to=f"{user}@localhost")
        found = re.match(rb"Received: from (\S+ \(\S+\)) ", self.assertTaken(user, how))
        assert found is not None
        return found[1].decode()

    def test_an_address(self) -> None:
        self.assertEqual(self.taken("xclient", "--xclient-addr", "192.0.2.7"), "client.test ([192.0.2.7])")
        [accepted] = logged(
            self.office, lambda event: "xclient@localhost" in str(event) and event["event"] == "accepted"
        )
        self.assertEqual(accepted["client"], "192.0.2.7")

    def test_an_address_of_ipv6(self) -> None:
        words = ("--xclient-addr", "IPv6:2001:db8::7", "--xclient-name", "far.test", "--xclient-port", "1234")
        self.assertEqual(self.taken("xclient6", *words), "client.test ([IPv6:2001:db8::7])")

    def test_all_attributes_in_one_command(self) -> None:
        who = ("--xclient-addr", "192.0.2.7", "--xclient-name", "[UNAVAILABLE]")
        words = (*who, "--xclient-helo", "far.test", "--xclient-proto", "ESMTP")
        self.assertEqual(self.taken("xclient-all", *words), "client.test ([192.0.2.7])")

    def test_who_was_introduced_introduces_nobody(self) -> None:
        words = ("--xclient-addr", "192.0.2.7", "--xclient-delim", "--xclient-helo", "far.test")
        said = self.swaks("mx", *words, status=NO_XCLIENT)
        self.assertRegex(said, r"(?m)^<\*\* 550 5\.7\.\d ")

    def test_behind_starttls_and_not_before_it(self) -> None:
        words = ("--tls", "--xclient-addr", "192.0.2.7")
        self.assertEqual(self.taken("xclient-tls", *words), "client.test ([192.0.2.7])")
        # The handshake would be its host's, and not that of the client that was introduced.
        self.swaks("mx", *words, "--xclient-before-starttls", status=NO_TLS)

    def test_a_user_whom_the_host_vouches_for(self) -> None:
        self.swaks("mx", "--xclient", "ADDR=192.0.2.7 LOGIN=ann", to="vouched@elsewhere.test")
        [octets] = self.sent_out("vouched")
        self.assertIn(b"([192.0.2.7])", trace(octets)[-1])

    def test_what_makes_no_sense_is_refused(self) -> None:
        for words in ("ADDR=nowhere", "PORT=1234567", "ADDR=192.0.2.7 ADDR=192.0.2.8", "OLDNAME=x"):
            said = self.swaks("mx", "--xclient", words, "--xclient-no-verify", status=NO_XCLIENT)
            self.assertRegex(said, r"(?m)^<\*\* 501 5\.5\.4 ")

    def test_where_nobody_may_it_is_not_offered(self) -> None:
        words = ("--xclient-addr", "192.0.2.7")
        self.assertIn("Host did not advertise XCLIENT", self.swaks("local", *words, status=NO_XCLIENT))
        self.swaks("local", *words, "--xclient-optional-strict", to="not-xclient@localhost")
        self.assertIn(b"([127.0.0.1])", self.assertTaken("not-xclient", b"ESMTP"))


class ProxyTests(SwaksTestCase):
    """Behind a proxy that introduces its clients."""

    def test_each_version_and_both_families_with_tls_behind_it(self) -> None:
        for version, family, source in (
            ("1", "TCP4", "192.0.2.8"),
            ("1", "TCP6", "2001:db8::8"),
            ("2", "AF_INET", "192.0.2.8"),
            ("2", "AF_INET6", "2001:db8::8"),
        ):
            shown = f"IPv6:{source}" if ":" in source else source
            for more, how in (((), b"ESMTP"), (("--tls",), b"ESMTPS")):
                user = f"proxied-{family.lower()}-{how.decode().lower()}"
                words = ("--proxy-version", version, "--proxy-family", family, "--proxy-source", source)
                ports = ("--proxy-source-port", "4321", "--proxy-dest", source, "--proxy-dest-port", "25")
                said = self.swaks("proxied", *words, *ports, *more, to=f"{user}@localhost")
                self.assertIn(f"Hello client.test [{source}]", said)
                self.assertIn(f"([{shown}])".encode(), self.assertTaken(user, how))

    def test_who_introduces_nobody_is_cut_off_without_a_word(self) -> None:
        said = self.swaks("proxied", "--proxy", "NONSENSE", status=GONE)
        self.assertNotIn("220", said.partition("NONSENSE")[2])
