"""What is measured: kinds of load, and what becomes of the messages."""

from __future__ import annotations

from enum import Enum
from typing import Final

from attrs import frozen

KIB: Final = 1024
MIB: Final = 1024 * KIB


class Durability(Enum):
    """What a 250 is worth."""

    #: The message survives a power cut.
    YES = "yes"
    #: It survives the end of the server, and a power cut only with luck.
    HALF = "half"
    #: It is in memory, or nowhere.
    NO = "no"


class Route(Enum):
    """What becomes of a message. The value is the first part of the recipients' domain."""

    #: Kept durably, and carried to another server.
    SINK = "sink"
    #: Kept durably, and put into a Maildir.
    MAILDIR = "maildir"
    #: Kept durably, and held: what accepting costs without delivering.
    HOLD = "hold"
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
_ACCEPTED: Final = (Route.HOLD, Route.DISCARD)
#: What most mail is like, and most tables begin with.
USUAL: Final = Load(KIB, 100, reuse=True)

#: Each of these has a target: `bench.goals`.
CELLS: Final = (
    Scenario(USUAL, (Route.SINK, *_ACCEPTED)),
    Scenario(Load(KIB, 100, reuse=False), _ONWARD),
    Scenario(Load(10 * KIB, 100, reuse=True), _ONWARD),
    Scenario(Load(MIB, 10, reuse=True), _ONWARD),
    Scenario(Load(KIB, 1, reuse=True), _ONWARD),
    Scenario(Load(KIB, 1, reuse=False), _ONWARD),
)
#: None of these has one, but one wants to know.
BESIDES: Final = (
    Scenario(USUAL, (Route.MAILDIR,)),
    Scenario(Load(KIB, 10, reuse=True), _ONWARD),
    Scenario(Load(KIB, 10, reuse=False), (Route.SINK, Route.DISCARD)),
)


def cross() -> tuple[Scenario, ...]:
    """Every size with every number of sessions, new connections and reused ones, and every route."""
    loads = (
        Load(size, sessions, reuse)
        for size in (KIB, 10 * KIB, MIB)
        for sessions in (1, 10, 100, 500)
        for reuse in (True, False)
    )
    all_of_it = (Scenario(load, (*_ONWARD, Route.MAILDIR, *_ACCEPTED)) for load in loads)
    done = {scenario.load: scenario.routes for scenario in CELLS}
    rest = (
        Scenario(scenario.load, tuple(route for route in scenario.routes if route not in done.get(scenario.load, ())))
        for scenario in all_of_it
    )
    return tuple(scenario for scenario in rest if scenario.routes)


@frozen
class Extent:
    """How much of it is done."""

    #: What has targets, which comes first, and what comes after the special measurements if there is time.
    cells: tuple[Scenario, ...]
    besides: tuple[Scenario, ...]
    rounds: int
    #: How long a run is meant to take.
    seconds: float
    #: Messages of a run, at least and at most. A session has one at least.
    least: int
    most: int
    #: Seconds after which no other scenario is begun; what has no target then is named as left out.
    limit: float


USUALLY: Final = Extent(CELLS, BESIDES, rounds=3, seconds=2.5, least=60, most=30_000, limit=15 * 60)
QUICK: Final = Extent(CELLS, (), rounds=1, seconds=1.5, least=60, most=20_000, limit=8 * 60)
FULL: Final = Extent(CELLS, cross(), rounds=3, seconds=2.5, least=60, most=30_000, limit=150 * 60)
#: That it runs at all: the figures mean nothing.
SMOKE: Final = Extent(
    (
        Scenario(Load(KIB, 10, reuse=True), (Route.SINK, Route.MAILDIR, Route.HOLD, Route.DISCARD)),
        Scenario(Load(MIB, 2, reuse=False), (Route.SINK,)),
    ),
    (),
    rounds=2,
    seconds=0.1,
    least=20,
    most=40,
    limit=300,
)


def enough(extent: Extent, tried: int, seconds: float, sessions: int = 1) -> int:
    """How many messages a run needs, if `tried` of them took so long, so that each session has one."""
    wanted = round(tried / max(seconds, 1e-6) * extent.seconds)
    return max(extent.least, min(extent.most, max(wanted, sessions if extent.most > sessions else 0)))
