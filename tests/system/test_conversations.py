"""What people try first: a conversation by hand or by a program, and the mail where it should be."""

from __future__ import annotations

import getpass
import mailbox
import smtplib
import socket
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.system.clients import Telnet, queue_id
from tests.system.harness import MAILBOXES, REPOSITORY, RelayProcess, SystemTestCase, configuration

pytestmark = pytest.mark.system

MBOXES = """
[[policy]]
use = "mailbox"
domains = ["boxes.test"]
users = ["jon", "kim"]
format = "mbox"
directory = "boxes"
"""

#: Who comes from 127.0.0.2 is one of us here, and 127.0.0.1 is a stranger.
OURS = """
[[policy]]
use = "console"
when = { client = ["127.0.0.2"] }
"""


def maildir(folder: Path) -> mailbox.Maildir:
    """As a mail reader opens it."""
    return mailbox.Maildir(folder, create=False)


class DefaultConfigurationTests(SystemTestCase):
    """The configuration that the relay comes with; only the ports are others, since two could not have the same."""

    relay_process: RelayProcess

    @classmethod
    def setUpClass(cls) -> None:
        text = (REPOSITORY / "etc" / "relay.toml").read_text()
        assert text.count(":2525") == 2
        cls.relay_process = cls.share(text.replace(":2525", ":0").replace('"../var', '"var'))

    def test_the_dialogue_of_the_textbooks_by_telnet(self) -> None:
        self.converse(b"\r\n")

    def test_the_dialogue_of_the_textbooks_by_netcat(self) -> None:
        self.converse(b"\n")

    def converse(self, newline: bytes) -> None:
        relay, name = self.relay_process, socket.gethostname()
        client = Telnet(relay.address(), newline=newline)
        hostname = client.greeting.split()[1]
        self.assertEqual(client.greeting, f"220 {hostname} ESMTP relay")
        self.assertIn(name.split(".")[0].lower(), hostname)
        self.assertEqual(client.say("HELO frogbog"), f"250 {hostname} Hello frogbog [127.0.0.1]")
        self.assertEqual(client.say("mail from: jon@frogbog"), "250 2.1.0 Sender ok")
        self.assertEqual(client.say("rcpt to: jon@localhost"), "250 2.1.5 Recipient ok")
        refusal = client.say("rcpt to: elvis@localhost")
        self.assertRegex(refusal, r"^550 5\.1\.1 <elvis@localhost>: user unknown \[ref \w{6}\]$")
        self.assertEqual(client.say(f"rcpt to: {getpass.getuser()}@{hostname}"), "250 2.1.5 Recipient ok")
        self.assertTrue(client.say("data").startswith("354 "))
        client.send(newline.join([b"Text without a header,", b"..", b"and a dot.", b""]))
        id = queue_id(client.say("."))
        self.assertEqual(client.say("quit"), f"221 2.0.0 {hostname} closing, goodbye")
        for who in ("jon", getpass.getuser()):
            relay.wait_for(f"delivered.*{id}.*{who}@")
            [mail] = [one for one in maildir(relay.folder / "var/mail" / who) if id in str(one["Received"])]
            self.assertEqual(mail["Return-Path"], "<jon@frogbog>")
            self.assertTrue(mail.as_bytes().endswith(b"\n.\nand a dot.\n"), mail.as_bytes())

    def test_mail_for_elsewhere_is_shown_and_goes_nowhere(self) -> None:
        relay = self.relay_process
        since = relay.mark
        with Telnet(relay.address("local6" if "local6" in relay.addresses else "local")) as client:
            client.post("bob@example.org", subject="shown on the terminal")
        relay.wait_for("Subject: shown on the terminal", since)
        relay.wait_for(r"delivered.*bob@example\.org", since)

    def test_the_log_says_where_it_listens_where_mail_is_kept_and_what_to_try(self) -> None:
        relay = self.relay_process
        [said] = relay.said("Mail that was accepted is kept in")
        self.assertIn(str(relay.folder / "var/spool"), said)
        [said] = relay.said("Mailboxes of 'mailboxes' are in")
        self.assertIn(str(relay.folder / "var/mail"), said)
        [said] = relay.said("Try it: nc 127.0.0.1 [0-9]+")
        self.assertIn(str(relay.address()[1]), said)


