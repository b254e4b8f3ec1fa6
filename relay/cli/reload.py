"""`relayctl reload`: have the running relay read its configuration again."""

from __future__ import annotations

import click

from relay.cli.ask import bid
from relay.cli.options import json_too, print_json, socket_of, where

#: Seconds for an answer: a check has a minute, and one that is under way comes first.
_PATIENCE = 150.0


@click.command(name="reload")
@json_too
@where
def reload(config: str | None, socket: str | None, as_json: bool) -> None:
    """
    Have the running relay read its configuration again, as SIGHUP does.

    It is checked first (relayctl check), and takes the place of the one before in one step: sessions and deliveries
    that are under way end with that one, and whatever begins has the new one. If anything is wrong with it, or if it
    changes what takes a restart, nothing changes; every problem is a line on standard error, and the exit status is 1.
    """
    answer = bid(socket_of(config, socket), "reload", {}, _PATIENCE)
    if as_json:
        print_json(answer)
    else:
        for warning in answer["warnings"]:
            click.echo(f"warning: {warning}", err=True)
        for problem in answer["problems"]:
            click.echo(problem, err=True)
        if answer["done"]:
            click.echo(f"in force now: {answer['digest']}")
        else:
            click.echo(f"not reloaded, all goes on as it was: {answer['digest']}", err=True)
    if not answer["done"]:
        raise SystemExit(1)
