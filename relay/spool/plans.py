"""What a commit's steps mean for the database and for content files. In the reactor's thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

from twisted.internet.defer import Deferred

from relay.interfaces import Claim, Enrol, GiveBack, IClock, Postpone, Renew, Settle, SpoolError, Step
from relay.mail.queue import Pending
from relay.mail.routing import Hold
from relay.spool.batches import Waiting
from relay.spool.codec import Encoder, Row
from relay.spool.contents import Draft, FileContent
from relay.spool.steps import check_enrolment, check_step, claims_of, due_at, may_be_carried, tokens_of
from relay.spool.strokes import KEEP_ENTRY, KEEP_RECIPIENT, SETTLE, Stroke, give_back, postpone, renew
from relay.spool.writer import Commit


class Plan(Waiting):
    """
    A commit on its way to the writer, and whoever waits for it.

    `remove` is called with the name of each file that is of no use any more.
    """

    request: Commit
    remove: Callable[[str], object]
    #: What the commit returns.
    claims: tuple[Claim, ...] = ()
    #: Those that it has taken over.
    drafts: tuple[Draft, ...] = ()
    #: Their files, as far as they have any.
    syncing: tuple[Deferred[Exception | None], ...] = ()

    def answered(self, result: Exception | Sequence[str]) -> None:
        """It has failed, or happened; then these are files whose entries have gone with it."""
        if result:
            try:
                self._conclude(result)
            except Exception:
                self.errback()
                return
        self.callback(self.claims)

    def _conclude(self, result: Exception | Sequence[str]) -> None:
        if isinstance(result, Exception):
            # An outcome that is unknown leaves the drafts' files: their rows may be there.
            if isinstance(result, SpoolError):
                self.destroy_drafts()
            raise result
        for name in result:
            self.remove(name)

    def cancel(self) -> None:
        if self.batches.withdraw(self):
            self.destroy_drafts()
            Deferred.cancel(self)

    def destroy_drafts(self) -> None:
        for draft in self.drafts:
            draft.destroy()


class Planner:
    """
    Turns steps into strokes. `sync` begins to make a draft's file durable, and has it from then on; `remove` removes
    the file of an entry that is settled.
    """

    def __init__(
        self,
        clock: IClock,
        token: Callable[[], int],
        sync: Callable[[str, int], Deferred[Exception | None]],
        remove: Callable[[str], object],
    ) -> None:
        self._clock = clock
        self._token = token
        self._sync = sync
        self._remove = remove
        self._encoder = Encoder()

    def plan(self, steps: Sequence[Step], plan: Plan) -> None:
        """
        Make the request that has these steps happen. From here on their drafts are the plan's, also if this raises: a
        `ValueError` for steps that mean nothing.
        """
        strokes: list[Stroke] = []
        plan.request = Commit(strokes)
        #: Settlements that follow each other are carried out together.
        settled: list[Row] | None = None
        for step in steps:
            match step:
                case Settle():
                    if settled is None:
                        settled = []
                        strokes.append((SETTLE, settled))
                    self._settle(step, plan, settled)
                    continue
                case Enrol():
                    self._enrol(step, plan, strokes)
                case Postpone():
                    check_step(step)
                    strokes.append(postpone(step, self._encoder))
                case GiveBack():
                    check_step(step)
                    strokes.append(give_back(step))
                case Renew():
                    strokes.append(renew(step, self._clock.now() + step.lease))
                case _:
                    assert_never(step)
            settled = None

    def _settle(self, step: Settle, plan: Plan, rows: list[Row]) -> None:
        claim, outcomes = step.claim, step.outcomes
        if len(outcomes) == 1 and (recipient := outcomes[0][0]) is claim.pending[0].recipient:
            # As it nearly always is: of what is claimed, surely.
            rows.append((claim.entry.id, recipient.id, claim.token))
        else:
            check_step(step)
            rows.extend([(claim.entry.id, recipient.id, claim.token) for recipient, _ in outcomes])
        content = claim.content
        if type(content) is FileContent:
            plan.remove = self._remove
            plan.request.in_files += (content.path.name,)

    def _enrol(self, step: Enrol, plan: Plan, strokes: list[Stroke]) -> None:
        check_enrolment(step)
        draft, entry, recipients = step.draft, step.entry, step.recipients
        if not isinstance(draft, Draft):
            raise ValueError(f"the draft {draft.id} was not begun here")
        content, length, octets, file = draft.keep()
        plan.drafts += (draft,)
        if file is not None:
            plan.syncing += (self._sync(draft.id, file),)
        encoder, now = self._encoder, self._clock.now()
        due = now if entry.envelope.release is None else due_at(entry, now)
        rows: Sequence[Row]
        if step.lease is None or due > now:
            rows = self._rows(step, due, due, {})
        elif len(recipients) == 1 and type((one := recipients[0]).route) is not Hold:
            # As it nearly always is, and as the general way has it.
            expires, token = now + step.lease, self._token()
            plan.claims += (Claim(token, expires, entry, (Pending(one, 0, now),), content),)
            rows = (encoder.recipient(entry.id, one, expires, now, token),)
        else:
            expires = now + step.lease
            claims = claims_of(step, content, now, expires, self._token)
            plan.claims += claims
            rows = self._rows(step, expires, due, tokens_of(claims))
        strokes.append((KEEP_ENTRY, (encoder.entry(entry, content.form, content.size, length, octets),)))
        strokes.append((KEEP_RECIPIENT, rows))

    def _rows(self, step: Enrol, wake: float, due: float, tokens: Mapping[str, int]) -> list[Row]:
        encode, id = self._encoder.recipient, step.entry.id
        return [
            encode(id, recipient, wake if may_be_carried(recipient) else None, due, tokens.get(recipient.id, 0))
            for recipient in step.recipients
        ]
