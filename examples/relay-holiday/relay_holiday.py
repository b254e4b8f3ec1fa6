"""While people are away, mail for them is asked to come again later."""

from datetime import UTC, date, datetime

from pydantic import Field, ValidationInfo, field_validator
from zope.interface import implementer

from relay.config.fields import DomainOrAddress, Line, Section
from relay.interfaces import IRoutingPolicy, World
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Delay, Inquiry, RoutingVerdict
from relay.policy.names import Mailboxes


class HolidayOptions(Section):
    """What `[[policy]] use = "holiday"` may say. No `from __future__ import annotations` here: pydantic reads them."""

    first: date = Field(description="The first day away, in UTC.")
    last: date = Field(description="The last day away, in UTC.")
    recipients: tuple[DomainOrAddress, ...] = Field(min_length=1, description="Who is away: addresses, or domains.")
    text: Line = Field(default="on holiday, please try again later", description="What the sender is told.")

    @field_validator("last")
    @classmethod
    def _not_before_the_first(cls, last: date, info: ValidationInfo) -> date:
        if last < info.data.get("first", last):
            raise ValueError("should not be before 'first'")
        return last


@implementer(IRoutingPolicy)
class Holiday:
    """Answers 450 for those who are away today, and has no opinion on anybody else."""

    Options = HolidayOptions

    def __init__(self, options: HolidayOptions, world: World) -> None:
        self._options = options
        self._clock = world.clock  # and not `date.today()`: tests and replays bring their own
        self._away = Mailboxes(options.recipients)  # and not `==`: letter case means nothing

    def route(self, inquiry: Inquiry) -> RoutingVerdict:
        today = datetime.fromtimestamp(self._clock.calendar(), UTC).date()
        away = inquiry.recipient in self._away
        if away and self._options.first <= today <= self._options.last:
            return Delay(Reply.of(450, "4.2.1", self._options.text), because=f"away until {self._options.last}")
        return ABSTAIN
