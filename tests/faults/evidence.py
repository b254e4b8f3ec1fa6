"""
What was said to whom, what was found where, and the verdict.

A copy is one message for one recipient. What was acknowledged must be found, at least once and whole, or its sender
must have been told that it failed. What was refused, or never sent to its end, must not be found. What was sent to its
end and never answered may be found or not: nobody knows more, and the client will ask again (RFC 5321 section 4.1.1.4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Final

from attrs import evolve, field, frozen

#: A message's id and a recipient.
Copy = tuple[str, str]


class Fate(Enum):
    """What a client was told of a copy."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    #: Sent to its end; the connection was lost before the answer.
    UNANSWERED = "unanswered"
    #: The client was gone before it had sent all of it.
    UNFINISHED = "unfinished"


class Where(Enum):
    MAILBOX = "in mailboxes"
    ONWARD = "onward"


@frozen
class Arrival:
    """A copy that was found."""

    copy: Copy
    where: Where
    intact: bool = True
    #: Whoever brought it was told that it was taken. If not, it must come again (RFC 1047).
    answered: bool = True


@frozen
class Evidence:
    """All that is known when the relay has come to rest."""

    fates: Mapping[Copy, Fate]
    arrivals: Sequence[Arrival]
    #: Copies that have failed, as their senders were told by notices.
    told: Sequence[Copy] = ()
    #: The recipients whose copies do fail: everybody else's should not.
    hopeless: frozenset[str] = frozenset()
    #: What was found and nobody had sent.
    strays: Sequence[str] = ()
    #: Messages in the queue, and entries that were set aside as damaged, when the relay should have been done.
    queued: int = 0
    damaged: int = 0
    #: Lines of its log that should not be there.
    alarms: Sequence[str] = ()


@frozen
class Verdict:
    counts: Mapping[str, int]
    #: What must not have happened, a line each.
    complaints: Sequence[str]

    def lines(self) -> Iterator[str]:
        for name, count in self.counts.items():
            yield f"{name:<25} {count:>7}"
        yield from self.complaints[:MOST_SHOWN]
        if len(self.complaints) > MOST_SHOWN:
            yield f"... and {len(self.complaints) - MOST_SHOWN} more complaints"


MOST_SHOWN: Final = 40
_NOT_TO_BE_FOUND: Final = (Fate.REFUSED, Fate.UNFINISHED)


def verdict(evidence: Evidence) -> Verdict:
    """Account for every copy."""
    fates, told = evidence.fates, set(evidence.told)
    found = Counter(arrival.copy for arrival in evidence.arrivals)
    whole = {arrival.copy for arrival in evidence.arrivals if arrival.intact}
    lost = [
        copy for copy, fate in fates.items() if fate is Fate.ACKNOWLEDGED and copy not in whole and copy not in told
    ]
    refused = [copy for copy, fate in fates.items() if fate in _NOT_TO_BE_FOUND and (copy in found or copy in told)]
    corrupt = [arrival.copy for arrival in evidence.arrivals if not arrival.intact]
    unknown = [*evidence.strays, *(f"{id} for {recipient}" for id, recipient in {*found, *told} - fates.keys())]
    misreported = [copy for copy in told if copy[1] not in evidence.hopeless]
    fate_counts = Counter(fates.values())
    counts = {
        "messages sent": len({id for id, _ in fates}),
        "copies sent": len(fates),
        **{f"  {fate.value}": fate_counts[fate] for fate in Fate},
        "delivered": len(found),
        **{f"  {where.value}": sum(each.where is where for each in evidence.arrivals) for where in Where},
        "failed, sender told": len(told),
        "lost": len(lost),
        "refused-but-delivered": len(refused),
        "corrupt": len(corrupt) + evidence.damaged,
        "of unknown origin": len(unknown),
        "failed for no reason": len(misreported),
        "left in the queue": evidence.queued,
        "duplicates": sum(found.values()) - len(found),
        **{f"  {where.value}, twice": _twice(evidence.arrivals, where) for where in Where},
        "  since the sink hung up": sum(
            min(found[copy] - 1, count)
            for copy, count in Counter(each.copy for each in evidence.arrivals if not each.answered).items()
        ),
    }
    complaints = [
        *(f"LOST: {id} for {recipient} was acknowledged" for id, recipient in lost),
        *(f"DELIVERED: {id} for {recipient} was {fates[id, recipient].value}" for id, recipient in refused),
        *(f"CORRUPT: {id} for {recipient}" for id, recipient in corrupt),
        *(f"UNKNOWN: {what}" for what in unknown),
        *(f"FAILED: {id} for {recipient}, whom nobody has refused" for id, recipient in misreported),
    ]
    complaints += [f"LOG: {line}" for line in evidence.alarms]
    if evidence.damaged:
        complaints.append(f"CORRUPT: {evidence.damaged} entries of the spool were set aside")
    if evidence.queued:
        complaints.append(f"QUEUED: {evidence.queued} messages are still in the queue")
    return Verdict(counts, complaints)


def _twice(arrivals: Sequence[Arrival], where: Where) -> int:
    found = Counter(arrival.copy for arrival in arrivals if arrival.where is where)
    return sum(found.values()) - len(found)


@frozen
class Falsehood:
    """A way to falsify evidence, in order to see that it is noticed."""

    name: str
    #: What a complaint about it begins with.
    complaint: str = field()


FALSEHOODS: Final = {
    each.name: each
    for each in (Falsehood("missing", "LOST"), Falsehood("corrupt", "CORRUPT"), Falsehood("refused", "DELIVERED"))
}


def falsify(evidence: Evidence, name: str) -> Evidence:
    """The same evidence, but for one copy of which something else is claimed."""
    arrivals = list(evidence.arrivals)
    acknowledged = next(each.copy for each in arrivals if evidence.fates.get(each.copy) is Fate.ACKNOWLEDGED)
    match name:
        case "missing":
            return evolve(evidence, arrivals=[each for each in arrivals if each.copy != acknowledged])
        case "corrupt":
            at = next(at for at, each in enumerate(arrivals) if each.copy == acknowledged)
            return evolve(evidence, arrivals=[*arrivals, evolve(arrivals[at], intact=False)])
        case "refused":
            refused = next(copy for copy, fate in evidence.fates.items() if fate is Fate.REFUSED)
            return evolve(evidence, arrivals=[*arrivals, Arrival(refused, Where.ONWARD)])
        case _:
            raise ValueError(f"there is no falsehood called {name!r}")
