"""`relayctl check`: what is wrong with a configuration, without a relay."""

from __future__ import annotations

import json
import os
import pwd
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from pydantic import BaseModel

from relay.config.errors import ConfigurationError, Problem
from relay.config.load import decode, load
from relay.config.settings import Settings


def settings_of(
    file: str,
    option_model: Callable[[str], type[BaseModel] | None],
    known: Callable[[], Iterable[str]],
) -> Settings:
    """
    The settings that the file of this name asks for, on this machine and for the user who asks.

    Raises `ConfigurationError`, also if the file cannot be read. Nothing else is looked at: whether a directory
    is there and a port is free is seen when the relay starts.
    """
    try:
        octets = Path(file).read_bytes()
    except OSError as error:
        raise ConfigurationError([Problem(file, None, "", f"cannot be read: {error.strerror or error}")]) from None
    return load(
        decode(octets, file=file),
        file=file,
        base=Path(file).resolve().parent,
        hostname=socket.gethostname(),
        user=_user(),
        option_model=option_model,
        known=known,
    )


def _user() -> str:
    """Who we are, and not who the environment says: a relay makes a mailbox for this name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container may run us as a user whom nobody has introduced
        return str(os.geteuid())


@click.command(name="check")
@click.argument("file", required=False, metavar="FILE")
@click.option("--schema", is_flag=True, help="Print the JSON schema of the configuration, for editors.")
def check(file: str | None, schema: bool) -> None:
    """
    Check the configuration FILE, without starting anything.

    Every problem is a line on standard error, and the exit status is then 78.
    """
    # Here, since it imports the policies and what they need, and `relayctl --help` needs none of it.
    from relay.config.schema import schema as json_schema
    from relay.policy.registry import names, option_model, option_models

    if schema:
        click.echo(json.dumps(json_schema(option_models()), indent=2, ensure_ascii=False))
        return
    if file is None:
        raise click.UsageError("which configuration? Say relayctl check FILE")
    try:
        settings = settings_of(file, option_model, names)
    except ConfigurationError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        raise SystemExit(os.EX_CONFIG) from None
    click.echo(
        f"{file}: {_count(settings.listener, 'listener', 'listeners')}, "
        f"{_count(settings.policy, 'policy', 'policies')}, no problems"
    )


def _count(things: tuple[object, ...], one: str, several: str) -> str:
    return f"{len(things)} {one if len(things) == 1 else several}"
