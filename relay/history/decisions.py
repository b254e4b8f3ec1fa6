"""
What decisions are kept as, and by which words they are found again.

Each message has one, so those of messages that were accepted are kept together, many at a time (`in_columns`): the
values on the way to an `Explanation` would cost as much as a whole session. What that is cut at is cut when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain, pairwise, repeat
from operator import attrgetter, mul
from typing import Any, Final

from attrs import evolve

from relay.history.columns import Column, packed, recurring, texts, unpacked
from relay.history.keys import key
from relay.mail.envelope import Client
from relay.mail.explanation import MOST, Decided, Explanation, Mail, Step, Way, bounded, destination
from relay.mail.reference import read_reference
from relay.mail.verdict import cut, words

#: Octets of one explanation. Usual ones have a few hundred; in one that has more, looks are left out first.
LONGEST: Final = 64 * 1024
#: Steps and ways of one that is too long without its looks.
_FEW: Final = 20

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

#: The parts of decisions, of steps and of placements, each in the order in which they are kept.
_DECIDED: Final = attrgetter("reply", "sender", "recipients", "policy", "because", "client", "steps", "placements")
_WHOLE: Final = attrgetter("whole")
_CODE: Final = attrgetter("reply.code")
_PARTS: Final = attrgetter("steps", "recipients", "placements")
_PLACED: Final = attrgetter("address", "policy", "because", "route")


def kept(decision: Decided) -> Explanation:
    """The explanation, with as much of it as is kept."""
    explanation = decision.explanation()
    if _length(explanation) > LONGEST:
        explanation = evolve(explanation, steps=tuple(evolve(step, looks=()) for step in explanation.steps))
    if _length(explanation) > LONGEST:
        mail, steps, ways = explanation.mail, explanation.steps, explanation.ways
        explanation = evolve(
            explanation,
            mail=evolve(mail, recipients=mail.recipients[:_FEW]),
            steps=steps[:_FEW],
            ways=ways[:_FEW],
            left_out=explanation.left_out + sum(max(0, len(each) - _FEW) for each in (mail.recipients, steps, ways)),
        )
    return explanation


def keys_of(explanation: Explanation, ref: str) -> set[str]:
    """
    By what it is found, besides the queue id. A message that was accepted is found by what happened to it, so that
    nothing needs to be noted twice.
    """
    found = {_key_of(ref)} if ref else set()
    if not explanation.reply.startswith("2"):
        mail = explanation.mail
        found |= {key(name) for name in (mail.sender, *mail.recipients, mail.user, mail.client) if name != "<>"}
    return found - {""}


def asked_by(text: str) -> frozenset[str]:
    """The keys that somebody may mean who asks so."""
    ref = read_reference(text)
    wanted = {key(text), _key_of(ref) if ref else ""}
    return frozenset(wanted - {""})


def are_usual(decisions: Sequence[Decided]) -> bool:
    """Whether nothing of them has to be left out and nothing is found by them: `in_columns` is for such."""
    parts = chain.from_iterable(map(_PARTS, decisions))
    return max(map(_CODE, decisions)) < 300 and max(map(len, parts)) <= MOST


def in_columns(decisions: Sequence[Decided]) -> dict[str, Any]:
    """
    What these decisions say, for an encoder of JSON that turns into text what it does not know. Raises `TypeError` for
    a step that cannot be told at once. `InColumns` reads it.

    Columns, nearly all `packed`: of the decisions, of all steps in them, of all placements. What many have in common, a
    client or a verdict, is said once and then by its number.
    """
    reply, sender, *said, known, steps, placements = zip(*map(_DECIDED, decisions), strict=True)
    taken = list(chain.from_iterable(steps))
    if not all(map(_WHOLE, dict(zip(map(type, taken), taken, strict=True)).values())):
        raise TypeError("there is more to say of a step")
    phase, policy, recipient, guard, given, because, looks, milliseconds = _columns(taken, 8)
    address, *placed, ways = _columns(map(_PLACED, chain.from_iterable(placements)), 4)
    client, clients = _numbered(known)
    period = max(1, len(steps[0]))  # nearly all mail goes past the same policies
    verdict, verdicts = _numbered(given, period)
    route, routes = _numbered(ways)
    thousandths = list(map(round, map(mul, milliseconds, repeat(1000))))
    each = [reply, texts(sender), *said, client]
    step = [phase, policy, texts(recipient), guard, verdict, because, looks, thousandths]
    return {
        "said": [*[packed(column) for column in each], _ends(steps), _ends(placements)],
        "steps": [packed(column, period) for column in step],
        "ways": [packed(column) for column in (texts(address), *placed, route)],
        "clients": [_client(each) for each in clients],
        "verdicts": ["" if each is None else words(each) for each in verdicts],
        "routes": [destination(each) for each in routes],
    }


class InColumns:
    """What `in_columns` has made. Whatever it raises where that is something else is no reason to fail for anybody."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        *_, steps, ways = told["said"]
        self._told = told
        self._said = [unpacked(column, len(steps)) for column in told["said"]]
        self._steps = [unpacked(column, steps[-1]) for column in told["steps"]]
        self._ways = [unpacked(column, ways[-1]) for column in told["ways"]]
        #: Where those of each decision begin and end.
        self._bounds = [list(pairwise([0, *ends])) for ends in (steps, ways)]

    def explanation(self, number: int) -> Explanation:
        """As `Decided.explanation` of the one with this number."""
        reply, sender, recipients, policy, because, client, *_ = [column[number] for column in self._said]
        address, helo, user, listener, tls = self._told["clients"][client]
        steps, ways = (slice(*bounds[number]) for bounds in self._bounds)
        return Explanation(
            Mail(
                "<>" if sender is None else sender,
                tuple(recipients),
                address or "",
                cut(helo),
                cut(user or ""),
                listener,
                tls or "",
            ),
            bounded([self._step(*row) for row in zip(*[column[steps] for column in self._steps], strict=True)]),
            reply,
            policy,
            cut(because),
            tuple([self._way(*row) for row in zip(*[column[ways] for column in self._ways], strict=True)]),
        )

    def _step(
        self,
        phase: str,
        policy: str,
        recipient: str | None,
        guard: str,
        verdict: int,
        because: str,
        looks: Sequence[Sequence[str]],
        thousandths: int,
    ) -> Step:
        return Step(
            phase,
            policy,
            recipient or "",
            guard,
            self._told["verdicts"][verdict],
            cut(because),
            looks=tuple((str(where), str(what), str(found)) for where, what, found in looks),
            milliseconds=thousandths / 1000,
        )

    def _way(self, address: str, policy: str, because: str, route: int) -> Way:
        to, tls = self._told["routes"][route]
        return Way(address, to, tls, policy, cut(because))


def _client(client: Client) -> tuple[str | None, ...]:
    return client.address, client.helo, client.user, client.listener, client.tls.protocol if client.tls else None


def _columns(rows: Iterable[Iterable[Any]], width: int) -> tuple[Column, ...]:
    """What is said in rows, by columns. There may be no row."""
    return tuple(zip(*rows, strict=True)) or ((),) * width


def _numbered(values: Column, period: int = 1) -> tuple[list[int], list[Any]]:
    """The number of each value among those that are different ones, and these; `packed`."""
    which = recurring(list(map(id, values)), period)
    different = dict(zip(which, values, strict=False))  # what recurs is the same
    numbers = dict(zip(different, range(len(different)), strict=True))
    return list(map(numbers.__getitem__, which)), list(different.values())


def _ends(each: Iterable[Sequence[Any]]) -> list[int]:
    """How many there are up to the end of each of these."""
    return list(accumulate(map(len, each)))


def _length(explanation: Explanation) -> int:
    return len(_encode(explanation.to_json()))


def _key_of(ref: str) -> str:
    # Neither an address nor a Message-ID can be one.
    return f"[ref {ref}]"
