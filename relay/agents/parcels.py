"""What agents that hand mail to programs do alike: who shares a copy, how it looks, and a report for each recipient."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from enum import Enum
from typing import Final, TypeAlias, TypeVar

from pydantic import BaseModel
from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore
from twisted.python.failure import Failure

from relay.agents.copies import Copy, Unreadable, delivered_to, fact_of, unix
from relay.config.parameters import from_text
from relay.interfaces import Consignment, Report
from relay.mail.envelope import Form
from relay.mail.outcome import Fact, Unwritten
from relay.mail.queue import Recipient
from relay.mail.reply import printable
from relay.mail.routing import Deliver
from relay.mail.trace import return_path
from relay.smtp.octets import plain

#: How much of what a program says stands in a fact, which the spool and the mail log keep.
_SHOWN: Final = 300


Options = TypeVar("Options", bound=BaseModel)

#: Hands one copy over, as the parameters say. `OSError` and `Unreadable` are facts, not faults.
Send: TypeAlias = Callable[[Options, Copy], Awaitable[Fact]]


class Fate(Enum):
    """What becomes of a copy by what a program or a server said."""

    DELIVERED = "delivered"
    LATER = "delayed"
    FAILED = "failed"


def octets(copy: Copy, *, top: bool, lf: bool) -> Iterator[bytes]:
    """
    The message in plain form, in blocks: on top, if that is wanted, what final delivery adds; its lines end with CRLF,
    or with LF.

    Raises `Unreadable` where the content cannot be read.
    """
    return unix(_octets(copy, top)) if lf else _octets(copy, top)


def size(copy: Copy, *, top: bool) -> int:
    """How many octets `octets` has, where lines end with CRLF."""
    return len(_head(copy, top)) + copy.content.size


def _octets(copy: Copy, top: bool) -> Iterator[bytes]:
    head = _head(copy, top)
    if head:
        yield head
    try:
        blocks = copy.content.blocks()
        yield from plain(blocks) if copy.content.form is Form.WIRE else blocks
    except OSError as error:
        raise Unreadable(copy.entry.id, error) from error


def _head(copy: Copy, top: bool) -> bytes:
    added = return_path(copy.entry.envelope.reverse_path) + delivered_to(copy.recipients) if top else b""
    return added + copy.head


async def carry_parcels(
    agent: str, consignment: Consignment, model: type[Options], send: Send[Options], most: int
) -> Sequence[Report]:
    """
    What `IAgent.carry` does for an agent whose parameters are of this `model`: a copy for each recipient, or for those
    who may share one and have the same parameters, at most so many for each; all at the same time, and a report.

    Parameters that are wrong put the mail off: they are for the operator to mend. When it is cancelled, what is not
    yet handed over is reported so.
    """
    reports: list[Report] = []
    copies: list[tuple[Options, Copy]] = []
    for text, recipients in _by_parameters(consignment.recipients):
        try:
            options = from_text(model, dict(text))
        except ValueError as wrong:
            mistaken = Unwritten(agent, f"its parameters are wrong: {wrong}")
            reports.extend(Report(recipient, mistaken) for recipient in recipients)
            continue
        together = most if getattr(options, "recipients", "one") == "all" else 1
        for at in range(0, len(recipients), together):
            group = tuple(recipients[at : at + together])
            copies.append((options, Copy(consignment.entry, group, consignment.content, consignment.head)))
    facts = await DeferredList(
        [Deferred.fromCoroutine(_carried(agent, send, options, copy)) for options, copy in copies], consumeErrors=True
    )
    for (_, fact), (_, copy) in zip(facts, copies, strict=True):
        if isinstance(fact, Failure):  # an exception that is nobody's mistake: the process is to end
            fact.raiseException()
        reports.extend(Report(recipient, fact) for recipient in copy.recipients)
    return reports


async def _carried(agent: str, send: Send[Options], options: Options, copy: Copy) -> Fact:
    async def put(_path: str, copy: Copy) -> Fact:
        return await send(options, copy)

    return await fact_of(agent, put, agent, copy)


def _by_parameters(
    recipients: Iterable[Recipient],
) -> Iterable[tuple[tuple[tuple[str, str], ...], Sequence[Recipient]]]:
    groups: dict[tuple[tuple[str, str], ...], list[Recipient]] = {}
    for recipient in recipients:
        route = recipient.route
        parameters = route.parameters if isinstance(route, Deliver) else {}
        groups.setdefault(tuple(sorted(parameters.items())), []).append(recipient)
    return groups.items()


class Places:
    """How many of a kind may be under way at the same time. Nothing is kept of a kind of which nothing is."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[object, int], DeferredSemaphore] = {}
        self._users: dict[tuple[object, int], int] = {}

    async def within(self, kind: object, most: int, work: Callable[[], Awaitable[Fact]]) -> Fact:
        """What this work comes to, when it has been its turn."""
        key = (kind, most)
        semaphore = self._kinds.setdefault(key, DeferredSemaphore(most))
        self._users[key] = self._users.get(key, 0) + 1
        try:
            await semaphore.acquire()
            try:
                return await work()
            finally:
                semaphore.release()
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._kinds[key]


def shown(octets: bytes, *, beginning: bool = False, most: int = _SHOWN) -> str:
    """
    What was said, in one printable line; of a long one the end, where the reason of a program mostly stands, or the
    beginning.
    """
    lines = (line.strip() for line in octets.decode("utf-8", "replace").splitlines())
    text = printable(" | ".join(line for line in lines if line))
    if len(text) <= most:
        return text
    return text[:most] + "..." if beginning else "..." + text[-most:]


class Tail:
    """The last so many octets of what is said, however much that is."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept = bytearray()

    def add(self, octets: bytes) -> None:
        self._kept += octets
        if len(self._kept) > self._most:
            del self._kept[: len(self._kept) - self._most]

    def __bytes__(self) -> bytes:
        return bytes(self._kept)
