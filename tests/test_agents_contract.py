"""Each agent of ours keeps the contract; and the test kit fails for what breaks it."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, Field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

from relay.agents.console import ConsoleAgent
from relay.agents.http import HttpAgent
from relay.agents.maildir import MaildirAgent
from relay.agents.mbox import MboxAgent
from relay.agents.pipe import PipeAgent
from relay.interfaces import Consignment, IAgent, Report, World
from relay.mail.envelope import Form
from relay.mail.outcome import Carried, Fact, Unwritten
from relay.net.threads import AtOnce
from relay.smtp.octets import plain
from relay.testing.agent import CLAUSES, AgentContract, check_agent
from tests.real_reactor import RealReactor

#: Keeps what it reads in a file, which appears when it is whole.
KEEP = """
import os, sys, tempfile
octets = sys.stdin.buffer.read()
file, name = tempfile.mkstemp(dir=sys.argv[1], prefix=".")
os.write(file, octets) == len(octets) or sys.exit(75)
os.fsync(file)
os.rename(name, name.replace("/.", "/"))
"""


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)


class MaildirContract(AgentContract, Case):
    agent = MaildirAgent
    writes_files = True

    def setUp(self) -> None:
        super().setUp()
        self.parameters = {"folder": str(self.folder / "box")}

    def make_agent(self, world: World) -> Any:
        return MaildirAgent(world.clock, "mx.example", AtOnce())

    def kept(self) -> Collection[bytes]:
        return [file.read_bytes() for file in (self.folder / "box").rglob("new/*")]


class MboxContract(AgentContract, Case):
    agent = MboxAgent
    writes_files = True

    def setUp(self) -> None:
        super().setUp()
        self.file = self.folder / "box"
        self.parameters = {"file": str(self.file), "create": "yes"}

    def make_agent(self, world: World) -> Any:
        return MboxAgent(world.clock, AtOnce())

    def kept(self) -> Collection[bytes]:
        return [self.file.read_bytes()] if self.file.exists() else []


class ConsoleContract(AgentContract, SynchronousTestCase):
    agent = ConsoleAgent

    def setUp(self) -> None:
        self.stream = io.StringIO()

    def make_agent(self, world: World) -> Any:
        return ConsoleAgent(self.stream, AtOnce(), most=10**6)

    def kept(self) -> Collection[bytes]:
        return [self.stream.getvalue().encode()]


class PipeContract(AgentContract, Case):
    agent = "pipe"

    def setUp(self) -> None:
        super().setUp()
        self.real = RealReactor()
        self.addCleanup(self.real.close)
        self.addCleanup(lambda: self.real.until(lambda: not self.real.reactor.getDelayedCalls()))
        command = [sys.executable, "-I", "-S", "-c", KEEP, str(self.folder), "to={recipient}"]
        self.parameters = {"command": command, "recipients": "all", "timeout": "20s"}

    def make_agent(self, world: World) -> Any:
        # As though we were not root, who runs no programs.
        return PipeAgent(self.real.reactor, self.real.clock, euid=lambda: 1)

    def turn(self, fake: Any) -> None:
        self.real.turn()

    def kept(self) -> Collection[bytes]:
        return [file.read_bytes() for file in self.folder.iterdir() if not file.name.startswith(".")]


class HttpContract(AgentContract, Case):
    agent = "http"

    def setUp(self) -> None:
        super().setUp()
        self.real = RealReactor()
        self.posted: list[bytes] = []
        self.port = self.real.reactor.listenTCP(
            0, Site(Posted(self.posted), reactor=self.real.reactor), interface="127.0.0.1"
        )
        self.addCleanup(self.real.close)
        self.addCleanup(self.real.forget_timers)
        self.addCleanup(self.port.stopListening)
        self.parameters = {"url": f"http://127.0.0.1:{self.port.getHost().port}/mail", "timeout": "20s"}

    def make_agent(self, world: World) -> Any:
        return HttpAgent(self.real.reactor, self.real.clock)

    def turn(self, fake: Any) -> None:
        self.real.turn()

    def kept(self) -> Collection[bytes]:
        return self.posted


class Posted(Resource):
    """Keeps what is posted to it."""

    isLeaf = True

    def __init__(self, posted: list[bytes]) -> None:
        super().__init__()
        self._posted = posted

    def render_POST(self, request: Any) -> bytes:
        self._posted.append(request.content.read())
        request.setResponseCode(204)
        return b""


# The kit itself.


@implementer(IAgent)
class Good:
    """Takes half a second, keeps what it gets in a file, and says so."""

    class Options(BaseModel, extra="forbid"):
        directory: str = Field(description="Where.")
        sync: bool = Field(default=True, description="Whether it syncs.")

    def __init__(self, world: World) -> None:
        self.world = world

    async def carry(self, consignment: Consignment) -> list[Report]:
        await deferLater(self.world.clock, 0.5, lambda: None)  # type: ignore[arg-type]
        return [Report(each, self.put(consignment, each.route)) for each in consignment.recipients]

    def put(self, consignment: Consignment, route: Any) -> Fact:
        if "directory" not in route.parameters:
            return Unwritten("", "nobody has said where")
        octets = self.read(consignment)
        with tempfile.NamedTemporaryFile(dir=route.parameters["directory"], delete=False) as file:
            file.write(octets)
            file.flush()
            self.sync(file)
        return Carried(onward=False, by="a file")

    def read(self, consignment: Consignment) -> bytes:
        blocks = consignment.content.blocks()
        return b"".join(plain(blocks) if consignment.content.form is Form.WIRE else blocks)

    def sync(self, file: Any) -> None:
        os.fsync(file.fileno())


class Undeclared:
    def __init__(self, world: World) -> None:
        pass

    def carry(self, consignment: Consignment) -> list[Report]:
        return []


class ReportsNothing(Good):
    async def carry(self, consignment: Consignment) -> list[Report]:
        return (await super().carry(consignment))[:-1]


class ReportsTwice(Good):
    async def carry(self, consignment: Consignment) -> list[Report]:
        return [*await super().carry(consignment), Report(consignment.recipients[0], Unwritten("", "oh"))]


class SaysYes(Good):
    async def carry(self, consignment: Consignment) -> Any:
        return [Report(each, "yes") for each in consignment.recipients]  # type: ignore[arg-type]


class KeepsNothing(Good):
    def put(self, consignment: Consignment, route: Any) -> Fact:
        self.read(consignment)
        return Carried(onward=False, by="nothing")


class LeavesTheDots(Good):
    def read(self, consignment: Consignment) -> bytes:
        return b"".join(consignment.content.blocks())


class KeepsPieces(Good):
    def read(self, consignment: Consignment) -> bytes:
        octets = b""
        try:
            blocks = consignment.content.blocks()
            for block in plain(blocks) if consignment.content.form is Form.WIRE else blocks:
                octets += block
        except OSError:
            pass
        return octets


class NeverEnds(Good):
    async def carry(self, consignment: Consignment) -> Any:
        await Deferred()


class Raises(Good):
    async def carry(self, consignment: Consignment) -> Any:
        if consignment.entry.envelope.reverse_path is None:
            raise ValueError("no sender")
        return await super().carry(consignment)


class ForgetsNothing(Good):
    """Says that it has carried what it was told to stop."""

    async def carry(self, consignment: Consignment) -> Any:
        try:
            return await super().carry(consignment)
        except CancelledError:
            return [Report(each, Carried(onward=False, by="nothing")) for each in consignment.recipients]


class Lingers(Good):
    """Puts the mail away later."""

    async def carry(self, consignment: Consignment) -> Any:
        reports = await super().carry(consignment)
        list(consignment.content.blocks())
        self.blocks = [*getattr(self, "blocks", ()), consignment.content]
        for earlier in self.blocks[:-1]:
            list(earlier.blocks())
        return reports


class DoesNotSync(Good):
    def sync(self, file: Any) -> None:
        pass


class Undescribed(Good):
    class Options(BaseModel, extra="forbid"):  # type: ignore[assignment]
        directory: str


class TakesAnything(Good):
    class Options(BaseModel, extra="ignore"):  # type: ignore[assignment]
        directory: str = Field(description="Where.")


class KitTests(Case):
    def check(self, agent: type) -> None:
        check_agent(
            agent,
            {"directory": str(self.folder)},
            kept=lambda: [file.read_bytes() for file in self.folder.iterdir()],
            writes_files=True,
        )

    def test_an_agent_that_keeps_the_contract_passes(self) -> None:
        self.check(Good)

    def test_whatever_breaks_the_contract_is_found(self) -> None:
        for agent, complaint in {
            Undeclared: "IAgent",
            ReportsNothing: "0 reports about one recipient",
            ReportsTwice: "2 reports about one recipient",
            SaysYes: "'yes' is no fact",
            KeepsNothing: "it was carried, and is not there as it was (wire content)",
            LeavesTheDots: "it was carried, and is not there as it was (wire content)",
            KeepsPieces: "it has carried a message that could not be read",
            NeverEnds: "it has not reported, whatever time it was given",
            Raises: "no sender",
            ForgetsNothing: "says that it has carried what is not there",
            Lingers: "the content is read after the reports were made",
            DoesNotSync: "has not synced anything",
            Undescribed: "the parameter 'directory' has no description",
            TakesAnything: "extra='forbid'",
        }.items():
            with self.subTest(agent=agent.__name__):
                failure = self.assertRaises(Exception, self.check, agent)  # noqa: B017
                self.assertIn(complaint, str(failure))

    def test_the_test_case_says_the_same_as_the_function(self) -> None:
        folder = self.folder

        class Tests(AgentContract, SynchronousTestCase):
            agent = DoesNotSync
            parameters: ClassVar = {"directory": str(folder)}
            writes_files = True

        names = [name for name in dir(Tests) if name.startswith("test_")]
        self.assertEqual(len(names), len(CLAUSES))
        result = TestResult()
        for name in names:
            Tests(name).run(result)
        self.assertEqual(
            [test.id().rpartition(".")[2] for test, _ in (*result.failures, *result.errors)],
            ["test_it_syncs_before_it_promises"],
        )

    def test_an_agent_is_found_by_its_name(self) -> None:
        self.assertRaises(AssertionError, check_agent, "nobody")
