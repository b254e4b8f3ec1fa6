"""What a commit's steps mean for the database and for content files. In the reactor's thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import assert_never, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from relay.interfaces import Claim, Enrol, GiveBack, IClock, IContent, Postpone, Renew, Settle, SpoolError, Step
from relay.mail.queue import Pending
from relay.mail.routing import Discard, Hold
from relay.spool.batches import Waiting
from relay.spool.codec import Encoder, Row
from relay.spool.contents import Draft, FileContent
from relay.spool.steps import check_enrolment, check_step, claims_of, due_at, may_be_carried, tokens_of
from relay.spool.strokes import ENROLMENT, SETTLE, Stroke, give_back, postpone, renew
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
    #: What was settled of content in files, by their names.
    in_files: tuple[str, ...] = ()
    #: The files of its drafts, as far as they have any.
    syncing: tuple[Deferred[Exception | None], ...] = ()

    def answered(self, result: Exception | Sequence[str]) -> None:
        """It has failed, or happened; then these are files whose entries have gone with it."""
        if result:
            try:
                self._conclude(result)
            except Exception:
                self.fail(Failure())
                return
        self.give(self.claims)

    def _conclude(self, result: Exception | Sequence[str]) -> None:
        if isinstance(result, Exception):
            # An outcome that is unknown leaves the drafts' files: their rows may be there.
            if isinstance(result, SpoolError):
                self.destroy_drafts()
            raise result
        for name in result:
            self.remove(name)

    def call_off(self) -> bool:
        withdrawn = self.batches.withdraw(self)
        if withdrawn:
            self.destroy_drafts()
        return withdrawn

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
        if len(steps) == 1 and type(only := steps[0]) is Enrol:
            # As most are: a message each, while what has become of many is noted by one.
            plan.request = Commit(ENROLMENT, self._enrol(only, plan))
            return
        strokes: list[Stroke] = []
        for kind, run in groupby(steps, type):
            if kind is Settle:
                # Settlements that follow each other are carried out together.
                strokes.append((SETTLE, self._settle(cast(Iterator[Settle], run), plan)))
            else:
                for step in run:
                    strokes += self._strokes(step, plan)
        statements, rows = zip(*strokes, strict=True)
        plan.request = Commit(statements, rows, plan.in_files)

    def _strokes(self, step: Step, plan: Plan) -> Iterable[Stroke]:
        match step:
            case Settle():
                return ((SETTLE, self._settle((step,), plan)),)
            case Enrol():
                return zip(ENROLMENT, self._enrol(step, plan), strict=True)
            case Postpone():
                check_step(step)
                return (postpone(step, self._encoder),)
            case GiveBack():
                check_step(step)
                return (give_back(step),)
            case Renew():
                return (renew(step, self._clock.now() + step.lease),)
            case _:
                assert_never(step)

    def _settle(self, steps: Iterable[Settle], plan: Plan) -> list[Row]:
        rows: list[Row] = []
        for step in steps:
            claim, outcomes = step.claim, step.outcomes
            if len(outcomes) == 1 and (recipient := outcomes[0][0]) is claim.pending[0].recipient:
                # As it nearly always is: of what is claimed, surely.
                rows.append((claim.entry.id, recipient.id, claim.token))
            else:
                check_step(step)
                rows.extend([(claim.entry.id, recipient.id, claim.token) for recipient, _ in outcomes])
            if type(claim.content) is FileContent:
                plan.remove = self._remove
                plan.in_files += (claim.content.path.name,)
        return rows

    def _enrol(self, step: Enrol, plan: Plan) -> tuple[Sequence[Row], Sequence[Row]]:
        """The rows of an `ENROLMENT`."""
        draft, entry, recipients, lease = step.draft, step.entry, step.recipients, step.lease
        # How its only recipient goes, as nearly always there is but one.
        kind = type(recipients[0].route) if len(recipients) == 1 else None
        if kind is None or kind is Discard or draft.id != entry.id:
            check_enrolment(step)
        if not isinstance(draft, Draft):
            raise ValueError(f"the draft {draft.id} was not begun here")
        content, octets, file = draft.keep(step.size)
        plan.drafts += (draft,)
        if file is not None:
            plan.syncing += (self._sync(draft.id, file),)
        encoder, now = self._encoder, self._clock.now()
        rows: Sequence[Row]
        if kind is None or entry.envelope.release is not None:
            rows = self._recipients(step, content, now, plan)
        elif kind is Hold:
            rows = (encoder.recipient(entry.id, recipients[0], None, now, 0),)
        elif lease is None:
            rows = self._recipients(step, content, now, plan)
        else:
            # As it nearly always is, and as the general way has it.
            only, expires, token = recipients[0], now + lease, self._token()
            plan.claims += (Claim(token, expires, entry, (Pending(only, 0, now),), content, True),)
            rows = (encoder.recipient(entry.id, only, expires, now, token),)
        row = encoder.entry(entry, content.form, content.size, content.length, octets)
        return (row,), rows

    def _recipients(self, step: Enrol, content: IContent, now: float, plan: Plan) -> Sequence[Row]:
        due = due_at(step.entry, now)
        if step.lease is None or due > now:
            return self._rows(step, due, due, {})
        expires = now + step.lease
        claims = claims_of(step, content, now, expires, self._token)
        plan.claims += claims
        return self._rows(step, expires, due, tokens_of(claims))

    def _rows(self, step: Enrol, wake: float, due: float, tokens: Mapping[str, int]) -> list[Row]:
        encode, id = self._encoder.recipient, step.entry.id
        return [
            encode(id, recipient, wake if may_be_carried(recipient) else None, due, tokens.get(recipient.id, 0))
            for recipient in step.recipients
        ]
