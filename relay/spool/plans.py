"""What a commit's steps mean for the database and for content files. In the reactor's thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

from twisted.internet.defer import Deferred

from relay.interfaces import Claim, Enrol, GiveBack, IClock, Postpone, Renew, Settle, Step
from relay.spool.codec import Encoder, Row
from relay.spool.contents import Draft, FileContent
from relay.spool.steps import claims_of, due_at, may_be_carried, tokens_of
from relay.spool.strokes import KEEP_ENTRY, KEEP_RECIPIENT, SETTLE, Stroke, give_back, postpone, renew


class Plan:
    """A commit on its way to the writer."""

    __slots__ = ("claims", "drafts", "in_files", "strokes", "syncing")

    def __init__(self) -> None:
        self.strokes: list[Stroke] = []
        #: What the commit returns.
        self.claims: tuple[Claim, ...] = ()
        #: Those that it has taken over.
        self.drafts: list[Draft] = []
        #: Their files, as far as they have any.
        self.syncing: list[Deferred[Exception | None]] = []
        #: Settled entries whose content is in a file.
        self.in_files: list[str] = []

    def destroy_drafts(self) -> None:
        for draft in self.drafts:
            draft.destroy()


class Planner:
    """Turns steps into strokes. `sync` begins to make a draft's file durable, and has it from then on."""

    def __init__(
        self, clock: IClock, token: Callable[[], int], sync: Callable[[str, int], Deferred[Exception | None]]
    ) -> None:
        self._clock = clock
        self._token = token
        self._sync = sync
        self._encoder = Encoder()

    def plan(self, steps: Sequence[Step], plan: Plan) -> None:
        """Add what these steps mean. From here on their drafts are the plan's, also if this raises."""
        now = self._clock.now()
        strokes = plan.strokes
        #: Settlements that follow each other are carried out together.
        settled: list[Row] | None = None
        for step in steps:
            match step:
                case Settle():
                    if settled is None:
                        settled = []
                        strokes.append((SETTLE, settled))
                    _settle(step, plan, settled)
                    continue
                case Enrol():
                    self._enrol(step, now, plan)
                case Postpone():
                    strokes.append(postpone(step, self._encoder))
                case GiveBack():
                    strokes.append(give_back(step))
                case Renew():
                    strokes.append(renew(step, now + step.lease))
                case _:
                    assert_never(step)
            settled = None

    def _enrol(self, step: Enrol, now: float, plan: Plan) -> None:
        draft, entry, recipients = step.draft, step.entry, step.recipients
        if not isinstance(draft, Draft):
            raise ValueError(f"the draft {draft.id} was not begun here")
        content, length, octets, file = draft.keep()
        plan.drafts.append(draft)
        if file is not None:
            plan.syncing.append(self._sync(draft.id, file))
        wake = due = now if entry.envelope.release is None else due_at(entry, now)
        claims: tuple[Claim, ...] = ()
        if step.lease is not None and due <= now:
            wake = now + step.lease
            claims = claims_of(step, content, now, wake, self._token)
            plan.claims += claims
        rows: Sequence[Row]
        if len(recipients) == 1 and claims:
            rows = (self._encoder.recipient(entry.id, recipients[0], wake, due, claims[0].token),)
        else:
            rows = self._rows(step, wake, due, tokens_of(claims))
        row = self._encoder.entry(entry, content.form, content.size, length, octets)
        plan.strokes.append((KEEP_ENTRY, (row,)))
        plan.strokes.append((KEEP_RECIPIENT, rows))

    def _rows(self, step: Enrol, wake: float, due: float, tokens: Mapping[str, int]) -> list[Row]:
        encode, id = self._encoder.recipient, step.entry.id
        return [
            encode(id, recipient, wake if may_be_carried(recipient) else None, due, tokens.get(recipient.id, 0))
            for recipient in step.recipients
        ]


def _settle(step: Settle, plan: Plan, rows: list[Row]) -> None:
    claim = step.claim
    id, token, content = claim.entry.id, claim.token, claim.content
    for recipient, _ in step.outcomes:
        rows.append((id, recipient.id, token))
    if type(content) is FileContent:
        plan.in_files.append(content.path.name)
