"""Clients as people are: lines typed by hand into a socket, and answers read one by one."""

from __future__ import annotations

import select
import socket
import struct
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.system.harness import PATIENCE, Address

MESSAGE: Final = "From: Bob <bob@client.test>\r\nSubject: {subject}\r\n\r\nHi!\r\n..\r\n"


class Telnet:
    """
    A client by hand. Each read has a deadline.

    `newline` is CRLF as from telnet, or LF as from netcat. `source` is the address to come from.
    """

    def __init__(self, address: Address | Path, *, newline: bytes = b"\r\n", source: str = "") -> None:
        if isinstance(address, Path):
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(PATIENCE)
            self._socket.connect(str(address))
        else:
            self._socket = socket.create_connection(address, PATIENCE, (source, 0) if source else None)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._newline = newline
        self._heard = b""
        self.greeting = self.reply()

    def say(self, line: str | bytes) -> str:
        """Type one line; what the relay answers."""
        self.send((line.encode() if isinstance(line, str) else line) + self._newline)
        return self.reply()

    def send(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def reply(self) -> str:
        """One whole reply, its lines joined by LF. "" if the relay has closed the connection instead."""
        lines = []
        while (line := self._line()) is not None:
            lines.append(line.decode())
            if line[3:4] != b"-":
                break
        return "\n".join(lines)

    def replies(self) -> list[str]:
        """All replies until the relay closes the connection."""
        return list(iter(self.reply, ""))

    @property
    def silent(self) -> bool:
        """Nothing can be heard at this moment."""
        return not self._heard and not select.select([self._socket], [], [], 0)[0]

    def envelope(self, reverse_path: str, *recipients: str) -> list[str]:
        """HELO, MAIL and RCPT; what was said to the latter."""
        self.say("HELO client.test")
        assert self.say(f"MAIL FROM:<{reverse_path}>").startswith("250")
        return [self.say(f"RCPT TO:<{recipient}>") for recipient in recipients]

    def post(self, recipient: str, *, sender: str = "bob@client.test", subject: str = "hello") -> str:
        """A small message, from HELO to the answer at its end."""
        [heard] = self.envelope(sender, recipient)
        assert heard.startswith("250"), heard
        return self.content(subject)

    def content(self, subject: str = "hello") -> str:
        """DATA and the message; what is said at its end."""
        assert self.say("DATA").startswith("354")
        self.send(MESSAGE.format(subject=subject).replace("\r\n", self._newline.decode()).encode())
        return self.say(".")

    def quit(self) -> str:
        said = self.say("QUIT")
        self.close()
        return said

    def finish(self) -> None:
        """Say nothing more, but go on listening."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Be gone at once, as a machine that has lost its power (RST)."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _line(self) -> bytes | None:
        while b"\n" not in self._heard:
            try:
                octets = self._socket.recv(65536)
            except ConnectionResetError:
                octets = b""
            if not octets:
                assert not self._heard, f"cut off in the middle of a line: {self._heard!r}"
                return None
            self._heard += octets
        line, _, self._heard = self._heard.partition(b"\n")
        assert line.endswith(b"\r"), f"a reply's line must end with CR LF: {line!r}"
        return line[:-1]


def queue_id(reply: str) -> str:
    """The id in `250 2.0.0 Ok: queued as ID`."""
    assert reply.startswith("250 2.0.0 Ok: queued as "), reply
    return reply.rpartition(" ")[2]
