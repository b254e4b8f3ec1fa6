"""Reverse-paths that are replaced on the way out, and what comes back to them, in the world in memory."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from relay.agents.needs import transaction_for
from relay.delivery.attempt import _by_route
from relay.interfaces import Claim
from relay.mail.address import Address, parse_address
from relay.mail.decision import Accepted, Refused
from relay.mail.envelope import Envelope
from relay.mail.queue import Pending
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Forward, Reject, Rewrite
from relay.net.waiting import start
from relay.policy.chain import Chain, Station
from relay.policy.forward import ForwardAll, ForwardOptions
from relay.policy.srs import SrsOptions, SrsPolicy
from relay.smtp.features import Features
from relay.testing.peers import Say
from relay.testing.policy import NOON, FakeWorld, PolicyContract, inquiry, world
from relay.testing.world import MailWorld
from tests.test_agents_smtp import consignment

HELLO = b"Subject: hello\r\n\r\nHi!\r\n"
DAY = 86400.0


class SecretCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.file = folder / "srs.secret"
        self.write("0123456789abcdefghij\n")

    def write(self, text: str) -> None:
        self.file.touch(mode=0o600)
        self.file.write_text(text)

    def forward(self, **more: Any) -> ForwardAll:
        srs = {"domain": "srs.test", "secret_file": str(self.file), **more}
        return ForwardAll(ForwardOptions.model_validate({"srs": srs}), world())

    def srs(self, now: float = NOON, **more: Any) -> SrsPolicy:
        options = {"domain": "srs.test", "secret_file": str(self.file), **more}
        return SrsPolicy(SrsOptions.model_validate(options), world(now=now))

    def made(self, sender: str = "ann@sender.test") -> Address:
        verdict = self.forward().route(inquiry("jon@far.test", sender))
        assert isinstance(verdict, Forward)
        assert verdict.reverse_path is not None
        return verdict.reverse_path


class VerdictTests(SecretCase):
    def test_who_is_passed_on_in_the_name_of_others_has_a_reverse_path_of_ours(self) -> None:
        self.assertRegex(str(self.made()), r"\ASRS0=\w{8}=\w\w=sender\.test=ann@srs\.test\Z")
        for sender in ("<>", "jon@srs.test", "jon@here.test", "ann@[192.0.2.1]"):
            verdict = self.forward(own=["here.test"]).route(inquiry("jon@far.test", sender))
            self.assertEqual(verdict, Forward("far.test", because="onward by MX of far.test"), sender)

    def test_it_leads_back_to_the_sender_and_no_further(self) -> None:
        made, policy = self.made(), self.srs()
        ann = parse_address("ann@sender.test")
        self.assertEqual(policy.route(inquiry(str(made))), Rewrite((ann,), because="SRS of srs.test"))
        behind: Any = policy.route(inquiry("ann@sender.test", original=str(made)))
        self.assertEqual((behind.next_hops, behind.reverse_path), (Forward("sender.test").next_hops, None))
        for recipient, original in (
            ("bob@sender.test", str(made)),
            ("ann@sender.test", "ann@sender.test"),
            ("ann@sender.test", "postmaster@srs.test"),
            ("ann@sender.test", str(evolve(made, local=made.local.replace("ann", "bob")))),
            ("postmaster@srs.test", "postmaster@srs.test"),
        ):
            self.assertIs(policy.route(inquiry(recipient, original=original)), ABSTAIN, (recipient, original))

    def test_what_was_changed_or_is_too_old_is_refused(self) -> None:
        made = self.made()
        forged = evolve(made, local=made.local.replace("ann", "bob"))
        for policy, address, why in (
            (self.srs(), forged, "it is not one that was made here"),
            (self.srs(now=NOON + 22 * DAY), made, "its time is over"),
            (self.srs(now=NOON + 2 * DAY, days=1), made, "its time is over"),
        ):
            reply = Reply.of(550, "5.1.1", f"<{address}>: no such address: {why}")
            self.assertEqual(policy.route(inquiry(str(address))), Reject(reply, f"SRS: {why}"))
        self.assertIsInstance(self.srs(now=NOON + 21 * DAY).route(inquiry(str(made))), Rewrite)

    def test_what_was_let_in_in_time_is_not_stopped_by_age_while_it_waits(self) -> None:
        waiting = inquiry("ann@sender.test", original=str(self.made()))
        self.assertIsInstance(self.srs(now=NOON + 30 * DAY).route(waiting), Forward)

    def test_it_goes_by_the_way_that_the_policy_names(self) -> None:
        policy = self.srs(next_hop="smarthost.test:587")
        verdict: Any = policy.route(inquiry("ann@sender.test", original=str(self.made())))
        self.assertEqual(str(verdict.next_hops[0]), "[smarthost.test]:587")

    def test_a_chain_lets_nobody_else_out(self) -> None:
        here = FakeWorld(now=NOON).world
        chain = Chain([Station("srs", self.srs())], here.clock, here.log)
        decided: list[Any] = [
            start(chain.route(inquiry(recipient, "<>")))
            for recipient in (str(self.made()), "ann@sender.test", str(self.made()).replace("=ann", "=eve"))
        ]
        self.assertEqual([type(each) for each in decided], [Accepted, Refused, Refused])
        self.assertEqual(str(decided[0].placements[0].address), "ann@sender.test")

    def test_a_secret_that_is_none_is_an_error_of_the_configuration_and_is_not_shown(self) -> None:
        for text, mode, why in (
            ("short", 0o600, "20 characters"),
            ("0123456789abcdefghij\nshort\n", 0o600, "20 characters"),
            ("\n\n", 0o600, "20 characters"),
            ("x" * 20000, 0o600, "20 characters"),
            ("0123456789abcdefghij", 0o644, "chmod 600"),
            ("0123456789abcdefghij", 0o620, "chmod 600"),
        ):
            self.write(text)
            self.file.chmod(mode)
            error = self.assertRaises(ValueError, self.srs)
            self.assertIn(why, str(error))
            self.assertNotIn("0123", str(error))
        self.file.unlink()
        self.assertIn("cannot be read: No such file", str(self.assertRaises(ValueError, self.forward)))
        self.file.mkdir()
        self.assertIn("srs.secret", str(self.assertRaises(ValueError, self.forward)))


class ContractTests(PolicyContract, SecretCase):
    policy = SrsPolicy

    def setUp(self) -> None:
        super().setUp()
        type(self).options = {"domain": "srs.test", "secret_file": str(self.file)}


class SendingTests(SynchronousTestCase):
    def test_a_transaction_has_the_reverse_path_of_its_routes_and_none_stays_none(self) -> None:
        path = Address("news+jon=example.net", "example.org")
        for said, expected in ((Address("news", "example.org"), path), (None, None)):
            given = consignment(reverse_path=said)
            recipients = [evolve(each, route=Forward("example.net", reverse_path=path)) for each in given.recipients]
            self.assertEqual(transaction_for(given, Features(), recipients).reverse_path, expected)
            self.assertEqual(transaction_for(given, Features()).reverse_path, said)

    def test_only_those_are_carried_together_whose_routes_say_the_same(self) -> None:
        given = consignment()
        paths = [Address("a", "example.org"), Address("b", "example.org"), Address("a", "example.org"), None]
        recipients = [
            evolve(given.recipients[0], id=f"R{at}", route=Forward("example.net", reverse_path=path))
            for at, path in enumerate(paths)
        ]
        entry = evolve(given.entry, envelope=Envelope(Address("news", "example.org")))
        claim = Claim(1, 0.0, entry, tuple(map(Pending, recipients)), given.content)
        groups = [[recipient.id for recipient in group] for _, group in _by_route(claim)]
        self.assertEqual(groups, [["R0", "R2"], ["R1"], ["R3"]])


class WorldTests(SecretCase):
    def setUp(self) -> None:
        super().setUp()
        self.world = MailWorld(f"""
