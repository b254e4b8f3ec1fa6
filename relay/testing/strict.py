"""
One connection of a `FakeExchange`: a server that takes the RFCs at their word.

Nothing here is shared with `relay.smtp`, so that both cannot be wrong in the same way.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from attrs import Factory, evolve, field, frozen
from twisted.internet.interfaces import IHandshakeListener, IReactorTime
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.mail.tls import TlsFacts
from relay.net.channel_binding import channel_bindings
from relay.net.tls import described
from relay.testing.strict_auth import CLEAR, MECHANISMS, SERVER_FIRST, ClientError, Mechanism, Unknown, decoded
from relay.testing.strict_content import Chunk, Dotted
from relay.testing.strict_parameters import object_to_mail, object_to_rcpt
from relay.testing.wicked import Babble, Drop, Fault, Moment, Reset, Say, Slow, Stall


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
    #: What EHLO, HELO or LHLO said.
    hello: str
    #: RCPT's parameters as they came, for each of the recipients.
    recipient_parameters: tuple[tuple[str, ...], ...] = field(
        default=Factory(lambda self: ((),) * len(self.recipients), takes_self=True)
    )
    #: Whether it came by BDAT.
    by_bdat: bool = False
    #: Whether it came in TLS.
    tls: bool = False
    #: Who the client has proved to be.
    user: str | None = None

    def only(self, places: Sequence[int]) -> Message:
        """The same for some of its recipients, by their places."""
        return evolve(
            self,
            recipients=tuple(self.recipients[at] for at in places),
            recipient_parameters=tuple(self.recipient_parameters[at] for at in places),
        )


class Exchange(Protocol):
    """What a conversation has to know of whose it is; `FakeExchange` says more of each."""

    name: str
    offers: tuple[str, ...]
    extended: bool
    lmtp: bool
    tls: Any
    implicit: bool
    users: Mapping[str, str]
    mechanisms: tuple[str, ...]
    auth_required: bool
    clock: IReactorTime | None
    messages: list[Message]
    unpromised: list[Message]
    complaints: list[str]
    transcript: list[tuple[str, bytes]]
    handshakes: list[TlsFacts]
    open: int

    def fault_at(self, moment: Moment, number: int, command: str) -> Fault | None: ...


_PARAMETERS = r"((?: [A-Za-z0-9][A-Za-z0-9-]*(?:=[!-<>-~\x80-\U0010ffff]+)?)*)\Z"
_MAIL = re.compile(r'MAIL FROM:<((?:"(?:\\.|[^"\\])*")?[^<>"]*)>' + _PARAMETERS)
_RCPT = re.compile(r'RCPT TO:<((?:"(?:\\.|[^"\\])*")?[^<>"]+)>' + _PARAMETERS)
_HELLO = re.compile(r"(EHLO|HELO|LHLO) ([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]|\[IPv6:[0-9A-Fa-f:.]+\])\Z")
_AUTH = re.compile(r"AUTH ([A-Z0-9_-]{1,20})(?: (=|[A-Za-z0-9+/]+={0,2}))?\Z")
#: RFC 2920 section 3.1: these end a group of commands; what follows waits for their reply. AUTH and STARTTLS by their
#: own RFCs (4954 section 4, 3207 section 4).
_LAST_IN_GROUP = ("EHLO", "HELO", "LHLO", "DATA", "QUIT", "NOOP", "AUTH", "STAR")
_LIMIT = re.compile(r"([A-Z]+)=([0-9]+)\Z")


@implementer(IHandshakeListener)
class Conversation(TwistedProtocol):
    """One connection."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._seen: Counter[str] = Counter()
        self._buffer = b""
        self._offers: dict[str, str] = {}
        self._hello = ""
        #: MAIL's path and parameters, while there is a transaction, and how many there were.
        self._mail: tuple[str, tuple[str, ...]] | None = None
        self._mails = 0
        #: Who was accepted, with RCPT's parameters; how many were named.
        self._recipients: list[tuple[str, tuple[str, ...]]] = []
        self._named = 0
        #: What comes in, while it comes.
        self._incoming: Dotted | Chunk | None = None
        #: The chunks that were accepted, once there is one.
        self._chunks: bytearray | None = None
        #: By LMTP: the recipients, by their places, for whom an answer to the content is owed.
        self._owed: list[int] = []
        self._parcel: _Parcel
        self._tls = False
        self._user: str | None = None
        #: AUTH, while a response is waited for.
        self._proof: Mechanism | None = None
        self._asked = b""
        #: Nothing is looked at any more, or not before a slow reply.
        self._deaf = False

    def connectionMade(self) -> None:
        self._exchange.open += 1
        if self._exchange.implicit:
            self._start_tls()
        protocol = "LMTP" if self._exchange.lmtp else "ESMTP"
        self._meet("GREETING", "", f"220 {self._exchange.name} {protocol}", "2")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._exchange.open -= 1
        self._deaf = True

    def dataReceived(self, data: bytes) -> None:
        self._exchange.transcript.append(("C", data))
        self._buffer += data
        self._go_on()

    def _go_on(self) -> None:
        while not self._deaf:
            if self._owed:
                self._answer_for(self._owed.pop(0))
            elif not self._buffer:
                return
            elif self._incoming is not None:
                if not self._take_content(self._incoming):
                    return
            else:
                line, end, rest = self._buffer.partition(b"\r\n")
                if not end:
                    if b"\n" in line:
                        self._complain(f"a bare LF in a command: {line!r}")
                        self._buffer = b""
                    return
                self._buffer = rest
                if self._proof is None:
                    self._take_command(line)
                else:
                    self._take_response(self._proof, line)

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
        text = self._text(line)
        verb = text[:4].upper()
        if self._buffer and (verb in _LAST_IN_GROUP or (verb != "BDAT" and "PIPELINING" not in self._offers)):
            self._complain(f"said more before the reply to {verb}: {self._buffer[:40]!r}")
        match verb:
            case "EHLO" | "HELO" | "LHLO":
                self._take_hello(verb, text)
            case "STAR":
                self._take_starttls(text)
            case "AUTH":
                self._take_auth(text)
            case "MAIL":
                self._take_mail(text)
            case "RCPT":
                self._take_rcpt(text)
            case "DATA":
                self._take_data(text)
            case "BDAT":
                self._take_bdat(text)
            case "RSET":
                self._meet("RSET", text, "250 2.0.0 Ok", "2", self._forget)
            case "QUIT":
                self._meet("QUIT", text, "221 2.0.0 Bye", "2", self._close)
            case _:
                self._complain(f"an unknown command: {text!r}")
                self._say("500 5.5.2 Unknown command", "2", lambda: None)

    def _text(self, line: bytes) -> str:
        try:
            text = line.decode()
        except UnicodeDecodeError:
            text = line.decode("latin-1")
            self._complain(f"a command that is not UTF-8: {line!r}")
        # RFC 1870 and those after it make these two longer; each says by how much.
        if len(line) > (1510 if text.startswith(("MAIL", "RCPT")) and " " in text[5:] else 510):
            self._complain(f"a command of {len(line) + 2} octets")
        if not text.isprintable():
            self._complain(f"control characters in a command: {line!r}")
        return text

    def _forget(self) -> None:
        self._mail = self._chunks = None
        self._recipients, self._named = [], 0

    def _take_hello(self, verb: str, text: str) -> None:
        exchange = self._exchange
        match = _HELLO.match(text)
        if match is None:
            self._complain(f"malformed: {text!r}")
        elif exchange.lmtp is not (verb == "LHLO"):
            self._complain(f"{verb} to who speaks {'LMTP' if exchange.lmtp else 'SMTP'}")  # RFC 2033 section 4.1
            self._say("500 5.5.1 That is not spoken here", "2", lambda: None)
            return
        offers = () if verb == "HELO" else self._offered()

        def effect() -> None:
            self._forget()
            self._hello = match[2] if match else "?"
            self._offers = {line.partition(" ")[0]: line.partition(" ")[2] for line in offers}

        moment = cast(Moment, verb)
        if verb == "EHLO" and not exchange.extended:
            self._meet(moment, text, "502 5.5.1 Not implemented", "2", effect)
            return
        lines = [f"{exchange.name} at your service", *offers]
        reply = "\n".join(f"250{'-' if at < len(lines) else ' '}{line}" for at, line in enumerate(lines, 1))
        self._meet(moment, text, reply, "2", effect)

    def _offered(self) -> tuple[str, ...]:
        """What is offered now: some of it in TLS only (RFC 8689 section 2), or outside only (RFC 3207 section 4.2)."""
        exchange = self._exchange
        offers = [offer for offer in exchange.offers if self._tls or offer != "REQUIRETLS"]
        if exchange.tls is not None and not self._tls:
            offers.append("STARTTLS")
        if exchange.users and (self._tls or exchange.tls is None):
            offers.append(" ".join(("AUTH", *exchange.mechanisms)))
        return tuple(offers)

    # TLS.

    def _take_starttls(self, text: str) -> None:
        usual = "220 2.0.0 Go ahead"
        if text.upper() != "STARTTLS" or "STARTTLS" not in self._offers:
            self._complain(f"out of order or malformed: {text!r}")
            usual = "503 5.5.1 Not now"
        elif self._exchange.tls is None:
            usual = "454 4.7.0 TLS is not available"  # somebody has planned to offer it in vain
        self._meet("STARTTLS", text, usual, "2", self._start_tls)

    def _start_tls(self) -> None:
        """RFC 3207 section 4.2: all that was known of the client is forgotten, what it has said ahead first of all."""
        self._buffer, self._hello, self._offers, self._user = b"", "", {}, None
        self._forget()
        self._seen["HANDSHAKE"] += 1
        match self._exchange.fault_at("HANDSHAKE", self._seen["HANDSHAKE"], ""):
            case Stall() | Drop() | Reset() as fault:
                self._fail(fault)
            case Babble(octets):
                self._write(octets)
            case _:
                self._tls = True
                cast(Any, self.transport).startTLS(self._exchange.tls)

    def handshakeCompleted(self) -> None:
        self._exchange.handshakes.append(described(cast(Any, self.transport).getHandle()))

    # AUTH.

    def _take_auth(self, text: str) -> None:
        match = _AUTH.match(text)
        mechanism, initial = (match[1], match[2]) if match else ("", None)
        fault = ""
        if match is None:
            fault = f"malformed: {text!r}"
        elif mechanism not in self._offers.get("AUTH", "").split():
            fault = f"{mechanism} was not offered"
        elif self._user is not None or self._mail is not None:
            fault = "AUTH out of order"  # RFC 4954 section 4
        elif initial is not None and mechanism in SERVER_FIRST:
            fault = f"an initial response to {mechanism}"
        if fault:
            self._complain(fault)
            self._meet("AUTH", text, "503 5.5.1 Not so", "2")
            return
        if mechanism in CLEAR and not self._tls:
            self._complain(f"a password in clear text, by {mechanism}")
        bindings: Mapping[str, bytes] = {}
        if self._tls:
            handle = cast(Any, self.transport).getHandle()
            bindings = channel_bindings(handle, handle.get_certificate(as_cryptography=True))
        self._proof = proof = MECHANISMS[mechanism](self._exchange.users, bindings)
        self._prove(lambda: next(proof))
        if initial is not None and self._proof is not None:
            self._take_response(proof, initial.encode())
        elif self._proof is not None:
            self._challenge()

    def _take_response(self, proof: Mechanism, line: bytes) -> None:
        if line == b"*":
            self._proof = None
            self._meet("AUTH", "*", "501 5.7.0 Cancelled", "2")
            return
        if self._buffer:
            self._complain(f"said more before the reply to a response: {self._buffer[:40]!r}")
        text = self._text(line) if len(line) < 500 else line.decode("latin-1")
        self._prove(lambda: proof.send(b"" if text == "=" else decoded(text)))
        if self._proof is not None:
            self._challenge()

    def _prove(self, step: Callable[[], bytes]) -> None:
        """Go on until the next challenge, which is kept, or to the verdict, which is said."""
        try:
            self._asked = step()
        except StopIteration as verdict:
            self._proof = None
            user = verdict.value
            if isinstance(user, Unknown):
                self._meet("AUTH", user.why, "535 5.7.8 You are not who you say", "2")
            else:
                self._meet("AUTH", user, "235 2.7.0 Welcome", "2", lambda: self._know(user))
        except (ClientError, ValueError) as problem:
            self._proof = None
            self._complain(f"AUTH: {problem}")
            self._meet("AUTH", str(problem), "501 5.5.2 That is malformed", "2")

    def _challenge(self) -> None:
        proof, self._proof = self._proof, None

        def effect() -> None:
            self._proof = proof

        self._meet("CHALLENGE", "", f"334 {base64.b64encode(self._asked).decode()}", "3", effect)

    def _know(self, user: str) -> None:
        self._user = user

    # Envelopes.

    def _take_mail(self, text: str) -> None:
        match = _MAIL.match(text)
        usual = "250 2.1.0 Sender ok"
        path, parameters = (match[1], tuple(match[2].split(" ")[1:])) if match else ("", ())
        self._mails += 1
        if match is None:
            self._complain(f"malformed: {text!r}")
            usual = "501 5.5.4 Malformed"
        elif (objection := object_to_mail(path, parameters, self._offers)) is not None:
            self._complain(objection.complaint)
            usual = objection.reply
        if not self._hello or self._mail is not None:
            self._complain(f"out of order: {text!r}")
            usual = "503 5.5.1 Out of order"
        elif self._exchange.auth_required and self._user is None:
            usual = "530 5.7.0 Authentication required"
        elif self._mails > self._limit("MAILMAX"):
            self._complain(f"message {self._mails} of a connection")
            usual = "421 4.7.0 Too many messages"  # RFC 9422 section 4.1

        def effect() -> None:
            self._forget()
            self._mail = (path, parameters)

        self._meet("MAIL", text, usual, "2", effect)

    def _limit(self, name: str) -> float:
        """A limit of RFC 9422."""
        for word in self._offers.get("LIMITS", "").split():
            match = _LIMIT.match(word)
            if match and match[1] == name:
                return int(match[2])
        return float("inf")

    def _take_rcpt(self, text: str) -> None:
        match = _RCPT.match(text)
        usual = "250 2.1.5 Recipient ok"
        path, parameters = (match[1], tuple(match[2].split(" ")[1:])) if match else ("", ())
        self._named += 1
        if match is None:
            self._complain(f"malformed: {text!r}")
            usual = "501 5.5.4 Malformed"
        if self._mail is None or self._chunks is not None:
            usual = "503 5.5.1 MAIL first"
        elif match is not None and (objection := object_to_rcpt(path, parameters, self._mail[1], self._offers)):
            self._complain(objection.complaint)
            usual = objection.reply
        elif self._named > self._limit("RCPTMAX"):
            self._complain(f"recipient {self._named} of a message")
            usual = "452 4.5.3 Too many recipients"
        elif len({path.rpartition("@")[2].lower(), *self._domains()}) > self._limit("RCPTDOMAINMAX"):
            self._complain(f"another domain in the same message: {path}")
            usual = "452 4.5.3 Too many domains"
        self._meet("RCPT", text, usual, "2", lambda: self._recipients.append((path, parameters)))

    def _domains(self) -> set[str]:
        return {path.rpartition("@")[2].lower() for path, _ in self._recipients}

    # Content.

    def _take_data(self, text: str) -> None:
        usual = "354 Go on"
        if self._chunks is not None or "BODY=BINARYMIME" in (self._mail[1] if self._mail else ()):
            self._complain("DATA where only BDAT may come")  # RFC 3030 section 2 and 3
            usual = "503 5.5.1 BDAT only"
        elif not self._recipients:
            usual = "503 5.5.1 No valid recipients" if self._exchange.lmtp else "554 5.5.1 No valid recipients"
        self._meet("DATA", text, usual, "3", lambda: self._begin(Dotted()))

    def _take_bdat(self, text: str) -> None:
        chunk = Chunk.read(text) if "CHUNKING" in self._offers else None
        if chunk is None:
            self._complain(f"malformed, or not offered: {text!r}")
            self._say("500 5.5.2 What is that?", "2", lambda: None)
            return
        self._begin(chunk)
        if not chunk.size:
            self._complete(chunk, self._buffer)

    def _begin(self, incoming: Dotted | Chunk) -> None:
        self._incoming = incoming

    def _take_content(self, incoming: Dotted | Chunk) -> bool:
        """Whether there is something to look at behind the content."""
        if not (incoming.wire if isinstance(incoming, Dotted) else incoming.octets):
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
        rest = incoming.take(self._buffer)
        if rest is None:
            self._buffer = b""
            return False
        self._complete(incoming, rest)
        return True

    def _complete(self, incoming: Dotted | Chunk, rest: bytes) -> None:
        self._buffer, self._incoming = rest, None
        if rest and "PIPELINING" not in self._offers:
            self._complain(f"said more before the reply to content: {rest[:40]!r}")
        if isinstance(incoming, Dotted):
            self._end(incoming.message(self._complain), by_bdat=False)
        elif incoming.last and self._recipients:
            self._end(bytes((self._chunks or b"") + incoming.octets), by_bdat=True)
        else:
            self._end_chunk(incoming)

    def _end_chunk(self, chunk: Chunk) -> None:
        usual = f"250 2.0.0 {chunk.size} octets" if self._recipients else "503 5.5.1 No valid recipients"
        chunks = (self._chunks or bytearray()) + chunk.octets
        self._chunks = None
        recipients = list(self._recipients)
        mail = self._mail
        self._forget()  # a chunk that is refused ends the transaction (RFC 3030 section 2)

        def effect() -> None:
            self._mail, self._recipients, self._chunks = mail, recipients, chunks

        self._meet("BDAT", chunk.command, usual, "2", effect)

    def _end(self, content: bytes, *, by_bdat: bool) -> None:
        exchange = self._exchange
        path, parameters = self._mail or ("", ())
        if by_bdat and "BODY=BINARYMIME" not in parameters:
            rest = content.replace(b"\r\n", b"")
            if b"\r" in rest or b"\n" in rest:
                self._complain("a CR or LF alone in content that is not BINARYMIME")
        message = Message(
            path,
            tuple(path for path, _ in self._recipients),
            content,
            parameters,
            self._hello,
            tuple(parameters for _, parameters in self._recipients),
            by_bdat,
            self._tls,
            self._user,
        )
        self._forget()
        exchange.unpromised.append(message)
        if exchange.lmtp and message.recipients:
            # RFC 2033 section 4.2: a reply for each recipient that was accepted, in their order.
            self._owed = list(range(len(message.recipients)))
            self._parcel = _Parcel(exchange, message)
            return
        usual = f"250 2.0.0 Ok: queued as {len(exchange.messages) + 1}"
        if not message.recipients:
            usual = "554 5.5.1 No valid recipients"

        def effect() -> None:
            exchange.unpromised.remove(message)
            exchange.messages.append(message)

        self._meet("END", "", usual, "2", effect)

    def _answer_for(self, at: int) -> None:
        """What came by LMTP, for one of its recipients."""
        parcel = self._parcel
        recipient = parcel.whole.recipients[at]
        self._meet("END", recipient, f"250 2.1.5 {recipient} ok", "2", lambda: parcel.promise(at))


class _Parcel:
    """What came by LMTP: what is promised of it is a message, and the rest is not."""

    def __init__(self, exchange: Exchange, whole: Message) -> None:
        self._exchange = exchange
        self.whole = whole
        self._promised: list[int] = []

    def promise(self, at: int) -> None:
        before = self._promised
        self._promised = [*before, at]
        self._put(self._exchange.messages, before, self._promised)
        self._put(self._exchange.unpromised, self._others(before), self._others(self._promised))

    def _others(self, places: Sequence[int]) -> list[int]:
        return [at for at in range(len(self.whole.recipients)) if at not in places]

    def _put(self, messages: list[Message], before: Sequence[int], now: Sequence[int]) -> None:
        if before:
            messages.remove(self.whole.only(before))
        if now:
            messages.append(self.whole.only(now))
