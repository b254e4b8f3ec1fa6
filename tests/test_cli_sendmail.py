"""`relay-sendmail`: what the relay is told, and what whoever has called it is told."""

from __future__ import annotations

import contextlib
import io
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.cli.addressees import addressees
from relay.cli.letter import Author, Letter, phrase
from relay.cli.sendmail import run
from relay.cli.sendmail_options import Mode, Options, UsageError, options
from relay.cli.submission import NoSuchPlace, Place, find

AUTHOR = Author("Jon <jon@mx.test>", "Mon, 23 Nov 2026 12:00:00 +0000", "<1@mx.test>")
OFFERS = ("PIPELINING", "SIZE 26214400", "8BITMIME", "DSN", "ENHANCEDSTATUSCODES")


class OtherRelay:
    """
    A relay on a Unix socket, in a thread: written here, so that it shares no mistake with ours.

    `replies` are what it answers where that is not 250: by the beginning of a command, or ".", the end of content;
    "" is the greeting, and a reply of "" closes the connection instead.
    """

    def __init__(self, path: str, replies: Mapping[str, str] | None = None, offers: tuple[str, ...] = OFFERS) -> None:
        self._replies = {"": "220 mx.test ESMTP", "DATA": "354 go on", "QUIT": "221 bye", **(replies or {})}
        self._offers = offers
        #: Commands, and the content of each message with its dots removed.
        self.heard: list[str] = []
        self.messages: list[bytes] = []
        #: It says "amid" when a message has begun, and closes the connection.
        self.deaf = False
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(path)
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                with connection, connection.makefile("rwb") as stream, contextlib.suppress(OSError):
                    self._talk(stream)

    def _say(self, stream: Any, command: str) -> str:
        known = [words for words in self._replies if words and command.upper().startswith(words.upper())]
        reply = (
            self._replies[max(known, key=len) if command and known else ""] if known or not command else "250 2.0.0 Ok"
        )
        stream.write((f"{reply}\r\n" if reply else "").encode())
        stream.flush()
        return reply

    def _talk(self, stream: Any) -> None:
        if not self._say(stream, "").startswith("2"):
            return
        recipients = 0
        for line in stream:
            command = line.decode().removesuffix("\r\n")
            self.heard.append(command)
            if command[:4] in ("EHLO", "LHLO"):
                lines = ["mx.test", *self._offers]
                said = [f"250{'-' if each is not lines[-1] else ' '}{each}\r\n" for each in lines]
                stream.write("".join(said).encode())
                stream.flush()
                lmtp = command.startswith("LHLO")
                continue
            reply = self._say(stream, command)
            if not reply or command == "QUIT":
                return
            recipients += command.startswith("RCPT") and reply.startswith("2")
            if reply.startswith("354"):
                if self.deaf:
                    stream.readline(1000)
                    self._say(stream, "amid")
                    return
                self.messages.append(self._content(stream))
                for _ in range(recipients if lmtp else 1):
                    if not self._say(stream, "."):
                        return
                recipients = 0

    @staticmethod
    def _content(stream: Any) -> bytes:
        lines = []
        while (line := stream.readline()) not in (b".\r\n", b""):
            lines.append(line[1:] if line.startswith(b".") else line)
        return b"".join(lines)


class SendmailCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = f"{self.folder}/sendmail.sock"
        self.config = Path(self.folder, "relay.toml")
        self.config.write_text('hostname = "mx.test"\n[[listener]]\naddress = "unix:sendmail.sock"\n')
        os.environ.pop("RELAY_CONFIG", None)
        self.patch(pwd, "getpwuid", lambda uid: pwd.struct_passwd(("jon", "x", uid, 100, "Jon & Co,Room 7", "/", "/")))

    def relay(self, replies: Mapping[str, str] | None = None, offers: tuple[str, ...] = OFFERS) -> OtherRelay:
        relay = OtherRelay(self.path, replies, offers)
        self.addCleanup(relay.stop)
        return relay

    def sendmail(self, *arguments: str, typed: bytes = b"Subject: hello\n\nHello, Elvis.\n") -> tuple[int, str, str]:
        """The exit status, what was printed, and what was complained of."""
        out, err = io.TextIOWrapper(io.BytesIO(), newline=""), io.StringIO()
        self.patch(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed)))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run(["-C", str(self.config), *arguments])
        out.seek(0)
        return status, out.read(), err.getvalue()


