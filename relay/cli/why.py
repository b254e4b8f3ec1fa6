"""`relayctl why`: how a decision of the running relay came about."""

from __future__ import annotations

import click

from relay.cli.ask import ask, question
from relay.cli.options import Said, json_too, print_json, socket_of, where


@click.command(name="why")
@click.argument("text", type=Said(), metavar="REF|ID|MESSAGE-ID|ADDRESS")
@json_too
@where
def why(text: str, as_json: bool, config: str | None, socket: str | None) -> None:
    """
    Tell why a mail was refused, or accepted and sent there: which policies were asked, what they looked at and said.

    Asked by the reference at the end of a refusal (7K3QX2, with or without the brackets around it), by a queue id, a
    Message-ID, or an address it was sent from or to; an IP address finds what was refused to a client. The newest come
    first. If nothing is known the exit status is 1.
    """
    answer = ask(socket_of(config, socket), question("why", {"text": text}))
    if as_json:
        print_json(answer)
    else:
        # Here, since `relayctl --help` needs none of it.
        from relay.history.telling import tell_why
        from relay.mail.history import Accounts

        for line in tell_why(Accounts.from_json(answer), text):
            click.echo(line)
    if not answer["accounts"]:
        raise SystemExit(1)
