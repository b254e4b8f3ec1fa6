"""
The manual, made of the commands themselves: pages for man(1), and docs/relayctl.md.

    python -m relay.cli.manual man FOLDER      writes FOLDER/relayctl.1, FOLDER/relayctl-queue.1 and so on, and removes
                                               pages there of commands that are no more
    python -m relay.cli.manual markdown        prints docs/relayctl.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import click
from attrs import frozen

from relay import __version__
from relay.cli.relayctl import main as relayctl

#: What each ends with, by status.
STATUSES: Final[Mapping[int, str]] = {
    0: "It is done.",
    1: "Nothing was found, or the relay said no; standard error says why.",
    2: "The command line was not understood.",
    69: "No relay answers at the control socket.",
    75: "Some of those who were meant are being carried at this moment, or a worker has not answered. Say it again.",
    78: "The configuration is wrong; standard error says where.",
}
_FILES: Final[Mapping[str, str]] = {
    "var/control.sock, /run/relay/control.sock": "Where the relay's control socket is looked for if nothing is said.",
}
_VARIABLES: Final[Mapping[str, str]] = {
    "RELAY_CONFIG": "The relay's configuration, which names its control socket, as -c does.",
}


@frozen
class Entry:
    """A command: what is said of it."""

    #: `relayctl queue hold`.
    name: str
    command: click.Command
    usage: str
    #: Paragraphs.
    help: tuple[str, ...]
    #: Each as it is written, and what it does.
    options: tuple[tuple[str, str], ...]

    @property
    def short(self) -> str:
        return self.command.get_short_help_str(300).rstrip(".")


def entry(command: click.Command, *path: str) -> Entry:
    """What there is to say of a command that is called so."""
    context = click.Context(command, info_name=" ".join(path), help_option_names=["-h", "--help"])
    paragraphs = tuple(" ".join(piece.split()) for piece in (command.help or "").split("\n\n") if piece.strip())
    options = (each for each in command.get_params(context) if isinstance(each, click.Option))
    records = [each.get_help_record(context) for each in options if "--help" not in each.opts]
    pieces = command.collect_usage_pieces(context)
    written = tuple(record for record in records if record is not None)
    return Entry(" ".join(path), command, " ".join([*path, *pieces]), paragraphs, written)


def below(it: Entry) -> Iterator[Entry]:
    """The commands of a group, in their order."""
    if isinstance(it.command, click.Group):
        for name, command in it.command.commands.items():
            yield entry(command, *it.name.split(), name)


def top() -> Entry:
    return entry(relayctl, "relayctl")


# For man(1).


def man_pages() -> dict[str, str]:
    """The text of each page, by its file's name."""
    first = top()
    pages = {"relayctl.1": _page(first, subsections=False)}
    for each in below(first):
        pages[f"{each.name.replace(' ', '-')}.1"] = _page(each, subsections=True)
    # Here, since the first imports what it starts.
    from relay.cli import mailq, run, sendmail_options

    pages["relay.1"] = _page(entry(run.main, "relay"), subsections=False)
    pages["relay-mailq.1"] = _plain_page("relay-mailq", "show the queue as Postfix does", mailq.HELP)
    pages["relay-sendmail.1"] = _plain_page("relay-sendmail", "give a message to the relay", sendmail_options.HELP)
    return pages


def _plain_page(name: str, short: str, help: str) -> str:
    """The page of a command that reads its arguments itself: what it says for --help, line by line."""
    usage, _, rest = help.partition("\n")
    lines = [f'.TH {_troff(name.upper())} 1 "" "relay {_troff(__version__)}" "relay"']
    lines += [".SH NAME", f"{_troff(name)} \\- {short}", ".SH SYNOPSIS", _troff(usage.removeprefix("Usage: "))]
    lines += [".SH DESCRIPTION", ".nf", *(_troff(line) or "\\&" for line in rest.strip("\n").split("\n")), ".fi"]
    lines += [".SH SEE ALSO", ".BR relayctl (1)"]
    return "\n".join(lines) + "\n"


