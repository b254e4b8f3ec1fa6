"""Policies that observe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from relay.interfaces import IMailLog, IObserver
from relay.policy.asking import Station
from relay.policy.observing import Observers
from relay.testing.world import MailWorld
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


class Listening(Watcher):
    """One that a configuration names."""

    seen: ClassVar[list[Any]] = []  # type: ignore[misc]

    def __init__(self, options: Any, world: Any) -> None:
        self.seen.clear()


CONFIGURATION = """
[[listener]]
address = "127.0.0.1:2525"
[[policy]]
use = "tests.test_policy_observing:Listening"
[[policy]]
use = "mailbox"
domains = ["here.test"]
users = ["jon"]
directory = "mail"
"""


class ObservingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[Any] = []
        self.log = Logger(observer=self.events.append)

    def test_all_who_observe_hear_of_it_whatever_one_of_them_does(self) -> None:
        first, second = Watcher(), Watcher()
        stations = [Station("a", first), Station("b", Failing()), Station("c", Says()), Station("d", second)]
        observers = Observers(self.log)
        verifyObject(IMailLog, observers)
        observers.event("refused")
        observers.adopt(stations)
        observers.event("accepted", id="1", size=7)
        self.assertEqual(first.seen, [("accepted", {"id": "1", "size": 7})])
        self.assertEqual(second.seen, first.seen)
        self.assertEqual(
            [formatEvent(event) for event in self.events],
            ["policy b raised an exception when it observed 'accepted'"],
        )

    def test_who_is_not_adopted_any_more_hears_nothing(self) -> None:
        first, second = Watcher(), Watcher()
        observers = Observers(self.log)
        for watcher in (first, second):
            observers.adopt([Station("a", watcher)])
            observers.event("accepted")
        self.assertEqual((len(first.seen), len(second.seen)), (1, 1))

    def test_in_a_relay_they_see_what_the_mail_log_sees(self) -> None:
        world = MailWorld(CONFIGURATION)
        world.send("ann@far.test", "jon@here.test", b"Subject: hi\r\n\r\nHi!\r\n")
        world.settle()
        seen = [what for what, _ in Listening.seen]
        self.assertEqual(seen, [what for what, _ in world.log.events])
        self.assertEqual(seen, ["accepted", "delivered"])
