"""
A load of handshakes: a process by itself, blocking sockets in a few threads, and Python's own `ssl`.

    python -m bench.shaking --handshakes 1000 [--starttls] [--resume] [--version 1.2] HOST PORT

Each connection ends when the server has said something in TLS. It prints the seconds that it took, and how many of the
handshakes took up an old session.
"""

from __future__ import annotations

import argparse
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

#: Connections at the same time: enough that the server is never idle, few enough that none has to wait for long.
_AT_ONCE: Final = 4


def _context(version: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = (
        ssl.TLSVersion.TLSv1_2 if version == "1.2" else ssl.TLSVersion.TLSv1_3
    )
    return context


class Client:
    """One that connects again and again."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, starttls: bool, resume: bool) -> None:
        self._address = address
        self._context = context
        self._starttls = starttls
        self._resume = resume
        self._session: ssl.SSLSession | None = None

    def shake(self, times: int) -> int:
        """How many of so many handshakes took up an old session."""
        return sum(self._once() for _ in range(times))

    def _once(self) -> bool:
        with socket.create_connection(self._address, 30) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._starttls:
                _expect(plain, b"220")
                plain.sendall(b"EHLO client.test\r\n")
                _expect(plain, b"250")
                plain.sendall(b"STARTTLS\r\n")
                _expect(plain, b"220")
            with self._context.wrap_socket(plain, session=self._session) as secured:
                if self._starttls:
                    secured.sendall(b"EHLO client.test\r\n")
                _expect(secured, b"250" if self._starttls else b"220")
                if self._resume:
                    self._session = secured.session
                return bool(secured.session_reused)


def _expect(connection: socket.socket, code: bytes) -> None:
    heard = b""
    while not heard.endswith(b"\n") or heard.splitlines()[-1][3:4] == b"-":
        octets = connection.recv(65536)
        if not octets:
            raise ConnectionError(f"closed, where {code!r} was expected")
        heard += octets
    if not heard.startswith(code):
        raise ValueError(f"{heard!r}, where {code!r} was expected")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--handshakes", type=int, default=1000)
    parser.add_argument("--starttls", action="store_true")
    parser.add_argument("--resume", action="store_true", help="come back with the session of the connection before")
    parser.add_argument("--version", choices=("1.2", "1.3"), default="1.3")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    said = parser.parse_args()
    context = _context(said.version)
    clients = [Client((said.host, said.port), context, said.starttls, said.resume) for _ in range(_AT_ONCE)]
    shares = [said.handshakes // _AT_ONCE + (at < said.handshakes % _AT_ONCE) for at in range(_AT_ONCE)]
    try:
        if said.resume:
            for client in clients:
                client.shake(1)  # by which it gets its first session
        begun = time.perf_counter()
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            resumed = sum(threads.map(Client.shake, clients, shares))
    except (OSError, ValueError) as problem:
        sys.exit(f"{type(problem).__name__}: {problem}")
    print(time.perf_counter() - begun, resumed)


if __name__ == "__main__":
    main()
