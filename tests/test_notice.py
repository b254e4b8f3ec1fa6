from __future__ import annotations

import email
import email.policy
import quopri
from email.message import EmailMessage

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address
from relay.mail.notice import Action, Notice, Quoted, Told, advice, compose

ELVIS = Told(
    Address("elvis", "example.net"),
    Action.FAILED,
    "5.1.1",
    "refused at RCPT",
    "550 5.1.1 <elvis@example.net>: user unknown",
    "mx.example.net[192.0.2.1]:25",
    last_attempt=1_700_000_100.0,
)
HEADER = b"Received: from a\r\n\tby b\r\nSubject: hello\r\nMessage-ID: <1@example.org>\r\n"
NOTICE = Notice(
    hostname="mx1.example.org",
    to=Address("jon", "example.org"),
    told=(ELVIS,),
    quoted=Quoted(HEADER),
    about="4QRT5",
    arrived=1_700_000_000.0,
    when=1_700_000_200.0,
    id="notice.4QRT5.0",
    in_reply_to="<1@example.org>",
)
ZOE = Address("zoë", "example.net")


def read(octets: bytes) -> EmailMessage:
    message = email.message_from_bytes(octets, policy=email.policy.SMTPUTF8)
    assert isinstance(message, EmailMessage)
    return message


def parts(octets: bytes) -> list[EmailMessage]:
    return list(read(octets).iter_parts())  # type: ignore[arg-type]


def raw_parts(octets: bytes) -> list[bytes]:
    """The parts as they stand, cut by the boundary alone, whatever a parser would make of them."""
    boundary = read(octets).get_boundary()
    assert boundary is not None
    return octets.split(b"\r\n--" + boundary.encode())[1:-1]


def status_of(octets: bytes) -> list[dict[str, str]]:
    """The groups of fields in the part for programs, unfolded."""
    body = raw_parts(octets)[1].partition(b"\r\n\r\n")[2].replace(b"\r\n\t", b" ")
    groups = body.decode().strip("\r\n").split("\r\n\r\n")
    return [dict(line.split(": ", 1) for line in group.split("\r\n")) for group in groups]  # type: ignore[misc]


def people_read(octets: bytes) -> str:
    return " ".join(str(parts(octets)[0].get_content()).split())


