"""The manual is made of the commands, has all of them, and can be shown; and the commands begin fast."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
from twisted.trial.unittest import SynchronousTestCase

from relay.cli import mailq, manual, sendmail_options
from relay.cli.relayctl import main

ROOT = Path(__file__).parent.parent
#: The macros of man(7) that we use, and how many words each has at least.
MACROS = {".TH": 4, ".SH": 1, ".SS": 1, ".PP": 0, ".TP": 0, ".BR": 2, ".nf": 0, ".fi": 0}
#: What may follow a backslash: a font, or a character by its name.
ESCAPES = re.compile(r"\\(f[BRI]|-|e|&|\(aq|\(ga)")


def commands(command: click.Command, *path: str) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(path), command
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from commands(each, *path, name)


def read(page: str) -> dict[str, str]:
    """A page as man(1) reads it: the text of each section, without its escapes. `AssertionError` if it cannot be read."""
    sections: dict[str, str] = {}
    at = ""
    lines = page.splitlines()
    assert lines[0].startswith(".TH "), lines[0]
    expects_text = False
    for line in lines:
        assert line, "an empty line is a mistake in man(7)"
        plain = ESCAPES.sub(lambda match: {"-": "-", "e": "/", "(aq": "'", "(ga": "`"}.get(match[1], ""), line)
        assert "\\" not in plain, line
        if line.startswith((".", "'")):
            macro, *words = line.split()
            assert len(words) >= MACROS[macro], line
            assert not expects_text, line
            expects_text = macro == ".TP"
            if macro == ".SH":
                at = " ".join(words)
                assert at not in sections, f"{at} is there twice"
                sections[at] = ""
                continue
        else:
            fonts = [match[1] for match in ESCAPES.finditer(line) if match[1].startswith("f")]
            assert fonts[1::2] == ["fR"] * (len(fonts) // 2), line
            assert len(fonts) % 2 == 0, line
            expects_text = False
        if at:
            sections[at] += plain + "\n"
    return sections


class ManualTests(SynchronousTestCase):
    def test_each_page_can_be_read_and_has_the_sections_that_people_look_for(self) -> None:
        pages = manual.man_pages()
        others = {"relay.1", "relay-mailq.1", "relay-sendmail.1"}
        self.assertEqual(set(pages), {"relayctl.1", *others, *(f"relayctl-{name}.1" for name in main.commands)})
        for name, page in pages.items():
            sections = read(page)
            self.assertEqual(list(sections)[:3], ["NAME", "SYNOPSIS", "DESCRIPTION"], name)
            for wanted in ("EXIT STATUS", "FILES", "SEE ALSO") if name.startswith("relayctl") else ():
                self.assertIn(wanted, sections, name)
            self.assertRegex(sections["NAME"], rf"^{name.removesuffix('.1')} - [a-z]")

    def test_each_command_and_each_of_its_options_is_there(self) -> None:
        texts = {name: "".join(read(page).values()) for name, page in manual.man_pages().items()}
        reference = manual.markdown()
        for path, command in commands(main, "relayctl"):
            words = path.split()
            page = texts["-".join(words[:2]) + ".1"]
            self.assertIn(path, page)
            self.assertIn(f"{path}\n" if len(words) > 1 else path, reference)
            self.assertTrue(command.help, path)
            for option in command.params:
                if isinstance(option, click.Option):
                    self.assertTrue(option.help, f"{path} {option.opts}")
                    self.assertIn(option.opts[-1], page, path)

    def test_the_commands_of_local_programs_have_a_page_with_what_they_say_of_themselves(self) -> None:
        for name, help in (("relay-mailq", mailq.HELP), ("relay-sendmail", sendmail_options.HELP)):
            sections = read(manual.man_pages()[f"{name}.1"])
            for line in help.splitlines()[1:]:
                self.assertIn(line, sections["DESCRIPTION"])

    def test_a_page_that_cannot_be_read_would_be_found(self) -> None:
        for page in ("", ".SH X", '.TH X 1 "" "r" "r"\n\nx', ".TH X 1 a b c\n.XX", ".TH X 1 a b c\n.TP\n.TP\n"):
            self.assertRaises((AssertionError, IndexError, KeyError), read, page)
        for line in (r"\fBx", r"\qx", "x\\"):
            self.assertRaises(AssertionError, read, f".TH X 1 a b c\n.SH NAME\n{line}")

    def test_where_there_is_a_man_it_shows_each_page_without_a_complaint(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.assertEqual(manual.main(["man", str(folder / "man1")]), 0)
        readers = (
            ["mandoc", "-T", "lint", "-W", "error"],
            ["groff", "-man", "-ww", "-Tutf8"],
            ["man", "--warnings", "-l"],
        )
        for page in sorted((folder / "man1").iterdir()):
            for words in readers:
                if shutil.which(words[0]):
                    ran = subprocess.run([*words, str(page)], capture_output=True, text=True, timeout=60)
                    self.assertEqual((ran.returncode, ran.stderr), (0, ""), page.name)

    def test_the_reference_is_as_the_commands_are(self) -> None:
        self.assertEqual(
            (ROOT / "docs/relayctl.md").read_text(),
            manual.markdown(),
            "say: make man",
        )

    def test_the_pages_that_are_installed_are_as_the_commands_are(self) -> None:
        kept = {page.name: page.read_text() for page in (ROOT / "man").iterdir()}
        self.assertEqual(kept, manual.man_pages(), "say: make man")

    def test_a_page_of_a_command_that_is_no_more_is_removed(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        for name in "relayctl-gone.1", "other.1":
            (folder / name).touch()
        manual.write_pages(folder)
        self.assertEqual({page.name for page in folder.iterdir()}, {*manual.man_pages(), "other.1"})

    def test_it_says_how_it_is_called(self) -> None:
        self.patch(sys, "stderr", sys.stdout)
        self.assertEqual(manual.main([]), 2)

    def test_nothing_heavy_is_imported_to_say_what_there_is(self) -> None:
        code = (
            "import sys; from relay.cli.relayctl import main\n"
            "main(['--help'], standalone_mode=False)\n"
            "main(['queue', 'hold', '--help'], standalone_mode=False)\n"
            "heavy = {'twisted', 'zope', 'attr', 'attrs', 'pydantic', 'http', 'OpenSSL', 'cryptography', 'sqlite3', 'dns'}\n"
            "found = heavy & {name.partition('.')[0] for name in sys.modules}\n"
            "assert not found, found\n"
        )
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertIn("queue", ran.stdout)
