"""
The content phase: what all policies together say about one message, and what they change of it.

Policies are asked in the order of the configuration, each once, about those recipients for which its guard holds and
about whom nobody has decided yet. What one changes the next one sees; what is changed is changed for all recipients.
What one finds out is known of those recipients about whom it was asked, and of no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from attrs import evolve
from twisted.logger import Logger
from twisted.python.failure import Failure

from relay.mail.address import Address
from relay.mail.edits import AddRecipient, Change, Edited, ReplaceRecipients
from relay.mail.facts import NO_FACTS, Facts, agreed
from relay.mail.fields import Fields
from relay.mail.phases import ContentInquiry, Each, Edit
from relay.mail.routing import ABSTAIN, Accept, Delay, Discard, Hold, Inquiry, Note, Reject
from relay.mail.screening import Outcome, Ruled, Word
from relay.policy.asking import Asking, Stop
from relay.policy.steps import Observer, Skipped
from relay.smtp.answers import OUR_FAULT

_NOTHING_AGAINST_IT: Final = Accept()


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
        self._inquiry = evolve(inquiry, facts=agreed(each.facts for each in about))
        self._about = about
        self._log = log
        self._observe = observe
        asked = [stop for stop in stops if _may_be_asked(stop, about)]
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
        findings = _Findings(fields, self._about)
        for stop in self._stops:
            asked = self._whom(stop, findings)
            if not asked:
                if findings.complete:
                    break
                continue
            inquiry = evolve(
                self._inquiry,
                size=size,
                recipients=tuple(self._about[at].original for at in asked),
                fields=findings.fields,
                blocks=blocks if stop.policy.wants == "message" else None,
                reader=self._readers.get(stop.place),
                facts=findings.facts(asked),
            )
            broken = inquiry.reader
            verdict = broken if isinstance(broken, Delay) else await self._asking.ask(inquiry, stop)
            findings.add(verdict, stop.name, asked)
        return findings.outcome

    def _whom(self, stop: Stop, findings: _Findings) -> list[int]:
        """About which recipients, by their number, this policy is asked now."""
        asked: list[int] = []
        skipped: str | None = None
        for at in findings.undecided():
            guard = stop.skipped_by and stop.skipped_by(findings.about(at) if stop.looks_at_facts else self._about[at])
            if guard:
                skipped = guard
            else:
                asked.append(at)
        if not asked and skipped is not None and self._observe is not None:
            self._observe(Skipped(None, stop.name, skipped, stop.phase.name))
        return asked


def _may_be_asked(stop: Stop, about: Sequence[Inquiry]) -> bool:
    """Whether there is a recipient about whom this policy may be asked, by what is certain before all others are."""
    skipped_by = stop.certainly_skipped_by
    return skipped_by is None or any(skipped_by(each) is None for each in about)


class _Findings:
    """What is known of a message after some of the policies have been asked."""

    def __init__(self, fields: Fields, about: Sequence[Inquiry]) -> None:
        self.fields = fields
        self._about = about
        #: What is known of each recipient, and what of that was found out here.
        self._facts = [each.facts for each in about]
        self._noted = [NO_FACTS] * len(about)
        self._ruled: list[Ruled | None] = [None] * len(about)
        self._edited = Edited.beginning(fields)
        self._instead: tuple[Address, ...] | None = None
        self._also: dict[Address, None] = {}
        self._editors: list[str] = []

    @property
    def complete(self) -> bool:
        """Whether somebody has decided about each recipient."""
        return all(self._ruled)

    def about(self, at: int) -> Inquiry:
        """The question that this recipient was, with what has been found out since."""
        about = self._about[at]
        return evolve(about, facts=self._facts[at]) if self._noted[at] else about

    def facts(self, asked: Sequence[int]) -> Facts:
        """What is known of all these recipients alike."""
        return agreed([self._facts[at] for at in asked])

    def _note(self, facts: Facts, asked: Sequence[int]) -> None:
        if facts:
            for at in asked:
                self._facts[at] = self._facts[at].plus(facts)
                self._noted[at] = self._noted[at].plus(facts)

    def undecided(self) -> Iterator[int]:
        return (at for at, ruled in enumerate(self._ruled) if ruled is None)

    def add(self, verdict: Any, policy: str, asked: Sequence[int]) -> None:
        """What a policy has said about these recipients."""
        match verdict:
            case Edit(changes, _, facts):
                self._change(changes)
                self._editors.append(policy)
                self._note(facts, asked)
            case Note(facts):
                self._note(facts, asked)
            case Each(verdicts):
                by_address = dict(verdicts)
                for at in asked:
                    word = by_address.get(self._about[at].original, ABSTAIN)
                    if word is not ABSTAIN:
                        self._rule(word, policy, (at,))
            case Accept() | Reject() | Delay() | Discard() | Hold():
                self._rule(verdict, policy, asked)

    def _rule(self, word: Word, policy: str, asked: Sequence[int]) -> None:
        """These recipients have their verdict."""
        if isinstance(word, Accept):
            self._note(word.facts, asked)
        for at in asked:
            self._ruled[at] = Ruled(word, policy, self._noted[at])

    def _change(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, ReplaceRecipients):
                self._instead, self._also = change.recipients, {}
            elif isinstance(change, AddRecipient):
                self._also[change.recipient] = None
            else:
                self._edited = self._edited.after(change)
                self.fields = self._edited.fields

    @property
    def outcome(self) -> Outcome:
        each = tuple(
            ruled or Ruled(_NOTHING_AGAINST_IT, "", noted)
            for ruled, noted in zip(self._ruled, self._noted, strict=True)
        )
        also, editors = tuple(self._also), tuple(self._editors)
        return Outcome(each, self._edited, self._instead, also, agreed(self._facts), editors)
