"""What the DNS has said, for as long as it said that it holds."""

from __future__ import annotations

from typing import Final

from relay.interfaces import IClock
from relay.mail.answer import Answer, Found

#: About what a key, an answer and their places in a dictionary take, and a record of no length.
_ANSWER_OCTETS: Final = 500
_RECORD_OCTETS: Final = 120


class Cache:
    """
    Answers by name and kind, each until its time is over.

    Bounded by octets, roughly counted, not by entries: an answer may be 64 KiB of TXT. When it is full the
    oldest answers go first.
    """

    def __init__(self, clock: IClock, most_octets: int = 16 * 1024 * 1024) -> None:
        self._clock = clock
        self._most = most_octets
        self._kept: dict[tuple[str, str], tuple[float, Answer]] = {}
        self._octets = 0

    def get(self, name: str, kind: str) -> Answer | None:
        kept = self._kept.get((name, kind))
        if kept is None:
            return None
        if kept[0] <= self._clock.seconds():
            self._forget((name, kind))
            return None
        return kept[1]

    def keep(self, name: str, kind: str, answer: Answer, seconds: float) -> None:
        """Keep an answer. One that holds for no time is not kept (RFC 1035 section 3.2.1)."""
        key = name, kind
        if key in self._kept:
            self._forget(key)
        weight = _weight(answer)
        if seconds <= 0 or weight > self._most:
            return
        self._octets += weight
        while self._octets > self._most:
            self._forget(next(iter(self._kept)))
        self._kept[key] = self._clock.seconds() + seconds, answer

    def _forget(self, key: tuple[str, str]) -> None:
        _, answer = self._kept.pop(key)
        self._octets -= _weight(answer)


def _weight(answer: Answer) -> int:
    records = answer.records if isinstance(answer, Found) else ()
    texts = (record if isinstance(record, str) else record.exchanger for record in records)
    return _ANSWER_OCTETS + sum(_RECORD_OCTETS + len(text) for text in texts)
