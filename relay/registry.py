"""
Where the things come from that a configuration names: our own, and what third parties bring.

A third party brings a policy or an agent in one of three ways: an entry point of an installed distribution
(group `relay.policies`, `relay.agents`), `"package.module:Name"` for anything that can be imported, or a
Twisted plugin in a folder `relay/plugins` on `sys.path`, for files of one site.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from pydantic import BaseModel
from twisted.plugin import getPlugins
from zope.interface.interface import InterfaceClass

from relay import plugins
from relay.interfaces import IAgentMaker
from relay.net.frames import origin

_IMPORTABLE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*\Z")


class Registry:
    """
    The look-up for one kind of thing. Nothing is imported before it is named, but for Twisted plugins: to know what
    they are called is to load them.

    Our own names cannot be taken by others.
    """

    def __init__(self, kind: str, shipped: Mapping[str, str], group: str, contract: InterfaceClass) -> None:
        """
        `kind`: the word for it in messages. `shipped`: our own names, and where each is to be imported from.
        `contract`: what a Twisted plugin of this kind provides; its attribute `use` is its name.
        """
        self._kind = kind
        self._shipped = dict(shipped)
        self._group = group
        self._contract = contract

    def find(self, use: str) -> Any:
        """
        What `use` names, or `None` if there is no such thing.

        Raises `ValueError` if there is but it cannot be loaded, or if two parties claim the name.
        """
        if use in self._shipped:
            return self._imported(use, self._shipped[use])
        if ":" in use:
            if not _IMPORTABLE.match(use):
                raise ValueError(f"{use!r} should be like 'package.module:Name'")
            return self._imported(use, use)
        points = [point for point in self._entry_points() if point.name == use]
        if len({point.value for point in points}) > 1:
            raise ValueError(f"two distributions bring a {self._kind} {use!r}: {_distributions(points)}")
        if points:
            return self._imported(use, points[0].value)
        found = [plugin for plugin in self._twisted_plugins() if plugin.use == use]
        if len(found) > 1:
            raise ValueError(f"two Twisted plugins bring a {self._kind} {use!r}")
        return found[0] if found else None

    def names(self) -> tuple[str, ...]:
        """All names that `find` knows, ours first. (What can be imported is more than can be listed.)"""
        names = dict.fromkeys(self._shipped)
        names.update(dict.fromkeys(sorted(point.name for point in self._entry_points())))
        names.update(dict.fromkeys(sorted(plugin.use for plugin in self._twisted_plugins())))
        return tuple(names)

    def _entry_points(self) -> tuple[EntryPoint, ...]:
        return tuple(entry_points(group=self._group))

    def _twisted_plugins(self) -> list[Any]:
        # A plugin of which loading fails is reported by Twisted in the log, and passed over.
        contract: Any = self._contract  # typed as if it were a class
        found: list[Any] = list(getPlugins(contract, plugins))
        return [plugin for plugin in found if isinstance(getattr(plugin, "use", None), str)]

    def _imported(self, use: str, place: str) -> Any:
        module, _, names = place.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for name in names.strip().split("."):
                found = getattr(found, name)
        except (Exception, SystemExit) as error:  # anything may happen while somebody's module is executed
            raise ValueError(f"the {self._kind} {use!r} cannot be loaded: {said_by(error)}") from error
        return found


def said_by(error: BaseException) -> str:
    """What has happened in code that somebody has brought, and where in it."""
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    where = origin(error)
    return f"{said}, at {where}" if where else said


def _distributions(points: list[EntryPoint]) -> str:
    return " and ".join(sorted(point.dist.name if point.dist else point.value for point in points))


#: Agents by the name that a verdict gives. (Policies have theirs in `relay.policy.registry`; of agents both those who
#: deliver and those who decide have to know.)
AGENTS: Final = Registry(
    "agent",
    {
        "console": "relay.agents.console:ConsoleAgent",
        "http": "relay.agents.http:HTTP",
        "maildir": "relay.agents.maildir:MaildirAgent",
        "mbox": "relay.agents.mbox:MboxAgent",
        "pipe": "relay.agents.pipe:PIPE",
    },
    "relay.agents",
    IAgentMaker,
)


def parameters_model(agent: Any, name: str) -> type[BaseModel] | None:
    """
    The model of an agent's parameters, for what `AGENTS.find` has found: `options` of an `IAgentMaker`, `Options` of an
    agent's class. `None`: the agent does not say.

    Raises `ValueError` where it is none that can be used.
    """
    model = getattr(agent, "options" if IAgentMaker.providedBy(agent) else "Options", None)
    if model is None:
        return None
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise ValueError(f"the options of the agent {name!r} are no pydantic model")
    if model.model_config.get("extra") != "forbid":
        raise ValueError(
            f"the options of the agent {name!r} should say extra='forbid': a misspelt key would go unnoticed"
        )
    return model
