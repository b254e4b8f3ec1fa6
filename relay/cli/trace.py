"""`relayctl trace`: what has become of a message, also after it has left."""

from __future__ import annotations

import click

from relay.cli.ask import ask, question
from relay.cli.options import Said, json_too, print_json, socket_of, where


@click.command(name="trace")
@click.argument("text", type=Said(), metavar="ID|MESSAGE-ID|ADDRESS")
@json_too
@where
def trace(text: str, as_json: bool, config: str | None, socket: str | None) -> None:
    """
    Tell the whole life of a message: by its queue id, its Message-ID, or an address it was sent from or to.

    An IP address finds what was refused to a client. The newest come first. If nothing is known the exit status is 1.
    """
    answer = ask(socket_of(config, socket), question("trace", {"text": text}))
    if as_json:
        print_json(answer)
    else:
        # Here, since `relayctl --help` needs none of it.
        from relay.history.telling import tell_all
        from relay.mail.history import Findings

        for line in tell_all(Findings.from_json(answer), text):
            click.echo(line)
    if not answer["lives"]:
        raise SystemExit(1)
