"""The queue of all shards, as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from relay.control.api import Answer, Asked
from relay.control.queue import LONGEST_PAGE, PAGE
from relay.control.words import group_by, most_of
from relay.control.workers.asking import Heard, Worker, Workers, ask_all
from relay.control.workers.pages import Places, merged, part_of
from relay.mail.selection import Verb

_ACTS: Final = (*(f"queue/{verb.value}" for verb in Verb), "queue/reroute")


@frozen
class QueueOfWorkers:
    """Answers about the queue; as `relay.control.queue.QueueDesk`."""

    workers: Workers

    def questions(self) -> Mapping[str, Answer]:
        return {"queue": self.listed, "queue/count": self.counted, "queue/show": self.shown}

    def acts(self) -> Mapping[str, Answer]:
        return {path: self._doing(path) for path in _ACTS}

    async def listed(self, asked: Asked) -> Mapping[str, Any]:
        """A page in the order of ids, whichever shard they are in."""
        workers, most = self.workers(), most_of(asked, PAGE, LONGEST_PAGE)
        part = str(part_of(most, len(workers)))
        heard = await ask_all(workers, "queue", asked, words=lambda _: {**asked.words, "most": part})
        answers = heard.something()
        entries, following = merged(answers, most)
        return {
            "now": max(answer["now"] for answer in answers),
            "entries": entries,
            "next": following,
            **heard.missing(),
        }

    async def counted(self, asked: Asked) -> Mapping[str, Any]:
        places = Places.of(self.workers(), asked.text("after"))
        heard = await ask_all(self._at(places), "queue/count", asked, words=_from(places, asked))
        groups: dict[str, Counter[str]] = {}
        for answer in _answers(heard, asked):
            for name, states in answer["groups"].items():
                groups.setdefault(name, Counter()).update(states)
        return {
            "by": group_by(asked).value,
            "groups": {name: dict(states) for name, states in groups.items()},
            "next": Places.next(heard.said),
            **heard.missing(),
        }

    async def shown(self, asked: Asked) -> Mapping[str, Any]:
        """By the worker that has it."""
        heard = await ask_all(self.workers(), "queue/show", asked)
        for index, answer in heard.said.items():
            return {**answer, "worker": index}
        raise heard.refusal()

    def _doing(self, path: str) -> Answer:
        async def act(asked: Asked) -> Mapping[str, Any]:
            places = Places.of(self.workers(), asked.text("after"))
            heard = await ask_all(self._at(places), path, asked, act=True, words=_from(places, asked))
            answers = _answers(heard, asked)
            sums = {word: sum(answer[word] for answer in answers) for word in ("done", "busy", "unmoved")}
            return {**sums, "next": Places.next(heard.said), **heard.missing()}

        return act

    def _at(self, places: Places) -> list[Worker]:
        """Who has not come to the end."""
        return [worker for worker in self.workers() if worker.index in places.after]


def _answers(heard: Heard, asked: Asked) -> Sequence[Mapping[str, Any]]:
    """Pages to be added up. If nobody says the first, nothing was done; behind it something was, and stays."""
    return list(heard.said.values()) if asked.text("after") else heard.something()


def _from(places: Places, asked: Asked) -> Callable[[Worker], Mapping[str, Any]]:
    return lambda worker: {**asked.words, "after": places.after[worker.index]}
