"""The DNS of a test's world: names in memory, and a resolver that looks there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Final, TypeAlias

from attrs import evolve
from twisted.internet.defer import Deferred
from zope.interface import implementer

from relay.interfaces import IResolver
from relay.mail.answer import Absent, Answer, Exchange, Found, Record, Unanswered
from relay.net.dnswire import KINDS, MOST_RECORDS
from relay.net.resolver import local_answer

#: The records of one name by kind, as a test writes them: `{"MX": [(10, "mx.example.org")], "A": ["192.0.2.1"],
#: "CNAME": "elsewhere.example"}`. `Unanswered` for a kind, or for the whole name: SERVFAIL.
Records: TypeAlias = Mapping[str, "str | Unanswered | Iterable[str | tuple[int, str] | Exchange]"] | Unanswered

_MOST_CNAMES: Final = 8


class Names:
    """
    What there is in the DNS: `names["mx.example.org"] = {"A": ["192.0.2.1"]}`, at any time.

    A name exists if it has records or a name below it has, as in the real one.
    """

    def __init__(self, names: Mapping[str, Records] | None = None, signed: Iterable[str] = ()) -> None:
        self._names: MutableMapping[str, Records] = dict(names or {})
        #: What is said of these names, and of all below them, is authentic; "" is the root. Nothing else is.
        self.signed: set[str] = set(signed)

    def __setitem__(self, name: str, records: Records) -> None:
        self._names[name] = records

    def __delitem__(self, name: str) -> None:
        del self._names[name]

    def at(self, name: str, kind: str) -> Answer:
        """What stands at this name itself, no CNAME followed."""
        answer = self._found(name, kind)
        if isinstance(answer, Unanswered):
            return answer
        return evolve(answer, authentic=any(not zone or f".{name}".endswith(f".{zone}") for zone in self.signed))

    def _found(self, name: str, kind: str) -> Answer:
        records = self._names.get(name)
        if records is None:
            return Absent(nonexistent=not any(other.endswith("." + name) for other in self._names))
        if isinstance(records, Unanswered):
            return records
        found = records.get(kind, ())
        if isinstance(found, Unanswered):
            return found
        values = tuple(map(_record, (found,) if isinstance(found, str) else found))
        return Found(values) if values else Absent(nonexistent=False)

    def answer(self, name: str, kind: str) -> Answer:
        """What a resolver would say."""
        local = local_answer(name, kind)
        if local is not None:
            return local
        authentic = True
        for _ in range(_MOST_CNAMES):
            answer = self.at(name, kind)
            match self.at(name, "CNAME"):
                case Found((str(target),), genuine) if isinstance(answer, Absent):
                    name, authentic = target, authentic and genuine
                case _:
                    break
        else:
            return Unanswered("its CNAMEs come to no end")
        if isinstance(answer, Found) and len(answer.records) > MOST_RECORDS:
            return Unanswered("more records than we read")
        return answer if isinstance(answer, Unanswered) or authentic else evolve(answer, authentic=False)


@implementer(IResolver)
class FakeNames(Names):
    """
    `IResolver` for tests: answers at once, keeps nothing, and notes in `asked` what it was asked.

    >>> names = FakeNames({"example.org": {"MX": [(10, "mx.example.org")]}, "mx.example.org": {"A": ["192.0.2.1"]}})
    >>> names.signed.add("example.org")
    """

    def __init__(self, names: Mapping[str, Records] | None = None, signed: Iterable[str] = ()) -> None:
        super().__init__(names, signed)
        #: Each look-up, in order: `names.asked.count(("example.org", "MX"))`.
        self.asked: list[tuple[str, str]] = []
        self._held: dict[tuple[str, str], list[Deferred[None]]] = {}

    def hold(self, name: str, kind: str) -> None:
        """From now on whoever looks this up waits, until `release`."""
        self._held.setdefault((name, kind), [])

    def release(self, name: str, kind: str) -> None:
        """Those who wait get what stands there now."""
        waiting = self._held.pop((name, kind))
        while waiting:
            waiting.pop(0).callback(None)

    async def look_up(self, name: str, kind: str) -> Answer:
        if kind not in KINDS:
            raise ValueError(f"we do not look up {kind} records")
        self.asked.append((name, kind))
        waiting = self._held.get((name, kind))
        if waiting is not None:
            released: Deferred[None] = Deferred(waiting.remove)
            waiting.append(released)
            await released
        return self.answer(name, kind)


def _record(value: str | tuple[int, str] | Exchange) -> Record:
    return Exchange(*value) if isinstance(value, tuple) else value
