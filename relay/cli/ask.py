"""The running relay, over its control socket: HTTP by the standard library, so that a command starts fast."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import click

from relay.cli.missing import note

#: Where a relay's control socket is looked for if the command does not say.
USUAL_SOCKETS = ("var/control.sock", "/run/relay/control.sock")


class Unavailable(click.ClickException):
    """Nobody listens on the control socket, or not a relay."""

    exit_code = os.EX_UNAVAILABLE

    def __init__(self, what: str, hint: str = "say --config FILE or --socket PATH") -> None:
        super().__init__(f"{what} ({hint})")
        #: The same without the hint, for a command whose options mean something else.
        self.what = what


class Unreadable(click.ClickException):
    """The configuration that should say where the control socket is cannot be read."""

    exit_code = os.EX_CONFIG


class Declined(click.ClickException):
    """The relay has answered that it cannot answer."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        #: HTTP's: 400 if it is not understood, 413 if it is too long.
        self.status = status


def ask(path: str | None, question: str, timeout: float = 30.0) -> Any:
    """
    The relay's answer to `GET /question`.

    `path` is the socket's, or `None` for the first of the usual ones that exists. Raises
    `click.ClickException` with words for the operator; `Unavailable` (exit status 69) if no relay answers. What the
    answer lacks, it has said (`relay.cli.missing`).
    """
    return note(_said(path, "GET", question, None, timeout))


def question(name: str, words: Mapping[str, str]) -> str:
    """What `ask` is asked with: the words that say something, behind the name."""
    # Here, since `relayctl --help` does not need it.
    from urllib.parse import urlencode

    said = urlencode({word: value for word, value in words.items() if value != ""})
    return f"{name}?{said}" if said else name


def pages(path: str | None, name: str, words: Mapping[str, str]) -> Iterator[Any]:
    """The relay's answers to a question whose answer comes in pages."""
    after = ""
    while True:
        answer = ask(path, question(name, {**words, "after": after}))
        yield answer
        after = answer["next"]
        if not after:
            return


def bid(path: str | None, act: str, words: Mapping[str, Any], timeout: float = 60.0) -> Any:
    """What the relay says when it was told to do this: `POST /act`. Raises as `ask` does."""
    return note(_said(path, "POST", act, json.dumps(words), timeout))


def _said(path: str | None, method: str, what: str, body: str | None, timeout: float) -> Any:
    import http.client

    found = path or next((usual for usual in USUAL_SOCKETS if os.path.exists(usual)), USUAL_SOCKETS[0])
    connection = http.client.HTTPConnection("localhost", timeout=timeout)
    try:
        connection.sock = _connected(found, timeout)
        connection.request(method, f"/{what}", body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as problem:
        where = found if path else " or ".join(USUAL_SOCKETS)
        raise Unavailable(f"no relay answers at {where}: {problem}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise Declined(answer.get("error", f"the relay answered {response.status}"), response.status)
    return answer


def _connected(path: str, timeout: float) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.settimeout(timeout)
        made.connect(path)
    except BaseException:
        made.close()
        raise
    return made
