"""
Authentication, the client's side: how we prove to a smarthost who we are (RFC 4954), without I/O.

The shape is that of `relay.smtp.sasl`: a mechanism is a generator that is handed the server's challenges and yields our
responses. When to authenticate at all is the session's matter: never on a channel that is not verified TLS.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Generator, Mapping
from typing import Final, TypeAlias

from attrs import Attribute, field, frozen

from relay.smtp import scram
from relay.smtp.sasl_lines import Malformed, encode_initial
from relay.smtp.saslprep import Unpreparable, prepare
from relay.smtp.scram import BINDINGS, SCRAM, SCRAM_PLUS, SaltedPassword

#: For a password, the strongest first. PLAIN stands before LOGIN, since it has an RFC and a round trip less.
_FOR_PASSWORDS: Final = (SCRAM_PLUS, SCRAM, "PLAIN", "LOGIN")

#: RFC 7677 section 4. A server that asks for less may be one that would like to guess.
_LEAST_ITERATIONS: Final = 4096
#: A fifth of a second, in which the relay does nothing else. Who asks for more does not want us as a client.
_MOST_ITERATIONS: Final = 200_000
#: RFC 5321 section 4.5.3.1.4. An initial response that does not fit is sent later (RFC 4954 section 4).
_COMMAND_LINE: Final = 512


def _sendable(instance: object, attribute: Attribute[str], value: str) -> None:
    if not value or any(c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in value):
        raise ValueError(f"the {attribute.name} is empty, or has a control character")


@frozen
class Password:
    """A user of the smarthost. Raises `ValueError` for what cannot be sent, without repeating it."""

    user: str = field(validator=_sendable)
    password: str = field(repr=False, validator=_sendable)


@frozen
class Token:
    """A user, and a bearer token (OAuth 2.0) that somebody keeps fresh. Raises `ValueError` as `Password` does."""

    user: str = field(validator=_sendable)
    token: str = field(repr=False, validator=_sendable)


Login: TypeAlias = Password | Token


@frozen
class Response:
    """Say this: base64 on a line of its own."""

    octets: bytes = field(repr=False)
    #: All is said with it: what comes next is the server's verdict, and may be believed.
    last: bool = False


@frozen
class Refused:
    """We do not go on: say `*`, and whatever the server says then, we are not authenticated. In our own words."""

    why: str


#: Yields `None` first where the server has to speak first.
_Run: TypeAlias = Generator[Response | None, bytes | Malformed, Refused]

_TOO_MUCH: Final = Refused("the server asks for more than the mechanism has")


def strongest(offered: Collection[str], login: Login, bindings: Mapping[str, bytes]) -> str | None:
    """
    The mechanism to use, of those that the server offers, or `None` if there is none for this login.

    `bindings` are of our channel, and empty unless the server is known to bind as we do: it cannot be asked, and a
    server that has another kind would refuse us.
    """
    names = {name.upper() for name in offered}
    if isinstance(login, Token):
        return "XOAUTH2" if "XOAUTH2" in names else None
    scrams = _is_preparable(login)
    possible = {SCRAM_PLUS: scrams and _best(bindings) is not None, SCRAM: scrams}
    return next((name for name in _FOR_PASSWORDS if name in names and possible.get(name, True)), None)


class Exchange:
    """
    One attempt: send `command()`, and for each 334 what `respond` says, until the server answers with something else.

    A 235 may only be believed if `believes` is true by then.
    """

    def __init__(self, mechanism: str, run: _Run) -> None:
        self.mechanism = mechanism
        self._run = run
        self._withheld: Response | None = None
        self._believes = False

    @classmethod
    def begin(
        cls,
        offered: Collection[str],
        login: Login,
        nonce: Callable[[], str],
        bindings: Mapping[str, bytes] | None = None,
    ) -> Exchange | None:
        """
        An exchange by the strongest mechanism, or `None` where none is possible.

        `nonce` makes text that nobody can guess, of printable ASCII without a comma; it is called for SCRAM only.
        """
        bindings = bindings or {}
        mechanism = strongest(offered, login, bindings)
        match mechanism, login:
            case None, _:
                return None
            case _, Token():
                return cls("XOAUTH2", _xoauth2(login))
            case "PLAIN", _:
                return cls("PLAIN", _plain(login))
            case "LOGIN", _:
                return cls("LOGIN", _login(login))
            case _:
                best = _best(bindings)
                # RFC 5802 section 6: `y` tells a server that does offer it that somebody has taken the offer away.
                flag = "n" if best is None else f"p={best}" if mechanism == SCRAM_PLUS else "y"
                binding = bindings[best] if best is not None and mechanism == SCRAM_PLUS else b""
                return cls(mechanism, _scram(login, nonce(), flag, binding))

    @property
    def believes(self) -> bool:
        """Whether all was said, on both sides. With SCRAM the server has then proved that it knows us too."""
        return self._believes

    def command(self) -> bytes:
        """The AUTH command, without its CRLF; asked for once. There may be a password in it."""
        command = b"AUTH " + self.mechanism.encode("ascii")
        initial = next(self._run)
        if initial is None:
            return command
        whole = command + b" " + encode_initial(initial.octets)
        if len(whole) + len(b"\r\n") > _COMMAND_LINE:
            self._withheld = initial
            return command
        self._believes = initial.last
        return whole

    def respond(self, challenge: bytes | Malformed) -> Response | Refused:
        """What to say to the challenge that stood behind 334, decoded."""
        step: Response | Refused | None
        if self._withheld is not None:
            step, self._withheld = self._withheld, None
        else:
            try:
                step = self._run.send(challenge)
            except StopIteration as done:
                # A generator that has returned before says nothing more.
                step = done.value or _TOO_MUCH
        assert step is not None
        self._believes = isinstance(step, Response) and step.last
        return step


# The mechanisms. What a server says as a prompt is not looked at: there are as many wordings as servers.


def _plain(login: Password) -> _Run:
    """PLAIN (RFC 4616). We never ask to act as somebody else."""
    yield Response(f"\0{login.user}\0{login.password}".encode(), last=True)
    return _TOO_MUCH


def _login(login: Password) -> _Run:
    """LOGIN, which has no RFC."""
    yield None
    yield Response(login.user.encode())
    yield Response(login.password.encode(), last=True)
    return _TOO_MUCH


def _xoauth2(login: Token) -> _Run:
    """XOAUTH2, as Google and Microsoft have described it."""
    yield Response(f"user={login.user}\1auth=Bearer {login.token}\1\1".encode(), last=True)
    # Only if the token is not taken: a challenge with the reason, and the refusal comes after an empty response.
    yield Response(b"")
    return _TOO_MUCH


def _scram(login: Password, nonce: str, flag: str, binding: bytes) -> _Run:
    """SCRAM (RFC 5802 section 3). A server that does not know our password learns nothing that it could log in by."""
    first = scram.client_first(flag, prepare(login.user), nonce)
    challenge = yield Response(first.header + first.bare)
    theirs = Malformed() if isinstance(challenge, Malformed) else scram.read_server_first(challenge)
    if not isinstance(theirs, scram.ServerFirst):
        return Refused("the server has not answered as SCRAM wants it")
    if not theirs.nonce.startswith(nonce) or theirs.nonce == nonce:
        return Refused("the server has not added to our nonce")
    if not _LEAST_ITERATIONS <= theirs.iterations <= _MOST_ITERATIONS:
        return Refused(f"the server wants {theirs.iterations} iterations")

    salted = SaltedPassword.of(login.password, theirs.salt, theirs.iterations)
    unproved = scram.unproved(first.header + binding, theirs.nonce)
    exchange = scram.exchanged(first, theirs, unproved)
    challenge = yield Response(scram.client_final(unproved, salted.proof(exchange)))
    signature = Malformed() if isinstance(challenge, Malformed) else scram.read_server_final(challenge)
    if not isinstance(signature, bytes) or not hmac.compare_digest(signature, salted.signature(exchange)):
        return Refused("the server has not proved that it knows us")
    yield Response(b"", last=True)
    return _TOO_MUCH


def _best(bindings: Mapping[str, bytes]) -> str | None:
    return next((name for name in BINDINGS if name in bindings), None)


def _is_preparable(login: Password) -> bool:
    """Whether SCRAM can have this name and this password; the other mechanisms send them as they are."""
    try:
        return bool(prepare(login.user) and prepare(login.password, stored=True))
    except Unpreparable:
        return False
