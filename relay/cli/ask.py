"""The running relay, over its control socket: HTTP by the standard library, so that a command starts fast."""

from __future__ import annotations

import http.client
import json
import os
import socket
from typing import Any

import click

#: Where a relay's control socket is looked for if the command does not say.
USUAL_SOCKETS = ("var/control.sock", "/run/relay/control.sock")


class Unavailable(click.ClickException):
    """Nobody listens on the control socket, or not a relay."""

    exit_code = os.EX_UNAVAILABLE


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(path: str | None, question: str, timeout: float = 30.0) -> Any:
    """
    The relay's answer to `GET /question`.

    `path` is the socket's, or `None` for the first of the usual ones that exists. Raises
    `click.ClickException` with words for the operator; `Unavailable` (exit status 69) if no relay answers.
    """
    found = path or next((usual for usual in USUAL_SOCKETS if os.path.exists(usual)), USUAL_SOCKETS[0])
    connection = _UnixConnection(found, timeout)
    try:
        connection.request("GET", f"/{question}")
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as problem:
        where = found if path else " or ".join(USUAL_SOCKETS)
        raise Unavailable(f"no relay answers at {where}: {problem} (say --config FILE or --socket PATH)") from None
    finally:
        connection.close()
    if response.status != 200:
        raise click.ClickException(answer.get("error", f"the relay answered {response.status}"))
    return answer
