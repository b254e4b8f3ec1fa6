"""
The content phase: what all policies together say about one message, and what they change of it.

Policies are asked in the order of the configuration, each once, about those recipients for which its guard holds and
about whom nobody has decided yet. What one changes the next one sees; what is changed is changed for all recipients.
What one finds out is known of those recipients about whom it was asked, and of no other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from relay.mail.address import Address
from relay.mail.edits import AddRecipient, Change, Edited, ReplaceRecipients
from relay.mail.envelope import Envelope
from relay.mail.facts import NO_FACTS, Facts, agreed
from relay.mail.fields import NO_FIELDS, Fields
from relay.mail.phases import ContentInquiry, Each, Edit
from relay.mail.routing import ABSTAIN, Accept, Delay, Discard, Hold, Inquiry, Note, Reject
from relay.mail.screening import Outcome, Ruled, Word
from relay.policy.asking import FAILURES, Asking, Stop, Thinking
from relay.policy.steps import Observer, Skipped
from relay.smtp.answers import OUR_FAULT

_NOTHING_AGAINST_IT: Final = Accept()
#: Verdicts that decide, all about whom a policy was asked.
_WORDS: Final = frozenset({Accept, Reject, Delay, Discard, Hold})

#: A policy that has to think, about whom it was asked, and what.
_Waiting: TypeAlias = tuple[Stop, Sequence[int], ContentInquiry, Deferred[Any] | Thinking]


class Content:
    """
    One message on its way in: `take` its octets, if it `wants_stream` since somebody reads along, then `decide`.
    """

    __slots__ = ("_about", "_asking", "_envelope", "_id", "_log", "_observe", "_readers", "_stops", "wants_stream")

    def __init__(
        self,
        asking: Asking,
        stops: Sequence[Stop],
        id: str,
        envelope: Envelope,
        about: Sequence[Inquiry],
        log: Logger,
        observe: Observer | None,
    ) -> None:
        """`about`: the question that each recipient was, in their order: what guards look at."""
        self._asking = asking
        self._stops = stops
        self._id = id
        self._envelope = envelope
        self._about = about
        self._log = log
        self._observe = observe
        #: By the policy's place: who reads along, or what came instead of a reader.
        self._readers: dict[int, Any] = {}
        for stop in stops:
            if stop.reads_along and _may_be_asked(stop, about):
                self._readers[stop.place] = self._begun(stop)
        self.wants_stream = bool(self._readers)

    def _begun(self, stop: Stop) -> Any:
        about = self._about
        recipients, known = tuple([each.original for each in about]), agreed([each.facts for each in about])
        try:
            return stop.policy.begin(ContentInquiry(self._id, self._envelope, recipients, 0, NO_FIELDS, facts=known))
        except FAILURES:
            return self._failed(stop)

    def take(self, octets: bytes) -> None:
        """A piece of the message in plain form, for those who read along. Never raises."""
        for place, reader in self._readers.items():
            if isinstance(reader, Delay):
                continue
            try:
                reader.take(octets)
            except FAILURES:
                stop = next(stop for stop in self._stops if stop.place == place)
                self._readers[place] = self._failed(stop)

    def _failed(self, stop: Stop) -> Delay:
        self._log.failure(
            "policy {policy} raised an exception while it read {id}: 451",
            Failure(),
            policy=stop.name,
            id=self._id,
        )
        return Delay(OUR_FAULT, "raised an exception while it read along")

    def decide(self, size: int, fields: Fields, blocks: Any) -> Outcome | Awaitable[Outcome]:
        """
        What becomes of it; at once, as long as no policy has to think. `fields` are as they came; `blocks` gives the
        message in plain form, each time anew, and is for those that want to read it.
        """
        findings = _Findings(fields, self._about)
        stops = iter(self._stops)
        waiting = self._ask(stops, findings, size, blocks)
        return findings.outcome if waiting is None else self._later(waiting, stops, findings, size, blocks)

    async def _later(
        self, waiting: _Waiting | None, stops: Iterator[Stop], findings: _Findings, size: int, blocks: Any
    ) -> Outcome:
        while waiting is not None:
            stop, asked, inquiry, thinking = waiting
            findings.add(await self._asking.heard(inquiry, stop, thinking), stop.name, asked)
            waiting = self._ask(stops, findings, size, blocks)
        return findings.outcome

    def _ask(self, stops: Iterator[Stop], findings: _Findings, size: int, blocks: Any) -> _Waiting | None:
        """Ask these, up to the first that has to think."""
        asking, readers = self._asking, self._readers
        for stop in stops:
            asked = findings.undecided
            if not asked:
                break
            if stop.skipped_by is not None:
                asked = self._whom(stop, asked, findings.about)
                if not asked:
                    continue
            recipients, known = findings.about_all(asked)
            reader = readers.get(stop.place) if readers else None
            given = blocks if stop.reads else None
            inquiry = ContentInquiry(self._id, self._envelope, recipients, size, findings.fields, given, reader, known)
            verdict = asking.put(inquiry, stop) if type(reader) is not Delay else reader
            # What counts at once is known by its class, which takes less time than to ask what it is not.
            if type(verdict) not in stop.verdicts and isinstance(verdict, Deferred | Thinking):
                return stop, asked, inquiry, verdict
            findings.add(verdict, stop.name, asked)
        return None

    def _whom(self, stop: Stop, undecided: Sequence[int], about: Sequence[Inquiry]) -> Sequence[int]:
        """About which of these recipients, by their number, this policy is asked now."""
        skipped_by = stop.skipped_by
        assert skipped_by is not None, "it has a guard"
        asked: list[int] = []
        skipped = ""
        for at in undecided:
            guard = skipped_by(about[at])
            if guard is None:
                asked.append(at)
            else:
                skipped = guard
        if not asked and self._observe is not None:
            self._observe(Skipped(None, stop.name, skipped, stop.phase.name))
        return asked


def _may_be_asked(stop: Stop, about: Iterable[Inquiry]) -> bool:
    """Whether there is a recipient about whom this policy may be asked, by what is certain before all others are."""
    skipped_by = stop.certainly_skipped_by
    return skipped_by is None or any(skipped_by(each) is None for each in about)


class _Findings:
    """What is known of a message after some of the policies have been asked."""

    # What most messages never have is the class's.

    _edited: Edited | None = None
    _instead: tuple[Address, ...] | None = None
    _editors: tuple[str, ...] = ()

    def __init__(self, fields: Fields, about: Sequence[Inquiry]) -> None:
        self.fields = fields
        #: The question that each recipient was, with what has been found out since.
        self.about = list(about)
        #: About whom nobody has decided yet, by their number.
        self.undecided: Sequence[int] = range(len(about))
        #: What was decided about each of them, and what was found out here, by their number.
        self._ruled: list[Ruled | None] = [None] * len(about)
        self._noted: dict[int, Facts] = {}
        self._also: dict[Address, None] = {}

    def about_all(self, asked: Sequence[int]) -> tuple[tuple[Address, ...], Facts]:
        """These recipients, and what is known of all of them alike."""
        about = self.about
        if len(asked) == 1:
            only = about[asked[0]]
            return (only.original,), only.facts
        return tuple([about[at].original for at in asked]), agreed([about[at].facts for at in asked])

    def add(self, verdict: Any, policy: str, asked: Sequence[int]) -> None:
        """What a policy has said about these recipients."""
        if type(verdict) in _WORDS:
            self._rule(verdict, policy, asked)
            if len(asked) == len(self.undecided):
                self.undecided = ()
            else:
                self._look_who_is_left()
            return
        match verdict:
            case Edit(changes, _, facts):
                self._change(changes)
                self._editors = (*self._editors, policy)
                self._note(facts, asked)
            case Note(facts):
                self._note(facts, asked)
            case Each(verdicts):
                by_address = dict(verdicts)
                for at in asked:
                    word = by_address.get(self.about[at].original, ABSTAIN)
                    if word is not ABSTAIN:
                        self._rule(word, policy, (at,))
                self._look_who_is_left()

    def _note(self, facts: Facts, asked: Iterable[int]) -> None:
        if facts:
            for at in asked:
                about = self.about[at]
                self.about[at] = evolve(about, facts=about.facts.plus(facts))
                self._noted[at] = self._noted.get(at, NO_FACTS).plus(facts)

    def _rule(self, word: Word, policy: str, asked: Sequence[int]) -> None:
        """These recipients have their verdict."""
        if isinstance(word, Accept):
            self._note(word.facts, asked)
        ruled, noted = self._ruled, self._noted
        for at in asked:
            ruled[at] = Ruled(word, policy, noted.get(at, NO_FACTS))

    def _look_who_is_left(self) -> None:
        self.undecided = [at for at, ruled in enumerate(self._ruled) if ruled is None]

    def _change(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, ReplaceRecipients):
                self._instead, self._also = change.recipients, {}
            elif isinstance(change, AddRecipient):
                self._also[change.recipient] = None
            else:
                self._edited = (self._edited or Edited.beginning(self.fields)).after(change)
                self.fields = self._edited.fields

    @property
    def outcome(self) -> Outcome:
        for at in self.undecided:
            self._ruled[at] = Ruled(_NOTHING_AGAINST_IT, "", self._noted.get(at, NO_FACTS))
        each: Any = tuple(self._ruled)
        return Outcome(each, self._edited, self._instead, tuple(self._also), self._editors, self.about)
