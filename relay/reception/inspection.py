"""A look at the header section as it comes in: is it too large, and has the message been here too often?"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final, Self

from attrs import Factory, field, frozen

from relay.config.limits import Limits
from relay.mail.header import count_received, has_field, section_end
from relay.mail.message_id import message_id
from relay.mail.reply import Reply
from relay.smtp import answers

#: RFC 5322 section 2.2: what begins a header field.
_FIELD: Final = re.compile(rb"[!-9;-~]+[ \t]*:")
_NEW_FIELD: Final = re.compile(rb"\r\n(?![ \t])")


@frozen
class Bounds:
    """How much a header section may be: those of `Limits` that are about it."""

    octets: int
    field_octets: int
    fields: int
    hops: int
    #: With no more octets than this, and fewer lines than that, it is not too much by any count.
    little: int = field(init=False, default=Factory(lambda self: min(self.octets, self.field_octets), takes_self=True))
    few: int = field(init=False, default=Factory(lambda self: min(self.hops, self.fields + 1), takes_self=True))

    @classmethod
    def of(cls, limits: Limits) -> Self:
        return cls(limits.header, limits.header_field, limits.header_fields, limits.hops)


class Inspection:
    """
    Takes the content's pieces until the header section has ended, and keeps nothing of it afterwards unless it `keeps`
    the section for others to look at.

    Memory is bounded by the limit of a header section, time is linear in it.
    """

    #: All of the header section was seen.
    done: bool = False
    #: Why the message cannot be accepted, or `None`.
    fault: Reply | None = None
    #: The content has no header section, not even an empty one: it is text, as typed by hand.
    headless: bool = False
    #: Those that were sought, and that it has not.
    lacking: tuple[bytes, ...] = ()
    #: The Message-ID, or "".
    message_id: str = ""
    #: Whether the section is kept, and it, in the form in which it came and with the empty line; b"" if there is none.
    keeps: bool = False
    section: bytes = b""
    #: What has come of it so far, if more than one piece is needed.
    _section: bytearray | None = None

    def __init__(self, bounds: Bounds, sought: tuple[bytes, ...] = ()) -> None:
        """`sought`: names of fields, in lower case, that the message should have."""
        self._bounds = bounds
        self._sought = sought

    def take(self, octets: bytes) -> None:
        """A piece of the content in wire form."""
        if self.done:
            return
        section = self._section
        if section is None:
            # Nearly always all of it is in the first piece.
            end = octets.find(b"\r\n\r\n")
            if end >= 0 and _FIELD.match(octets) is not None:
                self._look_at(octets[: end + 4])
                return
            self._section = section = bytearray()
        seen = len(section)
        section += octets
        whole = section_end(section, seen)
        if whole is not None:
            self._finish(bytes(section[:whole]))
        elif len(section) > self._bounds.octets:
            self._finish(bytes(section))

    def end(self) -> None:
        """The content has ended; if no empty line came, all of it was the header section."""
        if not self.done:
            self._finish(bytes(self._section or b""))

    def amend(self, section: bytes) -> None:
        """Policies have made this of the header section, in plain form: what it says of itself now counts."""
        self.lacking = tuple(name for name in self.lacking if not has_field(section, name))
        self.message_id = message_id(section)

    def _finish(self, section: bytes) -> None:
        self._section = None
        if _FIELD.match(section) is None and section[:2] != b"\r\n":
            # Of text there is nothing to inspect.
            self.done = self.headless = True
            self.lacking = self._sought
        else:
            self._look_at(section)

    def _look_at(self, section: bytes) -> None:
        self.done = True
        if self.keeps:
            self.section = section
        if self._sought:
            self.lacking = tuple(name for name in self._sought if not has_field(section, name))
        bounds = self._bounds
        # One octet is counted in half the time of two; there are no more lines than that.
        octets, lines = len(section), section.count(b"\n")
        if lines >= bounds.few or octets > bounds.little:
            self.fault = self._judge(section, octets, lines)
        self.message_id = message_id(section)

    def _judge(self, section: bytes, octets: int, lines: int) -> Reply | None:
        bounds = self._bounds
        if octets > bounds.octets:
            return answers.HEADER_TOO_LARGE
        # Folded lines are no fields of their own.
        if lines > bounds.fields or octets > bounds.field_octets:
            end = octets - 2 if section.endswith(b"\r\n\r\n") else octets
            starts = [0, *(match.end() for match in _NEW_FIELD.finditer(section, 0, end)), end]
            sizes = [after - before for before, after in pairwise(starts)]
            if sum(size > 0 for size in sizes) > bounds.fields or max(sizes) > bounds.field_octets:
                return answers.HEADER_TOO_LARGE
        # The last line may lack its end.
        if lines >= bounds.hops and count_received(section) > bounds.hops:
            return answers.TOO_MANY_HOPS
        return None
