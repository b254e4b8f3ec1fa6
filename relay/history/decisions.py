"""What a decision is kept as, and by which words it is found again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from attrs import evolve

from relay.history.keys import key
from relay.history.shorthand import Shorthand
from relay.mail.explanation import Decided, Explanation
from relay.mail.reference import read_reference

#: Octets of one explanation. Usual ones have a few hundred; in one that has more, looks are left out first.
LONGEST: Final = 64 * 1024
#: Steps and ways of one that is too long without its looks.
_FEW: Final = 20

#: With escapes for all but ASCII, so that what is no text in UTF-8 does no harm.
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def kept(decision: Decided) -> Explanation:
    """The explanation, with as much of it as is kept."""
    return row(decision)[1]


def row(decision: Decided) -> tuple[str, Explanation]:
    """The explanation in JSON, and as it is. Never too long."""
    explanation = decision.explanation()
    text = _encode(explanation.to_json())
    if len(text) > LONGEST:
        explanation = evolve(explanation, steps=tuple(evolve(step, looks=()) for step in explanation.steps))
        text = _encode(explanation.to_json())
    if len(text) > LONGEST:
        mail, steps, ways = explanation.mail, explanation.steps, explanation.ways
        explanation = evolve(
            explanation,
            mail=evolve(mail, recipients=mail.recipients[:_FEW]),
            steps=steps[:_FEW],
            ways=ways[:_FEW],
            left_out=explanation.left_out + sum(max(0, len(each) - _FEW) for each in (mail.recipients, steps, ways)),
        )
        text = _encode(explanation.to_json())
    return text, explanation


def kept_at_once(decision: Decided, shorthand: Shorthand) -> str | None:
    """The explanation in JSON, if it is one of those of which nothing has to be left out and nothing is found by."""
    if decision.reply.code >= 300:
        return None
    text = shorthand.of(decision)
    return text if text is not None and len(text) <= LONGEST else None


def keys_of(explanation: Explanation, ref: str) -> Iterator[str]:
    """
    By what it is found, besides the queue id. A message that was accepted is found by what happened to it, so that
    nothing needs to be noted twice.
    """
    if ref:
        yield _key_of(ref)
    if not explanation.reply.startswith("2"):
        mail = explanation.mail
        for name in (mail.sender, *mail.recipients, mail.user, mail.client):
            if name and name != "<>":
                yield key(name)


def asked_by(text: str) -> frozenset[str]:
    """The keys that somebody may mean who asks so."""
    ref = read_reference(text)
    wanted = {key(text), _key_of(ref) if ref else ""}
    return frozenset(wanted - {""})


def _key_of(ref: str) -> str:
    # Neither an address nor a Message-ID can be one.
    return f"[ref {ref}]"
