"""
Many clients that have said EHLO and then nothing: a process by itself, for `bench.idle`.

    python -m bench.crowd --sessions 10000 [--tls] HOST PORT

It prints a line when all of them have been answered, and keeps the connections until its standard input ends. They come
from several addresses of 127.0.0.0/8, each of which has its own ports.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import sys
import time
from typing import Final

from OpenSSL import SSL

from bench.machine import raise_file_limit

#: Seconds without anything to do after which it gives up.
_PATIENCE: Final = 60.0
#: How many connect at the same time: less than what may wait in the listener's backlog.
_AT_ONCE: Final = 200
#: Connections of each address.
_OF_AN_ADDRESS: Final = 500


class Guest:
    """One connection, until its EHLO was answered."""

    def __init__(self, number: int, address: tuple[str, int], tls: SSL.Context | None) -> None:
        self.socket = socket.socket()
        self.socket.bind((f"127.0.0.{2 + number // _OF_AN_ADDRESS}", 0))
        self.socket.connect(address)
        self.socket.setblocking(False)
        self._tls = tls
        self._secured: SSL.Connection | None = None
        self._heard = b""
        self._left = [(b"220", b"EHLO client.test\r\n")]
        if tls is not None:
            self._left += [(b"250", b"STARTTLS\r\n"), (b"220", b""), (b"", b"EHLO client.test\r\n")]
        self._left.append((b"250", b""))

    def ready(self) -> bool:
        """There is something to read. False when all was said."""
        if self._secured is not None:
            return self._ready_in_tls(self._secured)
        self._heard += self.socket.recv(65536)
        if not self._complete():
            return True
        said = self._reply()
        if not self._left:
            return False
        if not said:
            return self._begin_tls()
        self.socket.sendall(said)
        return True

    def _complete(self) -> bool:
        if not self._heard:
            raise ConnectionError("closed before it was answered")
        return self._heard.endswith(b"\n") and self._heard.splitlines()[-1][3:4] != b"-"

    def _reply(self) -> bytes:
        """What is to be said to the reply that has come."""
        expected, said = self._left.pop(0)
        if not self._heard.startswith(expected):
            raise ValueError(f"{self._heard!r}, where {expected!r} was expected")
        self._heard = b""
        return said

    def _begin_tls(self) -> bool:
        """As `ready`: on a busy machine all answers may have come before the handshake's steps are back here."""
        assert self._tls is not None
        self._secured = SSL.Connection(self._tls, self.socket)
        self._secured.set_connect_state()
        return self._ready_in_tls(self._secured)

    def _ready_in_tls(self, secured: SSL.Connection) -> bool:
        try:
            if len(self._left) == 2:
                secured.do_handshake()
                secured.sendall(self._left.pop(0)[1])
            while True:
                self._heard += secured.recv(65536)
                if self._complete():
                    self._reply()
                    return False
        except SSL.WantReadError:
            return True


def connect(sessions: int, address: tuple[str, int], tls: SSL.Context | None) -> list[Guest]:
    """All of them, when each was answered."""
    selector, guests = selectors.DefaultSelector(), list[Guest]()
    while len(guests) < sessions or selector.get_map():
        while len(guests) < sessions and len(selector.get_map()) < _AT_ONCE:
            guest = Guest(len(guests), address, tls)
            guests.append(guest)
            selector.register(guest.socket, selectors.EVENT_READ, guest)
        events = selector.select(_PATIENCE)
        if not events:
            raise TimeoutError("nobody answers")
        for key, _ in events:
            if not key.data.ready():
                selector.unregister(key.fileobj)
    return guests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--tls", action="store_true", help="begin TLS by STARTTLS, whoever the server is")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    said = parser.parse_args()
    tls = SSL.Context(SSL.TLS_METHOD) if said.tls else None
    begun = time.monotonic()
    try:
        raise_file_limit(said.sessions + 100)
        guests = connect(said.sessions, (said.host, said.port), tls)
    except (OSError, ValueError, SSL.Error) as problem:
        sys.exit(f"{type(problem).__name__}: {problem}")
    print(f"{len(guests)} sessions in {time.monotonic() - begun:.1f} s", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
