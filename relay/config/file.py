"""The configuration file on this machine: read, and put together with what the machine says of itself."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import BaseModel

from relay.config.errors import ConfigurationError, Problem
from relay.config.load import decode, load
from relay.config.settings import Settings


def settings_of(
    file: str,
    option_model: Callable[[str], type[BaseModel] | None],
    known: Callable[[], Iterable[str]],
) -> Settings:
    """
    The settings that the file of this name asks for, on this machine and for the user who asks.

    Raises `ConfigurationError`, also if the file cannot be read. Nothing else is looked at: whether a directory
    is there and a port is free is seen when the relay starts.
    """
    return load(
        text_of(file),
        file=file,
        base=Path(file).resolve().parent,
        hostname=socket.gethostname(),
        user=user(),
        option_model=option_model,
        known=known,
    )


def text_of(file: str) -> str:
    """What stands in the file of this name. Raises `ConfigurationError`."""
    try:
        octets = Path(file).read_bytes()
    except OSError as error:
        raise ConfigurationError([Problem(file, None, "", f"cannot be read: {error.strerror or error}")]) from None
    return decode(octets, file=file)


def user() -> str:
    """Who we are, and not who the environment says: a relay makes a mailbox for this name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container may run us as a user whom nobody has introduced
        return str(os.geteuid())
