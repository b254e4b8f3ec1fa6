"""
What policies are asked before and after a recipient's route, and what they can say: of a connection, of a sender, of
content, of an attempt. (`relay.mail.routing` has the question about a recipient, and the verdicts that all share.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

from attrs import field, frozen
from attrs.validators import deep_iterable, instance_of

from relay.mail.address import Address
from relay.mail.edits import CHANGES, Change
from relay.mail.envelope import Client, Envelope
from relay.mail.facts import NO_FACTS, Facts, facts
from relay.mail.fields import Fields
from relay.mail.routing import Abstention, Accept, Delay, Discard, Forward, Hold, Note, Reject, Route

_TEXT: Final = instance_of(str)


@frozen
class ConnectionInquiry:
    """May this client stay? Asked before the greeting; it has said nothing yet."""

    client: Client
    facts: Facts = field(default=NO_FACTS, converter=facts)


@frozen
class SenderInquiry:
    """May this client send mail from this reverse-path? Asked at MAIL (RFC 5321 section 4.1.1.2)."""

    #: `helo` is known by now, and `user` if there is one.
    client: Client
    #: `None` is the null reverse-path `<>`.
    reverse_path: Address | None
    #: What the SIZE parameter says the message has, in octets; `None`: it was not said (RFC 1870).
    size: int | None = None
    facts: Facts = field(default=NO_FACTS, converter=facts)


@frozen
class ContentInquiry:
    """
    What becomes of this message? Asked when all of it is here, before it is promised to anybody.

    `recipients` are those that the client named and that this policy is asked about; a verdict is for all of them, or
    one for each (`Each`).
    """

    #: The queue id that the message will have if it is kept.
    id: str
    envelope: Envelope
    recipients: tuple[Address, ...]
    #: Octets of the message in plain form, as it came.
    size: int
    #: The header section, with what policies before this one have changed.
    fields: Fields
    #: The message as it came, in plain form, in pieces; may be called again. `None` for a policy that only wants the
    #: header section. Raises `OSError`.
    blocks: Callable[[], Iterator[bytes]] | None = field(default=None, eq=False, repr=False)
    #: Who has taken the stream for this policy (`IContentReader`), or `None`.
    reader: Any = field(default=None, eq=False, repr=False)
    #: What is known of all these recipients alike: of the client, of the sender, and what they agree on.
    facts: Facts = field(default=NO_FACTS, converter=facts)


@frozen
class AttemptInquiry:
    """May this copy be carried now? Asked before each delivery attempt, the first one included."""

    #: The queue id.
    id: str
    envelope: Envelope
    recipient: Address
    route: Route
    #: The policy that has decided where it goes.
    policy: str
    #: How many attempts there were before.
    attempts: int
    #: When it was accepted, in seconds since the epoch by the spool's clock.
    accepted: float
    #: What policies have found out about its client, its sender and its recipient.
    facts: Facts = field(default=NO_FACTS, converter=facts)


def _changes(given: Iterable[Change]) -> tuple[Change, ...]:
    return tuple(given)


@frozen
class Edit:
    """Change the message, and ask the next policy. All changes of all policies are carried out, or none is."""

    changes: tuple[Change, ...] = field(converter=_changes, validator=deep_iterable(instance_of(CHANGES)))
    because: str = field(default="", validator=_TEXT)
    facts: Facts = field(default=NO_FACTS, converter=facts)

    @changes.validator
    def _has_one(self, _attribute: object, changes: tuple[Change, ...]) -> None:
        if not changes:
            raise ValueError("an edit that changes nothing is an abstention")


def _by_address(given: Mapping[Address, SingleVerdict]) -> tuple[tuple[Address, SingleVerdict], ...]:
    return tuple(given.items()) if isinstance(given, Mapping) else tuple(given)


@frozen
class Each:
    """
    A verdict for each recipient, where they differ. Who is not named is abstained from; an `Edit` is for a whole
    message and cannot be one of these.
    """

    verdicts: tuple[tuple[Address, SingleVerdict], ...] = field(converter=_by_address)
    because: str = field(default="", validator=_TEXT)

    @verdicts.validator
    def _are_verdicts(self, _attribute: object, verdicts: tuple[tuple[Address, SingleVerdict], ...]) -> None:
        for address, verdict in verdicts:
            if not isinstance(address, Address) or not isinstance(verdict, _SINGLE):
                raise ValueError("each recipient has a verdict: Accept, Reject, Delay, Discard, Hold or ABSTAIN")


_SINGLE: Final = (Accept, Reject, Delay, Discard, Hold, Abstention)

#: What may be said of one recipient's copy behind its content.
SingleVerdict: TypeAlias = Accept | Reject | Delay | Discard | Hold | Literal[Abstention.ABSTAIN]

ConnectionVerdict: TypeAlias = Accept | Reject | Delay | Note | Literal[Abstention.ABSTAIN]
SenderVerdict: TypeAlias = Accept | Reject | Delay | Note | Literal[Abstention.ABSTAIN]
ContentVerdict: TypeAlias = SingleVerdict | Edit | Each | Note
#: `Forward`: this attempt goes there instead. `Reject`: it has failed, and its sender is told.
AttemptVerdict: TypeAlias = Accept | Delay | Reject | Forward | Literal[Abstention.ABSTAIN]

#: What a content policy wants to see.
Wants: TypeAlias = Literal["headers", "stream", "message"]
