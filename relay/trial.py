"""
What a configuration would do, found out before it is in force: by its own policies, in a world where nobody is asked.

`relayctl check` prints it. The relay refuses to start with, or to change to, a configuration that fails here.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Final

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.assembly import Surroundings, reception_of, world_of
from relay.config.doubts import doubts
from relay.config.errors import ConfigurationError, Problem
from relay.config.examples import UNIX, Example, answer, answers
from relay.config.policies import PolicySettings
from relay.config.settings import Settings
from relay.control.rehearsal import Asked, Rehearsal
from relay.delivery.exchangers import Exchangers
from relay.interfaces import IRoutingPolicy, IStore, ITable, World
from relay.mail.address import parse_address
from relay.mail.explanation import Explanation
from relay.mail.routing import Deliver, Inquiry
from relay.net.clock import ReactorClock
from relay.net.logins import Logins, NoLogin
from relay.net.offline import Outside
from relay.net.overtime import Bounded, Overtime
from relay.net.waiting import start
from relay.policy.asking import at_work
from relay.policy.assembly import make_chain
from relay.policy.blocking import Blocking
from relay.policy.chain import Chain, Station
from relay.policy.examples import NOBODY, met, told
from relay.policy.probing import Matrix, Probe, matrix
from relay.policy.rationing import RATION, Rationed
from relay.policy.strangers import open_doors
from relay.policy.tables import GivenTable, Tables
from relay.reception import Reception, Turnstile
from relay.registry import said_by
from relay.spool.memory import MemorySpool
from relay.store.memory import MemoryStore
from relay.store.overlay import Overlay

#: Timers, of a clock that does not run by itself, that an answer may take.
_PATIENCE: Final = 1000
#: Seconds, of the time that does, that one may take at most: whoever reads a configuration again waits for a minute.
_LONGEST: Final = 30.0
_TO_RELAY: Final = "anybody who connects to {listeners} can send mail to anybody by way of '{policy}'"


@frozen
class Trial:
    """What has come out. It may run if there are no problems."""

    matrix: Matrix
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    #: How many examples were tried.
    examples: int = 0


def tried(settings: Settings, *, file: str, before: Tables | None = None) -> Trial:
    """
    Try this configuration. `before` has tables that have been read already.

    Raises `ConfigurationError` if its policies cannot be made, or one of them does not come to an end. Nobody is asked,
    and nothing stays.
    """
    # No watchdog looks at the reactor's thread before there is a reactor.
    bounded = Bounded(min(settings.process.stall_limit, _LONGEST), at_work)
    try:
        with bounded:
            return _tried(settings, file, _Stage(settings, file, before, bounded.put_off))
    except Overtime as late:
        raise ConfigurationError([_endless(settings, file, late)]) from None


def _endless(settings: Settings, file: str, late: Overtime) -> Problem:
    named = [index for index, policy in enumerate(settings.policy) if policy.name == late.whose]
    whose = f"'{late.whose}' does" if late.whose else "policies do"
    text = f"{whose} not come to an end within {late.seconds:g} s when asked what would become of a mail: {late.place}"
    return settings.problem(file, ("policy", named[0]) if named else ("policy",), text)


def _tried(settings: Settings, file: str, stage: _Stage) -> Trial:
    found = stage.matrix()
    problems, warnings = _relaying(settings, file, found)
    doors = [settings.problem(file, each.path, each.text) for each in open_doors(settings)]
    (problems if settings.open_relay is None else warnings).extend(doors)
    warnings += [settings.problem(file, each.path, each.text) for each in doubts(settings)]
    warnings += _locked_out(settings, file)
    warnings += stage.slips()
    warnings += stage.unanswered()
    problems += stage.failed_examples()
    count = sum(len(policy.examples) for policy in settings.policy)
    return Trial(found, tuple(problems), tuple(warnings), count)


def _locked_out(settings: Settings, file: str) -> Iterator[Problem]:
    """Logins of which the secret cannot be had now. It is read for each, so it may be there by then."""
    logins = Logins(settings.login)
    for index, login in enumerate(settings.login):
        try:
            logins.take(login.name)
        except NoLogin as trouble:
            yield settings.problem(file, ("login", index), f"{trouble}; as long as that is so, its mail waits")


def _relaying(settings: Settings, file: str, kinds: Matrix) -> tuple[list[Problem], list[Problem]]:
    """Policies by which strangers may relay: for certain, and as far as can be known here."""
    certain: dict[str, dict[str, None]] = {}
    perhaps: dict[tuple[str, tuple[str, ...], str], dict[str, None]] = {}
    for each in kinds.found:
        if each.kind.by_anybody and each.relayed:
            listener = each.kind.listener.name
            if each.unless:
                perhaps.setdefault((each.policy, each.unless, _NOTHING_AGAINST_IT), {})[listener] = None
            else:
                certain.setdefault(each.policy, {})[listener] = None
        elif each.kind.by_anybody and each.permitting:
            perhaps.setdefault((each.permitting, each.unless, _PERMITS_IT), {})[each.kind.listener.name] = None
    at = {policy.name: index for index, policy in enumerate(settings.policy)}

    def problem(policy: str, listeners: Mapping[str, None], more: str) -> Problem:
        text = _TO_RELAY.format(listeners=", ".join(listeners), policy=policy) + more
        return settings.problem(file, ("policy", at[policy]) if policy in at else ("policy",), text)

    mend = (
        ": it should say 'when = { client = ... }' or 'when = { authenticated = true }'; or say "
        'open_relay = "I mean it" at the top of the file'
    )
    doors = [problem(policy, listeners, mend) for policy, listeners in certain.items()]
    unsure = [
        problem(policy, listeners, f", if {' and '.join(map(repr, unless))} {how}")
        for (policy, unless, how), listeners in perhaps.items()
        if policy not in certain
    ]
    if kinds.unasked:
        text = (
            f"there are too many listeners and senders: {kinds.unasked} mails of strangers to strangers were not "
            "tried: whether they can be sent is not known"
        )
        unsure.append(settings.problem(file, ("policy",), text))
    return ([], [*doors, *unsure]) if settings.open_relay is not None else (doors, unsure)


_NOTHING_AGAINST_IT: Final = "(which asks others, and nobody is asked here) has nothing against it"
_PERMITS_IT: Final = "(which asks others, and nobody is asked here) finds out what permits it"


@implementer(IRoutingPolicy)
class _Anything:
    """Takes what nobody else has said anything about."""

    def route(self, inquiry: Inquiry) -> Deliver:
        return _TAKEN


_TAKEN: Final = Deliver("console", because="nobody has anything to say about it")


#: What policies tell the operator while they are tried is about a world that there is not.
_UNHEARD: Final = Logger(namespace="relay.policy", observer=LogPublisher())


class _Stage:
    """Where policies are tried. Time passes when it is said, and what they keep is forgotten."""

    def __init__(
        self, settings: Settings, file: str, before: Tables | None, begins: Callable[[], object] = lambda: None
    ) -> None:
        """`begins` is called when a question is put."""
        self._begins = begins
        self._settings = settings
        self._file = file
        self._reactor = Clock()
        self._clock = ReactorClock(self._reactor)
        self._store = Overlay(MemoryStore(self._clock), self._clock)
        self._tables = Tables(settings.table, self._clock, None, before)
        #: Policies that have asked somebody.
        self._asked: set[str] = set()
        #: Those that block, by their names.
        self._rationed: dict[str, Rationed] = {}
        #: Those whose code is wrong, with what it did first.
        self._slips: dict[str, str] = {}
        absent: Any = None
        self._surroundings = Surroundings(
            clock=self._clock,
            resolver=Outside(asked=self._note),
            tcp=absent,
            spool=MemorySpool(self._clock),
            maillog=absent,
            agents={},
            random=random.Random(1),  # noqa: S311  # chance that is the same each time keeps no secrets
            is_local=lambda address: False,
            store=self._store,
            http=Outside(asked=self._note),
        )
        self._rehearsals: dict[tuple[str, ...], Rehearsal] = {}

    def _note(self) -> None:
        self._asked.add(at_work())

    # Who may send what to whom.

    def matrix(self) -> Matrix:
        chain = self._rationing(self._chain(self._settings.policy, self._world(self._tables, self._store)))
        policies = [policy for policy in self._settings.policy if policy.mode != "off"]
        probe = Probe(
            chain,
            policies=policies,
            run=self._run,
            asked=self._asked,
            forget=self._store.drop,
            pass_time=self._reactor.advance,
        )
        return matrix(self._settings, probe)

    def _rationing(self, chain: Chain) -> Chain:
        """There are hundreds of questions, and each one to a policy that blocks makes whoever starts the relay wait."""
        stations = []
        for station in chain.stations:
            if isinstance(station.policy, Blocking):
                rationed = Rationed(station.policy, now=monotonic, unanswered=self._note, seconds=RATION)
                self._rationed[station.name] = rationed
                station = evolve(station, policy=rationed)
            stations.append(station)
        hear: Any = self._hear  # Twisted's type of an observer is an interface
        log = Logger(namespace="relay.policy", observer=hear)
        return Chain(stations, self._clock, log, self._settings.limits.policies_at_command)

    def _hear(self, event: Mapping[str, Any]) -> None:
        """What the chain says of a policy that is answered for with 451, unless that is since nobody is asked here."""
        name, failure = event.get("policy"), event.get("log_failure")
        if name is None or name in self._asked:
            return
        if failure is not None:
            self._slips.setdefault(name, f"raises {said_by(failure.value)}")
        elif "said" in event:
            self._slips.setdefault(name, f"answers with {event['said']}, which is no verdict")

    def slips(self) -> list[Problem]:
        """Policies that have failed when they were asked."""
        return [
            self._settings.problem(
                self._file,
                ("policy", index),
                f"'{policy.name}' {self._slips[policy.name]}: its mail is answered with 451",
            )
            for index, policy in enumerate(self._settings.policy)
            if policy.name in self._slips
        ]

    def unanswered(self) -> list[Problem]:
        """Policies of which the matrix does not know all that they would say."""
        return [
            self._settings.problem(
                self._file,
                ("policy", index),
                f"'{policy.name}' blocks, and after {RATION:g} s it was not asked any more: what it would have said "
                f"{self._rationed[policy.name].unanswered} times more is not known here",
            )
            for index, policy in enumerate(self._settings.policy)
            if policy.name in self._rationed and self._rationed[policy.name].unanswered
        ]

    def _world(self, tables: Callable[[str | Path], ITable], store: IStore) -> World:
        return evolve(world_of(self._settings, self._surroundings, tables), store=store, log=_UNHEARD)

    def _chain(self, policies: Sequence[PolicySettings], world: World) -> Chain:
        timeout, whole = self._settings.limits.policies_at_command, len(policies) == len(self._settings.policy)
        made = make_chain(policies, world, file=self._file, timeout=timeout, whole=whole)
        return Chain(made.stations, self._clock, _UNHEARD, timeout)

    def _run(self, answer: Awaitable[Any]) -> Any:
        """What it comes to, however long that takes by our clock."""
        self._begins()
        said: Any = start(answer)
        if not isinstance(said, Deferred):
            return said
        came: list[Any] = []
        said.addBoth(came.append)
        for _ in range(_PATIENCE):
            next_at = min((call.getTime() for call in self._reactor.getDelayedCalls()), default=None)
            if came or next_at is None:
                break
            self._reactor.advance(max(0.0, next_at - self._reactor.seconds()))
        if not came:
            raise TimeoutError("the policies have not answered")
        if isinstance(came[0], Failure):
            came[0].raiseException()
        return came[0]

    # Examples.

    def failed_examples(self) -> list[Problem]:
        """All that come out otherwise than they say."""
        failed: list[Problem] = []
        for index, policy in enumerate(self._settings.policy):
            for number, example in enumerate(policy.examples):
                trouble = self._trouble(policy, example)
                if trouble:
                    path = ("policy", index, "examples", number)
                    failed.append(self._settings.problem(self._file, path, trouble))
        return failed

    def _trouble(self, policy: PolicySettings, example: Example) -> str:
        alone = example.of == "policy"
        if alone and policy.mode == "off":
            return f"{example.to} should be '{example.expect}', and the policy is off"
        try:
            said = self._said((policy,) if alone else self._settings.policy, example, alone)
        except LookupError as error:
            return str(error.args[0])
        except (ConfigurationError, ValueError) as error:
            return f"the policies cannot be made with what it brings: {error}"
        except TimeoutError as error:
            return str(error)
        if met(example.expect, said, alone=alone):
            return ""
        return f"{example.to} from {example.sender} should be '{example.expect}', but {told(said)}{_unanswered(said)}"

    def _said(self, policies: Sequence[PolicySettings], example: Example, alone: bool) -> Explanation:
        message = example.message.replace("\r\n", "\n").replace("\n", "\r\n").encode() if example.message else None
        asked = Asked(
            recipient=parse_address(example.to),
            sender=None if example.sender == "<>" else parse_address(example.sender),
            client="" if example.client == UNIX else example.client,
            helo=example.helo,
            user=example.user,
            listener=example.listener,
            tls=example.tls,
            message=message,
        )
        explanation: Explanation = self._run(self._rehearsal(policies, example, alone).explain(asked))
        return explanation

    def _rehearsal(self, policies: Sequence[PolicySettings], example: Example, alone: bool) -> Rehearsal:
        """Those who bring nothing of their own share one."""
        if example.dns is not None or example.tables:
            return self._made(policies, example, alone)
        names = ("", *(policy.name for policy in policies)) if alone else ()
        made = self._rehearsals.get(names)
        if made is None:
            made = self._rehearsals[names] = self._made(policies, example, alone)
        return made

    def _made(self, policies: Sequence[PolicySettings], example: Example, alone: bool) -> Rehearsal:
        def make(store: IStore, chance: random.Random) -> Reception:
            world = evolve(self._world(self._tables_of(example), store), random=chance)
            if example.dns is not None:
                known = answers(example.dns)
                world = evolve(world, resolver=Outside(lambda name, kind: answer(known, name, kind)))
            chain = self._chain(policies, world)
            if alone:
                chain = chain.followed_by(Station(NOBODY, _Anything()))
            nobody: Any = None  # a rehearsal has somebody of its own
            return evolve(reception_of(self._settings, self._surroundings, chain, nobody, Turnstile(1)), log=_UNHEARD)

        return Rehearsal(self._settings, self._clock, MemoryStore(self._clock), make, lambda _: Exchangers(()))

    def _tables_of(self, example: Example) -> Callable[[str | Path], ITable]:
        def find(name: str | Path) -> ITable:
            for key, values in example.tables.items():
                if _means(key, name):
                    return GivenTable(values)
            return self._tables(name)

        return find


def _means(key: str, name: str | Path) -> bool:
    """Whether an example's table is this one: by its name, or by the last parts of its path."""
    if isinstance(name, str):
        return key == name
    parts = Path(key).parts
    return bool(parts) and name.parts[-len(parts) :] == parts


def _unanswered(said: Explanation) -> str:
    """What was asked in vain: the first thing that an example lacks."""
    for step in said.steps:
        for where, what, found in step.looks:
            if where in ("dns", "http") and "nobody is asked" in found:
                return f"; '{step.policy}' has asked for {what}, and the example has no 'dns'"
    return ""
