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

from relay.delivery.settlement import TOO_LATE
from relay.delivery.telling import Tiding
from relay.interfaces import Claim, Enrol, IChain, IClock, ISpool
from relay.mail.address import Address
from relay.mail.decision import Accepted, Placement, Refused
from relay.mail.dsn import Return, decoded
from relay.mail.envelope import OURSELVES, Body, Envelope, Form
from relay.mail.header import field_body, section
from relay.mail.notice import Action, Notice, Quoted, Told, compose
from relay.mail.queue import Entry, recipients
from relay.mail.routing import Discard, Inquiry
from relay.smtp.octets import plain

#: What is quoted of a header section.
_HEADER = 64 * 1024
_AUTOMATIC = "the message was an automatic reply"


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
    #: Why it does not tell of everything that it might have told of, or "".
    silent: str = ""

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
    """Writes notices about what became of recipients."""

    hostname: str
    chain: IChain
    clock: IClock
    #: Messages up to this size are returned whole where the sender asks for that (RET=FULL; RFC 3461 section 6.2 lets
    #: us choose it). To one whose address was forged a notice is spam: so it is small.
    whole: int = 64 * 1024
    log: Logger = field(factory=lambda: Logger(namespace="relay.delivery"))

    async def about(self, claim: Claim, tidings: Sequence[Tiding]) -> News:
        """One notice for all of these, or why there is none."""
        envelope = claim.entry.envelope
        sender = envelope.reverse_path
        if sender is None:
            return NotDue("null reverse-path")
        header, quoted = self._quote(claim, whole=_asks_for_all(envelope, tidings))
        silent = ""
        # RFC 3834 section 2: an answer that a program gave by itself is never answered by another, unless it says that
        # it wants to hear. What is only `auto-generated` (a report, a newsletter) has a sender who does (RFC 5321
        # section 6.1).
        if (field_body(header, b"auto-submitted") or b"").lower().startswith(b"auto-replied"):
            asked = [one for one in tidings if one.pending.recipient.wishes.notify is not None]
            if not asked:
                return NotDue(_AUTOMATIC)
            silent, tidings = _AUTOMATIC if len(asked) < len(tidings) else "", asked
        decision = await self.chain.route(Inquiry(sender, sender, None, OURSELVES))
        match decision:
            case Refused(reply) if reply.temporary:
                return NotNow(f"the way to the sender is not known now: {reply}")
            case Refused(reply):
                return NotDue(f"the sender's address is refused: {reply}")
            case Accepted(placements):
                if all(isinstance(placement.route, Discard) for placement in placements):
                    return NotDue("mail for the sender's address is discarded")
                notice = self._notice(claim, sender, tidings, quoted, header)
                ours = Envelope(
                    None,
                    Body.EIGHT_BIT if notice.smtputf8 else Body.SEVEN_BIT,
                    notice.smtputf8,
                    OURSELVES,
                    # It tells of the message: it is to be guarded like it (RFC 8689 section 5), and is as urgent
                    # (RFC 6710 section 4.6).
                    require_tls=envelope.require_tls,
                    priority=envelope.priority,
                )
                return Letter(compose(notice), ours, placements, silent)

    def _notice(
        self,
        claim: Claim,
        sender: Address,
        tidings: Sequence[Tiding],
        quoted: Quoted,
        header: bytes,
    ) -> Notice:
        entry, now = claim.entry, self.clock.calendar()
        by = entry.envelope.deliver_by
        return Notice(
            hostname=self.hostname,
            to=sender,
            told=tuple(_told(tiding, now) for tiding in tidings),
            quoted=quoted,
            about=entry.id,
            arrived=entry.arrived,
            when=now,
            id=_notice_id(tidings[0]),
            in_reply_to=(field_body(header, b"message-id") or b"").decode("ascii", "replace"),
            envelope_id=decoded(entry.envelope.envid),
            deliver_by=None if by is None else by.until,
            release=entry.envelope.release,
            hold_for=entry.envelope.hold_for,
        )

    def _quote(self, claim: Claim, *, whole: bool) -> tuple[bytes, Quoted]:
        """The header section, and what is returned of the message; what the spool cannot read is left out."""
        content, head = claim.content, claim.entry.head
        whole = whole and content.size <= self.whole
        # A message that came without a header section has ours for all of it, and the content is text.
        header = head[:-2] if head.endswith(b"\r\n\r\n") else b""
        if header and not whole:
            return header, Quoted(header)
        try:
            blocks = content.blocks()
            octets = plain(blocks) if content.form is Form.WIRE else blocks
            if whole:
                message = b"".join(octets)
                return header or head + section([message], _HEADER), Quoted(head + message, whole=True)
            header = head + section(octets, _HEADER)
        except OSError:
            self.log.failure("The content of {id} cannot be quoted", id=claim.entry.id)
            header = header or head
        return header, Quoted(header)


def _asks_for_all(envelope: Envelope, tidings: Sequence[Tiding]) -> bool:
    """RFC 3461 section 6.2: only a failure returns the message; and never one that must not travel in clear."""
    fails = any(tiding.action is Action.FAILED for tiding in tidings)
    return fails and envelope.returns is Return.FULL and not envelope.require_tls


def _told(tiding: Tiding, now: float) -> Told:
    recipient = tiding.pending.recipient
    kind, _, address = recipient.wishes.orcpt.partition(";")
    return Told(
        recipient.original,
        tiding.action,
        tiding.status,
        tiding.because,
        tiding.diagnostic,
        tiding.peer,
        last_attempt=None if tiding.action is Action.EXPANDED or tiding.status == TOO_LATE else now,
        will_retry_until=tiding.until,
        original=f"{kind};{decoded(address)}" if address else "",
    )


def _notice_id(first: Tiding) -> str:
    """
    A recipient fails or arrives once, and is told to be late once after so many attempts: so this is unique; and if a
    duplicate is ever sent, it can be told as one.
    """
    id = first.pending.recipient.id
    if first.action is Action.DELAYED:
        return f"delay.{first.pending.attempts}.{id}"
    return f"notice.{id}"
