"""What HELP says (RFC 5321 section 4.1.1.8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from relay.mail.reply import Reply

#: One row for each command that is offered: how it is written, and what it does.
COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "HELO": ("HELO your.host.name", "Introduces you, without extensions."),
    "EHLO": ("EHLO your.host.name", "Introduces you, and lists what this server offers."),
    "MAIL": (
        "MAIL FROM:<sender> [SIZE=octets] [BODY=7BIT|8BITMIME] [SMTPUTF8]",
        "Begins a transaction. <> is the null reverse-path: nobody is told of a failure.",
    ),
    "RCPT": ("RCPT TO:<recipient>", "Names a recipient. May be said many times."),
    "DATA": ("DATA", "Sends the content. A line with a single dot ends it."),
    "BDAT": ("BDAT octets [LAST]", "Sends content in chunks of announced sizes. The reply comes behind each chunk."),
    "RSET": ("RSET", "Forgets the transaction."),
    "NOOP": ("NOOP", "Does nothing."),
    "VRFY": ("VRFY address", "Does not tell whether an address exists, but is polite about it."),
    "HELP": ("HELP [command]", "Lists the commands, or explains one."),
    "QUIT": ("QUIT", "Ends the session."),
}

OVERVIEW: Final = Reply.of(214, "2.0.0", "Commands:", "  " + " ".join(COMMANDS), "HELP and a command explains it.")
_EXPLAINED: Final = {name: Reply.of(214, "2.0.0", *lines) for name, lines in COMMANDS.items()}
_NOTHING_KNOWN: Final = Reply.of(504, "5.5.4", "There is no help on that")


def explain(topic: str) -> Reply:
    """The answer to `HELP topic`; `topic` is in upper case, or "" for the list."""
    return _EXPLAINED.get(topic, _NOTHING_KNOWN) if topic else OVERVIEW
