from __future__ import annotations

import json
import os
import pwd
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from shutil import rmtree
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from relay.agents import launch
from relay.agents.copies import Copy
from relay.agents.exits import EXITS
from relay.agents.parcels import Fate
from relay.agents.pipe import PIPE, PipeAgent, Undeliverable, arguments
from relay.delivery.trouble import judge
from relay.interfaces import IAgent, IAgentMaker
from relay.mail.address import Address
from relay.mail.envelope import Envelope, Form
from relay.mail.outcome import Carried, Delayed, Fact, Failed, Unwritten
from relay.mail.queue import Recipient
from relay.mail.routing import Deliver
from relay.net.clock import ReactorClock
from relay.net.waiting import start
from tests.local_mail import HEAD, MESSAGE, NOW, Text, consignment, is_put_off, to
from tests.real_reactor import RealReactor

NOT_NOW = "the program that takes mail for this address cannot take it now"
TOP = b"Return-Path: <ann@example.org>\r\nDelivered-To: jon@example.net\r\n"


class FakeProcess:
    """A program that does what the test says, as the transport of its `Child`."""

    def __init__(self, protocol: Any, words: list[str], environment: dict[str, str]) -> None:
        self.protocol = protocol
        self.words = words
        self.environment = environment
        self.pid = id(self)
        self.read = b""
        self.closed = False
        #: Nobody listens to its output any more.
        self.alone = False
        self._producer: Any = None
        self._written: list[bytes] = []
        protocol.makeConnection(self)

    @property
    def command(self) -> list[str]:
        """The program and its arguments, without what launches it."""
        return self.words[6:]

    # What a `Child` calls.

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert not streaming
        self._producer = producer
        producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self._producer = None

    def write(self, octets: bytes) -> None:
        self._written.append(octets)

    def closeStdin(self) -> None:
        self.closed = True

    def loseConnection(self) -> None:
        self.alone = True

    def signalProcess(self, number: int) -> None:
        raise ProcessExitedAlready

    # What the program does.

    def take(self) -> bytes:
        """Read a block."""
        block = self._written.pop(0)
        self.read += block
        if not self._written and self._producer is not None:
            self._producer.resumeProducing()
        return block

    def take_all(self) -> bytes:
        while self._written:
            self.take()
        return self.read

    def say(self, octets: bytes) -> None:
        self.protocol.outReceived(octets)

    def exit(self, status: int | None = 0, number: int | None = None, *, leaving: bool = False) -> None:
        """`leaving`: something that it has started keeps its output open."""
        reason = Failure(ProcessTerminated(status, number) if status or number else ProcessDone(0))
        self.protocol.processExited(reason)
        if not leaving:
            self.protocol.processEnded(reason)


@implementer(IReactorProcess)
class Processes:
    """The processes of a machine that has none."""

    def __init__(self) -> None:
        self.started: list[FakeProcess] = []
        self.signals: list[tuple[int, int]] = []

    def spawnProcess(self, protocol: Any, executable: Any, args: Any = (), env: Any = None, path: Any = None) -> Any:
        assert executable == args[0]
        assert path is None
        self.started.append(FakeProcess(protocol, list(args), dict(env)))
        return self.started[-1]

    def killpg(self, group: int, number: int) -> None:
        self.signals.append((group, number))


class PipeCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.processes = Processes()

    def agent(self, euid: int = 1000) -> PipeAgent:
        return PipeAgent(
            self.processes,
            ReactorClock(self.clock, lambda: NOW),
            euid=lambda: euid,
            killpg=self.processes.killpg,
        )

    def carry(self, *command: str, to_: Any = ("jon@example.net",), agent: Any = None, **more: Any) -> Any:
        """What comes of a consignment for this program, `None` as long as nothing has."""
        text = {"command": json.dumps(["/bin/program", *command])}
        parcel = {key: more.pop(key) for key in ("content", "sender") if key in more}
        recipients = [to(each, "pipe", **text, **more) for each in to_]
        carrying = start((agent or self.agent()).carry(consignment(*recipients, **parcel)))
        return carrying if isinstance(carrying, Deferred) else Deferred.fromCoroutine(_now(carrying))

    def fact(self, carrying: Any) -> Fact:
        (report,) = self.successResultOf(carrying)
        fact: Fact = report.fact
        return fact

    @property
    def program(self) -> FakeProcess:
        return self.processes.started[-1]


