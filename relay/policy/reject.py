"""`use = "reject"`: a refusal for everyone who is asked about."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from zope.interface import implementer

from relay.config.fields import Line, Section
from relay.interfaces import IRoutingPolicy, World
from relay.mail.reply import Reply
from relay.mail.routing import Delay, Inquiry, Reject, RoutingVerdict
from relay.policy.names import about


def _negative(code: int) -> int:
    if not 400 <= code <= 599:
        raise ValueError("should be 5yz, which refuses, or 4yz, which asks to come again later")
    return code


class RejectOptions(Section):
    """What `[[policy]] use = "reject"` may say."""

    code: Annotated[int, Field(strict=True), AfterValidator(_negative)] = Field(
        default=550, description="The reply's code: 5yz, or 4yz to be asked again later."
    )
    status: str | None = Field(
        default=None, description="The enhanced status code (RFC 3463). Without it 5.7.1, or 4.7.1 for a 4yz code."
    )
    text: Line = Field(
        default="relaying denied", description="What the client is told, behind the recipient's address."
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        Reply.of(self.code, self.full_status, self.text)  # a `ValueError` says what does not
        return self

    @property
    def full_status(self) -> str:
        return self.status or ("5.7.1" if self.code >= 500 else "4.7.1")


@implementer(IRoutingPolicy)
class RejectAll:
    """Refuses, and says about whom."""

    Options = RejectOptions

    def __init__(self, options: RejectOptions, world: World) -> None:
        self._code = options.code
        self._status = options.full_status
        self._text = options.text

    def route(self, inquiry: Inquiry) -> RoutingVerdict:
        reply = about(inquiry.original, self._code, self._status, self._text)
        return Reject(reply, self._text) if reply.permanent else Delay(reply, self._text)
