"""
Authentication, the server's side: the mechanisms of SASL (RFC 4422) as AUTH carries them (RFC 4954), without I/O.

A mechanism is a generator that reads as its RFC does: it yields what it wants next, a response of the client
(`Challenge`) or an answer from whoever knows the users (`Ask`), and returns how it ended. It knows no user, compares no
password and waits for nothing.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Generator, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

from attrs import field, frozen

from relay.mail.reply import Reply
from relay.smtp import scram
from relay.smtp.saslprep import Unpreparable, prepare
from relay.smtp.scram import BINDINGS, SCRAM, SCRAM_PLUS, ScramKeys

#: What we can do, the strongest first: the order in which EHLO shows them.
MECHANISMS: Final = ("EXTERNAL", SCRAM_PLUS, SCRAM, "PLAIN", "LOGIN")

# Replies (RFC 4954 section 6). The session says those for which no mechanism has run.

PROVED: Final = Reply.of(235, "2.7.0", "Authentication successful")
CANCELLED: Final = Reply.of(501, "5.7.0", "Authentication cancelled")
MALFORMED: Final = Reply.of(501, "5.5.2", "Malformed authentication data")
TOO_LONG: Final = Reply.of(500, "5.5.6", "Authentication exchange line is too long")
INVALID: Final = Reply.of(535, "5.7.8", "Authentication credentials invalid")
UNKNOWN_MECHANISM: Final = Reply.of(504, "5.5.4", "Unrecognized authentication type")
NEEDS_TLS: Final = Reply.of(538, "5.7.11", "Encryption required for requested authentication mechanism")
#: The users' file cannot be read, Dovecot is away, or our own code has failed.
UNAVAILABLE: Final = Reply.of(454, "4.7.0", "Temporary authentication failure")

#: Characters of a name and of a password. To prepare a long one takes a while, in which the relay does nothing else.
_LONGEST_NAME: Final = 255
_LONGEST_PASSWORD: Final = 1024

# Questions to whoever knows the users.


@frozen
class CheckPassword:
    """
    Is this the user's password? The answer is the user's name, or `None`.

    The user's name is prepared by SASLprep, the password is as the client said it: who compares it with what was
    prepared prepares it first.
    """

    user: str
    password: str = field(repr=False)


@frozen
class FindScramKeys:
    """What are the user's keys? The answer is `ScramKeys`, or `None` for a user without any, or for no user."""

    user: str


Question: TypeAlias = CheckPassword | FindScramKeys
Answer: TypeAlias = str | ScramKeys | None

# Steps.


@frozen
class Challenge:
    """Say this to the client (334 and base64), and `respond` with what it says."""

    octets: bytes


@frozen
class Ask:
    """Find this out, however long it takes, and `answer` with it."""

    question: Question


@frozen
class Proved:
    """The client is this user."""

    user: str


@frozen
class Denied:
    """The client is nobody. `because` is for our log; it says more than a stranger may know."""

    reply: Reply
    because: str
    #: Who the client said it was, where it came so far: in its own words.
    user: str | None = None


Step: TypeAlias = Challenge | Ask | Proved | Denied
_Run: TypeAlias = Generator[Challenge | Ask, Any, Proved | Denied]


class Exchange:
    """
    One attempt to authenticate: `begin` once, then `respond` to each `Challenge` and `answer` each `Ask`, until it ends
    as `Proved` or `Denied`. A client that cancels, and an answer that cannot be had, end it by being the last.

    No octets that a client sends make it raise; the wrong call does (`RuntimeError`).
    """

    def __init__(self, mechanism: str, run: Callable[[bytes | None], _Run]) -> None:
        self.mechanism = mechanism
        self._start = run
        self._run: _Run | None = None
        self._step: Step | None = None

    def begin(self, initial: bytes | None) -> Step:
        """`initial` is the initial response, decoded; `None` if AUTH had none."""
        if self._step is not None:
            raise RuntimeError("the exchange has begun already")
        self._run = self._start(initial)
        return self._go(None)

    def respond(self, octets: bytes) -> Step:
        """The client's response to the last `Challenge`, decoded."""
        if not isinstance(self._step, Challenge):
            raise RuntimeError("no response is waited for")
        return self._go(octets)

    def answer(self, answer: Answer) -> Step:
        """The answer to the last `Ask`."""
        if not isinstance(self._step, Ask):
            raise RuntimeError("nothing was asked")
        return self._go(answer)

    def _go(self, value: bytes | Answer) -> Step:
        assert self._run is not None
        try:
            self._step = self._run.send(value)
        except StopIteration as done:
            self._step = done.value
        assert self._step is not None
        return self._step


# What a session may offer.


@frozen
class Channel:
    """What the mechanisms need to know of the connection that they run on."""

    #: By which the channel can be bound, by the name of the kind (`tls-exporter`, `tls-server-end-point`).
    bindings: Mapping[str, bytes] = field(factory=dict, repr=False)
    #: The user for whom the client's verified certificate stands; `None`: there is no such certificate.
    subject: str | None = None


