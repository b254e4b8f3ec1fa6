"""
One message before the policies that have a word about content: what they are shown of it, and what their words mean for
its octets. (`relay.reception.weighing` and `relay.reception.copies` say what they mean for the client and the copies.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import evolve

from relay.interfaces import IDraft, IScreening
from relay.mail.edits import Edited
from relay.mail.envelope import Form
from relay.mail.fields import Fields
from relay.mail.header import section_end
from relay.mail.phases import ContentInquiry
from relay.mail.screening import Outcome
from relay.reception.accounts import observer
from relay.reception.copies import Copies
from relay.reception.reception import Reception
from relay.reception.transaction import Transaction
from relay.reception.weighing import Judged, weighed
from relay.smtp.octets import Unstuffing, plain, wire


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
        reception, transaction = self._reception, self._transaction
        judged = weighed(transaction, outcome, reception.mixed)
        if judged.refused is None and (outcome.instead is not None or outcome.also):
            observe = observer(reception, self.steps)
            judged = await Copies(self._draft.id, reception, transaction, outcome, observe).beside(judged)
        return judged if judged.refused is not None else self._edited(judged, outcome.edited)

    def _plain_section(self) -> bytes:
        section = bytes(self._section)
        if self._draft.form is Form.PLAIN:
            return section
        return b"".join(plain((section,) if self._length is None else (section, b".\r\n")))

    def _blocks(self) -> Iterator[bytes]:
        blocks = self._draft.blocks()
        return plain(blocks) if self._draft.form is Form.WIRE else blocks

    # The octets.

    def _edited(self, judged: Judged, edited: Edited) -> Judged:
        if not (edited.added or edited.copied):
            return judged
        judged = evolve(judged, section=edited.fields.section)
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
