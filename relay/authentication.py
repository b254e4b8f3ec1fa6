"""Who knows the users: from `[auth]` to credentials that sessions can ask."""

from __future__ import annotations

import os
from typing import Any, Final

from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.logger import Logger

from relay.config.errors import ConfigurationError
from relay.config.settings import Settings
from relay.interfaces import IClock, ICredentials
from relay.net.credentials import CheckerCredentials
from relay.net.dovecot_auth import DovecotAuth
from relay.net.password_file import PasswordFile
from relay.net.verifying import VerifyingThreads
from relay.registry import Registry, said_by

_checkers: Final = Registry("checker", {}, "relay.checkers", ICredentialsChecker)


class UserSource:
    """
    Who knows the users of a relay, and the threads in which passwords are verified.

    Made before anything starts, when a file of passwords is read for the first time; started by the user that the
    relay runs as.
    """

    #: `None`: there are no users.
    credentials: ICredentials | None

    def __init__(
        self,
        settings: Settings,
        clock: IClock,
        reactor: Any,
        *,
        file: str,
        log: Logger | None = None,
        secret: bytes | None = None,
    ) -> None:
        """
        `file` is the configuration's, by its name for the operator. `secret` is one that all processes of the relay
        have, if there are several. Raises `ConfigurationError`.
        """
        self._log = log or Logger(namespace="relay.auth")
        self._reader = os.geteuid()
        self._path = settings.auth.passwords
        self._threads: VerifyingThreads | None = None
        self._secret = secret
        try:
            self.credentials = self._credentials(settings, clock, reactor, file)
        except ValueError as error:
            key = settings.auth.source
            assert key is not None, "nobody is no mistake"
            raise ConfigurationError([settings.problem(file, ("auth", key), str(error))]) from None

    def start(self) -> None:
        """From now on passwords can be verified."""
        if self._path is not None and os.geteuid() != self._reader and not os.access(self._path, os.R_OK):
            self._log.warn(
                "Root has read {path}, and the relay will not be able to when it changes: then nobody can log in",
                path=self._path,
            )
        if self._threads is not None:
            self._threads.start()

    def stop(self) -> None:
        """Wait for the password that is being verified, if any."""
        if self._threads is not None:
            self._threads.stop()

    def _credentials(self, settings: Settings, clock: IClock, reactor: Any, file: str) -> ICredentials | None:
        """Raises `ValueError` with words for the operator."""
        auth = settings.auth
        if auth.passwords is not None:
            self._threads = VerifyingThreads(reactor)
            try:
                return PasswordFile(auth.passwords, self._threads, clock, secret=self._secret)
            except FileNotFoundError:
                raise ValueError(
                    f"{auth.passwords}: there is no such file; `relayctl passwd -c {file} USER` makes it"
                ) from None
            except OSError as error:
                raise ValueError(f"{auth.passwords}: {error.strerror}") from None
        if auth.dovecot is not None:
            return DovecotAuth(UNIXClientEndpoint(reactor, str(auth.dovecot)), clock)
        if auth.checker is not None:
            return _plugin(auth.checker, clock)
        return None


def _plugin(use: str, clock: IClock) -> ICredentials:
    """
    A class, which is called without arguments, or an object. It provides twisted.cred's contract, or ours.

    Raises `ValueError` with words for the operator.
    """
    found = _checkers.find(use)
    if isinstance(found, type):
        try:
            found = found()
        except (Exception, SystemExit) as error:  # anything may happen in somebody's class
            raise ValueError(f"the checker {use!r} cannot be made: {said_by(error)}") from error
    if ICredentials.providedBy(found):
        credentials: ICredentials = found
        return credentials
    if not ICredentialsChecker.providedBy(found):
        raise ValueError(
            f"{use!r} is no checker: it provides neither ICredentialsChecker of twisted.cred nor our ICredentials"
        )
    return CheckerCredentials(found, clock)
