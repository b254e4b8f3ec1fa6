"""Policies that block: in threads of their own they disturb nobody, and in the reactor's they are found."""

from __future__ import annotations

import signal
import time

import pytest

from tests.system.clients import Telnet, queue_id
from tests.system.harness import MAILBOXES, RelayProcess, SystemTestCase, configuration

pytestmark = pytest.mark.system

POLICIES = """
import re
import time
from collections import deque
from itertools import count
from pathlib import Path
from zope.interface import implementer
from relay.interfaces import IRoutingPolicy
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Reject

def probed(inquiry):
    # When the configuration is tried out.
    return inquiry.client.helo != "client.test"

@implementer(IRoutingPolicy)
class Sleeps:
    def __init__(self, options, world):
        self.world = world

    def route(self, inquiry):
        if probed(inquiry):
            return ABSTAIN
        time.sleep(3)  # here it sleeps
        return ABSTAIN

class SleepsLater(Sleeps):
    async def route(self, inquiry):
        if probed(inquiry):
            return ABSTAIN
        from twisted.internet.task import deferLater
        await deferLater(self.world.clock, 0.01, lambda: None)
        time.sleep(2)  # here it sleeps later
        return ABSTAIN

class Loops(Sleeps):
    def route(self, inquiry):
        while not probed(inquiry):  # here it loops
            pass
        return ABSTAIN

class Matches(Sleeps):
    def route(self, inquiry):
        if not probed(inquiry):
            re.match("(a+)+$", "a" * 64 + "b")  # here it matches
        return ABSTAIN

class LoopsOnProbes(Sleeps):
    def route(self, inquiry):
        while True: pass  # here it loops when it is tried

class MatchesOnProbes(Sleeps):
    def route(self, inquiry):
        re.match("(a+)+$", "a" * 64 + "b")  # here it matches when it is tried

class CountsOnProbes(Sleeps):
    def route(self, inquiry):
        deque(count(), maxlen=0)  # here it counts when it is tried, and lets no signal through

class Blocks(Sleeps):
    blocking = True
    threads = 1

    def route(self, inquiry):
        if probed(inquiry):
            return ABSTAIN
        self.world.store.put("asked", "yes", 60)
        answer = self.world.resolver.look_up("blocks.test", "A")
        while not Path("go-on").exists():
            time.sleep(0.01)
        text = f"{type(answer).__name__} {self.world.store.get('asked')}"
        return Reject(Reply.of(554, "5.7.1", text), because="it has taken its time")
"""
NAMES = ("Sleeps", "SleepsLater", "Loops", "Matches", "Blocks")
POLICY = """
[[policy]]
name = "policy-{name}"
use = "stalling:{name}"
when = {{ recipient = ["{name}.test"] }}
timeout = 5
"""
#: Nobody answers there, which is an answer.
NO_DNS = '[dns]\nservers = ["127.0.0.1:1"]\ntimeout = 1\nserver_timeout = 1\n'


def line_of(comment: str) -> int:
    """Where this comment stands in the module of the policies."""
    return next(number for number, line in enumerate(POLICIES.splitlines(), 1) if comment in line)


class StallCase(SystemTestCase):
    def begin(self, limit: str = "60", *expected: str) -> RelayProcess:
        folder = self.folder()
        (folder / "stalling.py").write_text(POLICIES)
        policies = "".join(POLICY.format(name=name) for name in NAMES)
        tables = f"[process]\nstall_limit = {limit}\n{NO_DNS}"
        relay = self.started(configuration(tables=tables, policies=policies + MAILBOXES), folder=folder)
        relay.expected = list(expected)
        return relay


