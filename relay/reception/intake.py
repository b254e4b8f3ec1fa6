"""Content on its way into the spool."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Sequence
from typing import Any

from relay.interfaces import Enrol, IDraft, IScreening, SpoolError
from relay.mail.envelope import Form
from relay.mail.queue import Entry, recipients
from relay.mail.reply import Reply
from relay.mail.trace import date, received
from relay.reception.accounts import refuse, refuse_each
from relay.reception.examination import Examination
from relay.reception.inspection import Inspection
from relay.reception.promise import Promise
from relay.reception.reception import Reception
from relay.reception.transaction import Transaction
from relay.reception.weighing import Judged
from relay.smtp import answers
from relay.smtp.events import Answer, Verdicts

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Intake:
    """
    One message's content, from 354 to the answer at its end.

    What goes wrong with the disk while content comes in is kept for that answer, and the rest of the content
    is passed over: the client cannot be told earlier (RFC 5321 section 4.1.1.4).
    """

    # What most messages never have is the class's, and costs nothing to begin with.

    #: What went wrong, if something has.
    fault: Reply | None = None
    #: Where policies have a word about the content.
    examination: Examination | None = None
    #: Nobody will receive it: it is looked at, and nothing of it is kept.
    forgets: bool = False

    def __init__(self, reception: Reception, form: Form) -> None:
        """Begins a draft; raises `SpoolError` where there is no place for one."""
        self._reception = reception
        self.form = form
        self._draft: IDraft = reception.spool.begin(form)
        self._inspection = Inspection(reception.header, reception.needed)

    def show(self, transaction: Transaction, screening: IScreening) -> None:
        """Let policies see the content as it comes in."""
        self.examination = Examination(self._reception, transaction, self._draft, screening)
        self._inspection.keeps = True

    @property
    def id(self) -> str:
        """The queue id that the message has, or will have."""
        return self._draft.id

    @property
    def message_id(self) -> str:
        """The Message-ID that the message has, ours if it gets one from us, or "". Known when all of it is here."""
        if b"message-id" in self._inspection.lacking:
            return f"<{self._draft.id}@{self._reception.hostname}>"
        return self._inspection.message_id

    def take(self, octets: bytes) -> None:
        """A piece of content, in the form with which it began."""
        if self.fault is not None:
            return
        self._inspection.take(octets)
        if self.forgets:
            return
        try:
            self._draft.write(octets)
        except (OSError, SpoolError) as problem:
            self._reception.log.failure("Content could not be written")
            full = isinstance(problem, OSError) and problem.errno in _FULL
            self.fault = answers.NO_ROOM if full else answers.OUR_FAULT
            self._draft.abandon()
            return
        if self.examination is not None:
            self.examination.take(octets)

    def abandon(self) -> None:
        """The client is gone. Nobody says so of what is promised, or about to be."""
        self._draft.abandon()

    def judge(self, fault: Reply | None) -> Reply | None:
        """
        Why this content is refused, or `None`. `fault` is what the dialogue has found.

        A message that is refused at the end of content must never be delivered (RFC 5321 section 4.2.5).
        """
        inspection = self._inspection
        if not inspection.done:
            inspection.end()
        verdict = fault or self.fault or inspection.fault
        if verdict is not None:
            self.fault = verdict
            self._draft.abandon()
        return verdict

    def examined(self, size: int) -> Judged | Awaitable[Judged]:
        """What policies say of it, to whom it was shown. Raises `OSError` where it cannot be read again."""
        assert self.examination is not None, "it was shown to somebody"
        return self.examination.judge(size, self._inspection.section)

    def conclude(self, transaction: Transaction, judged: Judged, size: int) -> Answer | Awaitable[Answer]:
        """What policies have said of the content, carried out: all of it, or nothing."""
        if judged.refused is not None:
            self._draft.abandon()
            if judged.each:
                return Verdicts(self._told(judged, transaction, size, judged.refused.reply), judged.refused.reply)
            return refuse(
                self._reception,
                transaction.envelope.client,
                judged.refused,
                (*transaction.steps, *self._steps),
                sender=transaction.envelope.reverse_path,
                recipients=transaction.named,
                id=self.id,
                message_id=self.message_id,
                size=size,
            )
        try:
            if judged.cut:
                self._draft.replace(judged.cut, judged.instead)
        except OSError:
            self._reception.log.failure("Content could not be changed as policies want it")
            self._draft.abandon()
            return answers.OUR_FAULT
        if judged.section is not None:
            self._inspection.amend(judged.section)
        recipients = judged.each.count(None) if judged.each else transaction.recipients
        kept = transaction.judged(judged.placements, self._steps, recipients)
        return (
            self._promised_to_each(transaction, kept, judged, size) if judged.each else self.promise(kept, size, judged)
        )

    async def _promised_to_each(self, transaction: Transaction, kept: Transaction, judged: Judged, size: int) -> Answer:
        """Some of the recipients take the message, and the client hears which."""
        reply = await self.promised(kept, size, judged)
        return Verdicts(self._told(judged, transaction, size, reply), reply) if reply.positive else reply

    @property
    def _steps(self) -> Sequence[Any]:
        return () if self.examination is None else self.examination.steps

    def _told(self, judged: Judged, transaction: Transaction, size: int, reply: Reply) -> tuple[Reply, ...]:
        """What the client hears of each recipient: who takes the message has this reply."""
        replies = refuse_each(
            self._reception,
            transaction,
            judged.each,
            self._steps,
            id=self.id,
            message_id=self.message_id,
            size=size,
        )
        return tuple(each or reply for each in replies)

    def promise(self, transaction: Transaction, size: int, judged: Judged | None = None) -> Reply | Promise:
        """Keep the message, and answer 250; or 451 if it is certain that it was not kept."""
        reception, draft = self._reception, self._draft
        id, inspection = draft.id, self._inspection
        kept = recipients(id, transaction.placements)
        message_id = self.message_id if inspection.lacking else inspection.message_id
        promise = Promise(reception, transaction, id, message_id, kept, size, judged)
        if not kept:
            draft.abandon()
            return promise.accepted()
        clock, envelope = reception.clock, transaction.envelope
        only = kept[0].original if transaction.recipients == 1 else None
        head = received(transaction.came, id, clock.calendar(), only, envelope.smtputf8)
        if inspection.lacking or inspection.headless or (judged is not None and judged.added):
            head += self._more(judged)
        entry = Entry(id, clock.now(), envelope, head)
        lease = reception.dispatch.lease(envelope, kept)
        return promise.enrol(Enrol(entry, draft, kept, lease, size if judged is None or not judged.cut else None))

    async def promised(self, transaction: Transaction, size: int, judged: Judged | None = None) -> Reply:
        """`promise`, for whoever waits already."""
        reply = self.promise(transaction, size, judged)
        return reply if isinstance(reply, Reply) else await reply

    def _more(self, judged: Judged | None) -> bytes:
        """What stands under our `Received`, on top of the content."""
        more = self._missing(self._reception) if self._inspection.lacking else b""
        if judged is not None:
            more += judged.added
        if self._inspection.headless:
            # Our fields are then the header section, and this is its end (RFC 5322 section 2.1).
            more += b"\r\n"
        return more

    def _missing(self, reception: Reception) -> bytes:
        """What a message has to have and this one lacks (RFC 6409 sections 8.2 and 8.3); the rest is its author's."""
        fields = {
            b"date": f"Date: {date(reception.clock.calendar())}\r\n",
            b"message-id": f"Message-ID: {self.message_id}\r\n",
        }
        return "".join(fields[name] for name in self._inspection.lacking).encode("ascii")
