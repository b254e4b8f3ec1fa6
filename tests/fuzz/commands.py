"""One line of a client."""

from __future__ import annotations

import re
from typing import Final

from relay.mail.address import canonical_domain, parse_address
from relay.smtp.commands import Grammar
from relay.smtp.events import (
    Auth,
    Bdat,
    Expand,
    Hello,
    Help,
    Mail,
    Misspoken,
    Question,
    Rcpt,
    StartTls,
    TurnQueue,
    Verify,
    XClient,
)
from relay.smtp.extensions import ALL, STRANGER, Standing
from relay.smtp.help import explain
from relay.smtp.profile import Profile
from tests.fuzz import naive

PROFILE: Final = Profile("mx.test")
EXTENDED: Final = PROFILE.idiom(STRANGER).extended
PLAIN: Final = PROFILE.idiom(STRANGER).plain
#: Whoever may say everything there is, and the same by LMTP.
KNOWN: Final = Standing(secured=True, authenticated=True, trusted=True, introducing=True)
EVERYTHING: Final = Profile("mx.test", extensions=ALL).idiom(KNOWN).extended
LMTP: Final = Profile("mx.test", extensions=ALL, lmtp=True).idiom(KNOWN).extended
_CONTROLS: Final = re.compile(rb"[\x00-\x1f\x7f]")


def check(line: bytes) -> None:
    # The session hands out what stands before the LF.
    line = line.replace(b"\n", b"")
    for grammar in (EXTENDED, PLAIN, EVERYTHING, LMTP):
        _is_harmless(line, grammar.read(line))
        _may_be_written_otherwise(line, grammar)
    extended, plain = EXTENDED.read(line), PLAIN.read(line)
    if not isinstance(plain, Misspoken):
        assert plain == extended, f"{plain} after HELO, {extended} after EHLO"
    # Who may say more may say all that others may; only what HELP tells of differs, and what is offered.
    everything, lmtp = EVERYTHING.read(line), LMTP.read(line)
    if not isinstance(extended, Misspoken | Help | Hello):
        assert everything == extended, f"{extended} to a stranger, {everything} where all is known"
    assert isinstance(lmtp, Misspoken | Help | Hello) or lmtp == everything


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
            assert question.envid.isprintable()
            assert question.envid.isascii()
            assert question.hold_for is None or question.hold_until is None
            assert question.priority is None or -9 <= question.priority <= 9
            assert re.match(rb" *MAIL +FROM:", line, re.IGNORECASE)
            assert reverse_path is not None or b"<>" in line
            assert (
                reverse_path is None or len(str(reverse_path)) > 254 or parse_address(str(reverse_path)) == reverse_path
            )
            assert size is None or 0 <= size < 10**20
        case Rcpt(recipient):
            assert not re.search(r"[\x00-\x20\x7f]", question.wishes.orcpt)
            assert re.match(rb" *RCPT +TO:", line, re.IGNORECASE)
            assert len(str(recipient)) > 254 or parse_address(str(recipient)) == recipient
        case Help(topic, commands):
            assert naive.is_one_reply(explain(topic, commands).wire)
        case Bdat(size):
            assert re.match(rb" *BDAT +[0-9]", line, re.IGNORECASE)
            assert 0 <= size < 10**15
        case Verify(text) | Expand(text):
            assert text.strip()
        case StartTls():
            assert line.strip(b" ").upper() == b"STARTTLS"
        case Auth(mechanism, initial):
            words = line.strip(b" ").split(b" ", 1)[1].lstrip(b" ").split(b" ", 1)
            assert words[0].upper() == mechanism.encode()
            expected = None if len(words) == 1 else b"" if words[1] == b"=" else naive.base64(words[1])
            assert expected == initial, f"{initial!r} from {line!r}"
        case TurnQueue(domain):
            assert canonical_domain(domain) == domain
        case XClient(attributes):
            assert attributes
        case _:
            pass


def _may_be_written_otherwise(line: bytes, grammar: Grammar) -> None:
    """White space at the end means nothing, nor does a verb's letter case (RFC 5321 sections 2.4 and 4.1.1)."""
    read = grammar.read(line)
    assert grammar.read(line + b"  ") == read
    verb, space, rest = line.partition(b" ")
    assert grammar.read(verb.swapcase() + space + rest) == read
