"""docs/policies/gallery.md: each policy there is run, in sessions, with its configuration; and does what its table says."""

from __future__ import annotations

import importlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from attrs import frozen
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relay.interfaces import HttpAnswer, HttpTrouble
from relay.mail.routing import Deliver, Forward, Hold, Route
from relay.net.clock import ReactorClock
from relay.policy.names import fold
from relay.testing.dialogue import Talker
from relay.testing.dns import FakeNames
from relay.testing.front import Front, Outside, configured, open_front
from relay.testing.http import Asked, FakeHttp, Said
from relay.testing.policy import NOON, check_policy
from tests.policy.pages import blocks, configurations, files, page

LISTENER = '[[listener]]\naddress = "[::]:25"\nxclient = ["127.0.0.1"]\n'
MOST_LINES = 30
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@frozen
class Piece:
    """A policy of the page."""

    title: str
    code: str
    configuration: str
    files: Mapping[str, str]
    cases: list[dict[str, str]]

    @property
    def place(self) -> tuple[str, str]:
        """Its module and its class, as the configuration has them."""
        found = re.search(r'"(\w+):(\w+)"', self.configuration)
        assert found is not None, self.title
        return found[1], found[2]


def pieces() -> Iterator[Piece]:
    for text in page("gallery").split("\n## ")[1:]:
        ((configuration, rows),) = configurations(text)
        (code,) = blocks(text, "python")
        yield Piece(text.partition("\n")[0], code, configuration, files(text), rows)


def served(case: Mapping[str, str]) -> Said:
    said = case.get("the server", "refused")
    return HttpAnswer(int(said)) if said.isdigit() else HttpTrouble("refused")


def moment(text: str) -> float:
    """Seconds from the Monday on which the world begins, at noon."""
    day, hour, minute = re.fullmatch(r"(\w+) (\d\d):(\d\d)", text).groups()  # type: ignore[union-attr]
    return (DAYS.index(day) * 24 + int(hour) - 12) * 3600.0 + int(minute) * 60


class Played:
    """A relay with one of these policies, and the rows of its table played in order."""

    def __init__(self, piece: Piece, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.case: Mapping[str, str] = {}

        def serve(asked: Asked) -> Said:
            assert unquote(asked.url).endswith(fold(self.case["recipient"])), asked
            return served(self.case)

        outside = Outside(FakeNames(), FakeHttp(serve), {})
        time = ReactorClock(self.clock, lambda: NOON + self.clock.seconds())
        self.front: Front = open_front(configured(LISTENER + piece.configuration, base=folder), time, outside)

    def play(self, case: Mapping[str, str]) -> tuple[str, str]:
        """What becomes of it, and the subject that it has then."""
        self.case = case
        self.clock.advance(max(0.0, moment(case.get("at", "Monday 12:00")) - self.clock.seconds()))
        kept, said = len(self.front.spool.accepted), len(self.front.log.events)
        reply = self._heard(case)
        if not reply.startswith("250"):
            return re.sub(r" \[ref \w+\]", "", reply), ""
        routes = [self._route(each) for message in self.front.spool.accepted[kept:] for each in message.routes.values()]
        routes += ["discarded" for event in self.front.log.events[said:] if event.what == "discarded"]
        subjects = [str(message.parsed["Subject"]) for message in self.front.spool.accepted[kept:]]
        return ", ".join(routes), ", ".join(subjects)

    def _heard(self, case: Mapping[str, str]) -> str:
        user = case.get("user", "")
        client = "127.0.0.1" if user else case.get("client", "192.0.2.1")
        talker = Talker.calling(self.front.relay.listeners[0].factory, client, self.clock)
        lines = ["EHLO client.example"]
        if user:
            lines += [f"XCLIENT ADDR=192.0.2.1 LOGIN={user}", "EHLO client.example"]
        sender = case.get("sender", "ann@example.com").replace("<>", "")
        lines += [f"MAIL FROM:<{sender}>", f"RCPT TO:<{case['recipient']}>", "DATA"]
        reply = talker.replies[-1][1]
        for line in lines:
            if reply[0] in "45":
                break
            reply = talker.say(line)
        if reply.startswith("354"):
            head = f"{case.get('fields', 'Subject: hello')}\r\n\r\n".encode()
            talker.conversation.send(head + b"x" * (int(case.get("size", 0)) - len(head) - 2) + b"\r\n.\r\n")
            reply = talker.hear("the content")
        talker.conversation.hang_up()
        return reply

    def _route(self, route: Route) -> str:
        match route:
            case Deliver(agent, parameters):
                return f"{agent} {Path(parameters['folder']).relative_to(self.folder)}"
            case Forward(hops):
                return "forward to " + ", ".join(map(str, hops))
            case Hold():
                return "held"
        raise AssertionError(f"the page has no word for {route}")


class GalleryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.patch(sys, "path", [str(self.folder), *sys.path])
        before = set(sys.modules)
        self.addCleanup(lambda: [sys.modules.pop(name) for name in set(sys.modules) - before])

    def written(self, piece: Piece, code: str = "") -> None:
        module, _ = piece.place
        (self.folder / f"{module}.py").write_text(code or piece.code)
        sys.modules.pop(module, None)
        importlib.invalidate_caches()
        for name, text in piece.files.items():
            (self.folder / name).write_text(text)

    def said(self, piece: Piece) -> list[tuple[str, str, str]]:
        """What is otherwise than the table says."""
        played = Played(piece, self.folder)
        wrong = []
        for case in piece.cases:
            becomes, subject = played.play(case)
            if becomes != case["what becomes of it"] or subject != case.get("its subject then", subject):
                wrong.append((piece.title, becomes, subject))
        self.flushLoggedErrors()
        return wrong

    def test_there_are_ten_and_each_is_short(self) -> None:
        found = list(pieces())
        self.assertEqual(len(found), 10)
        for piece in found:
            self.assertLessEqual(len(piece.code.splitlines()), MOST_LINES, piece.title)
            self.assertLessEqual(max(map(len, piece.code.splitlines())), 120, piece.title)
            self.assertGreater(len(piece.cases), 1, piece.title)

    def test_each_does_what_its_table_says(self) -> None:
        for piece in pieces():
            self.written(piece)
            self.assertEqual(self.said(piece), [])

    def test_each_keeps_the_contract(self) -> None:
        for piece in pieces():
            self.written(piece)
            module, name = piece.place
            given = configured(LISTENER + piece.configuration, base=self.folder)
            (own,) = [each for each in given.settings.policy if ":" in each.use]
            tables = piece.files and {each.name: {"example.com": "mail.example.com"} for each in given.settings.table}
            check_policy(
                getattr(importlib.import_module(module), name),
                own.options.model_dump(),
                tables=tables or {},
                remembers=name == "Canary",
            )

    def test_each_table_fails_when_its_policy_abstains_always(self) -> None:
        for piece in pieces():
            silent = piece.code
            for method in "route", "sender", "connect", "examine":
                silent = re.sub(
                    rf"(    (?:async )?def {method}\(self, inquiry\):\n)", r"\1        return ABSTAIN\n", silent
                )
            self.written(piece, silent)
            self.assertNotEqual(self.said(piece), [], piece.title)
