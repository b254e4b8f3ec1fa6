"""What the histories of all shards know, as one history."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen

from relay.control.api import Answer, Asked
from relay.control.desk import MOST_LIVES
from relay.control.explaining import MOST_ACCOUNTS
from relay.control.workers.asking import Workers, ask_all


@frozen
class HistoryOfWorkers:
    """Answers about what was. Those that deliver what is left of others answer for their history, too."""

    workers: Workers

    def questions(self) -> Mapping[str, Answer]:
        return {"trace": self.traced, "why": self.why}

    async def traced(self, asked: Asked) -> Mapping[str, Any]:
        heard = await ask_all(self.workers(), "trace", asked)
        answers = heard.something()
        lives = _newest_first(_whole(life for answer in answers for life in answer["lives"]), _began)
        return {**_told("lives", lives, MOST_LIVES, answers), **heard.missing()}

    async def why(self, asked: Asked) -> Mapping[str, Any]:
        heard = await ask_all(self.workers(), "why", asked)
        answers = heard.something()
        accounts = _newest_first(_different(one for answer in answers for one in answer["accounts"]), _at)
        return {**_told("accounts", accounts, MOST_ACCOUNTS, answers), **heard.missing()}


def _told(name: str, found: Sequence[Any], most: int, answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    begun = [answer["since"] for answer in answers if answer["since"] is not None]
    return {
        name: found[:most],
        "more": len(found) > most or any(answer["more"] for answer in answers),
        # A shard that is younger than others has no gap before it.
        "since": min(begun) if begun else None,
        "dropped": sum(answer["dropped"] for answer in answers),
    }


def _whole(lives: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Each message once, with all that is known of it. What was refused before it had an id stands for itself."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for life in _different(lives):
        found.setdefault(life["id"] or json.dumps(life, sort_keys=True), []).append(life)
    return [alike[0] if len(alike) == 1 else _joined(alike) for alike in found.values()]


def _joined(lives: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    happenings = _different(happening for life in lives for happening in life["happenings"])
    return {
        "id": lives[0]["id"],
        "left_out": sum(life["left_out"] for life in lives),
        "happenings": sorted(happenings, key=_at),
    }


def _different(values: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return list({json.dumps(value, sort_keys=True): value for value in values}.values())


def _newest_first(values: Sequence[Mapping[str, Any]], when: Any) -> list[Mapping[str, Any]]:
    return sorted(values, key=when, reverse=True)


def _began(life: Mapping[str, Any]) -> float:
    happenings = life["happenings"]
    return float(happenings[0]["at"]) if happenings else 0.0


def _at(value: Mapping[str, Any]) -> float:
    return float(value["at"])
