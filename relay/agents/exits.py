"""
What the end of a program means, as one table: the exit statuses of sysexits.h, by what each says there.

A program fails a message only by saying something about the message or its recipient. All other statuses, the many
that nobody has thought of among them, speak of the program or of this machine: the mail waits, and the operator has
time. (Postfix fails mail for most of them.)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from attrs import frozen

from relay.agents.parcels import Fate


@frozen
class Meaning:
    fate: Fate
    #: What sysexits.h says: for the log, and for the sender where mail fails.
    text: str
    #: RFC 3463, where mail fails.
    status: str = ""

    @property
    def because(self) -> str:
        """What the sender is told, which names no program."""
        if self.fate is Fate.FAILED:
            return f"the program that takes mail for this address has refused it: {self.text}"
        return "the program that takes mail for this address cannot take it now"


EXITS: Final[Mapping[int, Meaning]] = {
    os.EX_OK: Meaning(Fate.DELIVERED, "it has taken the message"),
    # The command line is the operator's, and so is the configuration.
    os.EX_USAGE: Meaning(Fate.LATER, "it was called wrongly"),
    os.EX_DATAERR: Meaning(Fate.FAILED, "something is wrong with the message", "5.6.0"),
    os.EX_NOINPUT: Meaning(Fate.LATER, "a file that it reads is not there"),
    os.EX_NOUSER: Meaning(Fate.FAILED, "there is no such user", "5.1.1"),
    os.EX_NOHOST: Meaning(Fate.FAILED, "there is no such host", "5.1.2"),
    # "A support program or file does not exist", and what else does not work.
    os.EX_UNAVAILABLE: Meaning(Fate.LATER, "a service is unavailable"),
    os.EX_SOFTWARE: Meaning(Fate.LATER, "it has a fault"),
    os.EX_OSERR: Meaning(Fate.LATER, "the operating system did not let it"),
    os.EX_OSFILE: Meaning(Fate.LATER, "something is wrong with a system file"),
    os.EX_CANTCREAT: Meaning(Fate.LATER, "it cannot create a file"),
    os.EX_IOERR: Meaning(Fate.LATER, "an input or output error"),
    os.EX_TEMPFAIL: Meaning(Fate.LATER, "it asks to be tried again"),
    os.EX_PROTOCOL: Meaning(Fate.LATER, "a remote system does not keep to the protocol"),
    # Not of files, says sysexits.h, but of "higher level permissions": somebody may not send this.
    os.EX_NOPERM: Meaning(Fate.FAILED, "it is not permitted", "5.7.1"),
    os.EX_CONFIG: Meaning(Fate.LATER, "it is configured wrongly"),
}

#: An exception in a program of Python is 1, a program that cannot be run is 126 or 127 for those that try.
OTHER: Final = Meaning(Fate.LATER, "which says nothing about the message")


def meaning(status: int) -> Meaning:
    return EXITS.get(status, OTHER)
