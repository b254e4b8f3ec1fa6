"""
Commands: from one line of octets to one question (RFC 5321 section 4.1).

`Grammar.read` never raises for what a client sent: what cannot be read is a `Misspoken` with its reply.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeAlias

from relay.mail.address import Address, AddressError, canonical_domain, parse_address
from relay.mail.dsn import Wishes
from relay.mail.envelope import Body
from relay.mail.reply import Reply
from relay.smtp import answers, sasl
from relay.smtp.esmtp import Reader
from relay.smtp.events import (
    Auth,
    Bdat,
    Data,
    Expand,
    Hello,
    Help,
    Mail,
    Misspoken,
    Noop,
    Question,
    Quit,
    Rcpt,
    Reset,
    StartTls,
    TurnQueue,
    Verify,
    XClient,
)
from relay.smtp.extensions import AUTH, CHUNKING, ETRN, EXPN, STARTTLS, STRANGER, XCLIENT, Extension, Standing
from relay.smtp.sasl_lines import Malformed, decode_initial
from relay.smtp.xclient import read_attributes

#: The space, and every control character.
_BLANK = bytes([*range(33), 127])
_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]")
_QUOTED_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
#: How many lines that came lately are kept with what they ask, and how long they may be: the same ones come again and
#: again. Only such as have no secret in them.
_KEPT: Final = 1024
KEPT_OCTETS: Final = 256
_KEPT_KINDS: Final = frozenset({Hello, Mail, Rcpt, Data, Reset, Quit})
_ENVELOPES: Final = frozenset({b"MAIL", b"RCPT"})
# To ask the class for them takes ten times as long.
_SEVEN_BIT: Final = Body.SEVEN_BIT
_EIGHT_BIT: Final = Body.EIGHT_BIT
#: MAIL and RCPT as nearly all of them are written: nothing is quoted, and of parameters there are none but these.
_USUAL: Final = re.compile(
    rb"RCPT TO:<([!#-;=?-~]+)>\Z|MAIL FROM:<([!#-;=?-~]*)>(?: SIZE=([0-9]{1,15}))?( BODY=8BITMIME)?\Z"
)
#: What is always the same, and may be said by everybody.
_ALWAYS: Final[Mapping[bytes, Question]] = {b"DATA\r\n": Data(), b"QUIT\r\n": Quit()}
#: No chunk is longer than a message may be, and that is no number of so many digits.
_BDAT_DIGITS = 15
#: RFC 5321 section 4.1.2, `esmtp-keyword` and `esmtp-value`; the latter wide open for RFC 6531.
_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*\Z")
#: RFC 4422 section 3.1: the name of a mechanism.
_MECHANISM = re.compile(r"[A-Za-z0-9_-]{1,20}\Z")

#: `None`: the line has no argument.
Read: TypeAlias = "Callable[[str], Question | Bdat]"


class Grammar:
    """
    The commands of a listener, with the parameters that its extensions bring to a client of this standing.

    The verbs of an extension are readable for everybody: that somebody may not say them now is for the session to
    say. A client that is not `extended` (HELO, or nothing yet) has no esmtp. `postmaster` is where
    `RCPT TO:<postmaster>` goes, which needs no domain (RFC 5321 section 4.5.1).
    """

    def __init__(
        self,
        extensions: Collection[Extension],
        *,
        postmaster: Address,
        standing: Standing = STRANGER,
        extended: bool = True,
        lmtp: bool = False,
        guarded: bool = False,
        offers: tuple[str, ...] = (),
    ) -> None:
        """`offers`: what EHLO shows to a client for whom there are no words of its own (`Hello.keywords`)."""
        #: Something has to come before mail, and before most else.
        self.guarded = guarded
        #: A question is a value, so the same line always asks the same one.
        self._heard: dict[bytes, Question | Bdat] = {}
        #: Those that came alone, each with its CRLF: names, the commands of transactions, and QUIT.
        self.usual: dict[bytes, Question] = dict(_ALWAYS)
        #: The last MAIL or RCPT that could not be read, and what is said to it: whoever asks first asks again at once.
        self._misread: tuple[bytes, Question | Bdat] | None = None
        self._mail: dict[str, Reader] = {}
        self._rcpt: dict[str, Reader] = {}
        for extension in extensions:
            if extended and extension.to(standing):
                self._mail.update(extension.mail)
                self._rcpt.update(extension.rcpt)
        self._postmaster = postmaster
        hello: Mapping[bytes, Read] = {b"EHLO": _hello("EHLO", True, offers), b"HELO": _hello("HELO", False)}
        if lmtp:  # RFC 2033 section 4.1
            hello = {b"LHLO": _hello("LHLO", True, offers), **dict.fromkeys(hello, _refuse(answers.LMTP_HERE))}
        known: dict[bytes, Read] = {
            **hello,
            b"MAIL": self._read_mail,
            b"RCPT": self._read_rcpt,
            b"DATA": _alone(Data()),
            b"RSET": _alone(Reset()),
            b"NOOP": lambda rest: Noop(),
            b"HELP": lambda rest: Help(rest.upper(), self.commands),
            b"VRFY": _verify,
            b"QUIT": _alone(Quit()),
        }
        brought: dict[bytes, tuple[Extension, Read]] = {
            b"BDAT": (CHUNKING, _bdat),
            b"STARTTLS": (STARTTLS, _alone(StartTls())),
            b"AUTH": (AUTH, _auth),
            b"EXPN": (EXPN, _expand),
            b"ETRN": (ETRN, _turn_queue),
            b"XCLIENT": (XCLIENT, _xclient),
        }
        for verb, (extension, read) in brought.items():
            if extension in extensions:
                known[verb] = read
        #: What HELP tells of.
        self.commands = tuple(verb.decode() for verb in known if not (lmtp and verb in (b"EHLO", b"HELO")))
        if not extended:
            # A client without extensions that says it all the same sends its content behind it.
            known.pop(b"BDAT", None)
        self._verbs: dict[bytes, Read] = {
            # Known to RFC 5321 and its extensions, and not offered (502 says more than 500).
            **dict.fromkeys((b"EXPN", b"TURN", b"SEND", b"SOML", b"SAML", b"ETRN"), _refuse(answers.NOT_IMPLEMENTED)),
            **dict.fromkeys((b"STARTTLS", b"XCLIENT", b"LHLO"), _refuse(answers.NOT_IMPLEMENTED)),
            b"AUTH": _refuse(answers.NO_AUTH),
            # Its octets are on their way, and must not be taken for commands.
            b"BDAT": _refuse(answers.NO_CHUNKING),
            # Somebody makes a browser or a proxy talk to us: there is nothing to answer.
            **dict.fromkeys((b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT"), _refuse(answers.NOT_SMTP)),
            **known,
        }

    def read_alone(self, octets: bytes) -> Question | None:
        """
        What MAIL or RCPT asks that came as one line with its CRLF, and nothing else; `None`: it is something else, or
        cannot be read so. Nothing but who has sent it says whether such a line comes again, so it is kept by itself.
        """
        if octets[:4].upper() not in _ENVELOPES or len(octets) > KEPT_OCTETS or octets.find(b"\n") != len(octets) - 1:
            return None
        if octets[-2:] != b"\r\n":
            return None
        line = octets[:-2]
        if self._misread is not None and self._misread[0] == line:
            return None
        question = self._read_usual(line) or self._read(line)
        if type(question) is not Mail and type(question) is not Rcpt:
            self._misread = line, question
            return None
        self._keep(octets, question)
        return question

    def read_name(self, octets: bytes) -> Hello | None:
        """The same of EHLO, LHLO or HELO: a client that comes again says the same."""
        if len(octets) > KEPT_OCTETS or octets.find(b"\n") != len(octets) - 1 or octets[-2:] != b"\r\n":
            return None
        question = self.read(octets[:-2])
        if type(question) is not Hello:
            return None
        self._keep(octets, question)
        return question

    def _keep(self, octets: bytes, question: Question) -> None:
        if len(self.usual) >= _KEPT:
            self.usual.clear()
            self.usual.update(_ALWAYS)
        self.usual[octets] = question

    def read(self, line: bytes) -> Question | Bdat:
        """
        The question that this line asks; `line` comes without its end.

        Verbs are of any letter case, and white space at the end means nothing (RFC 5321 sections 2.4 and 4.1.1).
        """
        question = self._heard.get(line)
        if question is None:
            if self._misread is not None and self._misread[0] == line:
                return self._misread[1]
            question = self._read_usual(line) or self._read(line)
            if type(question) in _KEPT_KINDS and len(line) <= KEPT_OCTETS:
                if len(self._heard) >= _KEPT:
                    self._heard.clear()
                self._heard[line] = question
        return question

    def _read_usual(self, line: bytes) -> Mail | Rcpt | None:
        """As `_read`, in half the time, if it is what nearly all lines are that were not heard lately; else `None`."""
        usual = _USUAL.match(line)
        if usual is None:
            return None
        recipient, sender, size, eight_bit = usual.groups()
        try:
            if recipient is not None:
                return Rcpt(parse_address(recipient.decode()))
            reverse_path = parse_address(sender.decode()) if sender else None
        except AddressError:
            return None
        if size is None and eight_bit is None:
            return Mail(reverse_path)
        if (size is not None and "SIZE" not in self._mail) or (eight_bit is not None and "BODY" not in self._mail):
            return None
        return Mail(reverse_path, None if size is None else int(size), _SEVEN_BIT if eight_bit is None else _EIGHT_BIT)

    def _read(self, line: bytes) -> Question | Bdat:
        verb, _, argument = line.strip(b" ").partition(b" ")
        read = self._verbs.get(verb.upper())
        if read is None or _CONTROLS.search(argument):
            return Misspoken(self.unreadable(line))
        try:
            return read(argument.decode().lstrip(" "))
        except UnicodeDecodeError:
            return Misspoken(answers.MALFORMED_BDAT if announces_content(line) else answers.NOT_UTF8)

    def unreadable(self, line: bytes) -> Reply:
        """What to say to a line that is no command, or has control characters in it."""
        if announces_content(line):
            return answers.MALFORMED_BDAT
        return answers.CONTROL_CHARACTERS if _CONTROLS.search(line) else answers.UNKNOWN_COMMAND

    def _read_mail(self, rest: str) -> Question:
        if rest[:5].upper() != "FROM:":
            return _syntax("MAIL FROM:<address> [parameters]")
        path, rest = _path(rest[5:].lstrip(" "))
        try:
            reverse_path = parse_address(path) if path else None
        except AddressError as problem:
            return _bad_address("5.1.7", path, problem)
        international = not path.isascii()
        if not rest:
            return Mail(reverse_path, international=international)
        arguments = _parameters(rest, self._mail)
        if isinstance(arguments, Reply):
            return Misspoken(arguments)
        if "hold_for" in arguments and "hold_until" in arguments:
            return Misspoken(answers.HOLD_IS_HOLD)
        return Mail(reverse_path, **arguments, international=international)

    def _read_rcpt(self, rest: str) -> Question:
        if rest[:3].upper() != "TO:":
            return _syntax("RCPT TO:<address> [parameters]")
        path, rest = _path(rest[3:].lstrip(" "))
        try:
            recipient = parse_address(path) if "@" in path or path.lower() != "postmaster" else self._postmaster
        except AddressError as problem:
            return _bad_address("5.1.3", path, problem)
        international = not path.isascii()
        if not rest:
            return Rcpt(recipient, international)
        arguments = _parameters(rest, self._rcpt)
        if isinstance(arguments, Reply):
            return Misspoken(arguments)
        return Rcpt(recipient, international, Wishes(**arguments)) if arguments else Rcpt(recipient, international)


def announces_content(line: bytes) -> bool:
    """
    Whether the line is BDAT, however badly written. If it cannot be read the connection has to be closed: nobody knows
    how many octets follow that must not be taken for commands.
    """
    return line.lstrip(_BLANK)[:4].upper() == b"BDAT"


def _path(text: str) -> tuple[str, str]:
    """
    The address between the angle brackets, and what stands behind them.

    People who type by hand leave the brackets out; then the path ends at the first space. Anything else that
    is odd stays in the path, and the one parser of addresses refuses it.
    """
    if text[:1] != "<":
        path, _, rest = text.partition(" ")
        # Without brackets there is no null reverse-path: an empty path is a mistake, and `<` is no address.
        return path or "<", rest
    quoted = _QUOTED_STRING.match(text, 1) if '"' in text else None
    close = text.find(">", quoted.end() if quoted else 1)
    if close < 0:
        return text, ""
    rest = text[close + 1 :]
    if rest and rest[0] != " ":
        return text, ""
    return text[1:close], rest


def _parameters(text: str, known: Mapping[str, Reader]) -> dict[str, Any] | Reply:
    arguments: dict[str, Any] = {}
    seen: set[str] = set()
    for word in text.split():
        keyword, equals, value = word.partition("=")
        name, reader = keyword, known.get(keyword)
        malformed = equals and (not value or "=" in value)
        if reader is None:
            malformed = malformed or not _KEYWORD.match(keyword)
            name = keyword.upper()
            reader = known.get(name)
        if malformed:
            return Reply.of(501, "5.5.4", "Malformed parameter")
        if name in seen:
            return Reply.saying(501, "5.5.4", f"The parameter {name} is given twice")
        seen.add(name)
        if reader is None:
            return Reply.saying(555, "5.5.4", f"The parameter {name[:40]} is not offered")
        read = reader(value if equals else None)
        if isinstance(read, Reply):
            return read
        arguments.update(read)
    return arguments


def _hello(verb: str, extended: bool, offers: tuple[str, ...] = ()) -> Read:
    usage = _syntax(f"{verb} your.host.name")

    def read(rest: str) -> Question:
        # RFC 5321 section 4.1.4: a name that does not match the client is no reason to refuse. One that is none
        # at all is a mistake worth telling; only what could do harm further on is refused.
        name = rest.strip(" ")
        if not name or " " in name or not name.isascii() or len(name) > 255:
            return usage
        return Hello(extended, name, offers)

    return read


def _bdat(rest: str) -> Question | Bdat:
    number, _, mark = rest.partition(" ")
    if not (number.isascii() and number.isdigit()) or len(number) > _BDAT_DIGITS or mark.upper() not in ("", "LAST"):
        # How much content follows, nobody knows: it must not be taken for commands.
        return Misspoken(answers.MALFORMED_BDAT)
    return Bdat(int(number), bool(mark))


def _auth(rest: str) -> Question:
    """RFC 4954 section 4: the mechanism, and perhaps an initial response."""
    mechanism, found, initial = rest.partition(" ")
    if not _MECHANISM.match(mechanism):
        return _syntax("AUTH mechanism [initial response]")
    if not found:
        return Auth(mechanism.upper())
    octets = decode_initial(initial.encode())
    return Misspoken(sasl.MALFORMED) if isinstance(octets, Malformed) else Auth(mechanism.upper(), octets)


def _expand(rest: str) -> Question:
    return Expand(rest) if rest else _syntax("EXPN address")


def _turn_queue(rest: str) -> Question:
    """RFC 1985 section 5.1: a domain, or `@` and one for it and all below it; we have no queues with names (`#`)."""
    below = rest.startswith("@")
    try:
        return TurnQueue(canonical_domain(rest.removeprefix("@")), below)
    except AddressError:
        return _syntax("ETRN domain")


def _xclient(rest: str) -> Question:
    attributes = read_attributes(rest)
    return Misspoken(attributes) if isinstance(attributes, Reply) else XClient(attributes)


def _verify(rest: str) -> Question:
    return Verify(rest) if rest else _syntax("VRFY user or address")


def _alone(question: Question) -> Read:
    def read(rest: str) -> Question:
        return Misspoken(answers.NO_ARGUMENTS) if rest else question

    return read


def _refuse(reply: Reply) -> Read:
    misspoken = Misspoken(reply)
    return lambda rest: misspoken


def _syntax(usage: str) -> Misspoken:
    return Misspoken(Reply.of(501, "5.5.4", f"Syntax: {usage}"))


def _bad_address(status: str, path: str, problem: AddressError) -> Misspoken:
    """RFC 3463: 5.1.7 for a sender's address, 5.1.3 for a recipient's."""
    if path.startswith(("<@", "@")):
        return Misspoken(Reply.of(501, status, "Source routes are not accepted"))
    return Misspoken(Reply.saying(501, status, f"Bad address: {problem}"))
