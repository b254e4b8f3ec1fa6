"""What a policy has said, in words for people. (`relay.mail.routing` and `relay.mail.phases` have the verdicts.)"""

from __future__ import annotations

from typing import Any, Final

from relay.mail.edits import AddField, AddRecipient, RemoveField, ReplaceField, ReplaceRecipients
from relay.mail.facts import Facts
from relay.mail.lanes import lane
from relay.mail.phases import Each, Edit
from relay.mail.routing import Abstention, Accept, Delay, Deliver, Discard, Forward, Hold, Note, Reject, Rewrite

#: Characters of a text that are kept.
LONGEST: Final = 400
#: Recipients, changes or facts of one verdict that are named.
_SHOWN: Final = 10


def words(verdict: Any) -> str:
    """The verdict without its `because`."""
    match verdict:
        case Abstention():
            return "no opinion"
        case Accept(facts=facts):
            return cut(f"accept{_noted(facts)}")
        case Deliver(agent, parameters):
            return f"deliver by {lane(agent, parameters)}"
        case Forward(next_hops):
            return cut(f"forward to {_some(next_hops)}")
        case Rewrite(recipients):
            return cut(f"stands for {_some(recipients)}")
        case Reject(reply):
            return cut(f"reject: {reply}")
        case Delay(reply):
            return cut(f"delay: {reply}")
        case Discard():
            return "discard"
        case Hold():
            return "hold"
        case Note(facts):
            return cut(f"no opinion{_noted(facts)}")
        case Edit(changes, _, facts):
            return cut(f"{_some([_change(each) for each in changes])}{_noted(facts)}")
        case Each(verdicts):
            return cut(_some([f"{address}: {words(verdict)}" for address, verdict in verdicts]))
        case _:
            return cut(f"{verdict}")


def cut(text: str) -> str:
    """As much of it as is kept."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _noted(facts: Facts) -> str:
    return f", noting {_some([f'{name}={value}' for name, value in facts.items()])}" if facts else ""


def _some(each: Any) -> str:
    texts = [str(one) for one in each[:_SHOWN]]
    more = len(each) - len(texts)
    return ", ".join(texts) + (f" and {more} more" if more > 0 else "")


def _change(change: Any) -> str:
    match change:
        case AddField(name, body):
            return f"add {name}: {_plain(body)}"
        case RemoveField(name, nth):
            return f"remove {name}" if nth is None else f"remove {name} number {nth}"
        case ReplaceField(name, body):
            return f"replace {name}: {_plain(body)}"
        case ReplaceRecipients(recipients):
            return f"send it to {_some(recipients)} instead"
        case AddRecipient(recipient):
            return f"send a copy to {recipient}"
        case _:
            return str(change)


def _plain(body: str) -> str:
    return " ".join(body.split())
