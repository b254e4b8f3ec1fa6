"""Which arguments of a command are programs themselves: what a shell, or another interpreter, reads as one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from attrs import frozen


@frozen
class _Reader:
    """How an interpreter is told its program."""

    #: Short options whose value is a program, in the same word or the next.
    code: str = ""
    #: Other short options with a value: in the same word or the next; only in the same; always in the next.
    valued: str = ""
    attached: str = ""
    next: str = ""
    #: Long options whose value is the next word.
    long: tuple[str, ...] = ()
    #: Short options whose value is data.
    data: str = ""
    #: All that stands behind the program is an argument of it, and no option.
    ends: bool = False


_SHELL: Final = _Reader(next="oO", long=("--rcfile", "--init-file"))
_AWK: Final = _Reader(code="fe", valued="F", data="v", long=("--file", "--source", "--include", "--load"))

_READERS: Final = {
    **dict.fromkeys(
        ("sh", "bash", "rbash", "dash", "ash", "ksh", "mksh", "zsh", "yash", "csh", "tcsh", "fish", "posh"), _SHELL
    ),
    **dict.fromkeys(("python", "pypy"), _Reader(code="cm", valued="WX", ends=True)),
    "perl": _Reader(code="eE", valued="I", attached="0CDFMVimx"),
    "ruby": _Reader(code="e", valued="CEIr", attached="0FKTWix"),
    **dict.fromkeys(
        ("node", "nodejs"), _Reader(code="ep", valued="rC", long=("--eval", "--print", "--require", "--import"))
    ),
    "php": _Reader(code="BRErf", valued="cdz", long=("--run", "--file", "--define")),
    "lua": _Reader(code="e", valued="l"),
    **dict.fromkeys(("awk", "gawk", "mawk", "nawk", "original-awk"), _AWK),
    "sed": _Reader(code="ef", valued="l", attached="i", long=("--expression", "--file", "--line-length")),
}
#: They become another program, which is one of their arguments.
_WRAPPERS: Final = frozenset(
    {"busybox", "toybox", "env", "nice", "ionice", "chrt", "taskset", "timeout", "sudo", "doas", "setpriv", "runuser"}
    | {"su", "nohup", "setsid", "stdbuf", "time", "xargs", "chroot", "unshare", "flock", "systemd-run"}
)
#: Those that have an argument read by a shell, or take it apart: by which option, short and long.
_COMMANDED: Final = {
    **dict.fromkeys(("su", "runuser", "flock", "script"), ("c", "--command")),
    "env": ("S", "--split-string"),
}
#: Without a command they start a shell.
_LOGIN_SHELLS: Final = frozenset({"su", "runuser"})
#: Names of the standard input.
_INPUT: Final = (["-"], ["/dev/stdin"], ["/dev/fd/0"], ["/proc/self/fd/0"])
_VERSION: Final = re.compile(r"[-0-9.]+\Z")


def reader_of(program: str) -> str:
    """The name by which a program is known, without its place and version: `python` for `/usr/bin/python3.12`."""
    return _VERSION.sub("", program.rpartition("/")[2])


def scripts(command: Sequence[str]) -> Iterator[tuple[str, str]]:
    """
    Each argument that is a program itself, or says which one is read, with the name of who reads it.

    Options before a program are of these too, since what can be an option can also be `-c`. Where one program starts
    another (`timeout 5 sh -c ...`) the first argument whose name is that of an interpreter is taken for the other one.
    """
    first = reader_of(command[0])
    if first in _READERS:
        for at in _read(command, 0, _READERS[first]):
            yield first, command[at]
    if first in _COMMANDED:
        for at in _commanded(command, *_COMMANDED[first]):
            yield first, command[at]
    if first in _WRAPPERS:
        start = next((at for at in range(1, len(command)) if _is_program(command[at])), None)
        if start is not None:
            yield from scripts(command[start:])


def unsaid(words: Sequence[str]) -> str:
    """
    The name of an interpreter that is told no program, and so takes its standard input for one: the message itself,
    which would be the sender's to write. "" if there is none.

    Behind a program that is neither a wrapper nor an interpreter a name means nothing: it is an argument of that one.
    """
    command = list(words)
    first = reader_of(command[0])
    if first in _READERS:
        return first if _reads_input(command, _READERS[first]) else ""
    if first in _LOGIN_SHELLS:
        plain = [word for word in command[1:] if not word.startswith("-")]
        told = any(_commanded(command, *_COMMANDED[first])) or len(plain) > 1
        return "" if told or any(word.startswith(("-u", "--user")) for word in command) else first
    if first in _WRAPPERS:
        for at in range(1, len(command)):
            if _is_program(command[at]) or reader_of(command[at]) in _WRAPPERS:
                return unsaid(command[at:])
            if command[at].startswith("/"):
                break
    return ""


def _reads_input(command: Sequence[str], reader: _Reader) -> bool:
    at, shell = 1, reader is _SHELL
    while at < len(command) and command[at].startswith(("-", "+")) and command[at] not in ("-", "--"):
        word = command[at]
        code, _, more = _option(word, reader)
        if code:
            return more == 1 and command[at + 1 : at + 2] in _INPUT
        letters = "" if word.startswith("--") else word
        if shell and (word.startswith("--command") or "c" in letters):
            return False
        if shell and "s" in letters:
            return True
        at += 1 + more
    # POSIX, sh: a single hyphen is what two of them are. To others it is the standard input.
    if command[at : at + 1] == ["--"] or (shell and command[at : at + 1] == ["-"]):
        at += 1
    return at >= len(command) or [command[at]] in _INPUT


def _is_program(word: str) -> bool:
    name = reader_of(word)
    return "=" not in word and (name in _READERS or name in _COMMANDED)


def _read(command: Sequence[str], at: int, reader: _Reader) -> Iterator[int]:
    told = False
    at += 1
    while at < len(command) and command[at].startswith(("-", "+")) and command[at] not in ("-", "--"):
        code, data, more = _option(command[at], reader)
        if not data:
            yield at
        if more and not data:
            yield from range(at + 1, min(at + 1 + more, len(command)))
        at += 1 + more
        told = told or code
        if told and reader.ends:
            return
    if at < len(command) and command[at] == "--":
        at += 1
    if not told and at < len(command):
        yield at


def _option(word: str, reader: _Reader) -> tuple[bool, bool, int]:
    """Whether it tells the program, or only data; and how many of the words behind it are its value."""
    if word.startswith("--"):
        name = word.partition("=")[0]
        value = name in reader.long
        return value and name not in _NO_CODE, False, int(value and name == word)
    behind = 0
    for at, letter in enumerate(word[1:], 2):
        if letter in reader.next:
            behind += 1
        elif letter in reader.attached:
            break
        elif letter in reader.code + reader.valued + reader.data:
            # Data only where nothing stands before the letter that could be anything else.
            return letter in reader.code, letter in reader.data and at == 2, int(at == len(word))
    return False, False, behind


#: Long options with a value that is no program.
_NO_CODE: Final = frozenset(
    ("--rcfile", "--init-file", "--require", "--import", "--define", "--line-length", "--include", "--load")
)


def _commanded(command: Sequence[str], letter: str, long: str) -> Iterator[int]:
    for at in range(1, len(command)):
        word = command[at]
        if word.startswith(long) or (word.startswith("-") and not word.startswith("--") and letter in word):
            yield from (each for each in (at, at + 1) if each < len(command))
