"""What all agents that write to disk do alike: one copy for each mailbox, and a fact for each copy."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from relay.interfaces import Consignment, IContent, Report
from relay.mail.envelope import Form
from relay.mail.outcome import Fact, Misbehaved, Unwritten
from relay.mail.queue import Entry, Recipient
from relay.mail.routing import Deliver
from relay.mail.trace import return_path
from relay.smtp.octets import plain

log = Logger()


@frozen
class Copy:
    """One entry's copy for one mailbox. Several of its recipients may share the mailbox, and then they share this."""

    entry: Entry
    recipients: tuple[Recipient, ...]
    content: IContent
    head: bytes
    #: It cannot be there already.
    fresh: bool = False

    def lines(self) -> Iterator[bytes]:
        """
        The message as mailboxes of this machine keep it, in blocks: what final delivery adds, the head, the
        content; lines end with LF (docs/decisions/0002-line-ends-in-mailboxes.md).

        Raises `Unreadable` where the content cannot be read.
        """
        yield from unix(self._octets())

    def _octets(self) -> Iterator[bytes]:
        # Return-Path stands above everything (RFC 5321 section 4.4).
        yield return_path(self.entry.envelope.reverse_path) + delivered_to(self.recipients) + self.head
        try:
            blocks = self.content.blocks()
            yield from plain(blocks) if self.content.form is Form.WIRE else blocks
        except OSError as error:
            raise Unreadable(self.entry.id, error) from error


class Unreadable(Exception):
    """The spool's copy of a message cannot be read: no fault of the mailbox."""

    def __init__(self, id: str, error: OSError) -> None:
        super().__init__(id)
        self.id = id
        self.error = error


def delivered_to(recipients: Iterable[Recipient]) -> bytes:
    """
    A `Delivered-To` for each recipient: which address it was, `+detail` and all, and for programs that forward mail
    from a mailbox, by which they see that it has been here before.
    """
    return b"".join(f"Delivered-To: {recipient.address}\r\n".encode() for recipient in recipients)


def unix(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Each CRLF becomes LF, wherever the blocks are cut. A CR or an LF that stands alone stays as it is."""
    held = b""
    for block in blocks:
        joined = held + block
        held = b"\r" if joined.endswith(b"\r") else b""
        out = joined[: len(joined) - len(held)].replace(b"\r\n", b"\n")
        if out:
            yield out
    if held:
        yield held


#: Puts one copy into the mailbox at a path. `OSError` and `Unreadable` are facts, not faults.
Put: TypeAlias = Callable[[str, Copy], Awaitable[Fact]]


async def carry_copies(agent: str, consignment: Consignment, parameter: str, put: Put) -> Sequence[Report]:
    """
    What `IAgent.carry` does for an agent whose mailboxes are named by `parameter` of `Deliver`: group the recipients by
    mailbox, put one copy into each, all at the same time, and report.

    When it is cancelled, what is not yet in its mailbox is stopped and reported as unwritten, and what is there
    as carried: to forget that would make a duplicate.
    """
    reports: list[Report] = []
    groups: dict[str, list[Recipient]] = {}
    for recipient in consignment.recipients:
        path = mailbox(recipient, parameter)
        if isinstance(path, Unwritten):
            reports.append(Report(recipient, path))
        else:
            groups.setdefault(path, []).append(recipient)
    facts = await DeferredList(
        [
            Deferred.fromCoroutine(
                fact_of(agent, put, path, Copy(consignment.entry, tuple(group), consignment.content, consignment.head))
            )
            for path, group in groups.items()
        ],
        consumeErrors=True,
    )
    for (_, fact), group in zip(facts, groups.values(), strict=True):
        if isinstance(fact, Failure):  # an exception that is nobody's mistake: the process is to end
            fact.raiseException()
        reports.extend(Report(recipient, fact) for recipient in group)
    return reports


def mailbox(recipient: Recipient, parameter: str) -> str | Unwritten:
    """
    The path of a recipient's mailbox, or why it has none.

    Policies see to it that no path comes from a local part. Here it is only checked once more that nothing leads out
    of where it seems to be, since what is not a plain absolute path is somebody's mistake.
    """
    route = recipient.route
    path = route.parameters.get(parameter, "") if isinstance(route, Deliver) else ""
    if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
        return Unwritten(path, f"the {parameter} is not an absolute path")
    return "/" + os.path.normpath(path).lstrip("/")


def unwritten(what: str, error: OSError) -> Unwritten:
    """
    The fact that an error is. None is permanent: a mailbox that is gone looks like one whose disk is not mounted,
    and the sender of a message that waits for the operator loses nothing.
    """
    return Unwritten(what, error.strerror or str(error), errno.errorcode.get(error.errno or 0, ""))


async def fact_of(agent: str, put: Put, path: str, copy: Copy) -> Fact:
    """What came of putting a copy there, an exception included."""
    try:
        return await put(path, copy)
    except Exception as problem:
        return fact_from(agent, path, problem)


def fact_from(agent: str, path: str, problem: Exception) -> Fact:
    """What is to be said of a copy that this kept from being put there."""
    match problem:
        case CancelledError():
            return Unwritten(path, "it took too long")
        case Unreadable():
            return unwritten(f"the content of {problem.id}", problem.error)
        case OSError():
            # Of a mailbox of several parts the one that is to blame.
            inner = problem.filename
            return unwritten(os.path.join(path, inner) if isinstance(inner, str) else path, problem)
        case _:
            words = "The agent {agent} could not put a copy into {path}"
            log.failure(words, Failure(problem), agent=agent, path=path)
            return Misbehaved(agent)
