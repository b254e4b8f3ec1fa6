"""`relay.testing.invariants`: they hold of configurations that are right, and fail of those that are not."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.config.errors import ConfigurationError
from relay.config.fields import Section
from relay.interfaces import IContentPolicy, IRoutingPolicy, ISenderPolicy
from relay.mail.address import Address
from relay.mail.edits import AddRecipient
from relay.mail.phases import Edit
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Forward, Reject, Rewrite
from relay.spool.memory import MemorySpool
from relay.testing.invariants import ELSEWHERE, check_no_open_relay, check_nothing_lost, check_refusals_explained

LISTENER = '[[listener]]\nname = "mx"\naddress = "[::]:25"\n'

#: What a careful site says: mailboxes for all, onward for its own network and for who has logged in.
SITE = (
    LISTENER
    + """
[auth]
passwords = "passwords"

[[listener]]
name     = "submission"
address  = "[::]:587"
protocol = "submission"
tls      = "require"

[[policy]]
use   = "alias"
table = "aliases"

[[policy]]
name      = "mailboxes"
use       = "mailbox"
domains   = ["here.example"]
users     = ["jon", "ann"]
format    = "maildir"
directory = "mail"

[[policy]]
name = "outbound"
use  = "forward"
when = { client = ["127.0.0.1", "10.0.0.0/8"] }

[[policy]]
name = "submitted"
use  = "forward"
when = { authenticated = true }

