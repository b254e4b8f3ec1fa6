"""A configuration that is asked without a relay, with a reactor of its own for the DNS."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from twisted.internet import defer
from twisted.internet.task import react

from relay.assembly import Surroundings, assemble
from relay.cli.loading import loaded, refuse
from relay.config.errors import ConfigurationError
from relay.config.settings import Settings
from relay.control.api import Asked, Refused
from relay.control.explaining import explained as answer_of
from relay.net.clock import ReactorClock
from relay.net.local import LocalAddresses
from relay.net.resolver import Resolver, system_servers
from relay.spool.memory import MemorySpool
from relay.store.memory import MemoryStore


def explained(file: str, words: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    What would become of this mail if the relay ran with this configuration. What its policies keep is empty.

    If the configuration is wrong its problems are said on standard error, and the process ends with status 78. Raises
    `click.ClickException` for what cannot be answered.
    """
    settings = loaded(file)
    answers: list[Mapping[str, Any] | Exception] = []

    async def ask(reactor: Any) -> None:
        try:
            answers.append(await _ask(reactor, settings, file, words))
        except (Refused, ConfigurationError) as problem:
            answers.append(problem)

    try:
        react(lambda reactor: defer.Deferred.fromCoroutine(ask(reactor)))
    except SystemExit as ended:
        if ended.code:
            raise
    for answer in answers:
        match answer:
            case Refused():
                raise click.ClickException(answer.sentence)
            case ConfigurationError():
                refuse(answer)
            case Exception():
                raise answer
            case _:
                return answer
    raise click.ClickException("there was no answer")


async def _ask(reactor: Any, settings: Settings, file: str, words: Mapping[str, Any]) -> Mapping[str, Any]:
    clock = ReactorClock(reactor)
    resolver = Resolver(
        reactor,
        clock,
        settings.dns.servers or system_servers(_resolv_conf()),
        patience=settings.dns.timeout,
        first_timeout=settings.dns.server_timeout,
        most_records=settings.dns.records,
    )
    nobody: Any = _Nobody()
    surroundings = Surroundings(
        clock=clock,
        resolver=resolver,
        tcp=reactor,
        spool=MemorySpool(clock),
        maillog=nobody,
        agents={},
        random=random.SystemRandom(),
        is_local=LocalAddresses(clock),
        store=MemoryStore(clock),
        reactor=reactor,
    )
    try:
        return await answer_of(assemble(settings, surroundings, file=file).rehearsal, Asked(words))
    finally:
        await resolver.close()


class _Nobody:
    """A mail log that nobody reads."""

    def event(self, what: str, /, **fields: object) -> None:
        pass


def _resolv_conf() -> str:
    try:
        return Path("/etc/resolv.conf").read_text(errors="replace")
    except OSError:
        return ""
