"""Replies: what one side of an SMTP dialogue answers, checked when it is built."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, final

from attrs import field, frozen

#: RFC 3463 section 2: class, subject and detail, the latter two of one to three digits.
_STATUS = re.compile(r"[245]\.(?:0|[1-9][0-9]{0,2})\.(?:0|[1-9][0-9]{0,2})\Z")
_UNPRINTABLE = re.compile(r"[^ -~]")
#: RFC 5321 section 4.5.3.1.5: a reply line has at most 512 octets, code and CRLF included. A code, a mark
#: and a status (up to 9 octets and a space) leave this much for the text.
LINE_TEXT: Final = 512 - 2 - 4 - 10


#: What stands before the text of a reply with this code and this status. Only such as may go together are kept here,
#: and none that merely equals a number or a text, as `550.0` does, since it is written in another way. They are
#: forgotten when they are too many: a server has a dozen of them, and a peer that never ends to invent others costs no
#: more than the time to look at them.
_BEFORE: Final[dict[tuple[int, str | None], str]] = {}
_KEPT: Final = 1000


def _before(code: int, status: str | None) -> str:
    if not 200 <= code <= 599:
        raise ValueError(f"no reply has the code {code}")
    if status is not None:
        if not _STATUS.match(status):
            raise ValueError(f"{status!r} is not an enhanced status code")
        if status[0] != "012345"[code // 100]:
            raise ValueError(f"a {code} reply cannot have the status {status}")
    before = f"{code} {status} " if status else f"{code} "
    if type(code) is int and (status is None or type(status) is str):
        if len(_BEFORE) >= _KEPT:
            _BEFORE.clear()
        _BEFORE[code, status] = before
    return before


@final
@frozen
class Reply:
    """
    A reply of RFC 5321 section 4.2: a code, an enhanced status if there is one, and lines of text.

    It cannot be built wrong: the code is 200 to 599 and not 1yz, the status (RFC 2034) is of the
    code's class, and a line of text is printable ASCII. `wire` is the reply as it is sent, computed
    once, so that a constant reply costs nothing to send.
    """

    code: int
    #: `None` where RFC 2034 wants none: the greeting, the answers to HELO and EHLO, and 3yz.
    status: str | None
    lines: tuple[str, ...]

    wire: bytes = field(init=False, repr=False, eq=False)

    def __init__(self, code: int, status: str | None, lines: tuple[str, ...]) -> None:
        before = _BEFORE.get((code, status)) or _before(code, status)
        for line in lines:
            if len(line) > LINE_TEXT or not line.isascii() or not line.isprintable():
                raise ValueError(f"a line of a reply is printable ASCII of at most {LINE_TEXT} characters")
        if not lines:
            raise ValueError("a reply has at least one line")
        wire = before + line + "\r\n"
        if wire[-3] == " " or len(lines) > 1:
            wire = _spread(code, before, lines)
        # One is made for each message, and past the guard of a frozen class these are twice as fast as what attrs has.
        _set_code(self, code)
        _set_status(self, status)
        _set_lines(self, lines)
        _set_wire(self, wire.encode())

    @classmethod
    def of(cls, code: int, status: str | None, *lines: str) -> Reply:
        """The usual way to make one: `Reply.of(250, "2.1.0", "Sender ok")`. Raises `ValueError`."""
        return cls(code, status, lines)

    @classmethod
    def saying(cls, code: int, status: str | None, text: str) -> Reply:
        """
        A reply with a text that somebody else wrote (a plugin, a peer, an address as it came).

        What is not printable ASCII is shown as `?`, and long text is folded into several lines.
        """
        return cls(code, status, tuple(folded(printable(text))))

    @property
    def positive(self) -> bool:
        """2yz or 3yz: what was asked happens."""
        return self.code < 400

    @property
    def temporary(self) -> bool:
        """4yz: the same thing may be asked again later (RFC 5321 section 4.2.1)."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """5yz: asking again in the same form is useless."""
        return self.code >= 500

    def __str__(self) -> str:
        status, lines = self.status, self.lines
        text = lines[0] if len(lines) == 1 else " ".join(lines)
        return f"{self.code} {status} {text}" if status else f"{self.code} {text}"


_set_code, _set_status, _set_lines, _set_wire = (
    Reply.__dict__[name].__set__ for name in ("code", "status", "lines", "wire")
)


def _spread(code: int, before: str, lines: tuple[str, ...]) -> str:
    """A reply of several lines as it is sent, or one with a space at its end: where nothing follows, none is said."""
    between = f"{code}-{before[4:]}"
    wire = "".join([f"{between}{line}".rstrip(" ") + "\r\n" for line in lines[:-1]]) + before + lines[-1]
    # An empty challenge is `334 `, and there are clients that want the space (RFC 4954 section 4).
    return (wire if code == 334 else wire.rstrip(" ")) + "\r\n"


def printable(text: str) -> str:
    """The text with each character that may not stand in a reply, a field or a log line shown as `?`."""
    return _UNPRINTABLE.sub("?", text)


def folded(text: str) -> Iterator[str]:
    """What is `printable` in as many lines as a reply takes for it, of which there is at least one."""
    while len(text) > LINE_TEXT:
        cut = text.rfind(" ", 1, LINE_TEXT)
        if cut < 0:
            cut = LINE_TEXT
        yield text[:cut]
        text = text[cut:].lstrip(" ")
    yield text
