"""`relayctl new-policy`: what it writes, and what it does not. (tests/packaging installs it and runs its tests.)"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
import tomllib
from configparser import ConfigParser
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from relay.cli.relayctl import main
from relay.cli.skeleton import PHASES, files

ROOT = Path(__file__).parent.parent


class NewPolicyTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def new_policy(self, *words: str) -> Result:
        return CliRunner().invoke(main, ["new-policy", *words])

    def test_it_writes_a_distribution(self) -> None:
        ran = self.new_policy("office-hours", "--directory", str(self.folder / "mine"))
        self.assertEqual(ran.exit_code, 0, ran.output)
        self.assertEqual(
            {each.name for each in (self.folder / "mine").iterdir()},
            {"README.md", "pyproject.toml", "setup.cfg", "relay_office_hours.py", "test_relay_office_hours.py"},
        )
        declared = ConfigParser()
        declared.read(self.folder / "mine/setup.cfg")
        self.assertEqual(declared["metadata"]["name"], "relay-office-hours")
        self.assertEqual(
            declared["options.entry_points"]["relay.policies"].strip(),
            "office-hours = relay_office_hours:OfficeHours",
        )
        tomllib.loads((self.folder / "mine/pyproject.toml").read_text())

    def test_without_a_folder_it_is_named_as_the_policy_is_and_stands_here(self) -> None:
        before = Path.cwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.folder)
        self.assertIn("relay-mine: README.md", self.new_policy("mine").output)
        self.assertTrue((self.folder / "relay-mine/relay_mine.py").exists())

    def test_what_is_there_is_left_alone(self) -> None:
        (self.folder / "mine").mkdir()
        ran = self.new_policy("mine", "--directory", str(self.folder / "mine"))
        self.assertEqual((ran.exit_code, list((self.folder / "mine").iterdir())), (1, []))
        self.assertIn("File exists", ran.output)

    def test_what_is_no_name_is_refused(self) -> None:
        for name in "", "Mine", "my_own", "1st", "my--own", "mine-", "../mine", "m" * 41, "reject", "rate-limit":
            ran = self.new_policy(name, "--directory", str(self.folder / "mine"))
            self.assertEqual((ran.exit_code, (self.folder / "mine").exists()), (2, False), name)
        self.assertIn("there is a policy 'reject' already", self.new_policy("reject").output)

    def test_its_class_has_no_name_that_means_something_else_there(self) -> None:
        names = "reply", "reject", "world", "inquiry", "none", "true", "any", "field", "section", "network", "mailboxes"
        for name in names:
            for phase in PHASES:
                module = ast.parse(files(name, phase)[f"relay_{name}.py"])
                classes = [each.name for each in module.body if isinstance(each, ast.ClassDef)]
                self.assertEqual(classes[1], f"{name.capitalize()}Policy")

    def test_in_each_phase_what_it_writes_is_laid_out_and_typed_as_ours_is(self) -> None:
        for phase in PHASES:
            folder = self.folder / phase
            self.new_policy("a-longer-name", "--phase", phase, "--directory", str(folder))
            for file in folder.glob("*.py"):
                ast.parse(file.read_text())
            for command in (
                ["ruff", "check", "--isolated", "--line-length=120", "--select=E,F,W,I,B,UP,RUF,PIE,RET,SIM"],
                ["ruff", "format", "--isolated", "--line-length=120", "--check"],
            ):
                ran = subprocess.run(
                    [Path(sys.executable).parent / command[0], *command[1:], "."],
                    cwd=folder,
                    capture_output=True,
                    text=True,
                    timeout=60,
                )
                self.assertEqual(ran.returncode, 0, ran.stdout)

    def test_in_each_phase_its_tests_pass_and_fail_when_it_abstains(self) -> None:
        for phase in PHASES:
            for passes in True, False:
                folder = self.folder / f"{phase}-{passes}"
                folder.mkdir()
                for file, text in files("mine", phase).items():
                    if file == "relay_mine.py" and not passes:
                        text = text.replace("        if ", "        if False and ")
                    (folder / file).write_text(text)
                plugins = ["-p", "relay.testing.pytest_plugin", "-p", "no:cacheprovider"]
                ran = subprocess.run(
                    [sys.executable, "-m", "pytest", "-q", *plugins],
                    cwd=folder,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                    capture_output=True,
                    text=True,
                    timeout=60,
                )
                self.assertEqual(ran.returncode == 0, passes, ran.stdout + ran.stderr)
                self.assertIn("9 passed" if passes else "2 failed, 7 passed", ran.stdout)
