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
            missing = _missing(fact, stations, place)
            if missing:
                yield place, f"it requires the fact {fact!r}, and {missing}"


def _missing(fact: str, stations: Sequence[Station], place: int) -> str:
    """Why the policy at this place does not have the fact when it is asked, or ""."""
    needed = _phase(stations[place].policy)
    if needed is None:
        return "it is told no facts, since it only observes"
    behind: list[str] = []
    later: list[str] = []
    itself = False
    for at, each in enumerate(stations):
        phase = _phase(each.policy)
        # Who only observes is asked nothing, and tells nothing.
        if phase is None or fact not in _named(each.policy, "provides"):
            continue
        if phase < needed or (phase == needed and at < place):
            return ""
        if phase > needed:
            later.append(f"{each.name!r} finds that out in a later phase ({PHASES[phase].name})")
        elif at == place:
            itself = True
        else:
            behind.append(repr(each.name))
    if behind:
        return f"{', '.join(behind)} is asked behind it: put it in front"
    if later:
        asked = PHASES[needed].name
        return f"{', '.join(later)} than the one in which this one is asked ({asked}): no order of them helps"
    return "nobody but itself provides that" if itself else "no policy here provides that"


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


def _phase(policy: Any) -> int | None:
    """The first one in which it is asked, by its number; `None` if it is asked in none."""
    return next((number for number, phase in enumerate(PHASES) if phase.interface.providedBy(policy)), None)
