"""Options that several commands of `relayctl` have: where the relay is, and who is meant."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
#: Ids that one command may name.
_MOST_IDS: Final = 500
_STATES: Final = ("waiting", "deferred", "active", "held")


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases only
    """`90s`, `30m`, `1h`, `5d`, `2w`, or a number of seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        unit = _UNITS.get(text[-1:])
        number = text[:-1] if unit else text
        try:
            seconds = float(number) * (unit or 1)
            if not 0 <= seconds < 1e10:
                raise ValueError(text)
        except ValueError:
            self.fail(f"{text!r} is no duration: say 90s, 30m, 1h or 5d", param, ctx)
        return seconds


class Said(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases only
    """
    A text that says something. One that is empty, such as a variable of a script that was never set, is never taken for
    one that was not given: that could mean the whole queue.
    """

    name = "text"

    def __init__(self, *, path: bool = False) -> None:
        #: Names of files may have any octets.
        self._path = path

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if not text.strip():
            self.fail("it is empty: leave it out, or say something", param, ctx)
        try:
            text.encode("utf-8", "surrogateescape" if self._path else "strict")
        except UnicodeEncodeError:
            self.fail(f"{text!r} is not in UTF-8", param, ctx)
        return text


def where(command: F) -> F:
    """Options that say where the relay's control socket is. The function gets `config` and `socket`."""
    for option in (
        click.option(
            "--socket",
            type=Said(path=True),
            metavar="PATH",
            help="The control socket itself. Default: var/control.sock, or that in /run/relay.",
        ),
        click.option(
            "-c",
            "--config",
            type=Said(path=True),
            metavar="FILE",
            envvar="RELAY_CONFIG",
            help="The relay's configuration, which names its control socket.",
        ),
    ):
        command = option(command)
    return command


def socket_of(config: str | None, socket: str | None) -> str | None:
    """Where the control socket is; `None`: at one of the usual places. Raises `click.ClickException`."""
    if socket is not None or config is None:
        return socket
    from relay.cli.mailq import control_socket

    return control_socket(config)


def json_too(command: F) -> F:
    """`--json`. The function gets `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def who(command: F) -> F:
    """The filters, and ids as arguments. The function gets them as `ids` and `chosen`, which `words_of` understands."""
    for option in (
        click.option(
            "--reason", type=Said(), metavar="TEXT", help="Something that the last attempt met: a part of its words."
        ),
        click.option("--older", type=Duration(), metavar="AGE", help="Accepted at least so long ago: 90s, 1h, 5d."),
        click.option("--state", type=click.Choice(_STATES), help="What it does at this moment."),
        click.option("--policy", type=Said(), metavar="NAME", help="The policy that has decided where it goes."),
        click.option(
            "--dest", type=Said(), metavar="NAME", help="The destination, as 'relayctl queue count' names it."
        ),
        click.option(
            "--from", "sender", type=Said(), metavar="ADDRESS", help="The sender; '<>' is the null reverse-path."
        ),
        click.option("--to", type=Said(), metavar="ADDRESS", help="The recipient. @example.org: any in this domain."),
        click.argument("ids", type=Said(), nargs=-1, metavar="[ID]..."),
    ):
        command = option(command)
    return command


def words_of(ids: tuple[str, ...], **chosen: Any) -> dict[str, str]:
    """What the control socket is told of who is meant."""
    if len(ids) > _MOST_IDS:
        raise click.UsageError(f"no more than {_MOST_IDS} ids may be named at once: say a filter")
    older = chosen.get("older")
    words = {
        "id": ",".join(ids),
        "to": chosen.get("to") or "",
        "from": chosen.get("sender") or "",
        "dest": chosen.get("dest") or "",
        "policy": chosen.get("policy") or "",
        "state": chosen.get("state") or "",
        "older": "" if older is None else f"{older:g}" if older < 1e6 else f"{older:.0f}",
        "reason": chosen.get("reason") or "",
    }
    return {name: value for name, value in words.items() if value}


def print_json(value: Any) -> None:
    """A value as a program reads it."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def shown(text: str) -> str:
    """A text of others, such that it moves no cursor and ends no line."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def span(seconds: float) -> str:
    """A duration, in its two largest units: `2h 5m`."""
    whole = int(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= size:
            rest = whole % size * 60 // size if unit != "d" else whole % size // 3600
            smaller = {"d": "h", "h": "m", "m": "s"}[unit]
            return f"{whole // size}{unit} {rest}{smaller}"
    return f"{whole}s"


def size_text(octets: float) -> str:
    """`812`, `1.2K`, `25M`."""
    for unit in ("", "K", "M"):
        if octets < 1000:
            return f"{octets:.0f}{unit}" if octets >= 10 or not unit else f"{octets:.1f}{unit}"
        octets /= 1024
    return f"{octets:.1f}G"


def quiet_at_the_end_of(_pipe: object = None) -> None:
    """Whoever reads has seen enough (`relayctl queue list | head`); Python is not to complain when it ends."""
    import sys

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