class NoticeTests(SynchronousTestCase):
    def test_its_header_says_what_it_is_and_that_no_program_should_answer(self) -> None:
        notice = read(compose(NOTICE))
        self.assertEqual(notice["From"], "Mail delivery <MAILER-DAEMON@mx1.example.org>")
        self.assertEqual(notice["To"], "jon@example.org")
        self.assertEqual(notice["Subject"], "Your message could not be delivered")
        self.assertEqual(notice["Date"], "Tue, 14 Nov 2023 22:16:40 +0000")
        self.assertEqual(notice["Message-ID"], "<notice.4QRT5.0@mx1.example.org>")
        self.assertEqual(notice["In-Reply-To"], "<1@example.org>")
        self.assertEqual(notice["References"], "<1@example.org>")
        self.assertEqual(notice["Auto-Submitted"], "auto-replied")
        self.assertEqual(notice.get_content_type(), "multipart/report")
        self.assertEqual(notice.get_param("report-type"), "delivery-status")
        self.assertEqual(
            [part.get_content_type() for part in parts(compose(NOTICE))],
            ["text/plain", "message/delivery-status", "text/rfc822-headers"],
        )

    def test_programs_learn_who_failed_and_why(self) -> None:
        self.assertEqual(
            status_of(compose(NOTICE)),
            [
                {
                    "Reporting-MTA": "dns; mx1.example.org",
                    "Arrival-Date": "Tue, 14 Nov 2023 22:13:20 +0000",
                    "X-Relay-Queue-Id": "4QRT5",
                },
                {
                    "Final-Recipient": "rfc822; elvis@example.net",
                    "Action": "failed",
                    "Status": "5.1.1",
                    "Remote-MTA": "dns; mx.example.net",
                    "Diagnostic-Code": "smtp; 550 5.1.1 <elvis@example.net>: user unknown",
                    "Last-Attempt-Date": "Tue, 14 Nov 2023 22:15:00 +0000",
                },
            ],
        )

    def test_the_standard_library_reads_the_same_fields(self) -> None:
        blocks = parts(compose(NOTICE))[1].get_payload()
        assert isinstance(blocks, list)
        self.assertEqual([str(block["Final-Recipient"]) for block in blocks[1:2]], ["rfc822; elvis@example.net"])

    def test_people_learn_what_happened_and_what_they_can_do(self) -> None:
        text = people_read(compose(NOTICE))
        for words in (
            "could not be delivered",
            "elvis@example.net",
            "Refused at RCPT.",
            "The other server was mx.example.net[192.0.2.1]:25.",
            "It said: 550 5.1.1 <elvis@example.net>: user unknown",
            "look for a typing mistake",
            "id 4QRT5",
            "Its header is attached, its text is not.",
        ):
            self.assertIn(words, text)

    def test_what_we_have_refused_ourselves_is_not_said_to_be_anybody_elses_word(self) -> None:
        ours = evolve(ELVIS, peer="", status="5.0.0", because="refused by policy", diagnostic="550 5.0.0 We gave it up")
        text = people_read(compose(evolve(NOTICE, told=(ours,))))
        self.assertIn("This relay said: 550 5.0.0 We gave it up Please ask the postmaster of this relay.", text)
        self.assertNotIn("the recipient's domain", text)

    def test_one_notice_names_all_that_failed(self) -> None:
        full = Told(Address("ann", "example.net"), Action.FAILED, "4.2.2", "gave up after 5 days: the mailbox is full")
        octets = compose(evolve(NOTICE, told=(ELVIS, full)))
        self.assertEqual([group["Status"] for group in status_of(octets)[1:]], ["5.1.1", "4.2.2"])
        self.assertIn("ann@example.net Gave up after 5 days: the mailbox is full.", people_read(octets))
        self.assertIn("The mailbox is full. Please tell", people_read(octets))

    def test_the_header_of_the_message_is_returned_octet_for_octet(self) -> None:
        self.assertIn(b"\r\n\r\n" + HEADER + b"\r\n--", compose(NOTICE))

    def test_without_anything_to_return_there_is_no_third_part(self) -> None:
        octets = compose(evolve(NOTICE, quoted=Quoted()))
        self.assertEqual(len(parts(octets)), 2)
        self.assertNotIn("attached", people_read(octets))

    def test_a_whole_message_is_returned_if_its_octets_pass_as_they_are(self) -> None:
        octets = compose(evolve(NOTICE, quoted=Quoted(HEADER + b"\r\nDear Elvis\r\n", whole=True)))
        self.assertIn(b"Content-Type: message/rfc822\r\n", octets)
        self.assertIn(HEADER + b"\r\nDear Elvis\r\n\r\n--", octets)
        self.assertIn("The message itself is attached.", people_read(octets))

    def test_a_message_with_octets_that_have_to_be_encoded_is_returned_in_the_kind_that_may_be(self) -> None:
        for body in (b"Dear \xff\r\n", b"a\nb\rc\0=\r\n", b"y" * 5000 + b" \r\n", b"\xff"):
            message = HEADER + b"\r\n" + body
            octets = compose(evolve(NOTICE, quoted=Quoted(message, whole=True)))
            self.assertTrue(octets.isascii())
            _, _, rest = octets.partition(
                b"Content-Type: message/global\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
            )
            boundary = read(octets).get_boundary()
            assert boundary is not None
            encoded = rest[: rest.index(f"\r\n--{boundary}--".encode())]
            self.assertEqual(quopri.decodestring(encoded), message)

    def test_header_octets_that_mail_cannot_carry_are_encoded_and_survive(self) -> None:
        wild = b"Subject: caf\xc3\xa9 \xff\r\nX-Long: " + b"y" * 5000 + b"\r\nX-Odd: a\rb\nc\0 =20 \r\nX-Tab:\t\r\n"
        octets = compose(evolve(NOTICE, quoted=Quoted(wild)))
        self.assertTrue(octets.isascii())
        self.assertEqual(parts(octets)[2].get_payload(decode=True), wild)

    def test_the_same_arguments_make_the_same_octets(self) -> None:
        self.assertEqual(compose(NOTICE), compose(NOTICE))

    def test_a_notice_about_nobody_cannot_be_built(self) -> None:
        self.assertRaises(ValueError, evolve, NOTICE, told=())

    def test_a_message_that_knows_our_boundary_cannot_end_the_part(self) -> None:
        boundary = read(compose(NOTICE)).get_boundary()
        evil = HEADER + f"X: a\r\n--{boundary}--\r\nX: b\r\n--{boundary}_1\r\n".encode()
        octets = compose(evolve(NOTICE, quoted=Quoted(evil)))
        self.assertEqual(len(parts(octets)), 3)
        self.assertEqual(len(raw_parts(octets)), 3)
        self.assertIn(evil, octets)

    def test_what_the_host_at_the_other_end_is_called_may_be_an_address_alone(self) -> None:
        for peer, said in (
            ("[192.0.2.1]:25", "[192.0.2.1]"),
            ("192.0.2.1[192.0.2.1]:25", "[192.0.2.1]"),
            ("2001:db8::1[2001:db8::1]:25", "[IPv6:2001:db8::1]"),
            ("/run/lmtp", "/run/lmtp"),
        ):
            alone = evolve(ELVIS, peer=peer)
            self.assertEqual(status_of(compose(evolve(NOTICE, told=(alone,))))[1]["Remote-MTA"], f"dns; {said}")

    def test_advice_is_given_for_what_the_status_says_however_unknown(self) -> None:
        self.assertIn("typing mistake", advice("5.1.1"))
        self.assertIn("takes no mail at all", advice("5.1.10"))
        self.assertIn("mailbox is full", advice("4.2.2"))
        self.assertIn("smaller", advice("5.3.4"))
        self.assertIn("could not be reached", advice("4.4.1"))
        self.assertIn("more time", advice("5.4.7"))
        self.assertIn("encrypted", advice("5.7.30"))
        self.assertIn("postmaster", advice("5.9.9"))
        self.assertIn("postmaster", advice(""))


