"""What HELP says (RFC 5321 section 4.1.1.8)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from relay.mail.reply import Reply

#: One row for each command that there can be: how it is written, and what it does.
COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "HELO": ("HELO your.host.name", "Introduces you, without extensions."),
    "EHLO": ("EHLO your.host.name", "Introduces you, and lists what this server offers."),
    "LHLO": ("LHLO your.host.name", "Introduces you, and lists what this server offers."),
    "STARTTLS": ("STARTTLS", "Goes on encrypted, from the beginning."),
    "AUTH": ("AUTH mechanism [initial response]", "Proves who you are. EHLO lists the mechanisms."),
    "XCLIENT": ("XCLIENT attribute=value ...", "Says for whom you speak. EHLO lists the attributes."),
    "MAIL": (
        "MAIL FROM:<sender> [SIZE=octets] [BODY=7BIT|8BITMIME] [SMTPUTF8] [RET=FULL|HDRS] [ENVID=id]",
        "Begins a transaction. <> is the null reverse-path: nobody is told of a failure.",
    ),
    "RCPT": (
        "RCPT TO:<recipient> [NOTIFY=NEVER|SUCCESS,FAILURE,DELAY] [ORCPT=type;address]",
        "Names a recipient. May be said many times.",
    ),
    "DATA": ("DATA", "Sends the content. A line with a single dot ends it."),
    "BDAT": ("BDAT octets [LAST]", "Sends content in chunks of announced sizes. The reply comes behind each chunk."),
    "RSET": ("RSET", "Forgets the transaction."),
    "NOOP": ("NOOP", "Does nothing."),
    "VRFY": ("VRFY address", "Tells whether an address exists to those who may know, and is polite to others."),
    "EXPN": ("EXPN address", "Lists who stands behind an address."),
    "ETRN": ("ETRN domain", "Tries now what waits for a domain."),
    "HELP": ("HELP [command]", "Lists the commands, or explains one."),
    "QUIT": ("QUIT", "Ends the session."),
}

_EXPLAINED: Final = {name: Reply.of(214, "2.0.0", *lines) for name, lines in COMMANDS.items()}
_NOTHING_KNOWN: Final = Reply.of(504, "5.5.4", "There is no help on that")


def explain(topic: str, commands: tuple[str, ...]) -> Reply:
    """The answer to `HELP topic` where there are these commands; `topic` is in upper case, or "" for the list."""
    if not topic:
        return _overview(commands)
    return _EXPLAINED[topic] if topic in commands and topic in _EXPLAINED else _NOTHING_KNOWN


@lru_cache(maxsize=100)
def _overview(commands: tuple[str, ...]) -> Reply:
    listed = [name for name in COMMANDS if name in commands]
    return Reply.of(214, "2.0.0", "Commands:", "  " + " ".join(listed), "HELP and a command explains it.")
