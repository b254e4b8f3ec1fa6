"""
Where the objects meet: from settings, and what the machine gives, to a relay that could run.

A relay of the operator's and one of a test are put together here alike. They differ in their `Surroundings`, and
in nothing else.

What the settings decide is a `Generation`, which is replaced as a whole when the configuration is read again. What
counts and keeps (the spool, the dispatcher, who is connected) stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any, cast

from attrs import define, evolve, field, frozen
from twisted.internet.interfaces import IReactorFromThreads, IReactorTCP
from twisted.logger import Logger

from relay.agents.pool import Keeping, Pool
from relay.agents.registry import Agents
from relay.agents.smtp import SmtpTransmitter
from relay.config.addresses import Inet
from relay.config.delivery import ConnectionSettings, DeliverySettings
from relay.config.errors import ConfigurationError
from relay.config.listeners import ListenerSettings
from relay.config.logins import missing
from relay.config.settings import Settings
from relay.control.api import Desk
from relay.control.desk import desk
from relay.control.dispatching import Dispatching
from relay.control.rehearsal import Rehearsal
from relay.control.reloading import InForce, Reload
from relay.control.running import Running
from relay.control.undertone import undertone
from relay.delivery.attempt import Attempts
from relay.delivery.consulting import Consulted
from relay.delivery.destination import Limits as DispatchLimits
from relay.delivery.destination import Particular
from relay.delivery.dispatch import Dispatcher
from relay.delivery.exchangers import Surroundings as Neighbourhood
from relay.delivery.exchangers import find
from relay.delivery.health import Rate
from relay.delivery.notices import Notices
from relay.delivery.pauses import Pauses
from relay.delivery.reach import Reach
from relay.delivery.retry import Schedule, Schedules
from relay.delivery.search import Search
from relay.delivery.suppression import Suppressions
from relay.doors import Doors, failure_limits
from relay.interfaces import (
    IAgent,
    IClock,
    ICredentials,
    IDispatch,
    IHistory,
    IHttp,
    IMailLog,
    IResolver,
    ISpool,
    IStore,
    ITable,
    ITakesRows,
    World,
)
from relay.mail.reference import BITS, reference
from relay.net.admission import Admission
from relay.net.auth_limits import Limiter
from relay.net.client import Dialer
from relay.net.doorway import Doorway
from relay.net.fetching import Fetching
from relay.net.listener import SmtpServerFactory
from relay.net.logins import Logins
from relay.net.meter import Meter
from relay.net.tallies import Tallies
from relay.net.teed import Teed
from relay.net.tls_peers import TlsPeers
from relay.net.tls_server import ServerTls
from relay.policy.assembly import make_chain
from relay.policy.blocking import spare
from relay.policy.chain import Chain
from relay.policy.guard import Networks
from relay.policy.observing import Observers
from relay.policy.suppressing import Suppressing
from relay.policy.tables import Apart, Tables
from relay.reception import Reception, Turnstile
from relay.smtp.deadlines import Deadlines
from relay.store.memory import MemoryStore


@frozen
class Surroundings:
    """What a relay is given."""

    clock: IClock
    resolver: IResolver
    #: How connections to others are made.
    tcp: IReactorTCP
    spool: ISpool
    #: Within a relay it is the `Meter` that `assemble` puts before it.
    maillog: IMailLog
    #: What carries mail away on this machine, by the name that a verdict gives.
    agents: Mapping[str, IAgent]
    #: A `random.Random`.
    random: Any
    #: Whether an address is one of this machine's.
    is_local: Callable[[str], bool]
    #: The TLS of those listeners that have some, by their names.
    tls: Mapping[str, ServerTls] = field(factory=dict)
    #: Who knows the users; `None`: nobody does.
    credentials: ICredentials | None = None
    #: Addresses that are known to fail; `None`: nobody keeps them.
    suppressions: Suppressions | None = None
    #: What an operator has paused; `None`: nobody keeps it.
    pauses: Pauses | None = None
    #: What policies keep; `None`: it is forgotten when the relay ends.
    store: IStore | None = None
    #: Whom policies ask by HTTP; `None`: whoever is there.
    http: IHttp | None = None
    #: Runs work for which the reactor should not wait; `None`: at once.
    apart: Apart | None = None
    #: Where it is kept how decisions came about; `None`: nowhere. It is told the mail log by `maillog`.
    history: IHistory | None = None
    #: Takes calls from other threads; `None`: there are none, and policies that block do so where they are.
    reactor: IReactorFromThreads | None = None
    #: What other processes of this relay have counted; `None`: there are none.
    tallies: Tallies | None = None


@frozen
class Listener:
    """A place where mail comes in, and who answers there. It does not listen yet."""

    settings: ListenerSettings
    factory: SmtpServerFactory


@frozen(eq=False)
class Conduct:
    """How mail is carried onward."""

    attempts: Attempts | Consulted
    notices: Notices
    schedules: Schedules
    limits: DispatchLimits
    routes: Chain
    #: Called when nothing is carried in this way any more.
    parted: Callable[[], None]


@frozen(eq=False)
class Generation:
    """
    What one reading of the configuration has made. A session ends with the one that it has begun with, and an attempt
    too; what begins has the one of that moment.
    """

    settings: Settings
    #: As the relay's, with the TLS of this generation.
    surroundings: Surroundings
    tables: Tables
    chain: Chain
    conduct: Conduct
    #: By the listeners' names.
    doorways: Mapping[str, Doorway]
    #: What would become of a mail.
    rehearsal: Rehearsal


@frozen(eq=False)
class Permanent:
    """What all generations of a relay share."""

    dispatcher: Dispatcher
    admission: Admission
    limiter: Limiter
    #: Messages that wait for their commit.
    turnstile: Turnstile
    #: Policies that see what happens.
    observers: Observers


@define(eq=False)
class Relay:
    """All that makes a relay. `relay.service` starts and stops it."""

    generation: Generation
    permanent: Permanent
    listeners: tuple[Listener, ...]
    #: When it was put together, by `IClock.seconds`.
    started: float
    meter: Meter

    @property
    def settings(self) -> Settings:
        return self.generation.settings

    @property
    def surroundings(self) -> Surroundings:
        return self.generation.surroundings

    @property
    def chain(self) -> Chain:
        return self.generation.chain

    @property
    def rehearsal(self) -> Rehearsal:
        return self.generation.rehearsal

    @property
    def dispatcher(self) -> Dispatcher:
        return self.permanent.dispatcher

    @property
    def admission(self) -> Admission:
        return self.permanent.admission

    @property
    def turnstile(self) -> Turnstile:
        return self.permanent.turnstile

    def prepare(self, settings: Settings, *, file: str, tls: Mapping[str, ServerTls] | None = None) -> Generation:
        """
        What these settings make of this relay. Nothing has changed when it returns.

        The listeners have to be the same. `tls` is theirs; `None`: that of before. Raises `ConfigurationError`.
        """
        before = self.generation
        surroundings = before.surroundings if tls is None else evolve(before.surroundings, tls=tls)
        policies = _policies(settings, surroundings, file, before.tables)
        conduct = _conduct(settings, surroundings, policies, file)
        return _generation(settings, surroundings, policies, conduct, self.permanent, file)

    def adopt(self, generation: Generation) -> None:
        """Whatever begins from now on has this generation, which `prepare` has made. Never raises."""
        settings, permanent, conduct = generation.settings, self.permanent, generation.conduct
        permanent.admission.adopt(settings.limits, settings.trusted)
        permanent.limiter.adopt(failure_limits(settings.limits))
        permanent.turnstile.adopt(settings.limits.waiting_commits)
        permanent.observers.adopt(generation.chain.stations)
        for listener in self.listeners:
            listener.factory.doorway = generation.doorways[listener.settings.name]
        before, self.generation = self.generation, generation
        # Sessions that have it still ask it. It may stay for long: who has it last is found by the garbage collector.
        spare(station.policy for station in before.chain.stations)
        permanent.dispatcher.adopt(
            attempts=conduct.attempts,
            notices=conduct.notices,
            schedules=conduct.schedules,
            limits=conduct.limits,
            routes=conduct.routes,
            parted=conduct.parted,
        )


def assemble(settings: Settings, surroundings: Surroundings, *, file: str) -> Relay:
    """
    The relay that the configuration `file` describes.

    Raises `ConfigurationError` with every policy that cannot be made. Touches nothing: no socket, no file but those
    that policies read.
    """
    clock = surroundings.clock
    listed = surroundings.suppressions
    observers = Observers(Logger(namespace="relay.policy"))
    log = Teed(surroundings.maillog, *(() if listed is None else (listed,)))
    meter = Meter(clock, log, observers.tellers)
    surroundings = evolve(surroundings, maillog=meter)
    policies = _policies(settings, surroundings, file)
    conduct = _conduct(settings, surroundings, policies, file)
    permanent = Permanent(
        _dispatcher(settings, surroundings, conduct),
        Admission(settings.limits, settings.trusted, clock, surroundings.tallies),
        Limiter(clock, failure_limits(settings.limits), surroundings.tallies),
        Turnstile(settings.limits.waiting_commits),
        observers,
    )
    observers.adopt(policies.chain.stations)
    generation = _generation(settings, surroundings, policies, conduct, permanent, file)
    listeners = tuple(Listener(each, SmtpServerFactory(generation.doorways[each.name])) for each in settings.listener)
    return Relay(generation, permanent, listeners, clock.seconds(), meter)


@frozen(eq=False)
class _Policies:
    world: World
    tables: Tables
    chain: Chain


def _policies(settings: Settings, surroundings: Surroundings, file: str, before: Tables | None = None) -> _Policies:
    tables = Tables(settings.table, surroundings.clock, surroundings.apart, before)
    world = world_of(settings, surroundings, tables)
    chain = make_chain(
        settings.policy,
        world,
        file=file,
        timeout=settings.limits.policies_at_command,
        reactor=surroundings.reactor,
    )
    tables.complete()
    return _Policies(world, tables, chain)


def _generation(
    settings: Settings,
    surroundings: Surroundings,
    policies: _Policies,
    conduct: Conduct,
    permanent: Permanent,
    file: str,
) -> Generation:
    reception = reception_of(settings, surroundings, policies.chain, permanent.dispatcher, permanent.turnstile)
    doors = Doors(
        settings,
        hostname(settings),
        surroundings.tls,
        surroundings.credentials,
        reception,
        permanent.admission,
        permanent.limiter,
    )
    return Generation(
        settings,
        surroundings,
        policies.tables,
        policies.chain,
        conduct,
        {each.name: doors.doorway(each) for each in settings.listener},
        _rehearsal(doors, surroundings, policies.world, permanent, file),
    )


def world_of(settings: Settings, surroundings: Surroundings, tables: Callable[[str | Path], ITable]) -> World:
    """All that policies may learn from."""
    clock, resolver = surroundings.clock, surroundings.resolver
    reach = Reach(is_local=surroundings.is_local)
    return World(
        clock=clock,
        resolver=resolver,
        random=surroundings.random,
        log=Logger(namespace="relay.policy"),
        hostname=hostname(settings),
        store=surroundings.store or MemoryStore(clock),
        http=surroundings.http
        or Fetching(surroundings.tcp, clock, resolver, lambda address: reach.permits(address, private=False)),
        table=tables,
    )


def hostname(settings: Settings) -> str:
    """The relay's name, which reading a configuration has always found."""
    if settings.hostname is None:
        raise ValueError("the settings have no host name")
    return settings.hostname


