"""
The arguments of sendmail(1), as programs have been giving them for forty years.

Options that mean nothing here are taken and passed over: whoever gives them cannot know which program it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final

from attrs import evolve, frozen

#: They have a value, in the same argument or in the next one.
_VALUED: Final = frozenset("ABCFLMNORVXbefhopr")
#: They may have one, in the same argument.
_PERHAPS_VALUED: Final = frozenset("dqT")
_FLAGS: Final = frozenset("EGIUcimnstvx")

HELP: Final = """\
Usage: relay-sendmail [OPTION...] [RECIPIENT...]

Give a message to the relay of this machine. The message is read from standard input, up to its end or to a line
that is a single dot.

  -t            take recipients from To, Cc and Bcc too
  -i, -oi       a line that is a single dot does not end the message
  -f ADDRESS    the sender that is told of failures (-r is the same); '' or '<>': nobody is
  -F NAME       the sender's full name, for a From field that is missing
  -N WHEN       tell the sender: never, or a list of success, failure, delay
  -R full|hdrs  what of the message is returned with a failure
  -V ENVID      a name for the message, which what the sender is told will have in it
  -v            say what the relay answers
  -bm           send a message: what is done without -b
  -bs           speak SMTP, on standard input and output
  -bp           print the queue (relay-mailq)
  -bv           ask whether the relay takes mail for these recipients, and send nothing
  -q, -bi       do nothing: the relay looks after its queue and its aliases by itself
  -C FILE       the relay's configuration (or set RELAY_CONFIG; without both, /etc/relay/relay.toml)
  --socket PATH the Unix socket of a listener, instead of looking for one in the configuration
  --help, --version

Other options of sendmail(1) are accepted, and mean nothing here. The exit status is one of sysexits.h: 0 when the
relay has promised to deliver the message, 75 when it should be tried again later.
"""


class UsageError(Exception):
    """The arguments make no sense. Its message says why (exit status 64)."""


class Mode(Enum):
    """What -b says."""

    SEND = "m"
    SMTP = "s"
    QUEUE = "p"
    VERIFY = "v"
    #: There is nothing to do.
    NOTHING = "q"
    HELP = "help"
    VERSION = "version"


_MODES: Final = {"m": Mode.SEND, "a": Mode.SEND, "s": Mode.SMTP, "p": Mode.QUEUE, "v": Mode.VERIFY, "i": Mode.NOTHING}


@frozen
class Options:
    """What the arguments have said."""

    mode: Mode = Mode.SEND
    recipients: tuple[str, ...] = ()
    #: -t
    from_header: bool = False
    #: A single dot is a line like any other.
    dots: bool = False
    #: -f; `None`: not said.
    sender: str | None = None
    full_name: str | None = None
    notify: str | None = None
    returns: str | None = None
    envid: str = ""
    verbose: bool = False
    config: str | None = None
    socket: str | None = None


def options(arguments: Sequence[str]) -> Options:
    """What these arguments, without the name of the program, say. Raises `UsageError`."""
    said = Options()
    recipients: list[str] = []
    for letter, value in _split(arguments):
        if letter:
            said = _apply(said, letter, value)
        else:
            recipients.append(value)
    return evolve(said, recipients=tuple(recipients))


def _split(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pairs of an option and its value; a recipient stands behind an empty option."""
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if argument == "--":
            yield from (("", recipient) for recipient in waiting)
            return
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            if name == "--socket" and not equals:
                value = _next(waiting, name)
            yield name, value
        elif argument.startswith("-") and argument != "-":
            yield from _letters(argument[1:], waiting)
        else:
            yield "", argument


def _letters(letters: str, waiting: list[str]) -> Iterator[tuple[str, str]]:
    """The options of one argument: flags, and perhaps a last one with a value."""
    for at, letter in enumerate(letters):
        rest = letters[at + 1 :]
        if letter in _VALUED:
            yield letter, rest or _next(waiting, f"-{letter}")
            return
        if letter in _PERHAPS_VALUED:
            yield letter, rest
            return
        if letter not in _FLAGS:
            raise UsageError(f"unknown option -{letter}")
        yield letter, ""


def _next(waiting: list[str], option: str) -> str:
    if not waiting:
        raise UsageError(f"{option} needs a value")
    return waiting.pop(0)


def _apply(said: Options, letter: str, value: str) -> Options:
    match letter:
        case "t":
            return evolve(said, from_header=True)
        case "i":
            return evolve(said, dots=True)
        case "o":
            return evolve(said, dots=True) if value.startswith("i") else said
        case "O":
            return evolve(said, dots=True) if value.lower().startswith("ignoredots") else said
        case "f" | "r":
            return evolve(said, sender=value)
        case "F":
            return evolve(said, full_name=value)
        case "N":
            return evolve(said, notify=value)
        case "R":
            return evolve(said, returns=value)
        case "V":
            return evolve(said, envid=value)
        case "v":
            return evolve(said, verbose=True)
        case "C":
            return evolve(said, config=value)
        case "q" | "I":
            return evolve(said, mode=Mode.NOTHING)
        case "b":
            if value not in _MODES:
                raise UsageError(f"-b{value} is not for this program: relay -c FILE runs the relay")
            return evolve(said, mode=_MODES[value])
        case "--socket":
            return evolve(said, socket=value)
        case "--help":
            return evolve(said, mode=Mode.HELP)
        case "--version":
            return evolve(said, mode=Mode.VERSION)
    if letter.startswith("--"):
        raise UsageError(f"unknown option {letter}")
    return said
