"""SIGTERM: what is in flight is finished or refused, nothing is forgotten, and it is over in seconds."""

from __future__ import annotations

import mailbox
import signal
import time

import pytest

from tests.system.clients import MESSAGE, Telnet, queue_id
from tests.system.harness import MAILBOXES, RelayProcess, SystemTestCase, configuration

pytestmark = pytest.mark.system

GOODBYE = "421 4.3.2 The service is stopping, please try again later"

#: An answer of this policy takes longer than the relay lets itself be kept from stopping.
SLOW = """
from twisted.internet.defer import Deferred
from zope.interface import implementer
from relay.interfaces import IRoutingPolicy

@implementer(IRoutingPolicy)
class Slow:
    def __init__(self, options, world):
        pass

    async def route(self, inquiry):
        await Deferred()
"""


class StoppingTests(SystemTestCase):
    def subjects(self, relay: RelayProcess) -> list[str]:
        return sorted(mail["Subject"] for mail in mailbox.Maildir(relay.folder / "mail" / "jon"))

    def terminate(self, relay: RelayProcess) -> None:
        """SIGTERM, and return when it has been heard."""
        since = relay.mark
        relay.send_signal(signal.SIGTERM)
        relay.wait_for("Stopping: what is in flight", since)

    def ends(self, relay: RelayProcess, *, within: float, by: signal.Signals = signal.SIGTERM) -> None:
        began = time.monotonic()
        relay.wait_stopped(by=by)
        self.assertLess(time.monotonic() - began, within)

    def test_who_is_idle_or_in_the_middle_of_a_transaction_is_told_and_nobody_is_let_in(self) -> None:
        relay = self.started(configuration())
        fresh, named, open_transaction = (Telnet(relay.address()) for _ in range(3))
        named.say("EHLO client.test")
        open_transaction.envelope("bob@client.test", "jon@localhost")
        self.terminate(relay)
        for client in (fresh, named, open_transaction):
            self.assertEqual(client.replies(), [GOODBYE])
            client.close()
        with self.assertRaises(ConnectionRefusedError):
            Telnet(relay.address())
        self.ends(relay, within=5)

    def test_content_that_is_on_its_way_is_taken_to_its_end_and_promised(self) -> None:
        relay = self.started(configuration())
        client = Telnet(relay.address())
        client.envelope("bob@client.test", "jon@localhost")
        client.say("DATA")
        octets = MESSAGE.format(subject="finished").encode()
        client.send(octets[:20])
        self.terminate(relay)
        client.send(octets[20:])
        id = queue_id(client.say("."))
        self.assertEqual(client.replies(), [GOODBYE])
        client.close()
        self.ends(relay, within=5)
        relay.start()
        relay.event("delivered", id)
        self.assertEqual(self.subjects(relay), ["finished"])

    def test_who_does_not_finish_is_cut_off_after_some_seconds_and_a_policy_that_thinks_too(self) -> None:
        folder = self.folder()
        (folder / "slow.py").write_text(SLOW)
        slow = '[[policy]]\nuse = "slow:Slow"\nwhen = { recipient = ["slow.test"] }\ntimeout = "1h"\n'
        relay = self.started(configuration(policies=slow + MAILBOXES), folder=folder)
        dawdler, waiting = Telnet(relay.address()), Telnet(relay.address())
        dawdler.envelope("bob@client.test", "jon@localhost")
        dawdler.say("DATA")
        dawdler.send(b"Subject: never finished\r\n")
        waiting.say("HELO client.test")
        waiting.say("MAIL FROM:<bob@client.test>")
        waiting.send(b"RCPT TO:<x@slow.test>\r\n")
        self.terminate(relay)
        self.assertIn(dawdler.reply(), ("", GOODBYE))
        self.assertIn(waiting.reply()[:4], ("", "421 ", "451 "))
        dawdler.close()
        waiting.close()
        self.ends(relay, within=10)
        relay.start()
        with Telnet(relay.address()) as client:
            relay.event("delivered", queue_id(client.post("jon@localhost", subject="later")))
        self.assertEqual(self.subjects(relay), ["later"])

    def test_a_second_sigterm_changes_nothing_and_sigint_stops_it_too(self) -> None:
        relay = self.started(configuration())
        # Twisted complains of the second one.
        relay.expected = ["while calling from thread", "Traceback"]
        client = Telnet(relay.address())
        client.envelope("bob@client.test", "jon@localhost")
        client.say("DATA")
        client.send(b"Subject: twice\r\n\r\n")
        self.terminate(relay)
        relay.send_signal(signal.SIGTERM)
        self.assertTrue(client.say(".").startswith("250 "))
        client.close()
        self.ends(relay, within=5)
        relay.start()
        relay.send_signal(signal.SIGINT)
        self.ends(relay, within=5, by=signal.SIGINT)

    def test_it_stops_while_it_delivers_and_goes_on_with_it_when_it_starts(self) -> None:
        relay = self.started(configuration())
        with Telnet(relay.address()) as client:
            ids = [queue_id(client.post("jon@localhost", subject=str(number))) for number in range(200)]
            self.terminate(relay)
        self.ends(relay, within=10)
        relay.start()
        for id in ids:
            relay.event("delivered", id)
        self.assertEqual(sorted(map(int, self.subjects(relay))), list(range(200)))
