"""
Content as it comes in behind DATA: where it ends, and what is wrong with it.

Taken in bulk: a handful of searches for each piece, however many lines it has. Nothing but CRLF.CRLF ends content,
unless the session is a person's at netcat (`LF_ENDED`), where LF.LF does and every LF is made CRLF.
"""

from __future__ import annotations

from typing import Final

from attrs import define

from relay.mail.reply import Reply
from relay.smtp import answers
from relay.smtp.octets import is_lines

#: No piece is larger: others want to be served between two.
PIECE: Final = 256 * 1024
_DOT: Final = ord(".")


@define(eq=False)
class Piece:
    """What could be taken: `octets` in wire form, and how many octets of the input they were."""

    octets: bytes
    used: int


def _has_longer(octets: bytes, newline: bytes, at: int, last: int, limit: int) -> bool:
    """
    Whether a line is longer than the limit, of those from `at`, where one begins, to the newline at `last`.

    Each step is to the last newline that is near enough: how many lines there are does not matter.
    """
    width = limit + len(newline)
    while last - at > limit:
        end = octets.rfind(newline, at, at + width)
        if end < 0:
            return True
        at = end + len(newline)
    return False


def size_of_all(octets: bytes, size_limit: int, line_limit: int) -> int | None:
    """
    The size of a content that came in one piece, as most do: its octets in plain form, if these are all of it and
    nothing else, no line begins with a dot but the last, and there is no fault in it; else `None`, and `Intake` is to
    be asked, who says the same of this one.
    """
    end = len(octets) - 5
    if (
        0 <= end <= line_limit
        and end + 2 <= size_limit
        and octets.endswith(b"\r\n.\r\n")
        and octets[0] != _DOT
        # One octet is found ten times as fast as three, and behind the header section many contents have no dot. From
        # behind each is found in a third of the time.
        and octets.rfind(b"\r\n.", 0, octets.rfind(b".", 0, end + 2) + 1) < 0
        and is_lines(octets)
    ):
        return end + 2
    return None


class Chunks:
    """
    One message's content as BDAT brings it (RFC 3030): plain octets, cut into chunks of announced sizes.

    Unless it was declared to be `binary` (BINARYMIME) content has lines like any other, so a CR or an LF alone is a
    fault here too: what we pass on by DATA could not say it.
    """

    __slots__ = (
        "_binary",
        "_cr",
        "_line",
        "_line_limit",
        "_size_limit",
        "count",
        "fault",
        "last",
        "refusal",
        "remaining",
        "size",
    )

    def __init__(self, *, size_limit: int, line_limit: int, binary: bool = False) -> None:
        self._binary = binary
        self._size_limit = size_limit
        self._line_limit = line_limit
        self._line = 0
        #: The last octet was a CR, which may yet be part of CR LF.
        self._cr = False
        self.fault: Reply | None = None
        self.size = 0
        #: Chunks so far.
        self.count = 0
        #: Of the chunk that comes in now: octets still to come, whether it is the last, and why it is passed over.
        self.remaining = 0
        self.last = False
        self.refusal: Reply | None = None

    def begin(self, size: int, last: bool, refusal: Reply | None) -> None:
        """A chunk has been announced. With a `refusal` its octets are only passed over."""
        self.count += 1
        self.remaining, self.last, self.refusal = size, last, refusal

    def take(self, input: bytes, at: int) -> Piece:
        """The next piece of the chunk, from position `at` of `input`."""
        octets = input[at : at + min(self.remaining, PIECE)]
        self.remaining -= len(octets)
        if self.refusal is None and octets:
            self._inspect(octets)
        return Piece(octets, len(octets))

    def end(self) -> None:
        """The last chunk has come."""
        if self.fault is not None:
            return
        if self._cr:
            self.fault = answers.BARE_NEWLINE
        elif self._line > self._line_limit:
            # It has no end, and so no CR that would not count.
            self.fault = answers.CONTENT_LINE_TOO_LONG

    def _inspect(self, octets: bytes) -> None:
        self.size += len(octets)
        if self.fault is not None:
            return
        if self.size > self._size_limit:
            self.fault = answers.MESSAGE_TOO_LARGE
            return
        if self._binary:
            return
        text = b"\r" + octets if self._cr else octets
        self._cr = text.endswith(b"\r")
        whole = text[:-1] if self._cr else text
        if not is_lines(whole):
            self.fault = answers.BARE_NEWLINE
        elif self._has_long_line(octets):
            self.fault = answers.CONTENT_LINE_TOO_LONG

    def _has_long_line(self, octets: bytes) -> bool:
        limit = self._line_limit + 1  # a CR may be its end
        first = octets.find(b"\n")
        if first < 0:
            self._line += len(octets)
            return self._line > limit
        if self._line + first > limit:
            return True
        last = octets.rfind(b"\n")
        self._line = len(octets) - last - 1
        return self._line > limit or _has_longer(octets, b"\n", first + 1, last, limit)


