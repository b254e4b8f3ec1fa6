"""What policies need of each other is there in time, or the configuration is wrong."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.interfaces import IConnectionPolicy, IContentPolicy, IObserver, IRoutingPolicy
from relay.policy.asking import Station
from relay.policy.needs import unmet


class Policy:
    def __init__(self, *, requires: Any = (), provides: Any = ()) -> None:
        self.requires, self.provides = requires, provides


@implementer(IConnectionPolicy)
class AtConnection(Policy):
    pass


@implementer(IRoutingPolicy)
class AtRecipient(Policy):
    pass


@implementer(IContentPolicy, IConnectionPolicy)
class AtBoth(Policy):
    pass


@implementer(IObserver)
class Observing(Policy):
    pass


def complaints(*policies: Policy) -> list[tuple[int, str]]:
    return list(unmet([Station(f"p{number}", policy) for number, policy in enumerate(policies)]))


class NeedsTests(SynchronousTestCase):
    def test_what_an_earlier_policy_provides_is_there(self) -> None:
        self.assertEqual(complaints(AtRecipient(provides=("spf",)), AtRecipient(requires=("spf",))), [])

    def test_an_earlier_phase_comes_before_an_earlier_place(self) -> None:
        self.assertEqual(complaints(AtRecipient(requires=("spf",)), AtConnection(provides=("spf",))), [])
        self.assertEqual(complaints(AtRecipient(requires=("spf",)), AtBoth(provides=("spf",))), [])

    def test_what_comes_too_late_is_told_with_its_policy(self) -> None:
        [(place, text)] = complaints(AtRecipient(requires=("spf",)), AtRecipient(provides=("spf",)))
        self.assertEqual(place, 0)
        self.assertEqual(text, "it requires the fact 'spf', and 'p1' is asked behind it: put it in front")
        self.assertEqual(len(complaints(AtConnection(requires=("vip",)), AtRecipient(provides=("vip",)))), 1)

    def test_what_nobody_provides_is_told(self) -> None:
        [(place, text)] = complaints(AtRecipient(), AtRecipient(requires=["spf"], provides=["spf"]))
        self.assertEqual((place, text), (1, "it requires the fact 'spf', and 'p1' is asked behind it: put it in front"))
        [(_, text)] = complaints(AtRecipient(requires=["spf"]), Observing(provides=["spf"]))
        self.assertIn("asked behind it", text)
        [(_, text)] = complaints(AtRecipient(requires=["spf"]))
        self.assertEqual(text, "it requires the fact 'spf', and no policy here provides that")

    def test_names_are_names(self) -> None:
        for wrong in ("spf", 7, [7]):
            self.assertRaises(ValueError, complaints, AtRecipient(requires=wrong))
