"""Garbage, at any point: a clear answer or none, nothing delivered that was not promised, and the relay still serves."""

from __future__ import annotations

import json
import mailbox
import re
from typing import Final

import pytest

from tests.system.clients import Telnet, queue_id
from tests.system.harness import RelayProcess, SystemTestCase, configuration, eventually

pytestmark = pytest.mark.system

HELO: Final = b"HELO c\r\n"
UP_TO_DATA: Final = HELO + b"MAIL FROM:<bob@client.test>\r\nRCPT TO:<ann@localhost>\r\nDATA\r\n"
QUIT: Final = b"QUIT\r\n"

#: What a client sends at once behind the greeting, and the codes it must hear until the relay closes the connection.
TABLE: Final[dict[str, tuple[bytes, str]]] = {
    "nothing but the end": (b"", ""),
    "NUL": (HELO + b"NOOP \0\r\n\0\r\n" + QUIT, "250 501 501 221"),
    "control characters": (b"HELO c\x1b[2J\r\n" + QUIT, "501 221"),
    "octets that are no text": (bytes(range(128, 256)) + b"\r\n" + QUIT, "500 221"),
    "invalid UTF-8 in an address": (b"EHLO c\r\nMAIL FROM:<\xff\xfe@c> SMTPUTF8\r\n" + QUIT, "250 501 221"),
    "UTF-8 that was not announced": (b"EHLO c\r\nMAIL FROM:<j\xc3\xb6rg@c>\r\n" + QUIT, "250 550 221"),
    "an empty line": (b"\r\n" + QUIT, "500 221"),
    "unknown commands": (b"FROB\r\nfrob nicate\r\nX-\r\n" + QUIT, "500 500 500 221"),
    "a command line that is too long": (HELO + b"NOOP " + b"x" * 5000 + b"\r\n" + QUIT, "250 500 221"),
    "two of them": ((b"x" * 5000 + b"\r\n") * 2 + QUIT, "500 421"),
    "a line without an end": (b"x" * 100_000, "500"),
    "megabytes without an end": (b"x" * 3_000_000, "500"),
    "a bare LF among CRLF": (HELO + b"NOOP\nQUIT\r\n", "250 421"),
    "a bare CR in a command": (HELO + b"NOOP\rQUIT\r\n" + QUIT, "250 501 221"),
    "out of order": (b"MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\n" + QUIT, "503 503 503 221"),
    "a browser": (b"GET / HTTP/1.1\r\nHost: mx.test\r\n\r\n", "421"),
    "TLS without being asked": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200 + b"\n", "421|501"),
    "twenty errors": (b"FROB\r\n" * 9 + b"A" * 10 + b"\r\n" + QUIT, "500 " * 10 + "221"),
    "a bare CR in content": (UP_TO_DATA + b"a\rb\r\n.\r\nRSET\r\n" + QUIT, "250 250 250 354 550 250 221"),
    "a bare LF in content": (UP_TO_DATA + b"a\nb\r\n.\r\n" + QUIT, "250 250 250 354 550 221"),
    "an end by bare LF": (UP_TO_DATA + b"a\n.\nMAIL FROM:<evil@c>\r\n.\r\n" + QUIT, "250 250 250 354 550 221"),
    "an end by bare CR": (UP_TO_DATA + b"a\r.\rMAIL FROM:<evil@c>\r\n.\r\n" + QUIT, "250 250 250 354 550 221"),
    "a line of content too long": (
        UP_TO_DATA + b"\r\n" + b"x" * 70_000 + b"\r\n.\r\n" + QUIT,
        "250 250 250 354 554 221",
    ),
    "content too large": (UP_TO_DATA + b"\r\n" + b"x\r\n" * 500_000 + b".\r\n" + QUIT, "250 250 250 354 552 221"),
    "content that does not end": (UP_TO_DATA + b"\r\n" + b"x\r\n" * 20_000, "250 250 250 354"),
    "content that never ends": (UP_TO_DATA + b"\r\n" + b"x\r\n" * 1_500_000, "250 250 250 354 421"),
    "too many header fields": (UP_TO_DATA + b"A: b\r\n" * 3000 + b"\r\n.\r\n" + QUIT, "250 250 250 354 552 221"),
    "a message that goes round": (
        UP_TO_DATA + b"Received: x\r\n" * 101 + b"\r\n.\r\n" + QUIT,
        "250 250 250 354 554 221",
    ),
}
CONFIGURATION: Final = configuration(tables='[limits]\nmessage = "1 MiB"\nheader = "128 KiB"\n')
#: A whole session, which is cut off after each of its octets.
SESSION: Final = UP_TO_DATA + b"Subject: cut off\r\n\r\n..\r\n.\r\n"


