"""Each message becomes a line of JSON in a file."""

import fcntl
import json
import os
from collections.abc import Callable, Sequence
from email import message_from_bytes
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from relay.config.fields import Section
from relay.config.parameters import from_text
from relay.config.units import MIB, Size
from relay.interfaces import Consignment, IAgent, Report, World
from relay.mail.envelope import Form
from relay.mail.outcome import Carried, Fact, Unwritten
from relay.mail.queue import Entry, Recipient
from relay.smtp.octets import plain

Facts = dict[str, Fact]


class InThread(Protocol):
    """Runs what waits for the disk where nobody else waits for it."""

    async def __call__(self, work: Callable[[], Facts]) -> Facts: ...


async def in_thread(work: Callable[[], Facts]) -> Facts:
    return await deferToThread(work)


class JsonLinesOptions(Section):
    """What `parameters` may say. No `from __future__ import annotations` here: pydantic reads them."""

    file: Path = Field(description="The file. It is made if it is not there.")
    fields: tuple[str, ...] = Field(default=("from", "to", "subject"), description="Fields of the header to show.")
    largest: Size = Field(default=25 * MIB, description="Messages that are larger fail.")


@implementer(IAgent)
class JsonLines:
    """Carries `Deliver("jsonlines", {"file": ...})`."""

    Options = JsonLinesOptions

    def __init__(self, world: World, run: InThread = in_thread) -> None:
        self._run = run

    async def carry(self, consignment: Consignment) -> Sequence[Report]:
        facts = await self._run(partial(self._append_all, consignment))
        return [Report(recipient, facts[recipient.id]) for recipient in consignment.recipients]

    def _append_all(self, consignment: Consignment) -> Facts:
        """One line for all recipients with the same parameters."""
        facts: Facts = {}
        groups: dict[tuple[tuple[str, str], ...], list[Recipient]] = {}
        for recipient in consignment.recipients:
            # Parameters are text, since the queue keeps them.
            parameters: dict[str, str] = getattr(recipient.route, "parameters", {})
            groups.setdefault(tuple(sorted(parameters.items())), []).append(recipient)
        for text, recipients in groups.items():
            fact = self._append(dict(text), recipients, consignment)
            facts.update({recipient.id: fact for recipient in recipients})
        return facts

    def _append(self, text: dict[str, str], recipients: list[Recipient], consignment: Consignment) -> Fact:
        try:
            options = from_text(JsonLinesOptions, text)
        except ValueError as wrong:  # for the operator to mend: the mail waits
            return Unwritten("jsonlines", f"its parameters are wrong: {wrong}")
        if consignment.content.size > options.largest:
            return Unwritten(str(options.file), "the message is too large", permanent=True)
        try:
            line = line_of(consignment.entry, recipients, message(consignment), options.fields)
            append(options.file, line)
        except OSError as error:
            return Unwritten(str(options.file), str(error))
        return Carried(onward=False, by=str(options.file))


def message(consignment: Consignment) -> bytes:
    """The whole message, `head` on top of it, without the dots that SMTP adds."""
    content = consignment.content
    blocks = plain(content.blocks()) if content.form is Form.WIRE else content.blocks()
    return consignment.head + b"".join(blocks)


def line_of(entry: Entry, recipients: Sequence[Recipient], octets: bytes, fields: Sequence[str]) -> bytes:
    header = message_from_bytes(octets.partition(b"\r\n\r\n")[0])
    seen: dict[str, Any] = {
        "id": entry.id,
        "arrived": entry.arrived,
        "sender": str(entry.envelope.reverse_path or ""),
        "recipients": [str(recipient.address) for recipient in recipients],
        "header": {name: str(header[name]) for name in fields if name in header},
        # Octets that are no UTF-8 are kept as Python does in `os.fsdecode`.
        "message": octets.decode("utf-8", "surrogateescape"),
    }
    return json.dumps(seen).encode() + b"\n"


def append(file: Path, line: bytes) -> None:
    """The line is on the disk when this returns, and nothing of it is in the file when this raises."""
    there = file.exists()
    with file.open("ab", buffering=0) as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        before = os.fstat(opened.fileno()).st_size
        try:
            if opened.write(line) != len(line):
                raise OSError("the line was not written whole")
            os.fsync(opened.fileno())
        except BaseException:
            opened.truncate(before)
            raise
    if not there:  # its name has to survive a power cut as well
        directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
