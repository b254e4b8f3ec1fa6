"""Octets behind a 354: where they end, what is wrong with them, and how they are sent on."""

from __future__ import annotations

from collections.abc import Iterable

from relay.mail.envelope import Form
from relay.mail.reply import Reply
from relay.smtp import answers
from relay.smtp.intake import Intake
from relay.smtp.octets import plain, wire
from relay.smtp.outgoing import ContentDamaged, outgoing
from tests.fuzz import naive
from tests.fuzz.given import Given

#: Flags: a person at netcat; limits that are soon met.
LENIENT, TIGHT = range(2)

HEAD = b"Received: from a\r\n\tby b; now\r\n"


def check(data: bytes) -> None:
    given = Given.of(data)
    _comes_in(given)
    _goes_out_plain(given)
    _goes_out_as_it_came(given)
    _is_plain_and_wire(given)


def _comes_in(given: Given) -> None:
    """What is taken is what somebody else takes, wherever it is cut."""
    newline = b"\n" if given.has(LENIENT) else b"\r\n"
    expected = naive.read_content(given.octets, newline)
    size_limit, line_limit = (100, 20) if given.has(TIGHT) else (10**6, 10**6)
    for pieces in ([given.octets], given.pieces):
        intake, taken, used = _take(pieces, given.has(LENIENT), size_limit, line_limit)
        assert intake.ended == (expected.used is not None)
        if expected.used is None:
            came = given.octets.replace(b"\n", b"\r\n") if given.has(LENIENT) else given.octets
            assert taken in (came, came.removesuffix(b"\r"))
            continue
        assert (used, taken) == (expected.used, expected.wire)
        assert intake.size == len(expected.plain)
        assert b"".join(plain(given.cut(taken))) == expected.plain
        wrong: set[Reply | None] = set()
        if expected.has_bare_newline:
            wrong.add(answers.BARE_NEWLINE)
        if expected.longest > line_limit:
            wrong.add(answers.CONTENT_LINE_TOO_LONG)
        if len(expected.plain) > size_limit:
            wrong.add(answers.MESSAGE_TOO_LARGE)
        assert intake.fault in (wrong or {None}), f"{intake.fault} and not one of {wrong}"
        if intake.fault is None:
            _leaves(HEAD + expected.plain, HEAD, Form.WIRE, given.cut(taken))


def _take(pieces: Iterable[bytes], lf_ended: bool, size_limit: int, line_limit: int) -> tuple[Intake, bytes, int]:
    intake = Intake(lf_ended=lf_ended, size_limit=size_limit, line_limit=line_limit)
    taken, waiting, used = [], b"", 0
    for piece in pieces:
        waiting += piece
        while not intake.ended:
            got = intake.take(waiting, 0)
            if not got.used:
                break
            taken.append(got.octets)
            used += got.used
            waiting = waiting[got.used :]
        if not intake.ended:
            assert len(waiting) <= 1, "content is kept back"
    return intake, b"".join(taken), used


def _goes_out_plain(given: Given) -> None:
    """A message in plain form, whatever it is, leaves as one message, or not at all."""
    if naive.is_bare(given.octets):
        _never_ends(HEAD, Form.PLAIN, given.pieces)
    else:
        _leaves(HEAD + given.octets, HEAD, Form.PLAIN, given.pieces)


def _goes_out_as_it_came(given: Given) -> None:
    """So does what is said to be in wire form, also if it is not."""
    expected = naive.read_content(given.octets)
    if expected.used == len(given.octets):
        if not expected.has_bare_newline:
            _leaves(HEAD + expected.plain, HEAD, Form.WIRE, given.pieces)
    else:
        _never_ends(HEAD, Form.WIRE, given.pieces)


def _leaves(message: bytes, head: bytes, form: Form, blocks: Iterable[bytes]) -> None:
    """The next host reads this message, no more and no less."""
    sent = b"".join(outgoing(head, form, blocks))
    read = naive.read_content(sent)
    assert read.used == len(sent), f"{sent!r} ends after {read.used}"
    assert not read.has_bare_newline
    whole = message if not message or message.endswith(b"\r\n") else message + b"\r\n"
    assert read.plain == whole, f"{read.plain!r} instead of {whole!r}"


def _never_ends(head: bytes, form: Form, blocks: Iterable[bytes]) -> None:
    """The next host reads no message."""
    gone = bytearray()
    try:
        for piece in outgoing(head, form, blocks):
            gone += piece
    except ContentDamaged:
        assert naive.read_content(bytes(gone)).used is None, "damaged content has left with a terminator"
    else:
        raise AssertionError("damaged content has left")


def _is_plain_and_wire(given: Given) -> None:
    """Each of the two forms is made of the other as the RFC has it."""
    message = given.octets
    stuffed = naive.stuff(message)
    assert b"".join(wire(given.cut(message))) == stuffed
    whole = message if not message or message.endswith(b"\r\n") else message + b"\r\n"
    assert b"".join(plain(given.cut(stuffed))) == whole
