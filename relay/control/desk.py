"""All that `relayctl` may ask and do, by path."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from attrs import asdict, frozen

from relay import __version__
from relay.control.api import Answer, Asked, Desk, Refused
from relay.control.dispatching import canonical
from relay.control.explaining import ExplanationDesk
from relay.control.queue import QueueDesk
from relay.control.reloading import InForce, ReloadDesk
from relay.control.running import Running
from relay.control.suppression import SuppressionDesk
from relay.interfaces import IClock
from relay.mail.waiting import DestinationView, Reason

#: Names that are shown to whoever has said a part of them.
MOST_ALIKE: Final = 3
#: Lives that a trace tells at most.
MOST_LIVES: Final = 20


def desk(running: Running) -> Desk:
    """The answers of this relay."""
    queue, destinations, suppression = QueueDesk(running), DestinationDesk(running), SuppressionDesk(running)
    explanations = ExplanationDesk(running)

    async def status(_asked: Asked) -> Mapping[str, Any]:
        return await status_of(running)

    async def trace(asked: Asked) -> Mapping[str, Any]:
        text = asked.text("text").strip()
        if not text:
            raise Refused("what is to be traced? Say a queue id, a Message-ID, or an address")
        if running.history is None:
            raise Refused("this relay keeps no history; the mail log has what happened", 404)
        return (await running.history.find(text, MOST_LIVES)).to_json()

    return Desk(
        {
            "status": status,
            "trace": trace,
            **queue.questions(),
            **destinations.questions(),
            **suppression.questions(),
            **explanations.questions(),
        },
        {
            **queue.acts(),
            **destinations.acts(),
            **suppression.acts(),
            **explanations.acts(),
            **ReloadDesk(running).acts(),
        },
    )


async def status_of(running: Running) -> Mapping[str, Any]:
    """How the relay is."""
    clock, spool = running.clock, running.spool
    census = await spool.census()
    return {
        "version": __version__,
        "hostname": running.hostname,
        "pid": running.pid,
        "up": clock.seconds() - running.started,
        "accepting": spool.accepting,
        "configuration": None if running.in_force is None else in_force_text(running.in_force(), clock),
        "listeners": list(running.listeners()),
        "paused": [each.name for each in running.delivery.destinations() if each.obstacle is Reason.PAUSED],
        "counts": dict(running.counts),
        "queue": {
            "entries": census.entries,
            "waiting": census.waiting,
            "active": census.active,
            "held": census.held,
            "corrupt": census.corrupt,
            "oldest_age": None if census.oldest is None else max(0.0, clock.now() - census.oldest),
        },
    }


def in_force_text(found: InForce, clock: IClock) -> Mapping[str, Any]:
    """Which configuration is in force, and for how long."""
    return {"file": found.file, "digest": found.digest, "for": clock.seconds() - found.since}


@frozen
class DestinationDesk:
    """Answers about destinations."""

    running: Running

    def questions(self) -> Mapping[str, Answer]:
        return {"dest": self.listed, "dest/show": self.shown}

    def acts(self) -> Mapping[str, Answer]:
        return {"dest/pause": self.paused, "dest/resume": self.resumed}

    async def listed(self, _asked: Asked) -> Mapping[str, Any]:
        now = self.running.clock.now()
        return {"destinations": [_view(each, now) for each in self.running.delivery.destinations()]}

    async def shown(self, asked: Asked) -> Mapping[str, Any]:
        name, now = _named(asked), self.running.clock.now()
        for each in self.running.delivery.destinations():
            if each.name == name:
                return _view(each, now)
        alike = ", ".join(self._alike(name))
        raise Refused(
            f"nothing is known of {name} at this moment: nothing is under way, and nothing is wrong"
            + (f"; known is {alike}" if alike else ""),
            404,
        )

    async def paused(self, asked: Asked) -> Mapping[str, Any]:
        name = _named(asked)
        known = self.running.delivery.knows(name)
        self.running.delivery.pause(name)
        if not asked.aside:
            self.running.maillog.event("paused", destination=name, operator=asked.user or "unknown")
        await self.running.delivery.keep()
        return {"paused": name, "known": known, "alike": [] if known else self._alike(name)}

    def _alike(self, name: str) -> list[str]:
        """Some of which the name may be a part: `[mx.example.org]:2525` for `mx.example.org`."""
        found = (each.name for each in self.running.delivery.destinations() if name in each.name and name != each.name)
        return list(islice(found, MOST_ALIKE))

    async def resumed(self, asked: Asked) -> Mapping[str, Any]:
        name = _named(asked)
        self.running.delivery.resume(name)
        if not asked.aside:
            self.running.maillog.event("resumed", destination=name, operator=asked.user or "unknown")
        await self.running.delivery.keep()
        return {"resumed": name}


def _named(asked: Asked) -> str:
    name = asked.text("name").strip()
    if not name:
        raise Refused("which destination? Say its name as 'relayctl queue count' does")
    return canonical(name)


def _view(view: DestinationView, now: float) -> dict[str, Any]:
    said = asdict(view, recurse=False)
    said["obstacle"] = view.obstacle and view.obstacle.name.lower()
    said["why"] = view.obstacle and view.obstacle.value
    said["rate"] = "" if view.rate_left is None else rate_text(view.rate_left)
    said["met"] = [{"ago": max(0.0, now - when), "text": text} for when, text in view.met]
    said["in"] = None if view.until is None else max(0.0, view.until - now)
    del said["until"]
    return said


def rate_text(left: int) -> str:
    """How many messages more may be sent to a destination that has a rate."""
    return f"{left} more now"
