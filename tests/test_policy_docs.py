"""What docs/policies and docs/writing-a-policy.md say is tried here, word for word."""

from __future__ import annotations

import importlib
import re
import shutil
import sys
import tempfile
from configparser import ConfigParser
from pathlib import Path
from typing import Any, get_args

from attrs import evolve, fields, frozen
from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SynchronousTestCase

from relay import plugins
from relay.config.load import load
from relay.config.units import duration
from relay.interfaces import World
from relay.mail import routing
from relay.mail.decision import Accepted, Admission, Decision, Refused
from relay.mail.phases import AttemptInquiry, ConnectionInquiry, ContentInquiry, SenderInquiry
from relay.mail.reply import Reply
from relay.mail.routing import Accept, Delay, Deliver, Discard, Forward, Hold, Inquiry, Reject, Route
from relay.mail.screening import Outcome
from relay.net.waiting import start
from relay.policy.assembly import make_chain
from relay.policy.chain import Chain
from relay.policy.registry import SHIPPED, option_model
from relay.policy.tables import Tables
from relay.reception.screening import greeting_refused
from relay.testing.policy import FakeWorld, inquiry
from relay.testing.questions import MESSAGE, content
from tests.policy.pages import DOCS, blocks, configurations, files, names, page


def chain_of(text: str, base: Path, fake: FakeWorld | None = None) -> Chain:
    settings = load(
        text,
        file="relay.toml",
        base=base,
        hostname="mx.example.org",
        user="ann",
        option_model=option_model,
    )
    here = (fake or FakeWorld()).world
    return make_chain(settings.policy, evolve(here, table=Tables(settings.table, here.clock)), file="relay.toml")


#: What is asked in each phase.
QUESTIONS = {
    "connection": ConnectionInquiry,
    "sender": SenderInquiry,
    "recipient": Inquiry,
    "content": ContentInquiry,
    "attempt": AttemptInquiry,
}


@frozen
class Changed:
    """It goes its way, otherwise than it came."""

    decision: Decision
    outcome: Outcome


def session(chain: Chain, case: dict[str, str]) -> Admission | Decision | Outcome | Changed:
    """What becomes of a message with one recipient: the first refusal, or where it goes."""
    asked = inquiry(
        case.get("recipient") or "jon@example.org",
        case.get("sender") or "ann@example.com",
        case.get("client") or "192.0.2.1",
        helo=case.get("helo") or "client.example",
        user=case.get("user") or None,
    )
    size = case.get("size")
    met: Any = start(chain.connect(ConnectionInquiry(asked.client)))
    if isinstance(met, Refused):
        return evolve(met, reply=greeting_refused(met.reply))
    says = SenderInquiry(asked.client, asked.reverse_path, int(size) if size else None, met.facts)
    admitted: Any = start(chain.sender(says))
    if isinstance(admitted, Refused):
        return admitted
    asked = evolve(asked, facts=admitted.facts)
    decision: Any = start(chain.route(asked))
    if isinstance(decision, Refused) or not chain.asks_contents:
        return decision
    message = MESSAGE + b"x" * (int(case.get("octets") or len(MESSAGE)) - len(MESSAGE))
    if case.get("header"):
        message = f"{case['header']}\r\n\r\nHi!\r\n".encode()
    sender, user = case.get("sender") or "ann@example.com", asked.client.user
    question = content(message, str(asked.recipient), sender=sender, user=user)
    taken = chain.content(question.id, question.envelope, [asked])
    taken.take(message)
    outcome: Any = start(taken.decide(len(message), question.fields, question.blocks))
    if not isinstance(outcome.each[0].verdict, Accept):
        return outcome
    return Changed(decision, outcome) if outcome.editors else decision


def described(decision: Any, base: Path) -> str:
    """What becomes of a recipient, in a few words."""
    if isinstance(decision, Outcome):
        return _word(decision.each[0].verdict)
    if isinstance(decision, Changed):
        edited, also = decision.outcome.edited, decision.outcome.also
        with_these = [field.octets.decode().strip() for field in (edited.added if edited else ())]
        with_these += [f"a copy for {each}" for each in also]
        return f"{described(decision.decision, base)}, with {' and '.join(with_these)}"
    if isinstance(decision, Accepted):
        return ", ".join(_route(placement.route, base) for placement in decision.placements)
    return str(decision.reply)


def _word(verdict: Any) -> str:
    match verdict:
        case Reject(reply) | Delay(reply):
            return str(reply)
        case Discard():
            return "discarded"
        case _:
            return "held"


def _route(route: Route, base: Path) -> str:
    match route:
        case Deliver(agent, parameters):
            paths = (path for name, path in parameters.items() if name in ("folder", "file"))
            return " ".join([agent, *(str(Path(path).relative_to(base)) for path in paths)])
        case Forward(hops, _, path):
            return "forward to " + ", ".join(map(str, hops)) + (f" as {path}" if path else "")
        case Discard():
            return "discarded"
        case Hold():
            return "held"
        case Reject(reply):
            return str(reply)


class PagesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.base)
        (self.base / "users").write_text("jon\nann\n")
        (self.base / "srs.secret").touch(mode=0o600)
        (self.base / "srs.secret").write_text("0123456789abcdefghij\n")

    def test_each_policy_that_is_shipped_has_a_page(self) -> None:
        pages = {page.stem for page in (DOCS / "policies").glob("*.md")}
        self.assertEqual(pages - {"gallery", "tutorial"}, set(SHIPPED))

    def test_what_each_page_says_of_its_configuration_is_what_happens(self) -> None:
        for use in SHIPPED:
            text = page(use)
            for name, said in files(text).items():
                (self.base / name).write_text(said)
            tried = 0
            for configuration, cases in configurations(text):
                fake = FakeWorld(names(text))
                chain = chain_of(configuration, self.base, fake)
                for case in cases:
                    fake.clock.advance(duration(case.get("later") or 1))
                    decision = session(chain, case)
                    self.assertEqual(described(decision, self.base), case["what becomes of it"], f"{use}: {case}")
                    tried += 1
            self.assertGreater(tried, 0, use)

    def test_each_page_is_about_its_policy(self) -> None:
        for use in SHIPPED:
            configured = [re.sub(" +=", "  =", text) for text in blocks(page(use), "toml")]
            self.assertTrue(any(f'use  = "{use}"' in text for text in configured), use)


class WritingAPolicyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.patch(sys, "path", [str(self.folder), *sys.path])
        before = set(sys.modules)
        self.addCleanup(lambda: [sys.modules.pop(name) for name in set(sys.modules) - before])
        self.page = (DOCS / "writing-a-policy.md").read_text()
        self.policy, self.subjects, self.plugin, self.tests = blocks(self.page, "python")
        self.subjects_configuration, self.configuration = blocks(self.page, "toml")
        (self.entry_point,) = blocks(self.page, "ini")
        self.write("closed.py", self.policy)

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        importlib.invalidate_caches()

    def assert_works(self, use: str) -> None:
        """The configuration of the page does what the page says, with this word for `use`."""
        chain = chain_of(self.configuration.replace("closed:Closed", use), self.folder)
        decisions: Any = [start(chain.route(inquiry(f"{name}@example.org"))) for name in ("jon", "JON", "ann")]
        self.assertEqual(
            [str(decision.reply) for decision in decisions],
            [*["450 4.2.1 the office is closed"] * 2, "550 5.7.1 <ann@example.org>: relaying denied"],
        )

    def test_the_policy_works_by_its_place(self) -> None:
        self.assertIn('use        = "closed:Closed"', self.configuration)
        self.assert_works("closed:Closed")

    def test_the_policy_works_by_its_entry_point(self) -> None:
        declared = ConfigParser()
        declared.read_string(self.entry_point)
        lines = declared["options.entry_points"]["relay.policies"].strip()
        self.write("closed-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: closed\nVersion: 1.0\n")
        self.write("closed-1.0.dist-info/entry_points.txt", f"[relay.policies]\n{lines}\n")
        self.assert_works("closed")

    def test_the_policy_works_as_a_twisted_plugin(self) -> None:
        self.write("relay/plugins/site_closed.py", self.plugin)
        self.patch(plugins, "__path__", [*plugins.__path__, str(self.folder / "relay" / "plugins")])
        self.assert_works("closed")

    def test_the_policy_about_content_refuses_strangers_who_use_its_words(self) -> None:
        self.write("subjects.py", self.subjects)
        chain = chain_of(self.subjects_configuration + '[[policy]]\nuse = "discard"\n', self.folder)
        for subject, user, becomes in (
            ("Your PASSWORD", "", "550 5.7.1 not wanted here"),
            ("Your password", "user", "discarded"),
            ("hello", "", "discarded"),
        ):
            case = {"header": f"Subject: {subject}", "user": user}
            self.assertEqual(described(session(chain, case), self.folder), becomes)

    def test_its_tests_pass_and_fail_for_a_policy_that_does_otherwise(self) -> None:
        for change, passes in ("", ""), ("450", "450"), ('"4.2.1"', '"5.2.1"'), ("in self.", "not in self."):
            self.write("closed.py", self.policy.replace(change, passes))
            sys.modules.pop("closed", None)
            namespace: dict[str, Any] = {"__name__": "test_closed"}
            exec(compile(self.tests, "test_closed.py", "exec"), namespace)
            case, result = namespace["ClosedTests"], TestResult()
            names = [name for name in dir(case) if name.startswith("test_")]
            self.assertGreater(len(names), 4)
            for name in names:
                case(name).run(result)
            self.assertEqual(result.wasSuccessful(), change == passes, change)

    def test_every_verdict_of_the_table_can_be_built_as_it_stands_there(self) -> None:
        known = {**vars(routing), "Reply": Reply, "address": inquiry("jon@example.org").recipient}
        rows = [row for row in self.page.splitlines() if row.startswith("| `")]
        self.assertEqual(len(rows), len(get_args(routing.Verdict)))
        for row, verdict in zip(rows, get_args(routing.Verdict), strict=True):
            for code in re.findall(r"`([A-Z]\w+\(.*?\))`", row):
                made = eval(code.replace("[address, ...]", "[address]"), known)
                self.assertIsInstance(made, get_args(routing.Verdict), code)
                self.assertEqual(made.because, "")
            self.assertIn(f"`{verdict.__name__}(", "".join(rows))

    def test_all_that_the_world_has_is_named(self) -> None:
        for field in fields(World):
            self.assertIn(f"`world.{field.name}`", self.page)


class PhasesTests(SynchronousTestCase):
    def test_the_page_has_each_attribute_of_each_question(self) -> None:
        text = (DOCS / "phases.md").read_text().partition("## What a question has\n")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| `(\w+)` \| ([a-z, ]+) \|", text, re.MULTILINE)
        for name, question in QUESTIONS.items():
            told = [attribute for attribute, phases in rows if name in phases.split(", ")]
            self.assertEqual(sorted(told), sorted(field.name for field in fields(question)), name)
