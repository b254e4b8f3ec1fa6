"""
A server that takes mail and keeps none, where Postfix's smtp-sink is not installed.

    python -m bench.sink PORT

It counts as `smtp-sink -c` does: `sess=1 quit=1 mesg=1`, and a carriage return.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final, cast

_REPLIES: Final = {
    b"EHLO": b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE\r\n",
    b"DATA": b"354 go on\r\n",
    b"QUIT": b"221 bye\r\n",
}
_END: Final = b"\r\n.\r\n"


class Counter:
    """What has happened so far. Said at most once for what was read at once."""

    def __init__(self) -> None:
        self.sessions = self.quits = self.messages = 0

    def say(self) -> None:
        sys.stdout.write(f"sess={self.sessions} quit={self.quits} mesg={self.messages}\r")
        sys.stdout.flush()


class Sink(asyncio.Protocol):
    """One connection."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._heard = bytearray()
        self._content = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(b"220 sink.test ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._heard += data
        before = self._counter.messages
        said = []
        while (reply := self._next()) is not None:
            said.append(reply)
        if said:
            self._transport.write(b"".join(said))
        if said and said[-1] is _REPLIES[b"QUIT"]:
            self._counter.sessions += 1
            self._transport.close()
        if self._counter.messages != before:
            self._counter.say()

    def _next(self) -> bytes | None:
        """The reply to what comes next, if it is there."""
        if self._content:
            end = self._heard.find(_END) + len(_END)
            if end < len(_END):
                del self._heard[: -len(_END) + 1]  # content is not kept, but its end may come in two parts
                return None
            del self._heard[:end]
            self._content = False
            self._counter.messages += 1
            return b"250 2.0.0 taken\r\n"
        line, found, _ = self._heard.partition(b"\r\n")
        if not found:
            return None
        del self._heard[: len(line) + 2]
        verb = bytes(line[:4]).upper()
        if verb == b"DATA":
            self._content = True
            self._heard[:0] = b"\r\n"  # so that content that is empty ends like any other
        self._counter.quits += verb == b"QUIT"
        return _REPLIES.get(verb, b"250 2.0.0 ok\r\n")


async def main(port: int) -> None:
    counter = Counter()
    server = await asyncio.get_running_loop().create_server(lambda: Sink(counter), "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
