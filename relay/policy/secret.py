"""The secret behind the addresses of SRS: a file of lines. The first signs, and the others are still believed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from relay.mail.srs import Srs

#: Fewer characters could be guessed; a file that is larger is another one.
_SHORTEST: Final = 20
_LARGEST: Final = 16 * 1024


def srs_of(domain: str, file: Path, days: int = 21) -> Srs:
    """Raises `ValueError` with words for the operator, which have nothing of the secret."""
    return Srs(domain, _secrets(file), days)


def _secrets(path: Path) -> tuple[bytes, ...]:
    try:
        # Not by way of a FIFO, which could keep us waiting.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            octets = file.read(_LARGEST + 1) if stat.S_ISREG(found.st_mode) else b""
    except OSError as error:
        raise ValueError(f"{path}: it cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path}: it is no ordinary file")
    if found.st_mode & (stat.S_IWGRP | stat.S_IRWXO):
        raise ValueError(f"{path}: others may read or write it; say chmod 600 {path}")
    secrets = tuple(line.strip() for line in octets.splitlines() if line.strip())
    if len(octets) > _LARGEST or not secrets or min(map(len, secrets)) < _SHORTEST:
        raise ValueError(f"{path}: each line should be a secret of {_SHORTEST} characters or more")
    return secrets
