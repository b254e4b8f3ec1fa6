"""Whether an example of the configuration has come out as it says."""

from __future__ import annotations

from typing import Final

from relay.mail.explanation import Explanation, Way

#: Of what is accepted, and of what is not.
_CODES: Final = {"accept": "2", "reject": "5", "delay": "4"}
#: What `relay.mail.explanation.Way.to` begins with where a copy goes to an agent.
_AGENT: Final = "agent "
_NOWHERE: Final = ("hold", "discard")
#: The policy in whose name nobody has decided.
NOBODY: Final = ""


def met(expected: str, said: Explanation, *, alone: bool) -> bool:
    """
    Whether this is what was expected. `alone`: behind the only policy stands one without a name, which accepts what
    nobody has refused.
    """
    word, _, wanted = expected.partition(":")
    reply, accepted = said.reply, said.reply.startswith("2")
    if expected == "abstain":
        if alone:
            return accepted and all(way.policy == NOBODY for way in said.ways)
        return not accepted and said.policy == NOBODY
    if expected == "accept" and alone:
        return accepted and any(way.policy != NOBODY for way in said.ways)
    if expected in _CODES:
        return reply.startswith(_CODES[expected])
    if expected[0].isdigit():
        return reply == expected or reply.startswith((f"{expected} ", f"{expected}-"))
    ways = [way for way in said.ways if not alone or way.policy != NOBODY]
    return accepted and any(_goes(way, word, wanted) for way in ways)


def _goes(way: Way, word: str, wanted: str) -> bool:
    to = way.to
    match word:
        case "deliver":
            agent = to.removeprefix(_AGENT)
            return to.startswith(_AGENT) and (not wanted or wanted in (agent, agent.partition(":")[0]))
        case "forward":
            if to.startswith((_AGENT, "reject")) or to in _NOWHERE:
                return False
            hops = [hop.partition(";")[0] for hop in to.partition(" from ")[0].split(", ")]
            return not wanted or wanted == to or wanted in hops
        case _:
            return to == word


def told(said: Explanation) -> str:
    """What it has come to instead, in one line."""
    if not said.reply.startswith("2"):
        who = f" by {said.policy}" if said.policy else ""
        because = f" ({said.because})" if said.because else ""
        return f"it is {said.reply}{who}{because}"
    ways = "; ".join(f"{way.recipient}: {way.to} by {way.policy or 'nobody'}" for way in said.ways)
    return f"it is accepted: {ways}" if ways else "it is accepted"
