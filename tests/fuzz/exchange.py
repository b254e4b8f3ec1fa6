"""A stranger, or somebody who knows a password, says what he likes in answer to AUTH."""

from __future__ import annotations

import re
import stringprep
import unicodedata
from typing import Final

from twisted.internet.task import Clock
from twisted.logger import Logger

from relay.net.auth_limits import FailureLimits, Limiter
from relay.net.clock import ReactorClock
from relay.net.waiting import start
from relay.reception.authentication import Authentication, Users
from relay.smtp import sasl
from relay.smtp.sasl import MECHANISMS, Channel
from relay.smtp.sasl_lines import Cancelled, Malformed, decode, decode_initial, encode
from tests.fuzz import naive
from tests.fuzz.given import Given
from tests.stage import PASSWORDS
from tests.stage import Users as People

#: Flags: the mechanism (three bits), whether there is an initial response, a certificate, bindings of the channel, and
#: what nobody can say just now.
_MECHANISM, INITIAL, SUBJECT, BOUND, AWAY = 0, 3, 4, 5, 6
#: What stands between two responses.
BETWEEN: Final = b"\r\n"
_CODES: Final = (235, 334, 421, 454, 501, 504, 535)
_PEOPLE: Final = People()


class _Away(People):
    async def _think(self) -> None:
        raise ZeroDivisionError("a mistake")


def check(data: bytes) -> None:
    given = Given.of(data)
    lines = given.octets.split(BETWEEN)
    for line in lines:
        _is_strict(line)
    exchange(given, lines)


def _is_strict(line: bytes) -> None:
    """Base64 is read as somebody else reads it, and written so that it can be read."""
    octets = b"" if line == b"=" else naive.base64(line)
    read = decode(line)
    if line == b"*":
        assert isinstance(read, Cancelled)
    else:
        assert read == octets if octets is not None else isinstance(read, Malformed), f"{read} from {line!r}"
    initial = decode_initial(line)
    expected = b"" if line == b"=" else (octets if line else None)
    assert initial == expected if expected is not None else isinstance(initial, Malformed)
    assert naive.base64(encode(line)) == line


def exchange(given: Given, lines: list[bytes]) -> None:
    """The lines are responses, decoded; each attempt ends as it ends, and the next line begins another one."""
    limiter = Limiter(ReactorClock(Clock(), lambda: 1.7e9), FailureLimits(session=3, address=5))
    people = _Away() if given.has(AWAY) else _PEOPLE
    users = Users(people, limiter, MECHANISMS)
    subject = "ann" if given.has(SUBJECT) else None
    bindings = {"tls-exporter": b"k" * 32} if given.has(BOUND) else {}
    offer = users.offer(Channel(bindings, subject))
    log = Logger(observer=lambda event: None)
    authentication = Authentication(users, offer, "192.0.2.7", log)
    mechanism = (*MECHANISMS, "X", "", "plain")[given.flags >> _MECHANISM & 7]
    code, said = 0, []
    for number, line in enumerate(lines):
        if code == 334:
            said.append(line)
            reply = start(authentication.respond(line))
        elif number and given.refuses(number):
            authentication.cancel()
            continue
        else:
            said = [line] if given.has(INITIAL) else []
            reply = start(authentication.begin(mechanism, line if given.has(INITIAL) else None))
        code = reply.code
        assert code in _CODES, reply
        assert naive.is_one_reply(reply.wire)
        if code == 235:
            assert _has_proved(mechanism.upper(), said, subject) == authentication.user, f"{said} is nobody's proof"
            assert not given.has(AWAY) or mechanism == "EXTERNAL"
            return
        assert authentication.user is None
        if code == 421:
            break
        if code == 454:
            assert given.has(AWAY)
        if code == 504:
            assert mechanism.upper() not in offer.mechanisms
        if code != 334:
            assert reply in (sasl.MALFORMED, sasl.INVALID, sasl.UNAVAILABLE, sasl.UNKNOWN_MECHANISM)
    authentication.lost()
    assert limiter._under_way == {}, "an attempt is counted for ever"


def _has_proved(mechanism: str, said: list[bytes], subject: str | None) -> str | None:
    """Whom these responses prove, for somebody who has read RFC 4616 and 4422 and compares octets."""
    texts = [line.decode("utf-8") for line in said]
    match mechanism, texts:
        case "PLAIN", [message]:
            authzid, user, password = message.split("\0")
        case "LOGIN", [user, password]:
            authzid = ""
        case "EXTERNAL", [authzid]:
            return subject if _same(authzid or str(subject), str(subject)) else None
        case _:
            return None  # nobody gets through SCRAM by chance
    for known, secret in PASSWORDS.items():
        if _same(user, known) and password == secret and (not authzid or _same(authzid, known)):
            return known
    return None


def _same(one: str, other: str) -> bool:
    """Whether SASLprep makes the same of both (RFC 4013 section 2); what it prohibits is nobody's name."""
    return _prepared(one) == _prepared(other)


def _prepared(text: str) -> str:
    kept = "".join(character for character in text if not stringprep.in_table_b1(character))
    return unicodedata.normalize("NFKC", re.sub(r"\s", " ", kept))
