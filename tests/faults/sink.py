"""
Where mail goes onward: an SMTP server that notes each letter, whole or not, and is often in a bad mood.

    python -m tests.faults.sink ADDRESS PORT RECORD SEED TROUBLE

It runs in a process of its own, so that it can be killed, too. A letter is noted before the answer to it: what it has
answered with 250 is in the record, and what it has noted without an answer comes again (RFC 1047).
"""

from __future__ import annotations

import json
import os
import random
import socketserver
import sys
from pathlib import Path

from tests.faults.customers import GONE
from tests.faults.letters import Arrived, read


class _Connection(socketserver.StreamRequestHandler):
    server: Sink
    disable_nagle_algorithm = True
    timeout = 30

    def handle(self) -> None:
        if self._bad_mood():
            return self._say("421 4.3.2 not now")
        self._say("220 sink.test ESMTP")
        recipients: list[str] = []
        while (line := self.rfile.readline()).endswith(b"\r\n"):
            verb = line[:4].upper()
            if verb == b"EHLO":
                self._say("250-sink.test", "250-8BITMIME", "250 PIPELINING")
            elif verb == b"RCPT":
                self._rcpt(line, recipients)
            elif verb == b"DATA":
                if not recipients:
                    self._say("503 5.5.1 for whom?")
                elif not self._data(recipients):
                    return None
                recipients = []
            elif verb == b"QUIT":
                return self._say("221 2.0.0 goodbye")
            elif verb == b"MAIL" and self._bad_mood():
                self._say("451 4.3.0 not now")
            else:
                if verb in (b"MAIL", b"RSET"):
                    recipients = []
                self._say("250 2.0.0 ok")
        return None

    def _rcpt(self, line: bytes, recipients: list[str]) -> None:
        recipient = line.decode().partition("<")[2].partition(">")[0]
        if recipient == GONE:
            self._say("550 5.1.1 moved away")
        elif self._bad_mood():
            self._say("450 4.2.1 not now")
        else:
            recipients.append(recipient)
            self._say("250 2.1.5 ok")

    def _data(self, recipients: list[str]) -> bool:
        """Whether the session goes on."""
        self._say("354 go on")
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line.endswith(b"\n"):
                return False
            lines.append(line.removeprefix(b"."))
        if self._bad_mood():
            self._say("452 4.3.1 not now")
            return True
        hang_up = self._bad_mood()
        self.server.note(b"".join(lines), recipients, answered=not hang_up)
        if hang_up:
            return False  # taken, but who sent it will never know
        self._say("250 2.0.0 taken")
        return True

    def _bad_mood(self) -> bool:
        return self.server.chance.random() < self.server.trouble

    def _say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())


class Sink(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], record: Path, seed: str, trouble: float) -> None:
        super().__init__(address, _Connection)
        self.chance = random.Random(seed)
        self.trouble = trouble
        self._record = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, octets: bytes, recipients: list[str], *, answered: bool) -> None:
        match read(octets):
            case Arrived(id, intact):
                # A line with CR or LF alone is corrupt in a way that other mailboxes cannot tell.
                rest = octets.replace(b"\r\n", b"")
                intact = intact and b"\n" not in rest and b"\r" not in rest
                found = {"id": id, "recipients": recipients, "intact": intact, "answered": answered}
            case other:
                found = {"stray": repr(other)[:500]}
        # One write: a kill comes before it or after it.
        os.write(self._record, json.dumps(found).encode() + b"\n")

    def handle_error(self, request: object, client_address: object) -> None:
        """Peers are killed in the middle of everything here."""


def main() -> None:
    address, port, record, seed, trouble = sys.argv[1:]
    with Sink((address, int(port)), Path(record), seed, float(trouble)) as sink:
        print("ready", flush=True)
        sink.serve_forever()


if __name__ == "__main__":
    main()
