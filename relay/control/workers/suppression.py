"""The suppression list, which all workers keep alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve, frozen

from relay.control.api import Answer, Asked
from relay.control.workers.asking import Workers
from relay.control.workers.company import Company


@frozen
class SuppressionOfWorkers:
    """Answers about the list: any worker shows it, and all of them change it."""

    workers: Workers
    company: Company

    def questions(self) -> Mapping[str, Answer]:
        return {"suppress": self.listed}

    def acts(self) -> Mapping[str, Answer]:
        return {"suppress/add": self.added, "suppress/remove": self.removed}

    async def listed(self, asked: Asked) -> Mapping[str, Any]:
        return await self.company.ask_any(self.workers(), "suppress", asked)

    async def added(self, asked: Asked) -> Mapping[str, Any]:
        heard = await self.company.tell_all(self.workers(), "suppress/add", asked)
        return {**heard.something()[0], **heard.missing()}

    async def removed(self, asked: Asked) -> Mapping[str, Any]:
        heard = await self.company.tell_all(self.workers(), "suppress/remove", asked)
        # Who has heard of it from another worker by now, or has never had it, has nothing to remove.
        return {**heard.something()[0], **evolve(heard, declined={}).missing()}