async def _now(value: Any) -> Any:
    return value


class ArgumentsTests(PipeCase):
    def command(self, *command: str, **more: Any) -> list[str]:
        self.carry(*command, **more)
        return self.program.command

    def test_the_agent_keeps_its_contract(self) -> None:
        self.assertTrue(verifyObject(IAgent, self.agent()))
        self.assertTrue(verifyObject(IAgentMaker, PIPE))

    def test_placeholders_stand_for_the_mail_within_an_argument(self) -> None:
        self.assertEqual(
            self.command(
                "--to={recipient}", "{local}|{domain}", "-f", "{sender}", "{id}", "x{original}x", "{}", "$HOME"
            ),
            [
                "/bin/program",
                "--to=jon@example.net",
                "jon|example.net",
                "-f",
                "ann@example.org",
                "4Q2x7",
                "xjon@example.netx",
                "{}",
                "$HOME",
            ],
        )

    def test_what_an_address_says_is_no_placeholder_and_one_argument(self) -> None:
        for address in "{sender}@x", '"a b; $(c) \'d"@x', "a*?b@x":
            self.assertEqual(self.command("{recipient}", to_=[address])[1:], [address])

    def test_the_sender_of_a_notice_is_nothing(self) -> None:
        self.assertEqual(self.command("--from={sender}", "{sender}", sender=None)[1:], ["--from=", ""])

    def test_each_recipient_has_a_program_of_its_own(self) -> None:
        carrying = self.carry("{recipient}", "x", to_=["a@x", "b@x"])
        self.assertEqual([each.command[1:] for each in self.processes.started], [["a@x", "x"], ["b@x", "x"]])
        self.processes.started[0].exit(0)
        self.processes.started[1].exit(67)
        facts = {str(report.recipient.address): report.fact for report in self.successResultOf(carrying)}
        self.assertEqual(facts["a@x"], Carried(onward=False, by="/bin/program"))
        self.assertTrue(facts["b@x"].permanent)

    def test_one_program_for_all_hears_of_each(self) -> None:
        command = self.command("-r", "{recipient}", "-s", "{sender}", to_=["a@x", "b@x"], recipients="all")
        self.assertEqual(command[1:], ["-r", "a@x", "b@x", "-s", "ann@example.org"])

    def test_one_for_all_takes_a_hundred_and_the_next_the_rest(self) -> None:
        self.carry("{recipient}", to_=[f"r{number}@x" for number in range(250)], recipients="all")
        self.assertEqual([len(each.command) - 1 for each in self.processes.started], [100, 100, 50])

    def test_no_mail_makes_an_option(self) -> None:
        for command, more in (
            (["{recipient}"], {"to_": ["-rf@x"]}),
            (["{local}"], {"to_": ["-rf@x"]}),
            (["{sender}"], {"sender": "-oQ/tmp@x"}),
            (["{sender}{recipient}"], {"to_": ["-rf@x"], "sender": None}),
        ):
            fact = self.fact(self.carry(*command, **more))
            assert isinstance(fact, Unwritten)
            self.assertTrue(fact.permanent)
            self.assertIn("would be an option", fact.text)
        self.assertEqual(self.processes.started, [])

    def test_where_it_cannot_be_one_it_may_begin_with_a_dash(self) -> None:
        self.assertEqual(self.command("--to={local}", "-t{local}", to_=["-rf@x"])[1:], ["--to=-rf", "-t-rf"])
        self.assertEqual(self.command("-a", "--", "{local}", to_=["-rf@x"])[1:], ["-a", "--", "-rf"])

    def test_no_mail_leads_a_path_elsewhere(self) -> None:
        for template, more in (
            ("/srv/{local}", {"to_": ['"../../etc/x"@x']}),
            ("--dir=/srv/{local}/new", {"to_": ['".."@x']}),
            ("/srv/{local}", {"to_": ['"."@x']}),
            ("x/{sender}", {"sender": "/etc/passwd@x"}),
            ("/srv/{sender}/x", {"sender": None}),
        ):
            fact = self.fact(self.carry(template, **more))
            assert isinstance(fact, Unwritten)
            self.assertTrue(fact.permanent)
            self.assertIn("would lead elsewhere", fact.text)
        self.assertEqual(self.processes.started, [])
        self.assertEqual(self.command("/srv/{local}", "--to={recipient}", to_=["a.b@x"])[1], "/srv/a.b")
        self.assertEqual(self.command("{recipient}", to_=["/g=jon/@x"])[1], "/g=jon/@x")

    def test_wrong_parameters_put_off_those_who_have_them(self) -> None:
        right = to("jon@x", "pipe", command='["/bin/program"]')
        wrong = to("ann@x", "pipe", command='["program"]', timeout="soon")
        carrying: Any = start(self.agent().carry(consignment(right, wrong)))
        self.program.exit(0)
        facts = {str(report.recipient.address): report.fact for report in self.successResultOf(carrying)}
        self.assertIsInstance(facts["jon@x"], Carried)
        self.assertTrue(is_put_off(facts["ann@x"]))
        self.assertIn("command: 'program' should be the absolute path of a program", facts["ann@x"].text)
        self.assertIn("timeout: should be a duration", facts["ann@x"].text)


