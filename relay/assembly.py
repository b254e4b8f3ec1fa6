"""
Where the objects meet: from settings, and what the machine gives, to a relay that could run.

A relay of the operator's and one of a test are put together here alike. They differ in their `Surroundings`, and
in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from attrs import evolve, field, frozen
from twisted.internet.interfaces import IReactorTCP
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
from relay.control.meter import Meter
from relay.control.rehearsal import Rehearsal
from relay.control.running import Running
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
from relay.doors import Doors
from relay.history.teed import Teed
from relay.interfaces import IAgent, IClock, ICredentials, IHistory, IHttp, IMailLog, IResolver, ISpool, IStore, World
from relay.mail.reference import BITS, reference
from relay.net.admission import Admission
from relay.net.client import Dialer
from relay.net.fetching import Fetching
from relay.net.listener import SmtpServerFactory
from relay.net.logins import Logins
from relay.net.tls_peers import TlsPeers
from relay.net.tls_server import ServerTls
from relay.policy.assembly import make_chain
from relay.policy.chain import Chain
from relay.policy.guard import Networks
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


@frozen
class Listener:
    """A place where mail comes in, and who answers there. It does not listen yet."""

    settings: ListenerSettings
    factory: SmtpServerFactory


@frozen
class Relay:
    """All that makes a relay. `relay.service` starts and stops it."""

    settings: Settings
    surroundings: Surroundings
    chain: Chain
    dispatcher: Dispatcher
    listeners: tuple[Listener, ...]
    admission: Admission
    #: Messages that wait for their commit.
    turnstile: Turnstile
    #: When it was put together, by `IClock.seconds`.
    started: float
    meter: Meter
    #: What would become of a mail.
    rehearsal: Rehearsal


def assemble(settings: Settings, surroundings: Surroundings, *, file: str) -> Relay:
    """
    The relay that the configuration `file` describes.

    Raises `ConfigurationError` with every policy that cannot be made. Touches nothing: no socket, no file but those
    that policies read.
    """
    clock = surroundings.clock
    listed = surroundings.suppressions
    meter = Meter(surroundings.maillog if listed is None else Teed(surroundings.maillog, listed))
    surroundings = evolve(surroundings, maillog=meter)
    world = _world(settings, surroundings)
    chain = make_chain(settings.policy, world, file=file, timeout=settings.limits.policies_at_command)
    dispatcher = _dispatcher(settings, surroundings, world, chain, file)
    admission = Admission(settings.limits, settings.trusted, clock)
    reception = _reception(settings, surroundings, chain, dispatcher)
    doors = Doors(settings, hostname(settings), surroundings.tls, surroundings.credentials, reception, admission)
    listeners = tuple(Listener(each, doors.factory(each)) for each in settings.listener)
    turnstile = reception.turnstile
    rehearsal = _rehearsal(settings, surroundings, world, dispatcher, file)
    return Relay(
        settings, surroundings, chain, dispatcher, listeners, admission, turnstile, clock.seconds(), meter, rehearsal
    )


def _world(settings: Settings, surroundings: Surroundings) -> World:
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
        table=Tables(settings.table, clock, surroundings.apart),
    )


def hostname(settings: Settings) -> str:
    """The relay's name, which reading a configuration has always found."""
    if settings.hostname is None:
        raise ValueError("the settings have no host name")
    return settings.hostname


def answers_for_control(relay: Relay, pid: int, bound: Mapping[str, str], history: IHistory | None = None) -> Desk:
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
        )
    )


def _reception(settings: Settings, surroundings: Surroundings, chain: Chain, dispatcher: Dispatcher) -> Reception:
    listed = surroundings.suppressions
    return Reception(
        hostname=hostname(settings),
        greeting=settings.greeting,
        limits=settings.limits,
        chain=chain if listed is None else Suppressing(chain, listed, Networks(settings.trusted)),
        spool=surroundings.spool,
        dispatch=dispatcher,
        maillog=surroundings.maillog,
        turnstile=Turnstile(settings.limits.waiting_commits),
        clock=surroundings.clock,
        screening=chain,
        mixed=settings.content.mixed,
        history=surroundings.history,
        refer=lambda: reference(surroundings.random.getrandbits(BITS)),
    )


def _dispatcher(settings: Settings, surroundings: Surroundings, world: World, chain: Chain, file: str) -> Dispatcher:
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
        agents=Agents(surroundings.agents, world),
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
    return Dispatcher(
        spool=surroundings.spool,
        clock=clock,
        mail_log=surroundings.maillog,
        attempts=Consulted(attempts, chain) if chain.asks_attempts else attempts,
        notices=Notices(hostname(settings), chain, clock),
        schedules=schedules,
        random=surroundings.random.random,
        limits=_dispatch_limits(delivery, schedules),
        routes=chain,
        parted=pool.close,
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


def _rehearsal(
    settings: Settings, surroundings: Surroundings, world: World, dispatcher: Dispatcher, file: str
) -> Rehearsal:
    """Policies of its own, which share with the relay's what neither of them changes."""

    def make(store: IStore, chance: Random) -> Reception:
        aside = evolve(world, store=store, random=chance)
        chain = make_chain(settings.policy, aside, file=file, timeout=settings.limits.policies_at_command)
        return _reception(settings, surroundings, chain, dispatcher)

    neighbourhood = _neighbourhood(settings, surroundings)
    return Rehearsal(settings, surroundings.clock, world.store, make, lambda next_hop: find(next_hop, neighbourhood))


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