def answers_for_control(
    relay: Relay,
    pid: int,
    bound: Mapping[str, str],
    history: IHistory | None = None,
    reload: Reload | None = None,
    in_force: Callable[[], InForce] | None = None,
) -> Desk:
    """What `relayctl` may ask and do. `bound`: the address of each listener that listens, by its name."""

    def listeners() -> list[dict[str, Any]]:
        return [
            {
                "name": listener.settings.name,
                "address": bound[listener.settings.name],
                "connections": len(listener.factory.connections),
            }
            for listener in relay.listeners
            if listener.settings.name in bound
        ]

    given = relay.surroundings
    return desk(
        Running(
            clock=given.clock,
            spool=given.spool,
            maillog=given.maillog,
            delivery=Dispatching(relay.dispatcher, given.pauses),
            hostname=hostname(relay.settings),
            pid=pid,
            started=relay.started,
            listeners=listeners,
            counts=relay.meter.counts,
            routes=relay.chain,
            history=history,
            suppressions=given.suppressions,
            rehearsal=relay.rehearsal,
            reload=reload,
            in_force=in_force,
        )
    )


def reception_of(
    settings: Settings, surroundings: Surroundings, chain: Chain, dispatch: IDispatch, turnstile: Turnstile
) -> Reception:
    """What the visits to all listeners have in common."""
    listed = surroundings.suppressions
    return Reception(
        hostname=hostname(settings),
        greeting=settings.greeting,
        limits=settings.limits,
        chain=chain if listed is None else Suppressing(chain, listed, Networks(settings.trusted)),
        spool=surroundings.spool,
        dispatch=dispatch,
        maillog=cast(ITakesRows, surroundings.maillog),
        turnstile=turnstile,
        clock=surroundings.clock,
        screening=chain,
        mixed=settings.content.mixed,
        history=surroundings.history,
        refer=lambda: reference(surroundings.random.getrandbits(BITS)),
    )


