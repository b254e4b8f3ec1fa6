from __future__ import annotations

import struct
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.answer import Absent, Exchange, Found
from relay.net.dnswire import PAYLOAD, Alias, Query, Question, Refused, Settled, Truncated
from relay.testing.dns import Records
from relay.testing.nameserver import NameServer

NAMES: dict[str, Records] = {
    "example.org": {"MX": [(10, "mx.example.org")], "TXT": ["hello"]},
    "mx.example.org": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "www.example.org": {"CNAME": "mx.example.org"},
}


def query(name: str = "example.org", kind: str = "MX", id: int = 4711, **options: bool) -> Query:
    return Query(Question.about(name, kind), id, **options)


def response_to(
    asked: Query, *records: str, rcode: int = 0, flags: int = dns.flags.RA, section: str = "answer"
) -> bytes:
    """A response with these records (in a zone file's form), and with these flags besides QR."""
    response = dns.message.make_response(dns.message.from_wire(asked.octets))
    response.flags |= flags
    response.set_rcode(dns.rcode.Rcode(rcode))
    for record in records:
        owner, ttl, _, kind, rest = record.split(" ", 4)
        getattr(response, section).append(dns.rrset.from_text(owner, int(ttl), "IN", kind, rest))
    return response.to_wire()


class AskingTests(SynchronousTestCase):
    def test_a_query_asks_for_recursion_and_says_how_long_a_datagram_may_be(self) -> None:
        sent = dns.message.from_wire(query("mx.example.org", "AAAA").octets)
        self.assertEqual(sent.id, 4711)
        self.assertEqual(sent.flags, dns.flags.RD)
        self.assertEqual([q.to_text() for q in sent.question], ["mx.example.org. IN AAAA"])
        self.assertEqual((sent.edns, sent.payload), (0, PAYLOAD))

    def test_without_edns_nothing_is_said_of_it(self) -> None:
        self.assertEqual(dns.message.from_wire(query(edns=False).octets).edns, -1)

    def test_who_would_be_believed_is_asked_whether_it_has_validated(self) -> None:
        for edns in True, False:
            for trusted, asked in (True, dns.flags.RD | dns.flags.AD), (False, dns.flags.RD):
                self.assertEqual(dns.message.from_wire(query(edns=edns, trusted=trusted).octets).flags, asked)

    def test_a_backslash_and_an_at_sign_in_a_name_mean_nothing(self) -> None:
        for name in "a\\046b.example", "@", "a\\.b.example":
            sent = dns.message.from_wire(query(name, "A").octets)
            labels = [label.decode() for label in sent.question[0].name.labels]
            self.assertEqual(labels, [*name.split("."), ""])


