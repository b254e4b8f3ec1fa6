"""
A server's replies, octet by octet (RFC 5321 section 4.2): strict, bounded, and never an exception.

A reply is lines of `[2-5][0-9][0-9]` and a hyphen, the last one with a space or nothing instead, all with the
same code, each ended by CRLF and by nothing else (RFC 5321 section 2.3.8: whoever takes a bare LF for an end of
line reads another dialogue than the one that was spoken). What people may read in it is taken as it comes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, final

from attrs import frozen

from relay.mail.reply import Reply, folded, printable

#: What one reply may be, code and line ends included.
LINES: Final = 100
OCTETS: Final = 64 * 1024

#: What is remembered of what peers say: most of it is said again and again, by them and by others.
_REMEMBERED: Final = 512
#: RFC 5321 section 4.5.3.1.5: a line is no longer. Of those that are nothing is remembered.
_LINE_OCTETS: Final = 512

#: A reply of one line as it should be: its code, the status if there is one that belongs to it, and its text.
_PLAIN = re.compile(
    rb"(([2-5])[0-9][0-9])"
    rb"(?: (?:((?!3)\2\.(?:0|[1-9][0-9]{0,2})\.(?:0|[1-9][0-9]{0,2}))(?: |(?=\r)))?([ -~]{0,496}))?\r\n\Z"
)
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?\Z", re.DOTALL)
#: What most servers say of most messages, in replies of one line each, printable and whole. To MAIL, RCPT and DATA that
#: were said in one piece: the content may come.
_ALL_WELL: Final = rb"2[0-9][0-9](?: [ -~]*)?\r\n2[0-9][0-9](?: [ -~]*)?\r\n3[0-9][0-9](?: [ -~]*)?\r\n"
GO_AHEAD: Final = re.compile(_ALL_WELL + rb"\Z")
#: To content: it is taken, in words which are the reply's text as it stands; and behind that perhaps the other.
TAKEN: Final = re.compile(rb"(2[0-9][0-9] (?!2\.[0-9]{1,3}\.[0-9]{1,3}\r)[ -~]{1,496})\r\n(" + _ALL_WELL + rb")?\Z")
#: RFC 2034 section 4: the status stands at the beginning of each line's text.
_STATUS = re.compile(rb"([245]\.(?:0|[1-9][0-9]{0,2})\.(?:0|[1-9][0-9]{0,2}))(?: |\Z)")
#: How much of what is no reply is shown to people.
_SHOWN = 100


@final
@frozen
class Nonsense:
    """What the peer said is no reply. `text` says why, for the log: printable and short."""

    text: str


class ReplyReader:
    """
    `receive_data` with what the network brought, then `next_reply` until it returns `None`: more octets are needed.

    After a `Nonsense` there is nothing else any more: where the next reply would begin is not known. Where the network
    cut the octets means nothing. What is kept between two calls is never more than one reply that is not whole yet.
    """

    __slots__ = ("_buffer", "_code", "_nonsense", "_octets", "_read", "_searched", "_texts")

    def __init__(self) -> None:
        self._buffer = b""
        #: How much of the buffer has been read as lines, and up to where there is no LF behind that.
        self._read = 0
        self._searched = 0
        #: The reply whose lines are coming in: its code, the texts so far, and how many octets it has taken.
        self._code = b""
        self._texts: list[bytes] = []
        self._octets = 0
        self._nonsense: Nonsense | None = None

    @property
    def empty(self) -> bool:
        """Nothing came behind the last reply."""
        return not self._buffer and not self._texts

    def whole(self, octets: bytes) -> Reply | None:
        """
        What came, if it is all of a reply, and nothing else, and as most are: then `next_reply` would say the same of
        it, and it need not be received. Else `None`.
        """
        if self._buffer or self._texts or self._nonsense is not None or len(octets) > _LINE_OCTETS:
            return None
        return _plain(octets)

    def receive_data(self, octets: bytes) -> None:
        """Take what the network brought."""
        if self._nonsense is None:
            self._buffer += octets

    def next_reply(self) -> Reply | Nonsense | None:
        """The next reply, or `None` if it is not whole yet."""
        while self._buffer:
            start, end = self._read, self._buffer.find(b"\n", self._searched) + 1
            if not end:
                return self._wait()
            line = self._buffer[start:end]
            alone = not self._texts and end - start <= _LINE_OCTETS
            if not self._buffer[end : end + 1]:
                self._buffer = b""
                end = 0
            self._read = self._searched = end
            heard = (_plain(line) if alone else None) or self._take(line)
            if heard is not None:
                return heard
        return self._nonsense

    def _wait(self) -> Nonsense | None:
        """A line is not whole yet: keep what there is of it, unless it is too much."""
        self._buffer = self._buffer[self._read :]
        self._read = 0
        self._searched = len(self._buffer)
        if self._octets + self._searched <= OCTETS:
            return None
        return self._fail(f"a reply of more than {OCTETS} octets")

    def _take(self, line: bytes) -> Reply | Nonsense | None:
        """One whole line. The reply, if this was its last one."""
        self._octets += len(line)
        if self._octets > OCTETS:
            return self._fail(f"a reply of more than {OCTETS} octets")
        if len(self._texts) == LINES:
            return self._fail(f"a reply of more than {LINES} lines")
        if not line.endswith(b"\r\n"):
            return self._fail("a line that is not ended by CRLF", line)
        match = _LINE.match(line, 0, len(line) - 2)
        if match is None:
            return self._fail("not a reply", line)
        code, mark, text = match.group(1, 2, 3)
        if b"\r" in line[:-2]:
            return self._fail("a CR within a line", line)
        if self._texts and code != self._code:
            return self._fail("a reply with two codes", line)
        self._code = code
        self._texts.append(text or b"")
        if mark == b"-":
            return None
        texts, self._texts, self._octets = self._texts, [], 0
        return _reply(int(code), texts)

    def _fail(self, why: str, line: bytes = b"") -> Nonsense:
        shown = f": {_text(line.rstrip())[:_SHOWN]}" if line else ""
        self._nonsense = Nonsense(why + shown)
        self._buffer = b""
        self._texts.clear()
        return self._nonsense


@lru_cache(maxsize=_REMEMBERED)
def _plain(line: bytes) -> Reply | None:
    """A line that is a whole reply, and such that there is nothing to be put right; `None`: look closer."""
    match = _PLAIN.match(line)
    if match is None:
        return None
    code, _, status, text = match.groups(b"")
    return Reply(int(code), status.decode() or None, (text.decode(),))


def _reply(code: int, texts: list[bytes]) -> Reply:
    """
    The reply as a value, its enhanced status picked off.

    Whether the server has offered ENHANCEDSTATUSCODES is not asked: many send them all the same, and a status that
    does not belong to the code's class stays what it is, text.
    """
    status = None
    match = _STATUS.match(texts[0])
    if match is not None and match[1][0] == ord("0") + code // 100:
        status = match[1]
        texts = [_without(status, text) for text in texts]
    lines = tuple([line for text in texts for line in folded(_text(text))])
    return Reply(code, status.decode("ascii") if status else None, lines)


def _without(status: bytes, text: bytes) -> bytes:
    if text == status:
        return b""
    return text[len(status) + 1 :] if text.startswith(status + b" ") else text


def _text(octets: bytes) -> str:
    """RFC 5321 section 4.2 wants printable ASCII and tabs: every other octet is shown as `?`."""
    return printable(octets.decode("latin-1").replace("\t", " "))