class WatchdogTests(StallCase):
    def test_a_policy_that_sleeps_is_named_with_file_and_line_and_its_mail_goes_on(self) -> None:
        relay = self.begin("60", "stands still", "goes on")
        with Telnet(relay.address()) as client:
            self.assertEqual(client.envelope("bob@client.test", "x@sleeps.test", "jon@localhost")[0][:3], "550")
            relay.event("delivered", queue_id(client.content()))
        stands = relay.wait_for("The reactor stands still").string
        place = rf"stalling\.py:{line_of('# here it sleeps')} \(Sleeps\.route\)"
        self.assertRegex(stands, rf"#error\].* the policy policy-Sleeps blocks at \S*{place}")
        goes_on = relay.wait_for(r"goes on, after it has stood still for (\d\.\d) s")
        self.assertGreater(float(goes_on[1]), 2.5)
        self.assertEqual(len(relay.said("stands still")), 1)

    def test_so_is_one_that_sleeps_when_it_goes_on_with_what_it_has_waited_for(self) -> None:
        relay = self.begin("60", "stands still", "goes on")
        with Telnet(relay.address()) as client:
            self.assertEqual(client.envelope("bob@client.test", "x@sleepslater.test")[0][:3], "550")
        stands = relay.wait_for("The reactor stands still").string
        place = rf"stalling\.py:{line_of('# here it sleeps later')} \(SleepsLater\.route\)"
        self.assertRegex(stands, rf"the policy policy-SleepsLater blocks at \S*{place}")

    def test_one_that_never_ends_ends_the_process_with_all_stacks_and_nothing_is_lost(self) -> None:
        relay = self.begin("3", "stands still", "has stood still", "Traceback")
        # Nothing can be delivered before it has ended.
        mail = relay.folder / "mail"
        mail.write_text("in the way")
        with Telnet(relay.address()) as client:
            id = queue_id(client.post("jon@localhost", subject="promised"))
            relay.event("delayed", id)
            # What is noted of mail may wait a moment to be written; whoever asks for it is told what is written.
            self.assertEqual(relay.relayctl("queue", "show", id, "--socket", "control.sock").returncode, 0)
            client.say("HELO client.test")
            client.say("MAIL FROM:<bob@client.test>")
            client.send(b"RCPT TO:<x@loops.test>\r\n")
            self.assertEqual(relay.wait(), 70)
        text = relay.output.text()
        self.assertRegex(text, r"#critical\] The reactor has stood still for [3-9]\.\d s, by the policy policy-Loops")
        self.assertRegex(
            text, rf'stalling\.py", line (?:{line_of("here it loops")}|{line_of("here it loops") + 1}), in route'
        )
        self.assertIn("Thread MainThread", text)
        self.assertIn("Thread spool", text)
        mail.unlink()
        relay.start()
        self.assertEqual(relay.relayctl("queue", "retry", id, "--socket", "control.sock").returncode, 0)
        relay.event("delivered", id)

    def test_so_does_one_that_lets_no_other_thread_run(self) -> None:
        relay = self.begin("2", "Fatal", "Traceback")
        with Telnet(relay.address()) as client:
            client.say("HELO client.test")
            client.say("MAIL FROM:<bob@client.test>")
            client.send(b"RCPT TO:<x@matches.test>\r\n")
            self.assertEqual(relay.wait(), -signal.SIGPROF)
        self.assertRegex(relay.output.text(), rf'stalling\.py", line {line_of("# here it matches")} in route')

    def test_one_that_never_ends_when_it_is_tried_out_is_named_and_the_relay_does_not_start(self) -> None:
        for use, status in (("Loops", 78), ("Matches", 78), ("Counts", -signal.SIGPROF)):
            folder = self.folder()
            (folder / "stalling.py").write_text(POLICIES)
            name = f"{use}OnProbes"
            policies = POLICY.format(name=name).partition("when =")[0]
            tables = f"[process]\nstall_limit = 1\n{NO_DNS}"
            relay = self.relay(configuration(tables=tables, policies=policies + MAILBOXES), folder=folder)
            relay.expected = ["Fatal", "Traceback"]
            relay.spawn()
            self.assertEqual(relay.wait(), status, relay.output.text())
            line = line_of(f"# here it {use.lower()} when it is tried")
            said = rf"^relay\.toml:\d+: policy\.1: 'policy-{name}' does not come to an end .*stalling\.py:{line} "
            self.assertRegex(
                relay.output.text(), rf"(?m){said}" if status == 78 else rf'stalling\.py", line {line} in route'
            )

    def test_a_process_that_was_stopped_is_not_blamed(self) -> None:
        relay = self.begin("2")
        relay.send_signal(signal.SIGSTOP)
        # As long as its supervisor would have to wait twice: this is what time is needed for.
        time.sleep(4)
        relay.send_signal(signal.SIGCONT)
        relay.event("delivered", queue_id(Telnet(relay.address()).post("jon@localhost")))
        self.assertEqual(relay.said("stands still|stood still"), [])


class BlockingTests(StallCase):
    def test_one_that_says_that_it_blocks_disturbs_nobody(self) -> None:
        relay = self.begin("60", "Blocks")
        with Telnet(relay.address()) as waiting, Telnet(relay.address()) as other:
            waiting.say("HELO client.test")
            waiting.say("MAIL FROM:<bob@client.test>")
            waiting.send(b"RCPT TO:<x@blocks.test>\r\n")
            for number in range(20):
                relay.event("delivered", queue_id(other.post("jon@localhost", subject=str(number))))
            self.assertTrue(waiting.silent)
            (relay.folder / "go-on").touch()
            self.assertEqual(waiting.reply()[:24], "554 5.7.1 Unanswered yes")
        self.assertEqual(relay.said("stands still"), [])

    def test_one_that_never_ends_is_451_and_the_process_still_stops(self) -> None:
        relay = self.begin("60", "Blocks")
        with Telnet(relay.address()) as client:
            began = time.monotonic()
            self.assertEqual(client.envelope("bob@client.test", "x@blocks.test")[0][:3], "451")
            late = time.monotonic() - began
            self.assertGreaterEqual(late, 5)
            client.say("RSET")
            began = time.monotonic()
            self.assertEqual(client.envelope("bob@client.test", "x@blocks.test")[0][:3], "451")
            self.assertLess(time.monotonic() - began, 4, "its only thread hangs: it answers at once")
        relay.wait_for(r"policy policy-Blocks still blocks at \S*stalling\.py:\d+ \(Blocks\.route\)")
        relay.wait_for(r"policy policy-Blocks cannot be asked.*all of its 1 threads hang")
        relay.stop()
