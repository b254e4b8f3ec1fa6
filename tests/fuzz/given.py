"""How a target reads its input: some octets that say how, and then what a stranger has said."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

#: How many octets at the beginning are settings.
SETTINGS = 8


@frozen
class Given:
    """One input. Any octets are one, so that a fuzzer may do with them as it likes."""

    octets: bytes
    #: What each bit means is the target's.
    flags: int = 0
    #: One bit for each answer in turn, and from the beginning again: 1 is no.
    refusals: int = 0
    #: How long the pieces are into which the network cuts, in turn; 0 is all that is left.
    cuts: tuple[int, ...] = (0,)

    @classmethod
    def of(cls, data: bytes) -> Given:
        settings = data[:SETTINGS].ljust(SETTINGS, b"\0")
        return cls(data[SETTINGS:], settings[0], settings[1], tuple(settings[2:]))

    @property
    def data(self) -> bytes:
        """The input of which this is made: for seeds."""
        cuts = (self.cuts * SETTINGS)[: SETTINGS - 2]
        return bytes((self.flags, self.refusals, *cuts)) + self.octets

    def has(self, flag: int) -> bool:
        """Whether this bit of the flags is set."""
        return bool(self.flags >> flag & 1)

    def refuses(self, number: int) -> bool:
        """Whether the answer of this number is no."""
        return bool(self.refusals >> number % 8 & 1)

    @property
    def pieces(self) -> list[bytes]:
        """What was said, as the network cuts it."""
        return list(self.cut(self.octets))

    def cut(self, octets: bytes) -> Iterator[bytes]:
        """These octets, cut."""
        at = number = 0
        while at < len(octets):
            length = self.cuts[number % len(self.cuts)] or len(octets)
            yield octets[at : at + length]
            at += length
            number += 1
