"""
Which copies for an agent wait together: by what its parameters say of where it takes them.

A slow program takes the places of its own mail and not of another's, and an application that is down pauses itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

#: What may stand in a destination's name, which is one word.
_ODD: Final = re.compile(r"[^A-Za-z0-9._:\[\]+@-]")
_LONGEST: Final = 100


def lane(agent: str, parameters: Mapping[str, str]) -> str:
    """
    The destination of an agent's copy: `maildir`, `pipe:ticket`, `http:app.example.org`, `http:127.0.0.1:8080`.

    Parameters of these names mean the same for every agent: `destination` is the rest of the name as it is, of
    `command` the program counts, and of `url` the host.
    """
    for name, read in _SAYING:
        text = parameters.get(name)
        if text:
            return _named(agent, read, text)
    return agent


@lru_cache(maxsize=1000)
def _named(agent: str, read: Callable[[str], str], text: str) -> str:
    rest = _ODD.sub("?", read(text)[:_LONGEST])
    return f"{agent}:{rest}" if rest else agent


def _itself(text: str) -> str:
    return text


def _program(text: str) -> str:
    """Of `["/usr/bin/ticket", "--queue"]` or `/usr/bin/ticket --queue`: `ticket`."""
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        words = text.split()
    first = words[0] if isinstance(words, list) and words else ""
    return first.rpartition("/")[2] if isinstance(first, str) else ""


def _host(text: str) -> str:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return ""
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if port is None or not host else f"{host}:{port}"


_SAYING: Final = (("destination", _itself), ("command", _program), ("url", _host))
