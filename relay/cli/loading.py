"""A configuration, for commands that need to know what it says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from relay.config.errors import ConfigurationError
    from relay.config.settings import Settings


def loaded(file: str) -> Settings:
    """The settings in this file. If it is wrong, its problems are said on standard error, and the status is 78."""
    # Here, since it imports the policies and what they need, and `relayctl --help` needs none of it.
    from relay.config.errors import ConfigurationError
    from relay.config.file import settings_of
    from relay.policy.registry import names, option_model

    try:
        return settings_of(file, option_model, names)
    except ConfigurationError as error:
        refuse(error)


def refuse(error: ConfigurationError) -> NoReturn:
    """Say what is wrong, a line each, and end."""
    for problem in error.problems:
        click.echo(str(problem), err=True)
    raise SystemExit(os.EX_CONFIG) from None
