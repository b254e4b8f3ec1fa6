"""Policies that observe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from relay.interfaces import IMailLog, IObserver
from relay.policy.asking import Station
from relay.policy.observing import Observers
from tests.policy.doubles import Says


@implementer(IObserver)
class Watcher:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def observe(self, what: str, fields: Mapping[str, object]) -> None:
        self.seen.append((what, dict(fields)))
        if isinstance(fields, dict):
            fields.clear()


@implementer(IObserver)
class Failing:
    def observe(self, what: str, fields: Mapping[str, object]) -> None:
        raise LookupError("oops")


class ObservingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[Any] = []
        self.log = Logger(observer=self.events.append)

    def test_all_who_observe_hear_of_it_whatever_one_of_them_does(self) -> None:
        first, second = Watcher(), Watcher()
        stations = [Station("a", first), Station("b", Failing()), Station("c", Says()), Station("d", second)]
        observers = Observers(stations, self.log)
        verifyObject(IMailLog, observers)
        self.assertTrue(observers)
        observers.event("accepted", id="1", size=7)
        self.assertEqual(first.seen, [("accepted", {"id": "1", "size": 7})])
        self.assertEqual(second.seen, first.seen)
        self.assertEqual(
            [formatEvent(event) for event in self.events],
            ["policy b raised an exception when it observed 'accepted'"],
        )

    def test_where_nobody_observes_nobody_need_be_told(self) -> None:
        self.assertFalse(Observers([Station("c", Says())], self.log))