class SendingTests(SendmailCase):
    def test_a_message_is_given_to_the_relay_with_what_it_lacks(self) -> None:
        relay = self.relay()
        self.assertEqual(self.sendmail("bob@example.net", "carol@Example.COM"), (0, "", ""))
        self.assertEqual(
            relay.heard,
            [
                "EHLO mx.test",
                f"MAIL FROM:<jon@mx.test> SIZE={len(relay.messages[0])}",
                "RCPT TO:<bob@example.net>",
                "RCPT TO:<carol@example.com>",
                "DATA",
                "QUIT",
            ],
        )
        head, _, body = relay.messages[0].partition(b"\r\n\r\n")
        self.assertEqual(body, b"Hello, Elvis.\r\n")
        lines = head.decode().split("\r\n")
        # An ampersand in the system's list of users stands for the login.
        self.assertEqual(lines[:2], ["Subject: hello", "From: Jon Jon Co <jon@mx.test>"])
        self.assertRegex(lines[2], r"^Date: \w{3}, \d\d? \w{3} \d{4} \d\d:\d\d:\d\d \+0000$")
        self.assertRegex(lines[3], r"^Message-ID: <[0-9a-f]+\.[0-9a-f]{16}@mx\.test>$")
        self.assertEqual(len(lines), 4)

    def test_recipients_come_from_the_header_and_nobody_sees_bcc(self) -> None:
        relay = self.relay()
        typed = (
            b"From: me@mx.test\nDate: x\nMessage-ID: <y>\nTo: Bob <bob@example.net>,\n carol@example.com\n"
            b"Bcc: secret@example.org\nCC: team: dave@example.edu, root;\nSubject: hello\n\nbody\n"
        )
        self.assertEqual(self.sendmail("-t", "bob@example.net", "zoe@example.info", typed=typed), (0, "", ""))
        named = [line[9:-1] for line in relay.heard if line.startswith("RCPT")]
        self.assertEqual(
            named,
            [
                "bob@example.net",
                "zoe@example.info",
                "carol@example.com",
                "secret@example.org",
                "dave@example.edu",
                "root@mx.test",
            ],
        )
        without = typed.replace(b"Bcc: secret@example.org\n", b"")
        self.assertEqual(relay.messages, [without.replace(b"\n", b"\r\n")])

    def test_the_sender_may_be_somebody_else_or_nobody(self) -> None:
        relay = self.relay()
        for said in (("-f", "ann@example.org"), ("-rann@example.org",), ("-f<>",), ("-f", ""), ("-f", "root")):
            self.sendmail("-F", "A. Nobody", *said, "bob@example.net")
        senders = [line.split()[1] for line in relay.heard if line.startswith("MAIL")]
        expected = ["<ann@example.org>", "<ann@example.org>", "<>", "<>", "<root@mx.test>"]
        self.assertEqual(senders, [f"FROM:{each}" for each in expected])
        self.assertIn(b'\r\nFrom: "A. Nobody" <ann@example.org>\r\n', relay.messages[0])
        self.assertIn(b'\r\nFrom: "A. Nobody" <jon@mx.test>\r\n', relay.messages[2])

    def test_what_the_sender_wants_to_be_told_is_passed_on(self) -> None:
        relay = self.relay()
        self.sendmail("-N", "failure,success", "-R", "hdrs", "-V", "a+b", "bob@example.net")
        self.assertEqual(relay.heard[1].split()[-2:], ["RET=HDRS", "ENVID=a+2Bb"])
        self.assertEqual(relay.heard[2], "RCPT TO:<bob@example.net> NOTIFY=SUCCESS,FAILURE")
        self.sendmail("-Nnever", "bob@example.net")
        self.assertEqual(relay.heard[-3], "RCPT TO:<bob@example.net> NOTIFY=NEVER")

    def test_a_dot_alone_ends_the_message_unless_it_is_a_line_like_any_other(self) -> None:
        relay = self.relay()
        typed = b"A: b\n\none\n.\n.two\n..\n"
        self.sendmail("bob@example.net", typed=typed)
        self.sendmail("-i", "bob@example.net", typed=typed)
        self.sendmail("-oi", "bob@example.net", typed=typed)
        bodies = [message.partition(b"\r\n\r\n")[2] for message in relay.messages]
        self.assertEqual(bodies, [b"one\r\n", b"one\r\n.\r\n.two\r\n..\r\n", b"one\r\n.\r\n.two\r\n..\r\n"])

    def test_lmtp_is_spoken_where_the_listener_does(self) -> None:
        self.config.write_text(self.config.read_text() + 'protocol = "lmtp"\n')
        relay = self.relay({"RCPT TO:<b": "550 5.1.1 unknown"}, ("PIPELINING", "ENHANCEDSTATUSCODES"))
        status, out, err = self.sendmail("-v", "a@x", "b@x", "c@x")
        self.assertEqual(relay.heard[0], "LHLO mx.test")
        self.assertEqual((status, out), (os.EX_NOUSER, "a@x: 250 2.0.0 Ok\nc@x: 250 2.0.0 Ok\n"))
        self.assertEqual(err, "relay-sendmail: b@x: the relay has refused it: 550 5.1.1 unknown\n")

    def test_more_recipients_than_the_relay_takes_at_once(self) -> None:
        relay = self.relay(offers=(*OFFERS, "LIMITS RCPTMAX=2"))
        self.assertEqual(self.sendmail(*(f"{name}@x" for name in "abcde")), (0, "", ""))
        self.assertEqual([line[:4] for line in relay.heard].count("MAIL"), 3)
        self.assertEqual([line[9:-3] for line in relay.heard if line.startswith("RCPT")], list("abcde"))
        self.assertEqual(len(set(relay.messages)), 1)

    def test_eight_bit_content_is_declared(self) -> None:
        relay = self.relay()
        self.sendmail("bob@example.net", typed="Subject: x\n\nGrüße\n".encode())
        self.assertIn(" BODY=8BITMIME", relay.heard[1])
        self.assertTrue(relay.messages[0].endswith("\r\n\r\nGrüße\r\n".encode()))


