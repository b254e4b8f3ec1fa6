"""`relayctl status`: how the running relay is, in a few lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from relay.cli.ask import ask
from relay.cli.options import json_too, print_json, shown, socket_of, span, where


@click.command(name="status")
@json_too
@where
def status(config: str | None, socket: str | None, as_json: bool) -> None:
    """Show where the running relay listens, how many recipients are queued in which state, and the oldest message."""
    answer = ask(socket_of(config, socket), "status")
    if as_json:
        print_json(answer)
    else:
        for line in lines(answer):
            click.echo(line)


def lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """The answer, as a person reads it."""
    yield f"relay {answer['version']} on {answer['hostname']}, process {answer['pid']}, up {span(answer['up'])}"
    found = answer.get("configuration")
    if found is not None:
        yield f"configuration: {found['file']} as {found['digest']}, in force for {span(found['for'])}"
    for worker in answer.get("workers", ()):
        yield worker_line(worker)
    if not answer["accepting"] and "workers" not in answer:
        yield "NOT ACCEPTING MAIL: the spool has failed and is probed; the log says more"
    if answer.get("paused"):
        yield f"paused by an operator: {', '.join(map(shown, answer['paused']))}"
    for name, indexes in answer.get("paused_in_part", {}).items():
        yield f"NOT PAUSED EVERYWHERE: {shown(name)} goes on in worker {', '.join(map(str, indexes))}"
    for listener in answer["listeners"]:
        yield f"listening on {listener['address']} ({listener['name']}), {listener['connections']} connected"
    queue = answer["queue"]
    messages = "message" if queue["entries"] == 1 else "messages"
    yield (
        f"queue: {queue['entries']} {messages}; "
        f"recipients: {queue['waiting']} waiting, {queue['active']} under way, "
        f"{queue['held']} held, {queue['corrupt']} set aside as damaged"
    )
    oldest = queue["oldest_age"]
    yield "oldest message: none" if oldest is None else f"oldest message: {span(oldest)} old"


def worker_line(worker: Mapping[str, Any]) -> str:
    """One process of several."""
    name = f"worker {worker['worker']}{', for what is left of its queue' if worker['retired'] else ''}"
    process = "no process" if worker["pid"] is None else f"process {worker['pid']}"
    if not worker["answers"]:
        return f"{name}: {process}, DOES NOT ANSWER"
    if not worker["accepting"]:
        return f"{name}: {process}, NOT ACCEPTING MAIL: its spool has failed and is probed; the log says more"
    connected = sum(listener["connections"] for listener in worker["listeners"])
    entries = worker["queue"]["entries"]
    return (
        f"{name}: {process}, up {span(worker['up'])}, {connected} connected, "
        f"{entries} {'message' if entries == 1 else 'messages'} queued"
    )
