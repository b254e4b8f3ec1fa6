"""What an operator may ask of the suppression list, and change in it."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import nsmallest
from typing import Any, Final

from attrs import frozen

from relay.control.api import Answer, Asked, Refused
from relay.control.running import Running
from relay.control.words import most_of
from relay.delivery.suppression import Suppressed, Suppressions, address_of
from relay.mail.address import Address

#: Addresses of a page, and how many may be asked for.
PAGE, LONGEST_PAGE = 1000, 5000

#: What a client is told if the operator has not said why.
_NO_REASON: Final = "an operator has said so"


@frozen
class SuppressionDesk:
    """Answers about the suppression list."""

    running: Running

    def questions(self) -> Mapping[str, Answer]:
        return {"suppress": self.listed}

    def acts(self) -> Mapping[str, Answer]:
        return {"suppress/add": self.added, "suppress/remove": self.removed}

    async def listed(self, asked: Asked) -> Mapping[str, Any]:
        """A page of the list, who came first at the beginning."""
        most, after = most_of(asked, PAGE, LONGEST_PAGE), _place_of(asked.text("after"))
        # Whoever is taken off or begins anew between two pages moves nobody else.
        rest = ((_place(one), one) for one in self._list().listed() if after is None or _place(one) > after)
        page = [one for _, one in nsmallest(most + 1, rest, key=lambda each: each[0])]
        following = page[most - 1] if len(page) > most else None
        return {
            "suppressed": [_view(one) for one in page[:most]],
            "next": "" if following is None else f"{following.since!r} {following.address}",
        }

    async def added(self, asked: Asked) -> Mapping[str, Any]:
        address, because = _named(asked), asked.text("because").strip()
        operator = asked.user or "unknown"
        one = self._list().add(address, because or _NO_REASON, operator)
        if not asked.aside:
            self.running.maillog.event("suppressed", recipient=address, because=one.because, operator=operator)
        return _view(one)

    async def removed(self, asked: Asked) -> Mapping[str, Any]:
        address = _named(asked)
        if not self._list().remove(address):
            raise Refused(f"{address} is not on the suppression list", 404)
        if not asked.aside:
            self.running.maillog.event("unsuppressed", recipient=address, operator=asked.user or "unknown")
        return {"removed": str(address)}

    def _list(self) -> Suppressions:
        if self.running.suppressions is None:
            raise Refused("this relay keeps no suppression list: say keep = true in [suppression]", 404)
        return self.running.suppressions


def _named(asked: Asked) -> Address:
    try:
        return address_of(asked.text("address").strip())
    except ValueError as problem:
        raise Refused(str(problem)) from None


def _place(one: Suppressed) -> tuple[float, str]:
    """Where it stands."""
    return one.since, str(one.address)


def _place_of(after: str) -> tuple[float, str] | None:
    """Behind whom a page begins; `None`: it is the first."""
    if not after:
        return None
    since, _, address = after.partition(" ")
    try:
        return float(since), address
    except ValueError:
        raise Refused("'after' is what the page before has said as 'next'") from None


def _view(one: Suppressed) -> dict[str, Any]:
    return {
        "address": str(one.address),
        "since": one.since,
        "until": one.until,
        "because": one.because,
        "by": one.by,
    }
