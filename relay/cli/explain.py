"""`relayctl explain`: what would become of a mail, and why."""

from __future__ import annotations

from typing import Any

import click

from relay.cli.ask import Declined, Unavailable, ask, bid, question
from relay.cli.options import Said, json_too, print_json, socket_of

#: Seconds for an answer: each phase of a session has its own time to wait for the outside.
_PATIENCE = 200.0
#: HTTP's status for a message that is larger than what may be said at once.
_TOO_LONG = 413
#: Here `--config` does not say where the relay is.
_HINT = "say --socket PATH, or --config FILE to ask that file and no relay"


class Unexplained(click.ClickException):
    """There is no answer: 1 would say that the mail is refused."""

    exit_code = 2


@click.command(name="explain")
@click.argument("recipient", type=Said())
@click.option("--from", "sender", metavar="ADDRESS", help="The sender. Default: the null reverse-path, '<>'.")
@click.option(
    "--client",
    type=Said(),
    metavar="IP",
    help="The client's address, or 'unix' for a Unix socket. Default: 192.0.2.1, a stranger.",
)
@click.option("--helo", type=Said(), metavar="NAME", help="What it says in EHLO. Default: its address in brackets.")
@click.option("--auth", "user", type=Said(), metavar="USER", help="The user that it has proved to be.")
@click.option("--tls", is_flag=True, help="The connection is encrypted.")
@click.option("--listener", type=Said(), metavar="NAME", help="Where it comes in. Default: the first listener.")
@click.option(
    "--message",
    type=click.File("rb"),
    metavar="FILE",
    help="The message; '-' is standard input. Without one, policies about content are not asked.",
)
@json_too
@click.option(
    "--socket",
    type=Said(path=True),
    metavar="PATH",
    help="The control socket of the relay that is asked. Default: var/control.sock, or that in /run/relay.",
)
@click.option(
    "-c",
    "--config",
    type=Said(path=True),
    metavar="FILE",
    help="Ask this configuration and no relay: what would become of it if this one ran.",
)
def explain(
    recipient: str,
    sender: str | None,
    client: str | None,
    helo: str | None,
    user: str | None,
    tls: bool,
    listener: str | None,
    message: Any,
    as_json: bool,
    socket: str | None,
    config: str | None,
) -> None:
    """
    Tell what would become of a mail to RECIPIENT: every policy in order, whether it was asked or skipped, what it
    looked at and said; then what the client would hear, and where the mail would go.

    The policies themselves are asked, with the answers of the DNS and of tables as they are now. Nothing stays behind:
    no mail is sent, no greylist entry is made, no limit is counted.

    If it would be refused the exit status is 1; if this cannot be told, since nobody has understood what was asked, 2.
    """
    words = {
        "to": recipient,
        "from": sender or "",
        "client": client or "",
        "helo": helo or "",
        "user": user or "",
        "listener": listener or "",
        "tls": "yes" if tls else "",
        "message": "" if message is None else _encoded(message.read()),
    }
    said = {name: value for name, value in words.items() if value}
    if config is not None:
        if socket is not None:
            raise click.UsageError("--config asks no relay: leave out --socket, or --config")
        from relay.cli.offline import explained

        try:
            answer = explained(config, said)
        except click.ClickException as problem:
            raise Unexplained(problem.message) from None
    else:
        # `--config` names what is to be asked; where the relay is, the environment may say all the same.
        path = socket_of(_usual_config() if socket is None else None, socket)
        try:
            if message is None:
                answer = ask(path, question("explain", said), _PATIENCE)
            else:
                answer = bid(path, "explain", said, _PATIENCE)
        except Unavailable as nobody:
            raise Unavailable(nobody.what, _HINT) from None
        except Declined as problem:
            hint = "; --config FILE asks that configuration, with no such limit" if problem.status == _TOO_LONG else ""
            raise Unexplained(problem.message + hint) from None
    if as_json:
        print_json(answer)
    else:
        # Here, since `relayctl --help` needs none of it.
        from relay.mail.explanation import Explanation
        from relay.mail.explanation_text import text

        for line in text(Explanation.from_json(answer)):
            click.echo(line)
    if not answer.get("reply", "").startswith("2"):
        raise SystemExit(1)


def _usual_config() -> str | None:
    import os

    return os.environ.get("RELAY_CONFIG") or None


def _encoded(message: bytes) -> str:
    """A file of this machine, as a client would send it."""
    import base64

    return base64.b64encode(b"\r\n".join(message.replace(b"\r\n", b"\n").split(b"\n"))).decode()
