"""
What the documentation tells people to type is tried here: README.md, CONTRIBUTING.md and all of docs/.

* A `toml` block is a configuration, and is loaded as `relayctl check` would. One that only has keys of a policy is taken for
  the inside of a `[[policy]]`. `use = "closed:Closed"` is the class of a `python` block on the same page. Below a comment
  `<!-- fragment -->` a block only has to be TOML.
* A `python` block compiles. Below a comment `<!-- run -->` it also runs.
* In a `console` block, `$ ` begins a command, and what stands below it is what it prints: `*` is anything. In a `sh` block every
  line is a command. Each command is one of `TRIED`, which says how; there are no others.
* `make WORD` anywhere is a target of the Makefile.
"""

from __future__ import annotations

import fnmatch
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from relay.cli.status import lines as status_lines
from relay.config.errors import ConfigurationError
from relay.config.load import load
from relay.config.policies import PolicySettings
from relay.history.memory import MemoryHistory
from relay.policy.registry import names, option_model
from relay.testing.policy import NOON
from relay.testing.world import MailWorld

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"^```(?P<kind>[a-z]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_CLASS = re.compile(r"^class (\w+)", re.MULTILINE)
_MAKE = re.compile(r"(?:`|^ {4}|\$ )make ([a-z]+)", re.MULTILINE)
#: What is another one each time.
_VARYING = re.compile(r"(?<=queued as )\S+|(?<=\[ref )\w{6}(?=\])")
_SAYS = re.compile(r"[2-5][0-9][0-9][ -]")


@frozen
class Block:
    page: str
    line: int
    kind: str
    text: str
    #: `<!-- run -->` stands above it: "run".
    mark: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(text: str, page: str) -> Iterator[Block]:
    for match in _BLOCK.finditer(text):
        above = text[: match.start()].rstrip().rpartition("\n")[2]
        mark = re.fullmatch(r"<!-- (\w+) -->", above)
        yield Block(page, text.count("\n", 0, match.start()) + 2, match["kind"], match["text"], mark[1] if mark else "")


@frozen
class Command:
    block: Block
    line: str
    #: What stands below it.
    shown: tuple[str, ...]


