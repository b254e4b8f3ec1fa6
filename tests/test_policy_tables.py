from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, TextIO

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from relay.config.errors import ConfigurationError
from relay.config.load import load
from relay.config.tables import TableSettings
from relay.interfaces import ITable
from relay.mail.decision import Decision
from relay.net.clock import ReactorClock
from relay.net.waiting import start
from relay.policy.assembly import make_chain
from relay.policy.registry import option_model
from relay.policy.tables import LARGE, FileTable, Tables, Unusable
from relay.testing.policy import inquiry, world
from relay.testing.tables import MemoryTable
from tests.calls import calls_of


def numbers(file: TextIO) -> list[int]:
    return [int(line) for line in file]


class FileTableTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.path = folder / "table"
        self.path.write_text("1\n2\n")
        self.clock = Clock()

    def table(self) -> FileTable[list[int]]:
        return FileTable(self.path, numbers, ReactorClock(self.clock))

    def test_it_says_what_the_file_says(self) -> None:
        self.assertEqual(self.table().current(), [1, 2])

    def test_a_file_that_has_changed_is_read_again(self) -> None:
        table = self.table()
        self.path.write_text("3\n")
        self.clock.advance(1)
        self.assertEqual(table.current(), [3])

    def test_a_file_that_was_replaced_by_one_of_the_same_age_and_size_is_read_again(self) -> None:
        table, before = self.table(), self.path.stat()
        other = self.path.with_name("new")
        other.write_text("8\n9\n")
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        other.replace(self.path)
        self.clock.advance(1)
        self.assertEqual(table.current(), [8, 9])

    def test_it_is_looked_at_once_a_second_at_most(self) -> None:
        table = self.table()
        self.path.write_text("3\n")
        self.clock.advance(0.9)
        self.assertEqual(table.current(), [1, 2])
        self.path.unlink()
        self.clock.advance(0.2)
        self.assertRaises(ValueError, table.current)
        self.path.write_text("4\n")
        self.assertRaises(ValueError, table.current)
        self.clock.advance(1)
        self.assertEqual(table.current(), [4])

    def test_an_unchanged_file_is_not_read_again(self) -> None:
        read: list[str] = []
        table = FileTable(self.path, lambda file: read.append(file.read()), ReactorClock(self.clock))
        for _ in range(5):
            self.clock.advance(1)
            table.current()
        self.assertEqual(len(read), 1)

    def test_a_file_that_is_not_there_or_makes_no_sense_at_first_is_a_mistake(self) -> None:
        self.path.write_text("one\n")
        self.assertRaises(ValueError, self.table)
        self.path.write_bytes(b"\xff")
        self.assertRaises(ValueError, self.table)
        self.path.unlink()
        self.assertIn("No such file", str(self.assertRaises(Unusable, self.table)))

    def test_a_file_that_makes_no_sense_any_more_is_not_believed_and_names_itself(self) -> None:
        table = self.table()
        self.path.write_text("one\n")
        self.clock.advance(1)
        for _ in range(2):
            error = self.assertRaises(ValueError, table.current)
            self.assertIn(str(self.path), str(error))
        self.path.write_text("1\n")
        self.clock.advance(1)
        self.assertEqual(table.current(), [1])


class Later:
    """Work for which nobody waits here: it is done when the test says so."""

    def __init__(self) -> None:
        self.undone: list[Any] = []

    def __call__(self, work: Any) -> Any:
        deferred: Deferred[Any] = Deferred()
        self.undone.append(lambda: deferred.callback(work()))
        return deferred

    def go_on(self) -> None:
        while self.undone:
            self.undone.pop(0)()


class TableCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = self.folder / "table"
        self.clock = Clock()
        self.later = Later()

    def tables(self, **settings: Any) -> Tables:
        each = TableSettings(**{"name": "t", "file": self.path, **settings})
        return Tables((each,), ReactorClock(self.clock), self.later)

    def write(self, text: str) -> None:
        """Another file, as an editor or `mv` makes it; a second later."""
        new = self.path.with_name("new")
        new.write_text(text)
        new.replace(self.path)
        self.clock.advance(1)


