"""`use = "quarantine"`: mail that is accepted, and waits until the operator has had a look at it."""

from pydantic import Field
from zope.interface import implementer

from relay.config.fields import Line, Section
from relay.config.policies import FactValues
from relay.interfaces import IContentPolicy, World
from relay.mail.phases import ContentInquiry, ContentVerdict
from relay.mail.routing import ABSTAIN, Hold


class QuarantineOptions(Section):
    """What `[[policy]] use = "quarantine"` may say."""

    facts: FactValues = Field(
        default={},
        alias="if",
        description="Facts, each with the values that count: mail of which one of them is known is held. Without it, "
        "all mail for which `when` holds.",
    )
    reason: Line = Field(
        default="", description="What the operator sees in the queue. Without it, the fact for which it is held."
    )


@implementer(IContentPolicy)
class Quarantine:
    """Holds mail by what policies before it have found out. Its client hears 250."""

    Options = QuarantineOptions
    wants = "headers"

    def __init__(self, options: QuarantineOptions, world: World) -> None:
        self.requires = frozenset(options.facts)
        self._facts = tuple((name, frozenset(values)) for name, values in options.facts.items())
        self._reason = options.reason

    def examine(self, inquiry: ContentInquiry) -> ContentVerdict:
        if not self._facts:
            return Hold(self._reason or "in quarantine")
        for name, values in self._facts:
            value = inquiry.facts.get(name)
            if value in values:
                return Hold(self._reason or f"in quarantine: {name} is {value}")
        return ABSTAIN
