"""`relayctl check`: what is wrong with a configuration, without a relay."""

from __future__ import annotations

import json
import os

import click


@click.command(name="check")
@click.argument("file", required=False, metavar="FILE")
@click.option("--schema", is_flag=True, help="Print the JSON schema of the configuration, for editors.")
def check(file: str | None, schema: bool) -> None:
    """
    Check the configuration FILE, without starting anything.

    Every problem is a line on standard error, and the exit status is then 78.
    """
    # Here, since it imports the policies and what they need, and `relayctl --help` needs none of it.
    from relay.config.errors import ConfigurationError
    from relay.config.file import settings_of
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
