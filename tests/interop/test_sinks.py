"""
What the relay carries onward, to servers with faults: Postfix's smtp-sink, which can refuse, drop and dawdle.

In most of these tests there is a faulty server, and behind it a good one. Every message has to end at exactly one place:
with one of the two, or with its sender, as a notice.
"""

from __future__ import annotations

import smtplib
from collections.abc import Mapping
from typing import ClassVar, Final

import pytest

from tests.interop.house import BOXES, IMPATIENT, InteropTestCase, arrived, events, forwarding, logged
from tests.interop.mails import BIG, EIGHT_BIT, PLAIN, assert_same, in_maildir, subject, trace, without_trace
from tests.interop.peers import free_port
from tests.interop.sinks import Sink
from tests.system.harness import RelayProcess, configuration

pytestmark = pytest.mark.interop

#: In smtp-sink's words, "." is the end of content.
COMMANDS: Final = ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".", "QUIT")
#: What smtp-sink can do at a command: refuse it for good (5yz) or for now (4yz), say 421, or say nothing, and close.
REFUSE, PUT_OFF, LEAVE, DROP = "-f", "-r", "-Q", "-q"

FAULTY, GOOD, NOTICE, LATER = "faulty", "good", "notice", "later"

#: Where a message has to end whose first server does this. A fault that is not the message's lets the next server be
#: asked at once. One that is the recipient's or the message's for now is put off, and so is one after which nobody
#: knows who has the message.
ENDS: Final[Mapping[tuple[str, str], str]] = {
    (REFUSE, "CONNECT"): GOOD,
    (REFUSE, "EHLO"): FAULTY,  # HELO is said instead
    (REFUSE, "MAIL"): NOTICE,
    (REFUSE, "RCPT"): NOTICE,
    (REFUSE, "DATA"): NOTICE,
    (REFUSE, "."): NOTICE,
    (REFUSE, "QUIT"): FAULTY,
    (PUT_OFF, "CONNECT"): GOOD,
    (PUT_OFF, "EHLO"): GOOD,
    (PUT_OFF, "MAIL"): GOOD,  # 450 4.3.0: it is the system there that cannot
    (PUT_OFF, "RCPT"): LATER,
    (PUT_OFF, "DATA"): GOOD,
    (PUT_OFF, "."): GOOD,
    (PUT_OFF, "QUIT"): FAULTY,
    (LEAVE, "CONNECT"): GOOD,
    (LEAVE, "EHLO"): GOOD,
    (LEAVE, "MAIL"): GOOD,
    (LEAVE, "RCPT"): GOOD,
    (LEAVE, "DATA"): GOOD,
    (LEAVE, "."): GOOD,
    (LEAVE, "QUIT"): FAULTY,
    (DROP, "CONNECT"): GOOD,
    (DROP, "EHLO"): GOOD,
    (DROP, "MAIL"): GOOD,
    (DROP, "RCPT"): GOOD,
    (DROP, "DATA"): GOOD,
    (DROP, "."): LATER,
    (DROP, "QUIT"): FAULTY,
}


def name(option: str, command: str) -> str:
    """A word for a fault that may stand in a domain."""
    return f"{option[1].replace('Q', 'l')}-{'end' if command == '.' else command.lower()}"


class FaultTests(InteropTestCase):
    """One relay, and a server for each fault. All messages are sent before the first is looked for."""

    relay_process: ClassVar[RelayProcess]
    good: ClassVar[Sink]
    faulty: ClassVar[dict[str, Sink]]

    @classmethod
    def setUpClass(cls) -> None:
        folder = cls.shared_folder()
        cls.good = cls.shared_sink(folder / "good")
        cls.faulty = {name(*fault): cls.shared_sink(folder / name(*fault), *fault) for fault in ENDS}
        routes = [(f"{key}.test", (sink.next_hop, cls.good.next_hop)) for key, sink in cls.faulty.items()]
        cls.relay_process = cls.share(configuration(policies=BOXES + forwarding(routes)))
        with smtplib.SMTP(*cls.relay_process.address(), local_hostname="client.test") as client:
            for key in cls.faulty:
                client.sendmail(f"{key}@localhost", [f"jon@{key}.test"], message(key))
        logged(cls.relay_process, is_outcome, "all attempts", len(ENDS))

    def ended(self, fault: str) -> str:
        """Where the message of this fault is, by what the relay says of it."""
        of_it = [event for event in events(self.relay_process) if event.get("recipient") == f"jon@{fault}.test"]
        [event] = filter(is_outcome, of_it)
        if event["event"] != "relayed":
            return {"failed": NOTICE, "delayed": LATER}[event["event"]]
        [place] = [
            place for place, sink in ((GOOD, self.good), (FAULTY, self.faulty[fault])) if str(sink.port) in event["by"]
        ]
        return place

    def test_each_message_ends_where_it_has_to(self) -> None:
        self.assertEqual({fault: self.ended(name(*fault)) for fault in ENDS}, dict(ENDS))

    def test_the_good_server_has_what_the_relay_says_and_each_once(self) -> None:
        said = sorted(name(*fault) for fault in ENDS if ENDS[fault] == GOOD)
        self.assertEqual(sorted(map(subject, self.good.messages)), said)
        for octets in self.good.messages:
            assert_same(without_trace(octets), message(subject(octets)))

    def test_what_was_taken_in_spite_of_the_fault_is_there_once_and_whole(self) -> None:
        for fault, end in ENDS.items():
            if end == FAULTY:
                [octets] = self.faulty[name(*fault)].messages
                assert_same(without_trace(octets), message(name(*fault)))

    def test_the_sender_of_what_has_failed_gets_a_notice_and_nobody_else_does(self) -> None:
        for fault, end in ENDS.items():
            sender = self.relay_process.folder / "mail" / name(*fault)
            if end != NOTICE:
                self.assertEqual(in_maildir(sender), [])
                continue
            [notice] = arrived(sender)
            self.assertEqual(trace(notice)[0], b"Return-Path: <>")
            self.assertIn(f"Final-Recipient: rfc822; jon@{name(*fault)}.test\n".encode(), notice)
            self.assertIn(b"\nStatus: 5.3.0\n", notice)
            self.assertRegex(notice, rb"\nDiagnostic-Code: smtp; 500 5\.3\.0 Error: command failed\n")


