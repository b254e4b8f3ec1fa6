from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from twisted.scripts import twistd
from twisted.trial.unittest import SynchronousTestCase

from relay import __version__
from relay.cli.run import main


class RelayCommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ran: list[Any] = []
        self.patch(twistd, "runApp", self.ran.append)

    def say(self, *words: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, words)
        return result.exit_code, result.output

    def test_it_starts_what_twistd_would_in_the_foreground_and_leaves_no_files(self) -> None:
        self.assertEqual(self.say("-c", "some.toml"), (0, ""))
        [options] = self.ran
        self.assertEqual(options.subCommand, "relay")
        self.assertEqual(options.subOptions["config"], "some.toml")
        self.assertTrue(options["nodaemon"])
        self.assertTrue(options["no_save"])
        self.assertEqual(options["pidfile"], "")

    def test_a_file_whose_name_looks_like_an_option_is_still_a_file(self) -> None:
        self.assertEqual(self.say("--config=--version"), (0, ""))
        self.assertEqual(self.ran[0].subOptions["config"], "--version")

    def test_it_says_its_version_and_what_it_takes(self) -> None:
        self.assertEqual(self.say("--version"), (0, f"relay {__version__}\n"))
        status, said = self.say("--help")
        self.assertEqual(status, 0)
        self.assertIn("--config FILE", said)
        self.assertEqual(self.ran, [])

    def test_without_a_configuration_it_starts_nothing(self) -> None:
        status, said = self.say()
        self.assertEqual(status, 2)
        self.assertIn("'-c' / '--config'", said)
        self.assertEqual(self.ran, [])

    def test_it_looks_for_no_plugins_and_so_writes_no_cache_of_them(self) -> None:
        def looked(*anything: object) -> Any:
            raise AssertionError("it looked for plugins")

        self.patch(twistd.ServerOptions, "_getPlugins", staticmethod(looked))
        here = os.getcwd()
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(folder.rmdir)  # which fails if anything was left in it
        self.addCleanup(os.chdir, here)
        os.chdir(folder)
        self.assertEqual(self.say("-c", "some.toml"), (0, ""))
