"""The transcripts in `dialogues/`, with the whole relay behind them, however the network cuts what the client sends."""

from __future__ import annotations

import fnmatch
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from attrs import field, frozen
from twisted.trial.unittest import SynchronousTestCase

from tests.stage import FRIEND, LOCAL, STRANGER, Client, StagedWorld

HERE = Path(__file__).parent / "dialogues"
CONFIGURATION = (Path(__file__).parents[2] / "etc" / "relay.toml").read_text()
LISTENERS = (HERE / "listeners.toml").read_text()

Cut = Callable[[bytes], Iterator[bytes]]
_REPEATED = re.compile(r"\{(\S+) times ([0-9]+)\}")
_CLIENTS = {"stranger": STRANGER, "trusted": FRIEND, "socket": LOCAL}


@frozen
class Turn:
    """What the client sends at once, behind a handshake if it has one, and what it must hear then."""

    octets: bytes
    lines: tuple[str, ...]
    handshake: bool = False


@frozen
class Dialogue:
    turns: tuple[Turn, ...]
    client: str = FRIEND
    #: The name of one in `listeners.toml`; "": the first of `etc/relay.toml`.
    listener: str = ""
    newline: bytes = b"\r\n"
    #: The replies are the same however the network cuts.
    cuts: bool = True


@frozen
class _Reader:
    """Puts a transcript together, line by line."""

    settings: dict[str, object] = field(factory=dict)
    turns: list[Turn] = field(factory=list)
    said: list[str] = field(factory=list)
    heard: list[str] = field(factory=list)
    handshakes: list[bool] = field(factory=list)

    def read(self, line: str) -> None:
        kind, _, rest = line.partition(":")
        rest = rest.removeprefix(" ")
        if kind == "C":
            if self.heard:
                self.end_turn()
            self.said.append(rest)
        elif kind == "S":
            self.heard.append(rest)
        elif line == "(handshake)":
            self.end_turn()
            self.handshakes.append(True)
        elif kind == "client":
            self.settings["client"] = _CLIENTS.get(rest, rest)
        elif kind == "listener":
            self.settings["listener"] = rest
        elif kind == "newlines":
            self.settings["newline"] = {"LF": b"\n", "CRLF": b"\r\n"}[rest]
        elif kind == "cuts":
            self.settings["cuts"] = {"none": False, "any": True}[rest]
        elif line and not line.startswith("#"):
            raise ValueError(f"neither said by the client nor by the server: {line}")

    def end_turn(self) -> None:
        newline = self.settings.get("newline", b"\r\n")
        assert isinstance(newline, bytes)
        octets = b"".join(_octets(line) + newline for line in self.said)
        self.turns.append(Turn(octets, tuple(self.heard), bool(self.handshakes)))
        for each in (self.said, self.heard, self.handshakes):
            each.clear()


def _octets(line: str) -> bytes:
    line = _REPEATED.sub(lambda found: found[1] * int(found[2]), line)
    return line.replace(r"\r", "\r").replace(r"\n", "\n").encode()


def read(text: str) -> Dialogue:
    """A transcript; see `dialogues/README.md`."""
    reader = _Reader()
    for line in text.splitlines():
        reader.read(line)
    reader.end_turn()
    return Dialogue(tuple(reader.turns), **reader.settings)  # type: ignore[arg-type]


def whole(octets: bytes) -> Iterator[bytes]:
    yield octets


def one_by_one(octets: bytes) -> Iterator[bytes]:
    for at in range(len(octets)):
        yield octets[at : at + 1]


def at_random(seed: int) -> Cut:
    chance = random.Random(seed)

    def cut(octets: bytes) -> Iterator[bytes]:
        while octets:
            length = chance.choice((1, 2, 3, 5, 8, 40))
            yield octets[:length]
            octets = octets[length:]

    return cut


CUTS: dict[str, Cut] = {"whole": whole, "octet by octet": one_by_one, **{f"cut {n}": at_random(n) for n in range(8)}}


class DialogueTests(SynchronousTestCase):
    """A test for each file is added below."""

    def run_dialogue(self, path: Path) -> None:
        dialogue = read(path.read_text())
        for name, cut in CUTS.items() if dialogue.cuts else [("whole", whole)]:
            world = StagedWorld(LISTENERS if dialogue.listener else CONFIGURATION)
            client = world.meet(dialogue.client, dialogue.listener or 0)
            heard = list(client.greeting)
            for turn in dialogue.turns:
                if turn.handshake:
                    client.handshake()
                for piece in cut(turn.octets):
                    client.send(piece)
                    world.settle()
                    heard += client.replies()
                heard += self.hear(world, client)
                self.compare(f"{path.name}, {name}", heard, turn.lines)
                heard = []

    def hear(self, world: StagedWorld, client: Client) -> list[str]:
        """What comes by and by: whoever makes many errors is answered slowly."""
        heard: list[str] = []
        while True:
            world.pass_time(1.5)
            more = client.replies()
            if not more:
                return [*heard, "(closed)"] if client.closed else heard
            heard += more

    def compare(self, name: str, heard: list[str], expected: tuple[str, ...]) -> None:
        matches = len(heard) == len(expected) and all(
            fnmatch.fnmatchcase(said, pattern.replace("[", "[[]"))
            for said, pattern in zip(heard, expected, strict=True)
        )
        if not matches:
            self.fail(f"{name}\nheard:\n  " + "\n  ".join(heard) + "\nexpected:\n  " + "\n  ".join(expected))

    def test_a_transcript_that_differs_is_noticed(self) -> None:
        self.assertRaises(AssertionError, self.compare, "x", ["250 2.0.0 Ok"], ("250 2.0.0 No",))
        self.assertRaises(AssertionError, self.compare, "x", ["250 Ok", "250 Ok"], ("250 Ok",))
        self.compare("x", ["250-mx [127.0.0.1]", "250 Ok: queued as X"], ("250-mx [127.0.0.1]", "250 Ok: queued as *"))

    def test_there_is_a_transcript_for_each_dialogue_of_the_textbooks(self) -> None:
        self.assertGreaterEqual(len(FILES), 40)


FILES = sorted(HERE.glob("*.txt"))


def _add(path: Path) -> None:
    def test(self: DialogueTests) -> None:
        self.run_dialogue(path)

    setattr(DialogueTests, f"test_{path.stem.replace('-', '_')}", test)


for _path in FILES:
    _add(_path)