def message(key: str) -> bytes:
    return PLAIN["dots"].replace(b"Subject: dots", f"Subject: {key}".encode())


def is_outcome(event: Mapping[str, object]) -> bool:
    """An attempt of a message that a client of ours has sent."""
    return event["event"] in ("relayed", "delayed", "failed")


class TransferTests(InteropTestCase):
    """Servers that are slow, or lack something."""

    def carried(self, octets: bytes, *options: str, sender: str = "bob@localhost") -> tuple[RelayProcess, Sink]:
        """A message on its way through a relay to a sink with these options."""
        sink = self.sink(*options)
        relay = self.started(configuration(policies=BOXES + forwarding([("sink.test", [sink.next_hop])])))
        with smtplib.SMTP(*relay.address(), local_hostname="client.test") as client:
            client.sendmail(sender, ["jon@sink.test", "ann@sink.test"], octets, ["BODY=8BITMIME"])
        return relay, sink

    def assertCarried(self, octets: bytes, *options: str) -> list[bytes]:
        """The dump of what arrived, if it arrived whole, and with one copy for both recipients."""
        relay, sink = self.carried(octets, *options)
        logged(relay, lambda event: event["event"] == "relayed", count=2)
        [received] = sink.messages
        assert_same(without_trace(received), octets)
        return sink.dumps[0].splitlines()

    def test_to_a_server_with_pipelining(self) -> None:
        dump = self.assertCarried(PLAIN["dots"])
        self.assertIn(b"X-Client-Proto: ESMTP", dump)
        self.assertTrue(any(line.startswith(b"X-Mail-Args: <bob@localhost>") for line in dump), dump[:6])
        recipients = [line for line in dump if line.startswith(b"X-Rcpt-Args: ")]
        named = [line.split()[1] for line in recipients]
        self.assertEqual(named, [b"<jon@sink.test>", b"<ann@sink.test>"])

    def test_to_a_server_without_pipelining(self) -> None:
        self.assertCarried(PLAIN["dots"], "-p")

    def test_to_a_server_that_knows_only_helo(self) -> None:
        dump = self.assertCarried(PLAIN["dots"], "-e")
        self.assertIn(b"X-Client-Proto: SMTP", dump)

    def test_to_a_server_behind_a_filter_of_its_greeting(self) -> None:
        self.assertCarried(PLAIN["dots"], "-P")

    def test_to_a_slow_server(self) -> None:
        self.assertCarried(PLAIN["dots"], "-w", "1")
        self.assertCarried(PLAIN["dots"], "-W", "RCPT:1", "-p")  # it forgets what was pipelined behind RCPT
        self.assertCarried(PLAIN["dots"], "-W", ".:1")

    def test_a_big_message_through_a_small_window(self) -> None:
        self.assertCarried(BIG, "-T", "4096", "-H", "1")

    def test_eight_bits(self) -> None:
        dump = self.assertCarried(EIGHT_BIT)
        self.assertTrue(any(b"BODY=8BITMIME" in line for line in dump), dump[:6])

    def test_eight_bits_are_not_sent_where_they_are_not_taken(self) -> None:
        relay, sink = self.carried(EIGHT_BIT, "-8")
        [notice] = arrived(relay.folder / "mail/bob")
        self.assertIn(b"\nStatus: 5.6.3\n", notice)
        self.assertEqual(sink.messages, [])

    def test_seven_bits_are_sent_where_eight_are_not_taken_whatever_the_client_has_said(self) -> None:
        self.assertCarried(PLAIN["text"], "-8")

    def test_a_server_that_refuses_in_the_midst_of_content_is_heard(self) -> None:
        relay, _ = self.carried(BIG, "-A", "0")
        [notice] = arrived(relay.folder / "mail/bob")
        self.assertIn(b"Diagnostic-Code: smtp; 550 ", notice)


