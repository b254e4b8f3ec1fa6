from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from relay.cli.passwd import passwd, rewrite
from relay.net import passwords
from relay.net.disk import Disk
from relay.net.passwords import Passwords, Record, parse
from relay.net.verifying import verified
from relay.smtp.scram import ITERATIONS, ScramKeys

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class FailingDisk(Disk):
    """Where one kind of call fails."""

    def __init__(self, call: str) -> None:
        self._call = call

    def __getattribute__(self, name: str) -> Any:
        if name != "_call" and name == self._call:

            def fails(*_: object, **__: object) -> None:
                raise OSError(5, "Input/output error")

            return fails
        return super().__getattribute__(name)


class PasswdCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = self.folder / "users"
        of = Record.of.__func__  # type: ignore[attr-defined]
        cheaply = classmethod(lambda cls, user, password, salt, hasher=CHEAP: of(cls, user, password, salt, hasher))
        self.patch(Record, "of", cheaply)

    def run_it(self, *arguments: str, typed: str | bytes = "") -> Result:
        return CliRunner().invoke(passwd, ["--file", str(self.path), *arguments], input=typed)

    def set(self, user: str, password: str) -> Result:
        result = self.run_it(user, "--stdin", typed=password + "\n")
        self.assertEqual(result.exit_code, 0, result.output)
        return result

    def found(self) -> Passwords:
        return parse(self.path.read_text())

    def mode(self) -> int:
        return stat.S_IMODE(self.path.stat().st_mode)

    def assertRefused(self, result: Result, saying: str) -> None:
        self.assertEqual(result.exit_code, 1, result.output)
        self.assertIn(saying, result.output)
        self.assertNotIn("hunter2", result.output)


