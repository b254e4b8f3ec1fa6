"""
Who the users are, and what proves it: the contract, and checkers of `twisted.cred` behind it.

The other providers are `relay.net.password_file` and `relay.net.dovecot_auth`.
"""

from __future__ import annotations

import secrets
from typing import Any

from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from zope.interface import Attribute, Interface, implementer

from relay.interfaces import IClock
from relay.net.clock import cancel
from relay.smtp.scram import ScramKeys


class CredentialsUnavailable(Exception):
    """
    Nobody can say now whether the user is who it claims to be: 454 4.7.0 for the client (RFC 4954 section 6).

    The words are for the operator, and never have a password in them.
    """


class ICredentials(Interface):
    """
    Knows users, and answers the questions of `relay.smtp.sasl`.

    For a user who does not exist it does the same work as for one who does, and takes as long. A user's name comes
    prepared by SASLprep, and a password as the client said it. Both methods raise `CredentialsUnavailable`;
    any other exception is a mistake in the provider. Either is answered with 454 4.7.0, and never counts as a failure
    of the client. When what is awaited is cancelled, nobody is interested in the answer any more.
    """

    scram = Attribute("Whether `scram_keys` has keys at all: SCRAM is not offered otherwise.")
    secret = Attribute(
        "At least 32 octets that nobody knows: the keys of users who do not exist are made from them. They should be"
        " the same after a restart, and on each machine that has the same users."
    )

    async def check_password(user: str, password: str) -> str | None:
        """The user's name, as policies and logs are to see it, if this is its password; else `None`."""

    async def scram_keys(user: str) -> ScramKeys | None:
        """The keys of this user, or `None` where there is no such user, or one that has none."""


@implementer(ICredentials)
class CheckerCredentials:
    """
    A checker of `twisted.cred` for `IUsernamePassword`: any plugin's.

    It is handed UTF-8, and what it returns as avatar id is the user's name. It does not get more time than `timeout`
    seconds; that it takes as long for unknown users is up to it.
    """

    scram = False

    def __init__(self, checker: Any, clock: IClock, timeout: float = 10.0) -> None:
        """`checker` provides `ICredentialsChecker`. Raises `ValueError` if it does not take passwords."""
        if IUsernamePassword not in checker.credentialInterfaces:
            raise ValueError(f"{type(checker).__name__} does not check user names and passwords")
        self._checker = checker
        self._clock = clock
        self._timeout = timeout
        self.secret = secrets.token_bytes(32)

    async def check_password(self, user: str, password: str) -> str | None:
        credentials = UsernamePassword(user.encode("utf-8"), password.encode("utf-8"))
        checked: Deferred[object] = maybeDeferred(self._checker.requestAvatarId, credentials)
        late: list[bool] = []

        def give_up() -> None:
            late.append(True)
            checked.cancel()

        deadline = self._clock.callLater(self._timeout, give_up)
        try:
            avatar = await checked
        except UnauthorizedLogin:
            return None
        except CancelledError:
            if late:
                raise CredentialsUnavailable("the checker has not answered in time") from None
            raise
        finally:
            cancel(deadline)
        match avatar:
            case bytes():
                return avatar.decode("utf-8") or None
            case str():
                return avatar or None
            case _:
                # `ANONYMOUS` is an empty tuple, and nobody.
                return None

    async def scram_keys(self, user: str) -> ScramKeys | None:
        return None
