"""The phases of a session in which policies are asked: what each is called, and which verdicts count in it."""

from __future__ import annotations

from typing import Final

from attrs import frozen
from zope.interface.interface import InterfaceClass

from relay.interfaces import (
    IAttemptPolicy,
    IConnectionPolicy,
    IContentPolicy,
    IObserver,
    IRoutingPolicy,
    ISenderPolicy,
)
from relay.mail.phases import Each, Edit
from relay.mail.routing import Abstention, Accept, Delay, Deliver, Discard, Forward, Hold, Note, Reject, Rewrite

#: Conditions of a policy's `when` that can be answered as soon as there is a client, and those that follow.
_CLIENT: Final = frozenset({"client", "listener", "authenticated", "facts"})
_SENDER: Final = _CLIENT | {"sender"}
_RECIPIENT: Final = _SENDER | {"recipient"}


@frozen(eq=False)
class Phase:
    """One kind of question."""

    #: As people see it, in explanations and in the log.
    name: str
    interface: InterfaceClass
    #: The method that is asked.
    method: str
    #: Classes of what counts as an answer.
    verdicts: frozenset[type]
    #: Those conditions of a guard that can be answered.
    known: frozenset[str]


CONNECTION: Final = Phase(
    "connection", IConnectionPolicy, "connect", frozenset({Abstention, Accept, Reject, Delay, Note}), _CLIENT
)
SENDER: Final = Phase("sender", ISenderPolicy, "sender", frozenset({Abstention, Accept, Reject, Delay, Note}), _SENDER)
RECIPIENT: Final = Phase(
    "recipient",
    IRoutingPolicy,
    "route",
    frozenset({Abstention, Deliver, Forward, Rewrite, Reject, Delay, Discard, Hold, Note}),
    _RECIPIENT,
)
CONTENT: Final = Phase(
    "content",
    IContentPolicy,
    "examine",
    frozenset({Abstention, Accept, Reject, Delay, Discard, Hold, Edit, Each, Note}),
    _RECIPIENT,
)
ATTEMPT: Final = Phase(
    "attempt", IAttemptPolicy, "attempt", frozenset({Abstention, Accept, Delay, Reject, Forward}), _RECIPIENT
)

#: In their order.
PHASES: Final = (CONNECTION, SENDER, RECIPIENT, CONTENT, ATTEMPT)

#: Whoever provides one of these is a policy.
INTERFACES: Final[tuple[InterfaceClass, ...]] = (*(phase.interface for phase in PHASES), IObserver)
