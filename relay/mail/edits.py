"""
What a content policy may change of a message: values, which are carried out all or none, by putting octets before the
message or by copying it without some. Nothing of what stays is written anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, TypeAlias

from attrs import field, frozen

from relay.mail.address import Address
from relay.mail.fields import Field, Fields

_NAME: Final = re.compile(r"[!-9;-~]{1,77}")
#: RFC 5322 section 2.1.1.
_LINE: Final = 998


def _is_a_name(_instance: object, _attribute: object, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a header field")


def _is_a_body(_instance: object, _attribute: object, body: str) -> None:
    lines = body.split("\r\n")
    for number, line in enumerate(lines):
        if "\r" in line or "\n" in line or "\0" in line:
            raise ValueError("the lines of a field's body end with CR LF, and have no NUL")
        if number and not (line.startswith((" ", "\t")) and line.strip()):
            raise ValueError("a line that continues a field begins with white space, and has more than that")
        if len(line.encode("utf-8", "strict")) > _LINE - (80 if not number else 0):
            raise ValueError(f"a line of a field has at most {_LINE} octets: fold it")


@frozen
class AddField:
    """
    One more field on top, above all that the message has, below our own trace field.

    `body` may be folded: CR LF and white space. What is not ASCII goes out as UTF-8 (RFC 6532), and needs SMTPUTF8
    where it goes: a policy that is not sure encodes it (RFC 2047).
    """

    name: str = field(validator=_is_a_name)
    body: str = field(validator=_is_a_body)

    @property
    def octets(self) -> bytes:
        return f"{self.name}: {self.body}\r\n".encode()


@frozen
class RemoveField:
    """
    Leave out the fields of this name: all of them, or the one that is the `nth` from the top, counted from 1.

    Where there is none nothing happens.
    """

    name: str = field(validator=_is_a_name)
    nth: int | None = field(default=None)

    @nth.validator
    def _counts(self, _attribute: object, nth: int | None) -> None:
        if nth is not None and nth < 1:
            raise ValueError("fields are counted from 1")


@frozen
class ReplaceField:
    """
    Put a field with this body where the topmost of its name stands, and leave out the others of that name; on top if
    there is none.
    """

    name: str = field(validator=_is_a_name)
    body: str = field(validator=_is_a_body)

    @property
    def octets(self) -> bytes:
        return f"{self.name}: {self.body}\r\n".encode()


def _addresses(given: Iterable[Address]) -> tuple[Address, ...]:
    return tuple(given)


@frozen
class ReplaceRecipients:
    """
    The message goes to these instead, who are asked about as if the client's recipients stood for them (an alias). The
    client hears of it what it would have heard of its own recipients: 250.
    """

    recipients: tuple[Address, ...] = field(converter=_addresses)

    @recipients.validator
    def _has_one(self, _attribute: object, recipients: tuple[Address, ...]) -> None:
        if not recipients:
            raise ValueError("a message for nobody would be lost: discard it instead")
        if not all(isinstance(each, Address) for each in recipients):
            raise ValueError("recipients are addresses")


@frozen
class AddRecipient:
    """One more copy, for this address (`bcc`), which is asked about like the member of an alias."""

    recipient: Address = field()

    @recipient.validator
    def _is_an_address(self, _attribute: object, recipient: Address) -> None:
        if not isinstance(recipient, Address):
            raise ValueError("a recipient is an address")


Change: TypeAlias = AddField | RemoveField | ReplaceField | ReplaceRecipients | AddRecipient
CHANGES: Final = (AddField, RemoveField, ReplaceField, ReplaceRecipients, AddRecipient)


@frozen
class Edited:
    """What became of a header section by changes to its fields."""

    #: What is put on top of the message: fields that were added and have not been removed since.
    added: tuple[Field, ...]
    #: What is left of the message's own section; with `copied` false it is as it came.
    kept: tuple[Field, ...]
    copied: bool = False

    @classmethod
    def beginning(cls, fields: Fields) -> Edited:
        """A section that nobody has changed."""
        return cls((), fields.all)

    @property
    def fields(self) -> Fields:
        """The section as the next policy sees it."""
        return Fields.of((*self.added, *self.kept))

    def after(self, change: Change) -> Edited:
        """With one more change; those of recipients change no field."""
        match change:
            case AddField():
                return Edited((Field(change.octets), *self.added), self.kept, self.copied)
            case RemoveField(name, nth):
                return self._without(name.lower().encode(), nth)
            case ReplaceField(name):
                return self._replaced(name.lower().encode(), Field(change.octets))
            case _:
                return self

    def _without(self, name: bytes, nth: int | None) -> Edited:
        seen = 0
        added: list[Field] = []
        kept: list[Field] = []
        for whence, where in ((self.added, added), (self.kept, kept)):
            for each in whence:
                if each.name == name:
                    seen += 1
                    if nth is None or seen == nth:
                        continue
                where.append(each)
        return Edited(tuple(added), tuple(kept), self.copied or len(kept) != len(self.kept))

    def _replaced(self, name: bytes, new: Field) -> Edited:
        done = False
        added: list[Field] = []
        kept: list[Field] = []
        for whence, where in ((self.added, added), (self.kept, kept)):
            for each in whence:
                if each.name != name:
                    where.append(each)
                elif not done:
                    where.append(new)
                    done = True
        if not done:
            return Edited((new, *self.added), self.kept, self.copied)
        return Edited(tuple(added), tuple(kept), self.copied or tuple(kept) != self.kept)