def commands(block: Block) -> Iterator[Command]:
    if block.kind == "sh":
        for line in block.text.replace("\\\n", " ").splitlines():
            if line.strip() and not line.startswith("#"):
                yield Command(block, line.removeprefix("$ ").strip(), ())
    elif block.kind == "console":
        for piece in re.split(r"^\$ ", block.text.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
            line, *shown = piece.rstrip().splitlines()
            yield Command(block, line.partition("  #")[0].strip(), tuple(shown))


# Ways to try a command. Each raises `AssertionError` where the page says what is not so.


def by_make(command: Command) -> None:
    """The target is there, and `make run` starts what the page says that it starts."""
    would = subprocess.run(
        ["make", "-n", *command.line.split()[1:]], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert would.returncode == 0, would.stderr
    assert command.line != "make run" or "relay -c etc/relay.toml" in would.stdout, would.stdout


def by_test(test: str) -> Callable[[Command], None]:
    """It would change this machine, or runs for long: this test executes it."""

    def check(command: Command) -> None:
        file, case, name = test.split("::")
        _, _, body = (ROOT / file).read_text().partition(f"\nclass {case}(")
        assert f"    def {name}(" in body.partition("\nclass ")[0], f"{test} does not exist"

    return check


def by_hand(command: Command) -> None:
    """A dialogue with the relay of etc/relay.toml, whose host name the page's greeting says."""
    newline = b"\n" if command.line.startswith("nc") else b"\r\n"
    shown = [line for line in command.shown if not re.match(r"Trying |Connected to |Escape |Connection closed", line)]
    history = MemoryHistory(lambda: NOON)
    world = MailWorld((ROOT / "etc/relay.toml").read_text(), hostname=shown[0].split()[1], history=history)
    conversation = world.connect()
    heard = list(conversation.greeting)
    content = False
    for line in shown:
        if content or not _SAYS.match(line):
            assert not heard, f"before {line!r}: {heard}"
            conversation.send(line.encode() + newline)
            heard = conversation.replies()
            content = content and line != "."
        else:
            said = heard.pop(0) if heard else "nothing"
            assert _VARYING.sub("*", said) == _VARYING.sub("*", line), f"{line!r}, but it says {said!r}"
            content = line.startswith("354")
    assert not heard, f"at the end: {heard}"


def by_shape(command: Command) -> None:
    """`relayctl status`: the page's numbers are its own, the words are those that the command has."""
    queue = {"entries": 12, "waiting": 1, "active": 1, "held": 1, "corrupt": 1, "oldest_age": 6600.0}
    listener = {"name": "local", "address": "127.0.0.1:2525", "connections": 1}
    top = {"version": "0.1.0", "hostname": "mx.example.org", "pid": 1, "up": 7500.0, "accepting": True}
    top["configuration"] = {"file": "etc/relay.toml", "digest": "5d2c0b0a3d1f", "for": 725.0}
    said = [re.sub("[0-9]+", "1", line) for line in status_lines({**top, "listeners": [listener], "queue": queue})]
    shown = [re.sub("[0-9]+", "1", line) for line in command.shown]
    fits = len(said) == len(shown) and all(map(fnmatch.fnmatchcase, said, shown))
    assert not shown or fits, f"{shown}, but it says {said}"


def by_running(command: Command) -> None:
    """As it stands there, at the root of the tree. It has to succeed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path}
    ran = subprocess.run(command.line, shell=True, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    said = ran.stdout.splitlines()
    matches = len(said) == len(command.shown) and all(map(fnmatch.fnmatchcase, said, command.shown))
    assert matches or not command.shown, f"{command.shown}, but it says {said}"


#: Those of docs/policies/tutorial.md, in their order and with what they print.
_TUTORIAL = by_test("tests/packaging/test_tutorial.py::TutorialTests::test_the_page_is_true_word_for_word")

#: By what a command looks like: the first that fits says how it is tried.
TRIED: Mapping[str, Callable[[Command], None]] = {
    "python3 -m venv venv": _TUTORIAL,
    ". venv/bin/activate": _TUTORIAL,
    "pip install '/path/to/relay[[]testing]'": _TUTORIAL,
    "relayctl new-policy expiring": _TUTORIAL,
    "cd relay-expiring": _TUTORIAL,
    "python -m pytest -q": _TUTORIAL,
    "pip wheel --quiet --no-deps --wheel-dir dist .": _TUTORIAL,
    "pip install --quiet dist/relay_expiring-*.whl": _TUTORIAL,
    "relayctl check relay.toml": _TUTORIAL,
    "make *": by_make,
    "nc 127.0.0.1 *": by_hand,
    "telnet 127.0.0.1 *": by_hand,
    "relayctl check *": by_running,
    "relayctl status": by_shape,
    # Those of docs/operating.md, in their order and with what they print.
    "relayctl queue *": by_test("tests/system/test_operating.py::OperatingTests::test_the_page_is_true"),
    "relayctl top *": by_test("tests/system/test_operating.py::OperatingTests::test_the_page_is_true"),
    "relayctl explain *": by_test("tests/system/test_explain.py::ExplainTests::test_the_page_is_true"),
    "relayctl why *": by_test("tests/system/test_explain.py::ExplainTests::test_the_page_is_true"),
    "relayctl trace *": by_test("tests/system/test_operating.py::OperatingTests::test_the_page_is_true"),
    "relayctl dest *": by_test("tests/system/test_operating.py::OperatingTests::test_the_page_is_true"),
    "relayctl passwd -c *": by_test(
        "tests/test_cli_passwd.py::ConfigurationTests::"
        "test_the_file_is_the_one_that_the_configuration_names_and_need_not_be_there_yet"
    ),
    "openssl s_client *": by_test("tests/system/test_tls.py::EncryptedTests::test_openssl_gets_through"),
    "pip install .": by_test(
        "tests/packaging/test_installing.py::TwistdHelpTests::test_it_is_listed_after_pip_install"
    ),
    "pip install relay-mta": by_test(
        "tests/packaging/test_installing.py::TwistdHelpTests::test_it_is_listed_from_a_wheel_and_taking_it_away_leaves_twisted_whole"
    ),
    "twistd -n --pidfile= relay -c *": by_test(
        "tests/packaging/test_starting.py::HolidayTests::test_a_client_of_the_real_relay_hears_its_450"
    ),
    "relay -c *": by_test(
        "tests/test_run.py::RelayCommandTests::test_it_starts_what_twistd_would_in_the_foreground_and_leaves_no_files"
    ),
}


def try_out(command: Command) -> None:
    for pattern, way in TRIED.items():
        if fnmatch.fnmatchcase(command.line, pattern):
            way(command)
            return
    raise AssertionError(f"nothing in TRIED says how `{command.line}` is tried")


def configuration(block: Block) -> str:
    """The block as a whole configuration."""
    keys = set(tomllib.loads(block.text))
    if keys and keys <= set(PolicySettings.model_fields):
        return "[[policy]]\n" + ("" if "use" in keys else 'use = "discard"\n') + block.text
    return block.text


class DocsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.patch(sys, "path", [str(self.folder), *sys.path])
        before = set(sys.modules)
        self.addCleanup(lambda: [sys.modules.pop(name) for name in set(sys.modules) - before])

    def load(self, block: Block, page: list[Block]) -> None:
        """Raises `ConfigurationError`."""
        for module, name in re.findall(r'use\s*=\s*"(\w+):(\w+)"', block.text):
            for other in page:
                if other.kind == "python" and name in _CLASS.findall(other.text):
                    (self.folder / f"{module}.py").write_text(other.text)
                    sys.modules.pop(module, None)
                    importlib.invalidate_caches()
        load(
            configuration(block),
            file=block.page,
            base=self.folder,
            hostname="mx.example.org",
            user="ann",
            option_model=option_model,
            known=names,
        )

    def problems(self, text: str, page: str = "page.md") -> Iterator[str]:
        """Every block of a page that does not do what the page says."""
        found = list(blocks(text, page))
        for block in found:
            try:
                self.try_block(block, found)
            except ConfigurationError as error:
                yield from (f"{block}: {problem}" for problem in error.problems)
            except Exception as error:
                yield f"{block}: {type(error).__name__}: {error}"
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        yield from (f"{page}: there is no make {word}" for word in _MAKE.findall(text) if word not in targets)

    def try_block(self, block: Block, page: list[Block]) -> None:
        if block.kind == "toml":
            if block.mark == "fragment":
                tomllib.loads(block.text)
            else:
                self.load(block, page)
        elif block.kind == "python":
            code = compile(block.text, str(block), "exec")
            if block.mark == "run":
                scope: dict[str, Any] = {"__name__": "__main__"}
                exec(code, scope)
        for command in commands(block):
            try_out(command)


class DocumentationTests(DocsCase):
    def test_what_the_pages_tell_people_to_do_works(self) -> None:
        found = [problem for page in PAGES for problem in self.problems(page.read_text(), str(page.relative_to(ROOT)))]
        self.assertEqual(found, [])

    def test_the_first_page_has_the_two_commands_on_its_first_screen(self) -> None:
        lines = (ROOT / "README.md").read_text().splitlines()
        screen = [line for line in lines[:60] if line.startswith("$ ")]
        self.assertEqual(screen[0], "$ make run")
        self.assertIn("$ make test", screen)


class CheckTests(DocsCase):
    """That the test above can fail."""

    def found(self, kind: str, text: str, above: str = "") -> str:
        return "\n".join(self.problems(f"Words.\n\n{above}\n```{kind}\n{text}\n```\n"))

    def test_what_is_right_is_no_problem(self) -> None:
        for kind, text in (
            ("toml", 'hostname = "mx.example.org"\n[[policy]]\nuse = "discard"'),
            ("toml", 'when = { client = ["127.0.0.1"] }'),
            ("python", "x = 1"),
            ("console", "$ make test"),
            ("sh", "make run\n# a comment"),
            (
                "console",
                "$ relayctl check etc/relay.toml\nlistener *\nlocal *\nlocal *\nlocal *\n"
                "etc/relay.toml: 2 listeners, * policies, no problems",
            ),
            ("text", "anything at all"),
        ):
            self.assertEqual(self.found(kind, text), "", text)
        self.assertEqual(self.found("toml", "anything = 1", "<!-- fragment -->"), "")
        self.assertEqual(self.found("python", "1 / 0"), "")

    def test_each_mistake_is_found(self) -> None:
        dialogue = "$ nc 127.0.0.1 2525\n220 mx.test ESMTP relay\nhelo me\n"
        for kind, text, said in (
            ("toml", "hostname = ", "TOMLDecodeError"),
            ("toml", "[limts]", "did you mean 'limits'?"),
            ("toml", 'when = { clients = ["127.0.0.1"] }', "did you mean 'client'?"),
            ("toml", '[[policy]]\nuse = "closed:Closed"', "closed"),
            ("python", "def f(:", "SyntaxError"),
            ("console", "$ sudo rm -rf /", "nothing in TRIED says how `sudo rm -rf /` is tried"),
            ("sh", "reboot", "nothing in TRIED"),
            ("console", "$ make soup", "there is no make soup"),
            ("console", "$ relayctl check etc/soup.toml", "cannot be read"),
            ("console", "$ relayctl check etc/relay.toml\nno problems", "but it says"),
            ("console", dialogue + "250 mx.test Good day me", "but it says '250 mx.test Hello me [127.0.0.1]'"),
            ("console", dialogue + "quit", "before 'quit': ['250"),
            ("console", dialogue, "at the end: ['250"),
            ("console", "$ relayctl status\nall is well", "but it says ['relay 1.1.1 on mx.example.org"),
        ):
            self.assertIn(said, self.found(kind, text), text)
        self.assertIn("ZeroDivisionError", self.found("python", "1 / 0", "<!-- run -->"))
        self.assertIn("TOMLDecodeError", self.found("toml", "=", "<!-- fragment -->"))

    def test_a_test_that_is_not_there_tries_nothing(self) -> None:
        gone = by_test("tests/test_run.py::RelayCommandTests::test_it_makes_coffee")
        self.assertRaises(AssertionError, gone, Command(Block("page.md", 1, "sh", "", ""), "coffee", ()))

    def test_a_policy_of_the_page_is_found_by_its_class(self) -> None:
        page = (ROOT / "docs/writing-a-policy.md").read_text()
        self.assertIn("closed", "\n".join(self.problems(page.replace("class Closed:", "class Open:", 1))))
        self.assertEqual(list(self.problems(page)), [])
