"""Listening: from an address in the configuration to a port of the reactor."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.interfaces import IProtocolFactory
from twisted.python.systemd import ListenFDs

from relay.config.addresses import Inet, ListenAddress, Systemd, Unix


class NoSuchSocket(Exception):
    """systemd has not handed over a socket of this name; the message says so to the operator."""


def listen(reactor: Any, address: ListenAddress, factory: IProtocolFactory, *, backlog: int, mode: int = 0o666) -> Any:
    """
    Bind `address` and answer with the port, which does not accept connections before `startReading`.

    Raises `twisted.internet.error.CannotListenError`, or `NoSuchSocket`. `mode` is that of a socket in the file
    system. A socket that a dead process has left there is replaced, that of a living one is not.
    """
    match address:
        case Inet(host, number):
            port = reactor.listenTCP(number, factory, backlog=backlog, interface=host)
        case Unix(path):
            port = reactor.listenUNIX(os.fspath(path), factory, backlog=backlog, mode=mode, wantPID=True)
        case Systemd(name):
            descriptor = _inherited(name)
            with socket.socket(fileno=os.dup(descriptor)) as inherited:
                family = inherited.family
            port = reactor.adoptStreamPort(descriptor, family, factory)
    port.stopReading()
    return port


def is_public(port: Any) -> bool:
    """Whether others than this machine can connect to a port that has been bound."""
    host = getattr(port.getHost(), "host", None)
    return host is not None and not (host.startswith("127.") or host == "::1")


def _inherited(name: str) -> int:
    named = ListenFDs.fromEnvironment().inheritedNamedDescriptors()
    try:
        return named[name]
    except KeyError:
        known = ", ".join(sorted(named)) or "none at all"
        raise NoSuchSocket(f"systemd has handed over no socket called '{name}' (there is {known})") from None
