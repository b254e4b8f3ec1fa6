"""
The desk of a relay that is several processes: what `relayctl` asks it is asked of all workers, and told as one.

It has the paths of `relay.control.desk`, with the same words and answers, so that nobody who asks has to know. What is
more: where a worker has not answered it says so (`relay.control.workers.asking`); `status` has each worker's part; and
`dest/show` too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import asdict, frozen

from relay.control.api import Answer, Asked, Desk
from relay.control.reloading import Reload
from relay.control.workers.asking import Ask, Silent, Worker, Workers
from relay.control.workers.company import Company
from relay.control.workers.destinations import DestinationsOfWorkers
from relay.control.workers.history import HistoryOfWorkers
from relay.control.workers.owed import Owed
from relay.control.workers.queue import QueueOfWorkers
from relay.control.workers.status import Parent, StatusOfWorkers
from relay.control.workers.suppression import SuppressionOfWorkers

__all__ = ["Ask", "Parent", "Silent", "Worker", "Workers", "desk_of_workers"]


def desk_of_workers(workers: Workers, parent: Parent, reload: Reload) -> Desk:
    """
    The answers of all workers together. `workers` are those that there should be at this moment, in the order of their
    numbers: also one that is just being started again, whose `ask` then raises `Silent`. `reload` has the configuration
    read again by all.
    """
    company, owed = Company(parent.clock), Owed(parent.clock, workers)
    explanations = ExplanationsOfWorkers(workers, company)
    queue, destinations = QueueOfWorkers(workers), DestinationsOfWorkers(workers, company, owed)
    suppression = SuppressionOfWorkers(workers, company)

    async def reloaded(_asked: Asked) -> Mapping[str, Any]:
        return asdict(await reload())

    return Desk(
        {
            **StatusOfWorkers(workers, parent).questions(),
            **HistoryOfWorkers(workers).questions(),
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
            "reload": reloaded,
        },
    )


@frozen
class ExplanationsOfWorkers:
    """What would become of a mail: any worker knows that listens, since all of them have the same configuration."""

    workers: Workers
    company: Company

    def questions(self) -> Mapping[str, Answer]:
        return {"explain": self.asked}

    def acts(self) -> Mapping[str, Answer]:
        return {"explain": self.bid}

    async def asked(self, asked: Asked) -> Mapping[str, Any]:
        return await self.company.ask_any(self._listening(), "explain", asked)

    async def bid(self, asked: Asked) -> Mapping[str, Any]:
        """With a message, which is too long for a question."""
        return await self.company.ask_any(self._listening(), "explain", asked, act=True)

    def _listening(self) -> list[Worker]:
        return [worker for worker in self.workers() if not worker.retired]
