"""Whether there is a way back to the sender."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.answer import Unanswered
from relay.mail.routing import ABSTAIN, Delay, Note, Reject
from relay.net.waiting import start
from relay.policy.sender_domain import Finding, SenderDomain, SenderDomainOptions
from relay.testing.policy import FakeWorld, PolicyContract
from relay.testing.questions import sending

SILENT = Unanswered("SERVFAIL")
NAMES: dict[str, Any] = {
    "mx.example": {"MX": [(10, "a.mx.example"), (20, "b.mx.example")]},
    "a.mx.example": {"A": ["192.0.2.1"]},
    "six.example": {"AAAA": ["2001:db8::1"]},
    "four.example": {"A": ["192.0.2.1"]},
    "alias.example": {"CNAME": "four.example"},
    "null.example": {"MX": [(0, "")], "A": ["192.0.2.1"]},
    "half-null.example": {"MX": [(0, ""), (10, "a.mx.example")]},
    "text.example": {"TXT": ["hello"]},
    "dead-ends.example": {"MX": [(10, "gone.example"), (20, "text.example")]},
    "private.example": {"MX": [(10, "in.private.example")]},
    "in.private.example": {"A": ["10.0.0.1", "127.0.0.1"], "AAAA": ["fd00::1", "::1", "fe80::1", "::ffff:10.0.0.1"]},
    "partly.example": {"MX": [(10, "in.private.example"), (20, "a.mx.example")]},
    "silent.example": SILENT,
    "silent-mx.example": {"MX": SILENT, "A": ["192.0.2.1"]},
    "silent-host.example": {"MX": [(10, "silent.example"), (20, "in.private.example")]},
    "one-speaks.example": {"MX": [(10, "silent.example"), (20, "a.mx.example")]},
    "half-silent.example": {"A": ["192.0.2.1"], "AAAA": SILENT},
    "many.example": {"MX": [(at, f"gone{at}.example") for at in range(20)]},
}
FINDINGS = {
    "mx.example": Finding.OK,
    "six.example": Finding.OK,
    "four.example": Finding.OK,
    "alias.example": Finding.OK,
    "half-null.example": Finding.OK,
    "partly.example": Finding.OK,
    "one-speaks.example": Finding.OK,
    "half-silent.example": Finding.OK,
    "null.example": Finding.NULL_MX,
    "gone.example": Finding.NONEXISTENT,
    "text.example": Finding.NONEXISTENT,
    "dead-ends.example": Finding.NONEXISTENT,
    "many.example": Finding.NONEXISTENT,
    "private.example": Finding.PRIVATE,
    "localhost": Finding.PRIVATE,
    "[127.0.0.1]": Finding.PRIVATE,
    "[IPv6:fd00::1]": Finding.PRIVATE,
    "[192.0.2.1]": Finding.LITERAL,
    "[IPv6:2001:db8::1]": Finding.LITERAL,
    "silent.example": Finding.UNSURE,
    "silent-mx.example": Finding.UNSURE,
    "silent-host.example": Finding.UNSURE,
}


class SenderDomainTests(PolicyContract, SynchronousTestCase):
    policy = "sender-domain"
    names = NAMES
    inquiries = tuple(sending(f"ann@{domain}") for domain in FINDINGS)

    def asked(self, domain: str, **options: Any) -> Any:
        policy = SenderDomain(SenderDomainOptions.model_validate(options), FakeWorld(NAMES).world)
        return start(policy.sender(sending(f"ann@{domain}")))

    def test_what_is_found_is_a_fact_for_others(self) -> None:
        noting = dict.fromkeys(("nonexistent", "null_mx", "private", "literal"), "note")
        for domain, finding in FINDINGS.items():
            verdict = self.asked(domain, unsure="accept", **noting)
            assert isinstance(verdict, Note), (domain, verdict)
            self.assertEqual(dict(verdict.facts), {"sender-domain": finding.value}, domain)
            self.assertTrue(verdict.because)

    def test_what_is_found_is_refused_as_the_operator_says(self) -> None:
        for option, domain, code in [
            ("nonexistent", "gone.example", "1.8 the sender's domain gone.example does not exist, or takes no mail"),
            ("null_mx", "null.example", "7.27 the sender's domain null.example says that it takes no mail"),
            ("private", "private.example", "1.8 the sender's domain private.example leads to no public address"),
            ("literal", "[192.0.2.1]", "1.8 the sender's address has no domain"),
        ]:
            rejected, delayed = (self.asked(domain, **{option: action}) for action in ("reject", "delay"))
            assert isinstance(rejected, Reject)
            assert isinstance(delayed, Delay)
            self.assertEqual((str(rejected.reply), str(delayed.reply)), (f"550 5.{code}", f"451 4.{code}"))
            others = {other: "note" for other in ("nonexistent", "null_mx", "private", "literal") if other != option}
            for other, finding in FINDINGS.items():
                refused = isinstance(self.asked(other, **{option: "reject"}, **others), Reject)
                self.assertEqual(refused, finding.name.lower() == option, (option, other))

    def test_unless_it_is_told_otherwise_it_refuses_what_no_notice_can_be_sent_to(self) -> None:
        expected = {
            Finding.OK: Note,
            Finding.LITERAL: Note,
            Finding.NONEXISTENT: Reject,
            Finding.NULL_MX: Reject,
            Finding.PRIVATE: Reject,
            Finding.UNSURE: Delay,
        }
        for domain, finding in FINDINGS.items():
            self.assertIs(type(self.asked(domain)), expected[finding], domain)

    def test_where_the_dns_does_not_answer_the_client_may_come_again(self) -> None:
        verdict = self.asked("silent.example")
        self.assertEqual(str(verdict.reply), "451 4.4.3 the sender's domain silent.example cannot be looked up now")
        self.assertEqual(verdict.because, "silent.example MX: SERVFAIL")

    def test_mail_without_a_reverse_path_is_not_looked_at(self) -> None:
        fake = FakeWorld(NAMES)
        policy = SenderDomain(SenderDomainOptions(), fake.world)
        self.assertIs(start(policy.sender(sending("<>"))), ABSTAIN)
        self.assertEqual(fake.names.asked, [])

    def test_the_first_public_address_is_enough_and_the_list_of_hosts_has_an_end(self) -> None:
        for domain, asked in [("mx.example", 2), ("six.example", 3), ("null.example", 1), ("many.example", 11)]:
            fake = FakeWorld(NAMES)
            start(SenderDomain(SenderDomainOptions(), fake.world).sender(sending(f"ann@{domain}")))
            self.assertLessEqual(len(fake.names.asked), asked + 1, domain)

    def test_it_does_not_wait_for_the_dns_for_longer_than_it_may(self) -> None:
        for unsure, kind in (("delay", Delay), ("accept", Note)):
            fake = FakeWorld(NAMES)
            fake.names.hold("a.mx.example", "A")
            policy = SenderDomain(SenderDomainOptions.model_validate({"unsure": unsure, "patience": 3}), fake.world)
            waiting = start(policy.sender(sending("ann@mx.example")))
            assert isinstance(waiting, Deferred)
            fake.clock.advance(2.9)
            self.assertNoResult(waiting)
            fake.clock.advance(0.1)
            verdict = self.successResultOf(waiting)
            self.assertIsInstance(verdict, kind)
            self.assertIn("no answer within 3 seconds", verdict.because)
            self.assertEqual(fake.clock.getDelayedCalls(), [])

    def test_an_answer_that_comes_in_time_counts(self) -> None:
        fake = FakeWorld(NAMES)
        fake.names.hold("mx.example", "MX")
        waiting = start(SenderDomain(SenderDomainOptions(), fake.world).sender(sending("ann@mx.example")))
        assert isinstance(waiting, Deferred)
        fake.clock.advance(5)
        fake.names.release("mx.example", "MX")
        self.assertEqual(dict(self.successResultOf(waiting).facts), {"sender-domain": "ok"})
        self.assertEqual(fake.clock.getDelayedCalls(), [])
