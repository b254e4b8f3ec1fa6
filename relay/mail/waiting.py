"""Why a recipient is still in the queue: a closed set of reasons, each a sentence that an operator can read."""

from __future__ import annotations

from enum import Enum

from attrs import frozen

from relay.mail.selection import GIVEN_UP, Holder, Queued, State


class Reason(Enum):
    """Each queued recipient has exactly one at any moment (law L3, as people see it)."""

    CARRIED = "it is being carried at this moment, or its turn is next"
    DUE = "it is due now, and is about to be carried"
    NEXT_ATTEMPT = "it waits for its next attempt, since the last one did not succeed"
    RELEASE = "its sender wants it to be kept back until a certain time (FUTURERELEASE)"
    HELD_BY_POLICY = "a policy holds it, until 'relayctl queue release', or until it is rerouted, failed or deleted"
    HELD_BY_OPERATOR = "an operator holds it, until 'relayctl queue release'"
    GIVEN_UP = "an operator has given it up, and its sender is about to be told"
    # What a destination may say of all that goes there.
    PAUSED = "an operator has paused its destination, until 'relayctl dest resume'"
    RESTING = "nothing gets through to its destination: now and then one message tries whether it does again"
    AT_LIMIT = "as much is under way to its destination as may be at once"
    RATE = "its destination has had as many messages as may be sent to it in this time"


#: Those that a destination has, and a recipient because of it.
OBSTACLES = frozenset({Reason.PAUSED, Reason.RESTING, Reason.AT_LIMIT, Reason.RATE})


@frozen
class DestinationView:
    """
    A destination as an operator sees it. Times are seconds since the epoch.

    Of a destination of which nothing is claimed, and with which nothing is wrong, the dispatcher knows nothing.
    """

    name: str
    #: Attempts under way, how many there may be, and claims that wait for their turn.
    active: int
    limit: int
    ready: int
    #: Why nothing more begins, or `None`.
    obstacle: Reason | None = None
    #: When that ends by itself, or is tried.
    until: float | None = None
    #: How many more may be sent now, where there may be so many in a time.
    rate_left: int | None = None
    #: What was met lately, the newest last: when, and in words.
    met: tuple[tuple[float, str], ...] = ()
    #: Attempts that have said all and only await the answer: others begin meanwhile.
    trailing: int = 0


def why(queued: Queued, now: float, destination: DestinationView | None = None) -> Reason:
    """The reason for which this recipient waits, if that is what its destination is like."""
    if queued.held_by is not None:
        return Reason.HELD_BY_POLICY if queued.held_by is Holder.POLICY else Reason.HELD_BY_OPERATOR
    obstacle = None if destination is None else destination.obstacle
    if queued.state is State.ACTIVE:
        return (
            obstacle if obstacle is not None and destination is not None and not destination.active else Reason.CARRIED
        )
    if queued.release is not None and queued.release > now and queued.pending.due > now:
        return Reason.RELEASE
    if obstacle is Reason.PAUSED:
        return obstacle
    if queued.pending.due > now:
        return Reason.NEXT_ATTEMPT
    if queued.pending.recipient.route == GIVEN_UP:
        return Reason.GIVEN_UP
    return obstacle or Reason.DUE
