"""
Notices: what a sender is told about a message that we had accepted (RFC 3464, for internationalized mail RFC 6533).

One pure function, `compose`: the date, the identifiers and the octets that are quoted are handed in, and the same
arguments make the same octets. They are assembled here and not by the standard library's `email`, which
folds and re-encodes what we quote; its parser is what the tests read them with.

Nothing that somebody else wrote (an address, a reply, a header) can end a field or a part: texts are made printable,
what is quoted is encoded where its octets need it, and the boundary is chosen so that it does not occur.
"""

from __future__ import annotations

import re
from binascii import b2a_qp
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum

from attrs import field, frozen

from relay.mail.address import Address, literal
from relay.mail.reply import printable
from relay.mail.trace import date

CRLF = b"\r\n"
#: RFC 5322 section 2.1.1, without CRLF.
LINE_OCTETS = 998
#: Where our own text and fields are folded.
_FOLD = 76
#: RFC 6533 section 3, `QCHAR`: what stands for itself in `utf-8-addr-xtext`.
_PRINTABLE = frozenset(map(chr, range(0x21, 0x7F)))
_QCHAR = _PRINTABLE - frozenset("\\+=")
#: `EmbeddedUnicodeChar`.
_EMBEDDED = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")


class Action(Enum):
    """What became of a recipient's copy (RFC 3464 section 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


@frozen
class Told:
    """What the sender is told of one recipient."""

    #: As the client named it: RFC 3464 section 2.3.2 wants the address as it was when we accepted the message, and
    #: where an alias leads is not the sender's business.
    recipient: Address
    action: Action
    #: RFC 3463.
    status: str
    #: Why, in words.
    because: str
    #: The reply of the server at the other end, word for word, or "".
    diagnostic: str = ""
    #: That server, or "": `mx.example.net[192.0.2.1]:25`.
    peer: str = ""
    #: When it was tried last: seconds since the epoch, or `None` where that says nothing.
    last_attempt: float | None = None
    #: Until when it will be tried, for `Action.DELAYED`.
    will_retry_until: float | None = None
    #: What the sender's own system called the recipient (the ORCPT parameter, RFC 3461), `type;address` without xtext,
    #: or "".
    original: str = ""


@frozen
class Quoted:
    """What is returned of the message: its header section, or all of it."""

    octets: bytes = b""
    whole: bool = False


@frozen
class Notice:
    """All that a notice is made of."""

    #: Ours: the Reporting-MTA.
    hostname: str
    #: The reverse-path of the message.
    to: Address
    told: tuple[Told, ...] = field()
    quoted: Quoted
    #: The queue id of the message it is about.
    about: str
    #: When that was accepted: seconds since the epoch, as the calendar says.
    arrived: float
    #: When the notice is written.
    when: float
    #: Unique to this notice: the left side of its Message-ID, and its boundary.
    id: str
    #: The Message-ID of the message, or "", as its header has it.
    in_reply_to: str = ""
    #: The sender's own name for the message (the ENVID parameter, RFC 3461), or "".
    envelope_id: str = ""
    #: When it was to be delivered (RFC 2852 section 5), and until when it was held (RFC 4865 section 5.1.2), or `None`.
    deliver_by: float | None = None
    release: float | None = None
    #: The seconds for which it was to be held, if that is how it was said.
    hold_for: int | None = None

    @told.validator
    def _tells_something(self, _attribute: object, told: tuple[Told, ...]) -> None:
        if not told:
            raise ValueError("a notice is about at least one recipient")

    @property
    def smtputf8(self) -> bool:
        """
        Whether it must be sent with SMTPUTF8 and 8BITMIME (RFC 6531).

        Exactly if its recipient's address needs that. Where it does not, non-ASCII addresses inside are written in
        ASCII (RFC 6533 section 3), since nothing says that the sender's host can take more.
        """
        return not self.to.ascii


def compose(notice: Notice) -> bytes:
    """The notice in plain form: lines end with CRLF and have at most 998 octets, and most are far shorter."""
    parts = [_human(notice), _machine(notice)]
    if notice.quoted.octets:
        parts.append(_returned(notice))
    boundary = _boundary(notice.id, parts)
    mark = b"--" + boundary
    out = [*_fields(notice, boundary.decode("ascii")), b""]
    for part in parts:
        out += [mark, part]
    out += [mark + b"--", b""]
    return CRLF.join(out)


# The header section.


def _fields(notice: Notice, boundary: str) -> Iterator[bytes]:
    charset = "utf-8" if notice.smtputf8 else "ascii"
    # RFC 3464 leaves the words to us.
    subjects = {
        Action.FAILED: "Your message could not be delivered",
        Action.DELAYED: "Your message is delayed, and will be tried again",
        Action.DELIVERED: "Your message was delivered",
        Action.RELAYED: "Your message was handed on",
        Action.EXPANDED: "Your message was delivered to a list of recipients",
    }
    actions = {told.action for told in notice.told}
    subject = subjects.get(next(iter(actions)), "") if len(actions) == 1 else ""
    lines = [
        f"From: Mail delivery <MAILER-DAEMON@{_atom(notice.hostname)}>",
        f"To: <{notice.to}>",
        f"Subject: {subject or 'What became of your message'}",
        f"Date: {date(notice.when)}",
        f"Message-ID: <{_atom(notice.id)}@{_atom(notice.hostname)}>",
    ]
    parent = _message_id(notice.in_reply_to)
    if parent:
        # RFC 3834 section 3.1.5.
        lines += [f"In-Reply-To:{_break(parent)}{parent}", f"References:{_break(parent)}{parent}"]
    report = "global-delivery-status" if notice.smtputf8 else "delivery-status"
    lines += [
        # RFC 3834 section 5: so that no program answers it.
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        # RFC 6533 section 6 keeps the report-type of RFC 6522 and calls it by the type of its second part.
        f"Content-Type: multipart/report; report-type={report};",
        f'\tboundary="{boundary}"',
    ]
    for line in lines:
        yield line.encode(charset, "replace")


def _message_id(text: str) -> str:
    """A `msg-id` that is harmless to repeat, or ""."""
    fits = text.startswith("<") and text.endswith(">") and 3 < len(text) <= 250
    return text if fits and all("!" <= c <= "~" for c in text) and text.count("<") == text.count(">") == 1 else ""


def _break(text: str) -> str:
    return " " if len(text) < _FOLD - 13 else "\r\n\t"


def _boundary(id: str, parts: list[bytes]) -> bytes:
    """
    At most 70 characters (RFC 2046 section 5.1.1), and found in no part: the sender of a message could
    know how we make them.
    """
    boundary = f"=_{_atom(id)[:40]}".encode("ascii")
    extra, chosen = 0, boundary
    while any(b"--" + chosen in part for part in parts):
        extra += 1
        chosen = boundary + f"_{extra}".encode("ascii")
    return chosen


# The part for people.


def _human(notice: Notice) -> bytes:
    text = "\n".join(_sentences(notice))
    octets = text.encode("utf-8").replace(b"\n", CRLF)
    charset = "us-ascii" if text.isascii() else "utf-8"
    return _part(f"text/plain; charset={charset}", octets, eight_bit=notice.smtputf8)


def _sentences(notice: Notice) -> Iterator[str]:
    yield f"This is the mail relay at {notice.hostname}."
    yield ""
    for action in Action:
        told = [one for one in notice.told if one.action is action]
        if told:
            yield from _folded(_OPENINGS[action])
            yield ""
            for one in told:
                yield from _about(one)
    yield from _folded(
        f"The message reached us on {date(notice.arrived)}; here it had the id {notice.about}, by which "
        f"postmaster@{notice.hostname} finds it in the records."
    )
    if notice.quoted.octets:
        yield ""
        yield "The message itself is attached." if notice.quoted.whole else "Its header is attached, its text is not."
    yield ""


_OPENINGS = {
    Action.FAILED: "A message that you sent could not be delivered to the recipients below, and it will not be tried "
    "again. Recipients that are not named here are not concerned.",
    Action.DELAYED: "A message that you sent has not been delivered yet to the recipients below. You need not do "
    "anything: it will be tried again.",
    Action.DELIVERED: "A message that you sent has been delivered to:",
    Action.RELAYED: "A message that you sent has been handed on to a server that does not say what becomes of it, for:",
    Action.EXPANDED: "A message that you sent has gone to all who stand behind these addresses:",
}


def _about(told: Told) -> Iterator[str]:
    yield f"  {told.recipient}"
    if told.because:
        yield from _folded(f"{_capital(printable(told.because))}.", "      ")
    if told.peer:
        yield from _folded(f"The other server was {printable(told.peer)}.", "      ")
    if told.diagnostic:
        yield from _folded(f"{'It' if told.peer else 'This relay'} said: {printable(told.diagnostic)}", "      ")
    if told.action is Action.FAILED:
        yield from _folded(advice(told.status) if told.peer or not told.diagnostic else _OUR_OWN_WORD, "      ")
    if told.will_retry_until is not None:
        yield from _folded(f"It will be tried until {date(told.will_retry_until)}.", "      ")
    yield ""


def advice(status: str) -> str:
    """What the sender of a message that failed can do, by what its status says (RFC 3463)."""
    _, _, rest = status.partition(".")
    subject = rest.partition(".")[0]
    return _ADVICE.get(rest) or _ADVICE.get(subject) or _ADVICE[""]


#: Where it was we who have refused it behind the 250.
_OUR_OWN_WORD = "Please ask the postmaster of this relay."

_ADVICE = {
    "1": "Please look for a typing mistake in the address, or ask the recipient for another one.",
    "1.10": "The domain says that it takes no mail at all. Please ask the recipient for another address.",
    "2": "Please tell the recipient by other means that the mailbox takes no mail.",
    "2.2": "The mailbox is full. Please tell the recipient by other means, and send the message again later.",
    "2.3": "The message is too large for this mailbox. Please send it in a smaller form.",
    "3.4": "The message is too large for the other server. Please send it in a smaller form.",
    "3": "The mail system there has a problem of its own. Please send the message again later.",
    "4": "The recipient's mail servers could not be reached as they should. Please send the message again later, or "
    "tell the recipient by other means.",
    "4.6": "Mail for this address runs in a circle. Only the postmaster of the recipient's domain can mend that.",
    "4.7": "The message was to be delivered within a certain time, and that is over. Please send it again if it still "
    "matters, and give it more time.",
    "6": "The other side cannot take a message of this form. Please send it in a simpler form, for example as "
    "plain text.",
    "6.7": "The other side cannot take mail that has such an address in it. Please ask for one in plain letters.",
    "7.10": "The message was to be encrypted on its whole way, and the other side cannot do that. Please send it "
    "without that wish, or tell the recipient by other means.",
    "7.30": "The message was to be encrypted on its whole way, and the other side does not promise that. Please send "
    "it without that wish, or tell the recipient by other means.",
    "7": "A rule of the other side forbids it. The recipient, or the postmaster there, can say what has to change.",
    "": "Please ask the postmaster of the recipient's domain, and show this message.",
}


# The part for programs.


def _machine(notice: Notice) -> bytes:
    fields = [
        *([f"Original-Envelope-Id: {printable(notice.envelope_id)}"] if notice.envelope_id else ()),
        f"Reporting-MTA: dns; {notice.hostname}",
        f"Arrival-Date: {date(notice.arrived)}",
        *([f"Deliver-By-Date: {date(notice.deliver_by)}"] if notice.deliver_by is not None else ()),
        *([f"Future-Release-Request: {_release(notice)}"] if notice.release is not None else ()),
        f"X-Relay-Queue-Id: {printable(notice.about)}",
    ]
    for told in notice.told:
        fields += ["", *_per_recipient(told, notice.smtputf8)]
    octets = "\r\n".join([*fields, ""]).encode("utf-8")
    kind = "message/global-delivery-status" if notice.smtputf8 else "message/delivery-status"
    return _part(kind, octets, eight_bit=notice.smtputf8)


def _host(peer: str) -> str:
    """The name of a `Peer` that is given as text; of one that has none but its address that, as a literal."""
    name, _, rest = peer.partition("[")
    try:
        return literal(name or rest.partition("]")[0])
    except ValueError:
        return name or peer


def _per_recipient(told: Told, unicode: bool) -> Iterator[str]:
    """RFC 3464 section 2.3, in its order."""
    if told.original:
        yield f"Original-Recipient: {_original(told.original, unicode)}"
    yield f"Final-Recipient: {_typed(told.recipient, unicode)}"
    yield f"Action: {told.action.value}"
    yield f"Status: {told.status}"
    if told.peer:
        yield f"Remote-MTA: dns; {printable(_host(told.peer))}"
    if told.diagnostic:
        # RFC 3464 section 2.3.6: the type `smtp` is for replies; what else stands here came from no server.
        kind = "smtp" if told.diagnostic[:3].isdigit() else "X-Relay"
        yield from _folded(f"Diagnostic-Code: {kind}; {printable(told.diagnostic)}", "", "\t")
    if told.last_attempt is not None:
        yield f"Last-Attempt-Date: {date(told.last_attempt)}"
    if told.will_retry_until is not None:
        yield f"Will-Retry-Until: {date(told.will_retry_until)}"


def _release(notice: Notice) -> str:
    """RFC 4865 section 5.1.2: as the client has asked for it."""
    return f"until;{_timestamp(notice.release or 0.0)}" if notice.hold_for is None else f"for;{notice.hold_for}"


def _timestamp(when: float) -> str:
    """RFC 3339, in UTC."""
    return datetime.fromtimestamp(int(when), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _typed(address: Address, unicode: bool) -> str:
    """`rfc822; a@b`, or for a non-ASCII address the type of RFC 6533 section 3, in ASCII where it must be."""
    if address.ascii:
        return f"rfc822; {printable(str(address))}"
    return f"utf-8; {address if unicode else _embedded(str(address), _QCHAR)}"


def _original(orcpt: str, unicode: bool) -> str:
    """
    What ORCPT said, decoded once (RFC 3461 section 6.3 (d)). An address of RFC 6533 is in UTF-8 where that may stand,
    and in ASCII where it may not.
    """
    kind, _, address = orcpt.partition(";")
    if kind.lower() != "utf-8":
        return f"{printable(kind)};{printable(address)}"
    if unicode:
        plain = _EMBEDDED.sub(lambda found: _character(found[1]) or found[0], address)
        return f"utf-8;{''.join(c if c.isprintable() else '?' for c in plain)}"
    return f"utf-8;{_embedded(address, _PRINTABLE)}"


def _embedded(text: str, as_it_is: frozenset[str]) -> str:
    """In the notation of `EmbeddedUnicodeChar` (RFC 6533 section 3)."""
    return "".join(c if c in as_it_is else "\\x{%02X}" % ord(c) for c in text)  # noqa: UP031


def _character(digits: str) -> str:
    """The character with this number, or "" if it may not be written so."""
    number = int(digits, 16)
    return chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else ""


# The part that returns the message.


def _returned(notice: Notice) -> bytes:
    """
    RFC 6522 section 3, third part. What cannot pass as it is comes as `message/global`, since `message/rfc822` may not
    be encoded (RFC 2046 section 5.2.1) and that one may (RFC 6532 section 3.7): a message of 8 bits comes back whole.
    """
    octets, unicode = notice.quoted.octets, notice.smtputf8
    if notice.quoted.whole:
        encoded = _encoding(octets, eight_bit=unicode) == "quoted-printable"
        return _part("message/global" if unicode or encoded else "message/rfc822", octets, eight_bit=unicode)
    if unicode:
        return _part("message/global-headers", octets, eight_bit=True)
    charset = "" if octets.isascii() else "; charset=utf-8"
    return _part(f"text/rfc822-headers{charset}", octets, eight_bit=False)


# Parts, and their encoding.


def _part(kind: str, octets: bytes, *, eight_bit: bool) -> bytes:
    encoding = _encoding(octets, eight_bit=eight_bit)
    if encoding == "quoted-printable":
        octets = CRLF.join(_quoted_printable(line) for line in octets.split(CRLF))
    about = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return about.encode("ascii") + octets


def _encoding(octets: bytes, *, eight_bit: bool) -> str:
    """What may stand as it is: no CR or LF alone, no NUL, no line over 998 octets (RFC 2045 section 2.7)."""
    rest = octets.replace(CRLF, b"")
    clean = not (b"\r" in rest or b"\n" in rest or b"\0" in rest)
    if clean and max(map(len, octets.split(CRLF))) <= LINE_OCTETS:
        if octets.isascii():
            return "7bit"
        if eight_bit and _is_utf8(octets):
            return "8bit"
    return "quoted-printable"


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _quoted_printable(line: bytes) -> bytes:
    encoded = b2a_qp(line, istext=False).replace(b"\n", CRLF)
    # White space at the end of a line may be lost on the way (RFC 2045 section 6.7, rule 3).
    if encoded[-1:] in (b" ", b"\t"):
        encoded = encoded[:-1] + (b"=20" if encoded.endswith(b" ") else b"=09")
    return encoded


# Texts.


def _folded(text: str, first: str = "", rest: str | None = None) -> Iterator[str]:
    """
    Lines of at most 76 characters, cut at spaces; a word that is longer stands alone (`_part` encodes
    what no line can carry). Each begins with `first`, or after the first one with `rest`.
    """
    prefix, line = first, ""
    for word in text.split():
        if line and len(prefix) + len(line) + 1 + len(word) > _FOLD:
            yield prefix + line
            prefix, line = first if rest is None else rest, word
        else:
            line = f"{line} {word}" if line else word
    yield prefix + line


def _atom(text: str) -> str:
    """The text as it may stand on either side of a Message-ID's `@`."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in text) or "_"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
