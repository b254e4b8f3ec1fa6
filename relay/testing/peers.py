"""
Mail exchangers that are not there: strict, small, and as wicked as a test wants them.

Nothing here is shared with `relay.smtp`, so that both cannot be wrong in the same way: whoever talks to a
`FakeExchange` and leaves no `complaints` has kept RFC 5321, RFC 2920 and RFC 1870 as somebody else reads them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, cast

from attrs import define, frozen
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

OFFERS = ("PIPELINING", "SIZE 26214400", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")

#: Where in a dialogue something can be made to happen. `CONTENT` is its first octets, `END` is its terminator.
Moment: TypeAlias = Literal["GREETING", "EHLO", "HELO", "MAIL", "RCPT", "DATA", "CONTENT", "END", "RSET", "QUIT"]


@frozen
class Say:
    """
    This, instead of the usual reply. Several lines are divided by LF and sent with CRLF; 421 closes.

    What was asked happens if it begins as the positive reply would.
    """

    text: str


@frozen
class Babble:
    """These octets instead of a reply, whatever they are; nothing that was asked happens."""

    octets: bytes


@frozen
class Stall:
    """No answer, and nothing is read any more."""


@frozen
class Drop:
    """Close the connection instead of a reply."""


@frozen
class Reset:
    """Reset the connection instead of a reply."""


@frozen
class Slow:
    """The usual reply, after so many seconds."""

    seconds: float


Fault: TypeAlias = Say | Babble | Stall | Drop | Reset | Slow


@frozen
class Message:
    """What an exchange has received, by the time it answered the end of content."""

    #: As written in the path; "" is the null one.
    reverse_path: str
    recipients: tuple[str, ...]
    #: Un-stuffed, without the terminator: the message.
    content: bytes
    #: MAIL's parameters as they came.
    parameters: tuple[str, ...]
    #: What EHLO or HELO said.
    hello: str


@define
class _Planned:
    moment: Moment
    fault: Fault
    number: int | None
    times: int | None
    about: str


class FakeExchange(Factory):
    """
    A mail exchanger, to be added to a `FakeInternet` (or to be listened with by a reactor, on loopback).

    It takes what it is sent, unless `at` says otherwise. One exchange may have any number of connections.
    """

    noisy = False

    def __init__(
        self,
        name: str = "mx.example.org",
        *,
        offers: Sequence[str] = OFFERS,
        extended: bool = True,
        clock: IReactorTime | None = None,
    ) -> None:
        """
        `offers`: the lines of its answer to EHLO. `extended`: false for one that knows HELO only. `Slow` needs a
        `clock`.
        """
        self.name = name
        self.offers = tuple(offers)
        self.extended = extended
        self.clock = clock
        self._plan: list[_Planned] = []
        #: What it has said a positive reply to, oldest first.
        self.messages: list[Message] = []
        #: What it has received whole, and refused or left without a reply.
        self.unpromised: list[Message] = []
        #: What clients have done that no client may do.
        self.complaints: list[str] = []
        #: Everything that was said: `"C"` or `"S"`, and the octets as they came or went, segment by segment.
        self.transcript: list[tuple[str, bytes]] = []
        #: How many connections were made, and how many there are now.
        self.connections = 0
        self.open = 0

    def at(
        self, moment: Moment, fault: Fault, *, number: int | None = None, times: int | None = None, about: str = ""
    ) -> FakeExchange:
        """
        Plan a fault. Of several that fit, the one planned first happens.

        `number`: only the so-manieth such moment of a connection, from 1 (of RCPT: the second recipient).
        `times`: only so often in all; after that the exchange is well again. `about`: only if the command has this
        text in it (an address).
        """
        self._plan.append(_Planned(moment, fault, number, times, about))
        return self

    def fault_at(self, moment: Moment, number: int, command: str) -> Fault | None:
        """What was planned for this moment; asked once for each."""
        for planned in self._plan:
            fits = planned.moment == moment and planned.number in (None, number) and planned.about in command
            if fits and planned.times != 0:
                if planned.times is not None:
                    planned.times -= 1
                return planned.fault
        return None

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        self.connections += 1
        return _Conversation(self)


_MAIL = re.compile(r'MAIL FROM:<((?:"(?:\\.|[^"\\])*")?[^<>"]*)>((?: [A-Z0-9][A-Z0-9-]*(?:=[!-<>-~]+)?)*)\Z')
_RCPT = re.compile(r'RCPT TO:<((?:"(?:\\.|[^"\\])*")?[^<>"]+)>\Z')
_HELLO = re.compile(r"(EHLO|HELO) ([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]|\[IPv6:[0-9A-Fa-f:.]+\])\Z")
#: RFC 2920 section 3.1: these end a group of commands; what follows waits for their reply.
_LAST_IN_GROUP = ("EHLO", "HELO", "DATA", "QUIT", "NOOP")


class _Conversation(Protocol):
    """One connection."""

    def __init__(self, exchange: FakeExchange) -> None:
        self._exchange = exchange
        self._seen: Counter[str] = Counter()
        self._buffer = b""
        self._offers: dict[str, str] = {}
        self._hello = ""
        #: MAIL's path and parameters, while there is a transaction.
        self._mail: tuple[str, tuple[str, ...]] | None = None
        self._recipients: list[str] = []
        #: Content so far, while it comes.
        self._content: bytearray | None = None
        #: Nothing is looked at any more, or not before a slow reply.
        self._deaf = False

    def connectionMade(self) -> None:
        self._exchange.open += 1
        self._meet("GREETING", "", f"220 {self._exchange.name} ESMTP", "2")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._exchange.open -= 1
        self._deaf = True

    def dataReceived(self, data: bytes) -> None:
        self._exchange.transcript.append(("C", data))
        self._buffer += data
        self._go_on()

    def _go_on(self) -> None:
        while self._buffer and not self._deaf:
            if self._content is not None:
                if not self._take_content():
                    return
            else:
                line, end, rest = self._buffer.partition(b"\r\n")
                if not end:
                    if b"\n" in line:
                        self._complain(f"a bare LF in a command: {line!r}")
                        self._buffer = b""
                    return
                self._buffer = rest
                self._take_command(line)

    def _complain(self, text: str) -> None:
        self._exchange.complaints.append(text)

    # What happens.

    def _meet(
        self, moment: Moment, command: str, usual: str, good: str, effect: Callable[[], None] = lambda: None
    ) -> None:
        """Give the usual reply, or what was planned; the effect happens if the reply begins with `good`."""
        self._seen[moment] += 1
        match self._exchange.fault_at(moment, self._seen[moment], command):
            case None:
                self._say(usual, good, effect)
            case Slow(seconds):
                self._deaf = True
                clock = self._exchange.clock
                if clock is None:
                    raise ValueError("a slow exchange needs a clock")
                clock.callLater(seconds, self._say_slowly, usual, good, effect)
            case Say(text):
                self._say(text, good, effect)
            case Babble(octets):
                self._write(octets)
            case Stall() | Drop() | Reset() as fault:
                self._fail(fault)

    def _say(self, text: str, good: str, effect: Callable[[], None]) -> None:
        self._write(text.replace("\n", "\r\n").encode() + b"\r\n")
        if text.startswith(good):
            effect()
        if text.startswith("421"):
            self._close()

    def _say_slowly(self, text: str, good: str, effect: Callable[[], None]) -> None:
        self._deaf = False
        self._say(text, good, effect)
        self._go_on()

    def _fail(self, fault: Stall | Drop | Reset) -> None:
        self._deaf = True
        transport = cast(Any, self.transport)
        match fault:
            case Stall():
                transport.pauseProducing()
            case Drop():
                transport.loseConnection()
            case Reset():
                transport.abortConnection()

    def _write(self, octets: bytes) -> None:
        self._exchange.transcript.append(("S", octets))
        cast(Any, self.transport).write(octets)

    def _close(self) -> None:
        self._deaf = True
        cast(Any, self.transport).loseConnection()

    # Commands.

    def _take_command(self, line: bytes) -> None:
        try:
            text = line.decode()
        except UnicodeDecodeError:
            text = line.decode("latin-1")
            self._complain(f"a command that is not UTF-8: {line!r}")
        if len(line) > 510 and not text.startswith("MAIL"):
            self._complain(f"a command of {len(line) + 2} octets")
        if not text.isprintable():
            self._complain(f"control characters in a command: {line!r}")
        verb = text[:4].upper()
        if self._buffer and (verb in _LAST_IN_GROUP or "PIPELINING" not in self._offers):
            self._complain(f"said more before the reply to {verb}: {self._buffer[:40]!r}")
        match verb:
            case "EHLO" | "HELO":
                self._take_hello(verb, text)
            case "MAIL":
                self._take_mail(text)
            case "RCPT":
                self._take_rcpt(text)
            case "DATA" if self._recipients:
                self._meet("DATA", text, "354 Go on", "3", self._begin_content)
            case "DATA":
                self._meet("DATA", text, "554 5.5.1 No valid recipients", "3", self._begin_content)
            case "RSET":
                self._meet("RSET", text, "250 2.0.0 Ok", "2", self._forget)
            case "QUIT":
                self._meet("QUIT", text, "221 2.0.0 Bye", "2", self._close)
            case _:
                self._complain(f"an unknown command: {text!r}")
                self._say("500 5.5.2 Unknown command", "2", lambda: None)

    def _forget(self) -> None:
        self._mail = None
        self._recipients = []

    def _take_hello(self, verb: Literal["EHLO", "HELO"], text: str) -> None:
        exchange = self._exchange
        match = _HELLO.match(text)
        if match is None:
            self._complain(f"malformed: {text!r}")

        def effect() -> None:
            self._forget()
            self._hello = match[2] if match else "?"
            offers = exchange.offers if verb == "EHLO" else ()
            self._offers = {line.partition(" ")[0]: line.partition(" ")[2] for line in offers}

        if verb == "EHLO" and not exchange.extended:
            self._meet("EHLO", text, "502 5.5.1 Not implemented", "2", effect)
            return
        lines = [f"{exchange.name} at your service", *(exchange.offers if verb == "EHLO" else ())]
        reply = "\n".join(f"250{'-' if at < len(lines) else ' '}{line}" for at, line in enumerate(lines, 1))
        self._meet(verb, text, reply, "2", effect)

    def _take_mail(self, text: str) -> None:
        match = _MAIL.match(text)
        usual = "250 2.1.0 Sender ok"
        path, parameters = "", ()
        if match is None:
            self._complain(f"malformed: {text!r}")
            usual = "501 5.5.4 Malformed"
        else:
            path, parameters = match[1], tuple(match[2].split())
            usual = self._judge(path, parameters) or usual
        if not self._hello or self._mail is not None:
            self._complain(f"out of order: {text!r}")
            usual = "503 5.5.1 Out of order"

        def effect() -> None:
            self._mail = (path, parameters)
            self._recipients = []

        self._meet("MAIL", text, usual, "2", effect)

    def _judge(self, path: str, parameters: tuple[str, ...]) -> str:
        """What is wrong with MAIL, as a reply; "" if nothing is."""
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            extension = {"BODY": "8BITMIME"}.get(name, name)
            if extension not in self._offers:
                self._complain(f"{name} was not offered")
                return f"555 5.5.4 {name} is not known here"
            if name == "SIZE":
                limit = int(self._offers["SIZE"] or 0)
                if not value.isdigit():
                    self._complain(f"malformed: {parameter}")
                elif limit and int(value) > limit:
                    self._complain(f"a message of {value} octets was announced to who takes {limit}")
                    return "552 5.3.4 Too large"
        if not path.isascii() and "SMTPUTF8" not in parameters:
            self._complain(f"an address in UTF-8 without SMTPUTF8: {path}")
            return "553 5.6.7 SMTPUTF8 is needed"
        return ""

    def _take_rcpt(self, text: str) -> None:
        match = _RCPT.match(text)
        usual = "250 2.1.5 Recipient ok"
        path = match[1] if match else ""
        if match is None:
            self._complain(f"malformed: {text!r}")
            usual = "501 5.5.4 Malformed"
        if self._mail is None:
            usual = "503 5.5.1 MAIL first"
        elif not path.isascii() and "SMTPUTF8" not in self._mail[1]:
            self._complain(f"an address in UTF-8 without SMTPUTF8: {path}")
            usual = "553 5.6.7 SMTPUTF8 is needed"
        self._meet("RCPT", text, usual, "2", lambda: self._recipients.append(path))

    # Content.

    def _begin_content(self) -> None:
        self._content = bytearray()

    def _take_content(self) -> bool:
        """Whether there is something to look at behind the content."""
        content = cast(bytearray, self._content)
        if not content:
            self._seen["CONTENT"] += 1
            match self._exchange.fault_at("CONTENT", self._seen["CONTENT"], ""):
                case Stall() | Drop() | Reset() as fault:
                    self._fail(fault)
                    return False
                case Say(text):
                    self._say(text, "-", lambda: None)
                case Babble(octets):
                    self._write(octets)
                case _:
                    pass
        before = len(content)
        content += self._buffer
        if content.startswith(b".\r\n"):
            end, behind = 0, 3
        else:
            end = content.find(b"\r\n.\r\n", max(0, before - 4)) + 2
            behind = end + 3
            if end < 2:
                self._buffer = b""
                return False
        self._buffer = bytes(content[behind:])
        self._content = None
        if self._buffer and "PIPELINING" not in self._offers:
            self._complain(f"said more before the reply to content: {self._buffer[:40]!r}")
        self._end_content(bytes(content[:end]))
        return True

    def _end_content(self, wire: bytes) -> None:
        exchange = self._exchange
        path, parameters = self._mail or ("", ())
        message = Message(path, tuple(self._recipients), self._unstuffed(wire), parameters, self._hello)
        exchange.unpromised.append(message)
        usual = f"250 2.0.0 Ok: queued as {len(exchange.messages) + 1}"
        if not self._recipients:
            usual = "554 5.5.1 No valid recipients"

        def effect() -> None:
            exchange.unpromised.remove(message)
            exchange.messages.append(message)

        self._forget()
        self._meet("END", "", usual, "2", effect)

    def _unstuffed(self, wire: bytes) -> bytes:
        lines = wire.split(b"\r\n")
        for at, line in enumerate(lines):
            if b"\r" in line or b"\n" in line:
                self._complain(f"a CR or LF alone in content: {line[:40]!r}")
            if line.startswith(b"."):
                if not line.startswith(b".."):
                    self._complain(f"a dot that was not doubled: {line[:40]!r}")
                lines[at] = line[1:]
        return b"\r\n".join(lines)