class BadInputTests(SystemTestCase):
    relay_process: RelayProcess

    @classmethod
    def setUpClass(cls) -> None:
        cls.relay_process = cls.share(CONFIGURATION)

    def serves(self) -> None:
        """A well-behaved client is served."""
        relay = self.relay_process
        with Telnet(relay.address()) as client:
            relay.event("delivered", queue_id(client.post("jon@localhost")))
            self.assertTrue(client.quit().startswith("221"))

    def nobody_is_left(self) -> None:
        """The relay has noticed that all clients are gone, and has no message left."""

        def status() -> dict[str, object]:
            said = json.loads(self.relay_process.relayctl("status", "--socket", "control.sock", "--json").stdout)
            return {"connections": said["listeners"][0]["connections"], "entries": said["queue"]["entries"]}

        eventually(lambda: status() == {"connections": 0, "entries": 0})

    def test_whatever_a_client_says_it_gets_clear_answers_and_the_relay_goes_on(self) -> None:
        complaints = []
        for name, (octets, codes) in TABLE.items():
            with Telnet(self.relay_process.address()) as client:
                heard = self.hear(client, octets)
            if not re.fullmatch(codes.strip(), " ".join(reply[:3] for reply in heard)):
                complaints.append((name, heard))
            complaints += [(name, reply) for reply in heard if not is_clear(reply)]
        self.assertEqual(complaints, [])
        self.serves()
        self.nobody_is_left()
        self.assertEqual(list(mailbox.Maildir(self.relay_process.folder / "mail" / "ann")), [])

    def hear(self, client: Telnet, octets: bytes) -> list[str]:
        try:
            client.send(octets)
            client.finish()
        except (BrokenPipeError, ConnectionResetError):
            pass  # the relay has closed it before all was said
        return client.replies()

    def test_a_client_may_be_gone_after_any_octet(self) -> None:
        relay = self.relay_process
        since = relay.mark
        for at in range(len(SESSION) + 1):
            client = Telnet(relay.address())
            client.send(SESSION[:at])
            if at % 2:
                client.reset()
            else:
                client.close()
        self.serves()
        self.nobody_is_left()
        # Only who has sent it to its end may find it delivered, although he has not waited for the answer.
        accepted = [line for line in relay.output.lines[since:] if '"accepted"' in line and "cut off" not in line]
        ann = mailbox.Maildir(relay.folder / "mail" / "ann")
        self.assertLessEqual(len(ann), 1)
        self.assertLessEqual(len(accepted), 2)
        for key in list(ann.keys()):
            ann.discard(key)

    def test_a_client_that_says_nothing_and_one_that_does_not_read_keep_nobody_waiting(self) -> None:
        with Telnet(self.relay_process.address()), Telnet(self.relay_process.address()) as deaf:
            deaf.send(b"HELO c\r\n" + b"HELP\r\n" * 50)
            self.serves()


class ImpatienceTests(SystemTestCase):
    def test_who_says_nothing_is_told_that_time_is_up(self) -> None:
        relay = self.started(configuration(tables='[limits]\nidle = "0.5s"\n'))
        with Telnet(relay.address()) as client:
            self.assertEqual(client.replies(), ["421 4.4.2 Timed out waiting for you"])
        with Telnet(relay.address()) as client:
            client.envelope("bob@client.test", "jon@localhost")
            self.assertEqual([reply[:9] for reply in client.replies()], ["421 4.4.2"])

    def test_too_many_connections_are_told_so(self) -> None:
        relay = self.started(configuration(tables="[limits]\nconnections = 2\n"))
        with Telnet(relay.address()), Telnet(relay.address()) as second:
            self.assertTrue(second.greeting.startswith("220"))
            with Telnet(relay.address()) as third:
                self.assertTrue(third.greeting.startswith("421 4.7.0"), third.greeting)
                self.assertEqual(third.reply(), "")
            second.post("jon@localhost")


def is_clear(reply: str) -> bool:
    """Words, in ASCII, and nothing of how we are built."""
    return reply.isascii() and reply.replace("\n", "").isprintable() and "Error" not in reply