class TablesTests(TableCase):
    def test_it_keeps_the_contract(self) -> None:
        self.write("a 1\n")
        verifyObject(ITable, self.tables()("t"))
        verifyObject(ITable, MemoryTable())

    def test_a_table_is_found_by_its_name_and_a_file_by_its_path(self) -> None:
        self.write("A 1\n")
        tables = self.tables()
        for name in "t", self.path:
            self.assertEqual([tables(name).get(key) for key in ("a", "A", "b")], ["1", "1", None])
            self.assertIs(tables(name), tables(name))
        csv = self.folder / "table.csv"
        csv.write_text("a,2\n")
        self.assertEqual(tables(csv).get("a"), "2")

    def test_what_is_not_there_is_a_mistake_of_the_configuration(self) -> None:
        self.assertIn("no [[table]] called 'other'", str(self.assertRaises(ValueError, self.tables(), "other")))
        near = str(self.assertRaises(Unusable, self.tables(name="aliases"), "alias"))
        self.assertEqual(near, "there is no [[table]] called 'alias', did you mean 'aliases'?")
        self.assertIn("No such file", str(self.assertRaises(Unusable, self.tables(), "t")))

    def test_a_table_is_as_its_settings_say(self) -> None:
        self.write("key,value\nA,1\n")
        table = self.tables(format="csv", header=True, fold=False)("t")
        self.assertEqual([table.get(key) for key in ("A", "a", "key")], ["1", None, None])

    def test_the_line_that_is_wrong_is_named(self) -> None:
        self.write("a 1\na 2\n")
        self.assertIn("table:2: 'a' is there twice", str(self.assertRaises(ValueError, self.tables(), "t")))
        self.path.write_bytes(b"\xff")
        self.assertIn("table: this is not UTF-8", str(self.assertRaises(ValueError, self.tables(), "t")))

    def test_a_table_that_has_changed_is_read_again_and_one_that_is_wrong_is_not_believed(self) -> None:
        self.write("a 1\n")
        table = self.tables()("t")
        self.write("a 2\n")
        self.assertEqual(table.get("a"), "2")
        self.write('a 2\n"b\n')
        for _ in range(2):
            self.assertIn("table:2: ", str(self.assertRaises(ValueError, table.get, "a")))
        self.path.unlink()
        self.clock.advance(1)
        self.assertIn("No such file", str(self.assertRaises(ValueError, table.get, "a")))
        self.write("a 3\n")
        self.assertEqual(table.get("a"), "3")

    def test_a_large_file_is_read_elsewhere_while_what_it_said_still_counts(self) -> None:
        many = "".join(f"key{number} {number}\n" for number in range(LARGE // 8))
        self.write("a 1\n" + many)
        table = self.tables()("t")
        self.write("a 2\n" + many)
        self.assertEqual(table.get("a"), "1")
        self.clock.advance(5)
        self.assertEqual(table.get("a"), "1")
        self.assertEqual(len(self.later.undone), 1)
        self.later.go_on()
        self.assertEqual(table.get("a"), "2")
        self.assertEqual(table.get("key77"), "77")
        self.write('"a 3\n' + many)
        self.assertEqual(table.get("a"), "2")
        self.later.go_on()
        self.assertRaises(ValueError, table.get, "a")
        self.write("a 4\n" + many)
        self.assertRaises(ValueError, table.get, "a")
        self.later.go_on()
        self.assertEqual(table.get("a"), "4")

    def test_a_large_file_that_has_changed_is_not_read_here_by_those_who_come_after(self) -> None:
        many = "".join(f"key{number} {number}\n" for number in range(LARGE // 8))
        self.write("a 1\n" + many)
        settings = (TableSettings(name="t", file=self.path),)
        before = Tables(settings, ReactorClock(self.clock), self.later)
        before("t")
        self.write("a 2\n" + many)
        refreshed = [Deferred.fromCoroutine(before.refresh()) for _ in range(2)]
        self.assertNoResult(refreshed[0])
        self.later.go_on()
        for each in refreshed:
            self.successResultOf(each)
        self.patch(FileTable, "_loaded", lambda _: self.fail("it is read here"))
        after = Tables(settings, ReactorClock(self.clock), self.later, before)
        self.assertEqual(after("t").get("a"), "2")

    def test_one_that_is_wrong_is_read_elsewhere_too_and_told_to_who_asks(self) -> None:
        many = "".join(f"key{number} {number}\n" for number in range(LARGE // 8))
        self.write("a 1\n" + many)
        tables = self.tables()
        table = tables("t")
        self.write('"a 2\n' + many)
        refreshed = Deferred.fromCoroutine(tables.refresh())
        self.later.go_on()
        self.successResultOf(refreshed)
        self.assertRaises(Unusable, table.get, "a")

    def test_a_large_file_that_changes_while_it_is_read_is_read_once_more(self) -> None:
        many = "".join(f"key{number} {number}\n" for number in range(LARGE // 8))
        self.write("a 1\n" + many)
        table = self.tables()("t")
        self.write("a 2\n" + many)
        table.get("a")
        self.later.undone.pop(0)()
        self.write("a 3\n" + many)
        self.assertEqual(table.get("a"), "2")
        self.later.go_on()
        self.clock.advance(1)
        table.get("a")
        self.later.go_on()
        self.assertEqual(table.get("a"), "3")

    def test_a_check_holds_for_what_is_there_and_for_what_will_be(self) -> None:
        self.write("a 1\nb x\n")
        tables = self.tables()
        error = self.assertRaises(ValueError, tables("t").checked, is_number)
        self.assertIn("table:2: ", str(error))
        self.write("a 1\nb 2\n")
        table = tables("t").checked(is_number)
        self.assertEqual(table.get("b"), "2")
        self.write("a x\n")
        self.assertIn("table:1: ", str(self.assertRaises(ValueError, table.get, "a")))

    def test_one_check_is_made_once_however_often_it_is_asked_for(self) -> None:
        self.write("a 1\n")
        table: Any = self.tables()("t")
        for _ in range(3):
            table.checked(is_number)
        self.assertEqual(len(table._checks), 1)

    def test_a_large_table_is_looked_up_in_few_calls_and_a_line_takes_few_to_read(self) -> None:
        def text(lines: int) -> str:
            return "".join(f"user{number}@example.org mail{number % 7}.example.net\n" for number in range(lines))

        self.write(text(1000))
        few = calls_of(lambda: self.tables()("t"))
        self.write(text(11_000))
        table: list[ITable] = []
        many = calls_of(lambda: table.append(self.tables()("t")))
        self.assertLess((many - few) / 10_000, 14)
        table[0].get("User5@example.org")
        self.assertLessEqual(calls_of(lambda: table[0].get("User5@example.org")), 7)


def is_number(key: str, value: str) -> None:
    int(value)


class PoliciesTests(TableCase):
    """The policies that take tables, with one that is changed and one that is wrong."""

    def decided(self, policy: str, *recipients: str, sender: str = "x@y.example", more: str = "") -> list[str]:
        settings = load(
            f'{more}\n[[table]]\nname = "t"\nfile = "table"\n[[policy]]\n{policy}\n',
            file="relay.toml",
            base=self.folder,
            hostname="mx.example.org",
            user="ann",
            option_model=option_model,
        )
        here = evolve(world(), table=Tables(settings.table, ReactorClock(self.clock)))
        chain = make_chain(settings.policy, here, file="relay.toml")
        return [_text(start(chain.route(inquiry(each, sender)))) for each in recipients]

    def refused(self, policy: str) -> str:
        """What the operator is told."""
        return str(self.assertRaises(ConfigurationError, self.decided, policy))

    def test_a_table_that_is_not_there_is_told_with_file_and_line(self) -> None:
        self.assertIn(
            "relay.toml:7: policy.1.table: there is no [[table]] called 'u'",
            self.refused('use = "reject"\ntable = "u"'),
        )

    def test_a_line_that_is_wrong_for_the_policy_is_told_with_file_and_line(self) -> None:
        for policy, text in (
            ('use = "reject"', "a@b.example 250 fine"),
            ('use = "reject"', "a@b.example 550 4.1.1 contradictory"),
            ('use = "reject"', "a@b.example \N{SNOWMAN}"),
            ('use = "reject"', "a@@b.example"),
            ('use = "forward"', "b.example not/a/host"),
            ('use = "forward"', "b.example mail.example:0"),
            ('use = "forward"', "jon@@b.example mail.example"),
            ('use = "forward"', "b.example unix:/run/lmtp"),
            ('use = "forward"\nprotocol = "lmtp"', "b.example"),
            ('use = "alias"', "info@b.example"),
            ('use = "alias"', "info@b.example jon"),
            ('use = "alias"', "info jon@b.example"),
            ('use = "alias"', "info@ jon@b.example"),
        ):
            self.write(f"# first\n{text}\n")
            for key in "table", "file":
                told = self.refused(f'{policy}\n{key} = "{"t" if key == "table" else "table"}"')
                self.assertIn(f"{self.path}:2: ", told, text)
                line = 7 + policy.count("\n")
                self.assertIn(f"relay.toml:{line}: policy.1.{key}: ", told)

    def test_a_folder_that_nobody_may_have_is_told_with_file_and_line(self) -> None:
        for text in "jon ../ann", "../jon", "jon .ssh", "jon@example.org", "jon a/b":
            self.write(f"\n{text}\n")
            told = self.refused('use = "mailbox"\ndomains = ["b.example"]\ndirectory = "m"\nusers = { table = "t" }')
            self.assertIn(f"{self.path}:2: ", told, text)

    def test_a_policy_has_one_table_and_nothing_beside_it(self) -> None:
        self.write("")
        for policy in (
            'use = "reject"\ntable = "t"\nfile = "table"',
            'use = "alias"',
            'use = "alias"\ntable = "t"\naliases = { "a@b.example" = "c@d.example" }',
            'use = "forward"\ntable = "t"\nnext_hop = "mail.example"',
        ):
            self.assertIn("should have", self.refused(policy))

    def test_a_catch_all_of_a_table_does_not_catch_those_to_whom_it_leads(self) -> None:
        self.write("@b.example jon@b.example, ann@c.example\nreal@b.example real@b.example\n")
        policy = 'use = "alias"\ntable = "t"\n[[policy]]\nuse = "discard"'
        self.assertEqual(self.decided(policy, "jon@b.example", "real@b.example"), ["Discard", "Discard"])
        self.assertEqual(self.decided(policy, "elvis@b.example"), ["Discard Discard"])

    def test_aliases_of_a_table_that_lead_in_a_circle_are_refused_when_mail_comes(self) -> None:
        self.write("a@b.example c@b.example\nc@b.example a@b.example\n")
        self.assertTrue(self.decided('use = "alias"\ntable = "t"', "a@b.example")[0].startswith("550 5.4.6"))

    def test_an_alias_without_a_domain_is_in_each_of_the_domains(self) -> None:
        self.write("info@ jon@\n")
        policy = 'use = "alias"\ntable = "t"\ndomains = ["b.example", "c.example"]\n[[policy]]\nuse = "discard"\n'
        policy += 'when = { recipient = ["jon@c.example"] }'
        self.assertEqual(self.decided(policy, "Info+x@c.example")[0], "Discard")
        self.assertTrue(self.decided(policy, "info@d.example")[0].startswith("550 5.7.1"))

    def test_the_narrowest_line_decides(self) -> None:
        self.write("jon@a.b.example 450\na.b.example 551 5.1.6 a\n.b.example 552 5.2.2 b\n.example 553 5.1.3 c\n")
        said = self.decided(
            'use = "reject"\ntable = "t"',
            "JON@a.b.example",
            "x@a.b.example",
            "x@c.b.example",
            "x@d.c.b.example",
            "x@b.example",
            "x@example",
            "x@[192.0.2.1]",
        )
        self.assertEqual([each[:3] for each in said], ["450", "551", "552", "552", "553", "550", "550"])

    def test_an_address_of_the_null_sender_is_not_looked_up_but_its_line(self) -> None:
        policy = 'use = "reject"\ntable = "t"\nlook_up = "sender"'
        self.write("<> 554\n")
        self.assertEqual(self.decided(policy, "a@b.example", sender="<>")[0][:3], "554")

    def test_a_table_that_goes_wrong_is_a_451_until_it_is_mended(self) -> None:
        for policy, text in (
            ('use = "reject"\ntable = "t"', "b.example"),
            ('use = "alias"\ntable = "t"', "x@b.example y@b.example"),
            ('use = "forward"\ntable = "t"', "b.example"),
            ('use = "mailbox"\ndomains = ["b.example"]\ndirectory = "m"\nusers = { table = "t" }', "x"),
        ):
            self.write(text)
            settings = load(
                f'[[table]]\nname = "t"\nfile = "table"\n[[policy]]\n{policy}\n',
                file="relay.toml",
                base=self.folder,
                hostname="mx.example.org",
                user="ann",
                option_model=option_model,
            )
            here = evolve(world(), table=Tables(settings.table, ReactorClock(self.clock)))
            chain = make_chain(settings.policy, here, file="relay.toml")
            said = []
            for wrong in text, '"', text:
                self.write(wrong)
                said.append(start(chain.route(inquiry("x@b.example"))))
            codes = [_text(each)[:3] for each in said]
            self.assertEqual((codes[1], codes[0] == codes[2] != "451"), ("451", True), policy)
            # It is no fault of the program's: where it is says all.
            self.assertEqual(said[1].because, f"{self.path}:1: a double quote begins its key, and none ends it")
            self.assertEqual(self.flushLoggedErrors(), [])

    def test_of_a_secret_table_that_goes_wrong_no_line_is_quoted(self) -> None:
        self.write("b.example 550 sesame\n")
        table = self.tables(secret=True)("t").checked(lambda key, value: _no_snow(value))
        self.write("b.example 550 sesame \N{SNOWMAN}\n")
        told = str(self.assertRaises(Unusable, table.get, "b.example"))
        self.assertEqual(told, f"{self.path}:1: it cannot be used")


def _no_snow(value: str) -> None:
    if not value.isascii():
        raise ValueError(f"{value} is no text")


def _text(decision: Decision | Any) -> str:
    """The reply, or the names of the routes."""
    reply = getattr(decision, "reply", None)
    if reply is not None:
        return str(reply)
    return " ".join(type(each.route).__name__ for each in decision.placements)
