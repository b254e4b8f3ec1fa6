"""The transcripts in `dialogues/`, with the whole relay behind them, however the network cuts what the client sends."""

from __future__ import annotations

import fnmatch
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from relay.testing.world import Conversation, MailWorld

HERE = Path(__file__).parent / "dialogues"
CONFIGURATION = (Path(__file__).parents[2] / "etc" / "relay.toml").read_text()

Cut = Callable[[bytes], Iterator[bytes]]


@frozen
class Turn:
    """What the client sends at once, and what it must hear then."""

    octets: bytes
    lines: tuple[str, ...]


@frozen
class Dialogue:
    client: str
    turns: tuple[Turn, ...]


def read(text: str) -> Dialogue:
    """A transcript; see `dialogues/README.md`."""
    client, newline = "127.0.0.1", b"\r\n"
    turns: list[Turn] = []
    octets, lines = b"", []
    for line in text.splitlines():
        kind, _, rest = line.partition(":")
        rest = rest.removeprefix(" ")
        if kind == "C":
            if lines:
                turns.append(Turn(octets, tuple(lines)))
                octets, lines = b"", []
            octets += rest.replace(r"\r", "\r").replace(r"\n", "\n").encode() + newline
        elif kind == "S":
            lines.append(rest)
        elif kind == "client":
            client = rest
        elif kind == "newlines":
            newline = {"LF": b"\n", "CRLF": b"\r\n"}[rest]
        elif line and not line.startswith("#"):
            raise ValueError(f"neither said by the client nor by the server: {line}")
    return Dialogue(client, (*turns, Turn(octets, tuple(lines))))


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
        for name, cut in CUTS.items():
            world = MailWorld(CONFIGURATION)
            conversation = world.connect(dialogue.client)
            heard = list(conversation.greeting)
            for turn in dialogue.turns:
                for piece in cut(turn.octets):
                    conversation.send(piece)
                    heard += self.hear(world, conversation)
                if conversation.closed:
                    heard.append("(closed)")
                self.compare(f"{path.name}, {name}", heard, turn.lines)
                heard = []

    def hear(self, world: MailWorld, conversation: Conversation) -> list[str]:
        world.settle()
        # Whoever makes many errors is answered slowly.
        world.pass_time(1.5)
        return conversation.replies()

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
        self.assertGreaterEqual(len(FILES), 14)


FILES = sorted(HERE.glob("*.txt"))


def _add(path: Path) -> None:
    def test(self: DialogueTests) -> None:
        self.run_dialogue(path)

    setattr(DialogueTests, f"test_{path.stem.replace('-', '_')}", test)


for _path in FILES:
    _add(_path)
