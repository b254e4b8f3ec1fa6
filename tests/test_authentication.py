"""From `[auth]` to who knows the users."""

from __future__ import annotations

import os
import queue
import secrets
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from relay.authentication import UserSource
from relay.config.errors import ConfigurationError
from relay.config.load import load
from relay.net.clock import ReactorClock
from relay.net.dovecot_auth import DovecotAuth
from relay.net.password_file import PasswordFile
from relay.net.passwords import Record
from relay.net.waiting import start

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)

LISTENER = '\n[[listener]]\naddress = "127.0.0.1:0"\ntls = "offer"\n'


class Reactor:
    """A reactor, as far as threads need one: the test waits for what they have to say."""

    def __init__(self) -> None:
        self._said: queue.Queue[Any] = queue.Queue()

    def callFromThread(self, call: Any, *arguments: Any) -> None:
        self._said.put((call, arguments))

    def turn(self) -> None:
        call, arguments = self._said.get(timeout=30)
        call(*arguments)


class OurChecker(InMemoryUsernamePasswordDatabaseDontUse):
    def __init__(self) -> None:
        super().__init__(jon=b"pencil")  # type: ignore[no-untyped-call]


class Unwilling:
    def __init__(self) -> None:
        raise RuntimeError("not today")


class UsersTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.folder = Path(directory.name)
        self.path = self.folder / "users"
        self.logged: list[str] = []
        module: Any = types.ModuleType("our_checkers")
        module.Ours, module.Unwilling, module.instance, module.number = OurChecker, Unwilling, OurChecker(), 3
        sys.modules["our_checkers"] = module
        self.addCleanup(sys.modules.pop, "our_checkers")

    def write(self, mode: int = 0o600) -> None:
        self.path.write_text(Record.of("jon", "pencil", secrets.token_bytes, CHEAP).line() + "\n")
        self.path.chmod(mode)

    def users(self, auth: str, reactor: Any = None) -> UserSource:
        def note(event: Any) -> None:
            self.logged.append(event["log_format"].format(**event))

        settings = load(
            f"[auth]\n{auth}{LISTENER}",
            file="relay.toml",
            base=self.folder,
            hostname="mx.test",
            user="ann",
            option_model=lambda use: None,
        )
        return UserSource(settings, ReactorClock(Clock()), reactor, file="relay.toml", log=Logger(observer=note))

    def problem(self, auth: str) -> str:
        with self.assertRaises(ConfigurationError) as caught:
            self.users(auth)
        return str(caught.exception).replace(f"{self.folder}/", "")

    def check(self, users: UserSource, password: str) -> Any:
        assert users.credentials is not None
        return start(users.credentials.check_password("jon", password))

    def test_without_a_source_there_are_no_users(self) -> None:
        users = self.users("")
        users.start()
        users.stop()
        self.assertIsNone(users.credentials)

    def test_a_file_of_passwords_is_read_and_its_passwords_are_verified_in_threads(self) -> None:
        self.write()
        reactor = Reactor()
        users = self.users('passwords = "users"', reactor)
        self.assertIsInstance(users.credentials, PasswordFile)
        users.start()
        self.addCleanup(users.stop)
        for password, found in (("pencil", "jon"), ("crayon", None)):
            checked = self.check(users, password)
            reactor.turn()
            self.assertEqual(self.successResultOf(checked), found)

    def test_one_that_was_never_started_can_be_stopped(self) -> None:
        self.write()
        self.users('passwords = "users"').stop()

    def test_a_file_that_is_not_there_is_a_problem_and_the_command_that_makes_it_is_named(self) -> None:
        self.assertEqual(
            self.problem('passwords = "users"'),
            "relay.toml:2: auth.passwords: users: there is no such file; `relayctl passwd -c relay.toml USER` makes it",
        )

    def test_a_file_that_others_can_read_is_refused(self) -> None:
        self.write(0o644)
        self.assertIn(
            "relay.toml:2: auth.passwords: users: others may read or write it", self.problem('passwords = "users"')
        )

    def test_a_file_that_makes_no_sense_is_refused_without_repeating_it(self) -> None:
        self.path.write_text("jon:pencil\n")
        self.path.chmod(0o600)
        said = self.problem('passwords = "users"')
        self.assertIn("users: line 1: ", said)
        self.assertNotIn("pencil", said)

    def test_a_folder_is_no_file(self) -> None:
        self.path.mkdir()
        self.assertIn("relay.toml:2: auth.passwords: users: ", self.problem('passwords = "users"'))

    def test_what_root_can_read_and_the_relay_cannot_is_said_at_the_start(self) -> None:
        self.write()
        users = self.users('passwords = "users"')
        unprivileged = os.geteuid() + 1
        self.patch(os, "geteuid", lambda: unprivileged)
        self.path.unlink()  # tests may run as root, whom no mode keeps from reading
        users.start()
        users.stop()
        self.assertEqual(len(self.logged), 1)
        self.assertIn(f"Root has read {self.path}, and the relay will not be able to", self.logged[0])

    def test_dovecot_is_asked_when_somebody_logs_in_and_not_before(self) -> None:
        users = self.users('dovecot = "nowhere"')
        users.start()
        users.stop()
        self.assertIsInstance(users.credentials, DovecotAuth)

    def test_a_checker_is_a_class_or_an_object(self) -> None:
        for name in ("Ours", "instance"):
            users = self.users(f'checker = "our_checkers:{name}"')
            self.assertEqual([self.check(users, each) for each in ("pencil", "crayon")], ["jon", None])

    def test_credentials_of_our_own_contract_are_taken_as_they_are(self) -> None:
        self.write()
        ours = self.users('passwords = "users"').credentials
        sys.modules["our_checkers"].ours = ours  # type: ignore[attr-defined]
        self.assertIs(self.users('checker = "our_checkers:ours"').credentials, ours)

    def test_what_is_no_checker_is_said(self) -> None:
        for name, said in (
            ("number", "is no checker: it provides neither"),
            ("Unwilling", "the checker 'our_checkers:Unwilling' cannot be made: RuntimeError: not today"),
            ("absent", "the checker 'our_checkers:absent' cannot be loaded: AttributeError"),
        ):
            found = self.problem(f'checker = "our_checkers:{name}"')
            self.assertTrue(found.startswith("relay.toml:2: auth.checker: "), found)
            self.assertIn(said, found)
