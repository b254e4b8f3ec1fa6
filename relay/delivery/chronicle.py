"""What the mail log is told about deliveries: enough to tell each message's whole life after the 250."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from relay.delivery.classes import kind_of_status
from relay.delivery.settlement import Settlement
from relay.delivery.trouble import Judgement
from relay.interfaces import Claim, Enrol, ITakesRows
from relay.mail.address import Address
from relay.mail.event import DELIVERED, RELAYED
from relay.mail.outcome import Delayed, Delivered, Failed, Relayed
from relay.mail.queue import EXPANSION, Entry, Pending, Recipient


@frozen
class Chronicle:
    """The dispatcher's events. `age` and `again_in` are seconds."""

    log: ITakesRows

    def attempted(self, claim: Claim, settlement: Settlement, judgements: Mapping[str, Judgement], now: float) -> None:
        """An event for each recipient with an outcome: `delivered`, `relayed`, `delayed`, `failed`."""
        entry = claim.entry
        for pending, done in settlement.carried:
            if done.by != EXPANSION.agent:
                self.carried(entry, pending, done, now)
            # else nothing was carried; that its sender is told is an event of its own
        for pending, due, delayed in settlement.delayed:
            trouble = _trouble(delayed, judgements.get(pending.recipient.id))
            again_in = round(due - now)
            attempts = pending.attempts + 1
            age = _age(entry, now)
            self.log.event("delayed", **_of(entry, pending), **trouble, attempts=attempts, age=age, again_in=again_in)
        for pending, failed in settlement.failed:
            trouble = _trouble(failed, judgements.get(pending.recipient.id))
            self.log.event(
                "failed", **_of(entry, pending), **trouble, attempts=pending.attempts + 1, age=_age(entry, now)
            )

    def carried(self, entry: Entry, pending: Pending, done: Delivered | Relayed, now: float) -> None:
        """That of one recipient who is done with: `delivered`, `relayed`."""
        recipient = pending.recipient
        address, original = recipient.address, recipient.original
        self.log.row(
            DELIVERED if type(done) is Delivered else RELAYED,
            (
                entry.id,
                address,
                recipient.destination,
                None if original is address else _named(recipient),
                done.by,
                done.text,
                done.tls,
                pending.attempts + 1,
                round((now - entry.arrived) * 10) / 10,
            ),
        )

    def noticed(self, claim: Claim, notice: Enrol) -> None:
        """The sender will be told: the notice is in the spool, under an id of its own."""
        recipients = [recipient.address for recipient in notice.recipients]
        self.log.event("noticed", id=claim.entry.id, notice=notice.entry.id, recipient=recipients[0])

    def no_notice(self, claim: Claim, because: str) -> None:
        """The recorded reason of law L2."""
        self.log.event("unnoticed", id=claim.entry.id, because=because)

    def not_asked_for(self, claim: Claim, pending: Pending) -> None:
        """The same where the sender did not want to hear of it."""
        because = "the sender has not asked for it (NOTIFY)"
        self.log.event("unnoticed", id=claim.entry.id, recipient=pending.recipient.address, because=because)

    def notice_waits(self, claim: Claim, because: str) -> None:
        """Recipients are done with, and stay in the queue until their sender can be told."""
        self.log.event("notice_delayed", id=claim.entry.id, because=because)

    def lost(self, claim: Claim, judgements: Mapping[str, Judgement]) -> None:
        """Another holder has these recipients. What we carried nevertheless, it may carry again."""
        for pending in claim.pending:
            judgement = judgements.get(pending.recipient.id)
            known = type(judgement.outcome).__name__.lower() if judgement else ""
            self.log.event("claim_lost", **_of(claim.entry, pending), outcome=known)


def _age(entry: Entry, now: float) -> float:
    """To a tenth of a second. As an integer it is rounded in a sixth of the time that `round` takes for a digit."""
    return round((now - entry.arrived) * 10) / 10


def _of(entry: Entry, pending: Pending) -> dict[str, object]:
    recipient = pending.recipient
    return {
        "id": entry.id,
        "recipient": recipient.address,
        "destination": recipient.destination,
        "original": _named(recipient),
    }


def _named(recipient: Recipient) -> Address | None:
    """What the client has named, if that is another address."""
    address, original = recipient.address, recipient.original
    return None if original is address or original == address else original


def _trouble(outcome: Delayed | Failed, judgement: Judgement | None) -> dict[str, object]:
    kind = judgement and judgement.kind
    return {
        "peer": outcome.peer,
        "status": outcome.status,
        "class": (kind or kind_of_status(outcome.status)).value,
        "because": outcome.because,
        "diagnostic": outcome.diagnostic,
        "note": judgement.note if judgement else "",
        "about": judgement.about.value if judgement else "",
        "perhaps_taken": "yes" if judgement is not None and judgement.perhaps_taken else "",
    }
