"""
Dovecot's users, by its authentication socket: with them the system's own (PAM), LDAP, SQL and whatever it knows.

The protocol (Dovecot's documentation, "Dovecot Authentication Protocol v1.x") is lines of words with tabs between them.
We use as little of it as there is: PLAIN, one question a connection.
"""

from __future__ import annotations

import secrets
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.interfaces import CredentialsUnavailable, IClock, ICredentials
from relay.net.clock import cancel
from relay.smtp.sasl_lines import encode
from relay.smtp.scram import ScramKeys

#: Lines of the greeting. There is one for each mechanism that Dovecot knows, and a few more.
_MOST_LINES: Final = 100


@implementer(ICredentials)
class DovecotAuth:
    """
    Asks Dovecot. It answers a wrong password late, on purpose (two seconds, unless configured otherwise), for users who
    exist and for others.

    `at_once` is the number of questions at the same time; whoever comes then hears that it is not possible now.
    """

    scram = False

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        clock: IClock,
        service: str = "smtp",
        timeout: float = 15.0,
        at_once: int = 50,
    ) -> None:
        """`endpoint` is the Unix socket's; `timeout` is in seconds, for all of a question."""
        self._endpoint = endpoint
        self._clock = clock
        self._service = service.encode("ascii")
        self._timeout = timeout
        self._at_once = at_once
        self._asking = 0
        self.secret = secrets.token_bytes(32)

    async def check_password(self, user: str, password: str) -> str | None:
        if self._asking >= self._at_once:
            raise CredentialsUnavailable("Dovecot has too many questions to answer")
        conversation = _Conversation(self._request(user, password))
        self._asking += 1
        connecting = connectProtocol(self._endpoint, conversation)
        connecting.addErrback(lambda failure: conversation.fail(f"not connected: {failure.getErrorMessage()}"))
        deadline = self._clock.callLater(self._timeout, conversation.fail, "no answer in time")
        try:
            return await conversation.answered
        finally:
            self._asking -= 1
            cancel(deadline)
            connecting.cancel()
            conversation.close()

    async def scram_keys(self, user: str) -> ScramKeys | None:
        return None

    def _request(self, user: str, password: str) -> bytes:
        # The number is ours, and may be the same in each connection. `secured`: AUTH is not offered without TLS.
        # `no-penalty`: Dovecot does not hear where the client is, and would make everyone wait for the failures of one,
        # for up to 15 seconds; we count failures by address ourselves (`relay.net.auth_limits`).
        words = (b"AUTH", b"1", b"PLAIN", b"service=" + self._service, b"secured", b"no-penalty")
        # This one comes last.
        return b"\t".join((*words, b"resp=" + encode(f"\0{user}\0{password}".encode())))


class _Conversation(LineOnlyReceiver):
    """One connection: both sides greet, we ask, it answers."""

    delimiter = b"\n"
    MAX_LENGTH = 8192

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._lines = 0
        self._plain = False
        self._asked = False
        self._over = False
        #: Fires with the user's name or `None`, or fails with `CredentialsUnavailable`.
        self.answered: Deferred[str | None] = Deferred()

    def connectionMade(self) -> None:
        # Clients are told apart by this number, which must not be another's at the same time. Postfix and Dovecot's
        # own send their process's, and those are smaller than these.
        number = 2**22 + secrets.randbelow(2**31 - 2**22)
        self._say(b"VERSION\t1\t1\nCPID\t%d" % number)

    def lineReceived(self, line: bytes) -> None:
        if self._over:
            return
        self._lines += 1
        if self._lines > _MOST_LINES:
            self.fail("it talks and talks")
            return
        match line.split(b"\t"):
            case [b"VERSION", major, *_] if major != b"1":
                self.fail("it speaks another version of the protocol")
            case [b"MECH", b"PLAIN", *_]:
                self._plain = True
            case [b"DONE"] if not self._asked:
                self._ask()
            case [b"OK", b"1", *words] if self._asked:
                self._accepted(words)
            case [b"FAIL", b"1", *words] if self._asked:
                self._denied(words)
            case [b"CONT", b"1", *_] if self._asked:
                self.fail("it wants more than PLAIN has")
            # Whatever else there is (SPID, CUID, COOKIE, other mechanisms, news of later versions) means nothing to us.

    def _ask(self) -> None:
        if not self._plain:
            self.fail("it does not offer PLAIN")
            return
        self._asked = True
        self._say(self._request)

    def _accepted(self, words: list[bytes]) -> None:
        users = [word[len(b"user=") :] for word in words if word.startswith(b"user=")]
        try:
            (user,) = (user.decode("utf-8") for user in users if user)
        except ValueError:  # none, several, or not UTF-8
            self.fail("it did not say which user it is")
        else:
            self._settle(user)

    def _denied(self, words: list[bytes]) -> None:
        if b"temp" in words or b"code=temp_fail" in words:
            self.fail("it cannot say at the moment")
        else:
            self._settle(None)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.fail("its line is too long")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.fail("it has hung up")

    def fail(self, why: str) -> None:
        """There will be no answer; too late is no mistake."""
        if not self.answered.called:
            self._over = True
            self.answered.errback(CredentialsUnavailable(f"Dovecot's authentication: {why}"))

    def close(self) -> None:
        """Nobody listens any more."""
        self._over = True
        self._request = b""
        if self.transport is not None:
            self.transport.loseConnection()

    def _settle(self, user: str | None) -> None:
        if not self.answered.called:
            self._over = True
            self.answered.callback(user)

    def _say(self, line: bytes) -> None:
        assert self.transport is not None
        self.transport.write(line + b"\n")