def _conduct(settings: Settings, surroundings: Surroundings, policies: _Policies, file: str) -> Conduct:
    delivery, clock, schedules = settings.delivery, surroundings.clock, _schedules(settings)
    problems = [
        settings.problem(file, ("policy", at, "login"), text) for at, text in missing(settings.policy, settings.login)
    ]
    if problems:
        raise ConfigurationError(problems)
    try:
        tls = TlsPeers(clock, delivery.tls.authorities)
    except ValueError as problem:
        raise ConfigurationError(
            [settings.problem(file, ("delivery", "tls", "authorities"), str(problem))]
        ) from problem
    neighbourhood = _neighbourhood(settings, surroundings)
    pool = Pool(clock, _keeping(delivery.connections))
    attempts = Attempts(
        agents=Agents(surroundings.agents, policies.world),
        transmitter=SmtpTransmitter(
            Dialer(surroundings.tcp, clock, hostname(settings), Deadlines(**delivery.timeouts.model_dump())),
            tls,
            Logins(settings.login),
            pool=pool,
        ),
        find=Search(neighbourhood, clock.seconds),
        addresses=delivery.addresses,
        sessions=delivery.sessions,
    )
    chain = policies.chain
    return Conduct(
        Consulted(attempts, chain) if chain.asks_attempts else attempts,
        Notices(hostname(settings), chain, clock),
        schedules,
        _dispatch_limits(delivery, schedules),
        chain,
        pool.close,
    )


