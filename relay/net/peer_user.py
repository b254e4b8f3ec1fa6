"""Who is at the other end of a Unix socket, as the kernel says (unix(7), `SO_PEERCRED`): nobody can lie about it."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from typing import Any, Final

#: `struct ucred`: process, user, group.
_CREDENTIALS: Final = struct.Struct("iII")


def user_at(transport: Any) -> str | None:
    """
    The login of the process that has connected, or `uid-1234` where the user has no name here. `None` where the
    transport is no Unix socket of this machine, or the kernel does not tell.
    """
    try:
        connection = transport.getHandle()
        if connection.family != socket.AF_UNIX:
            return None
        octets = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(octets)
    except (AttributeError, OSError, struct.error):
        return None
    return _name(uid)


def own_user() -> str:
    """The login of this process, in the same words."""
    return _name(os.geteuid())


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"
