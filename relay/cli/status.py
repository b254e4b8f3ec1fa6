"""`relayctl status`: how the running relay is, in a few lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

from relay.cli.ask import ask
from relay.cli.loading import loaded


@click.command(name="status")
@click.option("-c", "--config", metavar="FILE", help="The relay's configuration, which names its control socket.")
@click.option(
    "--socket", metavar="PATH", help="The control socket itself. Default: var/control.sock, or that in /run/relay."
)
@click.option("--json", "as_json", is_flag=True, help="Print what the relay says, as JSON.")
def status(config: str | None, socket: str | None, as_json: bool) -> None:
    """Show where the running relay listens, how many recipients are queued in which state, and the oldest message."""
    if config is not None and socket is None:
        socket = str(loaded(config).control.socket)
    answer = ask(socket, "status")
    if as_json:
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        for line in lines(answer):
            click.echo(line)


def lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """The answer, as a person reads it."""
    yield f"relay {answer['version']} on {answer['hostname']}, process {answer['pid']}, up {_span(answer['up'])}"
    if not answer["accepting"]:
        yield "NOT ACCEPTING MAIL: the spool has failed and is probed; the log says more"
    for listener in answer["listeners"]:
        yield f"listening on {listener['address']} ({listener['name']}), {listener['connections']} connected"
    queue = answer["queue"]
    yield (
        f"queue: {queue['entries']} messages; recipients: {queue['waiting']} waiting, {queue['active']} under way, "
        f"{queue['held']} held, {queue['corrupt']} set aside as damaged"
    )
    oldest = queue["oldest_age"]
    yield "oldest message: none" if oldest is None else f"oldest message: {_span(oldest)} old"


def _span(seconds: float) -> str:
    whole = int(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= size:
            rest = whole % size * 60 // size if unit != "d" else whole % size // 3600
            smaller = {"d": "h", "h": "m", "m": "s"}[unit]
            return f"{whole // size}{unit} {rest}{smaller}"
    return f"{whole}s"
