"""
The agent that puts mail into Maildirs: a file for each message, complete from the moment it can be seen.

https://cr.yp.to/proto/maildir.html says what a Maildir is; `relay.agents.maildir_round` does it, for many copies at
once.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
from collections.abc import Awaitable, Sequence

from zope.interface import implementer

from relay.agents.copies import Copy, carry_copies, mailbox
from relay.agents.maildir_round import MaildirRound
from relay.agents.places import FolderParameters
from relay.agents.rounds import Awaited, Rounds, Travelling
from relay.interfaces import Consignment, IClock, IPassing, ITraveller, IWillingAgent, Report
from relay.mail.outcome import Fact
from relay.mail.queue import Entry
from relay.net.disk import Disk
from relay.net.threads import IThreads

#: `/` ends a name and `:` begins a reader's flags, so neither may stand in what a name is made of.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9._-]")


@implementer(IWillingAgent)
class MaildirAgent:
    """
    Carries `Deliver("maildir", {"folder": ...})`. `folder` is the Maildir's absolute path; it is made if need be.

    The name of a file comes from the queue id, so a message that was written, but whose settlement the
    spool did not live to see, is found again and not written twice.
    """

    Options = FolderParameters

    def __init__(self, clock: IClock, hostname: str, threads: IThreads, disk: Disk | None = None) -> None:
        self._clock = clock
        self._host = _NOT_IN_A_NAME.sub("_", hostname.lower())[:100]
        self._rounds = Rounds(threads, MaildirRound(disk or Disk(), self._name, self._temporary_name))
        #: In a container every process has the same number, and finds what the one before it has left.
        self._life = secrets.token_hex(8)
        self._count = itertools.count(1)

    def carry(self, consignment: Consignment) -> Awaitable[Sequence[Report]]:
        return carry_copies("maildir", consignment, "folder", self._put)

    def set_off(self, consignment: Consignment, traveller: ITraveller) -> IPassing | None:
        recipients = consignment.recipients
        folder = mailbox(recipients[0], "folder")
        if type(folder) is not str:
            return None
        copy = Copy(consignment.entry, recipients, consignment.content, consignment.head, consignment.fresh)
        posting = Travelling("maildir", folder, copy, traveller)
        self._rounds.add(posting)
        posting.under_way = not posting.over
        return posting

    def _put(self, folder: str, copy: Copy) -> Awaitable[Fact]:
        posting = Awaited(folder, copy)
        self._rounds.add(posting)
        return posting.deferred

    def _name(self, entry: Entry) -> str:
        if not _ID.match(entry.id):
            raise ValueError(f"{entry.id!r} cannot be part of a file's name")
        return f"{int(entry.arrived)}.R{entry.id}.{self._host}"

    def _temporary_name(self) -> str:
        """No two attempts write the same file: one that was cancelled may still be at work."""
        return f"{int(self._clock.calendar())}.P{os.getpid()}R{self._life}Q{next(self._count)}.{self._host}"