class RefusalTests(SendmailCase):
    def test_the_exit_status_says_what_is_wrong(self) -> None:
        for at, reply, status in (
            ("RCPT", "550 5.1.1 no such user", os.EX_NOUSER),
            ("RCPT", "550 5.1.2 no such host", os.EX_NOHOST),
            ("RCPT", "550 5.7.1 relaying denied", os.EX_NOPERM),
            ("RCPT", "550 refused", os.EX_UNAVAILABLE),
            ("RCPT", "450 4.2.0 later", os.EX_TEMPFAIL),
            ("MAIL", "452 4.3.1 disk full", os.EX_TEMPFAIL),
            ("MAIL", "550 5.7.1 not you", os.EX_NOPERM),
            ("DATA", "451 4.3.0 later", os.EX_TEMPFAIL),
            (".", "554 5.6.0 a CR alone", os.EX_DATAERR),
            (".", "552 5.3.4 too large", os.EX_DATAERR),
            (".", "451 4.3.0 our fault", os.EX_TEMPFAIL),
            (".", "", os.EX_TEMPFAIL),
            ("", "421 4.7.0 too many", os.EX_TEMPFAIL),
            ("", "554 5.7.1 go away", os.EX_NOPERM),
        ):
            relay = OtherRelay(self.path, {at: reply})
            found, out, err = self.sendmail("bob@example.net")
            relay.stop()
            os.unlink(self.path)
            self.assertEqual((at, reply, found, out), (at, reply, status, ""))
            self.assertIn(reply, err)
            self.assertEqual(err.count("\n"), 1)

    def test_a_relay_that_is_down_is_tried_again_later(self) -> None:
        status, _, err = self.sendmail("bob@example.net")
        self.assertEqual(status, os.EX_TEMPFAIL)
        self.assertIn("try again later", err)
        self.assertIn(self.path, err)

    def test_a_message_that_is_too_large_is_not_sent(self) -> None:
        relay = self.relay(offers=("SIZE 10",))
        status, _, err = self.sendmail("bob@example.net")
        self.assertEqual(status, os.EX_DATAERR)
        self.assertIn("bob@example.net: the message is larger than the relay takes", err)
        self.assertEqual(relay.heard, ["EHLO mx.test", "QUIT"])

    def test_a_relay_that_has_heard_enough_of_a_message_is_believed(self) -> None:
        for reply, status in (("552 5.3.4 too large", os.EX_DATAERR), ("421 4.3.2 stopping", os.EX_TEMPFAIL)):
            relay = OtherRelay(self.path, {"amid": reply})
            relay.deaf = True
            found, _, err = self.sendmail("bob@example.net", typed=b"x" * 5_000_000)
            relay.stop()
            os.unlink(self.path)
            self.assertEqual((reply, found), (reply, status))
            self.assertIn(reply, err)

    def test_a_connection_that_is_lost_is_lost_for_all_who_were_still_to_come(self) -> None:
        relay = self.relay({".": ""}, offers=(*OFFERS, "LIMITS RCPTMAX=2"))
        status, _, err = self.sendmail(*(f"{name}@x" for name in "abcde"))
        self.assertEqual(status, os.EX_TEMPFAIL)
        self.assertIn("connection lost", err)
        self.assertEqual(relay.heard[-1], "DATA")

    def test_of_several_troubles_one_that_lasts_is_told(self) -> None:
        self.relay({"RCPT TO:<a": "450 4.2.0 later", "RCPT TO:<b": "550 5.1.1 unknown"})
        status, _, err = self.sendmail("a@x", "b@x", "c@x")
        self.assertEqual(status, os.EX_NOUSER)
        self.assertEqual(err.count("\n"), 2)

    def test_what_makes_no_sense_is_said_before_the_relay_is_asked(self) -> None:
        for arguments, status in (
            ((), os.EX_USAGE),
            (("-Z",), os.EX_USAGE),
            (("-bd",), os.EX_USAGE),
            (("-f",), os.EX_USAGE),
            (("-N", "sometimes", "a@x"), os.EX_USAGE),
            (("-N", "never,failure", "a@x"), os.EX_USAGE),
            (("-R", "some", "a@x"), os.EX_USAGE),
            (("-V", "a\nb", "a@x"), os.EX_USAGE),
            (("a@b@c",), os.EX_DATAERR),
            (("a\x1b[2J@x",), os.EX_DATAERR),
            (("-f", "x y", "a@x"), os.EX_DATAERR),
            (("-t",), os.EX_USAGE),
        ):
            found, out, err = self.sendmail(*arguments)
            self.assertEqual((arguments, found, out), (arguments, status, ""))
            self.assertTrue(err.removesuffix("\n").isprintable(), err)

    def test_a_configuration_that_is_not_there_or_has_no_such_listener(self) -> None:
        self.config.write_text('[[listener]]\naddress = "127.0.0.1:25"\n')
        self.assertEqual(self.sendmail("a@x")[0], os.EX_CONFIG)
        self.config.unlink()
        self.assertEqual(self.sendmail("a@x")[0], os.EX_CONFIG)

    def test_a_full_name_that_is_no_utf_8_is_said_to_be_none(self) -> None:
        status, _, said = self.sendmail("-F", "x\udcff", "bob@example.net")
        self.assertEqual(status, os.EX_USAGE)
        self.assertIn("-F is a name in UTF-8", said)

    def test_one_that_the_system_knows_only_in_other_octets_stops_no_mail(self) -> None:
        relay = self.relay()
        self.patch(pwd, "getpwuid", lambda uid: pwd.struct_passwd(("jon", "x", uid, 100, "J\udcf6n", "/", "/")))
        self.assertEqual(self.sendmail("bob@example.net"), (0, "", ""))
        self.assertIn(b"From: =?utf-8?", relay.messages[0])

    def test_without_a_standard_input_there_is_no_message(self) -> None:
        code = "from relay.cli.sendmail import main; main()"
        for arguments, closed in (["bob@example.net"], "<&-"), (["-bs"], "<&-"), (["bob@example.net"], "0>/dev/null"):
            words = [sys.executable, "-c", code, "-C", str(self.config), *arguments]
            shell = ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *words]
            said = subprocess.run(shell, capture_output=True, timeout=60, check=False, text=True)
            self.assertEqual(said.returncode, os.EX_NOINPUT, said.stderr)
            self.assertRegex(said.stderr, r"^relay-sendmail: [^\n]+\n$")


