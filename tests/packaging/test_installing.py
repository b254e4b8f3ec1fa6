"""Every way in which people install the relay, each in a clean environment."""

from __future__ import annotations

import zipfile
from functools import cache
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from relay import __version__
from relay.cli import manual
from relay.cli.relayctl import main as relayctl
from tests.packaging import environments
from tests.packaging.environments import REPOSITORY, Environment

pytestmark = [
    pytest.mark.packaging,
    pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="not in a clone of the repository"),
]


def setUpModule() -> None:
    environments.begin()


@cache
def plain() -> Environment:
    """The relay as `pip install .` leaves it."""
    environment = Environment.make("plain")
    environment.install(environments.repository_copy())
    return environment


def contents() -> set[str]:
    with zipfile.ZipFile(environments.wheel()) as archive:
        return set(archive.namelist())


class TwistdHelpTests(SynchronousTestCase):
    def test_without_the_relay_it_is_not_listed(self) -> None:
        listed = list(Environment.make("bare").commands_of_twistd())
        self.assertIn("web", listed)
        self.assertNotIn("relay", listed)

    def test_it_is_listed_after_pip_install(self) -> None:
        self.assertIn("relay", plain().commands_of_twistd())

    def test_it_is_listed_after_an_editable_install(self) -> None:
        environment = Environment.make("editable")
        environment.install("--editable", environments.repository_copy())
        self.assertIn("relay", environment.commands_of_twistd())
        here = environment.run("python", "-c", "import relay; print(relay.__file__)").stdout
        self.assertEqual(Path(here.strip()).parents[1], environments.repository_copy())

    def test_it_is_listed_from_a_wheel_and_taking_it_away_leaves_twisted_whole(self) -> None:
        environment = Environment.make("wheel")
        before = environment.twistd("--help").stdout
        environment.install(environments.wheel())
        self.assertIn("relay", environment.commands_of_twistd())
        environment.pip("uninstall", "--quiet", "--yes", "relay-mta")
        self.assertEqual(environment.twistd("--help").stdout, before)

    def test_it_is_listed_once_at_the_root_of_the_repository(self) -> None:
        listed = plain().commands_of_twistd(cwd=environments.repository_copy())
        self.assertEqual(list(listed).count("relay"), 1)

    def test_it_is_listed_in_a_tree_that_was_never_installed(self) -> None:
        tree = environments.repository_copy()
        listed = Environment.make("uninstalled").commands_of_twistd(cwd=tree, PYTHONPATH=tree)
        self.assertIn("relay", listed)


class InstalledTests(SynchronousTestCase):
    def test_the_command_says_its_version(self) -> None:
        ran = plain().run("relay", "--version")
        self.assertEqual((ran.status, ran.stdout), (0, f"relay {__version__}\n"))

    def test_its_manual_is_where_man_looks_for_it(self) -> None:
        # man(1) takes a folder `bin` on the PATH as a sign of `share/man` beside it.
        kept = {page.name for page in (plain().folder / "share/man/man1").iterdir()}
        self.assertEqual(kept, set(manual.man_pages()))

    def test_everything_that_it_needs_is_declared(self) -> None:
        """Every module can be imported where nothing but the declared dependencies is."""
        program = """
import importlib, pkgutil, relay
for found in pkgutil.walk_packages(relay.__path__, "relay."):
    if not found.name.startswith("relay.testing") and not found.name.endswith("__main__"):
        importlib.import_module(found.name)
"""
        self.assertEqual(plain().run("python", "-c", program).stderr, "")
        plain().pip("check")


class WheelTests(SynchronousTestCase):
    def test_it_holds_the_whole_package_and_its_marker_for_type_checkers(self) -> None:
        tree = environments.repository_copy()
        sources = {str(file.relative_to(tree)) for file in (tree / "relay").rglob("*.py")}
        self.assertIn("relay/py.typed", contents())
        self.assertEqual(sources - contents(), set())

    def test_it_holds_one_plugin_and_nothing_else_of_twisted(self) -> None:
        self.assertEqual(
            {name for name in contents() if name.startswith("twisted")}, {"twisted/plugins/relay_plugin.py"}
        )

    def test_it_holds_nothing_but_the_relay(self) -> None:
        tops = {name.split("/")[0] for name in contents()}
        self.assertEqual(
            tops, {"relay", "twisted", f"relay_mta-{__version__}.dist-info", f"relay_mta-{__version__}.data"}
        )

    def test_it_holds_a_manual_page_of_each_command_with_all_its_subcommands(self) -> None:
        folder = f"relay_mta-{__version__}.data/data/share/man/man1"
        self.assertEqual(
            {name for name in contents() if ".data/" in name}, {f"{folder}/{name}" for name in manual.man_pages()}
        )
        with zipfile.ZipFile(environments.wheel()) as archive:
            texts = {name: archive.read(f"{folder}/{name}").decode() for name in manual.man_pages()}
        for name, command in relayctl.commands.items():
            written = name.replace("-", "\\-")
            self.assertIn(f".BR relayctl\\-{written}", texts["relayctl.1"].replace(", ", ","), name)
            for below in getattr(command, "commands", {}):
                self.assertIn(f".SS relayctl {name} {below}\n", texts[f"relayctl-{name}.1"])

    def test_it_carries_the_licence(self) -> None:
        self.assertIn(f"relay_mta-{__version__}.dist-info/licenses/LICENSE", contents())


class TreeTests(SynchronousTestCase):
    def test_no_init_stands_in_twisteds_folders(self) -> None:
        """In `twisted` it would hide Twisted, in `twisted/plugins` pip would write it over Twisted's own."""
        held = {str(file.relative_to(REPOSITORY)) for file in (REPOSITORY / "twisted").rglob("*.py")}
        self.assertEqual(held, {"twisted/plugins/relay_plugin.py"})
