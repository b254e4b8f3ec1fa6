"""What is told to several mail logs at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from relay.control.meter import Meter
from relay.history.teed import Teed
from relay.interfaces import IMailLog, ITakesNote
from relay.net.maillog import MailLog
from relay.policy.observing import Observers


@implementer(ITakesNote)
class Taking:
    def __init__(self, told: list[Any]) -> None:
        self._told = told

    def event(self, what: str, /, **fields: object) -> None:
        raise AssertionError("it takes notes")

    def note(self, what: str, fields: Mapping[str, object]) -> None:
        self._told.append((what, fields))


@implementer(IMailLog)
class Changing:
    """A log of somebody who does with the fields as he likes."""

    def __init__(self, told: list[Any]) -> None:
        self._told = told

    def event(self, what: str, /, **fields: object) -> None:
        self._told.append((what, dict(fields)))
        fields.clear()


#: Names that the arguments of a method have, too.
FIELDS: dict[str, object] = {"id": "4Q2x7", "what": 1, "self": None}


class TeedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.told: list[Any] = []
        taking, changing = Taking(self.told), Changing(self.told)
        self.teed = Teed(changing, Teed(taking, changing), taking)

    def test_whoever_takes_notes_is_given_the_fields_as_they_are_and_everybody_else_has_his_own(self) -> None:
        self.teed.note("accepted", FIELDS)
        self.teed.event("accepted", **FIELDS)
        self.assertEqual(self.told, [("accepted", FIELDS)] * 8)
        self.assertIs(self.told[1][1], FIELDS)
        self.assertIs(self.told[5][1], self.told[7][1])

    def test_what_is_counted_is_told(self) -> None:
        meter = Meter(self.teed)
        for what in "accepted", "relayed", "accepted":
            meter.event(what, **FIELDS)
        self.assertEqual(meter.counts, {"accepted": 2, "relayed": 1})
        self.assertEqual(len(self.told), 12)
        self.assertEqual(self.told[-1], ("accepted", FIELDS))

    def test_the_logs_of_the_house_take_notes(self) -> None:
        silent: Any = None
        for log in self.teed, MailLog(silent, "-"), Observers(silent):
            self.assertTrue(verifyObject(ITakesNote, log))
