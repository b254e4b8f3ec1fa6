"""`use = "deliver"`: hand mail to an agent, any agent, by its name."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field, SerializeAsAny, ValidationInfo, field_validator
from zope.interface import implementer

from relay.config.fields import Domain, Section
from relay.config.parameters import as_text, checked, text_of
from relay.config.wording import did_you_mean
from relay.interfaces import IRoutingPolicy, World
from relay.mail.routing import ABSTAIN, Deliver, Inquiry, RoutingVerdict
from relay.registry import AGENTS, parameters_model


class DeliverOptions(Section):
    """What `[[policy]] use = "deliver"` may say."""

    agent: str = Field(
        min_length=1,
        description="Who carries the mail away: `pipe`, `http`, `maildir`, `mbox`, `console`, the name of one that is "
        'installed, or `"package.module:Name"`.',
    )
    #: A model of the agent's own where it has one.
    parameters: SerializeAsAny[BaseModel] | dict[str, Any] = Field(
        default={}, validate_default=True, description="What the agent is to know: a table of its own keys."
    )
    domains: tuple[Domain, ...] = Field(
        default=(),
        description="Domains whose mail it gets; the policy has no opinion on all others. Without it, all mail.",
    )

    @field_validator("agent")
    @classmethod
    def _is_there(cls, agent: str) -> str:
        _model_of(agent)
        return agent

    @field_validator("parameters", mode="plain", json_schema_input_type=dict[str, Any])
    @classmethod
    def _fit_the_agent(cls, parameters: object, info: ValidationInfo) -> BaseModel | dict[str, Any]:
        if isinstance(parameters, BaseModel):
            return parameters
        if not isinstance(parameters, Mapping):
            raise ValueError("should be a table")
        agent = info.data.get("agent")
        model = None if agent is None else _model_of(agent)
        if model is None:
            return dict(parameters)
        needed = [f"'{name}'" for name, one in model.model_fields.items() if one.is_required()]
        if needed and not parameters:
            raise ValueError(f"the agent '{agent}' needs parameters: {', '.join(needed)}")
        return checked(model, parameters)


def _model_of(agent: str) -> type[BaseModel] | None:
    """The model of an agent's parameters, if it has one. Raises `ValueError` if there is no such agent."""
    found = AGENTS.find(agent)
    if found is None:
        known = sorted(AGENTS.names())
        there_are = "; there are " + ", ".join(f"'{name}'" for name in known)
        raise ValueError(f"unknown agent{did_you_mean(agent, known) or there_are}")
    return parameters_model(found, agent)


@implementer(IRoutingPolicy)
class DeliverAll:
    """Hands every copy to the agent, or every one for its domains."""

    Options = DeliverOptions
    routes = True

    def __init__(self, options: DeliverOptions, world: World) -> None:
        given = options.parameters
        text = as_text(given) if isinstance(given, BaseModel) else {key: text_of(given[key]) for key in given}
        self._verdict = Deliver(options.agent, text, because="the configuration says so")
        self._domains = frozenset(options.domains)

    def route(self, inquiry: Inquiry) -> RoutingVerdict:
        if self._domains and inquiry.recipient.domain not in self._domains:
            return ABSTAIN
        return self._verdict