@frozen
class Offer:
    """The mechanisms that a session offers, in the order in which EHLO shows them. An empty one: no AUTH at all."""

    mechanisms: tuple[str, ...]
    channel: Channel
    #: Makes the keys of users who do not exist. It should outlive a restart, as the keys of the others do.
    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, allowed: Collection[str], channel: Channel, secret: bytes) -> Offer:
        """Those of the allowed ones that are possible on this channel."""
        possible = {
            "EXTERNAL": channel.subject is not None,
            SCRAM_PLUS: any(name in channel.bindings for name in BINDINGS),
        }
        names = tuple(name for name in MECHANISMS if name in allowed and possible.get(name, True))
        return cls(names, channel, secret)

    def exchange(self, mechanism: str, nonce: Callable[[], str]) -> Exchange | None:
        """
        A new exchange, or `None` if the mechanism is not offered.

        `nonce` makes text that nobody can guess, of printable ASCII without a comma; it is called for SCRAM only.
        """
        name = mechanism.upper()
        if name not in self.mechanisms:
            return None
        match name:
            case "PLAIN":
                return Exchange(name, _plain)
            case "LOGIN":
                return Exchange(name, _login)
            case "EXTERNAL":
                return Exchange(name, partial(_external, self.channel.subject))
            case _:
                return Exchange(name, partial(_scram, self, name == SCRAM_PLUS, nonce))


# The mechanisms.


def _plain(initial: bytes | None) -> _Run:
    """PLAIN (RFC 4616): an authorization identity, the user and the password, with NUL between them."""
    message = _text((yield from _first(initial)))
    identities = [] if message is None else message.split("\0")
    if len(identities) != 3:
        return Denied(MALFORMED, "PLAIN wants UTF-8 with two NULs")
    return (yield from _checked(*identities))


def _login(initial: bytes | None) -> _Run:
    """LOGIN, which has no RFC: the user, and then the password."""
    user = _text((yield Challenge(b"Username:")) if initial is None else initial)
    password = _text((yield Challenge(b"Password:")))
    if user is None or password is None or "\0" in user + password:
        return Denied(MALFORMED, "LOGIN wants UTF-8 without NULs")
    return (yield from _checked("", user, password))


def _checked(authzid: str, user: str, password: str) -> _Run:
    prepared = _prepared(user)
    if not prepared or not 0 < len(password) <= _LONGEST_PASSWORD:
        return Denied(INVALID, "the user's name or the password is empty or has prohibited characters", user)
    if authzid and _prepared(authzid) != prepared:
        return Denied(INVALID, "nobody may act as somebody else", prepared)
    answer = yield Ask(CheckPassword(prepared, password))
    if isinstance(answer, str) and answer:
        return Proved(answer)
    return Denied(INVALID, "no such user, or another password", prepared)


def _external(subject: str | None, initial: bytes | None) -> _Run:
    """EXTERNAL (RFC 4422 appendix A): whoever the certificate says; the client may name that user, or leave it out."""
    authzid = _text((yield from _first(initial)))
    if authzid is None or "\0" in authzid:
        return Denied(MALFORMED, "EXTERNAL wants UTF-8 without NULs")
    if subject is None:
        return Denied(INVALID, "there is no certificate")
    if authzid and (_prepared(authzid) or None) != _prepared(subject):
        return Denied(INVALID, "the certificate is another user's", authzid)
    return Proved(subject)


def _scram(offer: Offer, bound: bool, nonce: Callable[[], str], initial: bytes | None) -> _Run:
    """
    SCRAM (RFC 5802): both sides prove that they know the password, and neither says it.

    A user who does not exist goes the whole way and fails at its end, as one with another password does.
    """
    first = scram.read_client_first((yield from _first(initial)))
    if isinstance(first, scram.Garbled):
        return Denied(MALFORMED, first.why)
    user = _prepared(first.user)
    if not user:
        return Denied(INVALID, "the user's name has prohibited characters", first.user)
    if first.authzid and _prepared(first.authzid) != user:
        return Denied(INVALID, "nobody may act as somebody else", user)
    binding = offer.channel.bindings.get(first.binding) if first.binding in BINDINGS else None
    if bound is not (first.flag == "p") or (bound and binding is None):
        return Denied(INVALID, "the client wants to bind to the channel in a way that is not offered", user)
    if first.flag == "y" and SCRAM_PLUS in offer.mechanisms:
        # Section 6: the client did not see what we offer, so somebody between us has taken it away.
        return Denied(INVALID, "the client was not shown all mechanisms", user)

    found = yield Ask(FindScramKeys(user))
    # Made for everyone, so that a user who does not exist takes no more time and no less.
    nobody = ScramKeys.nobodys(user, offer.secret)
    keys = found if isinstance(found, ScramKeys) else nobody
    ours = scram.server_first(first.nonce + nonce(), keys)

    final = scram.read_client_final((yield Challenge(ours.octets)))
    if isinstance(final, scram.Garbled):
        return Denied(MALFORMED, final.why, user)
    if final.nonce != ours.nonce or not hmac.compare_digest(final.binding, first.header + (binding or b"")):
        return Denied(INVALID, "another nonce, or another channel", user)
    exchange = scram.exchanged(first, ours, final.unproved)
    if not keys.proved_by(final.proof, exchange) or keys is nobody:
        return Denied(INVALID, "no such user, or another password", user)

    # There is no data with a 235, so our proof is a challenge, and the response to it empty (RFC 4954 section 4).
    if (yield Challenge(scram.server_final(keys.signature(exchange)))):
        return Denied(MALFORMED, "more than an empty response to our proof", user)
    return Proved(user)


def _first(initial: bytes | None) -> Generator[Challenge, bytes, bytes]:
    """The client's first octets, for which it may have to be asked (RFC 4954 section 4: `334 `, and no more)."""
    return (yield Challenge(b"")) if initial is None else initial


def _text(octets: bytes) -> str | None:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _prepared(name: str) -> str:
    """A user's name as it is compared; empty where there is none such."""
    if len(name) > _LONGEST_NAME:
        return ""
    try:
        return prepare(name)
    except Unpreparable:
        return ""