class OtherActionsTests(SynchronousTestCase):
    def test_a_delay_is_told_with_its_end(self) -> None:
        late = evolve(ELVIS, action=Action.DELAYED, status="4.4.1", will_retry_until=1_700_400_000.0)
        octets = compose(evolve(NOTICE, told=(late,)))
        self.assertEqual(read(octets)["Subject"], "Your message is delayed, and will be tried again")
        self.assertEqual(status_of(octets)[1]["Will-Retry-Until"], "Sun, 19 Nov 2023 13:20:00 +0000")
        self.assertNotIn("typing mistake", people_read(octets))

    def test_a_notice_of_several_kinds_has_a_subject_that_fits_all(self) -> None:
        notice = evolve(NOTICE, told=(ELVIS, evolve(ELVIS, action=Action.RELAYED, status="2.0.0")))
        self.assertEqual(read(compose(notice))["Subject"], "What became of your message")

    def test_what_the_sender_called_them_comes_back(self) -> None:
        told = evolve(ELVIS, original="rfc822;The.King@example.net")
        octets = compose(evolve(NOTICE, told=(told,), envelope_id="QQ314159"))
        self.assertEqual(status_of(octets)[0]["Original-Envelope-Id"], "QQ314159")
        self.assertEqual(status_of(octets)[1]["Original-Recipient"], "rfc822;The.King@example.net")

    def test_a_deadline_is_told(self) -> None:
        octets = compose(evolve(NOTICE, deliver_by=1_700_000_060.0))
        self.assertEqual(status_of(octets)[0]["Deliver-By-Date"], "Tue, 14 Nov 2023 22:14:20 +0000")

    def test_a_release_is_told(self) -> None:
        octets = compose(evolve(NOTICE, release=1_700_000_060.5))
        self.assertEqual(status_of(octets)[0]["Future-Release-Request"], "until;2023-11-14T22:14:20Z")
        octets = compose(evolve(NOTICE, release=1_700_000_060.5, hold_for=3600))
        self.assertEqual(status_of(octets)[0]["Future-Release-Request"], "for;3600")

    def test_each_kind_has_its_subject_and_says_what_it_means(self) -> None:
        for action, subject, words in (
            (Action.DELIVERED, "Your message was delivered", "has been delivered to: elvis@example.net"),
            (Action.RELAYED, "Your message was handed on", "does not say what becomes of it"),
            (
                Action.EXPANDED,
                "Your message was delivered to a list of recipients",
                "all who stand behind these addresses",
            ),
        ):
            octets = compose(evolve(NOTICE, told=(Told(ELVIS.recipient, action, "2.0.0", ""),)))
            self.assertEqual(read(octets)["Subject"], subject)
            self.assertIn(words, people_read(octets))
            self.assertEqual(status_of(octets)[1]["Action"], action.value)