class AgainTests(InteropTestCase):
    """Trouble that passes."""

    def pass_over(self, *fault: str) -> None:
        port = free_port()
        sink = self.sink(*fault, port=port) if fault else None
        text = configuration(tables=IMPATIENT, policies=BOXES + forwarding([("sink.test", [f"127.0.0.1:{port}"])]))
        relay = self.started(text)
        with smtplib.SMTP(*relay.address(), local_hostname="client.test") as client:
            client.sendmail("bob@localhost", ["jon@sink.test"], PLAIN["dots"])
        logged(relay, lambda event: event["event"] == "delayed", "it is put off")
        if sink is not None:
            sink.stop()
        sink = self.sink(port=port)
        logged(relay, lambda event: event["event"] == "relayed", "it is carried")
        [received] = sink.messages
        assert_same(without_trace(received), PLAIN["dots"])
        self.assertEqual(in_maildir(relay.folder / "mail/bob"), [])

    def test_a_server_that_was_not_there(self) -> None:
        self.pass_over()

    def test_a_server_that_put_the_recipient_off(self) -> None:
        self.pass_over("-r", "RCPT")

    def test_a_server_that_was_gone_at_the_end_of_content(self) -> None:
        self.pass_over("-q", ".")

    def test_a_server_that_was_about_to_close(self) -> None:
        self.pass_over("-Q", "MAIL")


class WishesTests(InteropTestCase):
    """smtp-sink keeps the parameters of MAIL and RCPT."""

    def test_wishes_for_notices_go_on_as_they_came_and_only_where_they_are_understood(self) -> None:
        sink = self.sink()
        relay = self.started(configuration(policies=BOXES + forwarding([("sink.test", [sink.next_hop])])))
        with smtplib.SMTP(*relay.address(), local_hostname="client.test") as client:
            client.ehlo()
            client.mail("bob@localhost", ["RET=HDRS", "ENVID=QQ+2B+3D1"])
            client.rcpt("jon@sink.test", ["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;Dee+2B@elsewhere.test"])
            client.rcpt("ann@sink.test", ["NOTIFY=NEVER"])
            self.assertEqual(client.data(PLAIN["dots"])[0], 250)
        logged(relay, lambda event: event["event"] == "relayed", count=2)
        [dump] = sink.dumps
        lines = dump.splitlines()
        [sender] = [line for line in lines if line.startswith(b"X-Mail-Args: ")]
        self.assertRegex(sender, rb"^X-Mail-Args: <bob@localhost> (?=.*\bRET=HDRS\b)(?=.*\bENVID=QQ\+2B\+3D1\b)")
        jon, ann = [line for line in lines if line.startswith(b"X-Rcpt-Args: ")]
        self.assertRegex(
            jon, rb"<jon@sink\.test> (?=.*\bNOTIFY=SUCCESS,DELAY\b)(?=.*\bORCPT=rfc822;Dee\+2B@elsewhere\.test\b)"
        )
        self.assertRegex(ann, rb"<ann@sink\.test> (?=.*\bNOTIFY=NEVER\b)")


class LmtpTests(InteropTestCase):
    """smtp-sink as an LMTP server, on a port or on a Unix socket."""

    def carried(self, hop: str) -> RelayProcess:
        policy = f'[[policy]]\nuse = "forward"\nprotocol = "lmtp"\nnext_hop = "{hop}"\n'
        relay = self.started(configuration(policies=BOXES + policy + 'when = { recipient = ["sink.test"] }\n'))
        with smtplib.SMTP(*relay.address(), local_hostname="client.test") as client:
            for octets in PLAIN.values():
                client.sendmail("bob@localhost", ["jon@sink.test", "ann@sink.test"], octets)
        return relay

    def test_what_it_takes_is_delivered_to_each_recipient(self) -> None:
        sink = self.sink("-L")
        relay = self.carried(sink.next_hop)
        logged(relay, lambda event: event["event"] == "delivered", count=2 * len(PLAIN))
        self.assertEqual(sorted(map(without_trace, sink.messages)), sorted(PLAIN.values()))

    def test_one_that_refuses_at_the_end_is_believed_for_each_recipient(self) -> None:
        sink = self.sink("-L", "-f", ".")
        relay = self.carried(sink.next_hop)
        logged(relay, lambda event: event["event"] == "failed", count=2 * len(PLAIN))
        notices = arrived(relay.folder / "mail/bob", len(PLAIN))
        self.assertTrue(all(notice.count(b"\nFinal-Recipient: ") == 2 for notice in notices))