class ProgramTests(SystemTestCase):
    relay_process: RelayProcess

    @classmethod
    def setUpClass(cls) -> None:
        cls.relay_process = cls.share(configuration(policies=MAILBOXES + MBOXES + OURS))

    def test_smtplib_sends_into_a_maildir_that_a_mail_reader_opens(self) -> None:
        relay, since = self.relay_process, self.relay_process.mark
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "bob@client.test", "ann@localhost", "Grüße"
        message.set_content("Liebe Ann,\n.\n..\nbis morgen.\n" + "x" * 900 + "\n")
        message.add_attachment(bytes(range(256)) * 400, maintype="application", subtype="octet-stream")
        with smtplib.SMTP(*relay.address(), local_hostname="client.test", timeout=20) as client:
            client.ehlo()
            self.assertTrue(client.has_extn("pipelining"))
            self.assertEqual(client.send_message(message), {})
        relay.event("delivered", since=since, recipient="ann@localhost")
        [kept] = maildir(relay.folder / "mail" / "ann")
        self.assertEqual(kept.get_payload(1).get_payload(decode=True), bytes(range(256)) * 400)
        self.assertIn("Liebe Ann,\n.\n..\nbis morgen.", kept.get_payload(0).get_payload(decode=True).decode())
        self.assertEqual(kept["Delivered-To"], "ann@localhost")

    def test_two_messages_for_one_mbox_are_two_messages_in_it(self) -> None:
        relay = self.relay_process
        ids = []
        with Telnet(relay.address()) as client:
            client.envelope("bob@client.test", "jon@boxes.test")
            client.say("DATA")
            client.send(b"Subject: one\r\n\r\nFrom here on\r\nthere is more.\r\n")
            ids.append(queue_id(client.say(".")))
            ids.append(queue_id(client.post("jon@boxes.test", subject="two")))
        for id in ids:
            relay.event("delivered", id)
        box = mailbox.mbox(relay.folder / "boxes" / "jon", create=False)
        self.assertEqual([mail["Subject"] for mail in box], ["one", "two"])
        self.assertIn("From here on\nthere is more.\n", box[0].get_payload().replace(">From", "From"))
        box.close()

    def test_one_message_for_several_is_in_the_mailbox_of_each(self) -> None:
        relay = self.relay_process
        with Telnet(relay.address()) as client:
            heard = client.envelope("", "kim@localhost", "KIM+lists@localhost", "kim@boxes.test", "elvis@localhost")
            self.assertEqual([reply[:3] for reply in heard], ["250", "250", "250", "550"])
            id = queue_id(client.content("for several"))
        for recipient in ("kim@localhost", "KIM+lists@localhost", "kim@boxes.test"):
            relay.event("delivered", id, recipient=recipient)
        subjects = [mail["Subject"] for mail in maildir(relay.folder / "mail" / "kim")]
        self.assertEqual(subjects, ["for several"])

    def test_a_stranger_may_not_relay_and_one_of_us_may(self) -> None:
        relay = self.relay_process
        with Telnet(relay.address()) as stranger:
            [heard] = stranger.envelope("bob@client.test", "alice@example.org")
            self.assertRegex(heard, r"^550 5\.7\.1 <alice@example\.org>: relaying denied \[ref \w{6}\]$")
            self.assertTrue(stranger.say("DATA").startswith("503 5.5.1"))
        with Telnet(relay.address(), source="127.0.0.2") as known:
            id = queue_id(known.post("alice@example.org"))
        relay.event("delivered", id)

    def test_a_client_that_pipelines_is_answered_in_its_order(self) -> None:
        relay = self.relay_process
        with Telnet(relay.address()) as client:
            client.say("EHLO client.test")
            client.send(
                b"MAIL FROM:<bob@client.test>\r\nRCPT TO:<elvis@localhost>\r\nRCPT TO:<jon@localhost>\r\nDATA\r\n"
            )
            self.assertEqual([client.reply()[:3] for _ in range(4)], ["250", "550", "250", "354"])
            client.send(b"Subject: piped\r\n\r\nHi!\r\n.\r\nRSET\r\nNOOP\r\nQUIT\r\n")
            self.assertEqual([reply[:3] for reply in client.replies()], ["250", "250", "250", "221"])

    def test_who_says_all_at_once_and_closes_his_side_is_answered(self) -> None:
        """As `printf '...' | nc -N` does; the reply to the content comes when the spool has it, which takes a while."""
        relay = self.relay_process
        lines = b"HELO c\nMAIL FROM:<a@b>\nRCPT TO:<jon@localhost>\nDATA\nSubject: piped in\n\nhi\n.\nQUIT\n"
        for octets in (lines, lines.removesuffix(b"QUIT\n"), lines.replace(b"\n", b"\r\n")):
            with Telnet(relay.address()) as client:
                client.send(octets)
                client.finish()
                heard = [reply[:3] for reply in client.replies()]
            self.assertEqual(heard[:5], ["250", "250", "250", "354", "250"])
            self.assertEqual(heard[5:], ["221"] if b"QUIT" in octets else [])

    def test_many_messages_on_one_connection(self) -> None:
        relay = self.relay_process
        with Telnet(relay.address()) as client:
            ids = [queue_id(client.post("jon@localhost", subject=f"number {n}")) for n in range(50)]
        self.assertEqual(len(set(ids)), 50)
        for id in ids:
            relay.event("delivered", id)


class WaysInTests(SystemTestCase):
    def test_the_command_relay_does_the_same_as_twistd(self) -> None:
        relay = self.started(configuration(), program=["relay"])
        with Telnet(relay.address()) as client:
            relay.event("delivered", queue_id(client.post("jon@localhost")))

    def test_it_listens_on_ipv6_or_says_that_this_machine_has_none(self) -> None:
        relay = self.started(configuration(listeners={"local": "127.0.0.1:0", "six": "[::1]:0"}))
        if there_is_ipv6():
            with Telnet(relay.address("six")) as client:
                self.assertEqual(client.say("HELO c"), "250 mx.test Hello c [::1]")
                relay.event("delivered", queue_id(client.post("jon@localhost")))
        else:
            self.assertEqual(len(relay.said(r"This machine has no \[::1\]:0: not listening there")), 1)
            self.assertEqual(list(relay.addresses), ["local"])

    def test_a_socket_in_the_file_system_is_a_listener_too(self) -> None:
        folder = self.folder()
        relay = self.started(configuration(listeners={"file": f"unix:{folder / 'smtp.sock'}"}), folder=folder)
        self.assertEqual(len(relay.said(r"Listening on unix:.*smtp\.sock \(file\)")), 1)
        with Telnet(folder / "smtp.sock") as client:
            self.assertEqual(client.say("HELO c"), "250 mx.test Hello c")
            relay.event("delivered", queue_id(client.post("jon@localhost")))


def there_is_ipv6() -> bool:
    """Whether this machine has a loopback address of IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as attempt:
            attempt.bind(("::1", 0))
    except OSError:
        return False
    return True
