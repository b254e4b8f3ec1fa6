"""What `relayctl reload` asks for, and what it is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from attrs import asdict, frozen

from relay.control.api import Answer, Asked, Refused
from relay.control.running import Running


@frozen
class Reloaded:
    """What came of reading the configuration again."""

    #: The configuration is in force. If not, nothing has changed.
    done: bool
    #: Of the one that is in force now.
    digest: str
    #: Why not: lines for the operator, with file and line where those are to blame.
    problems: tuple[str, ...] = ()
    #: What should be known all the same.
    warnings: tuple[str, ...] = ()


@frozen
class InForce:
    """Which configuration is in force."""

    file: str
    #: The beginning of the SHA-256 of the file; "" where nobody knows.
    digest: str
    #: Since when, by `IClock.seconds`.
    since: float


Reload: TypeAlias = Callable[[], Awaitable[Reloaded]]


@frozen
class ReloadDesk:
    """Answers whoever has changed the configuration."""

    running: Running

    def acts(self) -> Mapping[str, Answer]:
        return {"reload": self.reload}

    async def reload(self, _asked: Asked) -> Mapping[str, Any]:
        if self.running.reload is None:
            raise Refused("this relay cannot read its configuration again", 404)
        return asdict(await self.running.reload())
