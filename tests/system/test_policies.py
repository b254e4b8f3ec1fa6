"""Policies of others that misbehave: their own client hears 451, the log says why, and everybody else goes on."""

from __future__ import annotations

import pytest

from tests.system.clients import Telnet, queue_id
from tests.system.harness import MAILBOXES, RelayProcess, SystemTestCase, configuration

pytestmark = pytest.mark.system

TROUBLES = """
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from zope.interface import implementer
from relay.interfaces import IRoutingPolicy
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Reject

@implementer(IRoutingPolicy)
class Policy:
    def __init__(self, options, world):
        self.world = world

    def route(self, inquiry):
        return ABSTAIN

class Raises(Policy):
    def route(self, inquiry):
        raise RuntimeError("the secret plan has failed")

class RaisesLater(Policy):
    async def route(self, inquiry):
        await deferLater(self.world.clock, 0.01, lambda: None)
        raise RuntimeError("the secret plan has failed later")

class SaysNone(Policy):
    def route(self, inquiry):
        return None

class SaysText(Policy):
    def route(self, inquiry):
        return "accept"

class SaysAClass(Policy):
    def route(self, inquiry):
        return Reject

class NeverAnswers(Policy):
    def route(self, inquiry):
        return Deferred()

class Refuses(Policy):
    def route(self, inquiry):
        return Reject(Reply.of(554, "5.7.1", "not by this policy"), because="it was asked to")
"""
NAMES = ("Raises", "RaisesLater", "SaysNone", "SaysText", "SaysAClass", "NeverAnswers", "Refuses")
POLICY = """
[[policy]]
name = "{name}"
use = "troubles:{name}"
when = {{ recipient = ["{name}.test"] }}
timeout = {timeout}
"""
PATIENT = """
[[policy]]
name = "patient"
use = "troubles:NeverAnswers"
when = { recipient = ["patient.test"] }
timeout = "1h"
"""


class MisbehavingPolicyTests(SystemTestCase):
    def begin(self) -> RelayProcess:
        folder = self.folder()
        (folder / "troubles.py").write_text(TROUBLES)
        policies = "".join(POLICY.format(name=name, timeout=0.3) for name in NAMES)
        limits = '[limits]\npolicies_at_command = "1h"\n'
        relay = self.started(configuration(tables=limits, policies=policies + PATIENT + MAILBOXES), folder=folder)
        relay.expected = ["Raises", "Traceback", "#error", "#critical"]
        return relay

    def test_its_client_hears_451_and_may_go_on_and_the_log_says_whose_fault_it_is(self) -> None:
        relay = self.begin()
        for name in NAMES:
            since = relay.mark
            with Telnet(relay.address()) as client:
                heard, fine = client.envelope("bob@client.test", f"x@{name.lower()}.test", "jon@localhost")
                if name == "Refuses":
                    self.assertRegex(heard, r"^554 5\.7\.1 not by this policy \[ref \w{6}\]$")
                else:
                    self.assertRegex(heard, r"^451 4\.\d\.\d [^\n]*$")
                    self.assertNotIn("secret", heard)
                    relay.wait_for(rf"^[^{{].*{name}", since)
                self.assertEqual(fine[:3], "250")
                id = queue_id(client.content())
            relay.event("delivered", id)
        self.assertEqual(len(relay.said("RuntimeError: the secret plan has failed$")), 1)
        self.assertEqual(len(relay.said("RuntimeError: the secret plan has failed later$")), 1)

    def test_other_sessions_go_on_while_one_waits_for_a_policy(self) -> None:
        relay = self.begin()
        with Telnet(relay.address()) as waiting, Telnet(relay.address()) as other:
            waiting.say("HELO client.test")
            waiting.say("MAIL FROM:<bob@client.test>")
            waiting.send(b"RCPT TO:<x@patient.test>\r\nRSET\r\n")
            for number in range(20):
                relay.event("delivered", queue_id(other.post("jon@localhost", subject=str(number))))
            self.assertTrue(waiting.silent)
            waiting.reset()

    def test_a_policy_that_cannot_be_imported_is_an_error_of_the_configuration(self) -> None:
        relay = self.relay(configuration(policies='[[policy]]\nuse = "absent:Absent"\n'))
        relay.spawn()
        self.assertEqual(relay.wait(), 78)
        self.assertRegex(relay.output.text(), r"^relay\.toml:\d+: policy\.1\.use: .*absent")
        self.assertNotIn("Traceback", relay.output.text())
