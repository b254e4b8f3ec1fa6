"""From the text of a configuration to its settings, or to everything that is wrong with it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from relay.config.errors import ConfigurationError, Problem
from relay.config.lines import Lines, spelled
from relay.config.paths import relative_to
from relay.config.reading import OptionModel, Reading
from relay.config.settings import Settings
from relay.config.wording import Complaint


def decode(octets: bytes, *, file: str) -> str:
    """The text of a configuration file, which is UTF-8. Raises `ConfigurationError` if it is not."""
    try:
        return octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise ConfigurationError([Problem(file, line, "", "this is not UTF-8")]) from None


def load(
    text: str,
    *,
    file: str,
    base: Path,
    hostname: str,
    user: str,
    option_model: OptionModel,
    known: Callable[[], Iterable[str]] = tuple,
) -> Settings:
    """
    The settings that `text` asks for. Raises `ConfigurationError` with all that is wrong with it.

    `file` is the name for the operator, and `base` the absolute directory to which relative paths are relative:
    nothing is read here but `text`. `hostname` is the machine's name, which counts where the text says none, and
    `user` the user who starts the relay; `$hostname` and `$user` stand for them in every string.

    `option_model` finds the model of a policy's options by the policy's `use`: `None` if there is no such policy; a
    `ValueError`, with words for the operator, if it cannot be loaded. `known` names the policies that there are; it is
    asked only for a hint.
    """
    try:
        reading = Reading(tomllib.loads(text), Lines.of(text), hostname, user)
    except (ValueError, RecursionError) as error:  # `TOMLDecodeError`, or a number with too many digits
        raise ConfigurationError([_not_toml(error, file, text)]) from None
    settings = reading.settings(option_model, known)
    if settings is None:
        raise ConfigurationError(_problem(each, file, reading.lines) for each in reading.found)
    resolved: Settings = relative_to(base, settings)
    return resolved


def _brackets(text: str, line: int) -> str:
    """The commonest slip: a table of which there are several wants two brackets."""
    written = text.splitlines()[line - 1].strip() if line <= text.count("\n") + 1 else ""
    return f"; say [{written}], with two brackets" if written in ("[policy]", "[listener]") else ""


def _problem(complaint: Complaint, file: str, lines: Lines) -> Problem:
    return Problem(file, lines.line(complaint.path), spelled(complaint.path), complaint.text)


#: How `tomllib` says where it stopped.
_AT = re.compile(r" \(at (?:line ([0-9]+), column [0-9]+|end of document)\)\Z")

_TWICE = re.compile(r"Cannot (?:overwrite a value|declare .* twice|mutate immutable namespace .*)\Z", re.DOTALL)

#: How it says that a string has no end.
_NOT_CLOSED: Final = frozenset(("Illegal character '\\n'", "Unterminated string", 'Expected "\'"'))
_CLOSING: Final = "it ends in its line, with the quote with which it begins, or with three if it begins with three"


def _not_toml(error: ValueError | RecursionError, file: str, text: str) -> Problem:
    if isinstance(error, RecursionError):
        return Problem(file, 1, "", "values within values are nested too deep")
    place = _AT.search(str(error))
    line = int(place[1]) if place is not None and place[1] else text.count("\n") + 1
    said = str(error)[: place.start()] if place is not None else str(error)
    if _TWICE.match(said):
        return Problem(file, line, "", "what is set here has been set before" + _brackets(text, line))
    if said in _NOT_CLOSED:
        said = f"a string is not closed: {_CLOSING}"
    return Problem(file, line, "", f"this is not TOML: {said[:1].lower()}{said[1:]}")
