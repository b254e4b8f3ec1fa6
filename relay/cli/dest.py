"""`relayctl dest`: how the destinations are, and what an operator can do about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from relay.cli.ask import ask, bid, question
from relay.cli.options import Said, json_too, print_json, shown, socket_of, span, where


@click.group(name="dest")
def dest() -> None:
    """
    Show destinations, and pause or resume them.

    A destination is where copies go that are carried together: a domain, a next hop, an agent. Its name is what
    'relayctl queue count' prints. Listed are those with something under way, and those with which something is wrong.
    """


@dest.command(name="list")
@json_too
@where
def list_(as_json: bool, config: str | None, socket: str | None) -> None:
    """List the destinations that have something under way, or with which something is wrong."""
    destinations = ask(socket_of(config, socket), "dest")["destinations"]
    if as_json:
        print_json(destinations)
        return
    for line in lines(destinations):
        click.echo(line)


@dest.command()
@click.argument("name", type=Said(), metavar="DOMAIN")
@json_too
@where
def show(name: str, as_json: bool, config: str | None, socket: str | None) -> None:
    """Show what is known of one destination: how much is under way, what stands in its way, what was met lately."""
    view = ask(socket_of(config, socket), question("dest/show", {"name": name}))
    if as_json:
        print_json(view)
        return
    for line in detail(view):
        click.echo(line)


@dest.command()
@click.argument("name", type=Said(), metavar="DOMAIN")
@where
def pause(name: str, config: str | None, socket: str | None) -> None:
    """
    Begin nothing more for this destination until it is resumed, also over a restart.

    What is under way comes to its end.
    """
    said = bid(socket_of(config, socket), "dest/pause", {"name": name})
    more = "" if said["known"] else ", though nothing is under way to it at this moment"
    if said["alike"]:
        more += f"; known is {shown(', '.join(said['alike']))}"
    click.echo(f"{shown(said['paused'])} is paused{more}")


@dest.command()
@click.argument("name", type=Said(), metavar="DOMAIN")
@where
def resume(name: str, config: str | None, socket: str | None) -> None:
    """End a pause, or try a destination now that rests since it did not answer."""
    bid(socket_of(config, socket), "dest/resume", {"name": name})
    click.echo(f"{name} goes on")


def lines(destinations: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A table. What its last words mean is what `show` and docs/operating.md say."""
    width = max([len("destination"), *(len(each["name"]) for each in destinations)])
    yield f"{'destination':<{width}}  {'active':>6} {'limit':>6} {'ready':>6}  state"
    for each in destinations:
        numbers = f"{each['active']:>6} {each['limit']:>6} {each['ready']:>6}"
        yield f"{shown(each['name']):<{width}}  {numbers}  {_state(each)}"


def _state(each: Mapping[str, Any]) -> str:
    if not each.get("obstacle"):
        return "well"
    until = f" for {span(each['in'])}" if each.get("in") else ""
    return f"{each['obstacle'].replace('_', ' ')}{until}"


def detail(view: Mapping[str, Any]) -> Iterator[str]:
    """One destination, at length."""
    under_way = f"{view['active']} under way of {view['limit']} at most"
    if view.get("trailing"):
        under_way += f", {view['trailing']} more await only their answer"
    yield f"{shown(view['name'])}: {under_way}, {view['ready']} wait for their turn"
    if view.get("rate"):
        yield f"rate: {view['rate']}"
    if view.get("why"):
        until = f" (the next in {span(view['in'])})" if view.get("in") else ""
        yield f"{view['why']}{until}"
    parts = view.get("workers", ())
    for part in parts if len(parts) > 1 else ():
        numbers = f"{part['active']} under way of {part['limit']}, {part['ready']} wait"
        yield f"    worker {part['worker']}: {numbers}, {_state(part)}"
    for met in view.get("met", ()):
        yield f"    {span(met['ago'])} ago: {shown(met['text'])}"
