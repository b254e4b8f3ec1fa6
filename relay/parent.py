"""
The parent of several workers, each of which is a whole relay with a shard of the spool.

It binds the sockets and accepts nothing from them, so that a worker which ends takes no connection with it but its
own. It starts the workers, and starts them again; it passes on what they tell each other; it reads the configuration
for all; and it answers `relayctl` for all of them. Mail never comes here.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from relay.assembly import hostname
from relay.config.errors import ConfigurationError, Problem
from relay.config.settings import Settings
from relay.control.peer import Peer
from relay.control.together import Ask, Parent, Silent, Worker, desk_of_workers
from relay.encryption import Encryption
from relay.net.clock import ReactorClock
from relay.net.disk import Disk
from relay.net.line import Line
from relay.net.listen import share
from relay.net.local import LocalAddresses
from relay.net.maillog import MailLog
from relay.net.tallies import Tallies
from relay.net.threads import Threads
from relay.net.tls_files import Unusable
from relay.outset import Bound, become_user, bind, exit_in_failure, introduce, open_control, reason, refuse, tell_where
from relay.service import make_service
from relay.sharing import SHARDS, Share, in_words, settings_of_share, shard, shares_of
from relay.spool.disk import make_directory
from relay.workers.adopting import Adopting
from relay.workers.crew import Crew, Post
from relay.workers.orders import IsRunning, Launch, Orders, Reading
from relay.workers.retirement import remove

#: What workers tell each other.
PASSED_ON = ("store", "suppressed")


def from_file(path: str, reactor: Any) -> IService:
    """
    The service that the configuration file at `path` describes: one relay, or the parent of several workers.

    Raises `ConfigurationError` with all that is wrong with it. Nothing has been touched by then.
    """
    reading = Reading.of(path)
    settings = reading.settings()
    try:
        shares = shares_of(settings)
    except OSError as error:  # nobody could say who has to run
        why = f"{error.filename}: {error.strerror}"
        raise ConfigurationError([settings.problem(path, ("spool", "path"), why)]) from None
    # One is what there is without a parent; and what it finds out is what the parent wants to know.
    alone = make_service(settings, reactor, file=path)
    if len(shares) == 1:
        return alone
    return ParentService(reading, settings, shares, reactor, warnings=alone.warnings)


class _Nobody(Factory):
    """Answers at a socket that is there for others."""

    noisy = False


class ParentService(Service):
    """The parent between start and stop, called by twistd as `relay.service.RelayService` is."""

    name = "relay"

    def __init__(
        self,
        reading: Reading,
        settings: Settings,
        shares: Sequence[Share],
        reactor: Any,
        *,
        warnings: Sequence[Problem] = (),
    ) -> None:
        self._file = reading.file
        self._settings = settings
        self._shares = shares
        self._reactor = reactor
        self._warnings = warnings
        self._clock = ReactorClock(reactor)
        self._threads = Threads(reactor)
        self._adopting = Adopting(reading, settings, lambda: self._crew, self._clock, self._threads)
        self._started = self._clock.seconds()
        self._ports: Bound = ()
        self._control: Sequence[Any] = ()
        self._tallies: int | None = None
        self._crew = Crew(
            self._clock,
            self._start,
            shares,
            lines=self._connect,
            joined=self._joined,
            left=self._left,
            hopeless=self._hopeless,
            unable=self._unable,
        )
        self._introduced = False
        #: Somebody has said SIGHUP before all served.
        self._reread_then = False
        self._ending = False
        self._before: dict[signal.Signals, Any] = {}
        self._log = Logger(namespace="relay")

    def privilegedStartService(self) -> None:
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._bind()

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        if not self._ports:
            self._bind()
        become_user(self._settings, self._ports, file=self._file)
        self._try_what_all_need()
        self._threads.start()
        self._open_control()
        self._before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGHUP)}
        signal.signal(signal.SIGUSR1, self._reopen_soon)
        signal.signal(signal.SIGHUP, self._reread_soon)
        self._tallies = Tallies.create(len(self._shares))
        sockets = {listener.name: share(port) for listener, port in self._ports}
        self._launch = Launch(self._reactor, sockets, self._tallies)
        # A process can be started once the reactor runs: before, nobody would hear of its end.
        self._reactor.callWhenRunning(self._begin)

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        self._ending = True
        return Deferred.fromCoroutine(self._end())

    # Beginning.

    def _bind(self) -> None:
        listeners = [(each, _Nobody()) for each in self._settings.listener]
        self._ports = bind(self._reactor, listeners, backlog=self._settings.limits.backlog, file=self._file)

    def _try_what_all_need(self) -> None:
        """
        What workers share is made once, and not by all of them at the same moment; and whoever starts the relay sees
        what is wrong with it.
        """
        settings = self._settings
        maillog = MailLog(self._reactor, settings.log.mail, settings.log.format)
        try:
            maillog.start()
            maillog.close()
        except OSError as problem:
            where = settings.log.mail
            refuse(f"{self._file}: cannot write the mail log {where}: {reason(problem)}", os.EX_TEMPFAIL)
        encryption = Encryption(settings, self._clock, file=self._file)
        try:
            encryption.start()
            encryption.stop()
        except (OSError, Unusable) as problem:
            status = os.EX_TEMPFAIL if isinstance(problem, OSError) else os.EX_CONFIG
            where = settings.tls.own
            refuse(f"{self._file}: cannot have a certificate of its own in {where}: {reason(problem)}", status)
        if settings.spool.engine == "memory":
            return
        spool = settings.spool.path
        try:
            spool.parent.mkdir(parents=True, exist_ok=True)
            for folder in (spool, spool / SHARDS):
                make_directory(Disk(), folder)
        except OSError as problem:
            refuse(f"{self._file}: cannot make {problem.filename}: {reason(problem)}", os.EX_TEMPFAIL)

    def _open_control(self) -> None:
        parent = Parent(
            self._clock, hostname(self._settings), os.getpid(), self._started, lambda: self._adopting.in_force
        )
        desk = desk_of_workers(self._workers, parent, self._adopting)
        self._control = open_control(self._reactor, self._settings, lambda: desk, file=self._file)

    def _workers(self) -> list[Worker]:
        return [
            Worker(
                post.share.index,
                None if post.process is None else post.process.pid,
                self._asking(post),
                post.share.retired,
            )
            for post in self._crew.posts
        ]

    def _asking(self, post: Post) -> Ask:
        if post.unable is not None:
            return partial(_cannot_say, shard(self._settings.spool.path, post.share.index))
        return Peer(self._reactor, settings_of_share(self._settings, post.share).control.socket)

    def _begin(self) -> None:
        if not self._ending:
            self._crew.start()

    # Workers come and go.

    def _start(self, share: Share, line: Line, ended: Any) -> IsRunning:
        row = self._shares.index(share)
        return self._launch(Orders(self._adopting.reading, share, row, {}), line, ended)

    def _connect(self, post: Post, line: Line) -> None:
        for topic in PASSED_ON:
            line.hear(topic, partial(self._pass_on, post, topic))
        line.hear("reloaded", lambda body: self._adopting.answered(post, body))
        line.hear("drained", lambda body: self._crew.dismiss(post))

    def _pass_on(self, post: Post, topic: str, body: Any) -> None:
        said, to = {**body, "from": post.share.index}, body.get("to")
        # Also to those who do not serve yet: before they do they have to know what all know.
        for other in self._crew.posts:
            if other is not post and other.line is not None and to in (None, other.share.index):
                other.line.say(topic, said)

    def _joined(self, post: Post) -> None:
        self._launch.served(post.share.index)
        # What is left in a shard that cannot be used is no reason to be silent.
        if not self._introduced and all(each.proved for each in self._crew.posts if not each.share.retired):
            self._introduced = True
            tell_where(self._ports)
            self._log.info("{crew}", crew=in_words([each.share for each in self._crew.posts if each.unable is None]))
            introduce(self._settings, self._ports, self._warnings, LocalAddresses(self._clock))
            if self._reread_then:
                self._reread()

    def _left(self, post: Post) -> None:
        self._adopting.left(post)
        if self._tallies is not None:
            Tallies.clear(self._tallies, self._shares.index(post.share))
        if post.share.retired and post not in self._crew.posts and not self._ending:
            path, history = shard(self._settings.spool.path, post.share.index), self._settings.history.keep
            Deferred.fromCoroutine(_removed(self._threads, path, history)).addErrback(
                lambda failure: self._log.failure("A shard cannot be removed", failure)
            )

    def _hopeless(self, post: Post, status: int) -> None:
        if self._ending:
            return
        self._ending = True
        self._log.critical(
            "The relay cannot start: worker {worker} has ended with status {status}",
            worker=post.share.index,
            status=status,
        )
        # A supervisor is told what it would be told by a relay without workers.
        status = status if status in (os.EX_TEMPFAIL, os.EX_CONFIG) else 1
        self._reactor.addSystemEventTrigger("after", "shutdown", exit_in_failure, status)
        self._reactor.stop()

    def _unable(self, post: Post, status: int) -> None:
        self._log.error(
            "What is left in {shard} is not delivered: worker {worker} cannot begin there (status {status}, and the "
            "log has more). It is tried again from time to time, and all else goes on",
            shard=shard(self._settings.spool.path, post.share.index),
            worker=post.share.index,
            status=status,
        )

    # Signals.

    def _reopen_soon(self, number: int, frame: Any) -> None:
        """SIGUSR1: somebody has moved the logs away. The workers write the mail log, twistd its own."""
        self._reactor.callFromThread(self._crew.signal, signal.SIGUSR1)
        before = self._before.get(signal.SIGUSR1)
        if callable(before):
            before(number, frame)

    def _reread_soon(self, number: int, frame: Any) -> None:
        """SIGHUP: something has changed that the relay has read."""
        self._reactor.callFromThread(self._reread)

    def _reread(self) -> None:
        if not self._introduced:
            self._reread_then = True
        elif not self._ending and not self._adopting.busy:
            Deferred.fromCoroutine(self._adopting())

    # Ending.

    async def _end(self) -> None:
        self._log.info("Stopping: the workers finish what is in flight")
        self._adopting.stop()
        ended = Deferred.fromCoroutine(self._crew.stop())
        for _, port in self._ports:
            # Each worker has a descriptor of its own: with the last one whoever comes is refused.
            await maybeDeferred(port.stopListening)
        await ended
        for port in self._control:
            await maybeDeferred(port.stopListening)
        self._threads.stop()
        if self._tallies is not None:
            os.close(self._tallies)
        for number, before in self._before.items():
            signal.signal(number, before)
        self._log.info("Stopped")


async def _cannot_say(shard: Path, *_words: object, **_more: object) -> NoReturn:
    raise Silent(f"it cannot begin with what is left in {shard}, and is tried again: the log has more")


async def _removed(threads: Threads, path: Path, history: bool) -> bool:
    return await threads.run(lambda _stop: remove(path, history=history))
