"""
A load that does not wait for the server: messages become due at a rate, however long those before them take.

    python -m bench.pacing --sessions 100 --rate 300 --seconds 5 HOST PORT RECIPIENT

One process, sockets and a selector. All connections are made before; a message goes to one that is free, or waits for
one. The times between two messages are random (exponential) and the same in each run. It prints JSON: for each message
the microseconds from the last octet of its content to the end of the 250, and from the moment at which it was due (by
the clock of the selector, which looks once a millisecond) to the same; and the seconds of CPU that the load has used.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import selectors
import socket
import sys
import time
from collections import deque
from typing import Final

#: Seconds without anything to do after which it gives up.
_PATIENCE: Final = 30.0
#: 1 KiB.
_CONTENT: Final = b"From: bob@client.test\r\nSubject: load\r\n\r\n" + (b"X" * 78 + b"\r\n") * 12 + b".\r\n"


class Session:
    """One connection: what it says next, and since when it waits."""

    def __init__(self, address: tuple[str, int], recipient: str) -> None:
        self.socket = socket.create_connection(address, _PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = (
            (b"MAIL FROM:<bob@client.test>\r\n", b"250"),
            (f"RCPT TO:<{recipient}>\r\n".encode(), b"250"),
            (b"DATA\r\n", b"354"),
            (_CONTENT, b"250"),
        )
        self._at = 0
        self._heard = b""
        self._due = self._said = 0.0
        for line, code in (b"", b"220"), (b"EHLO client.test\r\n", b"250"):
            self.socket.sendall(line)
            while not self._reply(code):
                pass

    def begin(self, due: float) -> None:
        """A message that was due then."""
        self._due, self._at = due, 0
        self._say()

    def ready(self) -> tuple[float, float] | None:
        """There is something to read. When the message was taken: the seconds since its end, and since it was due."""
        if not self._reply(self._lines[self._at][1]):
            return None
        self._at += 1
        if self._at < len(self._lines):
            self._say()
            return None
        now = time.monotonic()
        return now - self._said, now - self._due

    def _say(self) -> None:
        self.socket.sendall(self._lines[self._at][0])
        self._said = time.monotonic()

    def _reply(self, code: bytes) -> bool:
        octets = self.socket.recv(65536)
        if not octets:
            raise ConnectionError(f"closed, where {code!r} was expected")
        self._heard += octets
        if not self._heard.endswith(b"\n") or self._heard.splitlines()[-1][3:4] == b"-":
            return False
        if not self._heard.startswith(code):
            raise ValueError(f"{self._heard!r}, where {code!r} was expected")
        self._heard = b""
        return True


def due_times(rate: float, seconds: float) -> list[float]:
    """When messages become due, from 0 on."""
    times, at, chance = list[float](), 0.0, random.Random(5321)
    while (at := at + chance.expovariate(rate)) < seconds:
        times.append(at)
    return times


def run(address: tuple[str, int], recipient: str, sessions: int, rate: float, seconds: float) -> list[tuple[int, int]]:
    """Microseconds of each message."""
    selector = selectors.DefaultSelector()
    free = [Session(address, recipient) for _ in range(sessions)]
    for session in free:
        selector.register(session.socket, selectors.EVENT_READ, session)
    start = time.monotonic() + 0.1
    left, waiting, found = deque(start + at for at in due_times(rate, seconds)), deque[float](), list[tuple[int, int]]()
    gc.disable()
    while left or waiting or len(free) < sessions:
        now = time.monotonic()
        while left and left[0] <= now:
            waiting.append(left.popleft())
        while waiting and free:
            free.pop().begin(waiting.popleft())
        events = selector.select(max(0.0, left[0] - time.monotonic()) if left else _PATIENCE)
        if not events and not left:
            raise TimeoutError("nobody answers")
        for key, _ in events:
            taken = key.data.ready()
            if taken is not None:
                found.append((round(taken[0] * 1e6), round(taken[1] * 1e6)))
                free.append(key.data)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--rate", type=float, default=100.0, help="messages a second")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("recipient")
    said = parser.parse_args()
    before = time.process_time()
    try:
        found = run((said.host, said.port), said.recipient, said.sessions, said.rate, said.seconds)
    except (OSError, ValueError) as problem:
        sys.exit(f"{type(problem).__name__}: {problem}")
    ended, whole = [each for each, _ in found], [each for _, each in found]
    print(json.dumps({"ended": ended, "whole": whole, "cpu": time.process_time() - before}))


if __name__ == "__main__":
    main()