class OtherModesTests(SendmailCase):
    def test_recipients_are_tried_and_nothing_is_sent(self) -> None:
        relay = self.relay({"RCPT TO:<b": "550 5.1.1 unknown"})
        status, out, err = self.sendmail("-bv", "a@x", "b@x", "jon")
        self.assertEqual((status, err), (os.EX_NOUSER, ""))
        self.assertEqual(
            out,
            "a@x: 250 2.0.0 Ok\nb@x: the relay has refused it: 550 5.1.1 unknown\njon@mx.test: 250 2.0.0 Ok\n",
        )
        self.assertNotIn("DATA", relay.heard)

    def test_to_ask_a_relay_that_is_down(self) -> None:
        self.assertEqual(self.sendmail("-bv", "a@x")[0], os.EX_TEMPFAIL)

    def test_programs_may_speak_smtp_by_it(self) -> None:
        relay = self.relay()
        typed = b"EHLO me\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\nhello\r\n.\r\nQUIT\r\n"
        said = subprocess.run(
            [sys.executable, "-m", "relay.cli.sendmail", "-C", str(self.config), "-bs"],
            input=typed,
            capture_output=True,
            timeout=60,
            check=False,
        )
        self.assertEqual((said.returncode, said.stderr), (0, b""))
        self.assertEqual([line[:3] for line in said.stdout.splitlines()][-6:], [b"250"] * 3 + [b"354", b"250", b"221"])
        self.assertEqual(relay.messages, [b"hello\r\n"])

    def test_who_speaks_smtp_with_a_relay_that_is_down_hears_421(self) -> None:
        status, out, _ = self.sendmail("-bs")
        self.assertEqual((status, out[:4]), (os.EX_TEMPFAIL, "421 "))

    def test_the_queue_is_run_and_the_aliases_are_rebuilt_by_the_relay_itself(self) -> None:
        for arguments in (("-q",), ("-q30m",), ("-bi",), ("-I",)):
            self.assertEqual(self.sendmail(*arguments), (0, "", ""))

    def test_help_and_version_need_no_relay_and_no_libraries(self) -> None:
        self.config.unlink()
        code = (
            "import sys; from relay.cli.sendmail import run; run(['--help']);"
            "print([name for name in ('twisted', 'click', 'pydantic', 'idna', 'relay.smtp') if name in sys.modules])"
        )
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True, text=True)
        self.assertTrue(said.stdout.startswith("Usage: relay-sendmail"))
        self.assertEqual(said.stdout.splitlines()[-1], "[]")
        self.assertEqual(self.sendmail("--version")[0], 0)

    def test_sending_needs_nothing_of_twisted(self) -> None:
        self.relay()
        code = (
            "import sys; from relay.cli.sendmail import run; status = run(sys.argv[1:]);"
            "print(status, [name for name in ('twisted', 'click', 'pydantic', 'zope') if name in sys.modules])"
        )
        arguments = ["-C", str(self.config), "-f", "jon", "bob@example.net"]
        said = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            input="hello\n",
            capture_output=True,
            timeout=60,
            check=True,
            text=True,
        )
        self.assertEqual(said.stdout, "0 []\n")


