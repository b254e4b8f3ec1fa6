"""
Commands: from one line of octets to one question (RFC 5321 section 4.1).

`Grammar.read` never raises for what a client sent: what cannot be read is a `Misspoken` with its reply.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from relay.mail.address import Address, AddressError, parse_address
from relay.mail.reply import Reply
from relay.smtp import answers
from relay.smtp.events import Bdat, Data, Hello, Help, Mail, Misspoken, Noop, Question, Quit, Rcpt, Reset, Verify
from relay.smtp.extensions import CHUNKING, Extension, Reader

#: The space, and every control character.
_BLANK = bytes([*range(33), 127])
_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]")
_QUOTED_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
#: No chunk is longer than a message may be, and that is no number of so many digits.
_BDAT_DIGITS = 15
#: RFC 5321 section 4.1.2, `esmtp-keyword` and `esmtp-value`; the latter wide open for RFC 6531.
_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*\Z")

#: `None`: the line has no argument.
Read: TypeAlias = "Callable[[str], Question | Bdat]"


class Grammar:
    """
    The commands of a listener, with the parameters that its extensions bring.

    `postmaster` is where `RCPT TO:<postmaster>` goes, which needs no domain (RFC 5321 section 4.5.1).
    """

    def __init__(self, extensions: Iterable[Extension], *, postmaster: Address) -> None:
        self._extensions = tuple(extensions)
        self._mail: dict[str, Reader] = {}
        self._rcpt: dict[str, Reader] = {}
        for extension in self._extensions:
            self._mail.update(extension.mail)
            self._rcpt.update(extension.rcpt)
        self._postmaster = postmaster
        self._verbs: dict[bytes, Read] = {
            b"EHLO": lambda rest: _hello(True, rest),
            b"HELO": lambda rest: _hello(False, rest),
            b"MAIL": self._read_mail,
            b"RCPT": self._read_rcpt,
            b"DATA": _alone(Data()),
            b"BDAT": _bdat if CHUNKING in self._extensions else _not_chunking,
            b"RSET": _alone(Reset()),
            b"NOOP": lambda rest: Noop(),
            b"HELP": lambda rest: Help(rest.upper()),
            b"VRFY": _verify,
            b"QUIT": _alone(Quit()),
            # Known to RFC 5321 and its extensions, and not offered (502 says more than 500).
            **dict.fromkeys((b"EXPN", b"TURN", b"SEND", b"SOML", b"SAML", b"ETRN"), _not_implemented),
            **dict.fromkeys((b"STARTTLS", b"AUTH", b"XCLIENT", b"LHLO"), _not_implemented),
            # Somebody makes a browser or a proxy talk to us: there is nothing to answer.
            **dict.fromkeys((b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT"), _not_smtp),
        }

    def read(self, line: bytes) -> Question | Bdat:
        """
        The question that this line asks; `line` comes without its end.

        Verbs are of any letter case, and white space at the end means nothing (RFC 5321 sections 2.4 and 4.1.1).
        """
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
        arguments = _parameters(rest, self._mail)
        if isinstance(arguments, Reply):
            return Misspoken(arguments)
        return Mail(reverse_path, **arguments, international=not path.isascii())

    def _read_rcpt(self, rest: str) -> Question:
        if rest[:3].upper() != "TO:":
            return _syntax("RCPT TO:<address> [parameters]")
        path, rest = _path(rest[3:].lstrip(" "))
        try:
            recipient = self._postmaster if path.lower() == "postmaster" else parse_address(path)
        except AddressError as problem:
            return _bad_address("5.1.3", path, problem)
        arguments = _parameters(rest, self._rcpt)
        if isinstance(arguments, Reply):
            return Misspoken(arguments)
        return Rcpt(recipient, **arguments, international=not path.isascii())


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
    if not text.startswith("<"):
        path, _, rest = text.partition(" ")
        # Without brackets there is no null reverse-path: an empty path is a mistake, and `<` is no address.
        return path or "<", rest
    quoted = _QUOTED_STRING.match(text, 1)
    close = text.find(">", quoted.end() if quoted else 1)
    if close < 0:
        return text, ""
    rest = text[close + 1 :]
    if rest and not rest.startswith(" "):
        return text, ""
    return text[1:close], rest


def _parameters(text: str, known: Mapping[str, Reader]) -> dict[str, Any] | Reply:
    arguments: dict[str, Any] = {}
    if not text:
        return arguments
    seen: set[str] = set()
    for word in text.split():
        keyword, equals, value = word.partition("=")
        name = keyword.upper()
        if not _KEYWORD.match(keyword) or (equals and (not value or "=" in value)):
            return Reply.of(501, "5.5.4", "Malformed parameter")
        if name in seen:
            return Reply.saying(501, "5.5.4", f"The parameter {name} is given twice")
        seen.add(name)
        reader = known.get(name)
        if reader is None:
            return Reply.saying(555, "5.5.4", f"The parameter {name[:40]} is not offered")
        read = reader(value if equals else None)
        if isinstance(read, Reply):
            return read
        arguments.update(read)
    return arguments


def _hello(extended: bool, rest: str) -> Question:
    # RFC 5321 section 4.1.4: a name that does not match the client is no reason to refuse. One that is none
    # at all is a mistake worth telling; only what could do harm further on is refused.
    name = rest.strip(" ")
    if not name or " " in name or not name.isascii() or len(name) > 255:
        return _syntax(f"{'EHLO' if extended else 'HELO'} your.host.name")
    return Hello(extended, name)


def _not_chunking(rest: str) -> Question:
    # Its octets are on their way, and must not be taken for commands.
    return Misspoken(answers.NO_CHUNKING)


def _bdat(rest: str) -> Question | Bdat:
    number, _, mark = rest.partition(" ")
    if not (number.isascii() and number.isdigit()) or len(number) > _BDAT_DIGITS or mark.upper() not in ("", "LAST"):
        # How much content follows, nobody knows: it must not be taken for commands.
        return Misspoken(answers.MALFORMED_BDAT)
    return Bdat(int(number), bool(mark))


def _verify(rest: str) -> Question:
    return Verify(rest) if rest else _syntax("VRFY user or address")


def _alone(question: Question) -> Read:
    def read(rest: str) -> Question:
        return Misspoken(answers.NO_ARGUMENTS) if rest else question

    return read


def _not_implemented(rest: str) -> Question:
    return Misspoken(answers.NOT_IMPLEMENTED)


def _not_smtp(rest: str) -> Question:
    return Misspoken(answers.NOT_SMTP)


def _syntax(usage: str) -> Misspoken:
    return Misspoken(Reply.of(501, "5.5.4", f"Syntax: {usage}"))


def _bad_address(status: str, path: str, problem: AddressError) -> Misspoken:
    """RFC 3463: 5.1.7 for a sender's address, 5.1.3 for a recipient's."""
    if path.startswith(("<@", "@")):
        return Misspoken(Reply.of(501, status, "Source routes are not accepted"))
    return Misspoken(Reply.saying(501, status, f"Bad address: {problem}"))
