"""Who we are at the hosts that ask: names of the configuration, and the secrets behind them, fresh for each login."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from relay.config.logins import LoginSettings
from relay.smtp.sasl_client import Login, Password, Token

#: No password and no token is longer.
_LONGEST: Final = 16 * 1024


class NoLogin(ValueError):
    """There is no such login, or its secret cannot be had now: words for the operator, without the secret."""


class Logins:
    """The logins of a configuration. A file that is as small as this is read at once, as the operator left it."""

    def __init__(self, logins: Iterable[LoginSettings] = ()) -> None:
        self._logins = {login.name: login for login in logins}

    def take(self, name: str) -> Login:
        """The login that the configuration has under this name. Raises `NoLogin`."""
        settings = self._logins.get(name)
        if settings is None:
            raise NoLogin(f"there is no [[login]] called '{name}' in the configuration any more")
        try:
            if settings.token_file is not None:
                return Token(settings.user, _first_line(settings.token_file))
            if settings.password_file is not None:
                return Password(settings.user, _first_line(settings.password_file))
            assert settings.password is not None, "a login has a secret"
            return Password(settings.user, settings.password.get_secret_value())
        except NoLogin:
            raise
        except ValueError as problem:  # it says nothing of what it is
            raise NoLogin(f"login '{name}': {problem}") from None


def _first_line(path: Path) -> str:
    try:
        # Not by way of a FIFO, which could keep us waiting.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise NoLogin(f"{path}: it is no ordinary file")
            if found.st_mode & (stat.S_IWGRP | stat.S_IRWXO):
                raise NoLogin(f"{path}: others may read or write it; say chmod 600 {path}")
            octets = file.read(_LONGEST + 1)
    except OSError as error:
        raise NoLogin(f"{path}: it cannot be read: {error.strerror}") from None
    if len(octets) > _LONGEST:
        raise NoLogin(f"{path}: it is too large for a password or a token")
    try:
        return octets.partition(b"\n")[0].rstrip(b"\r").decode("utf-8")
    except UnicodeDecodeError:
        raise NoLogin(f"{path}: it is not UTF-8") from None
