"""
Facts that policies need of each other: `requires` and `provides`, checked when the configuration is loaded.

There are no priorities: who is asked first is said by the phases, and in each of them by the order of the
configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from relay.policy.asking import Station
from relay.policy.phases import PHASES


def unmet(stations: Sequence[Station]) -> Iterator[tuple[int, str]]:
    """
    The place of each station whose policy requires a fact that no policy asked before it provides, and what is wrong. A
    `when` that speaks of a fact requires it: the policy would never be asked.

    Whether a policy is asked at all depends on its `when`, and whether it knows the fact on the mail: that somebody
    who may know it has his turn in time is all that can be said now.
    """
    for place, station in enumerate(stations):
        guarding = station.guard.facts if station.guard is not None else frozenset[str]()
        for fact in sorted(_named(station.policy, "requires") | guarding):
            providers = [at for at, each in enumerate(stations) if fact in _named(each.policy, "provides")]
            if any(_before(stations[at].policy, at, station.policy, place) for at in providers):
                continue
            if providers:
                names = ", ".join(repr(stations[at].name) for at in providers)
                yield place, f"it requires the fact {fact!r}, and {names} is asked behind it: put it in front"
            else:
                yield place, f"it requires the fact {fact!r}, and no policy here provides that"


def check_names(policy: Any) -> None:
    """Raises `ValueError`, with words for the operator, if what a policy requires or provides are no names of facts."""
    for attribute in ("requires", "provides"):
        _named(policy, attribute)


def _named(policy: Any, attribute: str) -> frozenset[str]:
    """Raises `ValueError` for what are no names."""
    said: Any = getattr(policy, attribute, ())
    if isinstance(said, str) or not isinstance(said, Iterable):
        raise ValueError(f"its {attribute!r} should be names of facts in a tuple")
    names = frozenset(said)
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"its {attribute!r} should be names of facts")
    return names


def _phases(policy: Any) -> list[int]:
    return [number for number, phase in enumerate(PHASES) if phase.interface.providedBy(policy)]


def _before(one: Any, place: int, other: Any, other_place: int) -> bool:
    """Whether `one` has a turn before the first one of `other`."""
    first, needed = min(_phases(one), default=None), min(_phases(other), default=None)
    if first is None or needed is None:
        return False
    return first < needed or (first == needed and place < other_place)
