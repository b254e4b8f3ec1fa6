"""
A load of our own, where Postfix's smtp-source is not installed: a process by itself, sockets and a selector.

    python -m bench.client --sessions 10 --messages 1000 --size 1024 [--reuse] HOST PORT RECIPIENT

Like smtp-source it says one thing at a time and waits for each reply. It ends with status 0 when the last message was
accepted, and with another at the first reply that it did not expect. It prints when it began, by the monotonic clock:
to start it took longer than to send some messages.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from typing import Final

#: Seconds without anything to do after which it gives up.
_PATIENCE: Final = 60.0


class Budget:
    """How many messages are left to be begun."""

    def __init__(self, messages: int) -> None:
        self.left = messages

    def take(self) -> bool:
        self.left -= 1
        return self.left >= 0


def dialogue(budget: Budget, recipient: str, content: bytes, reuse: bool) -> Iterator[tuple[bytes, bytes]]:
    """For one connection: what is said, and how its reply must begin. One message was taken from `budget` before."""
    yield b"", b"220"
    yield b"EHLO client.test\r\n", b"250"
    while True:
        yield b"MAIL FROM:<bob@client.test>\r\n", b"250"
        yield f"RCPT TO:<{recipient}>\r\n".encode(), b"250"
        yield b"DATA\r\n", b"354"
        yield content, b"250"
        if not reuse or not budget.take():
            break
    yield b"QUIT\r\n", b"221"


class Client:
    """One connection."""

    def __init__(self, address: tuple[str, int], lines: Iterator[tuple[bytes, bytes]]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = lines
        self._heard = b""
        _, self._expected = next(lines)

    def ready(self) -> bool:
        """There is something to read. False when the conversation is over."""
        octets = self.socket.recv(65536)
        if not octets:
            raise ConnectionError(f"closed, where {self._expected!r} was expected")
        self._heard += octets
        if not self._heard.endswith(b"\n") or self._heard.splitlines()[-1][3:4] == b"-":
            return True
        if not self._heard.startswith(self._expected):
            raise ValueError(f"{self._heard!r}, where {self._expected!r} was expected")
        self._heard = b""
        said, self._expected = next(self._lines, (None, b""))
        if said is None:
            self.socket.close()
            return False
        self.socket.sendall(said)
        return True


def run(address: tuple[str, int], recipient: str, sessions: int, messages: int, size: int, reuse: bool) -> None:
    """Returns when all messages were accepted."""
    head = b"From: bob@client.test\r\nSubject: load\r\n\r\n"
    line = b"X" * 78 + b"\r\n"
    content = head + line * max(1, (size - len(head)) // len(line)) + b".\r\n"
    budget, selector = Budget(messages), selectors.DefaultSelector()
    while True:
        while len(selector.get_map()) < sessions and budget.take():
            client = Client(address, dialogue(budget, recipient, content, reuse))
            selector.register(client.socket, selectors.EVENT_READ, client)
        if not selector.get_map():
            return
        events = selector.select(_PATIENCE)
        if not events:
            raise TimeoutError("nobody answers")
        for key, _ in events:
            before = key.fileobj
            if not key.data.ready():
                selector.unregister(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("--sessions", 10), ("--messages", 1000), ("--size", 1024)):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--reuse", action="store_true", help="keep the connection for the next message")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("recipient")
    said = parser.parse_args()
    print(time.monotonic())
    try:
        run((said.host, said.port), said.recipient, said.sessions, said.messages, said.size, said.reuse)
    except (OSError, ValueError) as problem:
        sys.exit(f"{type(problem).__name__}: {problem}")


if __name__ == "__main__":
    main()
