"""Where passwords are verified: in threads of their own, since each takes a fifth of a second and 64 MiB."""

from __future__ import annotations

from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import Interface, implementer

from relay.interfaces import CredentialsUnavailable


class IVerifier(Interface):
    """Compares passwords with argon2 hashes."""

    async def verify(argon2: str, password: str) -> bool:
        """
        Whether the hash is the password's. Takes as long where it is not.

        Raises `CredentialsUnavailable` where too many wait already.
        """


@implementer(IVerifier)
class VerifyAtOnce:
    """Verifies where it stands: for tests, and for programs without a reactor."""

    async def verify(self, argon2: str, password: str) -> bool:
        return verified(argon2, password)


@implementer(IVerifier)
class VerifyingThreads:
    """
    At most `threads` verifications at the same time, and `waiting` that wait for their turn: whoever comes then would
    have to wait for seconds, and so would everyone behind him.
    """

    def __init__(self, reactor: Any, threads: int = 2, waiting: int = 50) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(0, threads, "passwords")
        self._most = threads + waiting
        self._unanswered = 0
        self._stopping = False

    def start(self) -> None:
        self._pool.start()

    def stop(self) -> None:
        """Wait for what is being verified at this moment, and forget what waits."""
        self._stopping = True
        self._pool.stop()

    async def verify(self, argon2: str, password: str) -> bool:
        if self._unanswered >= self._most or self._stopping:
            raise CredentialsUnavailable("too many passwords are being verified")
        wanted = [True]
        answered: Deferred[bool] = Deferred(lambda _: wanted.clear())

        def work() -> bool:
            if self._stopping:
                raise CredentialsUnavailable("the relay is stopping")
            # Who has hung up, or was cancelled, costs no fifth of a second.
            return bool(wanted) and verified(argon2, password)

        def back(_succeeded: bool, result: bool | Failure) -> None:
            self._reactor.callFromThread(done, result)

        def done(result: bool | Failure) -> None:
            self._unanswered -= 1
            if not answered.called:
                answered.callback(result)  # a `Failure` makes it fail

        self._unanswered += 1
        self._pool.callInThreadWithCallback(back, work)
        return await answered


def verified(argon2: str, password: str) -> bool:
    """Whether the hash is the password's."""
    try:
        # The parameters are the hash's own.
        return PasswordHasher().verify(argon2, password)
    except (VerificationError, InvalidHashError):
        return False
