from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.config.errors import ConfigurationError
from relay.config.load import load
from relay.config.settings import Settings
from relay.interfaces import IRoutingPolicy, World
from relay.mail.routing import ABSTAIN, Inquiry, RoutingVerdict
from relay.policy.registry import option_model
from relay.testing.world import MailWorld

PUBLIC = '[[listener]]\naddress = "[::]:25"\n'


def settings(text: str) -> Settings:
    return load(
        text, file="relay.toml", base=Path("/etc/relay"), hostname="mx.test", user="ann", option_model=option_model
    )


class TableSettingsTests(SynchronousTestCase):
    def wrong(self, text: str) -> str:
        return str(self.assertRaises(ConfigurationError, settings, text))

    def test_a_table_is_a_name_and_a_file(self) -> None:
        table = settings('[[table]]\nname = "t"\nfile = "people"\n').table[0]
        self.assertEqual((table.file, table.format, table.fold), (Path("/etc/relay/people"), "columns", True))

    def test_what_makes_no_sense_is_told_with_its_line(self) -> None:
        self.assertIn(
            "relay.toml:1: table.1: 'header' is for", self.wrong('[[table]]\nname = "t"\nfile = "f"\nheader = true')
        )
        twice = '[[table]]\nname = "t"\nfile = "f"\n'
        self.assertIn("two tables are called 't'", self.wrong(twice + twice))
        self.assertIn("table.1.file", self.wrong('[[table]]\nname = "t"\n'))

    def test_the_store_has_a_file_of_its_own(self) -> None:
        self.assertIn("store.path: is the history", self.wrong('[store]\npath = "var/history.db"\n'))
        self.assertIn("store.path: is within the spool", self.wrong('[store]\npath = "var/spool/store.db"\n'))
        self.assertIsNone(settings('[store]\nentries = 5\nsize = "1 MiB"\n').store.path)


@implementer(IRoutingPolicy)
class Counting:
    """Counts who is asked about, and has no opinion."""

    def __init__(self, options: object, world: World) -> None:
        self._store = world.store

    def route(self, inquiry: Inquiry) -> RoutingVerdict:
        key = str(inquiry.recipient)
        self._store.put(key, str(int(self._store.get(key) or 0) + 1), 3600)
        return ABSTAIN


class AssembledTests(SynchronousTestCase):
    CONFIGURATION = """
        [[listener]]
        address = "127.0.0.1:25"
        [[policy]]
        name = "one"
        use = "tests.test_config_tables:Counting"
        [[policy]]
        name = "two"
        use = "tests.test_config_tables:Counting"
        [[policy]]
        use = "discard"
    """

    def test_each_policy_has_a_part_of_the_store_which_outlives_a_crash(self) -> None:
        world = MailWorld(self.CONFIGURATION)
        for _ in range(2):
            world.send("ann@x.example", "jon@y.example", b"\r\n")
            world.crash()
        self.assertEqual(dict(world.store.items()), {"one jon@y.example": "2", "two jon@y.example": "2"})