class InternationalTests(SynchronousTestCase):
    def original(self, orcpt: str, *, unicode: bool) -> str:
        to = ZOE if unicode else NOTICE.to
        notice = evolve(NOTICE, to=to, told=(evolve(ELVIS, original=orcpt),))
        return status_of(compose(notice))[1]["Original-Recipient"]

    def test_what_the_sender_called_somebody_is_told_in_the_form_that_it_can_read(self) -> None:
        for orcpt in "utf-8;zoë@example.net", r"UTF-8;zo\x{EB}@example.net":
            self.assertEqual(self.original(orcpt, unicode=False), r"utf-8;zo\x{EB}@example.net")
            self.assertEqual(self.original(orcpt, unicode=True), "utf-8;zoë@example.net")

    def test_a_character_that_may_not_be_written_so_stays_as_it_is(self) -> None:
        for wrong in r"a\x{D800}b", r"a\x{110000}b", r"a\x{}b", r"a\x{GG}b":
            self.assertEqual(self.original(f"utf-8;{wrong}", unicode=True), f"utf-8;{wrong}")

    @given(st.text(max_size=100), st.booleans())
    def test_whatever_it_is_it_stays_in_its_field(self, address: str, unicode: bool) -> None:
        told = evolve(ELVIS, original=f"utf-8;{address}")
        octets = compose(evolve(NOTICE, to=ZOE if unicode else NOTICE.to, told=(told,), envelope_id=address))
        fields = status_of(octets)
        self.assertEqual(list(fields[1])[:2], ["Original-Recipient", "Final-Recipient"])
        self.assertEqual(len(fields), 2)
        if not unicode:
            self.assertTrue(raw_parts(octets)[1].isascii())
            self.assertIn(b"Transfer-Encoding: 7bit", raw_parts(octets)[1])

    def test_a_sender_with_a_plain_address_reads_of_others_in_ascii(self) -> None:
        notice = evolve(NOTICE, told=(evolve(ELVIS, recipient=ZOE),))
        octets = compose(notice)
        self.assertFalse(notice.smtputf8)
        self.assertTrue(octets.isascii())
        self.assertEqual(status_of(octets)[1]["Final-Recipient"], r"utf-8; zo\x{EB}@example.net")
        self.assertIn("zoë@example.net", people_read(octets))

    def test_what_means_something_in_that_form_is_embedded_too(self) -> None:
        odd = evolve(ELVIS, recipient=Address('ë+a=b\\"c d', "example.net"))
        recipient = status_of(compose(evolve(NOTICE, told=(odd,))))[1]["Final-Recipient"]
        self.assertTrue(recipient.isascii())
        for wrong in "+", "=", "\\\\", " d":
            self.assertNotIn(wrong, recipient)

    def test_a_sender_with_an_address_in_utf8_gets_a_notice_in_utf8(self) -> None:
        notice = evolve(
            NOTICE, to=ZOE, told=(evolve(ELVIS, recipient=ZOE),), quoted=Quoted("Subject: café\r\n".encode())
        )
        octets = compose(notice)
        self.assertTrue(notice.smtputf8)
        self.assertIn("To: <zoë@example.net>\r\n".encode(), octets)
        self.assertIn(b"report-type=global-delivery-status", octets)
        self.assertIn(b"Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n", octets)
        self.assertIn(b"Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n", octets)
        self.assertEqual(status_of(octets)[1]["Final-Recipient"], "utf-8; zoë@example.net")

    def test_even_there_what_is_not_utf8_is_encoded(self) -> None:
        octets = compose(evolve(NOTICE, to=ZOE, quoted=Quoted(b"Subject: \xff\r\n")))
        octets.decode("utf-8")
        self.assertIn(b"Subject: =FF\r\n", octets)


