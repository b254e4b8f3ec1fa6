"""The header section of a stranger's message."""

from __future__ import annotations

import re
from typing import Final

from attrs import evolve

from relay.config.limits import Limits
from relay.mail.header import count_received, field_body, section, section_end
from relay.reception.inspection import Bounds, Inspection
from relay.smtp import answers
from tests.fuzz.given import Given

LIMITS: Final = Limits(header=1024, header_field=1000, header_fields=8, hops=3)


def check(data: bytes) -> None:
    given = Given.of(data)
    if not given.octets.endswith(b"\r\n"):
        # As all content does that has come to its end.
        given = evolve(given, octets=given.octets + b"\r\n")
    _is_inspected(given)
    _is_read(given)


def _is_inspected(given: Given) -> None:
    """A fault is one wherever the network cuts, and where somebody else finds it too."""
    whole, cut = _inspect([given.octets]), _inspect(given.pieces)
    assert (whole.fault, whole.headless) == (cut.fault, cut.headless)
    assert not cut._section, "what was inspected is kept"
    octets = _section(given.octets)
    headless = not (re.match(rb"[!-9;-~]+[ \t]*:", octets) or octets.startswith(b"\r\n"))
    assert whole.headless == headless
    if headless:
        assert whole.fault is None
        return
    expected = None
    fields = _fields(octets)
    if len(octets) > LIMITS.header or len(fields) > LIMITS.header_fields or max(map(len, fields), default=0) > 1000:
        expected = answers.HEADER_TOO_LARGE
    elif _received(fields) > LIMITS.hops:
        expected = answers.TOO_MANY_HOPS
    assert whole.fault is expected, f"{whole.fault} instead of {expected}: {fields}"


def _inspect(pieces: list[bytes]) -> Inspection:
    inspection = Inspection(Bounds.of(LIMITS))
    for piece in pieces:
        inspection.take(piece)
        assert len(inspection._section or b"") <= LIMITS.header, "more is kept than a header section may be"
    inspection.end()
    return inspection


def _is_read(given: Given) -> None:
    """The parts of it that we look at are those that somebody else finds."""
    octets = _section(given.octets)
    assert (section_end(given.octets) or len(given.octets)) == len(octets)
    found = section(given.pieces)
    fields = _fields(octets)
    assert found == b"".join(fields) if section_end(given.octets) else found == given.octets
    assert count_received(found) == _received(fields)
    for name in (b"message-id", b"auto-submitted", b"a"):
        bodies = [field.partition(b":")[2] for field in fields if _name(field) == name]
        assert field_body(found, name) == (_unfolded(bodies[0]) if bodies else None)


def _section(octets: bytes) -> bytes:
    """Up to and with the first empty line."""
    lines = octets.split(b"\r\n")
    taken = []
    for line in lines[:-1]:
        taken.append(line + b"\r\n")
        if not line:
            return b"".join(taken)
    return octets


def _fields(octets: bytes) -> list[bytes]:
    """Each with its folded lines and its end."""
    if octets.endswith(b"\r\n\r\n") or octets == b"\r\n":
        octets = octets[:-2]
    fields: list[bytes] = []
    for line in re.findall(rb"(?s).*?\r\n", octets):
        if line[:1] in (b" ", b"\t") and fields:
            fields[-1] += line
        else:
            fields.append(line)
    return fields


def _name(field: bytes) -> bytes:
    line = field.split(b"\r\n")[0]
    return line.partition(b":")[0].rstrip(b" \t").lower() if b":" in line else b""


def _received(fields: list[bytes]) -> int:
    return sum(_name(field) == b"received" for field in fields)


def _unfolded(body: bytes) -> bytes:
    return body.replace(b"\r\n", b"").strip(b" \t")
