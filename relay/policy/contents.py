"""
The content phase: what all policies together say about one message, and what they change of it.

Policies are asked in the order of the configuration, each once, about those recipients for which its guard holds and
about whom nobody has decided yet. What one changes the next one sees; what is changed is changed for all recipients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from attrs import evolve, field, frozen
from twisted.logger import Logger
from twisted.python.failure import Failure

from relay.mail.address import Address
from relay.mail.edits import AddRecipient, Edited, ReplaceRecipients
from relay.mail.facts import Facts
from relay.mail.fields import Fields
from relay.mail.phases import ContentInquiry, Each, Edit
from relay.mail.routing import ABSTAIN, Accept, Delay, Discard, Hold, Inquiry, Note, Reject
from relay.policy.asking import Asking, Stop
from relay.policy.steps import Observer, Skipped
from relay.smtp.answers import OUR_FAULT

#: What may come out for one recipient.
Final_: TypeAlias = Accept | Reject | Delay | Discard | Hold

_NOTHING_AGAINST_IT: Final = Accept()


@frozen
class Ruled:
    """What counts for one recipient, and whose word it is; "" where nobody had one."""

    verdict: Final_
    policy: str = ""


@frozen
class Outcome:
    """What came of all questions about a message."""

    #: One for each recipient, in their order.
    each: tuple[Ruled, ...]
    edited: Edited
    #: Who receives it instead; `None`: those whom the client named.
    instead: tuple[Address, ...] | None = None
    #: Who receives a copy beside them.
    also: tuple[Address, ...] = ()
    facts: Facts = field(factory=Facts)
    #: Whose changes these are, by name, for the log.
    editors: tuple[str, ...] = ()

    @property
    def agreed(self) -> bool:
        """Whether all recipients have the same verdict."""
        return all(ruled.verdict == self.each[0].verdict for ruled in self.each)


class Content:
    """
    One message on its way in. `take` its octets, then `decide`.

    `wants_blocks`: somebody wants to read the whole of it at the end. `wants_stream`: somebody reads along.
    """

    def __init__(
        self,
        asking: Asking,
        stops: Sequence[Stop],
        inquiry: ContentInquiry,
        about: Sequence[Inquiry],
        log: Logger,
        observe: Observer | None,
    ) -> None:
        """`about`: the question that each recipient was, in their order: what guards look at."""
        self._asking = asking
        self._stops = stops
        self._inquiry = inquiry
        self._about = about
        self._log = log
        self._observe = observe
        asked = [stop for stop in stops if any(not (stop.skipped_by and stop.skipped_by(each)) for each in about)]
        self.wants_blocks = any(stop.policy.wants == "message" for stop in asked)
        #: By the policy's place: who reads along, or what came instead of a reader.
        self._readers: dict[int, Any] = {}
        for stop in asked:
            if stop.policy.wants == "stream":
                self._readers[stop.place] = self._begun(stop)
        self.wants_stream = bool(self._readers)

    def _begun(self, stop: Stop) -> Any:
        try:
            return stop.policy.begin(self._inquiry)
        except Exception:
            return self._failed(stop)

    def take(self, octets: bytes) -> None:
        """A piece of the message in plain form, for those who read along. Never raises."""
        for place, reader in self._readers.items():
            if isinstance(reader, Delay):
                continue
            try:
                reader.take(octets)
            except Exception:
                stop = next(stop for stop in self._stops if stop.place == place)
                self._readers[place] = self._failed(stop)

    def _failed(self, stop: Stop) -> Delay:
        self._log.failure(
            "policy {policy} raised an exception while it read {id}: 451",
            Failure(),
            policy=stop.name,
            id=self._inquiry.id,
        )
        return Delay(OUR_FAULT, "raised an exception while it read along")

    async def decide(self, size: int, fields: Fields, blocks: Any) -> Outcome:
        """
        What becomes of it. `fields` are as they came; `blocks` gives the message in plain form, each time anew, and is
        only used where `wants_blocks`.
        """
        edited = Edited.beginning(fields)
        facts = self._inquiry.facts
        ruled: list[Ruled | None] = [None] * len(self._about)
        instead: tuple[Address, ...] | None = None
        also: list[Address] = []
        editors: list[str] = []
        for stop in self._stops:
            asked = self._whom(stop, ruled)
            if not asked:
                if all(ruled):
                    break
                continue
            inquiry = evolve(
                self._inquiry,
                size=size,
                recipients=tuple(self._about[at].original for at in asked),
                fields=edited.fields if editors else fields,
                blocks=blocks if stop.policy.wants == "message" else None,
                reader=self._readers.get(stop.place),
                facts=facts,
            )
            reader = inquiry.reader
            verdict = reader if isinstance(reader, Delay) else await self._asking.ask(inquiry, stop)
            match verdict:
                case Edit(changes):
                    editors.append(stop.name)
                    for change in changes:
                        edited = edited.after(change)
                        if isinstance(change, ReplaceRecipients):
                            instead, also = change.recipients, []
                        elif isinstance(change, AddRecipient):
                            also.append(change.recipient)
                    facts = facts.plus(verdict.facts)
                case Note():
                    facts = facts.plus(verdict.facts)
                case Each():
                    by_address = dict(verdict.verdicts)
                    for at in asked:
                        word = by_address.get(self._about[at].original, ABSTAIN)
                        if word is not ABSTAIN:
                            ruled[at] = Ruled(word, stop.name)
                case Accept() | Reject() | Delay() | Discard() | Hold():
                    for at in asked:
                        ruled[at] = Ruled(verdict, stop.name)
                    if isinstance(verdict, Accept):
                        facts = facts.plus(verdict.facts)
                case _:  # ABSTAIN
                    pass
        each = tuple(one or Ruled(_NOTHING_AGAINST_IT) for one in ruled)
        return Outcome(each, edited, instead, tuple(dict.fromkeys(also)), facts, tuple(editors))

    def _whom(self, stop: Stop, ruled: Sequence[Ruled | None]) -> list[int]:
        """About which recipients, by their number, this policy is asked now."""
        asked: list[int] = []
        skipped: str | None = None
        for at, about in enumerate(self._about):
            if ruled[at] is not None:
                continue
            if stop.skipped_by is not None and (guard := stop.skipped_by(about)) is not None:
                skipped = guard
                continue
            asked.append(at)
        if not asked and skipped is not None and self._observe is not None:
            self._observe(Skipped(None, stop.name, skipped, stop.phase.name))
        return asked
