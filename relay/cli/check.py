"""`relayctl check`: what is wrong with a configuration, without a relay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from relay.cli.loading import loaded, refuse

if TYPE_CHECKING:
    from relay.config.errors import Problem
    from relay.config.settings import Settings


@click.command(name="check")
@click.argument("file", required=False, metavar="FILE")
@click.option("--schema", is_flag=True, help="Print the JSON schema of the configuration, for editors.")
def check(file: str | None, schema: bool) -> None:
    """
    Check the configuration FILE, without starting anything.

    Every problem is a line on standard error, and the exit status is then 78. A warning is a line there too, and no
    problem. Certificates and passwords are read: ask as the user that the relay runs as.
    """
    if schema:
        # Here, since it imports the policies and what they need, and `relayctl --help` needs none of it.
        from relay.config.schema import schema as json_schema
        from relay.policy.registry import option_models

        click.echo(json.dumps(json_schema(option_models()), indent=2, ensure_ascii=False))
        return
    if file is None:
        raise click.UsageError("which configuration? Say relayctl check FILE")
    settings = loaded(file)
    warnings = [*_open_doors(settings, file), *_files(settings, file)]
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    counts = [
        _count(len(settings.listener), "listener", "listeners"),
        _count(len(settings.policy), "policy", "policies"),
        "no problems",
    ]
    if warnings:
        counts.append(_count(len(warnings), "warning", "warnings"))
    click.echo(f"{file}: {', '.join(counts)}")


def _open_doors(settings: Settings, file: str) -> Iterator[str]:
    from relay.config.openness import open_doors

    return (str(settings.problem(file, door.path, door.text)) for door in open_doors(settings))


def _files(settings: Settings, file: str) -> list[str]:
    """
    Read the files that the relay reads before it starts, and say what it would warn about. Ends the process if one of
    them keeps it from starting.
    """
    from twisted.internet.task import Clock
    from twisted.logger import Logger, formatEvent

    from relay.authentication import UserSource
    from relay.config.errors import ConfigurationError
    from relay.encryption import Encryption
    from relay.net.clock import ReactorClock

    warnings: list[str] = []
    note: Any = lambda event: warnings.append(formatEvent(event))  # noqa: E731  # Twisted's type of it is an interface
    log = Logger("relay.check", observer=note)
    # Nothing is started, so no time passes and nobody is asked anything.
    clock, reactor = ReactorClock(Clock()), None
    problems: list[Problem] = []
    try:
        Encryption(settings, clock, file=file, log=log)
    except ConfigurationError as error:
        problems += error.problems
    try:
        UserSource(settings, clock, reactor, file=file, log=log)
    except ConfigurationError as error:
        problems += error.problems
    if problems:
        refuse(ConfigurationError(problems))
    return warnings


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
