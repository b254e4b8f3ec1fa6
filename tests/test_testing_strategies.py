"""`relay.testing.strategies`: what is made up is mail, and of all kinds."""

from __future__ import annotations

from hypothesis import find, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address, canonical_domain, parse_address
from relay.mail.answer import Absent, Found, Unanswered
from relay.mail.fields import Fields
from relay.testing import strategies
from relay.testing.dialogue import talk
from relay.testing.dns import FakeNames
from relay.testing.front import configured
from relay.testing.invariants import Site
from relay.testing.strategies import Dialogue
from relay.testing.world import Conversation


class StrategiesTests(SynchronousTestCase):
    @given(strategies.addresses(international=True))
    def test_an_address_is_one_as_it_is_written(self, address: Address) -> None:
        self.assertEqual(parse_address(str(address)), address)

    @given(strategies.anywhere())
    def test_a_domain_is_in_canonical_form(self, domain: str) -> None:
        self.assertEqual(canonical_domain(domain), domain)

    @given(strategies.domains(within="here.example"))
    def test_a_domain_may_be_below_another_one(self, domain: str) -> None:
        self.assertTrue(domain.endswith(".here.example"), domain)

    @given(strategies.messages())
    def test_a_message_has_a_header_section_and_lines(self, message: bytes) -> None:
        head, found, _ = message.partition(b"\r\n\r\n")
        fields = Fields(head + b"\r\n")
        self.assertTrue(found)
        self.assertIn("From", fields)
        self.assertNotIn(b"", {each.name for each in fields})
        self.assertNotIn(b"\n", message.replace(b"\r\n", b""))
        self.assertNotIn(b"\r", message.replace(b"\r\n", b""))

    @given(strategies.dialogues())
    def test_who_sends_a_message_as_it_should_is_understood(self, dialogue: Dialogue) -> None:
        front, clock = Site(configured('[[listener]]\naddress = "[::]:25"\n')).front()
        heard = talk(dialogue, front.relay.listeners[0].factory, clock)
        self.assertEqual(heard.refusals, [])
        (message,) = front.spool.accepted
        self.assertEqual(message.id, heard.promised)
        self.assertEqual(message.content, dialogue.message)
        self.assertEqual(message.envelope.reverse_path, dialogue.sender)
        self.assertEqual(set(message.routes), {str(address) for address in dialogue.recipients})

    @given(strategies.sessions())
    def test_whatever_a_client_says_has_replies_and_no_exception(self, octets: bytes) -> None:
        front, _ = Site(configured()).front()
        conversation = Conversation(front.relay.listeners[0].factory)
        conversation.send(octets)
        for line in conversation.replies():
            self.assertRegex(line, "^[2-5][0-9][0-9][ -]")
        self.assertEqual(self.flushLoggedErrors(), [])

    @given(st.data(), st.binary(max_size=50))
    def test_pieces_are_the_whole(self, data: st.DataObject, octets: bytes) -> None:
        pieces = data.draw(strategies.cuts(octets))
        self.assertEqual(b"".join(pieces), octets)
        self.assertNotIn(b"", pieces)

    def test_there_is_each_kind_of_answer_in_the_dns(self) -> None:
        worlds = strategies.dns_worlds("example.org")
        for kind in Found, Absent, Unanswered:
            find(worlds, lambda names, kind=kind: isinstance(FakeNames(names).answer("example.org", "MX"), kind))
        null = find(worlds, lambda names: [each.exchanger for each in _mx(names)] == [""])
        self.assertEqual(len(_mx(null)), 1)

    def test_senders_and_clients_are_of_all_kinds(self) -> None:
        find(strategies.reverse_paths(), lambda path: path is None)
        find(strategies.addresses(), lambda address: str(address).startswith('"'))
        find(strategies.addresses(), lambda address: address.is_literal)
        find(strategies.clients(), lambda client: client.user is not None and ":" in client.address)
        find(strategies.inquiries(), lambda inquiry: inquiry.recipient.local == "postmaster")


def _mx(names: object) -> tuple[object, ...]:
    answer = FakeNames(names).answer("example.org", "MX")
    return answer.records if isinstance(answer, Found) else ()