class OptionsTests(SynchronousTestCase):
    def test_programs_say_options_in_many_ways(self) -> None:
        self.assertEqual(
            options(["-oem", "-oi", "-tv", "-Fa b", "-f", "x@y", "--", "-odd@x", "b@x"]),
            Options(
                recipients=("-odd@x", "b@x"), from_header=True, dots=True, verbose=True, full_name="a b", sender="x@y"
            ),
        )
        self.assertEqual(options(["-ti", "-f", "-x"]), Options(from_header=True, dots=True, sender="-x"))
        self.assertEqual(options(["a@x", "-i", "b@x"]), Options(recipients=("a@x", "b@x"), dots=True))
        self.assertEqual(options(["-G", "-U", "-n", "-m", "-h", "3", "-B8BITMIME", "-Ac", "-O", "Foo=bar"]), Options())
        self.assertEqual(options(["-O", "IgnoreDots=true"]).dots, True)
        self.assertEqual(options(["-b", "p"]).mode, Mode.QUEUE)
        self.assertEqual(options(["--socket=/a", "-qR"]), Options(mode=Mode.NOTHING, socket="/a"))

    @given(st.lists(st.text(max_size=6) | st.sampled_from(["-t", "-f", "-N", "--", "-b", "-o", "--socket"])))
    def test_whatever_is_said_it_is_options_or_a_usage_error(self, arguments: list[str]) -> None:
        with contextlib.suppress(UsageError):
            self.assertIsInstance(options(arguments), Options)


class PlaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def found(self, listeners: str) -> Place:
        file = self.folder / "relay.toml"
        file.write_text(f'hostname = "Mx.Test"\n{listeners}')
        return find(str(file), None)

    def test_the_listener_called_sendmail_is_for_us_else_one_that_speaks_smtp(self) -> None:
        def listener(**fields: str) -> str:
            return "[[listener]]\n" + "".join(f'{name} = "{value}"\n' for name, value in fields.items())

        tcp = listener(address="127.0.0.1:25")
        lmtp = listener(address="unix:/run/lmtp", protocol="lmtp")
        smtp = listener(address="unix:run/$hostname", tls="offer")
        named = listener(address="unix:../named", protocol="lmtp", name="sendmail")
        locked = listener(address="unix:/run/locked", tls="require", name="sendmail")
        self.assertEqual(self.found(tcp + lmtp + locked), Place("/run/lmtp", "mx.test", lmtp=True))
        self.assertEqual(self.found(tcp + lmtp + smtp), Place(f"{self.folder}/run/mx.test", "mx.test"))
        self.assertEqual(self.found(smtp + named), Place(f"{self.folder.parent}/named", "mx.test", lmtp=True))
        for nothing in ("", tcp, locked, "listener = 3", "listener = [3]", "[[listener]]\n"):
            with self.assertRaises(NoSuchPlace):
                self.found(nothing)

    def test_a_byte_order_mark_means_nothing(self) -> None:
        (self.folder / "relay.toml").write_text('\ufeff[[listener]]\naddress = "unix:s"\n')
        self.assertEqual(find(str(self.folder / "relay.toml"), None).path, f"{self.folder}/s")

    def test_the_environment_may_name_the_configuration(self) -> None:
        (self.folder / "relay.toml").write_text('[[listener]]\naddress = "unix:s"\n')
        self.patch(os, "environ", {"RELAY_CONFIG": str(self.folder / "relay.toml")})
        self.assertEqual(find(None, None).path, f"{self.folder}/s")
        self.assertEqual(find(None, "/other").path, "/other")


