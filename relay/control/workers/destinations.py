"""The destinations of all workers, a row for each: what is under way is added up, and the worst that is met is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import evolve, frozen

from relay.control.api import Answer, Asked, Refused
from relay.control.desk import MOST_ALIKE, rate_text
from relay.control.workers.asking import Heard, Workers, ask_all
from relay.control.workers.company import Company
from relay.control.workers.owed import Owed
from relay.mail.waiting import Reason

#: From the worst on.
_OBSTACLES: Final = tuple(
    reason.name.lower() for reason in (Reason.PAUSED, Reason.RESTING, Reason.RATE, Reason.AT_LIMIT)
)
#: Things met lately that are told of one destination.
_MOST_MET: Final = 5
#: What is told of each worker's part.
_OWN: Final = ("active", "limit", "ready", "obstacle", "in")
_LATER: Final = Refused("it has not answered: it is told as soon as it does", 503)


@frozen
class DestinationsOfWorkers:
    """Answers about destinations; as `relay.control.desk.DestinationDesk`."""

    workers: Workers
    company: Company
    owed: Owed

    def questions(self) -> Mapping[str, Answer]:
        return {"dest": self.listed, "dest/show": self.shown}

    def acts(self) -> Mapping[str, Answer]:
        return {"dest/pause": self.paused, "dest/resume": self.resumed}

    async def listed(self, asked: Asked) -> Mapping[str, Any]:
        heard = await ask_all(self.workers(), "dest", asked)
        views: dict[str, list[Mapping[str, Any]]] = {}
        for answer in heard.something():
            for view in answer["destinations"]:
                views.setdefault(view["name"], []).append(view)
        return {"destinations": [as_one(views[name]) for name in sorted(views)], **heard.missing()}

    async def shown(self, asked: Asked) -> Mapping[str, Any]:
        """With the part of each worker that knows something of it."""
        heard = await ask_all(self.workers(), "dest/show", asked)
        whole = as_one(heard.something())
        parts = [{"worker": index, **{word: view[word] for word in _OWN}} for index, view in heard.said.items()]
        # Who knows nothing of it has no part in it.
        return {**whole, "workers": parts, **evolve(heard, declined={}).missing()}

    async def paused(self, asked: Asked) -> Mapping[str, Any]:
        heard = await self._told("dest/pause", asked)
        answers = heard.something()
        known = any(answer["known"] for answer in answers)
        alike = sorted({name for answer in answers for name in answer["alike"]})[:MOST_ALIKE]
        return {
            "paused": answers[0]["paused"],
            "known": known,
            "alike": [] if known else alike,
            **heard.missing(),
        }

    async def resumed(self, asked: Asked) -> Mapping[str, Any]:
        heard = await self._told("dest/resume", asked)
        return {"resumed": heard.something()[0]["resumed"], **heard.missing()}

    async def _told(self, path: str, asked: Asked) -> Heard:
        """Who is not there at this moment is told later, unless nobody is."""
        heard = await self.company.tell_all(self.workers(), path, asked)
        self.owed.note(path, asked, heard)
        if not heard.said:
            return heard
        later = {index: _LATER if each.status == _LATER.status else each for index, each in heard.silent.items()}
        return evolve(heard, silent=later)


def as_one(views: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A destination of which several workers have something to say."""
    obstacle = min((view["obstacle"] for view in views), key=_rank)
    worst = [view for view in views if view["obstacle"] == obstacle]
    ends = [view["in"] for view in worst if view["in"] is not None]
    left = [view["rate_left"] for view in views if view["rate_left"] is not None]
    # The newest last.
    met = sorted((met for view in views for met in view["met"]), key=lambda met: -float(met["ago"]))
    return {
        **worst[0],
        **{word: sum(view[word] for view in views) for word in ("active", "trailing", "limit", "ready")},
        "in": min(ends) if ends else None,
        "rate_left": sum(left) if left else None,
        "rate": rate_text(sum(left)) if left else "",
        "met": met[-_MOST_MET:],
    }


def _rank(obstacle: str | None) -> int:
    return _OBSTACLES.index(obstacle) if obstacle in _OBSTACLES else len(_OBSTACLES)