#: Local parts as clients may have quoted them: anything that can be printed.
_LOCALS = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x24F, exclude_categories=["Cc"]), min_size=1, max_size=30
)
_TEMPLATES = st.lists(
    st.lists(
        st.sampled_from(
            ["{recipient}", "{local}", "{sender}", "{original}", "{id}", "-", "--", "=", "x/", "$", "{", "}"]
        ),
        max_size=4,
    ).map("".join),
    max_size=5,
)


class AnyMailTests(SynchronousTestCase):
    @given(_TEMPLATES, _LOCALS, _LOCALS)
    def test_no_mail_adds_an_argument_takes_one_away_or_makes_an_option(
        self, templates: list[str], local: str, sender: str
    ) -> None:
        recipient = Address(local, "example.net")
        carried = consignment(Recipient("r", recipient, recipient, Deliver("pipe"), "pipe"))
        entry = evolve(carried.entry, envelope=Envelope(Address(sender, "example.org")))
        try:
            made = arguments(["/bin/program", *templates], Copy(entry, carried.recipients, carried.content, HEAD))
        except Undeliverable as reason:
            self.assertTrue(reason.permanent)
            self.assertTrue(any("{" in template for template in templates))
            return
        self.assertEqual(len(made), len(templates))
        end = templates.index("--") if "--" in templates else len(templates)
        for at, (argument, template) in enumerate(zip(made, templates, strict=True)):
            if argument.startswith("-") and at < end:
                self.assertTrue(template.startswith("-"))
            if "/" in template and "{" not in template.partition("/")[0]:
                self.assertEqual(argument.count("/"), template.count("/"))
            if "{" not in template:
                self.assertEqual(argument, template)


