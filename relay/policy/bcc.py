"""`use = "bcc"`: copies of which neither sender nor recipients see anything."""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Final, Literal, Self

from attrs import frozen
from pydantic import AfterValidator, Field, model_validator
from zope.interface import implementer

from relay.config.fields import Yes
from relay.interfaces import IContentPolicy, World
from relay.mail.address import Address, parse_address
from relay.mail.edits import AddRecipient
from relay.mail.fields import Fields
from relay.mail.phases import ContentInquiry, ContentVerdict, Edit
from relay.mail.routing import ABSTAIN
from relay.policy.lookup import TableOptions, check_key, find_address
from relay.policy.names import fold

#: What a line of the table has at most, and what one message makes at most.
_MOST: Final = 100
#: How often a message may have passed this relay before it is not copied any more: a copy may come back to us by ways
#: that nobody here knows of.
_MOST_PASSAGES: Final = 5
_BETWEEN: Final = re.compile(r"[,\s]+")

CopyTo = Annotated[str, AfterValidator(lambda text: str(parse_address(text)))]


class BccOptions(TableOptions):
    """What `[[policy]] use = "bcc"` may say."""

    to: tuple[CopyTo, ...] = Field(default=(), max_length=_MOST, description="Addresses that get a copy.")
    look_up: Literal["recipient", "sender"] = Field(
        default="recipient",
        description="Whose address is looked up in the table, which has the addresses that get a copy.",
    )
    notices: Yes = Field(default=False, description="Whether mail without a reverse-path (notices) is copied as well.")

    @model_validator(mode="after")
    def _says_to_whom(self) -> Self:
        if bool(self.to) == (self.table_or_file is not None):
            raise ValueError("should say who gets a copy, by one of 'to', 'table' and 'file'")
        return self


@implementer(IContentPolicy)
class Bcc:
    """
    Adds recipients to a message. Who receives it anyway gets no second copy, and what goes to nobody but those who get
    copies may be one, and is not copied again.

    All policies are asked about a copy as about a member of an alias: where mail to it may not be relayed there is
    none, and the log says so. It is held if all of the message is, and there is none of what is thrown away.
    """

    Options = BccOptions
    wants = "headers"

    def __init__(self, options: BccOptions, world: World) -> None:
        source = options.table_or_file
        self._to = tuple(map(parse_address, options.to))
        self._known = frozenset(map(_same, self._to))
        self._table = None if source is None else world.table(source).checked(NamesAddresses())
        self._of_sender = options.look_up == "sender"
        self._notices = options.notices
        #: Of our own trace fields.
        self._by = re.compile(rb"\bby " + re.escape(world.hostname.encode()) + rb"(?![\w.-])", re.IGNORECASE)

    def examine(self, inquiry: ContentInquiry) -> ContentVerdict:
        if inquiry.envelope.reverse_path is None and not self._notices:
            return ABSTAIN
        have = {_same(each) for each in inquiry.recipients}
        copies = [each for each in dict.fromkeys(self._copies(inquiry)) if _same(each) not in have][:_MOST]
        if not copies or have <= self._known or self._passages(inquiry.fields) > _MOST_PASSAGES:
            return ABSTAIN
        return Edit([AddRecipient(each) for each in copies], f"a copy for {', '.join(map(str, copies))}")

    def _copies(self, inquiry: ContentInquiry) -> Iterator[Address]:
        yield from self._to
        if self._table is not None:
            looked_up: Iterable[Address | None] = inquiry.recipients
            if self._of_sender:
                looked_up = (inquiry.envelope.reverse_path,)
            for address in looked_up:
                found = find_address(self._table, address)
                if found is not None:
                    yield from _addresses(found[1])

    def _passages(self, fields: Fields) -> int:
        """How often it has been here before, as its trace fields say (RFC 5321 section 4.4)."""
        return sum(self._by.search(each.body) is not None for each in fields.named("Received"))


def _same(address: Address) -> tuple[str, str]:
    return fold(address.local), address.domain


def _addresses(value: str) -> tuple[Address, ...]:
    return tuple(parse_address(each) for each in _BETWEEN.split(value) if each)


@frozen
class NamesAddresses:
    """Whether a line of the table says who gets copies: for `ITable.checked`."""

    def __call__(self, key: str, value: str) -> None:
        check_key(key)
        if not 0 < len(_addresses(value)) <= _MOST:
            raise ValueError(f"should have from 1 to {_MOST} addresses")
