"""
The JSON of a decision, written at once.

What a decision is kept as is said by `Explanation.to_json`. Each message has one, so the values on the way to it would
cost as much as a whole session: here what steps and routes say is written once for each of them and not for each
message, and put together with what is different each time. Both ways give the same text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Final, Generic, TypeVar

from relay.mail.address import Address
from relay.mail.decision import Placement
from relay.mail.envelope import Client
from relay.mail.explanation import DIGITS, MOST, Brief, Decided, way
from relay.mail.verdict import cut, words

T = TypeVar("T")

#: Values whose text is remembered.
_REMEMBERED: Final = 1000

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class _Texts(Generic[T]):
    """What values say, by what they are known by. Of too many, all are forgotten at once."""

    __slots__ = ("_known_by", "_said", "_say")

    def __init__(self, say: Callable[[T], str], known_by: Callable[[T], Hashable] = id) -> None:
        """`known_by`: the value itself, unless told otherwise, and not what it is equal to."""
        self._say = say
        self._known_by = known_by
        #: With the value, so that no other one gets its place in memory.
        self._said: dict[Hashable, tuple[T, str]] = {}

    def of(self, value: T) -> str:
        key = self._known_by(value)
        said = self._said.get(key)
        if said is None:
            if len(self._said) >= _REMEMBERED:
                self._said.clear()
            self._said[key] = said = (value, self._say(value))
        return said[1]


def _fields(**texts: str) -> str:
    """Those that say something, each with a comma before it."""
    return "".join([f',"{name}":{quoted(text)}' for name, text in texts.items() if text])


def _client(client: Client) -> str:
    return _fields(
        client=client.address or "",
        helo=cut(client.helo),
        user=cut(client.user or ""),
        listener=client.listener,
        tls=client.tls.protocol if client.tls else "",
    )


def _all_that_is_said(client: Client) -> Hashable:
    """Each connection has a client of its own; but for its port it is mostly the same one."""
    return client.address, client.helo, client.user, client.listener, client.tls.protocol if client.tls else None


def _verdict(verdict: Any) -> str:
    return _fields(verdict=words(verdict))


class Shorthand:
    """For one thread."""

    __slots__ = ("_address", "_clients", "_quoted", "_steps", "_ways")

    def __init__(self) -> None:
        self._clients = _Texts(_client, _all_that_is_said)
        #: By what they have in common: the verdict, and what is said before the recipient and behind it.
        self._steps: dict[tuple[str, str, str, str, int], tuple[Any, str, str]] = {}
        #: The address that was written last, which mostly is the next one too, and how.
        self._address: Address | None = None
        self._quoted = ""
        #: By the route: the policy that it is from, why, and what there is to say of the way.
        self._ways: dict[int, tuple[Any, str, str, str]] = {}

    def of(self, decision: Decided) -> str | None:
        """The explanation in JSON, or `None` where there is so much of it that it has to be thought about."""
        steps, recipients, placements = decision.steps, decision.recipients, decision.placements
        if len(steps) > MOST or len(recipients) > MOST or len(placements) > MOST:
            return None
        told = []
        looks = 0
        for step in steps:
            brief = step.brief()
            if brief is None:
                return None
            looks += len(brief.looks)
            told.append(self._step(brief))
        if looks > MOST:
            return None
        sender = "<>" if decision.sender is None else str(decision.sender)
        text = f'"sender":{quoted(sender)}' if sender else ""
        text += self._clients.of(decision.client)
        if recipients:
            text += f',"recipients":[{",".join([self._name(each) for each in recipients])}]'
        if told:
            text += f',"steps":[{",".join(told)}]'
        text += f',"reply":{quoted(str(decision.reply))}'
        if decision.policy:
            text += f',"policy":{quoted(decision.policy)}'
        if decision.because:
            text += f',"because":{quoted(cut(decision.because))}'
        if placements:
            text += f',"ways":[{",".join([self._way(each) for each in placements])}]'
        return f"{{{text}}}" if sender else f"{{{text[1:]}}}"

    def _step(self, brief: Brief) -> str:
        phase, policy, recipient, guard, verdict, because, looks, milliseconds = brief
        key = phase, policy, guard, because, id(verdict)
        known = self._steps.get(key)
        if known is None:
            if len(self._steps) >= _REMEMBERED:
                self._steps.clear()
            behind = (
                _fields(guard=guard) + ("" if verdict is None else _verdict(verdict)) + _fields(because=cut(because))
            )
            self._steps[key] = known = verdict, _fields(phase=phase, policy=policy), behind
        _, before, behind = known
        text = before + behind if recipient is None else f'{before},"recipient":{self._name(recipient)}{behind}'
        if looks:
            text += f',"looks":{_encode(looks)}'
        if milliseconds := round(milliseconds, DIGITS):
            text += f',"milliseconds":{milliseconds!r}'
        return f"{{{text[1:]}}}"

    def _name(self, address: Address) -> str:
        if address is not self._address:
            self._address = address
            self._quoted = quoted(str(address))
        return self._quoted

    def _way(self, placement: Placement) -> str:
        route, policy, because = placement.route, placement.policy, placement.because
        known = self._ways.get(id(route))
        if known is None or known[1] != policy or known[2] != because:
            if len(self._ways) >= _REMEMBERED:
                self._ways.clear()
            made = way(placement)
            rest = _fields(to=made.to, policy=made.policy, because=made.because, tls=made.tls)
            self._ways[id(route)] = known = (route, policy, because, rest)
        return f'{{"recipient":{self._name(placement.address)}{known[3]}}}'
