"""Agents by the name that a verdict gives: our own, and what third parties bring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from twisted.plugin import IPlugin
from zope.interface import implementer
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from relay.interfaces import IAgent, IAgentMaker, World
from relay.registry import AGENTS


@implementer(IPlugin, IAgentMaker)
class AgentPlugin:
    """An agent as a Twisted plugin, in one statement of a file in `relay/plugins`: `fax = AgentPlugin("fax", Fax)`."""

    def __init__(self, use: str, agent: type) -> None:
        """`agent` is a class with a constructor `(world)`."""
        self.use = use
        self._agent = agent

    @property
    def options(self) -> Any:
        """The model of its parameters, if it has one: `Options` of the class."""
        return getattr(self._agent, "Options", None)

    def make(self, world: World) -> Any:
        return self._agent(world)


class Agents(Mapping[str, IAgent]):
    """
    The agents of a relay, by name. One that was not given is made when the first copy is to be carried by it: a third
    party's, and those of ours that need nothing which the configuration says.

    A name that nobody knows is a `KeyError`. What cannot be loaded, or is no agent, is a `ValueError`: the
    dispatcher delays the copy and tells the operator, so nothing is lost by an agent that was not installed.
    """

    def __init__(self, shipped: Mapping[str, IAgent], world: World) -> None:
        self._made: dict[str, IAgent] = dict(shipped)
        self._world = world

    def __getitem__(self, name: str) -> IAgent:
        agent = self._made.get(name)
        if agent is None:
            agent = self._made[name] = self._make(name)
        return agent

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._made, *AGENTS.names())))

    def __len__(self) -> int:
        return len(tuple(iter(self)))

    def _make(self, name: str) -> IAgent:
        found = AGENTS.find(name)
        if found is None:
            raise KeyError(name)
        agent = found.make(self._world) if IAgentMaker.providedBy(found) else found(self._world)
        try:
            verifyObject(IAgent, agent)
        except Invalid as problem:
            raise ValueError(f"the agent {name!r} does not keep its contract: {problem}") from problem
        made: IAgent = agent
        return made
