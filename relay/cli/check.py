"""`relayctl check`: what is wrong with a configuration, without a relay."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import click

from relay.cli.loading import loaded, refuse

if TYPE_CHECKING:
    from relay.config.errors import Problem
    from relay.config.settings import Settings
    from relay.trial import Trial


@click.command(name="check")
@click.argument("file", required=False, metavar="FILE")
@click.option("--schema", is_flag=True, help="Print the JSON schema of the configuration, for editors.")
@click.option("--brief", is_flag=True, help="Say what is wrong, and nothing if nothing is.")
def check(file: str | None, schema: bool, brief: bool) -> None:
    """
    Check the configuration FILE, without starting anything, and show who may send what to whom.

    Every problem is a line on standard error, and the exit status is then 78. A warning is a line there too, and no
    problem. Certificates, passwords and what policies need are read: ask as the user that the relay runs as.

    The policies are asked about a mail of each kind, and tried with the examples that stand in the file. Nobody else is
    asked, neither the DNS nor other servers. It is a problem if an example comes out otherwise than it says, or if
    strangers may send mail to strangers.
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
    warnings = _made(settings, file)
    trial = _tried(settings, file)
    warnings += [str(warning) for warning in trial.warnings]
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    if not brief:
        _show(trial)
    if trial.problems:
        from relay.config.errors import ConfigurationError

        refuse(ConfigurationError(trial.problems))
    if brief:
        return
    counts = [
        _count(len(settings.listener), "listener", "listeners"),
        _count(len(settings.policy), "policy", "policies"),
        "no problems",
    ]
    if trial.examples:
        counts.insert(2, _count(trial.examples, "example", "examples"))
    if warnings:
        counts.append(_count(len(warnings), "warning", "warnings"))
    click.echo(f"{file}: {', '.join(counts)}")


def _show(trial: Trial) -> None:
    from relay.cli.matrix import lines

    for line in lines(trial.matrix):
        click.echo(line)


def _tried(settings: Settings, file: str) -> Trial:
    from relay.config.errors import ConfigurationError
    from relay.trial import tried

    try:
        return tried(settings, file=file)
    except ConfigurationError as error:
        refuse(error)


def _made(settings: Settings, file: str) -> list[str]:
    """
    Make all that the relay is made of before it starts, which reads the files that are named, and say what it would
    warn about. Ends the process if something keeps it from starting.
    """
    from twisted.internet.task import Clock
    from twisted.logger import Logger, formatEvent

    from relay.assembly import Surroundings, assemble
    from relay.authentication import UserSource
    from relay.config.errors import ConfigurationError
    from relay.delivery.suppression import why_no_list
    from relay.encryption import Encryption
    from relay.net.clock import ReactorClock
    from relay.outset import missing_user
    from relay.spool.memory import MemorySpool

    warnings: list[str] = []
    note: Any = lambda event: warnings.append(formatEvent(event))  # noqa: E731  # Twisted's type of it is an interface
    log = Logger("relay.check", observer=note)
    # Nothing is started: no time passes, and nobody is asked anything.
    clock = ReactorClock(Clock())
    absent: Any = _Absent()
    surroundings = Surroundings(
        clock=clock,
        resolver=absent,
        tcp=absent,
        spool=MemorySpool(clock),
        maillog=absent,
        agents={},
        random=random.SystemRandom(),
        is_local=absent,
    )
    problems: list[Problem] = list(missing_user(settings, file))
    for make in (
        lambda: Encryption(settings, clock, file=file, log=log),
        lambda: UserSource(settings, clock, absent, file=file, log=log),
        lambda: assemble(settings, surroundings, file=file),
    ):
        try:
            make()
        except ConfigurationError as error:
            problems += error.problems
    if settings.suppression.keep:
        why = why_no_list(settings.suppression.path or settings.spool.path.parent / "suppressed")
        if why:
            problems.append(settings.problem(file, ("suppression", "path"), why))
    if problems:
        refuse(ConfigurationError(problems))
    return warnings


class _Absent:
    """What a relay has around it, and a check has not. A policy may hold it, and ask it in vain."""

    def __getattr__(self, name: str) -> Any:
        from twisted.internet.defer import Deferred

        return lambda *_, **__: Deferred()


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