class PasswdTests(PasswdCase):
    def test_a_user_is_written(self) -> None:
        self.set("jon", "s€cret")
        jon = self.found().records["jon"]
        assert jon.argon2 is not None
        assert jon.scram is not None
        self.assertTrue(verified(jon.argon2, "s€cret"))
        self.assertEqual(jon.scram, ScramKeys.of("s€cret", jon.scram.salt, ITERATIONS))
        self.assertEqual(self.mode(), 0o600)
        self.assertEqual(os.listdir(self.folder), ["users"])

    def test_a_person_types_it_twice(self) -> None:
        result = self.run_it("jon", typed="s€cret\ns€cret\n")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertNotIn("s€cret", result.output)
        self.assertTrue(verified(self.found().records["jon"].argon2 or "", "s€cret"))

    def test_a_person_who_mistypes_is_asked_again(self) -> None:
        result = self.run_it("jon", typed="s€cret\nsecret\npencil\npencil\n")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertTrue(verified(self.found().records["jon"].argon2 or "", "pencil"))

    def test_a_person_who_goes_away_changes_nothing(self) -> None:
        self.assertNotEqual(self.run_it("jon", typed="s€cret\n").exit_code, 0)
        self.assertEqual(os.listdir(self.folder), [])

    def test_each_user_has_a_salt_and_the_file_has_one_secret(self) -> None:
        self.set("jon", "pencil")
        secret = self.found().secret
        self.set("ann", "pencil")
        jon, ann = self.found().records["jon"], self.found().records["ann"]
        self.assertNotEqual(jon.argon2, ann.argon2)
        self.assertNotEqual(jon.scram, ann.scram)
        self.assertEqual(self.found().secret, secret)

    def test_other_lines_stay(self) -> None:
        self.set("jon", "pencil")
        before = self.path.read_text() + "# a comment\n\nann::\n"
        self.path.write_text(before)
        self.set("jon", "crayon")
        after = self.path.read_text()
        self.assertEqual(after.splitlines()[0], before.splitlines()[0])
        self.assertEqual(after.splitlines()[2:], before.splitlines()[2:])
        self.assertTrue(verified(self.found().records["jon"].argon2 or "", "crayon"))

    def test_a_user_is_deleted(self) -> None:
        self.set("jon", "pencil")
        self.set("ann", "pencil")
        self.assertEqual(self.run_it("jon", "--delete").exit_code, 0)
        self.assertEqual(set(self.found().records), {"ann"})
        self.assertRefused(self.run_it("jon", "--delete"), "there is no user jon")

    def test_there_is_nobody_to_delete_from_a_file_that_is_not_there(self) -> None:
        self.assertRefused(self.run_it("jon", "--delete"), "No such file")
        self.assertEqual(os.listdir(self.folder), [])

    def test_what_cannot_be_is_refused(self) -> None:
        for user, password, saying in (
            ("jon", "\n", "a password is not empty"),
            ("jon", "", "a password is not empty"),
            ("jon", "hunter2\x07\n", "control characters"),
            ("jon", "hunter2\U0001f511\n", "emoji"),
            ("jon", "hunter2" * 1000, "at most"),
            ("jon", b"hunter2\xff\n", "not UTF-8"),
            ("jon:x", "hunter2\n", "no colon"),
            ("jon\n", "hunter2\n", "control characters"),
            ("", "hunter2\n", "not empty"),
            ("#jon", "hunter2\n", "does not begin with #"),
        ):
            self.assertRefused(self.run_it("--stdin", "--", user, typed=password), saying)
        self.assertRefused(self.run_it("jon", typed="\n\n"), "a password is not empty")
        self.assertEqual(os.listdir(self.folder), [])

    def test_only_its_first_line_is_the_password(self) -> None:
        for typed in "pencil", "pencil\n", "pencil\r\n", "pencil\nhunter2\n":
            self.run_it("jon", "--stdin", typed=typed)
            self.assertTrue(verified(self.found().records["jon"].argon2 or "", "pencil"))

    def test_a_name_is_written_as_it_is_prepared(self) -> None:
        self.set("\u2168", "pencil")
        self.set("IX", "crayon")
        self.assertEqual(set(self.found().records), {"IX"})

    def test_a_file_that_others_could_read_no_longer_lets_them(self) -> None:
        for before, after in (0o644, 0o640), (0o640, 0o640), (0o604, 0o600), (0o666, 0o640), (0o600, 0o600):
            self.path.write_text("")
            self.path.chmod(before)
            self.set("jon", "pencil")
            self.assertEqual(self.mode(), after)

    def test_a_file_that_the_relay_would_refuse_is_not_written(self) -> None:
        self.path.write_text("ann:hunter2\n")
        self.assertRefused(self.run_it("jon", "--stdin", typed="pencil\n"), "line 2: not a name, a hash and keys")
        self.assertEqual(self.path.read_text(), "ann:hunter2\n")
        self.assertEqual(self.run_it("ann", "--stdin", typed="pencil\n").exit_code, 0)
        self.assertEqual(set(self.found().records), {"ann"})
        self.path.write_bytes(b"\xff")
        self.assertRefused(self.run_it("jon", "--stdin", typed="pencil\n"), "not UTF-8")

    def test_a_link_leads_to_the_file(self) -> None:
        real = self.folder / "real"
        self.path.symlink_to(real)
        self.set("jon", "pencil")
        self.assertTrue(self.path.is_symlink())
        self.assertIn("jon:", real.read_text())

    def test_a_folder_is_no_file(self) -> None:
        self.path.mkdir()
        self.assertRefused(self.run_it("jon", "--stdin", typed="pencil\n"), "Is a directory")

    def test_hashes_are_dear_unless_a_test_makes_them(self) -> None:
        self.assertEqual(passwords.HASHER.memory_cost, 65536)
        self.assertIn("m=65536,", passwords.DEFAULT_COST)


