"""
A relay that is one worker among others.

Its sockets are those of the parent, which has bound them and takes nothing from them; its log is a part of the
parent's; what it knows together with others it says on its line; and it ends when the parent says so, or is gone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from attrs import asdict, define, evolve, field, frozen
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, globalLogBeginner
from zope.interface import provider

from relay.assembly import Relay
from relay.config.errors import Problem
from relay.config.settings import Settings
from relay.config.units import DAY
from relay.delivery.suppression import Suppressions
from relay.delivery.suppression_shared import SharedSuppressions
from relay.interfaces import IClock, IStore
from relay.net.disk import Disk
from relay.net.line import Line
from relay.net.listen import inherit
from relay.net.tallies import Tallies
from relay.net.threads import Stop
from relay.outset import Bound
from relay.reloading import Checked, Source
from relay.service import PAUSED, RelayService, make_service, store_of
from relay.sharing import SHARDS, settings_of_share
from relay.spool.disk import make_directory
from relay.store.memory import Bounds, MemoryStore
from relay.store.shared import SharedStore
from relay.workers.before import end_in_time, wait_for_share
from relay.workers.orders import LINE, LOG, ORDERS, OneLine, Orders, Reading
from relay.workers.retirement import Retirement, remembers


def begin(reactor: Any) -> None:
    """
    Begin the relay that this process has orders for. Raises `ConfigurationError`; a spool that cannot be used ends the
    process when the reactor runs.
    """
    orders = Orders.read(ORDERS)
    settings = orders.settings()
    wait_for_share(settings, LINE)
    if settings.spool.engine != "memory":
        take_over_pauses(orders.reading.settings().spool.path, settings.spool.path)
    line = Line(lambda: _end_alone(reactor))
    part = Among(orders, line, reactor, _tallies(orders))
    service = make_service(settings, reactor, file=orders.reading.file, part=part)
    # From here on standard output is the log, but for those who have it already.
    tell_parent_the_log()
    line.hear("reload", lambda body: Deferred.fromCoroutine(part.reload(service, body)))
    line.hear("reread", lambda body: service.reread())
    reactor.adoptStreamConnection(LINE, socket.AF_UNIX, OneLine(line))
    os.close(LINE)
    # Twisted would complain of a second SIGTERM.
    reactor.callWhenRunning(signal.signal, signal.SIGTERM, lambda number, frame: reactor.callFromThread(_end, reactor))
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    service.privilegedStartService()
    service.startService()


def _end(reactor: Any) -> None:
    with suppress(ReactorNotRunning):  # it ends already
        reactor.stop()


def _end_alone(reactor: Any) -> None:
    end_in_time()
    reactor.callWhenRunning(_end, reactor)


def _tallies(orders: Orders) -> Tallies | None:
    if orders.tallies is None:
        return None
    try:
        return Tallies.of(orders.tallies, orders.row)
    finally:
        os.close(orders.tallies)


@define
class Given(Source):
    """The configuration that the parent has read, and checked, for all."""

    orders: Orders
    reading: Reading = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.reading = self.orders.reading

    def digest(self, name: str) -> str:
        return self.reading.digest

    def check(self, name: str, stop: Stop) -> Checked:
        return Checked()

    def settings(self, name: str) -> Settings:
        return settings_of_share(self.reading.settings(), self.orders.share)


@frozen(eq=False)
class Among:
    """The part of a worker."""

    orders: Orders
    line: Line
    reactor: Any
    tallies: Tallies | None = None
    source: Given = field()
    _one: DeferredLock = field(factory=DeferredLock, init=False)

    @source.default
    def _its_source(self) -> Given:
        return Given(self.orders)

    def bind(self, relay: Relay) -> Bound:
        backlog, sockets = relay.settings.limits.backlog, self.orders.sockets
        tallies, count = self.tallies, self.orders.share.count
        among: dict[str, Any] = {}
        if tallies is not None:
            among["share"] = partial(tallies.connections.share, among=count)
        # Where this machine has no such address the parent has none, and a retired worker is given none.
        return [
            (each.settings, inherit(self.reactor, sockets[each.settings.name], each.factory, backlog=backlog, **among))
            for each in relay.listeners
            if each.settings.name in sockets
        ]

    def settle(self, settings: Settings, ports: Bound) -> None:
        """The parent has become the user already. What was handed over is in the ports."""
        for descriptor in self.orders.sockets.values():
            with suppress(OSError):
                os.close(descriptor)

    def store(self, settings: Settings, clock: IClock, reactor: Any) -> IStore:
        share, kept = self.orders.share, settings.store
        # The first worker has the file.
        own = (
            store_of(settings, clock, reactor)
            if share.index == 0
            else MemoryStore(clock, Bounds(kept.entries, kept.size))
        )
        return SharedStore(own, self.line, clock, share.index, share.count)

    def suppressions(self, settings: Settings, clock: IClock) -> Suppressions | None:
        kept, index = settings.suppression, self.orders.share.index
        if not kept.keep or kept.path is None:
            return None
        return SharedSuppressions(kept.path, clock, kept.days * DAY, line=self.line, index=index)

    def serving(self, relay: Relay, ports: Bound, warnings: Sequence[Problem]) -> None:
        self.line.say("ready")
        if self.orders.share.retired:
            given, path = relay.surroundings, relay.settings.spool.path
            Retirement(
                given.clock,
                given.spool,
                lambda: self.line.say("drained"),
                history=lambda: given.history is not None and remembers(path),
            ).start()

    async def reload(self, service: RelayService, body: Mapping[str, Any]) -> None:
        """The parent has read and checked another configuration. What becomes of it is told under `reloaded`."""
        # One after the other: where a worker was long silent there may be several.
        await self._one.acquire()
        try:
            before = self.source.reading
            self.source.reading = evolve(before, text=body["text"], digest=body["digest"])
            said = await service.reload()
            if not said.done:
                self.source.reading = before
        finally:
            self._one.release()
        self.line.say("reloaded", {"number": body["number"], **asdict(said)})


def tell_parent_the_log() -> None:
    """From now on each event is a line of JSON on standard error (`relay.workers.orders.Process` reads it)."""
    one_at_a_time = threading.Lock()

    @provider(ILogObserver)
    def tell(event: LogEvent) -> None:
        level, namespace = event.get("log_level") or LogLevel.info, event.get("log_namespace") or "relay"
        if namespace == "log_legacy" and level is LogLevel.info:
            return  # Twisted's own, about ports, which the parent has said already
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        octets = json.dumps({"level": level.name, "namespace": namespace, "text": text}).encode() + b"\n"
        with one_at_a_time, suppress(OSError):
            while octets:
                octets = octets[os.write(LOG, octets) :]

    globalLogBeginner.beginLoggingTo([tell])


def take_over_pauses(spool: Path, shard: Path) -> None:
    """
    What is paused in this shard becomes what an operator has said last, in whichever shard that is: all are told the
    same, but one that is new, or that was not there at that moment, was not. Raises `OSError`.
    """
    found = []
    for path in [spool / PAUSED, *(spool / SHARDS).glob(f"*/{PAUSED}")]:
        with suppress(FileNotFoundError):  # a shard that is empty goes away
            found.append((path.stat().st_mtime_ns, path == shard / PAUSED, path))
    if not found:
        return
    when, own, path = max(found)
    if own:
        return
    make_directory(Disk(), shard)
    new = shard / f"{PAUSED}.new"
    shutil.copyfile(path, new)
    # It is not said anew.
    os.utime(new, ns=(when, when))
    new.rename(shard / PAUSED)
