"""
Where the objects meet: from settings, and what the machine gives, to a relay that could run.

A relay of the operator's and one of a test are put together here alike. They differ in their `Surroundings`, and
in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from attrs import evolve, field, frozen
from twisted.internet.interfaces import IReactorTCP
from twisted.logger import Logger

from relay.agents.pool import Keeping, Pool
from relay.agents.registry import Agents
from relay.agents.smtp import SmtpTransmitter
from relay.config.addresses import Inet
from relay.config.delivery import ConnectionSettings, DeliverySettings
from relay.config.errors import ConfigurationError
from relay.config.limits import Limits
from relay.config.listeners import ListenerSettings
from relay.config.logins import missing
from relay.config.settings import Settings
from relay.control.api import Desk
from relay.control.desk import desk
from relay.control.dispatching import Dispatching
from relay.control.meter import Meter
from relay.control.running import Running
from relay.delivery.attempt import Attempts
from relay.delivery.destination import Limits as DispatchLimits
from relay.delivery.destination import Particular
from relay.delivery.dispatch import Dispatcher
from relay.delivery.exchangers import Exchangers, find
from relay.delivery.exchangers import Surroundings as Neighbourhood
from relay.delivery.health import Rate
from relay.delivery.notices import Notices
from relay.delivery.reach import Reach
from relay.delivery.retry import Schedule, Schedules
from relay.delivery.suppression import Suppressions
from relay.history.teed import Teed
from relay.interfaces import IAgent, IClock, ICredentials, IHistory, IMailLog, IResolver, ISpool, World
from relay.mail.address import Address
from relay.mail.envelope import Client
from relay.mail.outcome import Unresolved
from relay.mail.routing import NextHop
from relay.net.admission import Admission, is_within
from relay.net.auth_limits import FailureLimits, Limiter
from relay.net.client import Dialer
from relay.net.logins import Logins
from relay.net.peer_user import user_at
from relay.net.server import Arrival, Doorway, SmtpServerFactory
from relay.net.tls_peers import TlsPeers
from relay.net.tls_server import ServerTls
from relay.policy.assembly import make_chain
from relay.policy.chain import Chain
from relay.policy.guard import Networks
from relay.policy.suppressing import Suppressing
from relay.reception import Reception, Turnstile, Visit
from relay.reception.authentication import Users, user_of
from relay.smtp.deadlines import Deadlines
from relay.smtp.extensions import ALL, Standing
from relay.smtp.profile import Profile, SessionLimits
from relay.smtp.sasl import Channel
from relay.smtp.server import ServerSession
from relay.smtp.xclient import ATTRIBUTES as XCLIENT_ATTRIBUTES

#: The address of a client of whom nobody knows where it is: that of no host (RFC 1122 section 3.2.1.3).
_UNKNOWN: Final = "0.0.0.0"  # noqa: S104, nothing is bound here


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
    world = World(
        clock=clock,
        resolver=surroundings.resolver,
        random=surroundings.random,
        log=Logger(namespace="relay.policy"),
        hostname=hostname(settings),
    )
    chain = make_chain(settings.policy, world, file=file, timeout=settings.limits.policies_at_command)
    dispatcher = _dispatcher(settings, surroundings, world, chain, file)
    admission = Admission(settings.limits, settings.trusted, clock)
    reception = _reception(settings, surroundings, chain, dispatcher)
    limits = settings.limits
    limiter = Limiter(clock, FailureLimits(limits.auth_failures, limits.auth_failures_per_address, limits.auth_window))
    listeners = tuple(
        Listener(each, _factory(each, settings, surroundings, reception, admission, limiter))
        for each in settings.listener
    )
    turnstile = reception.turnstile
    return Relay(settings, surroundings, chain, dispatcher, listeners, admission, turnstile, clock.seconds(), meter)


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
            delivery=Dispatching(relay.dispatcher),
            hostname=hostname(relay.settings),
            pid=pid,
            started=relay.started,
            listeners=listeners,
            counts=relay.meter.counts,
            routes=relay.chain,
            history=history,
            suppressions=given.suppressions,
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
    )


def _factory(
    listener: ListenerSettings,
    settings: Settings,
    surroundings: Surroundings,
    reception: Reception,
    admission: Admission,
    limiter: Limiter,
) -> SmtpServerFactory:
    limits, tls = settings.limits, surroundings.tls.get(listener.name)
    profile = _profile(listener, settings, surroundings)
    users = _users(listener, settings, surroundings, limiter)
    reception = evolve(
        reception,
        users=users,
        submission=listener.protocol == "submission",
        lmtp=profile.lmtp,
        verifies=listener.verify == "authenticated",
    )
    bounds = _Bounds.of(limits, admission, in_turn=listener.protocol == "smtp" and listener.early_talkers == "refuse")

    def admit(arrival: Arrival) -> tuple[ServerSession, Visit]:
        client, secured = client_of(arrival, listener.name, lmtp=profile.lmtp), arrival.secured
        trusted = admission.is_trusted(client.address)
        standing = Standing(
            secured=secured is not None,
            authenticated=client.user is not None,
            trusted=trusted,
            introducing=_may_introduce(arrival, listener),
            introduced=bool(arrival.introduced),
        )
        words, offer = {}, None
        if users is not None and secured is not None:
            # TLS is with the host that speaks for a client, and so is whatever it proves.
            channel = Channel() if arrival.introduced else Channel(secured.bindings(), user_of(client.tls))
            offer = users.offer(channel)
            words = {"AUTH": " ".join(offer.mechanisms), "FUTURERELEASE": _hold(limits.hold, reception.clock)}
        session = ServerSession(
            profile, bounds.of_client(trusted), standing, words, greeted=arrival.greeted, errors=arrival.errors
        )
        return session, Visit(reception, client, arrival.refusal, offer)

    return SmtpServerFactory(
        Doorway(
            admit,
            admission,
            limits,
            reception.clock,
            listener.proxy,
            tls=tls,
            implicit=listener.tls == "implicit",
            greeting_delay=listener.greeting_delay or 0.0,
            identify=user_at if listener.local_users else None,
        )
    )


def _profile(listener: ListenerSettings, settings: Settings, surroundings: Surroundings) -> Profile:
    """What a listener offers. What needs something that is not there is not offered."""
    limits, tls = settings.limits, surroundings.tls.get(listener.name)
    there_is = {
        "BINARYMIME": "BINARYMIME" in listener.also,
        "STARTTLS": tls is not None and listener.tls != "implicit",
        "AUTH": tls is not None,
        "FUTURERELEASE": listener.protocol == "submission",
        "EXPN": listener.expand,
        "XCLIENT": bool(listener.xclient),
    }
    offered = [each for each in ALL if each.keyword not in listener.without and there_is.get(each.keyword, True)]
    return Profile(
        hostname(settings),
        lenient=listener.newlines == "lenient",
        extensions=tuple(offered),
        arguments={
            "SIZE": str(limits.message),
            "LIMITS": f"MAILMAX={limits.messages} RCPTMAX={limits.recipients}",
            "XCLIENT": " ".join(XCLIENT_ATTRIBUTES),
        },
        lmtp=listener.protocol == "lmtp",
        requires_tls=listener.tls == "require",
        requires_auth=listener.protocol == "submission",
        postmaster=Address("postmaster", _home(settings)),
    )


def _users(
    listener: ListenerSettings, settings: Settings, surroundings: Surroundings, limiter: Limiter
) -> Users | None:
    """Who may be somebody at this listener; `None`: nobody, or nobody could prove it."""
    by_certificate = listener.client_authorities is not None
    if surroundings.tls.get(listener.name) is None or (surroundings.credentials is None and not by_certificate):
        return None
    return Users(surroundings.credentials, limiter, settings.auth.mechanisms)


def client_of(arrival: Arrival, listener: str, *, lmtp: bool) -> Client:
    """Who has come: whoever is at the other end, or the client for whom that one speaks."""
    facts = None if arrival.secured is None else arrival.secured.facts
    client = Client(arrival.address, arrival.port, listener=listener, user=arrival.user, tls=facts, lmtp=lmtp)
    if not arrival.introduced:
        return client
    said = dict(arrival.introduced)
    return evolve(
        client,
        tls=None if facts is None else evolve(facts, client_subject=None),
        # A host that speaks for others and knows no address of one speaks for a stranger all the same.
        address=said.get("ADDR", client.address) or _UNKNOWN,
        port=int(said.get("PORT") or 0),
        helo=said.get("HELO") or "",
        extended=said.get("PROTO") == "ESMTP",
        user=said.get("LOGIN"),
    )


def _may_introduce(arrival: Arrival, listener: ListenerSettings) -> bool:
    """
    Whether XCLIENT is for it. Once the host has said for whom it speaks it may pass on what that one says, and that
    one must not become somebody else by it.
    """
    if arrival.address is None or any(name in ("ADDR", "LOGIN") for name, _ in arrival.introduced):
        return False
    return is_within(arrival.address, listener.xclient)


def _hold(longest: float, clock: IClock) -> str:
    """The arguments of FUTURERELEASE (RFC 4865 section 4): for how long, and until when, something is held."""
    until = datetime.fromtimestamp(int(clock.calendar() + longest), UTC)
    return f"{longest:.0f} {until:%Y-%m-%dT%H:%M:%SZ}"


@frozen
class _Bounds:
    """What sessions are held to: strangers, those whom we trust, and strangers while there are too many of them."""

    admission: Admission
    trusted: SessionLimits
    strangers: SessionLimits
    stressed: SessionLimits

    @classmethod
    def of(cls, limits: Limits, admission: Admission, *, in_turn: bool) -> _Bounds:
        strangers = evolve(session_limits(limits, trusted=False), in_turn=in_turn)
        stressed = evolve(
            strangers,
            errors=min(limits.errors, limits.errors_stressed),
            idle_commands=min(limits.idle_commands, limits.idle_commands_stressed),
        )
        return cls(admission, session_limits(limits, trusted=True), strangers, stressed)

    def of_client(self, trusted: bool) -> SessionLimits:
        """Those of a session that begins now."""
        if trusted:
            return self.trusted
        return self.stressed if self.admission.stressed else self.strangers


def _home(settings: Settings) -> str:
    """
    The domain of a `<postmaster>` without one (RFC 5321 section 4.5.1): the host's own if there are mailboxes in it,
    else the first that has some.
    """
    name = hostname(settings)
    domains = [
        domain
        for policy in settings.policy
        if policy.use == "mailbox"
        for domain in getattr(policy.options, "domains", ())
    ]
    return name if name in domains or not domains else domains[0]


def session_limits(limits: Limits, *, trusted: bool) -> SessionLimits:
    """What of the limits the dialogue keeps; the trusted may idle, and send as much as they like."""
    return SessionLimits(
        command_line=limits.command_line,
        content_line=limits.content_line,
        recipients=limits.recipients,
        message=limits.message,
        errors_slow=limits.errors_slow,
        errors=limits.errors,
        chunks=limits.chunks,
        auth_line=limits.auth_line,
        idle_commands=None if trusted else limits.idle_commands,
        messages=None if trusted else limits.messages,
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
    neighbourhood = Neighbourhood(
        resolver=surroundings.resolver,
        random=surroundings.random.random,
        reach=Reach(
            listeners={
                (each.address.host, each.address.port) for each in settings.listener if isinstance(each.address, Inet)
            },
            is_local=surroundings.is_local,
            allow_private=delivery.allow_private,
        ),
        most=delivery.addresses,
    )

    async def search(next_hop: NextHop) -> Exchangers | Unresolved:
        return await find(next_hop, neighbourhood)

    pool = Pool(clock, _keeping(delivery.connections))
    attempts = Attempts(
        agents=Agents(surroundings.agents, world),
        transmitter=SmtpTransmitter(
            Dialer(surroundings.tcp, clock, hostname(settings), Deadlines(**delivery.timeouts.model_dump())),
            tls,
            Logins(settings.login),
            pool=pool,
        ),
        find=search,
        addresses=delivery.addresses,
        sessions=delivery.sessions,
    )
    return Dispatcher(
        spool=surroundings.spool,
        clock=clock,
        mail_log=surroundings.maillog,
        attempts=attempts,
        notices=Notices(hostname(settings), chain, clock),
        schedules=schedules,
        random=surroundings.random.random,
        limits=_dispatch_limits(delivery, schedules),
        routes=chain,
        parted=pool.close,
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
