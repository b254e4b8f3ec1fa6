import json
import os
from pathlib import Path
from typing import Any

from relay_jsonlines import JsonLines
from twisted.trial.unittest import SynchronousTestCase

from relay.interfaces import World
from relay.mail.outcome import Carried, Unwritten
from relay.testing.agent import AgentContract, FakeContent, consignment

MESSAGE = b"From: Ann <ann@sender.example>\r\nSubject: hello\r\n\r\nHi J\xc3\xb6rg!\r\n"


async def at_once(work: Any) -> Any:
    """For tests: no thread."""
    return work()


class JsonLinesTests(AgentContract, SynchronousTestCase):
    """Besides the tests here, those that `AgentContract` brings: does it keep what every agent promises?"""

    agent = JsonLines
    writes_files = True

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        self.file = folder / "mail.jsonl"
        self.parameters = {"file": str(self.file)}

    def make_agent(self, world: World) -> JsonLines:
        return JsonLines(world, run=at_once)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.file.open()] if self.file.exists() else []

    def kept(self) -> list[bytes]:
        return [line["message"].encode("utf-8", "surrogateescape") for line in self.lines()]

    def test_a_message_is_a_line(self) -> None:
        self.carried("jon@example.org", "ann@example.org", content=MESSAGE)
        (line,) = self.lines()
        self.assertEqual(line["sender"], "ann@sender.example")
        self.assertEqual(line["recipients"], ["jon@example.org", "ann@example.org"])
        self.assertEqual(line["header"], {"from": "Ann <ann@sender.example>", "subject": "hello"})
        self.assertTrue(line["message"].startswith("Received: "))
        self.assertTrue(line["message"].endswith("\r\n\r\nHi Jörg!\r\n"))

    def test_a_notice_has_no_sender(self) -> None:
        self.carried(sender=None)
        self.assertEqual(self.lines()[0]["sender"], "")

    def test_octets_that_are_no_text_are_kept(self) -> None:
        self.carried(content=b"\r\ncaf\xe9 \x00\xff\r\n")
        self.assertTrue(self.kept()[0].endswith(b"\r\ncaf\xe9 \x00\xff\r\n"))

    def test_which_fields_are_shown_is_the_operators_to_say(self) -> None:
        self.parameters = {**self.parameters, "fields": ["subject"]}
        self.carried(content=MESSAGE)
        self.assertEqual(self.lines()[0]["header"], {"subject": "hello"})

    def test_a_message_that_is_too_large_fails(self) -> None:
        self.parameters = {**self.parameters, "largest": 10}
        (fact,) = self.carried(content=MESSAGE).values()
        self.assertEqual(fact, Unwritten(str(self.file), "the message is too large", permanent=True))
        self.assertEqual(self.lines(), [])

    def test_where_it_cannot_be_written_it_waits(self) -> None:
        self.file.mkdir()
        (fact,) = self.carried().values()
        assert isinstance(fact, Unwritten)
        self.assertFalse(fact.permanent)

    def test_nothing_is_left_of_a_line_that_could_not_be_synced(self) -> None:
        self.carried(content=MESSAGE)

        def broken(fd: int) -> None:
            raise OSError(5, "Input/output error")

        self.patch(os, "fsync", broken)
        (fact,) = self.carried(content=MESSAGE).values()
        self.assertIsInstance(fact, Unwritten)
        self.assertEqual(len(self.lines()), 1)

    def test_each_mailbox_has_its_file(self) -> None:
        made = self.subject.made()
        for name in "one", "two":
            file = self.file.with_name(name)
            given = consignment("jon@example.org", parameters={"file": str(file)}, content=FakeContent(MESSAGE))
            (fact,) = made.carried(given).values()
            self.assertEqual(fact, Carried(onward=False, by=str(file)))
            self.assertEqual(len(file.read_bytes().splitlines()), 1)