hostname = "mx.test"

[[listener]]
name = "mx"
address = "127.0.0.1:2525"

[[policy]]
use = "alias"
[policy.aliases]
"info@here.test" = "jon@far.test"

[[policy]]
use = "forward"
when = {{ recipient = ["far.test"] }}
srs = {{ domain = "srs.test", secret_file = "{self.file}" }}

[[policy]]
use = "srs"
domain = "srs.test"
secret_file = "{self.file}"

[[policy]]
name = "list"
use = "forward"
when = {{ client = ["127.0.0.0/8"] }}
verp = true
""")
        self.far = self.world.exchange("far.test", "192.0.2.25")
        self.sender = self.world.exchange("sender.test", "192.0.2.26")

    def test_a_notice_about_mail_that_was_passed_on_comes_back_to_its_sender(self) -> None:
        self.world.send("ann@sender.test", "info@here.test", HELLO, client="192.0.2.9")
        self.world.settle()
        [passed_on] = self.far.messages
        self.assertRegex(passed_on.reverse_path, r"\ASRS0=.*=sender\.test=ann@srs\.test\Z")
        self.world.send("", passed_on.reverse_path, b"Subject: failed\r\n\r\nno\r\n", client="192.0.2.25")
        self.world.settle()
        [back] = self.sender.messages
        self.assertEqual((back.reverse_path, back.recipients), ("", ("ann@sender.test",)))

    def test_what_it_cannot_pass_on_it_tells_the_sender_itself(self) -> None:
        self.far.at("RCPT", Say("550 5.1.1 Unknown"))
        self.world.send("ann@sender.test", "info@here.test", HELLO, client="192.0.2.9")
        self.world.settle()
        [notice] = self.sender.messages
        self.assertEqual((notice.reverse_path, notice.recipients), ("", ("ann@sender.test",)))

    def test_each_subscriber_of_a_list_has_a_transaction_with_a_reverse_path_of_its_own(self) -> None:
        other = self.world.exchange("else.test", "192.0.2.27")
        self.world.send("news@here.test", ["ann@else.test", "bob@else.test"], HELLO)
        self.world.settle()
        self.assertEqual(
            sorted((message.reverse_path, message.recipients) for message in other.messages),
            [
                ("news+ann=else.test@here.test", ("ann@else.test",)),
                ("news+bob=else.test@here.test", ("bob@else.test",)),
            ],
        )
