"""Policies by the word for `use` in the configuration: their options, and how each is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from twisted.plugin import IPlugin
from zope.interface import implementer
from zope.interface.exceptions import Invalid
from zope.interface.interface import Method
from zope.interface.verify import verifyObject

from relay.config.fields import Section
from relay.interfaces import IContentPolicy, IPolicyMaker, World
from relay.mail.phases import Wants
from relay.policy.phases import INTERFACES
from relay.registry import Registry, said_by

#: Our own. Each is imported when a configuration uses it.
SHIPPED: Final = {
    "alias": "relay.policy.alias:Alias",
    "bcc": "relay.policy.bcc:Bcc",
    "client-names": "relay.policy.client_names:ClientNames",
    "console": "relay.policy.console:Console",
    "deliver": "relay.policy.deliver:DeliverAll",
    "discard": "relay.policy.discard:DiscardAll",
    "dnsbl": "relay.policy.dnsbl:Dnsbl",
    "dnswl": "relay.policy.dnswl:Dnswl",
    "forward": "relay.policy.forward:ForwardAll",
    "greylist": "relay.policy.greylist:Greylist",
    "headers": "relay.policy.headers:Headers",
    "mailbox": "relay.policy.mailbox:Mailbox",
    "quarantine": "relay.policy.quarantine:Quarantine",
    "rate-limit": "relay.policy.rate_limit:RateLimit",
    "reject": "relay.policy.reject:RejectAll",
    "sender-domain": "relay.policy.sender_domain:SenderDomain",
    "size": "relay.policy.size:SizeLimit",
    "srs": "relay.policy.srs:SrsPolicy",
}

#: The questions that a policy may answer. It provides at least one of these.
PHASES: Final = INTERFACES

_registry: Final = Registry("policy", SHIPPED, "relay.policies", IPolicyMaker)


class NoOptions(Section):
    """The options of a policy that has none."""


@implementer(IPlugin, IPolicyMaker)
class PolicyPlugin:
    """
    A policy as a Twisted plugin, in one statement of a file in `relay/plugins`:

        holiday = PolicyPlugin("holiday", Holiday)
    """

    def __init__(self, use: str, policy: type) -> None:
        """`policy` is a class such as an entry point or `"package.module:Name"` would name."""
        self.use = use
        self._policy = policy

    @property
    def options(self) -> type[BaseModel]:
        model: type[BaseModel] = policy_maker(self._policy, self.use).options
        return model

    @property
    def blocking(self) -> bool:
        return getattr(self._policy, "blocking", False) is True

    def make(self, options: Any, world: World) -> Any:
        return self._policy(options, world)


@implementer(IPolicyMaker)
class _ClassMaker:
    """A policy class: `Options`, if it has any, and a constructor `(options, world)`."""

    def __init__(self, use: str, policy: type) -> None:
        self.use = use
        self.options = getattr(policy, "Options", NoOptions)
        self.blocking = getattr(policy, "blocking", False) is True
        self._policy = policy

    def make(self, options: Any, world: World) -> Any:
        return self._policy(options, world)


def names() -> tuple[str, ...]:
    """The words for `use` that are known on this machine, for hints."""
    return _registry.names()


def option_model(use: str) -> type[BaseModel] | None:
    """
    The model of a policy's own options, or `None` if there is no policy of this name.

    Raises `ValueError` if there is but it cannot be loaded, or is no policy.
    """
    maker = find_maker(use)
    return None if maker is None else maker.options


def option_models() -> dict[str, type[BaseModel]]:
    """All policies that are known on this machine and can be loaded, with their models: for the JSON schema."""
    models = {}
    for use in names():
        try:
            model = option_model(use)
        except ValueError:
            continue  # whoever uses it will be told
        if model is not None:
            models[use] = model
    return models


def is_blocking(use: str) -> bool:
    """Whether what such a policy asks the world returns its answers, since its code blocks. Raises `ValueError`."""
    return getattr(find_maker(use), "blocking", False) is True


def make_policy(use: str, options: BaseModel | Mapping[str, Any], world: World) -> Any:
    """
    A policy with these options, which are an instance of its model, or what that is to be made of.

    Raises `ValueError` with words for the operator: no such policy, wrong options, or one that does not keep
    its contract.
    """
    maker = find_maker(use)
    if maker is None:
        raise ValueError(f"there is no policy {use!r}")
    try:
        if not isinstance(options, BaseModel):
            options = maker.options.model_validate(options)
        policy = maker.make(options, world)
    except ValidationError as error:
        raise ValueError(f"wrong options for the policy {use!r}: {error}") from error
    except ValueError:
        raise  # words for the operator already
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"the policy {use!r} cannot be made: {said_by(error)}") from error
    _verify(use, policy)
    return policy


def policy_maker(found: Any, use: str) -> Any:
    """An `IPolicyMaker` of what a third party has registered: one already, or a policy class."""
    if IPolicyMaker.providedBy(found):
        maker = found
    elif isinstance(found, type):
        maker = _ClassMaker(use, found)
    else:
        raise ValueError(f"{use!r} is neither a policy class nor an IPolicyMaker, but a {type(found).__name__}")
    model = maker.options
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise ValueError(f"the options of {use!r} are no pydantic model")
    if model.model_config.get("extra") != "forbid":
        raise ValueError(f"the options of {use!r} should say extra='forbid': a misspelt key would go unnoticed")
    return maker


def find_maker(use: str) -> Any:
    """The `IPolicyMaker` of this name, or `None`. Raises `ValueError` as `option_model` does."""
    found = _registry.find(use)
    return None if found is None else policy_maker(found, use)


def _verify(use: str, policy: Any) -> None:
    """A policy that cannot be asked must not be found out by the first recipient."""
    provided = [phase for phase in PHASES if phase.providedBy(policy)]
    if not provided:
        known = ", ".join(phase.__name__ for phase in PHASES)
        raise ValueError(f"the policy {use!r} provides no policy interface ({known}): does it say @implementer(...)?")
    for phase in provided:
        try:
            verifyObject(phase, policy)
            for name, description in phase.namesAndDescriptions(all=True):
                if isinstance(description, Method) and not callable(getattr(policy, name)):
                    raise Invalid(f"its {name} is no method")
        except Invalid as error:
            raise ValueError(f"the policy {use!r} does not keep the contract: {error}") from error
    if IContentPolicy.providedBy(policy):
        _verify_wants(use, policy)


def _verify_wants(use: str, policy: Any) -> None:
    if policy.wants not in get_args(Wants):
        known = ", ".join(repr(each) for each in get_args(Wants))
        raise ValueError(f"the policy {use!r} wants {policy.wants!r} of content, which is none of {known}")
    if policy.wants == "stream" and not callable(getattr(policy, "begin", None)):
        raise ValueError(f"the policy {use!r} wants a stream, and has no method 'begin' (IStreamPolicy)")
