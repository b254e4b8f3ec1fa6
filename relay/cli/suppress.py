"""`relayctl suppress`: the list of addresses that do not exist."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from relay.cli.ask import bid, pages
from relay.cli.options import Said, json_too, print_json, shown, socket_of, where


@click.group(name="suppress")
def suppress() -> None:
    """
    Show the suppression list, and put addresses on it or take them off.

    Who is on the list does not exist, as far as is known: mail to it is refused at once, if it comes from a client that
    has logged in or is trusted. The relay keeps a list if its configuration has 'keep = true' in [suppression].

    What is done is done at once, and is in the mail log with the name of who did it.
    """


@suppress.command(name="list")
@json_too
@where
def list_(as_json: bool, config: str | None, socket: str | None) -> None:
    """List the addresses, until when each is on the list, who has put it there, and why; who came last stands last."""
    path = socket_of(config, socket)
    suppressed = [each for page in pages(path, "suppress", {}) for each in page["suppressed"]]
    if as_json:
        print_json(suppressed)
    elif suppressed:
        for line in lines(suppressed):
            click.echo(line)
    if not suppressed:
        click.echo("nobody is on the suppression list", err=True)
        raise SystemExit(1)


@suppress.command()
@click.argument("address", type=Said(), metavar="ADDRESS")
@click.option("--because", type=Said(), metavar="TEXT", help="Why, in words that who writes there is told too.")
@where
def add(address: str, because: str | None, config: str | None, socket: str | None) -> None:
    """Put an address on the list for the days that the configuration says; who is there already begins anew."""
    one = bid(socket_of(config, socket), "suppress/add", {"address": address, "because": because or ""})
    click.echo(f"{shown(one['address'])} is on the suppression list until {_day(one['until'])}")


@suppress.command()
@click.argument("address", type=Said(), metavar="ADDRESS")
@where
def remove(address: str, config: str | None, socket: str | None) -> None:
    """Take an address off the list. If it fails again it comes back."""
    done = bid(socket_of(config, socket), "suppress/remove", {"address": address})
    click.echo(f"{shown(done['removed'])} is no longer on the suppression list")


def lines(suppressed: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A table. Nobody stands in `by` where another server's word is the reason."""
    width = max(len("address"), *(len(each["address"]) for each in suppressed))
    by = max(len("by"), *(len(each["by"]) for each in suppressed))
    yield f"{'address':<{width}}  {'until':<10}  {'by':<{by}}  because"
    for each in suppressed:
        row = f"{each['address']:<{width}}  {_day(each['until'])}  {each['by'] or '-':<{by}}  {each['because']}"
        yield shown(row).rstrip()


def _day(when: float) -> str:
    """In UTC, as the reply to a client says it."""
    return time.strftime("%Y-%m-%d", time.gmtime(when))
