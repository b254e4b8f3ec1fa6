"""Small pieces that the tests of local agents share: a consignment in one line, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.interfaces import Consignment, IContent, Report
from relay.mail.address import Address
from relay.mail.envelope import Envelope, Form
from relay.mail.outcome import Carried, Fact, Unwritten
from relay.mail.queue import Entry, Recipient
from relay.mail.routing import Deliver
from relay.net.clock import ReactorClock
from relay.net.threads import IThreads, Stop
from relay.net.waiting import start
from relay.smtp.octets import wire

#: 2026-11-23T01:28:37.123Z, a Monday.
NOW = 1795397317.123
HEAD = b"Received: from c by mx.example; Mon, 23 Nov 2026 01:28:37 +0000\r\n"
MESSAGE = b"Subject: hello\r\n\r\nFrom here on:\r\n.dots\r\n>From you\r\n"


@implementer(IContent)
@frozen
class Text:
    """Content in blocks of a given size."""

    plain: bytes = MESSAGE
    form: Form = Form.PLAIN
    block: int = 7
    #: Raised behind the last block.
    error: OSError | None = None

    @property
    def size(self) -> int:
        return len(self.plain)

    def blocks(self) -> Iterator[bytes]:
        octets = b"".join(wire([self.plain])) if self.form is Form.WIRE else self.plain
        for at in range(0, len(octets), self.block):
            yield octets[at : at + self.block]
        if self.error is not None:
            raise self.error


@implementer(IThreads)
class ByHand:
    """Threads whose work begins when the test says so, and may be cancelled before that and in the midst of it."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[Stop], Any], Stop, Deferred[Any]]] = []

    def run(self, work: Callable[[Stop], Any]) -> Deferred[Any]:
        stop = Stop()
        deferred: Deferred[Any] = Deferred(lambda _: stop.say())
        self.waiting.append((work, stop, deferred))
        return deferred

    def work(self) -> None:
        """Do the oldest work that waits. A result that nobody waits for is dropped."""
        work, stop, deferred = self.waiting.pop(0)
        try:
            stop.check()
            result = work(stop)
        except Exception:
            result = Failure()
        if not deferred.called:
            deferred.callback(result)


def clock() -> ReactorClock:
    return ReactorClock(Clock(), lambda: NOW)


def to(address: str, agent: str, **parameters: str) -> Recipient:
    parsed = Address.parse(address)
    return Recipient(f"r-{address}", parsed, parsed, Deliver(agent, parameters), agent)


def consignment(
    *recipients: Recipient, content: Any = None, id: str = "4Q2x7", sender: str | None = "ann@example.org"
) -> Consignment:
    reverse_path = Address.parse(sender) if sender else None
    entry = Entry(id, NOW - 1, Envelope(reverse_path), HEAD)
    return Consignment(entry, recipients, content or Text(), HEAD)


def reported(answer: Any) -> Sequence[Report]:
    """What an agent that does not wait has reported."""
    reports = start(answer)
    assert not isinstance(reports, Deferred)
    return list(reports)


def fact(answer: Any) -> Fact:
    """The fact of the only recipient."""
    (report,) = reported(answer)
    return report.fact


def is_carried(fact: Fact) -> bool:
    return isinstance(fact, Carried) and not fact.onward


def is_put_off(fact: Fact) -> bool:
    return isinstance(fact, Unwritten) and not fact.permanent
