"""What is told to several mail logs at once, and what of it at the end of a turn."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from relay.history.records import Bounds
from relay.history.sqlite import SqliteHistory
from relay.interfaces import IMailLog, ITakesRows, ITakesTurns
from relay.mail.address import Address
from relay.mail.event import Event, Shape, shape_of
from relay.net import meter
from relay.net.clock import ReactorClock
from relay.net.maillog import MailLog
from relay.net.meter import TOGETHER, Meter
from relay.net.teed import Teed, teller
from relay.net.waiting import start
from relay.policy.observing import Observers
from tests.contracts.spool.shards import WhenTold


@implementer(ITakesRows)
class Taking:
    def __init__(self, told: list[Any]) -> None:
        self._told = told

    def event(self, what: str, /, **fields: object) -> None:
        raise AssertionError("it takes rows")

    def row(self, shape: Shape[Any], row: tuple[Any, ...]) -> None:
        self._told.append((shape.what, shape.fields(row)))


@implementer(IMailLog)
class Changing:
    """A log of somebody who does with the fields as he likes."""

    def __init__(self, told: list[Any]) -> None:
        self._told = told

    def event(self, what: str, /, **fields: object) -> None:
        self._told.append((what, dict(fields)))
        fields.clear()


@implementer(ITakesTurns)
class Keeping:
    """Asks for what was gathered, as who keeps it does when somebody asks."""

    def __init__(self) -> None:
        self.taken: list[list[Event]] = []
        self.ask: Callable[[], object] = lambda: None

    def event(self, what: str, /, **fields: object) -> None:
        raise AssertionError("it takes turns")

    def take(self, events: Sequence[Event]) -> None:
        self.taken.append(list(events))

    def gathered(self, tell: Callable[[], object]) -> None:
        self.ask = tell

    def whats(self) -> list[list[str]]:
        return [[shape.what for _, shape, _ in turn] for turn in self.taken]


class Failing(Keeping):
    def take(self, events: Sequence[Event]) -> None:
        raise ValueError("ours")


#: Names that the arguments of a method have, too.
FIELDS: dict[str, object] = {"id": "4Q2x7", "what": 1, "self": None}


class TeedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.told: list[Any] = []
        self.reactor = Clock()
        self.times = iter(range(100))
        self.clock = ReactorClock(self.reactor, lambda: float(next(self.times)), 0.0)
        taking, changing = Taking(self.told), Changing(self.told)
        self.teed = Teed(changing, Teed(taking, changing), taking)

    def test_whoever_takes_rows_is_given_one_and_everybody_else_has_fields_of_his_own(self) -> None:
        shape = shape_of("accepted", FIELDS)
        for log in self.teed.logs:
            teller(log)(shape, tuple(FIELDS.values()))
        self.assertEqual(self.told, [("accepted", FIELDS)] * 4)
        changing, *_ = self.teed.logs
        Teed(changing, Teed(changing)).event("accepted", **FIELDS)
        self.assertEqual(self.told, [("accepted", FIELDS)] * 6)

    def test_what_is_counted_is_told(self) -> None:
        meter = Meter(self.clock, self.teed)
        for what in "accepted", "relayed", "accepted":
            meter.event(what, **FIELDS)
        self.assertEqual(meter.counts, {"accepted": 2, "relayed": 1})
        self.assertEqual(len(self.told), 12)
        self.assertEqual(self.told[-1], ("accepted", FIELDS))

    def test_where_nobody_waits_for_the_end_of_a_turn_nothing_is_gathered(self) -> None:
        class Value:
            pass

        value = Value()
        kept = weakref.ref(value)
        meter = Meter(self.clock, Teed())
        meter.event("accepted", id=value)
        del value
        self.assertIsNone(kept())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_who_takes_turns_is_told_together_of_what_happens_within_some_milliseconds(self) -> None:
        keeping = Keeping()
        meter = Meter(self.clock, keeping)
        meter.event("accepted", **FIELDS)
        self.reactor.advance(TOGETHER / 2)
        meter.event("relayed", **FIELDS)
        self.assertEqual(keeping.whats(), [])
        self.reactor.advance(TOGETHER / 2)
        self.assertEqual(keeping.whats(), [["accepted", "relayed"]])

    def test_who_takes_turns_is_told_at_the_end_of_each_with_the_time_of_its_first_event(self) -> None:
        keeping = Keeping()
        meter = Meter(self.clock, Teed(keeping, self.teed))
        for _ in range(2):
            meter.event("accepted", **FIELDS)
            meter.event("relayed", **FIELDS)
            self.reactor.advance(TOGETHER)
        self.assertEqual(keeping.whats(), [["accepted", "relayed"]] * 2)
        self.assertEqual([[when for when, _, _ in turn] for turn in keeping.taken], [[0.0, 0.0], [1.0, 1.0]])
        self.assertEqual(self.told, [(what, FIELDS) for what in ("accepted", "relayed") for _ in range(4)] * 2)

    def test_who_asks_in_the_middle_of_a_turn_hears_what_has_happened_by_then(self) -> None:
        keeping = Keeping()
        meter = Meter(self.clock, keeping)
        meter.event("accepted")
        keeping.ask()
        self.assertEqual(keeping.whats(), [["accepted"]])
        keeping.ask()
        meter.event("relayed")
        self.reactor.advance(TOGETHER)
        self.assertEqual(keeping.whats(), [["accepted"], ["relayed"]])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_turn_in_which_very_much_happens_is_told_in_parts(self) -> None:
        keeping = Keeping()
        log = Meter(self.clock, keeping)
        for _ in range(2 * meter.MOST + 1):
            log.event("deleted")
        self.assertEqual([len(turn) for turn in keeping.taken], [meter.MOST] * 2)
        self.reactor.advance(TOGETHER)
        self.assertEqual(len(keeping.taken[-1]), 1)

    def test_a_log_that_fails_is_no_other_ones_affair(self) -> None:
        keeping = Keeping()
        meter = Meter(self.clock, Teed(Failing(), keeping))
        meter.event("accepted")
        self.reactor.advance(TOGETHER)
        self.assertEqual(keeping.whats(), [["accepted"]])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_observers_are_told_whoever_is_among_them_by_then(self) -> None:
        heard: list[Any] = []
        observers: list[Any] = []
        meter = Meter(self.clock, self.teed, observers)
        meter.event("accepted")
        observers.append(lambda shape, row: heard.append(shape.what))
        meter.event("relayed")
        self.assertEqual(heard, ["relayed"])

    def test_what_has_happened_in_this_turn_is_told_to_who_asks_the_history_and_is_in_the_log_that_is_closed(
        self,
    ) -> None:
        root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, root)
        worker = WhenTold()
        log, history = (
            MailLog(self.reactor, root / "mail.log"),
            SqliteHistory(root / "history.db", self.clock, worker, bounds=Bounds(reserve=0)),
        )
        log.start()
        meter = Meter(self.clock, Teed(log, history))
        meter.event("accepted", id="NG79W8MR4E21H9", sender=Address("ann", "x.example"))
        asked: Any = start(history.find("ann@x.example"))
        worker.work()
        (life,) = self.successResultOf(asked).lives
        self.assertEqual([happening.what for happening in life.happenings], ["accepted"])
        meter.event("delivered", id="NG79W8MR4E21H9")
        closed: Any = start(history.close())
        worker.work()
        self.successResultOf(closed)
        log.close()
        self.assertEqual(len((root / "mail.log").read_text().splitlines()), 2)
        self.assertEqual(history.dropped, 0)

    def test_the_logs_of_the_house_are_what_they_say(self) -> None:
        silent: Any = None
        self.assertTrue(verifyObject(ITakesRows, Meter(self.clock, self.teed)))
        self.assertTrue(verifyObject(ITakesTurns, MailLog(silent, "-")))
        for log in self.teed, Observers(silent):
            self.assertTrue(verifyObject(IMailLog, log))