anything = st.text(max_size=300)
octets_of_headers = st.lists(
    st.one_of(st.binary(max_size=100), st.sampled_from([b"\r\n", b"\r", b"\n", b"--=_notice.4QRT5.0", b" "])),
    max_size=8,
).map(b"".join)
addresses = st.sampled_from(
    [Address("a", "b"), ZOE, Address("x" * 64, "y" * 63), Address('"; \\ @', "[192.0.2.1]"), Address("😀" * 16, "b")]
)


class HostileTests(SynchronousTestCase):
    @given(addresses, addresses, anything, anything, anything, anything, octets_of_headers, st.booleans())
    def test_nothing_that_others_wrote_can_end_a_field_a_line_or_a_part(
        self,
        to: Address,
        recipient: Address,
        because: str,
        diagnostic: str,
        peer: str,
        id: str,
        quoted: bytes,
        whole: bool,
    ) -> None:
        told = Told(recipient, Action.FAILED, "5.0.0", because, diagnostic, peer, original=diagnostic)
        notice = evolve(
            NOTICE, to=to, told=(told,), quoted=Quoted(quoted, whole), in_reply_to=id, envelope_id=because, about=peer
        )
        octets = compose(notice)
        self.assertNotIn(b"\0", octets)
        self.assertNotIn(b"\r", octets.replace(b"\r\n", b""))
        self.assertNotIn(b"\n", octets.replace(b"\r\n", b""))
        self.assertLessEqual(max(map(len, octets.split(b"\r\n"))), 998)
        octets.decode("utf-8" if notice.smtputf8 else "ascii")
        self.assertEqual(len(raw_parts(octets)), 3 if quoted else 2)
        names = [line.partition(b":")[0] for line in octets.partition(b"\r\n\r\n")[0].split(b"\r\n") if line[:1] > b" "]
        allowed = {b"In-Reply-To", b"References"}
        self.assertEqual(
            [name for name in names if name not in allowed],
            b"From To Subject Date Message-ID Auto-Submitted MIME-Version Content-Type".split(),
        )

    @given(st.text(alphabet=st.characters(max_codepoint=127), max_size=200), anything)
    def test_the_part_for_programs_has_no_field_that_a_peer_could_write(self, diagnostic: str, peer: str) -> None:
        told = evolve(ELVIS, diagnostic=diagnostic, peer=peer)
        fields = status_of(compose(evolve(NOTICE, told=(told,))))[1]
        self.assertLessEqual(
            set(fields),
            {"Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code", "Last-Attempt-Date"},
        )
        self.assertEqual(fields["Status"], "5.1.1")

    def test_a_message_id_is_repeated_only_if_it_is_one(self) -> None:
        for wrong in (
            "1@example.org",
            "<a b@c>",
            "<a@b>\r\nBcc: <x@y>",
            "<a@b> <c@d>",
            "<>",
            f"<{'a' * 300}@b>",
            "<ä@b>",
        ):
            self.assertNotIn(b"In-Reply-To", compose(evolve(NOTICE, in_reply_to=wrong)))
        long = f"<{'a' * 200}@b>"
        self.assertEqual(read(compose(evolve(NOTICE, in_reply_to=long)))["References"].strip(), long)
