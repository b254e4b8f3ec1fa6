"""
One message before the policies that have a word about content: what they are shown of it, and what their words mean for
its octets. (`relay.reception.weighing` and `relay.reception.copies` say what they mean for the client and the copies.)
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import Any

from attrs import evolve

from relay.interfaces import IDraft, IScreening
from relay.mail.edits import Edited
from relay.mail.envelope import Form
from relay.mail.fields import Fields
from relay.mail.screening import Outcome
from relay.reception.accounts import observer
from relay.reception.copies import Copies
from relay.reception.reception import Reception
from relay.reception.transaction import Transaction
from relay.reception.weighing import Judged, weighed
from relay.smtp.octets import Unstuffing, plain, stuffed, wire


class Examination:
    """Asks about a message when all of it is here, and shows it to those who read along as it comes in."""

    __slots__ = ("_content", "_draft", "_reception", "_transaction", "_unstuffing", "steps")

    def __init__(self, reception: Reception, transaction: Transaction, draft: IDraft, screening: IScreening) -> None:
        #: How the verdicts came about, if a record is kept.
        self.steps: list[Any] = []
        self._reception = reception
        self._transaction = transaction
        self._draft = draft
        self._content = content = screening.content(
            draft.id, transaction.envelope, transaction.asked, observer(reception, self.steps)
        )
        self._unstuffing = Unstuffing() if content.wants_stream and draft.form is Form.WIRE else None

    def take(self, octets: bytes) -> None:
        """A piece of the content, in the draft's form. Never raises."""
        if self._content.wants_stream:
            self._content.take(octets if self._unstuffing is None else self._unstuffing.take(octets))

    def judge(self, size: int, section: bytes) -> Judged | Awaitable[Judged]:
        """
        Ask, when all of it is here; the judgement is there at once if nobody has to think about it. `section` is the
        header section in the draft's form, with the empty line that ends it if there is one; b"" if it has none.

        Raises `OSError` where the content cannot be read again.
        """
        if self._unstuffing is not None:
            self._content.take(self._unstuffing.end())
        fields = Fields(self._plain(section) if stuffed(section) else section)
        outcome: Outcome | Awaitable[Outcome] = self._content.decide(size, fields, self._blocks)
        if type(outcome) is Outcome:
            return self._judged(outcome, section)
        return self._judged_later(outcome, section)

    async def _judged_later(self, deciding: Any, section: bytes) -> Judged:
        judged = self._judged(await deciding, section)
        return judged if isinstance(judged, Judged) else await judged

    def _judged(self, outcome: Outcome, section: bytes) -> Judged | Awaitable[Judged]:
        judged = weighed(self._transaction, outcome, self._reception.mixed)
        if judged.refused is not None:
            return judged
        if outcome.instead is not None or outcome.also:
            return self._with_copies(judged, outcome, section)
        return judged if outcome.edited is None else self._edited(judged, outcome.edited, section)

    async def _with_copies(self, judged: Judged, outcome: Outcome, section: bytes) -> Judged:
        reception, transaction = self._reception, self._transaction
        observe = observer(reception, self.steps)
        judged = await Copies(self._draft.id, reception, transaction, outcome, observe).beside(judged)
        if judged.refused is not None or outcome.edited is None:
            return judged
        return self._edited(judged, outcome.edited, section)

    def _plain(self, section: bytes) -> bytes:
        if self._draft.form is Form.PLAIN:
            return section
        return b"".join(plain((section, b".\r\n") if _has_ended(section) else (section,)))

    def _blocks(self) -> Iterator[bytes]:
        blocks = self._draft.blocks()
        return plain(blocks) if self._draft.form is Form.WIRE else blocks

    # The octets.

    def _edited(self, judged: Judged, edited: Edited, section: bytes) -> Judged:
        if not (edited.added or edited.copied):
            return judged
        judged = evolve(judged, section=edited.fields.section)
        added = b"".join(field.octets for field in edited.added)
        if not edited.copied:
            return evolve(judged, added=added)
        kept = b"".join(field.octets for field in edited.kept)
        cut = len(section)
        if _has_ended(section):
            kept += b"\r\n"
        elif self._draft.form is Form.WIRE:
            cut -= 3  # a message that is nothing but a header section: its terminator stays where it is
        return evolve(judged, added=added, cut=cut, instead=self._formed(kept))

    def _formed(self, octets: bytes) -> bytes:
        return octets if self._draft.form is Form.PLAIN else b"".join(wire((octets,)))[:-3]


def _has_ended(section: bytes) -> bool:
    """Whether there is an empty line: if not, all of the content was a header section."""
    return section.endswith(b"\r\n\r\n") or section == b"\r\n"