[[table]]
name = "aliases"
file = "aliases"
"""
)

OPEN = {
    "everything": '[[policy]]\nuse = "forward"\n',
    "by its sender": '[[policy]]\nuse = "forward"\nwhen = { sender = ["here.example"] }\n',
    "notices": '[[policy]]\nuse = "forward"\nwhen = { sender = ["<>"] }\n',
    "by a smarthost": '[[policy]]\nuse = "forward"\nnext_hop = "smarthost.example"\n',
    "one network too many": '[[policy]]\nuse = "forward"\nwhen = { client = ["10.0.0.0/8", "203.0.113.0/24"] }\n',
    "behind a greylist": '[[policy]]\nuse = "greylist"\n[[policy]]\nuse = "forward"\n',
}


@implementer(IRoutingPolicy)
class PercentHack:
    """Reads an address as sendmail did in 1985; what goes elsewhere without such a trick it refuses."""

    class Options(Section):
        rewrites: bool

    def __init__(self, options: Any, world: Any) -> None:
        self._rewrites = options.rewrites

    def route(self, inquiry: Any) -> Any:
        if inquiry.original.domain != "here.example":
            return ABSTAIN
        if inquiry.recipient.domain == ELSEWHERE:
            return Forward(ELSEWHERE)
        local, found, domain = inquiry.recipient.local.rpartition("%")
        if not found or not local or domain != ELSEWHERE:
            return ABSTAIN
        return Rewrite([Address(local, domain)]) if self._rewrites else Forward(domain)


@implementer(IContentPolicy)
class CopiesOut:
    wants = "headers"

    def __init__(self, options: Any, world: Any) -> None:
        pass

    def examine(self, inquiry: Any) -> Any:
        return Edit([AddRecipient(Address("x", ELSEWHERE))], "to keep it")


@implementer(IRoutingPolicy, ISenderPolicy)
class Silent:
    """Refuses, and does not say why."""

    def __init__(self, options: Any, world: Any) -> None:
        pass

    def route(self, inquiry: Any) -> Any:
        return Reject(Reply.of(550, "5.7.1", "no"))

    def sender(self, inquiry: Any) -> Any:
        return ABSTAIN


class InvariantsCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.base = Path(folder.name)
        (self.base / "aliases").write_text(f"team@here.example jon@here.example ann@here.example far@{ELSEWHERE}\n")

    def fails(self, check: Callable[..., None], *arguments: Any, **more: Any) -> str:
        return str(self.assertRaises(AssertionError, check, *arguments, base=self.base, **more))


class ExamplesTests(SynchronousTestCase):
    def test_they_hold_of_the_configurations_that_come_with_the_relay(self) -> None:
        files = sorted((Path(__file__).parent.parent / "etc/examples").glob("*.toml"))
        self.assertNotEqual(files, [])
        for file in files:
            for check in check_no_open_relay, check_refusals_explained, check_nothing_lost:
                check(file, own=["example.org"], examples=25)


class OpenRelayTests(InvariantsCase):
    def test_a_careful_site_is_none(self) -> None:
        check_no_open_relay(SITE, own=["here.example"], base=self.base)

    def test_each_kind_of_open_relay_is_found(self) -> None:
        for name, policies in OPEN.items():
            said = self.fails(check_no_open_relay, LISTENER + policies, own=["here.example"])
            self.assertIn("an open relay: the policy 'forward' sends mail from", said, name)
            self.assertIn("at mx to", said, name)

    def test_so_is_a_policy_that_reads_addresses_wrongly(self) -> None:
        for rewrites in True, False:
            policies = [{"use": PercentHack, "rewrites": rewrites}]
            check_no_open_relay(LISTENER, policies=policies, examples=30)  # it is a trick with our own domains
            said = self.fails(check_no_open_relay, LISTENER, policies=policies, own=["here.example"])
            self.assertIn("the policy 'PercentHack' sends mail", said)

    def test_so_is_one_that_adds_recipients(self) -> None:
        policies = [{"use": CopiesOut}, {"use": "forward", "when": {"recipient": [ELSEWHERE]}}]
        said = self.fails(check_no_open_relay, LISTENER, policies=policies, own=["here.example"])
        self.assertIn("an open relay", said)

    def test_what_is_held_or_thrown_away_is_not_sent(self) -> None:
        check_no_open_relay(LISTENER + '[[policy]]\nuse = "discard"\n')
        check_no_open_relay(LISTENER + '[[policy]]\nuse = "console"\n')

    def test_strangers_come_by_way_of_who_speaks_for_them(self) -> None:
        for brings in 'proxy = ["127.0.0.1"]', 'proxy = ["0.0.0.0/0", "::/0"]', 'xclient = ["127.0.0.1"]':
            behind = f'[[listener]]\nname = "behind"\naddress = "127.0.0.1:2631"\n{brings}\n'
            forward = '[[policy]]\nuse = "forward"\nwhen = { listener = ["behind"] }\n'
            for before in "", LISTENER:
                said = self.fails(check_no_open_relay, before + behind + forward)
                self.assertIn("at behind to", said, brings)

    def test_strangers_are_ordinary_ones_too(self) -> None:
        (self.base / "nobodys").write_text(".example no\n.test no\n.invalid no\n")
        (self.base / "numbers").write_text("[198.51.100.25] no\n")
        forward = '[[policy]]\nuse = "forward"\n'
        documentation = '"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"'
        for before in (
            f'[[policy]]\nuse = "reject"\nwhen = {{ client = [{documentation}] }}\n',
            '[[policy]]\nuse = "reject"\nfile = "nobodys"\nlook_up = "sender"\n'
            '[[policy]]\nname = "notices"\nuse = "reject"\nwhen = { sender = ["<>"] }\n',
            '[[policy]]\nuse = "reject"\nfile = "nobodys"\n'
            '[[policy]]\nname = "numbers"\nuse = "reject"\nfile = "numbers"\n',
        ):
            said = self.fails(check_no_open_relay, LISTENER + before + forward, examples=5)
            self.assertIn("an open relay: the policy 'forward' sends mail", said, before)

    def test_so_is_a_listener_where_anybody_may_say_that_he_is_somebody_else(self) -> None:
        home = '[[policy]]\nuse = "forward"\nwhen = { client = ["127.0.0.0/8"] }\n'
        for networks in '"0.0.0.0/0"', '"0.0.0.0/1", "128.0.0.0/1"':
            said = self.fails(check_no_open_relay, LISTENER + f"xclient = [{networks}]\n" + home)
            self.assertIn("listener.1.xclient: anybody can say here", said)

    def test_who_is_a_stranger_may_be_said(self) -> None:
        office = LISTENER + '[[policy]]\nuse = "forward"\nwhen = { client = ["203.0.113.0/24"] }\n'
        self.fails(check_no_open_relay, office)
        check_no_open_relay(office, strangers=["192.0.2.1", "8.9.10.11"], examples=20)

    def test_where_no_stranger_comes_there_is_nothing_to_try(self) -> None:
        local = '[[listener]]\naddress = "127.0.0.1:2525"\n'
        self.assertRaises(ValueError, check_no_open_relay, local + OPEN["everything"])

    def test_a_configuration_that_is_wrong_is_told(self) -> None:
        self.assertRaises(ConfigurationError, check_no_open_relay, LISTENER + '[[policy]]\nuse = "soup"\n')

    def test_it_may_be_a_file(self) -> None:
        (self.base / "site.toml").write_text(LISTENER + OPEN["everything"])
        self.fails(check_no_open_relay, self.base / "site.toml")


class RefusalsTests(InvariantsCase):
    def test_our_own_policies_say_why(self) -> None:
        check_refusals_explained(SITE, own=["here.example"], base=self.base)
        check_refusals_explained(LISTENER + OPEN["behind a greylist"])

    def test_a_policy_that_does_not_is_found(self) -> None:
        said = self.fails(check_refusals_explained, LISTENER, policies=[Silent])
        self.assertIn("the policy 'Silent' does not say because of what", said)


class LossTests(InvariantsCase):
    def test_nothing_is_lost_at_a_careful_site(self) -> None:
        check_nothing_lost(SITE, own=["here.example"], base=self.base)

    def test_held_and_discarded_copies_are_accounted_for(self) -> None:
        for use in "discard", "console":
            check_nothing_lost(LISTENER + f'[[policy]]\nuse = "{use}"\n', examples=10)

    def test_a_queue_that_forgets_is_found(self) -> None:
        def forgetful(spool: MemorySpool, *arguments: Any) -> Any:
            spool.shelf.recipients.clear()
            spool.shelf.entries.clear()
            return recover(spool, *arguments)

        recover = MemorySpool.recover
        self.patch(MemorySpool, "recover", forgetful)
        said = self.fails(check_nothing_lost, LISTENER + OPEN["everything"])
        self.assertIn("is gone without a word", said)
        gc.collect()  # the relay of the failure, with whatever it was about to do
        self.flushLoggedErrors()
