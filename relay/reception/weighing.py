"""What the policies' words about one message mean together: what the client hears, and what becomes of each copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import evolve

from relay.mail.decision import Placement, Refused
from relay.mail.routing import Delay, Discard, Hold, Reject
from relay.mail.screening import Outcome, Ruled
from relay.mail.value import value
from relay.reception.reception import Mixed
from relay.reception.transaction import Transaction
from relay.smtp import answers

#: Verdicts by which a recipient does not take the message, and those that change what becomes of a copy.
_REFUSALS: Final = (Reject, Delay)
_FATES: Final = (Hold, Discard, Reject)


@value
class Judged:
    """What is to be done with a message."""

    #: It is taken for nobody, and this is why; what the client hears, but for what it hears of each recipient.
    refused: Refused | None
    #: Where the client hears of each recipient, and they differ: why it is refused, or `None`; in the order of RCPT.
    each: tuple[Refused | None, ...] = ()
    #: The copies that are kept, or are to be recorded as thrown away.
    placements: tuple[Placement, ...] = ()
    #: What counts for each recipient who was asked about, in the order of RCPT.
    ruled: tuple[Ruled, ...] = ()
    #: What stands on top of it.
    added: bytes = b""
    #: In the draft's form: how many octets of the content make room for which others.
    cut: int = 0
    instead: bytes = b""
    #: The header section that comes of all that, in plain form; `None`: as it came.
    section: bytes | None = None
    #: Who has changed anything.
    editors: tuple[str, ...] = ()

    @property
    def following(self) -> Ruled | None:
        """
        What becomes of copies that policies send elsewhere: what all who do not refuse it say of it. As long as one of
        them lets it go its way (`None`), so do the copies for others. If some hold it and the others throw it away,
        they are held: nothing is lost by that.
        """
        found: Ruled | None = None
        for ruled in self.ruled:
            verdict = ruled.verdict
            if isinstance(verdict, Hold):
                if found is None or not isinstance(found.verdict, Hold):
                    found = ruled
            elif isinstance(verdict, Discard):
                found = found or ruled
            elif not isinstance(verdict, _REFUSALS):
                return None
        return found

    def refusing(self, refused: Refused) -> Judged:
        """The same, but taken for nobody: who has not been refused yet is, like this."""
        return evolve(self, refused=refused, each=tuple(each or refused for each in self.each), placements=())


def weighed(transaction: Transaction, outcome: Outcome, mixed: Mixed) -> Judged:
    """What the verdicts mean for those whom the client has named (docs/phases.md)."""
    each = outcome.each
    if len(each) == 1 and not isinstance(each[0].verdict, _REFUSALS):
        # As it nearly always is.
        placements = tuple([_copy(each[0], placement) for placement in transaction.placements])
        return Judged(None, (), placements, each, editors=outcome.editors)
    refused = [ruled for ruled in each if isinstance(ruled.verdict, _REFUSALS)]
    if refused and len(refused) == len(each):
        return _by_all(transaction, refused)
    if refused and not transaction.each:
        temporary = any(isinstance(ruled.verdict, Delay) for ruled in refused)
        if transaction.can_be_told and not temporary:
            # By a notice: a placement that is refused fails behind the 250.
            pass
        elif mixed == "hold":
            each = tuple(map(_held, each))
        elif mixed == "reject-all":
            return Judged(_refused(refused[0]))
        else:
            return Judged(Refused(answers.RECIPIENTS_DIFFER, refused[0].policy, "its recipients differ"))
    return Judged(
        None,
        tuple(map(refusal, each)) if refused and transaction.each else (),
        _placed(transaction, each),
        each,
        editors=outcome.editors,
    )


def refusal(ruled: Ruled) -> Refused | None:
    """What is said of a recipient who refuses the message."""
    return _refused(ruled) if isinstance(ruled.verdict, _REFUSALS) else None


def under(ruled: Ruled, placement: Placement) -> Placement:
    """What a verdict makes of a copy. One that fails, or was thrown away, at RCPT stays so."""
    verdict = ruled.verdict
    if not isinstance(verdict, _FATES) or isinstance(placement.route, Reject | Discard):
        return placement
    return Placement(
        placement.address,
        placement.original,
        verdict,
        ruled.policy,
        verdict.because,
        placement.wishes,
        placement.facts,
    )


def _refused(ruled: Ruled) -> Refused:
    assert isinstance(ruled.verdict, _REFUSALS)
    return Refused(ruled.verdict.reply, ruled.policy, ruled.verdict.because)


def _by_all(transaction: Transaction, refused: Sequence[Ruled]) -> Judged:
    """Nobody takes it: nothing of it is kept, and nothing is sent on."""
    first = refused[0]
    alike = all(type(ruled.verdict) is type(first.verdict) for ruled in refused)
    reply = _refused(first).reply if alike else answers.RECIPIENTS_DIFFER
    whole = Refused(reply, first.policy, first.verdict.because)
    if not transaction.each or all(ruled.verdict == first.verdict for ruled in refused):
        return Judged(whole)
    return Judged(whole, tuple(map(_refused, refused)))


def _held(ruled: Ruled) -> Ruled:
    """Who refuses it gets a copy that waits for the operator."""
    if not isinstance(ruled.verdict, _REFUSALS):
        return ruled
    return evolve(ruled, verdict=Hold(ruled.verdict.because or "refused, and taken for others"))


def _placed(transaction: Transaction, each: Sequence[Ruled]) -> tuple[Placement, ...]:
    """
    Where the copies go by these verdicts. For who refuses the message there is one that fails, unless the client hears
    of it at once.
    """
    by_address = {inquiry.original: ruled for inquiry, ruled in zip(transaction.asked, each, strict=True)}
    placed: list[Placement] = []
    for placement in transaction.placements:
        ruled = by_address[placement.original]
        if not (transaction.each and isinstance(ruled.verdict, _REFUSALS)):
            placed.append(_copy(ruled, placement))
    return tuple(placed)


def _copy(ruled: Ruled, placement: Placement) -> Placement:
    placement = under(ruled, placement)
    return evolve(placement, facts=placement.facts.plus(ruled.noted)) if ruled.noted else placement
