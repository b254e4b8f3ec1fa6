"""
`relay-mailq`: the queue, as programs that know Postfix expect it: the text of `mailq`, or with -j the JSON of
`postqueue -j`, one object a line.

It is made of what the control socket answers to `GET /queue`, a page at a time:

    {"entries": [{"id": "NG79W8MR4E21H9", "queue": "deferred", "arrived": 1795435200.0, "size": 1234,
                  "sender": "ann@example.org",
                  "recipients": [{"address": "bob@example.net", "delay_reason": "connection refused (4.4.1)"}]}],
     "next": "NG79W8MR4E21H9"}

* `queue` is `active` (somebody carries one of its recipients at this moment), `deferred` (it waits), or `hold`.
* `arrived` is seconds since the epoch, `size` octets, `sender` "" for the null reverse-path.
* `recipients` are those that are not settled; `delay_reason` is "" where nothing was tried yet.
* `next`, if it is not null, is what to ask for the page behind this one with: `GET /queue?after=NG79W8MR4E21H9`.

Entries come in the order of their ids, which is that of their arrival.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import frozen

#: What Postfix shows for the null reverse-path.
_NOBODY: Final = "MAILER-DAEMON"
_MARKS: Final = {"active": "*", "hold": "!"}
_HEADING: Final = "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------"
_WIDTH: Final = 76

HELP: Final = """\
Usage: relay-mailq [OPTION...]

Show the queue of the running relay: behind a message's id, * says that it is being delivered, and ! that it is held.

  -j, --json    print a JSON object a line, with the names that postqueue -j has
  -C FILE       the relay's configuration, which names its control socket (or set RELAY_CONFIG)
  --socket PATH the control socket itself; without both, var/control.sock or the one in /run/relay
  --help, --version

The exit status is 0; 69 if no relay answers; 75 if a part of it has not answered, so that messages are missing here.
"""


@frozen
class Waiting:
    """A recipient that is not settled, and why it waits, if something was tried."""

    address: str
    delay_reason: str = ""


@frozen
class Queued:
    """A message in the queue."""

    id: str
    queue: str
    arrived: float
    size: int
    sender: str
    recipients: tuple[Waiting, ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Queued:
        """Raises `KeyError` or `TypeError` for what no relay says."""
        return cls(
            value["id"],
            value["queue"],
            value["arrived"],
            value["size"],
            value["sender"],
            tuple(Waiting(each["address"], each.get("delay_reason") or "") for each in value["recipients"]),
        )


def main() -> None:
    """The command."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Do as these arguments say; the exit status."""
    config = socket = None
    as_json = False
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        name, equals, value = argument.partition("=") if argument.startswith("--") else (argument[:2], "", argument[2:])
        match name:
            case "-j" | "--json" if not value:
                as_json = True
            case "-C" | "--socket" if value or (waiting and not equals):
                value = value or waiting.pop(0)
                config, socket = (value, socket) if name == "-C" else (config, value)
            case "-h" | "--help":
                sys.stdout.write(HELP)
                return os.EX_OK
            case "--version":
                from relay import __version__

                sys.stdout.write(f"relay-mailq {__version__}\n")
                return os.EX_OK
            case _:
                sys.stderr.write(f"relay-mailq: {argument!r} is not understood (see relay-mailq --help)\n")
                return os.EX_USAGE
    return show(config, socket, as_json=as_json)


def show(config: str | None, socket: str | None, *, as_json: bool) -> int:
    """Print the queue of the relay at this control socket, or at the one that `config` names; the exit status."""
    import click

    from relay.cli.ask import ask

    missing: set[str] = set()
    try:
        path = socket or control_socket(config)
        entries = pages(lambda question: _noted(ask(path, question), missing))
        for line in json_lines(entries) if as_json else text_lines(entries):
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        for line in sorted(missing):
            sys.stderr.write(f"relay-mailq: {line}\n")
    except click.ClickException as problem:
        sys.stderr.write(f"relay-mailq: {problem.message}\n")
        return problem.exit_code
    except BrokenPipeError:
        # Whoever reads has seen enough (`relay-mailq | head`), and Python is not to complain when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return os.EX_TEMPFAIL if missing else os.EX_OK


def _noted(answer: Any, missing: set[str]) -> Any:
    """The answer; what it lacks is among what is missing."""
    from relay.cli.missing import lines

    missing.update(lines(answer))
    return answer


def pages(ask: Callable[[str], Any]) -> Iterator[Queued]:
    """All entries, page after page. `ask` is given what stands behind `GET /`."""
    after = ""
    while True:
        answer = ask(f"queue?after={after}" if after else "queue")
        yield from map(Queued.from_json, answer["entries"])
        after = answer.get("next") or ""
        if not after:
            return


def text_lines(entries: Iterable[Queued]) -> Iterator[str]:
    """As Postfix's `mailq` prints them."""
    count = octets = 0
    for entry in entries:
        if not count:
            yield _HEADING
        count += 1
        octets += entry.size
        arrived = time.strftime("%a %b %e %H:%M:%S", time.localtime(entry.arrived))
        mark = _MARKS.get(entry.queue, " ")
        yield f"{entry.id + mark:<17} {entry.size:>8} {arrived:>19} {_shown(entry.sender) or _NOBODY}"
        before = ""
        for recipient in sorted(entry.recipients, key=lambda each: each.delay_reason):
            reason = _shown(recipient.delay_reason)
            if reason != before:
                yield f"{f'({reason})':>{_WIDTH}}"
                before = reason
            yield f"{'':<47}{_shown(recipient.address)}"
        yield ""
    if count:
        yield f"-- {octets // 1024} Kbytes in {count} Request{'s' if count > 1 else ''}."
    else:
        yield "Mail queue is empty"


def json_lines(entries: Iterable[Queued]) -> Iterator[str]:
    """As `postqueue -j` prints them."""
    for entry in entries:
        yield json.dumps(
            {
                "queue_name": entry.queue,
                "queue_id": entry.id,
                "arrival_time": int(entry.arrived),
                "message_size": entry.size,
                "forced_expire": False,
                "sender": entry.sender or _NOBODY,
                "recipients": [
                    {"address": each.address, **({"delay_reason": each.delay_reason} if each.delay_reason else {})}
                    for each in entry.recipients
                ],
            },
            ensure_ascii=False,
        )


def control_socket(config: str | None) -> str | None:
    """The one that a configuration names; `None`: the usual ones. Raises `Unreadable`."""
    named = config or os.environ.get("RELAY_CONFIG")
    if named is None:
        return None
    import tomllib
    from pathlib import Path

    from relay.cli.ask import Unreadable

    try:
        document = tomllib.loads(Path(named).read_text("utf-8-sig"))
    except (OSError, ValueError) as problem:
        said = f"cannot be read: {problem.strerror}" if isinstance(problem, OSError) else f"this is not TOML: {problem}"
        raise Unreadable(f"{named}: {said}") from None
    control = document.get("control")
    path = str((control.get("socket") if isinstance(control, dict) else None) or "var/control.sock")
    return os.path.normpath(Path(named).parent / spelled_out(path, document))


def spelled_out(path: str, document: Mapping[str, Any]) -> str:
    """A path of this configuration, with its words (`$hostname`) replaced."""
    if "$" not in path:
        return path
    # Here, since a configuration is much to import, and hardly anybody's sockets need it.
    import socket

    from relay.config.file import user
    from relay.config.words import Words

    hostname = str(document.get("hostname") or socket.gethostname())
    return Words({"hostname": hostname.lower(), "user": user()}).spelled_out(path)


def _shown(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


if __name__ == "__main__":
    main()