class AddresseeTests(SynchronousTestCase):
    def test_addresses_are_found_among_names_comments_and_groups(self) -> None:
        for body, expected in (
            ("a@x", ["a@x"]),
            (" a@x , b@y,", ["a@x", "b@y"]),
            ('"Last, First" <a@x>, b (a comment, with (another) one) @y', ["a@x", "b@y"]),
            ('"a \\" b, c"@x', ['"a \\" b, c"@x']),
            ("undisclosed-recipients:;", []),
            ("friends: a@x, B <b@y>; c@z", ["a@x", "b@y", "c@z"]),
            ("<@relay.example,@other:a@x>", ["a@x"]),
            ("a@[IPv6:2001:db8::1], root", ["a@[IPv6:2001:db8::1]", "root"]),
            ("Grüße <ä@ü>", ["ä@ü"]),
            ("<>", [""]),
            ("", []),
            ('"never closed <a@x>', ['"never closed <a@x>']),
            ("(never closed a@x", []),
        ):
            self.assertEqual(list(addressees(body)), expected)

    @given(st.text(alphabet='ab@x.<>,;:()"[]\\ \t', max_size=60))
    def test_whatever_it_is_this_ends(self, body: str) -> None:
        for address in addressees(body):
            self.assertLessEqual(len(address), len(body))


class LetterTests(SynchronousTestCase):
    def sent(self, typed: bytes) -> bytes:
        return Letter.of(typed).sendable(AUTHOR)

    def test_text_without_a_header_section_is_all_body(self) -> None:
        head = b"From: Jon <jon@mx.test>\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@mx.test>\r\n\r\n"
        for typed, body in (
            (b"hello\nworld\n", b"hello\r\nworld\r\n"),
            (b"\nhello", b"hello\r\n"),
            (b"", b""),
            (b" indented\n", b" indented\r\n"),
        ):
            self.assertEqual(self.sent(typed), head + body)

    def test_line_ends_of_all_kinds_become_crlf(self) -> None:
        full = b"from: a\nDATE : b\nmessage-id: c\n\n1%\r2%\r\n3%\n"
        self.assertEqual(self.sent(full), b"from: a\r\nDATE : b\r\nmessage-id: c\r\n\r\n1%\r\n2%\r\n3%\r\n")

    def test_the_separator_of_an_mbox_is_no_part_of_a_message(self) -> None:
        self.assertEqual(Letter.of(b"From jon Mon Nov 23 12:00:00 2026\nA: b\n\nc\n"), Letter((b"A: b\r\n",), b"c\r\n"))

    def test_a_header_section_ends_where_no_field_is(self) -> None:
        self.assertEqual(
            Letter.of(b"A: b\n c\nno field\nD: e\n"), Letter((b"A: b\r\n c\r\n",), b"no field\r\nD: e\r\n")
        )
        self.assertEqual(Letter.of(b"A: b"), Letter((b"A: b\r\n",), b""))

    def test_who_resends_a_message_addresses_it_anew(self) -> None:
        letter = Letter.of(b"To: a@x\nFrom: b@x\nDate: c\nMessage-ID: d\nResent-To: e@x\nResent-Bcc: f@x\n\nbody\n")
        self.assertEqual(letter.addressees(), ["e@x", "f@x"])
        fields = [
            field.partition(b":")[0] for field in letter.sendable(AUTHOR).partition(b"\r\n\r\n")[0].split(b"\r\n")
        ]
        self.assertEqual(
            fields,
            [
                b"To",
                b"From",
                b"Date",
                b"Message-ID",
                b"Resent-To",
                b"Resent-From",
                b"Resent-Date",
                b"Resent-Message-ID",
            ],
        )

    def test_names_are_quoted_as_they_need_it(self) -> None:
        self.assertEqual(phrase("Jon Doe"), "Jon Doe")
        self.assertEqual(phrase('J. "x" \\ Doe\r\nBcc: a@x'), '"J. \\"x\\" \\\\ Doe Bcc: a@x"')
        self.assertEqual(phrase("Jürgen"), "=?utf-8?q?J=C3=BCrgen?=")
        self.assertEqual(phrase(" "), "")

    @given(st.binary(max_size=80))
    def test_whatever_is_typed_only_crlf_ends_a_line_and_there_is_one_header_section(self, typed: bytes) -> None:
        sent = self.sent(typed)
        bare = sent.replace(b"\r\n", b"")
        self.assertNotIn(b"\n", bare)
        self.assertNotIn(b"\r", bare)
        self.assertTrue(sent.endswith(b"\r\n"))
        self.assertIn(b"\r\n\r\n", sent)
