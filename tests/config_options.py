"""Option models as policies have them, for tests of the configuration alone."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from relay.config.fields import Domain, Section


class Mailbox(Section):
    """Mailboxes of people here."""

    domains: tuple[Domain, ...] = Field(min_length=1, description="Whose mailboxes these are.")
    users: Literal["system", "any"] | tuple[str, ...] | Path = "system"
    format: Literal["maildir", "mbox"] = "maildir"
    directory: Path
    more: dict[str, Path] = Field(default={})


class Reject(Section):
    """Refuses the recipient."""

    code: Annotated[int, Field(ge=400, le=599)] = 550
    text: str = "relaying denied"


class Alias(Section):
    """Asks again about other addresses."""

    table: dict[str, tuple[str, ...]]


class Console(Section):
    """Shows the message."""


class Picky(Section):
    """Checks by itself."""

    number: int
    other: int | None = None

    @field_validator("number")
    @classmethod
    def _odd(cls, number: int) -> int:
        if number % 2 == 0:
            raise ValueError("should be odd")
        return {13: {}}.get(number, {"unlucky": number})["unlucky"]

    @model_validator(mode="after")
    def _same(self) -> "Picky":
        if self.other not in (None, self.number):
            raise ValueError("'number' and 'other' should be the same")
        return self


MODELS: dict[str, type[BaseModel]] = {
    "alias": Alias,
    "console": Console,
    "mailbox": Mailbox,
    "picky": Picky,
    "reject": Reject,
}
