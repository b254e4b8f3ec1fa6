"""What is measured: kinds of load, and what becomes of the messages."""

from __future__ import annotations

from enum import Enum
from typing import Final

from attrs import frozen

KIB: Final = 1024
MIB: Final = 1024 * KIB


class Route(Enum):
    """What becomes of a message. The value is the first part of the recipients' domain."""

    #: Kept durably, and carried to another server.
    SINK = "sink"
    #: Kept durably, and put into a Maildir.
    MAILDIR = "maildir"
    #: Taken and thrown away. Nothing is durable: it shows what taking costs.
    DISCARD = "discard"

    @property
    def domain(self) -> str:
        return f"{self.value}.test"


@frozen
class Load:
    """So many clients at once, each with one message after the other."""

    size: int
    sessions: int
    #: Whether a client keeps its connection for the next message.
    reuse: bool

    def __str__(self) -> str:
        size = f"{self.size // MIB} MiB" if self.size >= MIB else f"{self.size // KIB} KiB"
        connections = "reused" if self.reuse else "new"
        sessions = "1 session" if self.sessions == 1 else f"{self.sessions} sessions"
        return f"{size}, {sessions}, {connections} connections"


@frozen
class Scenario:
    """A load, and the routes that are measured with it, as far as a server has them."""

    load: Load
    routes: tuple[Route, ...]


_ONWARD: Final = (Route.SINK,)

SCENARIOS: Final = (
    Scenario(Load(KIB, 1, reuse=False), _ONWARD),
    Scenario(Load(KIB, 1, reuse=True), _ONWARD),
    Scenario(Load(KIB, 10, reuse=False), (Route.SINK, Route.DISCARD)),
    Scenario(Load(KIB, 10, reuse=True), (Route.SINK, Route.DISCARD)),
    Scenario(Load(KIB, 100, reuse=False), (Route.SINK, Route.DISCARD)),
    Scenario(Load(KIB, 100, reuse=True), (Route.SINK, Route.MAILDIR, Route.DISCARD)),
    Scenario(Load(10 * KIB, 100, reuse=True), _ONWARD),
    Scenario(Load(MIB, 10, reuse=True), (Route.SINK, Route.DISCARD)),
)


@frozen
class Extent:
    """How much of it is done."""

    scenarios: tuple[Scenario, ...]
    rounds: int
    #: How long a run is meant to take.
    seconds: float
    #: Messages of a run, at least and at most.
    least: int
    most: int


FULL: Final = Extent(SCENARIOS, rounds=3, seconds=3.0, least=60, most=20_000)
QUICK: Final = Extent(SCENARIOS, rounds=1, seconds=1.5, least=60, most=10_000)
#: That it runs at all: the figures mean nothing.
SMOKE: Final = Extent(
    (
        Scenario(Load(KIB, 10, reuse=True), (Route.SINK, Route.MAILDIR, Route.DISCARD)),
        Scenario(Load(MIB, 2, reuse=False), (Route.SINK,)),
    ),
    rounds=2,
    seconds=0.1,
    least=20,
    most=40,
)


def enough(extent: Extent, tried: int, seconds: float) -> int:
    """How many messages a run needs, if `tried` of them took so long."""
    return max(extent.least, min(extent.most, round(tried / max(seconds, 1e-6) * extent.seconds)))