def _dispatcher(settings: Settings, surroundings: Surroundings, conduct: Conduct) -> Dispatcher:
    return Dispatcher(
        spool=surroundings.spool,
        clock=surroundings.clock,
        mail_log=cast(ITakesRows, surroundings.maillog),
        attempts=conduct.attempts,
        notices=conduct.notices,
        schedules=conduct.schedules,
        random=surroundings.random.random,
        limits=conduct.limits,
        routes=conduct.routes,
        parted=conduct.parted,
    )


def _neighbourhood(settings: Settings, surroundings: Surroundings) -> Neighbourhood:
    return Neighbourhood(
        resolver=surroundings.resolver,
        random=surroundings.random.random,
        reach=Reach(
            listeners={
                (each.address.host, each.address.port) for each in settings.listener if isinstance(each.address, Inet)
            },
            is_local=surroundings.is_local,
            allow_private=settings.delivery.allow_private,
        ),
        most=settings.delivery.addresses,
    )


def _rehearsal(doors: Doors, surroundings: Surroundings, world: World, permanent: Permanent, file: str) -> Rehearsal:
    """Policies of its own, which share with the relay's what neither of them changes."""
    settings = doors.settings

    def make(store: IStore, chance: Random) -> Reception:
        aside = evolve(world, store=store, random=chance, log=undertone("relay.policy"))
        chain = make_chain(
            settings.policy,
            aside,
            file=file,
            timeout=settings.limits.policies_at_command,
            reactor=surroundings.reactor,
        )
        spare(station.policy for station in chain.stations)
        turnstile = Turnstile(settings.limits.waiting_commits)
        return reception_of(settings, surroundings, chain, permanent.dispatcher, turnstile)

    neighbourhood = _neighbourhood(settings, surroundings)
    return Rehearsal(
        settings,
        surroundings.clock,
        world.store,
        make,
        lambda next_hop: find(next_hop, neighbourhood),
        doors.threshold,
    )


def _schedules(settings: Settings) -> Schedules:
    """What a policy does not say of its own schedule `[delivery.retry]` does."""
    usual = settings.delivery.retry.model_dump()
    said = {policy.name: policy.retry.model_dump(exclude_unset=True) for policy in settings.policy}
    return Schedules(
        Schedule(**usual),
        {name: Schedule(**{**usual, **own}) for name, own in said.items() if own},
    )


def _dispatch_limits(delivery: DeliverySettings, schedules: Schedules) -> DispatchLimits:
    all_schedules = (schedules.usual, *schedules.particular.values())
    return DispatchLimits(
        # An operator who wants mail to be tried every second does not want to wait for a minute.
        pause=min(60.0, *(schedule.first for schedule in all_schedules)),
        longest_pause=min(1800.0, *(schedule.most for schedule in all_schedules)),
        destination=delivery.concurrency.most,
        first=delivery.concurrency.first,
        total=delivery.concurrency.total,
        particular={
            each.name: Particular(each.most, None if each.rate is None else Rate(*each.rate))
            for each in delivery.destination
        },
    )


def _keeping(connections: ConnectionSettings) -> Keeping:
    return Keeping(
        idle=connections.idle,
        most=connections.most,
        of_host=connections.of_host,
        transactions=connections.messages,
        lifetime=connections.lifetime,
    )
