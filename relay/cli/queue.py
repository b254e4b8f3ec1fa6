"""`relayctl queue`: what waits and why, and what an operator can do about it."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import click

from relay.cli import queue_text
from relay.cli.ask import ask, bid, pages, question
from relay.cli.options import Said, json_too, print_json, quiet_at_the_end_of, socket_of, where, who, words_of
from relay.cli.progress import Progress

#: Nothing is in the queue that was meant.
NOTHING: Final = 1
#: Some are being carried at this moment: it is to be said again.
AGAIN: Final = os.EX_TEMPFAIL


_Decorator: TypeAlias = Callable[[Callable[[], None]], click.Command]


@click.group(name="queue")
def queue() -> None:
    """
    Show what waits and why, and do something about it.

    All these commands mean the recipients of whom all that is said is true: ids of messages, and options. In --to,
    --from and --dest a * stands for anything. A message may have several recipients, and each has a fate of its own.

    What is done is done at once, survives a power cut, and is in the mail log with the name of who did it. Whoever is
    being carried at this moment is never touched; the exit status is then 75, and the command may be said again. If
    nobody is meant the exit status is 1.
    """


@queue.command(name="list")
@who
@click.option("-n", "--most", type=click.IntRange(min=1), metavar="NUMBER", help="So many messages, and no more.")
@json_too
@where
def list_(
    ids: tuple[str, ...], most: int | None, as_json: bool, config: str | None, socket: str | None, **chosen: Any
) -> None:
    """
    List messages in the order in which they came, with the recipients that are meant, and why each still waits.

    With --json a line is an object that is a message.
    """
    path, words = socket_of(config, socket), words_of(ids, **chosen)
    count = 0
    try:
        for page in pages(path, "queue", {**words, "most": str(min(most, 500)) if most else ""}):
            for entry in page["entries"]:
                if count == most:
                    return
                count += 1
                for line in queue_text.json_line(entry) if as_json else queue_text.entry_lines(entry, page["now"]):
                    click.echo(line)
        sys.stdout.flush()
    except BrokenPipeError:
        quiet_at_the_end_of(sys.stdout)
    if not count:
        _nobody()


@queue.command()
@who
@click.option(
    "--by",
    type=click.Choice(["destination", "reason", "sender", "policy"]),
    default="destination",
    help="What stands in a line of its own. Default: destination.",
)
@click.option(
    "-n", "--most", type=click.IntRange(min=1), default=20, metavar="NUMBER", help="So many lines. Default: 20."
)
@json_too
@where
def count(
    ids: tuple[str, ...], by: str, most: int, as_json: bool, config: str | None, socket: str | None, **chosen: Any
) -> None:
    """Count recipients by destination, by what the last attempt met, by sender or by policy; the most come first."""
    groups = _groups(socket_of(config, socket), words_of(ids, **chosen), by)
    if as_json:
        print_json({"by": by, "groups": groups})
    else:
        for line in queue_text.count_lines(by, groups, most):
            click.echo(line)
    if not groups:
        _nobody()


@queue.command()
@click.argument("id", type=Said(), metavar="ID")
@json_too
@where
def show(id: str, as_json: bool, config: str | None, socket: str | None) -> None:
    """Show all that is known of the message ID, and why each of its recipients still waits."""
    entry = ask(socket_of(config, socket), question("queue/show", {"id": id}))
    if as_json:
        print_json(entry)
    else:
        for line in queue_text.show_lines(entry, entry["now"]):
            click.echo(line)


def _act(name: str, past: str, unmoved: str, *, asks: bool = False, options: tuple[Any, ...] = ()) -> _Decorator:
    """A command that does something; its help is what is decorated. `unmoved` says to whom it means nothing."""

    def decorate(help: Callable[[], None]) -> click.Command:
        def run(
            ids: tuple[str, ...],
            everything: bool,
            dry_run: bool,
            as_json: bool,
            config: str | None,
            socket: str | None,
            yes: bool = False,
            via: str = "",
            **chosen: Any,
        ) -> None:
            path, words = socket_of(config, socket), words_of(ids, **chosen)
            if not words and not everything:
                raise click.UsageError(f"who is meant? Say a filter or an id, or --all to {name} the whole queue")
            states = _by_state(path, words)
            total = sum(states.values())
            if dry_run:
                _would(name, states, as_json)
            elif total:
                if asks and not yes and sys.stdin.isatty():
                    click.confirm(f"{name} {_recipients(total)}?", abort=True, err=True)
                done = _do(path, name, {**words, "all": not words, **({"via": via} if via else {})}, total)
                _tell(done, past, unmoved, as_json)
            else:
                _nobody()

        run.__doc__ = help.__doc__
        made: Any = run
        sure = click.option(
            "--yes", is_flag=True, help="Do not ask whether you are sure. Only at a terminal is that asked."
        )
        dry = click.option("--dry-run", is_flag=True, help="Only say how many that would be.")
        all_ = click.option("--all", "everything", is_flag=True, help="The whole queue is meant.")
        for option in (where, json_too, *((sure,) if asks else ()), dry, all_, *options, who):
            made = option(made)
        command: click.Command = queue.command(name=name)(made)
        return command

    return decorate


@_act("retry", "due now", "are held, or wait for their release")
def retry() -> None:
    """Try those who wait for their next attempt now."""


@_act("hold", "held", "were held already")
def hold() -> None:
    """Keep them where they are: nothing is tried until they are released."""


@_act("release", "released", "are not held, or are held by a policy and no other has a way for them (say reroute)")
def release() -> None:
    """
    Let go on who was held, or whom its sender wants to be kept back (FUTURERELEASE); they are due now.

    What a policy holds goes where the policies say that only say where mail goes, such as 'forward' and 'mailbox'.
    """


@_act("delete", "deleted", "are no more", asks=True)
def delete() -> None:
    """Remove them. Nobody is told; only the mail log knows."""


@_act("fail", "given up", "are given up already, or stand for others", asks=True)
def fail() -> None:
    """Give them up: they fail, and their senders are told as if it had been tried for too long."""


@_act(
    "reroute",
    "rerouted",
    "stand for others",
    options=(
        click.option(
            "--via",
            type=Said(),
            required=True,
            metavar="HOP",
            help="example.org (by its MX records), [mail.example.org]:587, lmtp:[192.0.2.1]:24 or unix:/run/lmtp; "
            "behind any but the last ';tls=verify', 'encrypt' or 'none'.",
        ),
    ),
)
def reroute() -> None:
    """Send them another way, whatever the policies said; they are due now."""


def _groups(path: str | None, words: dict[str, str], by: str) -> dict[str, dict[str, int]]:
    groups: dict[str, Counter[str]] = {}
    for page in pages(path, "queue/count", {**words, "by": by}):
        for name, states in page["groups"].items():
            groups.setdefault(name, Counter()).update(states)
    return {name: dict(states) for name, states in groups.items()}


def _by_state(path: str | None, words: dict[str, str]) -> Counter[str]:
    states: Counter[str] = Counter()
    for counted in _groups(path, words, "policy").values():
        states.update(counted)
    return states


def _do(path: str | None, name: str, words: dict[str, Any], total: int) -> dict[str, int]:
    """Page after page, each of which is done when the next is begun."""
    done = {"done": 0, "busy": 0, "unmoved": 0}
    after = ""
    with Progress(name, total) as progress:
        while True:
            said = bid(path, f"queue/{name}", {**words, "after": after})
            for key in done:
                done[key] += said[key]
            progress.at(sum(done.values()))
            after = said["next"]
            if not after:
                return done


def _would(name: str, states: Counter[str], as_json: bool) -> None:
    total, busy = sum(states.values()), states["active"]
    if as_json:
        print_json({"would": total - busy, "busy": busy})
    else:
        tail = f"; {busy} are being carried at this moment, and would not be touched" if busy else ""
        click.echo(f"would {name} {_recipients(total - busy)}{tail}")
    if not total:
        raise SystemExit(NOTHING)


def _tell(done: dict[str, int], past: str, unmoved: str, as_json: bool) -> None:
    if as_json:
        print_json(done)
    else:
        parts = [f"{_recipients(done['done'])} {past}"]
        if done["unmoved"]:
            parts.append(f"{done['unmoved']} {unmoved}")
        if done["busy"]:
            parts.append(f"{done['busy']} are being carried at this moment: say it again")
        click.echo("; ".join(parts))
    if done["busy"]:
        raise SystemExit(AGAIN)
    if not done["done"]:
        raise SystemExit(NOTHING)


def _recipients(number: int) -> str:
    return f"{number} recipient" if number == 1 else f"{number} recipients"


def _nobody() -> None:
    click.echo("nobody in the queue is meant", err=True)
    raise SystemExit(NOTHING)
