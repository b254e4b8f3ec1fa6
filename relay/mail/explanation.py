"""
Why a mail was accepted, refused or sent there, as a value: what `relayctl explain` predicts and `relayctl why` tells.

An explanation is kept for each message, so its JSON leaves out all that says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from attrs import define, evolve, field

from relay.mail.address import Address
from relay.mail.decision import Placement
from relay.mail.envelope import Client
from relay.mail.lanes import lane
from relay.mail.outcome import Peer
from relay.mail.reference import unreferred
from relay.mail.reply import Reply
from relay.mail.routing import Deliver, Discard, Forward, Hold, NextHop, Reject, Route
from relay.mail.verdict import cut, words

#: How many steps and ways of one mail are kept; of more, the first.
MOST: Final = 200

#: Where a policy has looked (`dns`, `table`, `store`, `http`), for what, and what it has found.
Look: TypeAlias = tuple[str, str, str]


# None of these values is ever changed. They are made for each message, and frozen ones would cost three times as much.


@define
class Step:
    """One policy's turn: it was asked, or a condition of its `when` did not hold."""

    #: `connection`, `sender`, `recipient` or `content`.
    phase: str
    policy: str
    #: About whom it was asked, where that is one recipient.
    recipient: str = ""
    #: The condition of its `when` by which it was skipped, or "".
    guard: str = ""
    #: In words; "" if it was skipped.
    verdict: str = ""
    because: str = ""
    #: It raised, was too late, or said what is no verdict.
    failed: bool = False
    #: What it has looked at. For people, as the time it took: answers have times and counts in them.
    looks: tuple[Look, ...] = field(default=(), eq=False)
    milliseconds: float = field(default=0.0, eq=False)


@define
class Way:
    """Where one copy goes."""

    recipient: str
    #: `agent maildir`, `example.org`, `hold`, `discard`, or what it was refused with.
    to: str
    #: How much TLS is asked for there (`relay.mail.routing.TlsLevel`); "" where nobody is connected to.
    tls: str = ""
    policy: str = ""
    because: str = ""
    #: What would be tried, in this order: hosts with their addresses. Only a prediction has them: of what has happened,
    #: `relayctl trace` tells.
    hosts: tuple[str, ...] = field(default=(), eq=False)
    #: Why nothing can be tried, or "".
    trouble: str = field(default="", eq=False)


@define
class Mail:
    """What was asked about. What is not known, or was not said yet, is ""."""

    #: The address, or `<>` for the null reverse-path.
    sender: str = ""
    recipients: tuple[str, ...] = ()
    client: str = ""
    helo: str = ""
    user: str = ""
    listener: str = ""
    #: The protocol's version.
    tls: str = ""


@define
class Explanation:
    """How a decision came about, and what it was."""

    mail: Mail
    #: In the order in which policies had their turn.
    steps: tuple[Step, ...]
    #: What the client hears, in one line.
    reply: str
    #: Whose word that is, and why; "" where it is nobody's.
    policy: str = ""
    because: str = ""
    ways: tuple[Way, ...] = ()
    #: So many more steps and ways there were.
    left_out: int = 0

    def same_as(self, other: Explanation) -> bool:
        """
        Whether both tell the same, but for what is different each time: how long it took, what exactly was found,
        which hosts there are, the reference in a refusal and the text of a 250, which has the queue id.
        """
        return evolve(self, reply=_lasting(self.reply)) == evolve(other, reply=_lasting(other.reply))

    def to_json(self) -> dict[str, Any]:
        """What says something, by its name."""
        mail = self.mail
        said = {
            "sender": mail.sender,
            "client": mail.client,
            "helo": mail.helo,
            "user": mail.user,
            "listener": mail.listener,
            "tls": mail.tls,
            "recipients": mail.recipients,
            "steps": [_step(step) for step in self.steps],
            "reply": self.reply,
            "policy": self.policy,
            "because": self.because,
            "ways": [_way(way) for way in self.ways],
            "left_out": self.left_out,
        }
        return {name: value for name, value in said.items() if value}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Explanation:
        """Raises `KeyError`, `TypeError` or `ValueError` for what `to_json` never made."""
        said = dict(value)
        mail = Mail(
            **{name: said.pop(name) for name in _MAIL if name in said}, recipients=tuple(said.pop("recipients", ()))
        )
        steps = tuple(map(_step_of, said.pop("steps", ())))
        ways = tuple(map(_way_of, said.pop("ways", ())))
        return cls(mail, steps, said.pop("reply", ""), ways=ways, **said)


_MAIL: Final = ("sender", "client", "helo", "user", "listener", "tls")
#: Digits behind the point of a number of milliseconds.
DIGITS: Final = 3


