"""
One message before the policies that have a word about content: what they are shown of it, and what their words mean for
the client, the recipients' copies and the octets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from attrs import evolve, frozen

from relay.interfaces import IDraft, IScreening
from relay.mail.address import Address
from relay.mail.decision import Accepted, Placement, Refused
from relay.mail.dsn import Notify, Wishes
from relay.mail.edits import Edited
from relay.mail.envelope import Form
from relay.mail.fields import Fields
from relay.mail.header import section_end
from relay.mail.phases import ContentInquiry
from relay.mail.reply import Reply
from relay.mail.routing import Delay, Discard, Hold, Inquiry, Reject
from relay.mail.screening import Outcome, Ruled
from relay.reception.accounts import observer
from relay.reception.reception import Reception
from relay.reception.transaction import Transaction
from relay.smtp import answers
from relay.smtp.events import Verdicts
from relay.smtp.octets import Unstuffing, plain, wire

#: A copy beside those that the client asked for: nobody has to be told what becomes of it.
_UNASKED: Final = Wishes(frozenset({Notify.NEVER}))


@frozen
class Judged:
    """What is to be done with a message."""

    #: What the client hears where anything is refused; `None`: 250, and all `placements` are kept.
    refusal: Reply | Verdicts | None
    placements: tuple[Placement, ...] = ()
    #: What stands on top of it.
    added: bytes = b""
    #: In the draft's form: how many octets of the content make room for which others.
    cut: int = 0
    instead: bytes = b""
    #: Who has changed anything.
    editors: tuple[str, ...] = ()
    #: Of a refusal for all: whose it is, and why.
    policy: str = ""
    because: str = ""


class Examination:
    """Takes the content as it comes in, and asks about it when all of it is here."""

    def __init__(self, reception: Reception, transaction: Transaction, draft: IDraft, screening: IScreening) -> None:
        #: How the verdicts came about, if a record is kept.
        self.steps: list[Any] = []
        self._reception = reception
        self._transaction = transaction
        self._draft = draft
        about = transaction.asked
        inquiry = ContentInquiry(
            draft.id,
            transaction.envelope,
            tuple(each.original for each in about),
            0,
            Fields(b""),
            facts=transaction.facts,
        )
        self._content = screening.content(inquiry, about, observer(reception, self.steps))
        self._unstuffing = Unstuffing() if self._content.wants_stream and draft.form is Form.WIRE else None
        #: The header section in the draft's form, until it has ended.
        self._section = bytearray()
        self._length: int | None = None

    def take(self, octets: bytes) -> None:
        """A piece of the content, in the draft's form. Never raises."""
        if self._length is None:
            seen = len(self._section)
            self._section += octets
            self._length = section_end(self._section, seen)
            if self._length is None and seen > self._reception.limits.header:
                # It is refused for that, and nobody is asked.
                self._length = 0
            if self._length is not None:
                del self._section[self._length :]
        if self._content.wants_stream:
            self._content.take(octets if self._unstuffing is None else self._unstuffing.take(octets))

    async def judge(self, size: int, *, headless: bool) -> Judged:
        """
        Ask, when all of it is here. `headless`: what it has is no header section.

        Raises `OSError` where the content cannot be read again.
        """
        if self._unstuffing is not None:
            self._content.take(self._unstuffing.end())
        fields = Fields(b"" if headless else self._plain_section())
        outcome: Outcome = await self._content.decide(size, fields, self._blocks)
        judged = self._weighed(outcome)
        if judged.refusal is not None and not isinstance(judged.refusal, Verdicts):
            return judged
        return self._edited(await self._sent_on(judged, outcome), outcome.edited)

    def _plain_section(self) -> bytes:
        section = bytes(self._section)
        if self._draft.form is Form.PLAIN:
            return section
        return b"".join(plain((section,) if self._length is None else (section, b".\r\n")))

    def _blocks(self) -> Iterator[bytes]:
        blocks = self._draft.blocks()
        return plain(blocks) if self._draft.form is Form.WIRE else blocks

    # What the verdicts mean together.

    def _weighed(self, outcome: Outcome) -> Judged:
        """Who has what of the message, and what the client hears (docs/phases.md)."""
        each = [ruled.verdict for ruled in outcome.each]
        refused = [verdict for verdict in each if isinstance(verdict, Reject | Delay)]
        placements = _placed(self._transaction, outcome.each)
        if outcome.noted:
            placements = tuple(evolve(each, facts=each.facts.plus(outcome.noted)) for each in placements)
        if not refused:
            return Judged(None, placements, editors=outcome.editors)
        first = next(ruled for ruled in outcome.each if isinstance(ruled.verdict, Reject | Delay))
        alike = all(isinstance(verdict, type(refused[0])) for verdict in refused)
        if len(refused) == len(each):
            reply = refused[0].reply if alike else answers.OUR_FAULT
            if len(set(refused)) == 1 or not self._transaction.each:
                return Judged(reply, (), policy=first.policy, because=first.verdict.because)
        return self._differing(outcome, placements, first)

    def _differing(self, outcome: Outcome, placements: tuple[Placement, ...], first: Ruled) -> Judged:
        """The recipients differ."""
        transaction, mixed = self._transaction, self._reception.mixed
        taken = tuple(placement for placement in placements if not isinstance(placement.route, Reject))
        if transaction.each:
            replies = tuple(
                ruled.verdict.reply if isinstance(ruled.verdict, Reject | Delay) else answers.CONTENT_OK
                for ruled in outcome.each
            )
            return Judged(Verdicts(replies, answers.CONTENT_OK), taken, editors=outcome.editors)
        temporary = any(isinstance(ruled.verdict, Delay) for ruled in outcome.each)
        if transaction.can_be_told and not temporary:
            # Somebody who is known is told by a notice: a placement that is refused fails behind the 250.
            return Judged(None, placements, editors=outcome.editors)
        if mixed == "hold":
            held = tuple(
                evolve(placement, route=Hold(placement.because or "refused, and taken for others"))
                if isinstance(placement.route, Reject)
                else placement
                for placement in placements
            )
            return Judged(None, held, editors=outcome.editors)
        if mixed == "reject-all":
            return Judged(_reply(first), (), policy=first.policy, because=first.verdict.because)
        return Judged(answers.RECIPIENTS_DIFFER, (), policy=first.policy, because="its recipients differ")

    # Recipients that policies have named.

    async def _sent_on(self, judged: Judged, outcome: Outcome) -> Judged:
        placements = judged.placements
        if outcome.instead is not None:
            placements = ()
            refused: Refused | None = None
            for address in outcome.instead:
                decision = await self._asked_about(address, outcome)
                if isinstance(decision, Accepted):
                    placements += decision.placements
                else:
                    refused = refused or decision
            if not placements:
                assert refused is not None, "there is somebody instead"
                return evolve(
                    judged, refusal=refused.reply, placements=(), policy=refused.policy, because=refused.because
                )
        for address in outcome.also:
            if any(placement.address == address for placement in placements):
                continue
            decision = await self._asked_about(address, outcome)
            if isinstance(decision, Accepted):
                placements += tuple(evolve(placement, wishes=_UNASKED) for placement in decision.placements)
            else:
                self._reception.log.error(
                    "{id}: the copy for <{address}> that a policy wants is refused: {reply}",
                    id=self._draft.id,
                    address=str(address),
                    reply=str(decision.reply),
                )
        return evolve(judged, placements=placements)

    async def _asked_about(self, address: Address, outcome: Outcome) -> Accepted | Refused:
        envelope = self._transaction.envelope
        inquiry = Inquiry(address, address, envelope.reverse_path, envelope.client, outcome.facts)
        return await self._reception.chain.route(inquiry)

    # The octets.

    def _edited(self, judged: Judged, edited: Edited) -> Judged:
        added = b"".join(field.octets for field in edited.added)
        if not edited.copied:
            return evolve(judged, added=added)
        kept = b"".join(field.octets for field in edited.kept)
        if self._length is not None:
            kept += b"\r\n"
        cut = len(self._section) if self._length is not None else self._whole()
        return evolve(judged, added=added, cut=cut, instead=self._formed(kept))

    def _whole(self) -> int:
        """A message that is nothing but a header section: its terminator stays where it is."""
        return len(self._section) - (3 if self._draft.form is Form.WIRE else 0)

    def _formed(self, octets: bytes) -> bytes:
        return octets if self._draft.form is Form.PLAIN else b"".join(wire((octets,)))[:-3]


def _reply(ruled: Ruled) -> Reply:
    assert isinstance(ruled.verdict, Reject | Delay)
    return ruled.verdict.reply


def _placed(transaction: Transaction, each: Sequence[Ruled]) -> tuple[Placement, ...]:
    """Where the copies go by these verdicts. One that is refused is placed as such: it is left out, held, or fails."""
    by_address = {inquiry.original: ruled for inquiry, ruled in zip(transaction.asked, each, strict=True)}
    placements: list[Placement] = []
    for placement in transaction.placements:
        ruled = by_address[placement.original]
        verdict = ruled.verdict
        if isinstance(placement.route, Reject | Discard):
            placements.append(placement)
        elif isinstance(verdict, Discard | Hold | Reject):
            placements.append(evolve(placement, route=verdict, policy=ruled.policy, because=verdict.because))
        elif isinstance(verdict, Delay):
            refused = Reject(Reply.of(554, "5.7.1", "Refused for now, and taken for others"), verdict.because)
            placements.append(evolve(placement, route=refused, policy=ruled.policy, because=verdict.because))
        else:
            placements.append(placement)
    return tuple(placements)
