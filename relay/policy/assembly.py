"""From the settings of policies to the chain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import evolve
from pydantic import BaseModel

from relay.config.errors import ConfigurationError, Problem
from relay.config.policies import PolicySettings
from relay.interfaces import World
from relay.policy.blocking import Blocking
from relay.policy.chain import COMMAND_TIMEOUT, Chain, Station
from relay.policy.elsewhere import Crossing, blocking
from relay.policy.guard import Guard
from relay.policy.needs import check_names, unmet
from relay.policy.registry import is_blocking, make_policy
from relay.policy.tables import Unusable
from relay.policy.watched import watched


def make_chain(
    policies: Sequence[PolicySettings],
    world: World,
    *,
    file: str,
    timeout: float = COMMAND_TIMEOUT,
    reactor: Any = None,
    whole: bool = True,
) -> Chain:
    """
    The chain that the configuration `file` describes; `timeout` is for all policies together, at one command.
    `reactor` takes calls from threads, in which policies that block are asked; without one they block where they are.
    `whole`: these are all policies, and what one of them needs another one has to provide.

    Raises `ConfigurationError` with all policies that cannot be made: what a file that they need says is
    known only now.
    """
    stations: list[Station] = []
    #: By the station's place: its number and its line in the configuration.
    places: list[tuple[int, int]] = []
    problems: list[Problem] = []
    for number, settings in enumerate(policies, 1):
        if settings.mode == "off":
            continue
        try:
            policy = _policy(settings, world, reactor)
            check_names(policy)
        except ValueError as error:
            problems.append(_problem(file, settings, number, error))
        else:
            stations.append(Station(settings.name, policy, Guard(settings.when), settings.timeout))
            places.append((number, settings.line))
    if whole and not problems:  # without those that cannot be made much would seem to be missing
        for place, text in unmet(stations):
            number, line = places[place]
            problems.append(Problem(file, line, f"policy.{number}", text))
    if problems:
        raise ConfigurationError(problems)
    return Chain(stations, world.clock, world.log, timeout)


def _problem(file: str, settings: PolicySettings, number: int, error: ValueError) -> Problem:
    """At the key that names the table, where that is to blame."""
    at = f"policy.{number}"
    if isinstance(error, Unusable):
        for key, line in settings.lines.items():
            if _names(getattr(settings.options, key, None), error.asked):
                return Problem(file, line, f"{at}.{key}", str(error))
    return Problem(file, settings.line, at, str(error))


def _names(option: object, asked: str | Path) -> bool:
    if isinstance(option, BaseModel):
        return any(_names(value, asked) for _, value in option)
    return option == asked


def _policy(settings: PolicySettings, world: World, reactor: Any) -> Any:
    """Raises `ValueError`."""
    own = watched(evolve(world, store=world.store.scoped(settings.name)))
    if not is_blocking(settings.use):
        policy = make_policy(settings.use, settings.options, own)
        if getattr(policy, "blocking", False) is True:
            raise ValueError(f"a policy of {settings.use!r} is 'blocking', and its class or maker does not say so")
        return policy
    cross = Crossing(reactor, settings.timeout)
    return Blocking(
        settings.name,
        make_policy(settings.use, settings.options, blocking(own, cross)),
        reactor,
        cross,
        timeout=settings.timeout,
        clock=world.clock,
        log=world.log,
    )
