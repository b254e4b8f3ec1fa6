"""Policies of a few lines, and a chain of them, for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from zope.interface import implementer

from relay.config.policies import When
from relay.interfaces import IRoutingPolicy
from relay.mail.address import Address
from relay.mail.decision import Accepted, Decision
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Delay, Deliver, Inquiry, Reject, Rewrite
from relay.net.clock import ReactorClock
from relay.net.waiting import start
from relay.policy.chain import Chain, Station
from relay.policy.guard import Guard
from relay.policy.steps import Observer
from relay.testing.policy import inquiry

TO_JON = Deliver("maildir", {"folder": "/mail/jon"}, because="he lives here")
UNKNOWN = Reject(Reply.of(550, "5.1.1", "user unknown"), because="nobody by that name")
LATER = Delay(Reply.of(450, "4.2.1", "come again"), because="not now")


@implementer(IRoutingPolicy)
class Says:
    """Says the same to everyone, and counts how often it was asked."""

    def __init__(self, answer: Any = ABSTAIN) -> None:
        self.answer = answer
        self.asked: list[Inquiry] = []

    def route(self, inquiry: Inquiry) -> Any:
        self.asked.append(inquiry)
        return self.answer


@implementer(IRoutingPolicy)
class Does:
    """Says what comes of calling something."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._answer = answer

    def route(self, inquiry: Inquiry) -> Any:
        return self._answer()


@implementer(IRoutingPolicy)
class Waits:
    """Waits until the test says what it says, and notes whether it was cancelled."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.deferred: Deferred[Any] = Deferred(self._cancelled)

    def _cancelled(self, _deferred: Deferred[Any]) -> None:
        self.cancelled += 1

    def route(self, inquiry: Inquiry) -> Deferred[Any]:
        return self.deferred


@implementer(IRoutingPolicy)
class Aliases:
    """Stands for others, by a table of addresses as text."""

    def __init__(self, table: Mapping[str, Iterable[str]]) -> None:
        self._table = {Address.parse(alias): [Address.parse(each) for each in them] for alias, them in table.items()}

    def route(self, inquiry: Inquiry) -> Any:
        members = self._table.get(inquiry.recipient)
        return ABSTAIN if members is None else Rewrite(members, because="an alias")


@implementer(IRoutingPolicy)
class Table:
    """A verdict for each address."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._table = {Address.parse(address): verdict for address, verdict in table.items()}

    def route(self, inquiry: Inquiry) -> Any:
        return self._table.get(inquiry.recipient, ABSTAIN)


class Policies:
    """A chain on a clock of its own, with what it has logged."""

    def __init__(self, *policies: Any, timeout: float = 10.0, when: When | None = None) -> None:
        self.clock = Clock()
        self.events: list[Any] = []
        guard = None if when is None else Guard(when)
        stations = [Station(f"policy-{number}", policy, guard, timeout) for number, policy in enumerate(policies, 1)]
        log = Logger(namespace="tests", observer=self.events.append)
        self.chain = Chain(stations, ReactorClock(self.clock), log)

    @property
    def log(self) -> list[str]:
        return [formatEvent(event) for event in self.events]

    def start(self, recipient: str = "jon@example.org", observe: Observer | None = None) -> Any:
        """The decision, or a `Deferred` if something waits."""
        question = inquiry(recipient)
        return start(self.chain.decide(question) if observe is None else self.chain.route(question, observe))

    def decide(self, recipient: str = "jon@example.org", observe: Observer | None = None) -> Decision:
        """The decision, for which nothing has to wait."""
        decision = self.start(recipient, observe)
        assert not isinstance(decision, Deferred), "something waits"
        return decision  # type: ignore[no-any-return]


def places(decision: Decision) -> dict[str, Any]:
    """The routes of an accepted recipient, by address."""
    assert isinstance(decision, Accepted), decision
    assert len({placement.address for placement in decision.placements}) == len(decision.placements)
    return {str(placement.address): placement.route for placement in decision.placements}
