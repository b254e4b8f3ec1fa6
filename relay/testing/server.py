"""
A relay on a real port of this machine, for tests of programs that send mail, and of policies as a client meets them.

    with RelayServer() as server:
        with smtplib.SMTP(server.host, server.port) as client:
            client.sendmail("ann@example.org", ["bob@example.net"], "Subject: hello\\r\\n\\r\\nHi!\\r\\n")
        assert server.messages[0].recipients == ("bob@example.net",)

With pytest it is the fixture `relay_server` (`relay.testing.pytest_plugin`).
"""

from __future__ import annotations

import csv
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from attrs import define, evolve
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from zope.interface import implementer

from relay.authentication import UserSource
from relay.config.addresses import Inet
from relay.config.settings import Settings
from relay.config.tables import TableSettings
from relay.encryption import Encryption
from relay.interfaces import ICredentials
from relay.net.clock import ReactorClock
from relay.net.frames import frame_of, place
from relay.net.listen import listen
from relay.net.reactor import RelayReactor
from relay.testing.dns import FakeNames
from relay.testing.front import Accepted, Configured, Front, Outside, Policy, configured, open_front
from relay.testing.http import FakeHttp, Servers

#: Seconds for what takes milliseconds, on a machine that is busy.
_PATIENCE: Final = 30.0
_BACKLOG: Final = 50


class RelayServer:
    """
    The relay that a configuration describes, with a port for each of its listeners; or one that accepts everything.

    Sessions, policies, replies and limits are those of the real relay. What it accepts is in `messages` by the time the
    client hears 250, and is carried nowhere. The spool, the DNS (`names`), the servers that policies ask by HTTP
    (`http`) and all that policies keep are in memory.

    It runs in a thread beside the test, on a reactor of its own that all servers of the process share. The process's
    own event loop, be it asyncio's or Twisted's, is not used. (A session with TLS imports Twisted's default reactor:
    who installs another one has to do so first, as ever.) A process that is forked off has to make its own server.
    """

    def __init__(
        self,
        configuration: str | Path = "",
        *,
        policies: Iterable[Policy] = (),
        names: Mapping[str, Any] | None = None,
        http: Servers | None = None,
        tables: Mapping[str, Mapping[str, str]] | None = None,
        users: Mapping[str, str] | None = None,
        base: Path | None = None,
        hostname: str = "mx.test",
    ) -> None:
        """
        `configuration`: its text, or a file. Addresses of listeners are not used: each gets a free port of 127.0.0.1.
        `policies` stand behind those of the configuration: a class, or the keys of a `[[policy]]`, where `use` may be a
        class, too. Relative paths are relative to `base`, to the file, or to the working directory.

        `names`: what is in the DNS, as in `relay.testing.dns`. `http`: as in `relay.testing.http`. `tables`: what each
        `[[table]]` says, by its name, in the place of the file that the configuration names, if it names one. `users`:
        who may log in, each with a password, where a listener has `tls`; without them, those that `[auth]` names.
        """
        self._arguments = (configuration, tuple(policies), base, hostname)
        self.names = FakeNames(names)
        self.http = FakeHttp(http)
        self._tables = {name: dict(values) for name, values in (tables or {}).items()}
        self._users = users
        self._ground: _Ground | None = None
        self._running: _Running | None = None

    @property
    def messages(self) -> list[Accepted]:
        """What was accepted, the oldest first. It may be cleared."""
        return self._here.front.spool.accepted

    @property
    def host(self) -> str:
        return "127.0.0.1"

    @property
    def port(self) -> int:
        """The port of the first listener."""
        return next(iter(self.ports.values()))

    @property
    def ports(self) -> Mapping[str, int]:
        """The port of each listener, by its name."""
        return self._here.ports

    @property
    def log(self) -> list[dict[str, object]]:
        """The mail log (docs/mail-log.md): each line as its fields, and `event`, the word that it begins with."""
        events = self._here.front.log.events
        return [{"event": each.what, **{key: _plain(value) for key, value in each.fields.items()}} for each in events]

    def why(self, text: str) -> list[str]:
        """What `relayctl why` would print: by a reference, a queue id, a Message-ID or an address."""
        from relay.mail.explanation_text import text as lines

        history = self._here.front.history
        found = self._do(lambda: Deferred.fromCoroutine(history.why(text)))
        return [line for account in found.accounts for line in lines(account.explanation)]

    @property
    def _here(self) -> _Running:
        if self._running is None:
            raise RuntimeError("the relay does not run: say `with RelayServer() as server:`, or server.start()")
        return self._running

    def _do(self, work: Callable[[], Any]) -> Any:
        if self._ground is None:
            self._ground = _shared_ground()
        return self._ground.do(work)

    def start(self) -> Self:
        """Open the ports. Raises `ConfigurationError`."""
        if self._running is None:
            configuration, policies, base, hostname = self._arguments
            known = self._users is not None
            given = configured(configuration, policies, base=base, hostname=hostname, others_know_users=known)
            outside = Outside(self.names, self.http, {}, None if self._users is None else _Users(self._users))
            self._ground = ground = _shared_ground()
            self._running = ground.do(lambda: _begin(ground.reactor, given, outside, self._tables))
        return self

    def stop(self) -> None:
        """
        Close the ports and all connections. Raises `RuntimeError` where a policy does not let go of the reactor:
        servers that start from then on have another one.
        """
        running, self._running = self._running, None
        if running is not None:
            self._do(lambda: Deferred.fromCoroutine(running.end()))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _plain(value: object) -> object:
    return value if isinstance(value, (int, float)) else str(value)


