"""
The agent that prints mail: for a first try, and for people who develop something that sends mail.

It is what `smtpd.DebuggingServer` was in Python's library, made safe to look at: nothing in a message can move the
cursor, set the terminal's title or turn text around, and the line that ends a message has its queue id, which
whoever wrote the message did not know.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TextIO

from twisted.internet.defer import DeferredLock
from zope.interface import implementer

from relay.agents.copies import Copy, fact_of
from relay.agents.places import NoParameters
from relay.interfaces import Consignment, IAgent, Report
from relay.mail.outcome import Carried, Fact
from relay.net.threads import IThreads, Stop

#: Octets of a message that are printed.
MOST = 64 * 1024


@implementer(IAgent)
class ConsoleAgent:
    """
    Carries `Deliver("console")`: prints the message once for all its recipients.

    A console that nobody reads (a pipe, a terminal that was stopped) stops one thread and not the relay; mail for it
    is tried again.
    """

    Options = NoParameters

    def __init__(self, stream: TextIO, threads: IThreads, most: int = MOST) -> None:
        self._stream = stream
        self._threads = threads
        self._most = most
        self._turn = DeferredLock()
        self._printing = threading.Lock()

    async def carry(self, consignment: Consignment) -> Sequence[Report]:
        copy = Copy(consignment.entry, consignment.recipients, consignment.content, consignment.head)
        fact = await fact_of("console", self._put, "console", copy)
        return [Report(recipient, fact) for recipient in consignment.recipients]

    async def _put(self, _path: str, copy: Copy) -> Fact:
        await self._turn.acquire()
        try:
            return await self._threads.run(partial(self._print, copy))
        finally:
            self._turn.release()

    def _print(self, copy: Copy, stop: Stop) -> Fact:
        text = "".join(printed(copy, self._most))
        encoding = self._stream.encoding or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        stop.check()
        # One that was cancelled may still be stuck in there, and must not have the next one for company.
        if not self._printing.acquire(blocking=False):
            raise BlockingIOError(errno.EAGAIN, "Nobody reads the console")
        try:
            self._stream.write(text)
            self._stream.flush()
        except ValueError as error:
            raise OSError(errno.EBADF, "The console is closed") from error
        finally:
            self._printing.release()
        return Carried(onward=False, by="console")


def printed(copy: Copy, most: int) -> Iterator[str]:
    """What is printed of a message, in pieces."""
    id = copy.entry.id
    recipients = ", ".join(f"<{recipient.address}>" for recipient in copy.recipients)
    title = f"message {id} from <{copy.entry.envelope.reverse_path or ''}> to {recipients}"
    yield f"-------- {visible(title)}\n"
    octets = b""
    for block in copy.lines():
        octets += block[: most + 1 - len(octets)]
        if len(octets) > most:
            break
    text = visible(octets[:most].decode("utf-8", "backslashreplace"))
    yield text if text.endswith("\n") else text + "\n"
    if len(octets) > most:
        yield f"-------- {most} octets of {copy.content.size} are shown\n"
    yield f"-------- end of {id}\n"


def visible(text: str) -> str:
    """The text with each character that is not seen as itself written as an escape, but for tabs and ends of lines."""
    # What is not printable includes the format characters that turn text around.
    return "".join(c if c in "\n\t" or c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
