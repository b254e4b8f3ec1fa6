"""Users whom a checker of `twisted.cred` knows: any plugin's."""

from __future__ import annotations

import secrets
from typing import Any

from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from zope.interface import implementer

from relay.interfaces import CredentialsUnavailable, IClock, ICredentials
from relay.net.clock import cancel
from relay.smtp.scram import ScramKeys


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
