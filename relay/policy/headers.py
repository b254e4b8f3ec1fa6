"""`use = "headers"`: what stands in the header section of a message, and what is done about it."""

from typing import Annotated, Final, Literal, Self

from attrs import frozen
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import SchemaError, SchemaValidator, core_schema
from zope.interface import implementer

from relay.config.fields import Line, Section
from relay.interfaces import IContentPolicy, World
from relay.mail import fields
from relay.mail.edits import AddField, Change, RemoveField, ReplaceField
from relay.mail.facts import Facts
from relay.mail.phases import ContentInquiry, ContentVerdict, Edit
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Accept, Delay, Discard, Hold, Note, Reject

#: How much of a field is looked at, in characters.
LOOKED_AT: Final = 2000
_LONGEST_PATTERN: Final = 500

Action = Literal["reject", "delay", "discard", "hold", "accept", "note", "edit"]


def _pattern(text: str) -> str:
    matcher(text)
    return text


def matcher(pattern: str) -> SchemaValidator:
    """
    A regular expression that is found in a text in time that is proportional to the text's length, whatever either is:
    Rust's, by way of pydantic. Python's own may take for ever. Raises `ValueError`.
    """
    if len(pattern) > _LONGEST_PATTERN:
        raise ValueError(f"should be at most {_LONGEST_PATTERN} characters")
    try:
        return SchemaValidator(core_schema.str_schema(pattern=f"(?i:{pattern})", regex_engine="rust-regex"))
    except SchemaError as error:
        why = str(error).rstrip().rpartition("\n")[2].removeprefix("error: ")
        raise ValueError(f"{pattern!r} is no regular expression that can be used here: {why}") from None


def _name(text: str) -> str:
    return RemoveField(text).name


FieldName = Annotated[str, AfterValidator(_name)]
Texts = tuple[Annotated[str, Field(min_length=1, max_length=LOOKED_AT)], ...]
Most = Annotated[int, Field(strict=True, ge=0, le=fields.MOST_FIELDS)]


class Condition(Section):
    """What is looked for among the fields of one name."""

    name: FieldName = Field(
        description="The field's name. Letter case means nothing, here and in all that is looked for."
    )
    texts: Texts = Field(default=(), alias="is", description="The field's text is one of these.")
    contains: Texts = Field(default=(), description="One of these stands in the field's text.")
    matches: tuple[Annotated[str, AfterValidator(_pattern)], ...] = Field(
        default=(), description="One of these regular expressions matches anywhere in the field's text."
    )
    at_least: Most | None = Field(
        default=None, description="How many such fields there are at least. Without it one, or none where `at_most` is."
    )
    at_most: Most | None = Field(default=None, description="How many there are at most: with 0 there is none.")

    @model_validator(mode="after")
    def _can_hold(self) -> Self:
        if self.at_most is not None and (self.at_least or 0) > self.at_most:
            raise ValueError("'at_least' should not be more than 'at_most'")
        if self.at_most is None and self.at_least == 0:
            raise ValueError("any number of fields is no condition")
        return self


class HeadersOptions(Section):
    """What `[[policy]] use = "headers"` may say."""

    fields: tuple[Condition, ...] = Field(
        default=(), max_length=100, description="What is looked for. Without it, whatever stands there."
    )
    match: Literal["all", "any"] = Field(
        default="all", description="Whether all of it has to be found, or any of it is enough."
    )
    action: Action = Field(
        description="What is done then. `reject` (550 5.7.1), `delay` (450 4.7.1), `discard` (250, and it is thrown "
        "away), `hold` (it waits for the operator), `accept` (no policy behind this one is asked about the content), "
        "`note` (facts are left for them), `edit` (the message is changed, and they are asked)."
    )
    text: Line = Field(default="the message was refused by its header", description="What the client is told.")
    facts: dict[str, str] = Field(default={}, description="Facts that `note`, `edit` and `accept` leave.")
    add: dict[FieldName, Line] = Field(default={}, description="Fields that `edit` puts on top, by name.")
    replace: dict[FieldName, Line] = Field(
        default={}, description="Fields that `edit` puts where those of the same name stand, or on top."
    )
    remove: tuple[FieldName, ...] = Field(default=(), description="Names of fields that `edit` leaves out.")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        Facts(self.facts)  # a `ValueError` says what is wrong
        changes = self.changes
        if bool(changes) != (self.action == "edit"):
            raise ValueError(
                "'add', 'replace' and 'remove' are what 'action = \"edit\"' does, and it needs one of them"
            )
        if self.action == "note" and not self.facts:
            raise ValueError("'action = \"note\"' needs 'facts'")
        if self.facts and self.action not in ("note", "edit", "accept"):
            raise ValueError("nobody is asked afterwards whom the facts could tell anything")
        return self

    @property
    def changes(self) -> tuple[Change, ...]:
        """In this order: what is added is not removed."""
        return (
            *(RemoveField(name) for name in self.remove),
            *(ReplaceField(name, body) for name, body in self.replace.items()),
            *(AddField(name, body) for name, body in self.add.items()),
        )


@frozen(eq=False)
class Sought:
    """A condition, made ready."""

    name: str
    texts: frozenset[str]
    contains: tuple[str, ...]
    matches: tuple[SchemaValidator, ...]
    least: int
    most: int

    @classmethod
    def of(cls, condition: Condition) -> Self:
        least = condition.at_least
        if least is None:
            least = 1 if condition.at_most is None else 0
        return cls(
            condition.name,
            frozenset(map(str.casefold, condition.texts)),
            tuple(map(str.casefold, condition.contains)),
            tuple(map(matcher, condition.matches)),
            least,
            fields.MOST_FIELDS if condition.at_most is None else condition.at_most,
        )

    def found(self, section: fields.Fields) -> bool:
        named = section.named(self.name)
        if not (self.texts or self.contains or self.matches):
            return self.least <= len(named) <= self.most
        return self.least <= sum(self._fits(each) for each in named) <= self.most

    def _fits(self, field: fields.Field) -> bool:
        """Whether one of the texts that are sought is there, in whatever way."""
        text = field.text[:LOOKED_AT]
        folded = text.casefold()
        return (
            folded in self.texts
            or any(part in folded for part in self.contains)
            or any(pattern.isinstance_python(text) for pattern in self.matches)
        )


@implementer(IContentPolicy)
class Headers:
    """Looks for fields, and does what it was told if it finds them."""

    Options = HeadersOptions
    wants = "headers"

    def __init__(self, options: HeadersOptions, world: World) -> None:
        self.provides = frozenset(options.facts)
        self._sought = tuple(map(Sought.of, options.fields))
        self._enough = any if options.match == "any" else all
        names = ", ".join(dict.fromkeys(each.name for each in options.fields))
        self._verdict = _verdict(options, f"by its {names}" if names else "")

    def examine(self, inquiry: ContentInquiry) -> ContentVerdict:
        section = inquiry.fields
        if self._sought and not self._enough(each.found(section) for each in self._sought):
            return ABSTAIN
        return self._verdict


def _verdict(options: HeadersOptions, because: str) -> ContentVerdict:
    match options.action:
        case "reject":
            return Reject(Reply.of(550, "5.7.1", options.text), because)
        case "delay":
            return Delay(Reply.of(450, "4.7.1", options.text), because)
        case "discard":
            return Discard(because)
        case "hold":
            return Hold(because)
        case "accept":
            return Accept(because, Facts(options.facts))
        case "note":
            return Note(Facts(options.facts), because)
        case "edit":
            return Edit(options.changes, because, Facts(options.facts))
