"""From the settings of policies to the chain."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve
from twisted.logger import Logger

from relay.config.errors import ConfigurationError, Problem
from relay.config.policies import PolicySettings
from relay.interfaces import World
from relay.policy.chain import COMMAND_TIMEOUT, Chain, Station
from relay.policy.guard import Guard
from relay.policy.registry import make_policy
from relay.policy.watched import watched


def make_chain(
    policies: Sequence[PolicySettings], world: World, *, file: str, timeout: float = COMMAND_TIMEOUT
) -> Chain:
    """
    The chain that the configuration `file` describes; `timeout` is for all policies together, at one command.

    Raises `ConfigurationError` with all policies that cannot be made: what a file that they need says is
    known only now.
    """
    stations: list[Station] = []
    problems: list[Problem] = []
    for number, settings in enumerate(policies, 1):
        if settings.mode == "off":
            continue
        try:
            own = watched(evolve(world, store=world.store.scoped(settings.name)))
            policy = make_policy(settings.use, settings.options, own)
        except ValueError as error:
            problems.append(Problem(file, settings.line, f"policy.{number}", str(error)))
        else:
            stations.append(Station(settings.name, policy, Guard(settings.when), settings.timeout))
    if problems:
        raise ConfigurationError(problems)
    return Chain(stations, world.clock, Logger(namespace="relay.policy"), timeout)
