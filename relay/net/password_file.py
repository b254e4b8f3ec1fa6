"""Users in a file of our own, which `relayctl passwd` writes and people copy from machine to machine."""

from __future__ import annotations

import os
import secrets
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from zope.interface import implementer

from relay.interfaces import CredentialsUnavailable, IClock, ICredentials
from relay.net.passwords import (
    DEFAULT_COST,
    LARGEST,
    SECRET_OCTETS,
    Passwords,
    Unsuitable,
    nobodys_hash,
    parse,
    prepared_password,
)
from relay.net.verifying import IVerifier
from relay.smtp.scram import ScramKeys

#: Seconds between two looks at whether the file has changed.
LOOK_EVERY: Final = 1.0


@implementer(ICredentials)
class PasswordFile:
    """
    The users of one file, which is read again when it has changed.

    A file that is gone, makes no sense or may be read by others is `CredentialsUnavailable` for everyone until it is
    mended: what it said last week may have been changed for a reason.
    """

    scram = True

    def __init__(
        self,
        path: Path,
        verifier: IVerifier,
        clock: IClock,
        random: Callable[[int], bytes] = secrets.token_bytes,
        secret: bytes | None = None,
    ) -> None:
        """
        Reads the file. Raises `OSError` or `ValueError`, with words for the operator. `secret` is for a file that has
        none: where other processes answer for it too, they have to say the same of users who do not exist.
        """
        self.path = path
        self._verifier = verifier
        self._clock = clock
        self._random = random
        #: While the file has none, or cannot be read.
        self._own_secret = secret or random(SECRET_OCTETS)
        self._looked = clock.seconds()
        self._traits = _traits(os.stat(path))
        self._problem: str | None = None
        self._passwords = _read(path)
        self._nobodys = self._nobodys_hash()

    @property
    def secret(self) -> bytes:
        return self._passwords.secret or self._own_secret

    async def check_password(self, user: str, password: str) -> str | None:
        record = self._current().records.get(user)
        argon2 = None if record is None else record.argon2
        try:
            prepared = prepared_password(password)
        except Unsuitable:
            # It cannot be anybody's; what follows is to take as long all the same.
            prepared, argon2 = "", None
        verified = await self._verifier.verify(argon2 or self._nobodys, prepared)
        return user if verified and argon2 is not None else None

    async def scram_keys(self, user: str) -> ScramKeys | None:
        record = self._current().records.get(user)
        return None if record is None else record.scram

    def _current(self) -> Passwords:
        now = self._clock.seconds()
        if now - self._looked >= LOOK_EVERY:
            self._looked = now
            self._look()
        if self._problem is not None:
            raise CredentialsUnavailable(self._problem)
        return self._passwords

    def _look(self) -> None:
        try:
            traits = _traits(os.stat(self.path))
            if traits == self._traits:
                return
            # Whoever writes to it while we read changes what we find at the next look.
            self._traits = traits
            self._problem = None
            self._passwords = _read(self.path)
            self._nobodys = self._nobodys_hash()
        except OSError as error:
            self._problem, self._traits = f"{self.path}: {error.strerror}", ()
        except ValueError as error:
            self._problem = str(error)

    def _nobodys_hash(self) -> str:
        """What users who do not exist are verified against: as dear as most of those who do."""
        costs = Counter(record.cost for record in self._passwords.records.values() if record.argon2)
        ((cost, _),) = costs.most_common(1) or ((DEFAULT_COST, 0),)
        return nobodys_hash(cost, self._random)


def _read(path: Path) -> Passwords:
    # It does not wait for the other end of a pipe.
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path}: not a file")
        if status.st_mode & (stat.S_IWGRP | stat.S_IRWXO):
            raise ValueError(f"{path}: others may read or write it; say chmod 600 {path}")
        octets = file.read(LARGEST + 1)
    if len(octets) > LARGEST:
        raise ValueError(f"{path}: larger than {LARGEST // 1024 // 1024} MiB")
    try:
        return parse(octets.decode("utf-8"))
    except UnicodeDecodeError:
        # Not the error itself: it would carry the file's content along.
        raise ValueError(f"{path}: not UTF-8") from None
    except ValueError as problem:
        raise ValueError(f"{path}: {problem}") from None


def _traits(status: os.stat_result) -> tuple[int, ...]:
    """What differs once somebody has written to the file, or has let others in."""
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev, status.st_mode, status.st_uid
