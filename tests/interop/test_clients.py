"""Programs that send mail, each in its own way, into the Maildirs of the relay."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import pytest

from tests.interop.house import BOXES, LENIENT, arrived
from tests.interop.mails import BIG, EIGHT_BIT, EVERYTHING, PLAIN, assert_same, mail, trace, without_trace
from tests.interop.peers import run
from tests.interop.typist import Typist
from tests.system.harness import RelayProcess, SystemTestCase, configuration

pytestmark = pytest.mark.interop

#: swaks sends no message without a body, and takes a dot in the last line for the end of its input.
SWAKS_CAN = {name: re.sub(rb"\r\n\.\r\n\Z", b"\r\n", octets) for name, octets in PLAIN.items() if name != "empty"}

#: Control-D: netcat waits for it although the connection is closed.
END_OF_FILE = "\x04"


class SendingTests(SystemTestCase):
    relay_process: ClassVar[RelayProcess]

    @classmethod
    def setUpClass(cls) -> None:
        cls.relay_process = cls.share(configuration(newlines="strict", tables=LENIENT, policies=BOXES))

    def setUp(self) -> None:
        self.host, port = self.relay_process.address()
        self.port = str(port)

    def maildir(self, user: str) -> Path:
        return self.relay_process.folder / "mail" / user

    def written(self, octets: bytes) -> Path:
        path = self.folder() / "message"
        path.write_bytes(octets)
        return path

    def assertArrived(self, user: str, *messages: bytes) -> None:
        found = [without_trace(octets) for octets in arrived(self.maildir(user), len(messages))]
        for octets, expected in zip(sorted(found), sorted(messages), strict=True):
            assert_same(octets, expected)


class SwaksTests(SendingTests):
    def swaks(self, octets: bytes, *options: str | Path) -> str:
        words = ("--server", self.host, "--port", self.port, "--helo", "client.test", "--from", "bob@client.test")
        # It ends the content with CRLF.CRLF whatever was there before.
        message = self.written(octets.removesuffix(b"\r\n"))
        return run("swaks", *words, "--data", f"@{message}", *options).decode(errors="replace")

    def test_one_command_at_a_time(self) -> None:
        for name, octets in SWAKS_CAN.items():
            self.swaks(octets, "--to", f"swaks-{name}@localhost")
            self.assertArrived(f"swaks-{name}", octets)

    def test_commands_in_one_segment(self) -> None:
        for name, octets in SWAKS_CAN.items():
            said = self.swaks(octets, "--pipeline", "--to", f"swaks-piped-{name}@localhost")
            self.assertRegex(said, r"\n -> MAIL FROM:.*\n -> RCPT TO:.*\n -> DATA\n<- ")
            self.assertArrived(f"swaks-piped-{name}", octets)

    def test_each_of_several_recipients_gets_a_copy_and_the_unknown_one_a_refusal(self) -> None:
        for options in [], ["--pipeline"]:
            users = [f"several-{number}-{len(options)}" for number in range(5)]
            to = ",".join([*(f"{user}@localhost" for user in users), "elvis@elsewhere.test"])
            said = self.swaks(PLAIN["text"], "--to", to, *options)
            self.assertRegex(said, r"(?m)^<\S* 550 5\.7\.1 .*relaying denied")
            for user in users:
                self.assertArrived(user, PLAIN["text"])

    def test_a_transaction_without_a_valid_recipient_ends_without_content(self) -> None:
        words = (
            "--server",
            self.host,
            "--port",
            self.port,
            "--to",
            "elvis@elsewhere.test",
            "--from",
            "bob@client.test",
        )
        for options in [], ["--pipeline"]:
            said = run("swaks", *words, *options, status=24).decode()
            self.assertIn("550 5.7.1", said)

    def test_a_big_message(self) -> None:
        self.swaks(BIG, "--to", "swaks-big@localhost")
        self.assertArrived("swaks-big", BIG)

    def test_eight_bits_in_either_way(self) -> None:
        for user, options in (("eight", []), ("eight-piped", ["--pipeline"])):
            self.swaks(EIGHT_BIT, "--to", f"{user}@localhost", *options)
            self.assertArrived(user, EIGHT_BIT)

    def test_the_null_reverse_path(self) -> None:
        self.swaks(PLAIN["text"], "--to", "null@localhost", "--from", "<>")
        [octets] = arrived(self.maildir("null"))
        self.assertEqual(trace(octets)[0], b"Return-Path: <>")

    def test_how_it_came_is_in_the_received_field(self) -> None:
        self.swaks(PLAIN["text"], "--to", "traced@localhost")
        self.swaks(PLAIN["text"], "--to", "traced@localhost", "--protocol", "SMTP")
        fields = [trace(octets) for octets in arrived(self.maildir("traced"), 2)]
        for return_path, delivered_to, received in fields:
            self.assertEqual(return_path, b"Return-Path: <bob@client.test>")
            self.assertEqual(delivered_to, b"Delivered-To: traced@localhost")
            self.assertRegex(
                received, rb"^Received: from client\.test \(\[127\.0\.0\.1\]\) by mx\.test \(relay\) with "
            )
        self.assertEqual(sorted(b" with ESMTP " in received for *_, received in fields), [False, True])


class CurlTests(SendingTests):
    def curl(self, octets: bytes, *users: str) -> None:
        to = [word for user in users for word in ("--mail-rcpt", f"{user}@localhost")]
        url = f"smtp://{self.host}:{self.port}/client.test"
        message = self.written(octets)
        run("curl", "--silent", "--show-error", url, "--mail-from", "bob@client.test", *to, "--upload-file", message)

    def test_all_messages_arrive_as_they_were_sent(self) -> None:
        for name, octets in EVERYTHING.items():
            self.curl(octets, f"curl-{name}")
            self.assertArrived(f"curl-{name}", octets)

    def test_several_recipients(self) -> None:
        self.curl(PLAIN["dots"], "curl-a", "curl-b", "curl-c")
        for user in "curl-a", "curl-b", "curl-c":
            self.assertArrived(user, PLAIN["dots"])

    def test_an_address_in_utf_8(self) -> None:
        message = self.written(mail("utf8", "Ünïcödé\r\n".encode()))
        url = f"smtp://{self.host}:{self.port}/client.test"
        words = ("--mail-from", "zoë@client.test", "--mail-rcpt", "international@localhost")
        run("curl", "--silent", "--show-error", url, *words, "--upload-file", message)
        [octets] = arrived(self.maildir("international"))
        self.assertEqual(trace(octets)[0], "Return-Path: <zoë@client.test>".encode())
        self.assertIn(b" with UTF8SMTP ", trace(octets)[-1])


class MsmtpTests(SendingTests):
    def test_all_messages_arrive_as_they_were_sent(self) -> None:
        words = (f"--host={self.host}", f"--port={self.port}", "--domain=client.test", "--from=bob@client.test")
        for name, octets in EVERYTHING.items():
            # Like sendmail it is given lines of the machine it runs on.
            lines = octets.replace(b"\r\n", b"\n")
            run("msmtp", "--file=/dev/null", *words, "--", f"msmtp-{name}@localhost", stdin=lines)
            self.assertArrived(f"msmtp-{name}", octets)


class MuttTests(SendingTests):
    def test_a_letter_with_an_attachment_and_foreign_letters(self) -> None:
        folder = self.folder()
        attached = folder / "attached.bin"
        attached.write_bytes(bytes(range(256)) * 50)
        (folder / "rc").write_text(
            f'set smtp_url="smtp://{self.host}:{self.port}" from="bob@client.test" hostname="client.test"\n'
            'set copy=no use_8bitmime=yes allow_8bit=yes send_charset="utf-8" charset="utf-8" ssl_starttls=no ssl_force_tls=no\n'
        )
        words = ("-n", "-F", folder / "rc", "-s", "Grüße", "-a", attached, "--", "mutt@localhost", "mutt2@localhost")
        run("mutt", *words, stdin="Zażółć gęślą jaźń\n.\n..\n".encode(), cwd=folder, HOME=str(folder))
        [one], [other] = arrived(self.maildir("mutt")), arrived(self.maildir("mutt2"))
        self.assertEqual(without_trace(one), without_trace(other))
        self.assertIn("\r\n\r\nZażółć gęślą jaźń\r\n.\r\n..\r\n".encode(), without_trace(one))
        self.assertIn(b"Content-Transfer-Encoding: 8bit\r\n", without_trace(one))
        self.assertIn(b'filename="attached.bin"', without_trace(one))


class TypedTests(SendingTests):
    """The dialogue of the textbooks, by hand."""

    def converse(self, person: Typist, user: str) -> None:
        person.reads(r"^220 mx\.test ESMTP relay")
        for line, answer in (
            ("HELO frogbog", r"^250 mx\.test Hello frogbog"),
            ("mail from: jon@frogbog", r"^250 2\.1\.0 "),
            (f"rcpt to: {user}@localhost", r"^250 2\.1\.5 "),
            ("rcpt to: nobody@elsewhere.test", r"^550 5\.7\.1 "),
            ("NOOP", r"^250 2\.0\.0 "),
            ("HELP", r"^214 2\.0\.0 "),
            (f"VRFY {user}", r"^252 2\.\d\.\d "),
            ("data", r"^354 "),
        ):
            person.types(line).reads(answer)
        for line in ("Subject: by hand", "", "Hi!", "..", "bye"):
            person.types(line)
        person.types(".").reads(r"^250 2\.0\.0 Ok: queued as \S+")
        person.types("quit").reads(r"^221 ")

    def test_by_telnet_whose_lines_end_with_crlf(self) -> None:
        with Typist("telnet", self.host, self.port) as person:
            self.converse(person, "telnet")
            person.waits()
        self.assertArrived("telnet", b"Subject: by hand\r\n\r\nHi!\r\n.\r\nbye\r\n")

    def test_by_netcat_whose_lines_end_with_lf(self) -> None:
        host, port = self.relay_process.address("lenient")
        with Typist("nc", host, str(port)) as person:
            self.converse(person, "netcat")
            self.assertEqual(person.types(END_OF_FILE).waits(), 0)
        self.assertArrived("netcat", b"Subject: by hand\r\n\r\nHi!\r\n.\r\nbye\r\n")

    def test_by_telnet_where_both_are_understood(self) -> None:
        host, port = self.relay_process.address("lenient")
        with Typist("telnet", host, str(port)) as person:
            self.converse(person, "telnet-lenient")
            person.waits()
        self.assertArrived("telnet-lenient", b"Subject: by hand\r\n\r\nHi!\r\n.\r\nbye\r\n")

    def test_a_whole_dialogue_from_a_file_through_netcat(self) -> None:
        host, port = self.relay_process.address("lenient")
        lines = [
            *("HELO frogbog", "MAIL FROM:<jon@frogbog>", "RCPT TO:<piped@localhost>", "DATA"),
            *("Subject: piped", "", "Hi!", ".", "QUIT", ""),
        ]
        for options in ["-N"], []:  # it says that nothing more will come, or not
            said = run("nc", *options, host, str(port), stdin="\n".join(lines).encode()).decode()
            codes = [line[:3] for line in said.splitlines()]
            self.assertEqual(codes, ["220", "250", "250", "250", "354", "250", "221"])
        hello = b"Subject: piped\r\n\r\nHi!\r\n"
        self.assertArrived("piped", hello, hello)
