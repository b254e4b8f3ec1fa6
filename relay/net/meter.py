"""What everybody in a relay tells of what happens: how often that was is counted, and who has to know hears of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from twisted.logger import Logger
from zope.interface import implementer

from relay.interfaces import IClock, IMailLog, ITakesRows, ITakesTurns
from relay.mail.event import Event, Shape, shape_of
from relay.net.teed import Tell, all_of, teller

#: Seconds that events wait for others. A relay with little to do has a turn for each step of a message, and would write
#: its log in each of them; nobody who reads it sees the difference, and a crash takes what is not written with it.
TOGETHER: Final = 0.005
#: Events that are handed on before that: a command of the operator's may be about all that is queued. Of what happens
#: to messages on their way there are no more than the network has brought.
MOST: Final = 1000


@implementer(ITakesRows)
class Meter:
    """
    Counts the events of the mail log on their way there.

    Logs that take turns (`ITakesTurns`) are told some milliseconds later, of all that happened meanwhile: there are two
    of them in every relay, and several events of each message. To those, all of them have happened when the first did.
    """

    __slots__ = ("_at_once", "_clock", "_events", "_log", "_observers", "_takers", "_turn", "_when", "counts")

    def __init__(self, clock: IClock, log: IMailLog, observers: Sequence[Tell] = ()) -> None:
        """`observers` are told as well, whoever is among them by then."""
        self._clock = clock
        self._log = Logger(namespace="relay.maillog")
        #: How often what was said, since the relay was started.
        self.counts: Counter[str] = Counter()
        self._takers: tuple[Any, ...] = tuple(each for each in all_of(log) if ITakesTurns.providedBy(each))
        self._at_once = tuple(teller(each) for each in all_of(log) if not ITakesTurns.providedBy(each))
        self._observers = observers
        #: What has happened and they were not told, and when the first of it was.
        self._events: list[Event] = []
        self._when = 0.0
        #: When they are told, if there is anything to tell.
        self._turn: Any = None
        for taker in self._takers:
            taker.gathered(self.flush)

    def event(self, what: str, /, **fields: object) -> None:
        self.row(shape_of(what, fields), tuple(fields.values()))
        if len(self._events) >= MOST:
            self.flush()

    def row(self, shape: Shape[Any], row: tuple[Any, ...]) -> None:
        self.counts[shape.what] += 1
        events = self._events
        if events or self._begins():
            events.append((self._when, shape, row))
        for tell in self._at_once:
            tell(shape, row)
        for tell in self._observers:
            tell(shape, row)

    def flush(self) -> None:
        """Tell those that take turns what has happened by now."""
        if not self._events:
            return
        events, self._events = self._events, []
        for taker in self._takers:
            try:
                taker.take(events)
            except Exception:  # no other one's affair
                self._log.failure("A mail log could not be told of {count} events", count=len(events))

    def _begins(self) -> bool:
        """This is the first event that is to be told. Whether anybody is."""
        if not self._takers:
            return False
        self._when = self._clock.calendar()
        if self._turn is None:
            self._turn = self._clock.callLater(TOGETHER, self._end)
        return True

    def _end(self) -> None:
        self._turn = None
        self.flush()
