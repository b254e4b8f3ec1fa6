"""`[[policy]]`: what every policy has, whatever it does."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, field_validator

from relay.config.delivery import RetrySettings
from relay.config.examples import Example
from relay.config.fields import DomainOrAddress, Network, Section, Word, Yes
from relay.config.units import Timeout
from relay.mail.facts import NAME_LENGTH, VALUE_LENGTH

Mode = Literal["enforce", "shadow", "off"]


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _facts_can_be_known(facts: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    for name, values in facts.items():
        if not 0 < len(name) <= NAME_LENGTH:
            raise ValueError(f"the name of a fact has from 1 to {NAME_LENGTH} characters")
        if not values:
            raise ValueError(f"the fact {name!r} needs a value")
        if any(len(value) > VALUE_LENGTH for value in values):
            raise ValueError(f"the fact {name!r} never has more than {VALUE_LENGTH} characters")
    return facts


#: Facts by name, each with the values that count; one may stand without brackets.
FactValues = Annotated[
    dict[str, Annotated[tuple[str, ...], BeforeValidator(_several)]],
    Field(min_length=1),
    AfterValidator(_facts_can_be_known),
]


class When(Section):
    """
    When a policy is asked at all: if every condition that is given holds. A condition with several
    values holds if one of them does. Where it does not hold the policy abstains.
    """

    client: Annotated[tuple[Network, ...], Field(min_length=1)] = Field(
        default=(), description="Networks and addresses: the client is in one of them."
    )
    listener: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        default=(), description="Names of listeners: the client came in by one of them."
    )
    sender: Annotated[tuple[DomainOrAddress, ...], Field(min_length=1)] = Field(
        default=(),
        description='The reverse-path is one of these addresses, or in one of these domains; `"<>"` is the null one.',
    )
    recipient: Annotated[tuple[DomainOrAddress, ...], Field(min_length=1)] = Field(
        default=(), description="The recipient is one of these addresses, or in one of these domains."
    )
    authenticated: Yes | None = Field(default=None, description="Whether the client has said who it is (AUTH).")
    facts: FactValues = Field(
        default={},
        description="What policies that were asked before have found out: each of these facts is known, and has one of "
        "these values.",
    )


class PolicyKeys(Section):
    """The keys that every `[[policy]]` takes. All others are options of what `use` names."""

    name: Word = Field(
        default="", description="What the policy is called in log lines and explanations. Without it, as what it uses."
    )
    use: str = Field(
        min_length=1,
        description='What the policy does: the name of a policy that is installed, or `"package.module:Class"`.',
    )
    when: When = Field(default=When(), description="When the policy is asked. Without it, always.")
    timeout: Timeout = Field(default=10, description="How long the policy may think about one question. Over it 451.")
    retry: RetrySettings = Field(
        default=RetrySettings(),
        description="When mail is tried again that this policy has sent its way. What it does not say "
        "`[delivery.retry]` does.",
    )
    mode: Mode = Field(default="enforce", description="`enforce` asks it, `off` leaves it out.")
    examples: tuple[Example, ...] = Field(
        default=(),
        description="Mails, and what is to become of them. A configuration that fails one of these does not run.",
    )

    @field_validator("mode")
    @classmethod
    def _no_shadow_yet(cls, mode: Mode) -> Mode:
        if mode == "shadow":
            raise ValueError("'shadow' is not built yet")
        return mode


class PolicySettings(BaseModel):
    """One `[[policy]]` of a configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    use: str
    when: When = When()
    timeout: float = 10
    #: Only what it says itself counts.
    retry: RetrySettings = RetrySettings()
    mode: Mode = "enforce"
    examples: tuple[Example, ...] = ()
    #: An instance of the option model that `use` brought.
    options: SerializeAsAny[BaseModel]
    #: Where it stands in the file, for problems that are found later, when the policy is made.
    line: int = 1
    #: And where each of its keys does.
    lines: Mapping[str, int] = {}
