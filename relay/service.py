"""
The relay as a Twisted service: what happens in which order when it starts, and when it stops.

Start: bind the sockets (as root, if need be), become the user that the configuration names, open the spool, recover,
begin to deliver, and only then accept connections. Stop: the reverse, and nothing that was promised waits for it.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from attrs import field, frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError, gatherResults, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from relay.agents.console import ConsoleAgent
from relay.agents.maildir import MaildirAgent
from relay.agents.mbox import MboxAgent
from relay.assembly import Relay, Surroundings, answers_for_control, assemble, hostname
from relay.authentication import UserSource
from relay.config.errors import ConfigurationError, Problem
from relay.config.settings import Settings
from relay.config.units import DAY
from relay.control.api import Desk
from relay.control.reloading import Reloaded
from relay.delivery.pauses import Pauses
from relay.delivery.suppression import Suppressions
from relay.encryption import Encryption
from relay.history.memory import MemoryHistory
from relay.history.records import Bounds
from relay.history.sqlite import SqliteHistory
from relay.interfaces import IClock, IHistory, ISpool, IStore
from relay.net.clock import ReactorClock
from relay.net.descriptors import room_for
from relay.net.local import LocalAddresses
from relay.net.maillog import MailLog
from relay.net.resolver import Resolver, system_servers
from relay.net.tallies import Tallies
from relay.net.teed import Teed
from relay.net.threads import Threads
from relay.net.tls_files import Unusable
from relay.net.watchdog import Watchdog
from relay.outset import (
    Bound,
    become_user,
    bind,
    exit_in_failure,
    introduce,
    missing_user,
    open_control,
    reason,
    refuse,
    shown,
    tell_where,
)
from relay.policy.culprit import culprit
from relay.reloading import Reloading, Source
from relay.spool.errors import SpoolUnusable
from relay.spool.memory import MemorySpool
from relay.spool.sqlite import Limits as SpoolLimits
from relay.spool.sqlite import SqliteSpool
from relay.store.file import USUAL_NAME
from relay.store.memory import Bounds as StoreBounds
from relay.store.memory import MemoryStore
from relay.store.shared import SharedStore
from relay.store.sqlite import SqliteStore
from relay.trial import tried

#: Seconds that sessions and attempts get to finish when the relay stops.
PATIENCE: Final = 5.0

#: Files that are open whoever is connected: the spool, logs, libraries, sockets that listen.
_OWN_FILES: Final = 200

#: What an operator has paused, in the spool.
PAUSED: Final = "paused.json"

_RESOLV_CONF: Final = Path("/etc/resolv.conf")


class Part(Protocol):
    """What one process does for the relay: all there is to do if it is alone, its own part if there are others."""

    @property
    def source(self) -> Source:
        """Where the configuration comes from when it is read again."""

    @property
    def tallies(self) -> Tallies | None:
        """What is counted together with others; `None`: it counts alone."""

    def bind(self, relay: Relay) -> Bound:
        """The ports where it is to accept connections. Called first of all."""

    def settle(self, settings: Settings, ports: Bound) -> None:
        """Be the user that the relay is to be. Called before anything is opened."""

    def store(self, settings: Settings, clock: IClock, reactor: Any) -> IStore:
        """What policies keep."""

    def suppressions(self, settings: Settings, clock: IClock) -> Suppressions | None:
        """The list of suppressed addresses, if one is kept."""

    def serving(self, relay: Relay, ports: Bound, warnings: Sequence[Problem]) -> None:
        """It accepts connections from now on."""


@frozen(eq=False)
class Alone:
    """The part of a process that has no others beside it."""

    reactor: Any
    file: str
    source: Source = field(factory=Source)
    tallies: Tallies | None = None

    def bind(self, relay: Relay) -> Bound:
        listeners = [(each.settings, each.factory) for each in relay.listeners]
        return bind(self.reactor, listeners, backlog=relay.settings.limits.backlog, file=self.file)

    def settle(self, settings: Settings, ports: Bound) -> None:
        become_user(settings, ports, file=self.file)

    def store(self, settings: Settings, clock: IClock, reactor: Any) -> IStore:
        return store_of(settings, clock, reactor)

    def suppressions(self, settings: Settings, clock: IClock) -> Suppressions | None:
        return suppressions_of(settings, clock)

    def serving(self, relay: Relay, ports: Bound, warnings: Sequence[Problem]) -> None:
        tell_where(ports)
        introduce(relay.settings, ports, warnings, relay.surroundings.is_local)


def make_service(settings: Settings, reactor: Any, *, file: str, part: Part | None = None) -> RelayService:
    """
    The service for these settings, which came from `file`. Raises `ConfigurationError`.

    `part` is that of a process which has others beside it; what they do together has been tried before.
    """
    mine: Part = part or Alone(reactor, file)
    clock = ReactorClock(reactor, epoch=None if mine.tallies is None else mine.tallies.epoch)
    problems: list[Problem] = list(missing_user(settings, file))
    with _noting(problems):
        encryption = Encryption(settings, clock, file=file)
    with _noting(problems):
        secret = None if mine.tallies is None else mine.tallies.secret
        users = UserSource(settings, clock, reactor, file=file, secret=secret)
    if problems:
        raise ConfigurationError(problems)
    servers = settings.dns.servers or system_servers(_text(_RESOLV_CONF))
    resolver = Resolver(
        reactor,
        clock,
        servers,
        patience=settings.dns.timeout,
        first_timeout=settings.dns.server_timeout,
        most_records=settings.dns.records,
    )
    maillog = MailLog(reactor, settings.log.mail, settings.log.format)
    threads = Threads(reactor)
    spool = _spool(settings, clock, reactor)
    history = _history(settings, clock, reactor)
    relay = assemble(
        settings,
        Surroundings(
            clock=clock,
            resolver=resolver,
            tcp=reactor,
            spool=spool,
            maillog=maillog if history is None else Teed(maillog, history),
            agents={
                "maildir": MaildirAgent(clock, hostname(settings), threads),
                "mbox": MboxAgent(clock, threads),
                "console": ConsoleAgent(sys.stdout, threads),
            },
            random=random.SystemRandom(),
            is_local=LocalAddresses(clock),
            tls=encryption.listeners,
            credentials=users.credentials,
            suppressions=mine.suppressions(settings, clock),
            history=history,
            pauses=_pauses(settings, threads),
            store=mine.store(settings, clock, reactor),
            apart=lambda work: threads.run(lambda _stop: work()),
            reactor=reactor,
            tallies=mine.tallies,
        ),
        file=file,
    )
    warnings: Sequence[Problem] = ()
    if part is None:
        trial = tried(settings, file=file, before=relay.generation.tables)
        if trial.problems:
            raise ConfigurationError(trial.problems)
        warnings = trial.warnings
    return RelayService(
        relay,
        reactor,
        mine,
        warnings=warnings,
        resolver=resolver,
        maillog=maillog,
        history=history,
        threads=threads,
        encryption=encryption,
        users=users,
        file=file,
    )


class RelayService(Service):
    """
    A relay between start and stop. twistd calls `privilegedStartService` as whoever started it, and `startService`
    after it has itself changed its user (`twistd --uid`).
    """

    name = "relay"

    def __init__(
        self,
        relay: Relay,
        reactor: Any,
        part: Part,
        *,
        resolver: Resolver,
        maillog: MailLog,
        history: IHistory | None,
        threads: Threads,
        encryption: Encryption,
        users: UserSource,
        file: str,
        warnings: Sequence[Problem] = (),
    ) -> None:
        self._relay = relay
        self._part = part
        #: What is said once it runs.
        self.warnings = warnings
        self._reactor = reactor
        self._resolver = resolver
        self._maillog = maillog
        self._history = history
        self._threads = threads
        self._users = users
        self._file = file
        self._reloading = Reloading(
            relay,
            encryption,
            relay.surroundings.clock,
            threads,
            file=file,
            source=part.source,
            adopted=self._adopted,
        )
        self._ports: Bound = ()
        self._control: Sequence[Any] = ()
        #: Each listener's address, by its name.
        self._bound: dict[str, str] = {}
        self._desk = Desk()
        self._ready: Deferred[None] | None = None
        self._ending = False
        self._watchdog = Watchdog(
            reactor,
            relay.settings.process.stall_limit,
            lambda frame: culprit(self._relay.chain.stations, frame),
        )
        #: What the signals that we handle did before.
        self._before: dict[signal.Signals, Any] = {}
        self._log = Logger(namespace="relay")

    def privilegedStartService(self) -> None:
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._ports = self._part.bind(self._relay)

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        if not self._ports:
            self._ports = self._part.bind(self._relay)
        self._part.settle(self._relay.settings, self._ports)
        self._make_room()
        try:
            self._maillog.start()
        except OSError as problem:
            where = self._relay.settings.log.mail
            refuse(f"{self._file}: cannot write the mail log {where}: {reason(problem)}", os.EX_TEMPFAIL)
        try:
            self._reloading.encryption.start()
        except (OSError, Unusable) as problem:
            where = self._relay.settings.tls.own
            status = os.EX_TEMPFAIL if isinstance(problem, OSError) else os.EX_CONFIG
            refuse(f"{self._file}: cannot have a certificate of its own in {where}: {reason(problem)}", status)
        self._users.start()
        self._threads.start()
        self._watchdog.start()
        self._open_control()
        self._before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGHUP)}
        signal.signal(signal.SIGUSR1, self._reopen_soon)
        signal.signal(signal.SIGHUP, self._reread_soon)
        self._ready = Deferred.fromCoroutine(self._begin())
        self._ready.addErrback(self._cannot_begin)

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        self._ending = True
        return Deferred.fromCoroutine(self._end())

    def reread(self) -> None:
        """Use the certificates as they are now."""
        self._reloading.encryption.reread(aloud=True)

    async def reload(self) -> Reloaded:
        """Read the configuration again, and say what has come of it."""
        return await self._reloading()

    # Beginning.

    async def _begin(self) -> None:
        spool = self._relay.surroundings.spool
        recovered = await spool.recover()
        if self._ending:
            return
        for id in recovered:
            self._log.error("The entry {id} is damaged and was set aside", id=id)
            self._relay.surroundings.maillog.event("corrupt", id=id)
        if self._relay.surroundings.suppressions is not None:
            self._relay.surroundings.suppressions.load()
        if self._relay.surroundings.pauses is not None:
            await self._relay.surroundings.pauses.restore(self._relay.dispatcher)
            if self._ending:
                return
        if isinstance(self._relay.surroundings.store, (SqliteStore, SharedStore)):
            await self._relay.surroundings.store.load()
            if self._ending:
                return
        self._relay.dispatcher.start()
        # What is here now stays: the collector need not look at it again with each message.
        gc.collect()
        gc.freeze()
        # Hardly anything that a message leaves is a cycle: at Python's own thresholds the collector looks in vain, and
        # is five per cent of the work.
        gc.set_threshold(20_000, 5, 10)
        for _, port in self._ports:
            port.startReading()
        self._part.serving(self._relay, self._ports, self.warnings)

    def _cannot_begin(self, failure: Failure) -> None:
        """The spool cannot be used: say why, and end with a status that a supervisor sees."""
        if self._ending:
            return
        if failure.check(SpoolUnusable):
            self._log.critical("The relay cannot start: {problem}", problem=failure.getErrorMessage())
        else:
            self._log.failure("The relay cannot start", failure)
        self._reactor.addSystemEventTrigger("after", "shutdown", exit_in_failure)
        self._reactor.stop()

    def _make_room(self) -> None:
        """Each connection is an open file, each content under way may be another one."""
        settings = self._relay.settings
        needed = 2 * settings.limits.connections + settings.delivery.concurrency.total + _OWN_FILES
        room = room_for(needed)
        if room < needed:
            self._log.warn(
                "This process may have {room} files open and its settings ask for {needed}: raise LimitNOFILE, or "
                "lower `connections` in [limits]",
                room=room,
                needed=needed,
            )

    def _open_control(self) -> None:
        self._bound = {listener.name: shown(port) for listener, port in self._ports}
        self._furnish()
        self._control = open_control(self._reactor, self._relay.settings, lambda: self._desk, file=self._file)

    def _reopen_soon(self, number: int, frame: Any) -> None:
        """SIGUSR1: somebody has moved the log away. twistd has a log of its own, which it reopens likewise."""
        self._reactor.callFromThread(self._maillog.reopen)
        before = self._before.get(signal.SIGUSR1)
        if callable(before):
            before(number, frame)

    def _reread_soon(self, number: int, frame: Any) -> None:
        """SIGHUP: something has changed that the relay has read."""
        self._reactor.callFromThread(self._reread)

    def _reread(self) -> None:
        if self._ending or self._ready is None or self._reloading.busy:
            return
        Deferred.fromCoroutine(self._reloading())

    def _adopted(self) -> None:
        """The relay has another generation."""
        self._furnish()
        self._make_room()

    def _furnish(self) -> None:
        """The desk at which `relayctl` asks, with what there is now."""
        self._desk = answers_for_control(
            self._relay,
            os.getpid(),
            self._bound,
            self._history,
            self._reloading,
            lambda: self._reloading.in_force,
        )

    # Ending.

    async def _end(self) -> None:
        relay = self._relay
        self._reloading.stop()
        self._log.info("Stopping: what is in flight gets {patience} s, sessions and then deliveries", patience=PATIENCE)
        for _, port in self._ports:
            await maybeDeferred(port.stopListening)
        await gatherResults([Deferred.fromCoroutine(each.factory.stop(PATIENCE)) for each in relay.listeners])
        # A commit that is under way has a claim to hand over.
        quiet = Deferred.fromCoroutine(relay.turnstile.quiet())
        await quiet.addTimeout(PATIENCE, self._reactor).addErrback(lambda failure: failure.trap(TimeoutError))
        await relay.dispatcher.stop()
        for port in self._control:
            await maybeDeferred(port.stopListening)
        await self._resolver.close()
        self._reloading.encryption.stop()
        self._users.stop()
        self._threads.stop()
        await relay.surroundings.spool.close()
        if isinstance(relay.surroundings.store, (SqliteStore, SharedStore)):
            await relay.surroundings.store.close()
        if self._history is not None:
            await self._history.close()
        self._maillog.close()
        self._watchdog.stop()
        for number, before in self._before.items():
            signal.signal(number, before)
        self._log.info("Stopped")


@contextmanager
def _noting(problems: list[Problem]) -> Iterator[None]:
    """Go on where the configuration is wrong, and note what is: all of it is to be said at once."""
    try:
        yield
    except ConfigurationError as error:
        problems += error.problems


def _spool(settings: Settings, clock: IClock, reactor: Any) -> ISpool:
    if settings.spool.engine == "memory":
        return MemorySpool(clock)
    limits = SpoolLimits(in_row=settings.spool.large, in_memory=settings.limits.memory, reserve=settings.spool.reserve)
    return SqliteSpool.in_threads(settings.spool.path, clock, reactor.callFromThread, limits=limits)


def _history(settings: Settings, clock: IClock, reactor: Any) -> IHistory | None:
    if not settings.history.keep:
        return None
    if settings.spool.engine == "memory":
        return MemoryHistory(clock.calendar)
    path = settings.history.path or settings.spool.path.parent / "history.db"
    bounds = Bounds(age=settings.history.age, size=settings.history.size, reserve=settings.spool.reserve)
    return SqliteHistory.in_thread(path, clock, reactor.callFromThread, bounds=bounds)


def store_of(settings: Settings, clock: IClock, reactor: Any) -> MemoryStore:
    """What policies keep, where nobody keeps it with us."""
    bounds = StoreBounds(settings.store.entries, settings.store.size)
    if settings.spool.engine == "memory":
        return MemoryStore(clock, bounds)
    path = settings.store.path or settings.spool.path.parent / USUAL_NAME
    return SqliteStore.in_thread(path, clock, reactor.callFromThread, bounds=bounds)


def suppressions_of(settings: Settings, clock: IClock) -> Suppressions | None:
    """The list, if one is kept."""
    if not settings.suppression.keep:
        return None
    path = settings.suppression.path or settings.spool.path.parent / "suppressed"
    return Suppressions(path, clock, settings.suppression.days * DAY)


def _pauses(settings: Settings, threads: Threads) -> Pauses | None:
    if settings.spool.engine == "memory":
        return None
    return Pauses(settings.spool.path / PAUSED, lambda work: threads.run(lambda _stop: work()))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
