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
        reason = options.reason
        #: What is said of all mail where no facts are named. Made once: whoever writes it down finds it again.
        self._always = Hold(reason or "in quarantine")
        self._by_fact = {
            name: {value: Hold(reason or f"in quarantine: {name} is {value}") for value in values}
            for name, values in options.facts.items()
        }

    def examine(self, inquiry: ContentInquiry) -> ContentVerdict:
        if not self._by_fact:
            return self._always
        facts = inquiry.facts
        for name, holds in self._by_fact.items():
            value = facts.get(name)
            if value is not None and (held := holds.get(value)) is not None:
                return held
        return ABSTAIN