class Intake:
    """
    One message's content, from 354 to the terminator.

    `take` is called with the input and a position until `ended`, or until it returns a piece that used nothing:
    then more input is needed. `fault` and `size` are valid at the end.
    """

    __slots__ = (
        "_ending",
        "_lf_ended",
        "_line",
        "_line_limit",
        "_newline",
        "_size_limit",
        "_stuffed",
        "_tail",
        "ended",
        "fault",
        "size",
    )

    def __init__(self, *, lf_ended: bool, size_limit: int, line_limit: int) -> None:
        self._lf_ended = lf_ended
        self._newline = b"\n" if lf_ended else b"\r\n"
        self._stuffed = self._newline + b"."
        self._ending = self._stuffed + self._newline
        #: The last octets that were taken; content begins at the start of a line.
        self._tail = self._newline
        #: Octets of the unfinished line so far.
        self._line = 0
        self._line_limit = line_limit
        self._size_limit = size_limit
        #: The first thing that was wrong, as the reply to the end of content.
        self.fault: Reply | None = None
        #: The terminator has been taken.
        self.ended = False
        #: Octets in plain form, terminator and stuffing excluded.
        self.size = 0

    @property
    def hopeless(self) -> bool:
        """Twice the limit and no end: nobody needs to hear the rest of it."""
        return self.size > 2 * self._size_limit

    def take(self, input: bytes, at: int) -> Piece:
        """The next piece of `input` from position `at`."""
        limit = len(input)
        if limit - at > PIECE:
            limit = at + PIECE
        # One octet is found many times faster than three, and pieces without any dot are usual where content is large.
        dots = input.count(self._stuffed, at, limit) if input.find(b".", at, limit) >= 0 else 0
        end = self._find_end(input, at, limit, dots)
        if end >= 0:
            self.ended = True
            if end < limit:
                dots = input.count(self._stuffed, at, end)
        else:
            # A CR at the edge waits for what follows it, so that CR LF is always looked at whole.
            end = limit - 1 if input[limit - 1 : limit] == b"\r" and not self._lf_ended else limit
            if end == at:
                return Piece(b"", 0)
        octets = input[at:end]
        self._inspect(octets, end - at, dots)
        return Piece(octets.replace(b"\n", b"\r\n") if self._lf_ended else octets, end - at)

    def _find_end(self, input: bytes, at: int, limit: int, dots: int) -> int:
        """
        The position behind the terminator, or -1 if it does not end between `at` and `limit`, where so many lines
        begin with a dot. It is one of them, so most pieces need not be searched for it.
        """
        ending, tail, length = self._ending, self._tail, 3 if self._lf_ended else 5
        # It may have begun in what was taken before.
        edge = at + length - 1
        found = (tail + input[at : edge if edge < limit else limit]).find(ending)
        if found >= 0:
            return at + found + length - len(tail)
        if not dots:
            return -1
        if dots == 1 and limit - length >= at and input[limit - length : limit] == ending:
            return limit
        found = input.find(ending, at, limit)
        return found if found < 0 else found + length

    def _inspect(self, octets: bytes, length: int, dots: int) -> None:
        # Dots that were stuffed are no octets of the message (RFC 5321 section 4.5.2).
        size = self.size + length - dots
        if octets[:1] == b"." and self._tail.endswith(self._newline):
            size -= 1
        if self._lf_ended:
            size += octets.count(b"\n")
        if self.ended:
            size -= 2
        else:
            self._tail = (self._tail + octets[-5:])[-4:] if not self._lf_ended else (self._tail + octets[-3:])[-2:]
        self.size = size
        if self.fault is not None:
            return
        if size > self._size_limit:
            self.fault = answers.MESSAGE_TOO_LARGE
        elif self._has_bare_newline(octets):
            self.fault = answers.BARE_NEWLINE
        elif not (self.ended and self._line + length <= self._line_limit) and self._has_long_line(octets):
            # What ends here and is no longer than a line may be has none that is too long.
            self.fault = answers.CONTENT_LINE_TOO_LONG

    def _has_bare_newline(self, octets: bytes) -> bool:
        if self._lf_ended:
            return b"\r" in octets
        return not is_lines(octets)

    def _has_long_line(self, octets: bytes) -> bool:
        newline, limit = self._newline, self._line_limit
        first = octets.find(newline)
        if first < 0:
            self._line += len(octets)
            return self._line > limit
        if self._line + first > limit:
            return True
        last = octets.rfind(newline)
        self._line = len(octets) - last - len(newline)
        return self._line > limit or _has_longer(octets, newline, first + len(newline), last, limit)