def _page(it: Entry, *, subsections: bool) -> str:
    name = it.name.replace(" ", "-")
    lines = [f'.TH {_troff(name.upper())} 1 "" "relay {_troff(__version__)}" "relay"']
    lines += [".SH NAME", f"{_troff(name)} \\- {_troff(it.short[:1].lower() + it.short[1:])}"]
    lines += [".SH SYNOPSIS", _usage(it)]
    lines += [".SH DESCRIPTION", *_paragraphs(it.help)]
    if it.options:
        lines += [".SH OPTIONS", *_options(it)]
    commands = list(below(it))
    if commands:
        lines.append(".SH COMMANDS")
        for each in commands:
            lines += _subsection(each) if subsections else _mention(each)
    lines += [".SH EXIT STATUS", *_tagged({str(status): text for status, text in STATUSES.items()})]
    lines += [".SH ENVIRONMENT", *_tagged(_VARIABLES), ".SH FILES", *_tagged(_FILES)]
    names = [each.name.replace(" ", "-") for each in below(top())]
    others = sorted({"relayctl", "relay-mailq", *names} - {name})
    lines += [".SH SEE ALSO", *(f".BR {_troff(other)} (1){',' if other != others[-1] else ''}" for other in others)]
    return "\n".join(lines) + "\n"


def _subsection(it: Entry) -> list[str]:
    return [f".SS {_troff(it.name)}", _usage(it), ".PP", *_paragraphs(it.help), *_options(it)]


def _mention(it: Entry) -> list[str]:
    return [".TP", f"\\fB{_troff(it.name)}\\fR", _troff(f"{it.short}.")]


def _usage(it: Entry) -> str:
    rest = it.usage.removeprefix(it.name)
    return f"\\fB{_troff(it.name)}\\fR{_troff(rest)}"


def _paragraphs(paragraphs: tuple[str, ...]) -> Iterator[str]:
    for at, text in enumerate(paragraphs):
        if at:
            yield ".PP"
        yield _troff(text)


def _options(it: Entry) -> Iterator[str]:
    for written, help in it.options:
        yield ".TP"
        yield f"\\fB{_troff(written)}\\fR"
        yield _troff(help)


def _tagged(rows: Mapping[str, str]) -> Iterator[str]:
    for tag, text in rows.items():
        yield ".TP"
        yield f"\\fB{_troff(tag)}\\fR"
        yield _troff(text)


def _troff(text: str) -> str:
    """A text, of which nothing means anything to troff."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


# For docs/relayctl.md.


def markdown() -> str:
    """The whole reference."""
    first = top()
    lines = [
        "# relayctl: all commands",
        "",
        "<!-- Made by python -m relay.cli.manual markdown: change the commands, and make it again. -->",
        "",
        "[Operating](operating.md) shows what they are for.",
        "",
        *_markdown_text(first),
        "",
        "| exit status | |",
        "| --- | --- |",
        *(f"| {status} | {text} |" for status, text in STATUSES.items()),
    ]
    for each in below(first):
        lines += ["", f"## {each.name}", "", *_markdown(each)]
        for command in below(each):
            lines += ["", f"### {command.name}", "", *_markdown(command)]
    return "\n".join(lines) + "\n"


def _markdown(it: Entry) -> Iterator[str]:
    yield f"    {it.usage}"
    yield ""
    yield from _markdown_text(it)
    if it.options:
        yield from ("", "| option | |", "| --- | --- |")
        for written, help in it.options:
            yield f"| `{_cell(written)}` | {_cell(help).replace('<', '&lt;').replace('*', chr(92) + '*')} |"


def _markdown_text(it: Entry) -> Iterator[str]:
    for at, text in enumerate(it.help):
        if at:
            yield ""
        yield text.replace("*", "\\*").replace("<", "&lt;")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def write_pages(folder: Path) -> None:
    pages = man_pages()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("relay*.1"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")


def main(arguments: list[str]) -> int:
    match arguments:
        case ["man", folder]:
            write_pages(Path(folder))
        case ["markdown"]:
            sys.stdout.write(markdown())
        case _:
            sys.stderr.write((__doc__ or "").strip() + "\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
