"""Why a recipient waits: one reason from the closed set, whatever it and its destination are like."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.control.dispatching import view
from relay.delivery.destination import Condition
from relay.mail.address import Address
from relay.mail.outcome import Delayed
from relay.mail.queue import Pending, Recipient
from relay.mail.routing import Forward
from relay.mail.selection import GIVEN_UP, Holder, Queued, State
from relay.mail.waiting import OBSTACLES, DestinationView, Reason, why

NOW = 1000.0
BOB = Address("bob", "x.example")


def queued(state: State = State.WAITING, *, due: float = NOW, route: Any = None, **fields: Any) -> Queued:
    recipient = Recipient("E.0", BOB, BOB, Forward("x.example") if route is None else route, "x.example")
    return Queued("E", 0.0, None, 1, Pending(recipient, due=due), state, **fields)


def destination(obstacle: Reason | None = None, active: int = 0) -> DestinationView:
    return DestinationView("x.example", active, 20, 0, obstacle)


def condition(**fields: Any) -> Condition:
    usual: dict[str, Any] = {
        "name": "x.example",
        "active": 1,
        "waiting": 2,
        "limit": 3,
        "most": 20,
        "rate_left": None,
        "paused_by": "",
        "paused_until": None,
        "probing": False,
        "last_trouble": None,
        "last_trouble_at": None,
    }
    return Condition(**{**usual, **fields})


class ReasonTests(SynchronousTestCase):
    def test_each_has_its_reason(self) -> None:
        paused = destination(Reason.PAUSED)
        for one, its, reason in (
            (queued(), None, Reason.DUE),
            (queued(), destination(), Reason.DUE),
            (queued(due=NOW + 1), destination(), Reason.NEXT_ATTEMPT),
            (queued(State.ACTIVE), None, Reason.CARRIED),
            (queued(State.ACTIVE), destination(Reason.AT_LIMIT, active=20), Reason.CARRIED),
            (queued(State.ACTIVE), destination(Reason.RATE), Reason.RATE),
            (queued(State.HELD, held_by=Holder.POLICY), paused, Reason.HELD_BY_POLICY),
            (queued(State.HELD, held_by=Holder.OPERATOR), paused, Reason.HELD_BY_OPERATOR),
            (queued(due=NOW + 1, release=NOW + 1), paused, Reason.RELEASE),
            (queued(due=NOW + 1, release=NOW - 1), None, Reason.NEXT_ATTEMPT),
            (queued(route=GIVEN_UP), None, Reason.GIVEN_UP),
            (queued(due=NOW + 1), paused, Reason.PAUSED),
            (queued(due=NOW + 1), destination(Reason.RESTING), Reason.NEXT_ATTEMPT),
            (queued(), destination(Reason.RESTING), Reason.RESTING),
            (queued(), destination(Reason.AT_LIMIT), Reason.AT_LIMIT),
        ):
            self.assertIs(why(one, NOW, its), reason, (one, its))

    @given(
        st.sampled_from(State),
        st.sampled_from([None, *OBSTACLES]),
        st.sampled_from([0, 3]),
        st.sampled_from([NOW - 1, NOW + 1]),
        st.sampled_from([None, NOW - 1, NOW + 1]),
        st.sampled_from([None, GIVEN_UP]),
    )
    def test_there_is_always_one(
        self, state: State, obstacle: Any, active: int, due: float, release: float | None, route: Any
    ) -> None:
        one = queued(state, due=due, route=route, release=release)
        one = evolve(one, held_by=Holder.OPERATOR if state is State.HELD else None)
        self.assertIsInstance(why(one, NOW, destination(obstacle, active)), Reason)

    def test_a_destination_is_told_in_the_words_of_the_reasons(self) -> None:
        for fields, obstacle in (
            ({}, None),
            ({"active": 3}, Reason.AT_LIMIT),
            ({"rate_left": 0}, Reason.RATE),
            ({"rate_left": 5}, None),
            ({"probing": True, "rate_left": 0}, Reason.RESTING),
            ({"paused_by": "relay", "paused_until": NOW + 5}, Reason.RESTING),
            ({"paused_by": "operator", "probing": True}, Reason.PAUSED),
        ):
            seen = view(condition(**fields))
            self.assertIs(seen.obstacle, obstacle, fields)
            self.assertIn(seen.obstacle, {None, *OBSTACLES})
            self.assertEqual(seen.until, fields.get("paused_until"))

    def test_what_a_destination_has_met_lately_is_told(self) -> None:
        met = Delayed("4.4.1", "connection refused", "421 4.3.2 busy", "mx[192.0.2.1]:25")
        seen = view(condition(last_trouble=met, last_trouble_at=NOW - 5, rate_left=7))
        self.assertEqual(seen.met, ((NOW - 5, "connection refused (4.4.1) at mx[192.0.2.1]:25: 421 4.3.2 busy"),))
        self.assertEqual(seen.rate_left, 7)
        self.assertEqual(view(condition()).met, ())