class ReadingTests(SynchronousTestCase):
    def read(self, asked: Query, *records: str, **how: Any) -> object:
        return asked.read(response_to(asked, *records, **how))

    def test_records_come_in_canonical_form_with_the_least_ttl(self) -> None:
        got = self.read(query(), "EXAMPLE.org. 300 IN MX 10 MX.Example.ORG.")
        self.assertEqual(got, Settled(Found((Exchange(10, "mx.example.org"),)), 300))
        got = self.read(
            query("www.example.org", "A"), "www.example.org. 60 IN CNAME a.example.", "a.example. 90 IN A 192.0.2.1"
        )
        self.assertEqual(got, Settled(Found(("192.0.2.1",)), 60))

    def test_what_is_meant_for_somebody_else_is_not_read(self) -> None:
        asked = query()
        record = "example.org. 300 IN MX 10 mx.example.org."
        for other in query(id=4712), query("example.com"), query(kind="A"):
            self.assertIsNone(asked.read(response_to(other, record)))
        self.assertIsNone(asked.read(asked.octets))

    def test_records_of_another_name_are_no_answer(self) -> None:
        got = self.read(query(), "evil.example. 300 IN MX 10 mx.evil.example.")
        self.assertEqual(got, Settled(Absent(nonexistent=False), 0))

    def test_the_ad_bit_is_believed_only_of_a_server_that_is_trusted(self) -> None:
        record = "example.org. 300 IN MX 10 mx.example.org."
        for trusted in True, False:
            got = self.read(query(trusted=trusted), record, flags=dns.flags.RA | dns.flags.AD)
            self.assertEqual(got, Settled(Found((Exchange(10, "mx.example.org"),), authentic=trusted), 300))

    def test_a_negative_answer_holds_as_long_as_its_soa_says(self) -> None:
        soa = "org. 900 IN SOA ns.org. hostmaster.org. 1 2 3 4 120"
        got = self.read(query(), soa, section="authority")
        self.assertEqual(got, Settled(Absent(nonexistent=False), 120))
        got = self.read(query(), soa, section="authority", rcode=dns.rcode.NXDOMAIN)
        self.assertEqual(got, Settled(Absent(nonexistent=True), 120))

    def test_a_negative_answer_without_soa_is_not_kept(self) -> None:
        elsewhere = "com. 900 IN SOA ns.com. hostmaster.com. 1 2 3 4 120"
        for records in ((), (elsewhere,)):
            got = self.read(query(), *records, section="authority", rcode=dns.rcode.NXDOMAIN)
            self.assertEqual(got, Settled(Absent(nonexistent=True), 0))

    def test_an_alias_of_whose_target_nothing_is_said_is_to_be_followed(self) -> None:
        got = self.read(query("www.example.org", "A"), "www.example.org. 60 IN CNAME a.example.")
        self.assertEqual(got, Alias(Question.about("a.example", "A"), 60, authentic=False))

    def test_a_truncated_response_is_asked_for_again_and_nothing_of_it_is_used(self) -> None:
        asked = query()
        octets = response_to(asked, "example.org. 300 IN MX 10 mx.example.org.", flags=dns.flags.TC)
        for cut in 0, 3, 15:
            self.assertEqual(asked.read(octets[: len(octets) - cut]), Truncated())

    def test_every_other_code_is_a_refusal(self) -> None:
        for code in dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.YXDOMAIN:
            got = self.read(query(), rcode=code)
            assert isinstance(got, Refused)
            self.assertEqual(got.why, dns.rcode.to_text(code))
            self.assertEqual(got.dislikes_edns, code in (dns.rcode.FORMERR, dns.rcode.NOTIMP))

    def test_an_extended_code_is_not_taken_for_success(self) -> None:
        # BADVERS is 16: its four low bits, which stand in the header, are NOERROR (RFC 6891 section 6.1.3).
        self.assertEqual(self.read(query(), rcode=dns.rcode.BADVERS), Refused("BADVERS"))

    def test_a_server_that_only_refers_to_others_has_not_answered(self) -> None:
        referral = "org. 300 IN NS ns.org."
        self.assertIsInstance(self.read(query(), referral, section="authority", flags=0), Refused)
        self.assertEqual(self.read(query(), referral, section="authority"), Settled(Absent(nonexistent=False), 0))

    def test_names_that_no_host_has_make_the_answer_nonsense(self) -> None:
        for target in "a\\032b.example.", "a\\.b.example.", "\\000.example.", "\\195\\164.example.", "x\\034.example.":
            self.assertIsInstance(self.read(query(), f"example.org. 300 IN MX 10 {target}"), Refused)

    def test_records_for_nxdomain_are_nonsense(self) -> None:
        got = self.read(query(), "example.org. 300 IN MX 10 mx.example.org.", rcode=dns.rcode.NXDOMAIN)
        self.assertIsInstance(got, Refused)

    def test_counts_are_believed_before_anything_is_read(self) -> None:
        asked = query()
        octets = bytearray(response_to(asked))
        for at, count in ((6, 101), (8, 301), (10, 301)):
            lying = bytearray(octets)
            struct.pack_into("!H", lying, at, count)
            self.assertEqual(asked.read(bytes(lying)), Refused("more records than we read"))

    def test_octets_of_a_txt_record_are_characters(self) -> None:
        got = self.read(query(kind="TXT"), 'example.org. 300 IN TXT "a" "\\195\\164"')
        self.assertEqual(got, Settled(Found(("a\u00c3\u00a4",)), 300))


class GarbageTests(SynchronousTestCase):
    @given(st.binary(max_size=600))
    @example(b"")
    def test_garbage_is_nobodys_response(self, octets: bytes) -> None:
        # 4711 is not among the ids that hypothesis hits by chance; the header's 12 octets and the question must match.
        self.assertIsNone(query().read(octets))

    @given(st.binary(max_size=600), st.integers(0, 0xFFFF))
    def test_garbage_behind_a_good_question_never_raises_and_never_answers(self, octets: bytes, flags: int) -> None:
        asked = query()
        question = asked.octets[12 : 12 + len(b"\7example\3org\0") + 4]
        for counts in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 3, 1)):
            head = struct.pack("!6H", 4711, flags | dns.flags.QR, 1, *counts)
            got = asked.read(head + question + octets)
            if isinstance(got, Settled) and isinstance(got.answer, Found):
                # Then the octets must have been an MX record of this very name.
                self.assertIn(b"\0\x0f\0\1", octets)

    @given(st.data(), st.sampled_from([("example.org", "MX"), ("www.example.org", "A"), ("no.example.org", "A")]))
    def test_a_damaged_response_never_raises(self, data: st.DataObject, about: tuple[str, str]) -> None:
        asked = query(*about)
        octets = bytearray(NameServer(NAMES).reply(asked.octets))
        for _ in range(data.draw(st.integers(1, 6))):
            octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
        octets = octets[: data.draw(st.integers(0, len(octets)))]
        got = asked.read(bytes(octets))
        self.assertIsInstance(got, Settled | Alias | Truncated | Refused | None)
        if octets[:2] != asked.octets[:2]:
            self.assertIsNone(got)
