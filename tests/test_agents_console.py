from __future__ import annotations

import io
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from relay.agents.console import ConsoleAgent
from relay.interfaces import IAgent
from relay.mail.outcome import Carried, Unwritten
from relay.net.threads import AtOnce, IThreads
from relay.net.waiting import start
from tests.local_mail import ByHand, Text, consignment, fact, is_put_off, reported, to

PRINTED = """\
-------- message 4Q2x7 from <ann@example.org> to <jon@example.net>
Return-Path: <ann@example.org>
Delivered-To: jon@example.net
Received: from c by mx.example; Mon, 23 Nov 2026 01:28:37 +0000
Subject: hello

From here on:
.dots
>From you
-------- end of 4Q2x7
"""


class ConsoleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stream = io.StringIO()

    def agent(self, threads: IThreads | None = None, most: int = 1000) -> ConsoleAgent:
        return ConsoleAgent(self.stream, threads or AtOnce(), most)

    def body(self, content: bytes, **more: Any) -> str:
        """What is printed of a message's content."""
        reported(self.agent(**more).carry(consignment(to("jon@x", "console"), content=Text(content))))
        printed = self.stream.getvalue()
        return printed[printed.index("+0000\n") + 6 :].removesuffix("-------- end of 4Q2x7\n")

    def test_the_agent_keeps_its_contract(self) -> None:
        self.assertTrue(verifyObject(IAgent, self.agent()))

    def test_a_message_is_printed(self) -> None:
        carried = fact(self.agent().carry(consignment(to("jon@example.net", "console"))))
        self.assertEqual(carried, Carried(onward=False, by="console"))
        self.assertEqual(self.stream.getvalue(), PRINTED)

    def test_it_is_printed_once_for_all_its_recipients(self) -> None:
        reports = reported(self.agent().carry(consignment(to("a@x", "console"), to("b@x", "console"), sender=None)))
        self.assertEqual(len(reports), 2)
        self.assertEqual(
            [line for line in self.stream.getvalue().splitlines() if line.startswith("----")],
            ["-------- message 4Q2x7 from <> to <a@x>, <b@x>", "-------- end of 4Q2x7"],
        )

    def test_nothing_in_it_can_play_with_the_terminal(self) -> None:
        self.assertEqual(
            self.body("\x1b]0;title\x07 \x9b2J a\rb \u202egnp.exe é\tü\0\r\n".encode()),
            "\\x1b]0;title\\x07 \\x9b2J a\\rb \\u202egnp.exe é\tü\\x00\n",
        )

    def test_octets_that_are_no_utf_8_are_shown_as_such(self) -> None:
        self.assertEqual(self.body(b"caf\xe9\r\n"), "caf\\xe9\n")

    def test_a_long_message_is_cut_and_says_so(self) -> None:
        lines = self.body(b"0123456789\r\n" * 100, most=200).splitlines()
        self.assertEqual(lines[-1], "-------- 200 octets of 1200 are shown")
        self.assertLess(len(self.stream.getvalue()), 400)

    def test_a_message_is_not_read_further_than_it_is_shown(self) -> None:
        class Endless(Text):
            def blocks(self) -> Any:
                while True:
                    yield b"x" * 100

        reported(self.agent().carry(consignment(to("a@x", "console"), content=Endless())))

    def test_a_console_that_knows_little_letters_gets_what_it_can_print(self) -> None:
        self.stream = io.TextIOWrapper(io.BytesIO(), "ascii", write_through=True)
        reported(self.agent().carry(consignment(to("a@x", "console"), content=Text("grün\r\n".encode()))))
        self.assertIn(b"gr\\xfcn\n", self.stream.buffer.getvalue())

    def test_a_console_that_is_gone_puts_mail_off(self) -> None:
        self.stream.close()
        self.assertTrue(is_put_off(fact(self.agent().carry(consignment(to("a@x", "console"))))))

    def test_a_console_that_nobody_reads_stops_no_more_than_one_thread(self) -> None:
        threads = ByHand()
        carrying: list[Any] = []

        class Stuck(io.StringIO):
            def write(self, text: str) -> int:
                carrying[0].cancel()
                carrying.append(start(agent.carry(consignment(to("b@x", "console")))))
                threads.work()
                return len(text)

        self.stream = Stuck()
        agent = self.agent(threads)
        carrying.append(start(agent.carry(consignment(to("a@x", "console")))))
        threads.work()
        self.assertTrue(is_put_off(self.successResultOf(carrying[0])[0].fact))
        self.assertEqual(
            self.successResultOf(carrying[1])[0].fact, Unwritten("console", "Nobody reads the console", "EAGAIN")
        )

    def test_messages_do_not_mix(self) -> None:
        threads = ByHand()
        agent = self.agent(threads)
        for id in "one", "two":
            start(agent.carry(consignment(to("a@x", "console"), id=id)))
        self.assertEqual(len(threads.waiting), 1)
        threads.work()
        threads.work()
        marks = [line.split()[1:4] for line in self.stream.getvalue().splitlines() if line.startswith("----")]
        self.assertEqual([mark[-1] for mark in marks], ["from", "one", "from", "two"])