def _step(step: Step) -> dict[str, Any]:
    said = {
        "phase": step.phase,
        "policy": step.policy,
        "recipient": step.recipient,
        "guard": step.guard,
        "verdict": step.verdict,
        "because": step.because,
        "failed": step.failed,
        "looks": step.looks,
        "milliseconds": round(step.milliseconds, DIGITS),
    }
    return {name: value for name, value in said.items() if value}


def _step_of(value: Mapping[str, Any]) -> Step:
    said = {"phase": "", "policy": "", **value}
    looks = tuple((str(where), str(what), str(found)) for where, what, found in said.pop("looks", ()))
    return Step(looks=looks, **said)


def _way(way: Way) -> dict[str, Any]:
    said = {
        "recipient": way.recipient,
        "to": way.to,
        "policy": way.policy,
        "because": way.because,
        "tls": way.tls,
        "hosts": way.hosts,
        "trouble": way.trouble,
    }
    return {name: value for name, value in said.items() if value}


def _way_of(value: Mapping[str, Any]) -> Way:
    said = {"recipient": "", "to": "", **value}
    return Way(hosts=tuple(map(str, said.pop("hosts", ()))), **said)


def _lasting(reply: str) -> str:
    """As much of a reply as is the same each time."""
    return reply.split(" ", 1)[0] if reply.startswith("2") else unreferred(reply)


# From a session's values to an explanation.


class Brief(NamedTuple):
    """A step's own values: what a `Step` says, for whoever does not want another value of it."""

    phase: str
    policy: str
    recipient: Address | None
    #: "" if it was asked.
    guard: str
    #: `None` if it was skipped.
    verdict: Any
    because: str
    looks: Sequence[Look]
    milliseconds: float


class Told(Protocol):
    """A step as the chain's observer hears of it (`relay.policy.steps`)."""

    @property
    def whole(self) -> bool:
        """Whether it is a `Brief` that says all there is to say. Of a policy that has failed there is more."""

    def told(self) -> Step:
        """The same, for people."""


@define(eq=False)
class Decided:
    """
    A decision as a session knows it: handed over as it is, for whoever makes an `Explanation` of it later, in whatever
    thread. Nothing in it is ever changed.
    """

    #: All that were made for this mail by now, from the connection on.
    steps: Sequence[Told]
    client: Client
    reply: Reply
    #: `None` is the null reverse-path; "": nothing was said yet.
    sender: Address | str | None = ""
    #: As the client has named them.
    recipients: Sequence[Address] = ()
    #: Whose word the reply is, and why.
    policy: str = ""
    because: str = ""
    #: Where the copies go. There are none if it is refused.
    placements: Sequence[Placement] = ()

    def explanation(self) -> Explanation:
        client, sender = self.client, self.sender
        steps, placements, recipients = self.steps, self.placements, self.recipients
        left_out = 0
        for each in (steps, placements, recipients):
            if len(each) > MOST:
                left_out += len(each) - MOST
        return Explanation(
            Mail(
                "<>" if sender is None else str(sender),
                tuple([str(recipient) for recipient in recipients[:MOST]]),
                client.address or "",
                cut(client.helo),
                cut(client.user) if client.user else "",
                client.listener,
                client.tls.protocol if client.tls else "",
            ),
            bounded([step.told() for step in steps[:MOST]]),
            str(self.reply),
            self.policy,
            cut(self.because),
            tuple([way(placement) for placement in placements[:MOST]]),
            left_out,
        )


def bounded(steps: Sequence[Step]) -> tuple[Step, ...]:
    """With no more than `MOST` looks in all."""
    left = MOST
    kept: list[Step] = []
    for step in steps:
        if not step.looks:
            kept.append(step)
            continue
        kept.append(step if len(step.looks) <= left else evolve(step, looks=step.looks[:left]))
        left -= len(kept[-1].looks)
    return tuple(kept)


def way(placement: Placement, hosts: Sequence[Peer] = (), trouble: str = "") -> Way:
    """Where a copy goes, and what was found there."""
    return Way(
        str(placement.address),
        *destination(placement.route),
        placement.policy,
        cut(placement.because),
        tuple([str(peer) for peer in hosts]),
        cut(trouble),
    )


def destination(route: Route) -> tuple[str, str]:
    """Where a copy goes, in words, and the level of TLS."""
    match route:
        case Deliver():
            # All of what it is told may be a command with a password in it.
            return f"agent {lane(route.agent, route.parameters)}", ""
        case Forward():
            to, tls = _onward(route.next_hops)
            return (to if route.reverse_path is None else f"{to} from {route.reverse_path}"), tls
        case Hold() | Discard() | Reject():
            return words(route), ""


@lru_cache(maxsize=1000)
def _onward(next_hops: tuple[NextHop, ...]) -> tuple[str, str]:
    levels = dict.fromkeys(hop.tls for hop in next_hops if not hop.unix)
    return ", ".join(str(hop) for hop in next_hops), ", ".join(levels)
