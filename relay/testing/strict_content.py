"""Content as a strict server reads it, for `FakeExchange`."""

from __future__ import annotations

import re
from collections.abc import Callable

from attrs import define, field

_BDAT = re.compile(r"BDAT ([0-9]{1,20})( LAST)?\Z")


@define
class Dotted:
    """What comes behind 354."""

    wire: bytearray = field(factory=bytearray)

    def take(self, octets: bytes) -> bytes | None:
        """What stands behind the terminator; `None` as long as that has not come."""
        before = len(self.wire)
        self.wire += octets
        if self.wire.startswith(b".\r\n"):
            end = 0
        else:
            end = self.wire.find(b"\r\n.\r\n", max(0, before - 4)) + 2
            if end < 2:
                return None
        rest = bytes(self.wire[end + 3 :])
        del self.wire[end:]
        return rest

    def message(self, complain: Callable[[str], object]) -> bytes:
        """Un-stuffed, without the terminator."""
        lines = bytes(self.wire).split(b"\r\n")
        for at, line in enumerate(lines):
            if b"\r" in line or b"\n" in line:
                complain(f"a CR or LF alone in content: {line[:40]!r}")
            if line.startswith(b"."):
                if not line.startswith(b".."):
                    complain(f"a dot that was not doubled: {line[:40]!r}")
                lines[at] = line[1:]
        return b"\r\n".join(lines)


@define
class Chunk:
    """What comes behind BDAT (RFC 3030): so many octets, and no reply before the last of them."""

    command: str
    size: int
    last: bool
    octets: bytearray = field(factory=bytearray)

    @classmethod
    def read(cls, command: str) -> Chunk | None:
        """`None` if the command is malformed."""
        match = _BDAT.match(command)
        return match and cls(command, int(match[1]), match[2] is not None)

    def take(self, octets: bytes) -> bytes | None:
        """What stands behind the chunk; `None` as long as it is not complete."""
        missing = self.size - len(self.octets)
        self.octets += octets[:missing]
        return octets[missing:] if len(self.octets) == self.size else None
