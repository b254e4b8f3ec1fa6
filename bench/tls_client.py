"""
A load of connections that begin TLS by STARTTLS and bring one message each: processes with blocking sockets, and
pyOpenSSL, since smtp-source knows no TLS. (Python's own `ssl` takes twice the CPU for a handshake.)

    python -m bench.tls_client --sessions 20 --seconds 3 [--resume] [--plain] HOST PORT RECIPIENT

Like smtp-source each session says one thing at a time and waits for its reply; each is a process by itself, so that
they share the cores as they like. It prints JSON: connections with their message, the seconds that they took, how many
of them took up an old session, and the seconds of CPU that the load has used itself.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import struct
import sys
import time
from typing import Final, TypeAlias

from OpenSSL import SSL

#: 1 KiB, dots and all.
_CONTENT: Final = b"From: bob@client.test\r\nSubject: load\r\n\r\n" + (b"X" * 78 + b"\r\n") * 12 + b".\r\n"
#: Seconds after which nobody answers any more.
_PATIENCE: Final = 30
#: How keys are exchanged: by what every server here knows and prefers, so that all do the same.
_GROUP: Final = b"X25519"

_Connection: TypeAlias = "socket.socket | SSL.Connection"


def _context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_verify(SSL.VERIFY_NONE)
    # pyOpenSSL has no word for it.
    if SSL._lib.SSL_CTX_set1_curves_list(context._context, _GROUP) != 1:
        raise ValueError(f"OpenSSL does not know {_GROUP!r}")
    return context


class Client:
    """One that connects again and again."""

    def __init__(self, address: tuple[str, int], recipient: str, resume: bool, plain: bool) -> None:
        self._address = address
        self._envelope = (b"MAIL FROM:<bob@client.test>\r\n", f"RCPT TO:<{recipient}>\r\n".encode())
        self._resume = resume
        self._session: SSL.Session | None = None
        self._context = None if plain else _context()

    def once(self) -> bool:
        """A connection and its message: whether it took up an old session."""
        with socket.create_connection(self._address) as plain:
            # A timeout of Python's would make it a socket that does not block.
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _PATIENCE, 0))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _hear(plain, b"220")
            _say(plain, b"EHLO client.test\r\n", b"250")
            if self._context is None:
                self._message(plain)
                return False
            _say(plain, b"STARTTLS\r\n", b"220")
            secured = SSL.Connection(self._context, plain)
            secured.set_connect_state()
            if self._session is not None:
                secured.set_session(self._session)
            secured.do_handshake()
            _say(secured, b"EHLO client.test\r\n", b"250")
            self._message(secured)
            if self._resume:
                self._session = secured.get_session()
            resumed = bool(SSL._lib.SSL_session_reused(secured._ssl))  # nor for this
            secured.shutdown()
            return resumed

    def _message(self, connection: _Connection) -> None:
        for line in self._envelope:
            _say(connection, line, b"250")
        _say(connection, b"DATA\r\n", b"354")
        _say(connection, _CONTENT, b"250")
        _say(connection, b"QUIT\r\n", b"221")


def _say(connection: _Connection, line: bytes, code: bytes) -> None:
    connection.sendall(line)
    _hear(connection, code)


def _hear(connection: _Connection, code: bytes) -> None:
    heard = connection.recv(16384)
    while not heard.endswith(b"\n") or heard.splitlines()[-1][3:4] == b"-":
        octets = connection.recv(16384)
        if not octets:
            raise ConnectionError(f"closed, where {code!r} was expected")
        heard += octets
    if not heard.startswith(code):
        raise ValueError(f"{heard!r}, where {code!r} was expected")


def _session(client: Client, resume: bool, start: int, told: int, seconds: float) -> None:
    """A process of its own: it waits for `start` to be closed, and says into `told` what it has done."""
    if resume:
        client.once()  # by which it gets its first session
    os.write(told, b"ready\n")
    os.read(start, 1)
    connections = resumed = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        resumed += client.once()
        connections += 1
    os.write(told, f"{connections} {resumed} {time.monotonic()}\n".encode())


def run(clients: list[Client], resume: bool, seconds: float) -> dict[str, float]:
    """All of them at once. Raises `ChildProcessError` if one of them has failed; it has said why."""
    start, starting = os.pipe()
    telling, told = os.pipe()
    children = []
    for client in clients:
        child = os.fork()
        if not child:
            status = 1
            try:
                os.close(starting)
                _session(client, resume, start, told, seconds)
                status = 0
            except Exception as problem:
                os.write(2, f"{type(problem).__name__}: {problem}\n".encode())
            finally:
                os._exit(status)
        children.append(child)
    os.close(told)
    with os.fdopen(telling) as heard:
        ready = [heard.readline() for _ in clients]
        begun, ready_cpu = time.monotonic(), _cpu(children)
        os.close(starting)
        said = [line.split() for line in heard]
    failed = sum(os.waitpid(child, 0)[1] != 0 for child in children)
    if failed or len(said) != len(clients) or not all(ready):
        raise ChildProcessError(f"{failed} of {len(clients)} sessions have failed")
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "connections": sum(int(connections) for connections, _, _ in said),
        "resumed": sum(int(resumed) for _, resumed, _ in said),
        "seconds": max(float(ended) for _, _, ended in said) - begun,
        "cpu": spent.ru_utime + spent.ru_stime - ready_cpu,
    }


def _cpu(children: list[int]) -> float:
    """Seconds that they have used so far, to get ready."""
    ticks = 0
    for child in children:
        with open(f"/proc/{child}/stat") as stat:
            ticks += sum(map(int, stat.read().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--resume", action="store_true", help="come back with the session of the connection before")
    parser.add_argument("--plain", action="store_true", help="the same without STARTTLS")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("recipient")
    said = parser.parse_args()
    address = (said.host, said.port)
    clients = [Client(address, said.recipient, said.resume, said.plain) for _ in range(said.sessions)]
    try:
        print(json.dumps(run(clients, said.resume, said.seconds)))
    except ChildProcessError as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
