"""`use = "reject"`: a refusal for everyone who is asked about."""

import re
from typing import Annotated, Literal, Self

from attrs import evolve, frozen
from pydantic import AfterValidator, Field, model_validator
from zope.interface import implementer

from relay.config.fields import Line
from relay.interfaces import IRoutingPolicy, World
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Delay, Inquiry, Reject, RoutingVerdict
from relay.policy.lookup import TableOptions, check_key, find_address
from relay.policy.names import about


def _negative(code: int) -> int:
    if not 400 <= code <= 599:
        raise ValueError("should be 5yz, which refuses, or 4yz, which asks to come again later")
    return code


#: `450 4.2.1 the office is closed`, each part of which may be missing.
_REPLY = re.compile(r"(?:([0-9]{3})(?: +|\Z))?(?:([0-9]\.[0-9]{1,3}\.[0-9]{1,3})(?: +|\Z))?(.*)")
_LONGEST_TEXT = 200


class RejectOptions(TableOptions):
    """What `[[policy]] use = "reject"` may say. With a table it has no opinion on who does not stand there."""

    code: Annotated[int, Field(strict=True), AfterValidator(_negative)] = Field(
        default=550, description="The reply's code: 5yz, or 4yz to be asked again later."
    )
    status: str | None = Field(
        default=None, description="The enhanced status code (RFC 3463). Without it 5.7.1, or 4.7.1 for a 4yz code."
    )
    text: Line = Field(
        default="relaying denied", description="What the client is told, behind the recipient's address."
    )

    look_up: Literal["recipient", "sender"] = Field(
        default="recipient", description="Whose address is looked up in the table. A notice has the sender `<>`."
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        Reply.of(self.code, self.full_status, self.text)  # a `ValueError` says what does not
        return self

    @property
    def full_status(self) -> str:
        return Refusal(self.code, self.status, self.text).full_status


@implementer(IRoutingPolicy)
class RejectAll:
    """Refuses, and says about whom; with a table, those who stand there."""

    Options = RejectOptions

    def __init__(self, options: RejectOptions, world: World) -> None:
        self._usual = Refusal(options.code, options.status, options.text)
        self._of_sender = options.look_up == "sender"
        source = options.table_or_file
        self._table = None if source is None else world.table(source).checked(CanBeSaid(self._usual))

    def route(self, inquiry: Inquiry) -> RoutingVerdict:
        refusal, because = self._usual, ""
        if self._table is not None:
            found = find_address(self._table, inquiry.reverse_path if self._of_sender else inquiry.recipient)
            if found is None:
                return ABSTAIN
            key, value = found
            refusal, because = refusal.saying(value), f" ({key})"
        reply = about(inquiry.original, refusal.code, refusal.full_status, refusal.text)
        because = refusal.text + because
        return Reject(reply, because) if reply.permanent else Delay(reply, because)


@frozen
class Refusal:
    """What a client is told."""

    code: int
    status: str | None
    text: str

    @property
    def full_status(self) -> str:
        return self.status or ("5.7.1" if self.code >= 500 else "4.7.1")

    def saying(self, value: str) -> Self:
        """What a line of a table makes of it: code, enhanced status code and text, each of which may be missing."""
        match = _REPLY.fullmatch(value)
        if match is None:
            raise ValueError("should be one line")
        code, status, text = match.groups()
        if code is None:
            return evolve(self, status=status or self.status, text=text or self.text)
        return evolve(self, code=int(code), status=status, text=text or self.text)


@frozen
class CanBeSaid:
    """Whether a line of a table makes a reply of what is said otherwise: for `ITable.checked`."""

    usual: Refusal

    def __call__(self, key: str, value: str) -> None:
        check_key(key)
        refusal = self.usual.saying(value)
        if len(refusal.text) > _LONGEST_TEXT:
            raise ValueError(f"should have a text of at most {_LONGEST_TEXT} characters")
        Reply.of(_negative(refusal.code), refusal.full_status, refusal.text)
