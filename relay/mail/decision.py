"""Decisions: what all policies together say about one recipient that a client named."""

from __future__ import annotations

from typing import TypeAlias

from attrs import field, frozen

from relay.mail.address import Address
from relay.mail.dsn import NO_WISHES, Wishes
from relay.mail.facts import NO_FACTS, Facts
from relay.mail.reply import Reply
from relay.mail.routing import Route
from relay.mail.value import value


@value
class Placement:
    """
    One copy that will be kept, and where it goes.

    A client names one recipient; an alias makes several placements of it. A placement whose route is a
    `Reject` is one of several that policy refuses: the client has heard 250 for the others, so this one
    fails after it has been accepted, and its sender is told.
    """

    address: Address
    #: The address that the client named.
    original: Address
    route: Route
    #: The policy that decided, by its name in the configuration; "" where no policy did.
    policy: str = ""
    because: str = ""
    #: What the client has said about the recipient that it named.
    wishes: Wishes = NO_WISHES
    #: What policies have found out about the client, the sender and the recipient.
    facts: Facts = NO_FACTS


@value
class Accepted:
    """The client hears 250. There is at least one placement: a copy for nobody would be lost mail."""

    placements: tuple[Placement, ...]

    def __attrs_post_init__(self) -> None:
        if not self.placements:
            raise ValueError("a recipient is accepted for at least one placement")


@value
class Refused:
    """The client hears this reply, which is negative."""

    reply: Reply = field()
    policy: str = ""
    because: str = ""

    @reply.validator
    def _is_negative(self, _attribute: object, reply: Reply) -> None:
        if reply.positive:
            raise ValueError(f"a {reply.code} reply does not refuse")


Decision: TypeAlias = Accepted | Refused


@frozen
class Admitted:
    """A client may stay, or a sender may send: nothing has spoken against it, and this is known of it."""

    facts: Facts = NO_FACTS
    policy: str = ""
    because: str = ""


Admission: TypeAlias = Admitted | Refused
