"""twistd's own start, in a process of its own, with a service that is made here."""

from __future__ import annotations

import io
import subprocess
import sys
import types
from typing import Any

from twisted.application.service import Service
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from relay import tap
from relay.config.errors import ConfigurationError, Problem
from relay.net import reactor as reactor_module

#: Puts a service into `relay.parent` that says which reactor it was given, and stops it.
SAYS_ITS_REACTOR = """
import sys, types
from twisted.application.service import Service

class SaysItsReactor(Service):
    def __init__(self, path, reactor):
        self.path, self.reactor = path, reactor
    def startService(self):
        from twisted.internet import reactor
        assert reactor is self.reactor
        self.reactor.callWhenRunning(self.reactor.stop)
        sys.__stderr__.write(f"{self.path} on {type(reactor).__name__}\\n")

sys.modules["relay.parent"] = types.ModuleType("relay.parent")
sys.modules["relay.parent"].from_file = SaysItsReactor
"""


def run_python(program: str, *arguments: str) -> tuple[int, str]:
    """Run `program` by a new interpreter; its exit status and its standard error."""
    command = [sys.executable, "-c", program, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return ran.returncode, ran.stderr


class OptionsTests(SynchronousTestCase):
    def test_the_configuration_is_named_by_c_or_config(self) -> None:
        for words in ["-c", "a.toml"], ["--config", "a.toml"], ["--config=a.toml"]:
            options = tap.Options()
            options.parseOptions(words)
            self.assertEqual(options["config"], "a.toml")

    def test_without_a_configuration_nothing_is_guessed(self) -> None:
        refusal = self.assertRaises(UsageError, tap.Options().parseOptions, [])
        self.assertEqual(str(refusal), "which configuration? Say relay --config FILE")

    def test_listing_the_options_loads_neither_a_reactor_nor_the_service(self) -> None:
        status, said = run_python(
            """
import sys, relay.tap
relay.tap.Options()
heavy = {"twisted.internet.reactor", "relay.parent", "relay.interfaces", "pydantic", "dns"}
sys.stderr.write(" ".join(heavy & set(sys.modules)))
            """
        )
        self.assertEqual((status, said), (0, ""))


class MakeServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = object()
        self.stderr = io.StringIO()
        self.patch(sys, "stderr", self.stderr)
        self.patch(reactor_module, "install_monotonic_reactor", lambda: self.reactor)
        self.options = tap.Options()
        self.options.parseOptions(["-c", "etc/some.toml"])

    def make(self, from_file: Any) -> Any:
        """`makeService`, with `from_file` standing in for the one of `relay.parent`."""
        service = types.ModuleType("relay.parent")
        service.from_file = from_file  # type: ignore[attr-defined]
        self.patch_module("relay.parent", service)
        return tap.makeService(self.options)

    def patch_module(self, name: str, module: types.ModuleType) -> None:
        before = sys.modules.get(name)
        sys.modules[name] = module
        self.addCleanup(lambda: sys.modules.update({name: before}) if before else sys.modules.pop(name))

    def test_the_service_is_made_from_the_file_as_it_was_named(self) -> None:
        service = Service()
        asked: list[tuple[str, object]] = []
        self.assertIdentical(self.make(lambda *a: asked.append(a) or service), service)
        self.assertEqual(asked, [("etc/some.toml", self.reactor)])

    def test_every_problem_is_a_line_and_the_exit_status_says_configuration(self) -> None:
        def wrong(path: str, reactor: object) -> Any:
            raise ConfigurationError(
                [
                    Problem(path, 3, "hostname", "no such thing"),
                    Problem(path, 12, "policy.2.domians", "unknown key, did you mean 'domains'?"),
                ]
            )

        left = self.assertRaises(SystemExit, self.make, wrong)
        self.assertEqual(left.code, 78)
        self.assertEqual(
            self.stderr.getvalue().splitlines(),
            [
                "etc/some.toml:3: hostname: no such thing",
                "etc/some.toml:12: policy.2.domians: unknown key, did you mean 'domains'?",
            ],
        )

    def test_a_mistake_of_ours_is_not_dressed_up_as_the_operators(self) -> None:
        self.assertRaises(ZeroDivisionError, self.make, lambda path, reactor: 1 // 0)
        self.assertEqual(self.stderr.getvalue(), "")


class TwistdTests(SynchronousTestCase):
    def test_twistd_runs_the_service_on_the_reactor_of_the_relay(self) -> None:
        status, said = run_python(
            SAYS_ITS_REACTOR + "from twisted.scripts.twistd import run; run()",
            *["--nodaemon", "--pidfile=", "relay", "-c", "some.toml"],
        )
        self.assertEqual((status, said), (0, "some.toml on RelayReactor\n"))

    def test_twistd_is_given_the_reactor_that_was_asked_for(self) -> None:
        status, said = run_python(
            SAYS_ITS_REACTOR + "from twisted.scripts.twistd import run; run()",
            *["--nodaemon", "--pidfile=", "--reactor=poll", "relay", "-c", "some.toml"],
        )
        self.assertEqual((status, said), (0, "some.toml on PollReactor\n"))

    def test_the_command_relay_does_the_same(self) -> None:
        status, said = run_python(SAYS_ITS_REACTOR + "from relay.cli.run import main; main()", "-c", "some.toml")
        self.assertEqual((status, said), (0, "some.toml on RelayReactor\n"))
