"""The addresses in a To, Cc or Bcc field (RFC 5322 section 3.4): who they are, and not what they are called."""

from __future__ import annotations

from collections.abc import Iterator

_PAIRS = {'"': '"', "(": ")", "[": "]"}


def addressees(body: str) -> Iterator[str]:
    """
    Each address in the body of a field, as it was written, without comments, names and blanks.

    Names of groups are no addresses, their members are. Time is linear in the text. What makes no sense is passed on as
    it stands: whoever parses it says what is wrong with it.
    """
    bare: list[str] = []
    angled: list[str] | None = None
    inside = False
    for part in _tokens(body):
        if part == "<":
            inside, angled = True, []
        elif part == ">":
            inside = False
        elif inside:
            assert angled is not None
            angled.append(part)
        elif part in (",", ";"):
            yield from _address(bare, angled)
            bare, angled = [], None
        elif part == ":":
            bare = []  # it was a group's name
        else:
            bare.append(part)
    yield from _address(bare, angled)


def _address(bare: list[str], angled: list[str] | None) -> Iterator[str]:
    text = "".join(bare if angled is None else angled)
    if text.startswith("@") and ":" in text:
        text = text.partition(":")[2]  # a source route, which is to be ignored (RFC 5321 appendix C)
    if text or angled is not None:
        yield text


def _tokens(text: str) -> Iterator[str]:
    """Quoted strings and domain literals whole, other characters one by one; no comments, no blanks."""
    at = 0
    while at < len(text):
        character = text[at]
        if character in _PAIRS:
            end = _end(text, at)
            if character != "(":
                yield text[at:end]
            at = end
        else:
            if not character.isspace():
                yield character
            at += 1


def _end(text: str, at: int) -> int:
    """The index behind what is opened at `at`. Comments may be nested (RFC 5322 section 3.2.2)."""
    opening, closing = text[at], _PAIRS[text[at]]
    depth = 1
    at += 1
    while at < len(text):
        character = text[at]
        if character == "\\":
            at += 1
        elif character == closing:
            depth -= 1
            if not depth:
                return at + 1
        elif character == "(" == opening:
            depth += 1
        at += 1
    return len(text)