class LaunchTests(PipeCase):
    def settings(self, **more: Any) -> tuple[str, str]:
        """What the launcher is told: who and how much, and where."""
        self.carry(**more)
        executable, isolated, bare, file, settings, directory = self.program.words[:6]
        self.assertEqual((executable, isolated, bare, file), (sys.executable, "-I", "-S", launch.__file__))
        relay, _, rest = settings.partition(" ")
        self.assertEqual(relay, f"relay={os.getpid()}")
        return rest, directory

    def test_a_program_has_no_limits_but_those_that_are_said(self) -> None:
        self.assertEqual(self.settings(), ("", "/"))
        self.assertEqual(
            self.settings(memory="64 MiB", cpu="1.5", directory="/tmp"), (f"cpu=2 memory={64 * 1024 * 1024}", "/tmp")
        )

    def test_its_environment_is_plain(self) -> None:
        self.patch(os, "environ", {"SECRET": "x"})
        self.carry(environment='{"KIND":"ticket","LANG":"C"}')
        self.assertEqual(
            self.program.environment, {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C", "KIND": "ticket"}
        )

    def test_root_runs_a_program_as_somebody_else(self) -> None:
        user = pwd.getpwnam("nobody")
        settings, _ = self.settings(agent=self.agent(euid=0), user="nobody")
        self.assertIn(f"uid={user.pw_uid} gid={user.pw_gid} groups={user.pw_gid}", settings)

    def test_whoever_is_not_to_be_had_puts_it_off(self) -> None:
        for euid, more, why in (
            (0, {}, "runs no program as root"),
            (0, {"user": "root"}, "no program is run as root"),
            (0, {"user": "no-such-user"}, "there is no user"),
            (54321, {"user": "nobody"}, "cannot become 'nobody'"),
        ):
            fact = self.fact(self.carry(agent=self.agent(euid=euid), **more))
            assert isinstance(fact, Unwritten)
            self.assertTrue(is_put_off(fact))
            self.assertIn(why, fact.text)
        self.assertEqual(self.processes.started, [])

    def test_a_relay_that_is_that_user_already_has_nothing_to_become(self) -> None:
        user = pwd.getpwnam("nobody")
        self.assertEqual(self.settings(agent=self.agent(euid=user.pw_uid), user="nobody")[0], "")


class MessageTests(PipeCase):
    def message(self, **more: Any) -> bytes:
        carrying = self.carry(**more)
        octets = self.program.take_all()
        self.assertTrue(self.program.closed)
        self.program.exit(0)
        self.assertIsInstance(self.fact(carrying), Carried)
        return octets

    def test_lines_end_with_lf(self) -> None:
        for form in Form:
            self.assertEqual(self.message(content=Text(form=form)), (TOP + HEAD + MESSAGE).replace(b"\r\n", b"\n"))

    def test_or_with_crlf(self) -> None:
        for form in Form:
            self.assertEqual(self.message(content=Text(form=form), newlines="crlf"), TOP + HEAD + MESSAGE)

    def test_what_delivery_adds_can_be_left_out(self) -> None:
        self.assertEqual(self.message(top="false", newlines="crlf"), HEAD + MESSAGE)

    def test_a_message_of_nothing_has_a_head(self) -> None:
        self.assertEqual(self.message(content=Text(b""), top="false", newlines="crlf"), HEAD)

    def test_it_is_read_no_further_than_the_program_takes_it(self) -> None:
        read: list[int] = []

        class Counted(Text):
            def blocks(self) -> Any:
                for number in range(1000):
                    read.append(number)
                    yield b"x" * 100

        carrying = self.carry(content=Counted())
        for _ in range(10):
            self.program.take()
        self.assertLess(len(read), 12)
        self.program.exit(0)
        self.fact(carrying)

    def test_a_program_need_not_read_it(self) -> None:
        carrying = self.carry()
        self.program.protocol.stopProducing()
        self.program.exit(0)
        self.assertIsInstance(self.fact(carrying), Carried)

    def test_a_program_that_cannot_get_all_of_it_never_sees_its_end(self) -> None:
        carrying = self.carry(content=Text(error=OSError(5, "Input/output error")))
        self.program.take_all()
        self.assertFalse(self.program.closed)
        self.assertEqual(self.processes.signals, [(self.program.pid, signal.SIGKILL)])
        self.assertEqual(self.fact(carrying), Unwritten("the content of 4Q2x7", "Input/output error", "EIO"))
        self.program.exit(None, signal.SIGKILL)


class EndTests(PipeCase):
    def end(self, status: int | None = 0, number: int | None = None, said: bytes = b"", **more: Any) -> Fact:
        carrying = self.carry(**more)
        self.program.take_all()
        self.program.say(said)
        self.program.exit(status, number)
        return self.fact(carrying)

    def test_zero_is_delivered(self) -> None:
        self.assertEqual(self.end(0, said=b"thanks"), Carried(onward=False, by="/bin/program"))

    def test_each_status_of_sysexits_means_what_it_says(self) -> None:
        self.assertEqual(sorted(EXITS), [0, *range(64, 79)])
        for status in range(64, 79):
            fact = self.end(status)
            assert isinstance(fact, Unwritten)
            self.assertEqual(fact.permanent, EXITS[status].fate is Fate.FAILED, status)
            self.assertTrue(fact.text.startswith(f"exit status {status}, "))
        failing = [status for status, meant in EXITS.items() if meant.fate is Fate.FAILED]
        self.assertEqual(failing, [os.EX_DATAERR, os.EX_NOUSER, os.EX_NOHOST, os.EX_NOPERM])

    def test_the_sender_is_told_what_a_program_says_by_it_and_not_which_program_it_was(self) -> None:
        refused = "the program that takes mail for this address has refused it: "
        for status, expected in (
            (os.EX_DATAERR, Failed("5.6.0", f"{refused}something is wrong with the message")),
            (os.EX_NOUSER, Failed("5.1.1", f"{refused}there is no such user")),
            (os.EX_NOHOST, Failed("5.1.2", f"{refused}there is no such host")),
            (os.EX_NOPERM, Failed("5.7.1", f"{refused}it is not permitted")),
            (os.EX_TEMPFAIL, Delayed("4.2.0", NOT_NOW)),
        ):
            self.assertEqual(judge(self.end(status, said=b"the reason")).outcome, expected)

    def test_a_status_that_says_nothing_puts_it_off(self) -> None:
        for status in (1, 2, 99, 111, 126, 127, 255):
            self.assertTrue(is_put_off(self.end(status)), status)

    def test_an_end_by_a_signal_puts_it_off(self) -> None:
        fact = self.end(None, signal.SIGSEGV)
        self.assertEqual(fact, Unwritten("/bin/program", "it was ended by SIGSEGV", because=NOT_NOW))

    def test_the_end_of_what_it_says_is_kept_as_one_line(self) -> None:
        fact = self.end(1, said=b"a\x1b[2J\r\n\n caf\xc3\xa9 \n" + b"x" * 1000 + b"\nthe reason\n")
        assert isinstance(fact, Unwritten)
        self.assertLess(len(fact.text), 400)
        self.assertTrue(fact.text.isascii() and fact.text.isprintable())
        self.assertTrue(fact.text.endswith("xxx | the reason"))

    def test_what_is_kept_of_it_is_bounded(self) -> None:
        carrying = self.carry(output="10")
        for _ in range(100):
            self.program.say(b"y" * 100_000)
        self.program.say(b"the reason")
        self.program.exit(75)
        fact = self.fact(carrying)
        assert isinstance(fact, Unwritten)
        self.assertTrue(fact.text.endswith(": the reason"))

    def test_what_it_has_started_does_not_keep_the_mail_waiting(self) -> None:
        carrying = self.carry()
        self.program.exit(0, leaving=True)
        self.clock.advance(0.9)
        self.assertFalse(self.program.alone)
        self.clock.advance(0.2)
        self.assertTrue(self.program.alone)
        self.program.protocol.processEnded(Failure(ProcessDone(0)))
        self.assertIsInstance(self.fact(carrying), Carried)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class DeadlineTests(PipeCase):
    def setUp(self) -> None:
        super().setUp()
        self.carrying = self.carry(timeout="1m")

    def signals(self) -> list[int]:
        return [number for group, number in self.processes.signals if group == self.program.pid]

    def test_at_the_deadline_it_is_told_to_end_and_then_made_to(self) -> None:
        self.clock.advance(59.9)
        self.assertEqual(self.signals(), [])
        self.clock.advance(0.2)
        self.assertEqual(self.signals(), [signal.SIGTERM])
        self.clock.advance(2.9)
        self.assertEqual(self.signals(), [signal.SIGTERM])
        self.clock.advance(0.2)
        self.assertEqual(self.signals(), [signal.SIGTERM, signal.SIGKILL])
        self.program.exit(None, signal.SIGKILL)
        self.assertEqual(self.fact(self.carrying), Unwritten("/bin/program", "it took longer than 1m", because=NOT_NOW))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_that_has_finished_in_the_last_moment_is_believed(self) -> None:
        self.clock.advance(61)
        self.program.exit(0)
        self.assertIsInstance(self.fact(self.carrying), Carried)

    def test_whatever_else_it_says_then_means_nothing(self) -> None:
        self.clock.advance(61)
        self.program.exit(os.EX_NOUSER)
        self.assertTrue(is_put_off(self.fact(self.carrying)))

    def test_what_it_has_started_is_ended_as_well_if_it_ends_when_it_is_told_to(self) -> None:
        self.clock.advance(61)
        self.program.exit(None, signal.SIGTERM, leaving=True)
        self.assertEqual(self.signals(), [signal.SIGTERM, signal.SIGKILL])
        self.program.protocol.processEnded(Failure(ProcessTerminated(None, signal.SIGTERM)))
        self.assertTrue(is_put_off(self.fact(self.carrying)))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_that_nothing_ends_is_left_alone(self) -> None:
        for seconds in (61, 3, 3.1):
            self.clock.advance(seconds)
        self.assertTrue(self.program.alone)
        self.assertTrue(is_put_off(self.fact(self.carrying)))
        self.program.exit(None, signal.SIGKILL)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_that_has_ended_is_not_signalled_since_its_number_may_be_anothers(self) -> None:
        self.program.exit(0, leaving=True)
        self.carrying.cancel()
        self.clock.advance(100)
        self.assertEqual(self.signals(), [])


class StoppingTests(PipeCase):
    def test_it_is_killed_when_the_relay_wants_to_stop(self) -> None:
        carrying = self.carry()
        carrying.cancel()
        self.assertEqual(self.processes.signals, [(self.program.pid, signal.SIGKILL)])
        self.assertEqual(self.fact(carrying), Unwritten("pipe", "it took too long"))
        self.program.exit(None, signal.SIGKILL)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_has_the_mail_by_then_has_it(self) -> None:
        carrying = self.carry(to_=["a@x", "b@x"])
        self.processes.started[0].exit(0)
        carrying.cancel()
        facts = {str(report.recipient.address): report.fact for report in self.successResultOf(carrying)}
        self.assertIsInstance(facts["a@x"], Carried)
        self.assertTrue(is_put_off(facts["b@x"]))

    def test_no_more_than_so_many_run_at_once(self) -> None:
        agent = self.agent()
        carrying = self.carry("{recipient}", to_=[f"r{n}@x" for n in range(5)], agent=agent, concurrency="2")
        other = self.carry("other", agent=agent)
        self.assertEqual(len(self.processes.started), 3, "two of the first and the other, which is another program")
        for at in (0, 1, 3, 4, 5):
            self.processes.started[at].exit(0)
        self.assertEqual(len(self.successResultOf(carrying)), 5)
        self.processes.started[2].exit(0)
        self.successResultOf(other)
        self.assertEqual(agent._places._kinds, {})

    def test_one_that_waits_for_its_turn_can_be_stopped(self) -> None:
        agent = self.agent()
        first = self.carry(agent=agent, concurrency="1")
        second = self.carry(agent=agent, concurrency="1")
        second.cancel()
        self.assertTrue(is_put_off(self.fact(second)))
        self.program.exit(0)
        self.assertIsInstance(self.fact(first), Carried)
        self.assertEqual(len(self.processes.started), 1)


class RealTests(SynchronousTestCase):
    """With programs of this machine."""

    def setUp(self) -> None:
        self.real = RealReactor()
        self.addCleanup(self.real.close)
        self.addCleanup(lambda: self.real.until(lambda: not self.real.reactor.getDelayedCalls()))
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.folder)
        self.euid = 54321  # whoever runs the tests, it is not root for the agent

    def run_program(self, program: str, *arguments: str, content: Any = None, **more: Any) -> Fact:
        return self.run_command(sys.executable, "-I", "-S", "-c", program, *arguments, content=content, **more)

    def run_command(self, *command: str, content: Any = None, **more: Any) -> Fact:
        agent = PipeAgent(self.real.reactor, self.real.clock, euid=lambda: self.euid)
        recipient = to("jon@example.net", "pipe", command=json.dumps(command), **more)
        carrying: Any = start(agent.carry(consignment(recipient, content=content)))
        (report,) = self.real.result(carrying)
        fact: Fact = report.fact
        return fact

    def said(self, fact: Fact) -> str:
        assert isinstance(fact, Unwritten)
        self.assertTrue(is_put_off(fact))
        return fact.text.partition(": ")[2]

    def test_a_program_gets_its_arguments_as_they_are_and_the_message(self) -> None:
        file = self.folder / "kept"
        program = "import sys; open(sys.argv[1], 'wb').write(repr(sys.argv[2:]).encode() + sys.stdin.buffer.read())"
        fact = self.run_program(program, str(file), "$(touch x) `y`; {recipient} *", "")
        self.assertEqual(fact, Carried(onward=False, by=sys.executable))
        top = TOP + HEAD + MESSAGE
        self.assertEqual(file.read_bytes(), b"['$(touch x) `y`; jon@example.net *', '']" + top.replace(b"\r\n", b"\n"))
        self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)

    def test_a_message_that_is_larger_than_any_pipe_arrives_whole(self) -> None:
        program = "import sys, time; data = sys.stdin.buffer.read(); sys.exit(0 if len(data) == 5_000_000 else 65)"
        content = Text(b"x" * (5_000_000 - len(HEAD)), block=256 * 1024)
        fact = self.run_program(program, content=content, top="false", newlines="crlf")
        self.assertIsInstance(fact, Carried)

    def test_a_program_that_does_not_read_it_is_believed(self) -> None:
        fact = self.run_program("pass", content=Text(b"x" * 5_000_000, block=256 * 1024))
        self.assertIsInstance(fact, Carried)

    def test_it_is_in_a_place_and_a_session_of_its_own_with_a_plain_environment(self) -> None:
        program = "import os, sys; print(os.getcwd(), os.getsid(0) == os.getpid(), sorted(os.environ)); sys.exit(75)"
        self.assertEqual(self.said(self.run_program(program)), "/ True ['LANG', 'PATH']")
        self.assertEqual(
            self.said(self.run_program(program, directory=str(self.folder), environment='{"A":"b"}')),
            f"{self.folder} True ['A', 'LANG', 'PATH']",
        )

    def test_it_can_have_limits(self) -> None:
        said = self.said(self.run_program("x = bytes(200_000_000)", memory="100 MiB"))
        self.assertTrue(said.endswith("MemoryError"), said)
        fact = self.run_program("while True: pass", cpu="1", timeout="20s")
        assert isinstance(fact, Unwritten)
        self.assertIn(fact.text, ("it was ended by SIGXCPU", "it was ended by SIGKILL"))

    def test_a_program_that_is_not_there_or_no_program_puts_it_off(self) -> None:
        self.assertIn("cannot run /no/such/program: No such file", self.said(self.run_command("/no/such/program")))
        self.assertIn("Permission denied", self.said(self.run_command("/etc/passwd")))
        self.assertIn("No such file", self.said(self.run_program("pass", directory="/no/such/folder")))

    def test_all_that_it_has_started_is_ended_at_the_deadline(self) -> None:
        file = self.folder / "pids"
        program = f"""
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_DFL)
child = os.fork()
if child:
    open({str(file)!r}, "w").write("%d %d" % (os.getpid(), child))
time.sleep(60)
"""
        fact = self.run_program(program, timeout="1s")
        self.assertEqual(fact, Unwritten(sys.executable, "it took longer than 1s", because=NOT_NOW))
        self.real.until(lambda: not any(_runs(int(pid)) for pid in file.read_text().split()))

    def test_also_what_does_not_listen_and_has_nothing_open(self) -> None:
        file = self.folder / "pid"
        program = f"""
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    open({str(file)!r}, "w").write(str(child))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
else:
    for each in range(3):
        os.close(each)
time.sleep(60)
"""
        fact = self.run_program(program, timeout="1s")
        self.assertEqual(fact, Unwritten(sys.executable, "it took longer than 1s", because=NOT_NOW))
        self.real.until(lambda: not _runs(int(file.read_text())))

    def test_it_ignores_no_signal_and_has_as_many_descriptors_as_any_program(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
        program = 'grep SigIgn /proc/self/status; ulimit -Sn; ulimit -Hn; exit "$1"'
        said = self.said(self.run_command("/bin/sh", "-c", program, "sh", "75"))
        ignored, few, most = (each.strip() for each in said.split("|"))
        ours = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
        self.assertEqual(int(ignored[-16:], 16) & ours, 0)
        self.assertEqual((few, most), (str(min(1024, hard)), str(hard)))

    def test_one_that_does_not_listen_is_ended_all_the_same(self) -> None:
        program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
        fact = self.run_program(program, timeout="1s")
        self.assertEqual(fact, Unwritten(sys.executable, "it took longer than 1s", because=NOT_NOW))

    def test_it_does_not_outlive_a_relay_that_was_killed(self) -> None:
        file = self.folder / "pid"
        program = f"import os, time; print(os.getpid(), file=open({str(file)!r}, 'w')); time.sleep(60)"
        relay = subprocess.Popen(
            [sys.executable, "-c", _RELAY, str(Path(launch.__file__)), sys.executable, "-c", program]
        )
        try:
            self.real.until(lambda: file.exists() and file.read_text().endswith("\n"))
        finally:
            relay.kill()
            relay.wait()
        self.real.until(lambda: not _runs(int(file.read_text())))

    def test_nor_does_it_begin_behind_it(self) -> None:
        words = [sys.executable, "-I", "-S", launch.__file__, "relay=1", "/", "/bin/true"]
        self.assertEqual(subprocess.run(words, check=False).returncode, os.EX_TEMPFAIL)

    def test_one_that_has_left_something_running_is_finished(self) -> None:
        program = """
import os, time
if not os.fork():
    time.sleep(4)
"""
        self.assertIsInstance(self.run_program(program), Carried)

    @unittest.skipUnless(os.geteuid() == 0, "only root can become somebody else")
    def test_root_becomes_the_user_and_keeps_nothing_of_itself(self) -> None:
        self.euid = 0
        self.folder.chmod(0o777)
        user = pwd.getpwnam("nobody")
        fact = self.run_command("/usr/bin/id", user="nobody", output="0")
        self.assertIsInstance(fact, Carried)
        fact = self.run_command("/usr/bin/tee", str(self.folder / "box"), user="nobody", directory=str(self.folder))
        self.assertIsInstance(fact, Carried)
        self.assertEqual((self.folder / "box").stat().st_uid, user.pw_uid)
        denied = self.run_command("/usr/bin/tee", "/root/relay-test", user="nobody")
        self.assertIn("Permission denied", self.said(denied))


#: A relay as far as a program can see it: a process that has started it by way of the launcher.
_RELAY = """
import os, subprocess, sys
file, *command = sys.argv[1:]
subprocess.run([sys.executable, "-I", "-S", file, f"relay={os.getpid()}", "/", *command])
"""


def _runs(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"
