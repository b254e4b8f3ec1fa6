"""What policies need of each other is there in time, or the configuration is wrong."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.config.errors import ConfigurationError
from relay.config.policies import PolicySettings, When
from relay.interfaces import IConnectionPolicy, IContentPolicy, IObserver, IRoutingPolicy
from relay.policy.asking import Station
from relay.policy.assembly import make_chain
from relay.policy.guard import Guard
from relay.policy.needs import unmet
from relay.policy.registry import option_model
from relay.testing.policy import world


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

    def test_what_a_later_phase_finds_out_comes_too_late_in_any_order(self) -> None:
        needy, provider = AtConnection(requires=("vip",)), AtRecipient(provides=("vip",))
        for policies in ((needy, provider), (provider, needy)):
            [(place, text)] = complaints(*policies)
            self.assertIs(policies[place], needy)
            self.assertEqual(
                text,
                f"it requires the fact 'vip', and 'p{1 - place}' finds that out in a later phase (recipient) than the "
                "one in which this one is asked (connection): no order of them helps",
            )
        # With another one that helps if it is put in front.
        [(_, text)] = complaints(needy, provider, AtConnection(provides=("vip",)))
        self.assertEqual(text, "it requires the fact 'vip', and 'p2' is asked behind it: put it in front")

    def test_a_condition_on_a_fact_that_nobody_finds_out_would_never_hold(self) -> None:
        guard = Guard(When(facts={"spf": ("fail",), "vip": ("yes",)}))
        for policies, texts in [
            ([AtConnection(provides=("spf", "vip"))], []),
            ([AtConnection(provides=("spf",))], ["it requires the fact 'vip', and no policy here provides that"]),
        ]:
            stations = [*(Station("first", each) for each in policies), Station("second", AtRecipient(), guard)]
            self.assertEqual(list(unmet(stations)), [(1, text) for text in texts])

    def test_what_nobody_provides_is_told(self) -> None:
        [(place, text)] = complaints(AtRecipient(), AtRecipient(requires=["spf"], provides=["spf"]))
        self.assertEqual((place, text), (1, "it requires the fact 'spf', and nobody but itself provides that"))
        for others in ([], [Observing(provides=["spf"])]):
            [(_, text)] = complaints(AtRecipient(requires=["spf"]), *others)
            self.assertEqual(text, "it requires the fact 'spf', and no policy here provides that")
        [(_, text)] = complaints(AtRecipient(provides=["spf"]), Observing(requires=["spf"]))
        self.assertEqual(text, "it requires the fact 'spf', and it is told no facts, since it only observes")

    def test_names_are_names(self) -> None:
        for wrong in ("spf", 7, [7]):
            self.assertRaises(ValueError, complaints, AtRecipient(requires=wrong))


class ChainTests(SynchronousTestCase):
    def problems(self, *policies: PolicySettings) -> list[tuple[int | None, str]]:
        try:
            make_chain(policies, world(), file="relay.toml")
        except ConfigurationError as error:
            return [(problem.line, problem.text) for problem in error.problems]
        return []

    def test_a_configuration_in_which_a_fact_is_missing_is_wrong(self) -> None:
        note = settings("headers", 1, action="note", facts={"spam": "yes"})
        off = note.model_copy(update={"mode": "off"})
        hold = settings("quarantine", 9, **{"if": {"spam": "yes"}})
        guarded = settings("discard", 9).model_copy(update={"when": When(facts={"spam": ("yes",)})})
        late = settings("quarantine", 9).model_copy(update={"when": When(facts={"spam": ("yes",)})})
        missing = [(9, "it requires the fact 'spam', and no policy here provides that")]
        for needy in (hold, late):
            self.assertEqual(self.problems(note, needy), [])
            self.assertEqual(self.problems(settings("discard", 3), needy), missing)
            self.assertEqual(self.problems(off, needy), missing)
            self.assertEqual(self.problems(needy, note)[0][0], 9)
        # The content is here after it was decided where a recipient's copy goes.
        [(line, text)] = self.problems(note, guarded)
        self.assertEqual(line, 9)
        self.assertIn("'headers' finds that out in a later phase (content)", text)

    def test_of_a_part_of_the_policies_nobody_says_that_something_is_missing(self) -> None:
        hold = settings("quarantine", 9, **{"if": {"spam": "yes"}})
        self.assertEqual(len(make_chain([hold], world(), file="relay.toml", whole=False).stations), 1)

    def test_names_of_facts_that_are_none_are_told_with_the_policys_line(self) -> None:
        [(line, text)] = self.problems(settings("tests.test_policy_needs:Misnamed", 5), settings("discard", 9))
        self.assertEqual((line, text), (5, "its 'provides' should be names of facts in a tuple"))


@implementer(IRoutingPolicy)
class Misnamed(Policy):
    def __init__(self, options: Any, world: Any) -> None:
        super().__init__(provides="spf")

    def route(self, inquiry: Any) -> Any:
        """Nobody asks."""


def settings(use: str, line: int, **options: Any) -> PolicySettings:
    model = option_model(use)
    assert model is not None
    return PolicySettings(name=use, use=use, options=model.model_validate(options), line=line)
