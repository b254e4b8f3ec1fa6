"""
The queue as an operator sees it: what is asked of it, what it answers, and what may be done with it, as values.

Which recipients a selection means, and what an act makes of one, is said here once, for every spool.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from typing import Final, TypeAlias

from attrs import evolve, frozen

from relay.mail.address import Address
from relay.mail.queue import EXPANSION, Pending, destination
from relay.mail.reply import Reply
from relay.mail.routing import Deliver, Forward, Hold, Reject, Route

#: How the null reverse-path is written in a selection (RFC 5321 section 4.5.5).
NULL_PATH: Final = "<>"


class State(Enum):
    """What a queued recipient does at this moment. It is always in exactly one of these."""

    #: Nothing was tried yet.
    WAITING = "waiting"
    #: It was tried in vain, and waits for its time.
    DEFERRED = "deferred"
    #: Somebody has claimed it: its copy is being carried, or its turn is about to come.
    ACTIVE = "active"
    #: It goes nowhere until an operator says so.
    HELD = "held"


class Holder(Enum):
    """Who has decided that a recipient is held."""

    #: A policy said `Hold`: there is nowhere that its copy would go.
    POLICY = "policy"
    OPERATOR = "operator"


class Group(Enum):
    """By what a queue is counted."""

    DESTINATION = "destination"
    #: What the last attempt met.
    REASON = "reason"
    SENDER = "sender"
    POLICY = "policy"


@frozen
class Selection:
    """
    Which recipients of the queue are meant: those of whom all that is said here is true. "" and `None` say nothing.

    In `to`, `sender` and `destination` a `*` stands for anything; in these and in `reason`, letters of ASCII mean the
    same in either case. A destination without `;` means those that have one behind it, too, as it does where an
    operator pauses it.
    """

    #: Queue ids, or ids of recipients.
    ids: tuple[str, ...] = ()
    #: The recipient's address, or the one that the client named; `@example.org`: any address in this domain.
    to: str = ""
    #: The same of the reverse-path; `<>` is the null one.
    sender: str = ""
    destination: str = ""
    policy: str = ""
    state: State | None = None
    #: Accepted at least so many seconds ago.
    older: float | None = None
    #: Something that stands in what the last attempt met: its status, our words, the peer's, or the peer's name.
    reason: str = ""

    @property
    def is_all(self) -> bool:
        """Nothing is said, so the whole queue is meant."""
        return self == Selection()


@frozen
class Queued:
    """A recipient in the queue, with what an operator wants to know of its entry."""

    #: The queue id.
    entry: str
    #: Seconds since the epoch.
    arrived: float
    sender: Address | None
    #: The message's size in octets.
    size: int
    pending: Pending
    state: State
    held_by: Holder | None = None
    #: Until when the sender wants it to be kept back (RFC 4865), or `None`.
    release: float | None = None

    @property
    def key(self) -> str:
        """Its place in the order of the queue, for asking for what stands behind it."""
        return f"{self.entry}:{self.pending.recipient.id}"


@frozen
class Page:
    """A piece of an answer. `after` is where to go on, "" at the end; there may be more even if this piece is empty."""

    queued: tuple[Queued, ...]
    after: str = ""


@frozen
class Tally:
    """How many recipients there are, by what was asked for and by state: a piece of an answer, to be added up."""

    counts: Mapping[tuple[str, State], int]
    after: str = ""


class Verb(Enum):
    """What an operator may do with a recipient."""

    HOLD = "hold"
    #: Due now, whether an operator has held it or its sender has (RFC 4865). What a policy holds has nowhere to go: to
    #: let it out is to say where (`Reroute`).
    RELEASE = "release"
    RETRY = "retry"
    #: It is gone, and nobody is told but the mail log.
    DELETE = "delete"
    #: It is settled as failed as soon as possible, and its sender is told (law L2).
    FAIL = "fail"


@frozen
class Reroute:
    """
    It goes this way from now on, and is due now, unless an operator holds it. Onward it keeps the reverse-path that a
    policy has given it: who named another host has said nothing of the sender.
    """

    route: Forward | Deliver


Act: TypeAlias = Verb | Reroute

#: Why a route is one that an operator has named: policies that come later do not change it.
BY_OPERATOR: Final = "by the operator"

#: The way of whom an operator has given up. It is carried like any recipient that a policy refuses behind the 250: the
#: dispatcher settles it as failed, in the commit that keeps the notice.
GIVEN_UP: Final = Reject(
    Reply.of(550, "5.0.0", "The operator of this relay has ended the attempts to deliver it"), BY_OPERATOR
)


@frozen
class Course:
    """What an act makes of a recipient."""

    held: bool
    due: float
    route: Route
    destination: str

    @property
    def wake(self) -> float | None:
        """When somebody may claim it; `None`: nobody may."""
        return None if self.held or isinstance(self.route, Hold) else self.due


@frozen
class Steered:
    """
    A piece of what came of an act: whom it has changed, as they were before; of how many it cannot be said, since they
    are claimed at this moment; and how many it means nothing to.
    """

    done: tuple[Queued, ...]
    busy: int = 0
    unmoved: int = 0
    after: str = ""


def selects(selection: Selection, queued: Queued, now: float) -> bool:
    """Whether this recipient is among those that are meant."""
    recipient = queued.pending.recipient
    return (
        (not selection.ids or queued.entry in selection.ids or recipient.id in selection.ids)
        and (
            not selection.to
            or _fits(path_pattern(selection.to), path_text(recipient.address))
            or _fits(path_pattern(selection.to), path_text(recipient.original))
        )
        and (not selection.sender or _fits(path_pattern(selection.sender), path_text(queued.sender)))
        and (
            not selection.destination
            or _fits(selection.destination, recipient.destination)
            or _fits(selection.destination, recipient.destination.partition(";")[0])
        )
        and (not selection.policy or selection.policy == recipient.policy)
        and (selection.state is None or selection.state is queued.state)
        and (selection.older is None or queued.arrived <= now - selection.older)
        and (not selection.reason or _met(selection.reason, queued.pending))
    )


def group_of(by: Group, queued: Queued) -> str:
    """Under what this recipient is counted."""
    match by:
        case Group.DESTINATION:
            return queued.pending.recipient.destination
        case Group.POLICY:
            return queued.pending.recipient.policy
        case Group.SENDER:
            return path_text(queued.sender)
        case Group.REASON:
            last = queued.pending.last
            return "" if last is None else f"{last.because} ({last.status})"


def course(act: Act, queued: Queued, now: float) -> Course | None:
    """
    What becomes of a recipient that nobody has claimed. `None`: the act means nothing to it. `DELETE` has no course.
    """
    pending = queued.pending
    recipient = pending.recipient
    by_operator = queued.held_by is Holder.OPERATOR
    kept_back = queued.release is not None and queued.release > now
    match act:
        case Verb.HOLD if queued.held_by is None:
            return Course(True, pending.due, recipient.route, recipient.destination)
        case Verb.RELEASE if by_operator and kept_back:
            return Course(False, queued.release or now, recipient.route, recipient.destination)
        case Verb.RELEASE if by_operator or (kept_back and queued.held_by is None and not pending.attempts):
            return Course(False, now, recipient.route, recipient.destination)
        case Verb.RETRY if queued.held_by is None and not kept_back:
            return Course(False, min(pending.due, now), recipient.route, recipient.destination)
        case Verb.FAIL if recipient.route not in (EXPANSION, GIVEN_UP):
            return Course(False, now, GIVEN_UP, destination(GIVEN_UP))
        case Reroute(route) if recipient.route != EXPANSION:
            due = (queued.release if kept_back else None) or now
            return Course(by_operator, due, _named(route, recipient.route), destination(route))
    return None


def _named(route: Forward | Deliver, before: Route) -> Forward | Deliver:
    """An operator's route, in place of this one. Mailboxes have the sender's own address."""
    if isinstance(route, Forward) and isinstance(before, Forward) and not any(hop.lmtp for hop in route.next_hops):
        return evolve(route, because=BY_OPERATOR, reverse_path=route.reverse_path or before.reverse_path)
    return evolve(route, because=BY_OPERATOR)


def path_text(path: Address | None) -> str:
    """A path as it is meant, without quotes: as it is compared and shown here."""
    return NULL_PATH if path is None else f"{path.local}@{path.domain}"


def path_pattern(text: str) -> str:
    """What a person says of a path, as a pattern of whole ones."""
    if text != NULL_PATH and text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    return f"*{text}" if text.startswith("@") else text


def met_text(status: str, because: str, diagnostic: str, peer: str) -> str:
    """In what a `reason` is looked for."""
    return "\n".join((status, because, diagnostic, peer))


def _met(reason: str, pending: Pending) -> bool:
    last = pending.last
    if last is None:
        return False
    text = met_text(last.status, last.because, last.diagnostic, last.peer)
    return re.search(re.escape(reason), text, re.ASCII | re.IGNORECASE) is not None


def _fits(pattern: str, text: str) -> bool:
    return _expression(pattern).fullmatch(text) is not None


@lru_cache(maxsize=100)
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.ASCII | re.IGNORECASE | re.DOTALL)