@define
class _Running:
    """A server that listens. All of this happens in the reactor's thread."""

    front: Front
    #: What else is to be ended.
    rest: ExitStack
    listening: list[Any]
    ports: dict[str, int]

    async def end(self) -> None:
        try:
            for port in self.listening:
                await maybeDeferred(port.stopListening)
            listeners = self.front.relay.listeners
            await gatherResults([Deferred.fromCoroutine(each.factory.stop(0.0)) for each in listeners])
            await self.front.spool.close()
        finally:
            self.rest.close()


def _begin(reactor: Any, given: Configured, outside: Outside, tables: Mapping[str, Mapping[str, str]]) -> _Running:
    """Raises `ConfigurationError`, and then nothing is left of it."""
    clock = ReactorClock(reactor)
    settings = given.settings
    with ExitStack() as begun:
        if tables or any(each.tls != "none" for each in settings.listener):
            folder = Path(begun.enter_context(tempfile.TemporaryDirectory(prefix="relay-test-")))
            settings = _with_certificate_in(folder, settings)
            settings = _with_tables_in(folder, settings, tables)
        encryption = Encryption(settings, clock, file=given.file)
        begun.callback(encryption.stop)
        encryption.start()
        credentials = outside.credentials
        if credentials is None:
            users = UserSource(settings, clock, reactor, file=given.file)
            begun.callback(users.stop)
            users.start()
            credentials = users.credentials
        outside = evolve(outside, tls=encryption.listeners, credentials=credentials, reactor=reactor)
        front = open_front(evolve(given, settings=settings), clock, outside)
        running = _Running(front, begun, [], {})
        for listener in front.relay.listeners:
            port = listen(reactor, Inet("127.0.0.1", 0), listener.factory, backlog=_BACKLOG)
            begun.callback(port.stopListening)
            port.startReading()
            running.listening.append(port)
            running.ports[listener.settings.name] = port.getHost().port
        running.rest = begun.pop_all()
    return running


def _with_certificate_in(folder: Path, settings: Settings) -> Settings:
    """The certificate that the relay makes itself, where nobody has another one, goes away with the test."""
    return settings.model_copy(update={"tls": settings.tls.model_copy(update={"own": folder})})


def _with_tables_in(folder: Path, settings: Settings, tables: Mapping[str, Mapping[str, str]]) -> Settings:
    """Files that the relay reads as it reads those of a site."""
    known = {table.name: table for table in settings.table}
    for number, (name, values) in enumerate(tables.items()):
        file = folder / f"table-{number}.csv"
        with file.open("w", encoding="utf-8", newline="") as written:
            csv.writer(written).writerows(values.items())
        update = {"file": file, "format": "csv", "header": False}
        known[name] = (known.get(name) or TableSettings(name=name, file=file)).model_copy(update=update)
    return settings.model_copy(update={"table": tuple(known.values())})


@implementer(ICredentials)
class _Users:
    """Users of a test, with their passwords in clear."""

    scram = False
    secret = b"nobody has anything to hide here"

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self._passwords = dict(passwords)

    async def check_password(self, user: str, password: str) -> str | None:
        return user if self._passwords.get(user) == password else None

    async def scram_keys(self, user: str) -> None:
        return None


# The reactor of all servers of this process, which is not the process's own.


class _TheirReactor(RelayReactor):
    # Its thread is not the one that the process's own reactor runs in: `twisted.python.threadable` is told nothing.
    _registerAsIOThread = False


class _Ground:
    """A reactor in a thread that ends with the process."""

    def __init__(self) -> None:
        self.process = os.getpid()
        #: It stands still: nobody else is to be put there.
        self.lost = False
        # Not one with Twisted's own transports: they keep what TLS writes for the default reactor, which nobody runs.
        self.reactor: Any = _TheirReactor()  # type: ignore[no-untyped-call]
        up = threading.Event()
        self.reactor.callWhenRunning(up.set)
        self.thread = threading.Thread(target=self._run, name="relay.testing.server", daemon=True)
        self.thread.start()
        if not up.wait(_PATIENCE):
            raise RuntimeError("the reactor does not start")

    def _run(self) -> None:
        self.reactor.run(installSignalHandlers=False)

    def do(self, work: Callable[[], Any]) -> Any:
        """Do this in the reactor's thread, and wait for what comes of it."""
        done: Future[Any] = Future()

        def run() -> None:
            if not done.set_running_or_notify_cancel():
                return  # nobody waits any more
            # An outcome has to come of it in any case: a test waits.
            outcome: Deferred[Any] = maybeDeferred(work)
            outcome.addCallbacks(done.set_result, lambda failure: done.set_exception(failure.value))

        self.reactor.callFromThread(run)
        try:
            return done.result(_PATIENCE)
        except FutureTimeoutError:
            if done.done():
                raise  # it is the work's own
            done.cancel()
            raise self._given_up() from None

    def _given_up(self) -> RuntimeError:
        turn = threading.Event()
        self.reactor.callFromThread(turn.set)
        if turn.wait(1.0):
            return RuntimeError(f"this has not come to its end in {_PATIENCE:g} seconds")
        self.lost = True
        frame = frame_of(self.thread.ident or 0)
        where = f": it is at {place(frame)}" if frame is not None else ""
        return RuntimeError(f"the reactor of this process's relays stands still for {_PATIENCE:g} seconds{where}")


_lock: Final = threading.Lock()
_ground: _Ground | None = None


def _shared_ground() -> _Ground:
    global _ground
    with _lock:
        if _ground is None or _ground.lost or _ground.process != os.getpid():
            _ground = _Ground()
        return _ground
