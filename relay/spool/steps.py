"""What every spool does with a commit's steps, whatever it keeps them in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from relay.interfaces import Claim, Enrol, GiveBack, IContent, Postpone, Renew, Settle, Step
from relay.mail.queue import Entry, Pending, Recipient
from relay.mail.routing import Discard, Hold


def check(steps: Sequence[Step]) -> None:
    """Raise `ValueError` for steps that mean nothing; whoever made them is at fault, and nothing has happened."""
    for step in steps:
        check_step(step)


def check_step(step: Step) -> None:
    """`check`, for one."""
    match step:
        case Settle():
            _check_claimed(step.claim, [recipient for recipient, _ in step.outcomes])
        case Enrol():
            check_enrolment(step)
        case Postpone():
            _check_claimed(step.claim, [recipient for recipient, _, _ in step.delays])
        case GiveBack():
            _check_claimed(step.claim, step.recipients)
        case Renew():
            pass


def may_be_carried(recipient: Recipient) -> bool:
    """All but held ones, which wait for the operator."""
    return type(recipient.route) is not Hold


def due_at(entry: Entry, now: float) -> float:
    """When a new entry's recipients are due: now, or when it may be released (RFC 4865)."""
    release = entry.envelope.release
    return now if release is None or release <= now else release


def claims_of(
    enrol: Enrol, content: IContent, due: float, expires: float, token: Callable[[], int]
) -> tuple[Claim, ...]:
    """
    What an `Enrol` with a lease hands over at once, if it is due: one claim for each destination, in order of
    appearance.
    """
    entry = enrol.entry
    by_destination: dict[str, list[Pending]] = {}
    for recipient in enrol.recipients:
        if may_be_carried(recipient):
            by_destination.setdefault(recipient.destination, []).append(Pending(recipient, due=due))
    alone = len(by_destination) == 1
    return tuple(Claim(token(), expires, entry, tuple(pending), content, alone) for pending in by_destination.values())


def tokens_of(claims: Iterable[Claim]) -> Mapping[str, int]:
    """The token of each recipient that is claimed."""
    return {pending.recipient.id: claim.token for claim in claims for pending in claim.pending}


def check_enrolment(enrol: Enrol) -> None:
    """`check`, for one of these."""
    id, recipients = enrol.entry.id, enrol.recipients
    if enrol.draft.id != id:
        raise ValueError(f"the draft {enrol.draft.id} is not the content of {id}")
    for recipient in recipients:
        if type(recipient.route) is Discard:
            raise ValueError(f"{recipient.id} is discarded, so there is nothing to keep")
    if len(recipients) != 1:
        if not recipients:
            raise ValueError(f"{id} has no recipient, so nothing would ever become of it")
        if len({recipient.id for recipient in recipients}) < len(recipients):
            raise ValueError(f"two recipients of {id} have one identity")


def _check_claimed(claim: Claim, recipients: Sequence[Recipient]) -> None:
    claimed = {pending.recipient.id for pending in claim.pending}
    for recipient in recipients:
        if recipient.id not in claimed:
            raise ValueError(f"{recipient.id} is not in the claim on {claim.entry.id}")
