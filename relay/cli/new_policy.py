"""`relayctl new-policy`: the beginning of a policy of one's own."""

from __future__ import annotations

import re
from pathlib import Path

import click

from relay.cli.options import Said

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 40


@click.command(name="new-policy")
@click.argument("name", type=Said())
@click.option(
    "--phase",
    type=click.Choice(["connection", "sender", "recipient", "content"]),
    default="recipient",
    show_default=True,
    help="When it is asked: before the greeting, at MAIL, at each RCPT, or when the message is here.",
)
@click.option(
    "--directory",
    type=Said(path=True),
    metavar="PATH",
    help="Where to write it. Default: relay-NAME, here. There must not be anything.",
)
def new_policy(name: str, phase: str, directory: str | None) -> None:
    """
    Write a distribution with a policy called NAME, which passes its own tests: its module, its options, its tests, and
    the entry point by which a configuration says 'use = "NAME"'.

    It refuses what its one option names. From there on it is yours.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise click.UsageError(f"{name!r} is no name for it: small letters and digits, with hyphens between words")
    # Here, since `relayctl --help` needs none of it.
    from relay.cli.skeleton import files
    from relay.policy.registry import names

    if name in names():
        raise click.UsageError(f"there is a policy {name!r} already")
    folder = Path(directory or f"relay-{name}")
    try:
        folder.mkdir(parents=True)
        for file, text in files(name, phase).items():
            (folder / file).write_text(text)
    except OSError as error:
        raise click.ClickException(f"{folder}: {error.strerror}") from None
    click.echo(f"{folder}: {', '.join(sorted(each.name for each in folder.iterdir()))}")
    click.echo(f"Try it:  cd {folder} && pip install -e '.[test]' && python -m pytest")
