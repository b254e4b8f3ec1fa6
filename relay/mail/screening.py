"""What came of asking all policies about a message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from relay.mail.address import Address
from relay.mail.edits import Edited
from relay.mail.facts import NO_FACTS, Facts, agreed
from relay.mail.routing import Accept, Delay, Discard, Hold, Inquiry, Reject
from relay.mail.value import value

#: What may come out for one recipient.
Word: TypeAlias = Accept | Reject | Delay | Discard | Hold


@value
class Ruled:
    """What counts for one recipient, and whose word it is; "" where nobody had one."""

    verdict: Word
    policy: str = ""
    #: What policies have found out about the content, as far as they were asked about this recipient.
    noted: Facts = NO_FACTS


@value
class Outcome:
    """What came of all questions about a message."""

    #: One for each recipient, in their order.
    each: tuple[Ruled, ...]
    #: What became of the header section; `None`: nobody has changed it.
    edited: Edited | None = None
    #: Who receives it instead; `None`: those whom the client named.
    instead: tuple[Address, ...] | None = None
    #: Who receives a copy beside them.
    also: tuple[Address, ...] = ()
    #: Whose changes these are, by name, for the log.
    editors: tuple[str, ...] = ()
    #: The question that each recipient was, with what has been found out since.
    asked: Sequence[Inquiry] = ()

    @property
    def facts(self) -> Facts:
        """What is known of all recipients alike."""
        return agreed([each.facts for each in self.asked])

    @property
    def agreed(self) -> bool:
        """Whether all recipients have the same verdict."""
        return all(ruled.verdict == self.each[0].verdict for ruled in self.each)