class ConfigurationTests(PasswdCase):
    def setUp(self) -> None:
        super().setUp()
        self.configuration = self.folder / "relay.toml"
        self.configuration.write_text(
            '[auth]\npasswords = "users"\n[[listener]]\naddress = "127.0.0.1:0"\ntls = "offer"\n'
        )

    def run_it(self, *arguments: str, typed: str | bytes = "") -> Result:
        return CliRunner().invoke(passwd, ["-c", str(self.configuration), *arguments], input=typed)

    def test_the_file_is_the_one_that_the_configuration_names_and_need_not_be_there_yet(self) -> None:
        self.set("jon", "pencil")
        self.assertEqual(set(self.found().records), {"jon"})

    def test_a_configuration_without_such_a_file_is_no_place_for_passwords(self) -> None:
        self.configuration.write_text("")
        self.assertRefused(self.run_it("jon", "--stdin", typed="hunter2\n"), "relay.toml: [auth] has no 'passwords'")

    def test_a_configuration_that_is_wrong_says_what_is_wrong(self) -> None:
        self.configuration.write_text("[auht]\n")
        result = self.run_it("jon", "--stdin", typed="hunter2\n")
        self.assertEqual(result.exit_code, os.EX_CONFIG)
        self.assertIn("relay.toml:1: auht: unknown key, did you mean 'auth'?", result.output)
        self.assertEqual(os.listdir(self.folder), ["relay.toml"])

    def test_which_file_is_not_guessed(self) -> None:
        for arguments in ["jon"], ["-c", "relay.toml", "--file", "users", "jon"]:
            result = CliRunner().invoke(passwd, arguments)
            self.assertEqual(result.exit_code, 2)
            self.assertIn("which file?", result.output)


class RewritingTests(PasswdCase):
    def test_whatever_fails_leaves_the_file_as_it_was(self) -> None:
        self.path.write_text("before\n")
        for call in "open", "lock", "fstat", "stat", "read", "write", "sync", "rename":
            with self.assertRaises(OSError):
                rewrite(FailingDisk(call), str(self.path), lambda text: "after\n")
            self.assertEqual(self.path.read_text(), "before\n", call)
            self.assertEqual(os.listdir(self.folder), ["users"], call)
        rewrite(Disk(), str(self.path), lambda text: text + "after\n")
        self.assertEqual(self.path.read_text(), "before\nafter\n")

    def test_it_survives_a_power_cut(self) -> None:
        """The new file, then its name, then the folder that has the name."""
        calls: list[str] = []

        class Recording(Disk):
            def sync(self, fd: int) -> None:
                calls.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{fd}'))}")
                super().sync(fd)

            def rename(self, old: str, new: str, *at: Any) -> None:
                calls.append("rename")
                super().rename(old, new, *at)

        rewrite(Recording(), str(self.path), lambda text: "after\n")
        self.assertEqual(calls, ["sync .users.new", "rename", f"sync {self.folder.name}"])

    def test_two_do_not_write_at_the_same_time(self) -> None:
        def meanwhile(text: str) -> str:
            with self.assertRaises(BlockingIOError):
                rewrite(Disk(), str(self.path), lambda text: "hers\n")
            return text + "his\n"

        rewrite(Disk(), str(self.path), meanwhile)
        self.assertEqual(self.path.read_text(), "his\n")

    def test_what_somebody_left_behind_is_written_over(self) -> None:
        (self.folder / ".users.new").write_text("half of it")
        rewrite(Disk(), str(self.path), lambda text: "after\n")
        self.assertEqual(os.listdir(self.folder), ["users"])
        self.assertEqual(self.path.read_text(), "after\n")

    def test_but_not_into_a_file_that_has_another_name_elsewhere(self) -> None:
        victim = self.folder / "victim"
        victim.write_text("precious")
        (self.folder / ".users.new").hardlink_to(victim)
        rewrite(Disk(), str(self.path), lambda text: "after\n")
        self.assertEqual(victim.read_text(), "precious")

    def test_who_waited_for_a_file_that_was_replaced_reads_the_new_one(self) -> None:
        self.path.write_text("old\n")
        path = str(self.path)

        class Replaced(Disk):
            done = False

            def lock(self, fd: int) -> bool:
                if not self.done:
                    self.done = True
                    rewrite(Disk(), path, lambda text: "new\n")
                return super().lock(fd)

        rewrite(Replaced(), path, lambda text: text + "mine\n")
        self.assertEqual(self.path.read_text(), "new\nmine\n")


class HelpTests(SynchronousTestCase):
    def test_its_help_needs_no_argon2(self) -> None:
        code = "import sys, relay.cli.passwd; sys.exit('argon2' in sys.modules or 'twisted' in sys.modules)"
        self.assertEqual(subprocess.run([sys.executable, "-c", code], timeout=60).returncode, 0)
