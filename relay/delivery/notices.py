"""
Telling the sender: whether a notice is due, where it goes, and how it becomes part of a commit (law L2).

A notice is mail like any other: policies say where it goes, the spool keeps it, and it may be delayed and fail, of
which nobody is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from attrs import field, frozen
from twisted.logger import Logger

from relay.interfaces import Claim, Enrol, IChain, IClock, ISpool
from relay.mail.address import Address
from relay.mail.decision import Accepted, Placement, Refused
from relay.mail.envelope import OURSELVES, Body, Envelope, Form
from relay.mail.header import field_body, section
from relay.mail.notice import Action, Notice, Quoted, Told, compose
from relay.mail.outcome import Failed
from relay.mail.queue import Entry, Pending, recipients
from relay.mail.routing import Discard, Inquiry
from relay.smtp.octets import plain

#: What is quoted of a header section.
_HEADER = 64 * 1024


@frozen
class NotDue:
    """Nobody is told, and this is the recorded reason."""

    because: str


@frozen
class NotNow:
    """Somebody is to be told, but at the moment nobody can say where the notice goes."""

    because: str


@frozen
class Letter:
    """A notice, ready to be kept."""

    octets: bytes
    envelope: Envelope
    placements: tuple[Placement, ...]

    def enrol(self, spool: ISpool, now: float, lease: float | None) -> Enrol:
        """
        The step that keeps it, with a draft of its own. Raises `OSError` or `SpoolError` where there is no
        place. May be called again after a commit that failed; what becomes of that one's draft is the spool's business.
        """
        draft = spool.begin(Form.PLAIN)
        try:
            draft.write(self.octets)
        except BaseException:
            draft.abandon()
            raise
        kept = recipients(draft.id, self.placements)
        return Enrol(Entry(draft.id, now, self.envelope, b""), draft, kept, lease)


News: TypeAlias = Letter | NotDue | NotNow


@frozen
class Notices:
    """Writes notices about recipients that have failed."""

    hostname: str
    chain: IChain
    clock: IClock
    #: Messages up to this size are returned whole. Most senders have their own copy, and to one whose address was
    #: forged a notice is spam: so it is small.
    whole: int = 0
    log: Logger = field(factory=lambda: Logger(namespace="relay.delivery"))

    async def about(self, claim: Claim, failed: Sequence[tuple[Pending, Failed]]) -> News:
        """One notice for all of these, or why there is none."""
        sender = claim.entry.envelope.reverse_path
        if sender is None:
            return NotDue("null reverse-path")
        header, quoted = self._quote(claim)
        # RFC 3834 section 2: an answer that a program gave by itself is never answered by another; what is only
        # `auto-generated` (a report, a newsletter) has a sender who wants to know (RFC 5321 section 6.1).
        if (field_body(header, b"auto-submitted") or b"").lower().startswith(b"auto-replied"):
            return NotDue("the message was an automatic reply")
        decision = await self.chain.route(Inquiry(sender, sender, None, OURSELVES))
        match decision:
            case Refused(reply) if reply.temporary:
                return NotNow(f"the way to the sender is not known now: {reply}")
            case Refused(reply):
                return NotDue(f"the sender's address is refused: {reply}")
            case Accepted(placements):
                if all(isinstance(placement.route, Discard) for placement in placements):
                    return NotDue("mail for the sender's address is discarded")
                notice = self._notice(claim, sender, failed, quoted, header)
                body = Body.EIGHT_BIT if notice.smtputf8 else Body.SEVEN_BIT
                return Letter(compose(notice), Envelope(None, body, notice.smtputf8, OURSELVES), placements)

    def _notice(
        self,
        claim: Claim,
        sender: Address,
        failed: Sequence[tuple[Pending, Failed]],
        quoted: Quoted,
        header: bytes,
    ) -> Notice:
        entry, now = claim.entry, self.clock.calendar()
        told = tuple(
            Told(
                pending.recipient.original,
                Action.FAILED,
                outcome.status,
                outcome.because,
                outcome.diagnostic,
                outcome.peer,
                last_attempt=now,
            )
            for pending, outcome in failed
        )
        return Notice(
            hostname=self.hostname,
            to=sender,
            told=told,
            quoted=quoted,
            about=entry.id,
            arrived=entry.arrived,
            when=now,
            # A recipient fails once, so this is unique; and if a duplicate is ever sent, it can be told as one.
            id=f"notice.{failed[0][0].recipient.id}",
            in_reply_to=(field_body(header, b"message-id") or b"").decode("ascii", "replace"),
        )

    def _quote(self, claim: Claim) -> tuple[bytes, Quoted]:
        """The header section, and what is returned of the message; what the spool cannot read is left out."""
        content, head = claim.content, claim.entry.head
        if head.endswith(b"\r\n\r\n"):
            # The message came without a header section: ours is all of it, and the content is text.
            return head[:-2], Quoted(head[:-2])
        try:
            blocks = content.blocks()
            octets = plain(blocks) if content.form is Form.WIRE else blocks
            if content.size <= self.whole:
                message = b"".join(octets)
                return head + section([message], _HEADER), Quoted(head + message, whole=True)
            header = head + section(octets, _HEADER)
        except OSError:
            self.log.failure("The content of {id} cannot be quoted", id=claim.entry.id)
            header = head
        return header, Quoted(header)
