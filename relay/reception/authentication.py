"""Who a client is: the exchanges of AUTH in one session, and how often it may be wrong (RFC 4954)."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from attrs import field, frozen
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from relay.interfaces import CredentialsUnavailable, ICredentials
from relay.mail.reply import Reply
from relay.mail.tls import TlsFacts
from relay.net.auth_limits import Attempts, Limiter
from relay.smtp import answers, sasl
from relay.smtp.sasl import Ask, Challenge, CheckPassword, Denied, Exchange, Proved
from relay.smtp.sasl_lines import encode
from relay.smtp.scram import SCRAM, SCRAM_PLUS

#: What needs nobody who knows the users: the certificate says it all.
_BY_CERTIFICATE: Final = ("EXTERNAL",)
_SCRAMS: Final = (SCRAM, SCRAM_PLUS)
_NONCE_OCTETS: Final = 18


@frozen
class Users:
    """Who may be somebody here, and by what they prove it: the same for all sessions."""

    #: `None`: nobody knows any, and certificates are all there is.
    credentials: ICredentials | None
    limiter: Limiter
    #: The mechanisms that are offered at most.
    allowed: tuple[str, ...]
    _secret: bytes = field(factory=lambda: secrets.token_bytes(32), repr=False)

    def offer(self, channel: sasl.Channel) -> sasl.Offer:
        """What a session on this channel may offer."""
        credentials = self.credentials
        if credentials is None:
            return sasl.Offer.of([name for name in self.allowed if name in _BY_CERTIFICATE], channel, self._secret)
        possible = [name for name in self.allowed if credentials.scram or name not in _SCRAMS]
        return sasl.Offer.of(possible, channel, credentials.secret)


def user_of(tls: TlsFacts | None) -> str | None:
    """
    The user for whom a client's certificate stands: its one mail address, else its common name. `None`: nobody.

    The authorities that are believed here were named by the operator for this, so what they have signed is true. A
    name of which we see only a part (`?` stands for what is not printable ASCII) is nobody's: two might look alike.
    """
    subject = None if tls is None else tls.client_subject
    if subject is None:
        return None
    name = subject.addresses[0] if len(subject.addresses) == 1 else subject.common_name
    return None if name is None or "?" in name else name


class Authentication:
    """
    What one session tries: `begin` for AUTH, `respond` for what the client says to a 334, `cancel` where it does not.

    `user` is who the client is, once a reply was 235. `lost` must be called when the session ends.
    """

    __slots__ = ("_attempts", "_exchange", "_log", "_offer", "_users", "denied", "user")

    def __init__(self, users: Users, offer: sasl.Offer, address: str | None, log: Logger) -> None:
        self._users = users
        self._offer = offer
        self._attempts: Attempts = users.limiter.session(address)
        self._exchange: Exchange | None = None
        self._log = log
        self.user: str | None = None
        #: How the last exchange was denied: for our log, since it says more than the client hears.
        self.denied: Denied | None = None

    async def begin(self, mechanism: str, initial: bytes | None) -> Reply:
        """AUTH: the reply is 334, 235, or a refusal."""
        self.denied = None
        self.cancel()  # one whose answer took too long
        if not self._attempts.may_try:
            return answers.TOO_MANY_FAILURES
        exchange = self._offer.exchange(mechanism, _nonce)
        if exchange is None:
            return sasl.UNKNOWN_MECHANISM
        self._exchange = exchange
        self._attempts.begin()
        return await self._go_on(exchange, lambda: exchange.begin(initial))

    async def respond(self, octets: bytes) -> Reply:
        """What the client says to a 334."""
        exchange = self._exchange
        if exchange is None:
            raise RuntimeError("no exchange is under way")
        return await self._go_on(exchange, lambda: exchange.respond(octets))

    def cancel(self) -> None:
        """The client does not want to go on."""
        if self._exchange is not None:
            self._exchange = None
            self._attempts.withdrawn()

    def lost(self) -> None:
        """The client is gone. Who leaves amid an exchange has perhaps seen what he wanted to see."""
        if self._exchange is not None:
            self._exchange = None
            self._attempts.failed()

    async def _go_on(self, exchange: Exchange, first: Callable[[], sasl.Step]) -> Reply:
        """Whatever happens, the attempt is over or goes on by a 334; what a client can do about it is not to ask."""
        try:
            step = first()
            while isinstance(step, Ask):
                found = await self._find_out(step.question)
                if self._exchange is not exchange:  # given up meanwhile, and accounted for
                    return sasl.UNAVAILABLE
                step = exchange.answer(found)
            if isinstance(step, Challenge):
                return Reply.of(334, None, encode(step.octets).decode("ascii"))
        except CancelledError:
            # Our patience has ended, which is no failure of the client's; if the client has, `lost` was called before.
            self.cancel()
            raise
        except CredentialsUnavailable as problem:
            self._log.error("Nobody can be authenticated now: {problem}", problem=str(problem))
            return self._cannot_say()
        except Exception:
            self._log.failure("Whoever knows the users has failed, the client is told 454")
            return self._cannot_say()
        match step:
            case Proved(user):
                self._exchange = None
                self._attempts.succeeded()
                self.user = user
                return sasl.PROVED
            case Denied(reply):
                self._exchange, self.denied = None, step
                self._attempts.failed()
                return reply if self._attempts.may_try else answers.TOO_MANY_FAILURES

    async def _find_out(self, question: sasl.Question) -> sasl.Answer:
        credentials = self._users.credentials
        if credentials is None:
            raise RuntimeError("nobody knows the users")
        if isinstance(question, CheckPassword):
            return await credentials.check_password(question.user, question.password)
        return await credentials.scram_keys(question.user)

    def _cannot_say(self) -> Reply:
        # If the client has gone meanwhile, `lost` has said so already.
        if self._exchange is not None:
            self._exchange = None
            self._attempts.withdrawn()
        return sasl.UNAVAILABLE


def _nonce() -> str:
    return secrets.token_urlsafe(_NONCE_OCTETS)
