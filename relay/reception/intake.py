"""Content on its way into the spool, and the promise at its end (law L1: no 250 before the commit has returned)."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from relay.interfaces import Claim, Enrol, IDraft, IScreening, OutcomeUnknown, SpoolError
from relay.mail.decision import Placement
from relay.mail.envelope import Form
from relay.mail.event import ACCEPTED, DISCARDED, HELD
from relay.mail.queue import Entry, Recipient, recipients
from relay.mail.reply import Reply
from relay.mail.routing import Discard, Hold
from relay.mail.trace import date, received
from relay.net.waiting import start
from relay.reception.accounts import decided, refuse, refuse_each
from relay.reception.examination import Examination
from relay.reception.inspection import Inspection
from relay.reception.reception import Reception
from relay.reception.transaction import Transaction
from relay.reception.weighing import Judged
from relay.smtp import answers
from relay.smtp.events import Answer, Verdicts

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
#: What the mail log says of copies that nobody will carry now; of all others it will have more to say.
_ENDS: Final = {Discard: DISCARDED, Hold: HELD}
#: How many recipients the line of an accepted message names.
_SHOWN: Final = 20


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

    def promise(self, transaction: Transaction, size: int, judged: Judged | None = None) -> Reply | Deferred[Reply]:
        """Keep the message, and answer 250; or 451 if it is certain that it was not kept."""
        reception, draft = self._reception, self._draft
        id = draft.id
        kept = recipients(id, transaction.placements)
        if not kept:
            draft.abandon()
            return self._accepted(transaction, size, judged)
        clock, envelope = reception.clock, transaction.envelope
        only = kept[0].original if transaction.recipients == 1 else None
        head = received(transaction.came, id, clock.calendar(), only, envelope.smtputf8)
        inspection = self._inspection
        if inspection.lacking or inspection.headless or (judged is not None and judged.added):
            head += self._more(judged)
        entry = Entry(id, clock.now(), envelope, head)
        lease = reception.dispatch.lease(envelope, kept)
        enrol = Enrol(entry, draft, kept, lease, size if judged is None or not judged.cut else None)
        reception.turnstile.enter()
        # Claims, or a `Deferred` that has them.
        claims: Any
        try:
            claims = start(reception.spool.commit((enrol,)))
        except Exception:
            said = self._not_kept(Failure())
            if isinstance(said, Failure):
                said.raiseException()
            return said
        # To ask whether something is a `Deferred` is slow.
        if type(claims) is tuple:
            return self._kept(claims, kept, transaction, size, judged)
        waiting: Deferred[Reply] = claims.addCallbacks(self._kept, self._not_kept, (kept, transaction, size, judged))
        return waiting

    async def promised(self, transaction: Transaction, size: int, judged: Judged | None = None) -> Reply:
        """`promise`, for whoever waits already."""
        reply = self.promise(transaction, size, judged)
        return await reply if isinstance(reply, Deferred) else reply

    def _kept(
        self,
        claims: Sequence[Claim],
        kept: Sequence[Recipient],
        transaction: Transaction,
        size: int,
        judged: Judged | None,
    ) -> Reply:
        reception = self._reception
        reception.turnstile.leave()
        reply = self._accepted(transaction, size, judged)
        reception.dispatch.accept(claims, () if claims else kept)
        return reply

    def _not_kept(self, failure: Failure) -> Reply | Failure:
        """The reply, or the failure where nobody can say what has become of the message."""
        reception = self._reception
        reception.turnstile.leave()
        if failure.check(OutcomeUnknown):
            # If it was kept, it will be due when the lease ends that it was kept with: somebody has to look then.
            reception.dispatch.accept(())
        elif failure.check(SpoolError):
            reception.log.failure("A message was not kept, the client is told 451", failure)
            return answers.OUR_FAULT
        return failure

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

    def _accepted(self, transaction: Transaction, size: int, judged: Judged | None) -> Reply:
        """The reply, once it is true; the mail log and the history are told."""
        reception, id = self._reception, self._draft.id
        placements, envelope = transaction.placements, transaction.envelope
        client = envelope.client
        # As it is nearly always.
        only = placements[0] if len(placements) == 1 else None
        reception.maillog.row(
            ACCEPTED,
            (
                id,
                envelope.reverse_path or "<>",
                transaction.recipients,
                _named(placements) if only is None else only.original.text,
                size,
                self.message_id if self._inspection.lacking else self._inspection.message_id,
                client.address,
                client.helo,
                client.listener,
                client.user,
                None if client.tls is None else client.tls.protocol,
                "" if judged is None else ", ".join(judged.editors),
            ),
        )
        if only is None:
            for placement in placements:
                self._tell_of_end(placement)
        elif type(only.route) in _ENDS:
            self._tell_of_end(only)
        reply = Reply(250, "2.0.0", (f"Ok: queued as {id}",))
        if reception.history is not None:
            reception.history.decided(decided(transaction, reply, only), id)
        return reply

    def _tell_of_end(self, placement: Placement) -> None:
        """If nobody will carry this copy now, the mail log hears of it at once."""
        shape = _ENDS.get(type(placement.route))
        if shape is not None:
            address, original = placement.address, placement.original
            other = None if original is address or original == address else original
            self._reception.maillog.row(shape, (self._draft.id, address, other, placement.policy, placement.because))


def _named(placements: Iterable[Placement]) -> str:
    """The recipients as the client named them, as far as one line should show them."""
    named = list(dict.fromkeys(placement.original.text for placement in placements))
    more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    return ", ".join(named[:_SHOWN]) + more
