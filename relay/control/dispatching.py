"""The dispatcher as an operator sees it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from attrs import frozen

from relay.control.api import Refused
from relay.delivery.destination import Condition
from relay.delivery.dispatch import Dispatcher
from relay.delivery.pauses import Pauses
from relay.mail.address import canonical_domain
from relay.mail.outcome import Delayed
from relay.mail.waiting import DestinationView, Reason

#: What an operator may give as a name: a domain has 255 characters at most, and something may stand behind it.
_LONGEST_NAME: Final = 300
#: A destination's name with a domain in it that has a dot: `example.org`, `lmtp:[mail.example.org]:24;tls=verify`.
_WITH_DOMAIN: Final = re.compile(r"((?:lmtp:)?\[?)([^][:;/@\s]+\.[^][:;/@\s]*)(\]?(?::\d+)?(?:;.*)?)")


@frozen
class Dispatching:
    """Answers for a dispatcher; see `relay.control.running.HasDestinations`."""

    dispatcher: Dispatcher
    #: What is paused is kept here; `None`: it is forgotten when the relay stops.
    pauses: Pauses | None = None

    def destinations(self) -> Sequence[DestinationView]:
        return sorted(map(view, self.dispatcher.destinations()), key=lambda each: each.name)

    def knows(self, name: str) -> bool:
        """Whether anything in memory has this name: else a pause may be for a name that is misspelt."""
        return self.dispatcher.knows(canonical(name))

    def pause(self, name: str) -> None:
        self._check_restored()
        self.dispatcher.pause(canonical(name))

    def resume(self, name: str) -> None:
        self._check_restored()
        self.dispatcher.resume(canonical(name))

    async def keep(self) -> None:
        if self.pauses is None:
            return
        try:
            await self.pauses.keep(self.dispatcher.paused())
        except OSError as problem:
            raise Refused(
                "this is so until the relay stops, but nobody can say what is paused after that: "
                f"{self.pauses.path} cannot be written: {problem.strerror}",
                500,
            ) from problem

    def _check_restored(self) -> None:
        if self.pauses is not None and not self.pauses.restored:
            raise Refused("the relay begins, and does not know yet what is paused; say it again in a moment", 503)

    def wake(self) -> None:
        self.dispatcher.wake()


def canonical(name: str) -> str:
    """
    A destination's name as the queue has it: of a domain neither the letter case matters nor a dot at its end. The
    names of agents, sockets and logins stay as they are. Raises `Refused` for what can be no name.
    """
    name = name.strip()
    if not name.isprintable() or len(name) > _LONGEST_NAME:
        raise Refused(f"a destination's name is one line of {_LONGEST_NAME} characters at most")
    found = _WITH_DOMAIN.fullmatch(name)
    if found is None:
        return name
    before, domain, behind = found.groups()
    try:
        return f"{before}{canonical_domain(domain.removesuffix('.'))}{behind}"
    except ValueError:
        return name


def view(condition: Condition) -> DestinationView:
    """How a destination is, in the words of the closed set of reasons."""
    trouble = condition.last_trouble
    met = () if trouble is None else ((condition.last_trouble_at or 0.0, _met(trouble)),)
    return DestinationView(
        condition.name,
        active=condition.active,
        trailing=condition.trailing,
        limit=condition.limit,
        ready=condition.waiting,
        obstacle=_obstacle(condition),
        until=condition.paused_until,
        rate_left=condition.rate_left,
        met=met,
    )


def _obstacle(condition: Condition) -> Reason | None:
    if condition.paused_by:
        return Reason.PAUSED if condition.paused_by == "operator" else Reason.RESTING
    if condition.probing:
        return Reason.RESTING
    if condition.rate_left == 0:
        return Reason.RATE
    return Reason.AT_LIMIT if condition.active >= condition.limit else None


def _met(trouble: Delayed) -> str:
    peer = f" at {trouble.peer}" if trouble.peer else ""
    said = f": {trouble.diagnostic}" if trouble.diagnostic else ""
    return f"{trouble.because} ({trouble.status}){peer}{said}"
