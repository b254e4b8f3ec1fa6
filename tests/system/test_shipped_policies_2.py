"""Policies about lists in the DNS and about what stands in a message: their pages under twistd, and what comes of them."""

from __future__ import annotations

import socket

import pytest

from tests.interop.mails import in_maildir
from tests.policy.pages import Case, configurations, files, page
from tests.system.clients import Telnet, queue_id
from tests.system.harness import MAILBOXES, RelayProcess, SystemTestCase, configuration
from tests.system.test_shipped_policies_1 import Introduced, StrangersTestCase, heard, posted

pytestmark = pytest.mark.system

LISTS = '[[policy]]\nuse = "dnsbl"\n{options}\n[[policy.lists]]\nzone = "bl.test"\n' + MAILBOXES


class ListsTests(StrangersTestCase):
    def test_the_page_of_dnsbl_is_right(self) -> None:
        self.assert_page_is_right("dnsbl")

    def test_the_page_of_dnswl_is_right(self) -> None:
        self.assert_page_is_right("dnswl")

    def say(self, relay: RelayProcess, client: str) -> str:
        with Introduced(relay.address("mx"), client) as session:
            return heard(posted(session, {"recipient": "jon@localhost"}))

    def test_a_client_that_is_refused_hears_nothing_else_and_the_log_says_why(self) -> None:
        relay = self.begin(
            LISTS.format(options=""), {"9.2.0.192.bl.test": {"A": ["127.0.0.2"], "TXT": ["no\x07thing"]}}
        )
        with Introduced(relay.address("mx"), "192.0.2.9") as client:
            self.assertEqual(heard(client.greeting), "554 5.7.1 192.0.2.9 is listed by bl.test: no?thing")
            self.assertEqual(client.say("EHLO x.example")[:3], "503")
            self.assertEqual(client.quit()[:3], "221")
        refused = relay.event("refused", client="192.0.2.9")
        self.assertEqual((refused["policy"], refused["because"]), ("dnsbl", "192.0.2.9 is listed by bl.test: 1"))

    def test_a_list_that_is_given_up_is_said_aloud_once_and_lists_nobody(self) -> None:
        zone = {f"{host}.2.0.192.bl.test": {"A": ["203.0.113.1"]} for host in (8, 9)}
        relay = self.begin(LISTS.format(options=""), zone)
        for client in ("192.0.2.8", "192.0.2.9", "192.0.2.8"):
            relay.event("delivered", queue_id(self.say(relay, client)))
        relay.stop()
        relay.start()
        relay.event("delivered", queue_id(self.say(relay, "192.0.2.9")))
        said = "The list bl.test has answered 203.0.113.1, which is outside of 127.0.0.0/8"
        self.assertEqual(len(relay.said(said)), 1)

    def test_a_list_that_does_not_answer_delays_nobody_for_long(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            dns = "{}:{}".format(*silent.getsockname())
            relay = self.begin(LISTS.format(options='patience = "0.2s"'), {}, dns=dns)
            relay.event("delivered", queue_id(self.say(relay, "192.0.2.9")))
            relay.wait_for(r"The list bl.test has not answered \(no answer within 0.2 seconds\)")


class ContentPagesTests(SystemTestCase):
    """What the pages say is what becomes of a message."""

    def assert_page_is_right(self, use: str, *, alarms: tuple[str, ...] = ()) -> None:
        text = page(use)
        for policies, cases in configurations(text):
            folder = self.folder()
            for name, said in files(text).items():
                (folder / name).write_text(said)
            relay = self.relay(configuration(policies=policies), folder=folder)
            relay.expected.extend(alarms)
            relay.start()
            for case in cases:
                with Telnet(relay.address()) as client:
                    self.assert_becomes(relay, case, posted(client, case))
            relay.stop()

    def assert_becomes(self, relay: RelayProcess, case: Case, reply: str) -> None:
        expected, *changes = case["what becomes of it"].split(", with ")
        if expected[0].isdigit():
            self.assertEqual(heard(reply), expected, case)
            return
        id = queue_id(reply)
        recipient = case.get("recipient") or "jon@example.org"
        relay.event({"held": "held"}.get(expected, "delivered"), id, recipient=recipient)
        if expected.startswith("maildir"):
            arrived = self.arrived(relay, expected.removeprefix("maildir "), id)
            for change in changes[0].split(" and ") if changes else ():
                if change.startswith("a copy for "):
                    self.assert_copied(relay, change.removeprefix("a copy for "), id)
                else:
                    self.assertIn(f"\n{change}\n".encode(), arrived)

    def arrived(self, relay: RelayProcess, folder: str, id: str) -> bytes:
        """The message with this queue id, where a page says that it is."""
        [found] = [each for each in in_maildir(relay.folder / folder) if f" id {id}".encode() in each]
        return found.replace(b"\r\n", b"\n")

    def assert_copied(self, relay: RelayProcess, address: str, id: str) -> None:
        local, _, domain = address.partition("@")
        if domain == "example.org":
            relay.event("delivered", id, recipient=address)
            self.assertIn(b"Subject: hello", self.arrived(relay, f"var/mail/{local}", id))
        else:
            relay.wait_for(rf"{id}: the copy for <{address}> that a policy wants is refused: 550")

    def test_headers(self) -> None:
        self.assert_page_is_right("headers")

    def test_quarantine(self) -> None:
        self.assert_page_is_right("quarantine")

    def test_bcc(self) -> None:
        self.assert_page_is_right("bcc", alarms=("the copy for <bob@example.net>",))


class ContentTests(SystemTestCase):
    """Beyond the pages."""

    def test_what_is_held_is_shown_with_its_reason_and_goes_its_way_when_it_is_released(self) -> None:
        policies = '[[policy]]\nname = "strange"\nuse = "quarantine"\nreason = "a look first"\n' + MAILBOXES
        relay = self.started(configuration(policies=policies))
        with Telnet(relay.address()) as client:
            id = queue_id(client.post("jon@localhost"))
        held = relay.event("held", id)
        self.assertEqual((held["policy"], held["because"]), ("strange", "a look first"))
        listed = relay.relayctl("queue", "list", "--state", "held", "--policy", "strange", "-c", "relay.toml")
        self.assertIn(id, listed.stdout, listed)
        self.assertEqual(in_maildir(relay.folder / "mail/jon"), [])
        released = relay.relayctl("queue", "release", "--policy", "strange", "-c", "relay.toml")
        self.assertEqual(released.returncode, 0, released)
        relay.event("delivered", id)
        self.assertEqual(len(in_maildir(relay.folder / "mail/jon")), 1)

    def test_only_those_are_held_for_whom_the_condition_holds(self) -> None:
        """By LMTP there would be a reply for each; here the other recipient comes in a transaction of its own."""
        policies = '[[policy]]\nuse = "quarantine"\nwhen = { recipient = ["ann@localhost"] }\n' + MAILBOXES
        relay = self.started(configuration(policies=policies))
        with Telnet(relay.address()) as client:
            first, second = client.envelope("bob@client.test", "jon@localhost", "ann@localhost")
            self.assertEqual((first[:3], second[:9]), ("250", "452 4.5.3"))
            relay.event("delivered", queue_id(client.content()), recipient="jon@localhost")
            relay.event("held", queue_id(client.post("ann@localhost")), recipient="ann@localhost")

    def test_what_stays_of_a_message_that_is_changed_is_as_it_came(self) -> None:
        policies = (
            '[[policy]]\nuse = "headers"\naction = "edit"\nremove = ["x-spam"]\nreplace = { Subject = "[spam]" }\n'
            'add = { X-Spam = "no" }\n' + MAILBOXES
        )
        relay = self.started(configuration(policies=policies))
        body = b"..\r\n\xff 8 bit\r\nX-Spam: yes\r\nend"
        with Telnet(relay.address()) as client:
            client.envelope("bob@client.test", "jon@localhost")
            client.say("DATA")
            client.send(b"X-Odd:  two  blanks \r\nX-Spam: yes\r\n\tfolded\r\nsubject: hello\r\nx-spam: y\r\n\r\n")
            relay.event("delivered", queue_id(client.say(body + b"\r\n.")))
        [arrived] = in_maildir(relay.folder / "mail/jon")
        arrived = arrived.replace(b"\r\n", b"\n")
        self.assertIn(
            b"\nX-Spam: no\nX-Odd:  two  blanks \nSubject: [spam]\n\n.\n\xff 8 bit\nX-Spam: yes\nend\n", arrived
        )
        self.assertEqual(arrived.lower().count(b"x-spam"), 2)

    def test_a_copy_is_nobodys_business(self) -> None:
        policies = '[[policy]]\nuse = "bcc"\nto = ["kim@localhost"]\n' + MAILBOXES
        relay = self.started(configuration(policies=policies))
        with Telnet(relay.address()) as client:
            reply = client.post("jon@localhost")
            relay.event("delivered", queue_id(reply), recipient="kim@localhost")
            relay.event("delivered", queue_id(reply), recipient="jon@localhost")
            relay.event("delivered", queue_id(client.post("jon@localhost", sender="")), recipient="jon@localhost")
            relay.event("delivered", queue_id(client.post("kim@localhost")), recipient="kim@localhost")
        to_jon, to_kim = (in_maildir(relay.folder / "mail" / name) for name in ("jon", "kim"))
        self.assertEqual((len(to_jon), len(to_kim)), (2, 2))
        self.assertNotIn(b"kim", b"".join(to_jon))

    def test_a_message_that_comes_back_again_and_again_is_not_copied_for_ever(self) -> None:
        """Somebody far away sends what he gets to Jon again: each time with what the relay has put on top of it."""
        relay = self.started(configuration(policies='[[policy]]\nuse = "bcc"\nto = ["kim@localhost"]\n' + MAILBOXES))
        message = b"Subject: hello\r\n\r\nHi!"
        for _ in range(10):
            with Telnet(relay.address()) as client:
                client.envelope("bob@client.test", "jon@localhost")
                client.say("DATA")
                id = queue_id(client.say(message + b"\r\n."))
            relay.event("delivered", id, recipient="jon@localhost")
            message = max(in_maildir(relay.folder / "mail/jon"), key=lambda each: each.count(b"by mx.test "))
            message = message[message.index(b"Received:") :].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n").rstrip()
        relay.stop()
        self.assertEqual(len(in_maildir(relay.folder / "mail/kim")), 6)
