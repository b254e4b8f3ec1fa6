"""How a relay of several workers is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from relay import __version__
from relay.control.api import Answer, Asked
from relay.control.desk import in_force_text
from relay.control.reloading import InForce
from relay.control.workers.asking import Heard, Worker, Workers, ask_all
from relay.interfaces import IClock

#: What is said of each worker that answers, beside who it is.
_OWN: Final = ("up", "accepting", "configuration", "listeners", "counts", "queue")
_SUMS: Final = ("entries", "waiting", "active", "held", "corrupt")


@frozen
class Parent:
    """The process that the workers are children of."""

    clock: IClock
    hostname: str
    pid: int
    #: When it was put together, by `IClock.seconds`.
    started: float
    #: Which configuration is in force; `None`: nobody knows.
    in_force: Callable[[], InForce] | None = None


@frozen
class StatusOfWorkers:
    """Answers how all of it is: sums, and each worker's own part."""

    workers: Workers
    parent: Parent

    def questions(self) -> Mapping[str, Answer]:
        return {"status": self.status}

    async def status(self, asked: Asked) -> Mapping[str, Any]:
        """As `relay.control.desk.status_of`, and never refused: that nobody answers is an answer."""
        parent, workers = self.parent, self.workers()
        heard = await ask_all(workers, "status", asked)
        answers = list(heard.said.values())
        listening = [heard.said[each.index] for each in workers if each.index in heard.said and not each.retired]
        return {
            "version": __version__,
            "hostname": parent.hostname,
            "pid": parent.pid,
            "up": parent.clock.seconds() - parent.started,
            "accepting": bool(listening) and all(answer["accepting"] for answer in listening),
            "configuration": self._configuration(answers),
            "listeners": _listeners(answers),
            "paused": sorted({name for answer in answers for name in answer["paused"]}),
            "paused_in_part": _in_part({index: answer["paused"] for index, answer in heard.said.items()}),
            "counts": dict(sum((Counter(answer["counts"]) for answer in answers), Counter())),
            "queue": _queue([answer["queue"] for answer in answers]),
            "workers": [_part(worker, heard) for worker in workers],
            **heard.missing(),
        }

    def _configuration(self, answers: Sequence[Mapping[str, Any]]) -> Any:
        if self.parent.in_force is not None:
            return in_force_text(self.parent.in_force(), self.parent.clock)
        return next((answer["configuration"] for answer in answers), None)


def _part(worker: Worker, heard: Heard) -> dict[str, Any]:
    said = heard.said.get(worker.index)
    part = {"worker": worker.index, "pid": worker.pid, "retired": worker.retired, "answers": said is not None}
    return part if said is None else {**part, **{word: said[word] for word in _OWN}}


def _in_part(paused: Mapping[int, Sequence[str]]) -> dict[str, list[int]]:
    """What only some have paused, and who has not. Where all that begin like it are paused, it is."""
    without = {
        name: [index for index, others in paused.items() if name not in others and name.split(";")[0] not in others]
        for name in sorted({name for names in paused.values() for name in names})
    }
    return {name: indexes for name, indexes in without.items() if indexes}


def _listeners(answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each once, with who is connected to any worker."""
    found: dict[str, dict[str, Any]] = {}
    for answer in answers:
        for listener in answer["listeners"]:
            known = found.setdefault(listener["name"], {**listener, "connections": 0})
            known["connections"] += listener["connections"]
    return list(found.values())


def _queue(queues: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    ages = [queue["oldest_age"] for queue in queues if queue["oldest_age"] is not None]
    return {
        **{word: sum(queue[word] for queue in queues) for word in _SUMS},
        "oldest_age": max(ages) if ages else None,
    }
