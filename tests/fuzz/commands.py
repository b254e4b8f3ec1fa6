"""One line of a client."""

from __future__ import annotations

import re
from typing import Final

from relay.mail.address import parse_address
from relay.smtp.commands import Grammar
from relay.smtp.events import Bdat, Hello, Help, Mail, Misspoken, Question, Rcpt, Verify
from relay.smtp.extensions import STRANGER
from relay.smtp.help import explain
from relay.smtp.profile import Profile
from tests.fuzz import naive

PROFILE: Final = Profile("mx.test")
EXTENDED: Final = PROFILE.grammar(STRANGER, extended=True)
PLAIN: Final = PROFILE.grammar(STRANGER, extended=False)
_CONTROLS: Final = re.compile(rb"[\x00-\x1f\x7f]")


def check(line: bytes) -> None:
    # The session hands out what stands before the LF.
    line = line.replace(b"\n", b"")
    for grammar in (EXTENDED, PLAIN):
        _is_harmless(line, grammar.read(line))
        _may_be_written_otherwise(line, grammar)
    extended, plain = EXTENDED.read(line), PLAIN.read(line)
    if not isinstance(plain, Misspoken):
        assert plain == extended, f"{plain} after HELO, {extended} after EHLO"


def _is_harmless(line: bytes, question: Question | Bdat) -> None:
    """What is understood has no character that could be taken for something else further on."""
    if not isinstance(question, Misspoken):
        assert not _CONTROLS.search(line), f"{question} from {line!r}"
        assert line.decode()
    match question:
        case Misspoken(reply):
            assert not reply.positive
            assert naive.is_one_reply(reply.wire), reply.wire
        case Hello(_, name):
            assert name.isascii()
            assert name.isprintable()
            assert " " not in name
            assert 0 < len(name) <= 255
        case Mail(reverse_path, size):
            assert re.match(rb" *MAIL +FROM:", line, re.IGNORECASE)
            assert reverse_path is not None or b"<>" in line
            assert (
                reverse_path is None or len(str(reverse_path)) > 254 or parse_address(str(reverse_path)) == reverse_path
            )
            assert size is None or 0 <= size < 10**20
        case Rcpt(recipient):
            assert re.match(rb" *RCPT +TO:", line, re.IGNORECASE)
            assert len(str(recipient)) > 254 or parse_address(str(recipient)) == recipient
        case Help(topic, commands):
            assert naive.is_one_reply(explain(topic, commands).wire)
        case Bdat(size):
            assert re.match(rb" *BDAT +[0-9]", line, re.IGNORECASE)
            assert 0 <= size < 10**15
        case Verify(text):
            assert text.strip()
        case _:
            pass


def _may_be_written_otherwise(line: bytes, grammar: Grammar) -> None:
    """White space at the end means nothing, nor does a verb's letter case (RFC 5321 sections 2.4 and 4.1.1)."""
    read = grammar.read(line)
    assert grammar.read(line + b"  ") == read
    verb, space, rest = line.partition(b" ")
    assert grammar.read(verb.swapcase() + space + rest) == read
