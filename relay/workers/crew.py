"""
The workers of a relay: all of them run, and one that has ended unexpectedly is started again.

At once the first time, since one accident says nothing. One that ends again and again is given more and more time, as
whatever ends it may take a while to go away, and a minute of good life makes up for all.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from relay.interfaces import IClock
from relay.net.clock import cancel
from relay.net.line import Line
from relay.sharing import Share
from relay.workers.orders import Ended, IsRunning

#: Seconds to the second start in a row, and at most to any further one, each twice as long as the one before.
REST_FIRST, REST_MOST = 0.1, 30.0
#: Seconds of service after which all is forgotten.
GOOD_LIFE: Final = 60.0
#: Seconds from SIGTERM to SIGKILL: sessions and deliveries get five each, and the disk some.
MARGIN: Final = 18.0

#: Starts the process of the worker with this share, or raises `OSError`.
Start: TypeAlias = Callable[[Share, Line, Callable[[Ended], object]], IsRunning]


@define(eq=False)
class Post:
    """The place of one worker, whoever has it at this moment."""

    share: Share
    #: `None`: nobody at this moment.
    process: IsRunning | None = None
    #: Since when it serves, by `IClock.seconds`; `None`: it does not.
    since: float | None = None
    #: It has served once.
    proved: bool = False
    #: How it has ended that could not begin, if it is retired: it is tried again.
    unable: Ended | None = None
    #: How often in a row it has ended without a good life.
    failures: int = 0
    #: It was told to end, or there is nothing left for it to do.
    dismissed: bool = False
    #: The next start, or the time at which force is used.
    timer: Any = field(default=None, repr=False)

    @property
    def line(self) -> Line | None:
        return None if self.process is None else self.process.line

    @property
    def serves(self) -> bool:
        return self.since is not None


class Crew:
    """
    All posts. Each of `joined`, `left`, `hopeless` and `unable` is called with the post that it is about.

    `hopeless`: a worker has ended by itself before it has ever served, with the exit status that is said, or cannot be
    started. The next one would do the same. Of a retired one nothing else depends: it is tried again and again, and
    `unable` is called the first time, and when the status is another one.
    """

    def __init__(
        self,
        clock: IClock,
        start: Start,
        shares: Sequence[Share],
        *,
        lines: Callable[[Post, Line], object] = lambda post, line: None,
        joined: Callable[[Post], object] = lambda post: None,
        left: Callable[[Post], object] = lambda post: None,
        hopeless: Callable[[Post, int], object] = lambda post, status: None,
        unable: Callable[[Post, int], object] = lambda post, status: None,
        log: Logger | None = None,
    ) -> None:
        """`lines` is told of each new line, before anything is said on it. `joined` has it when the worker serves."""
        self._clock = clock
        self._start = start
        self._lines = lines
        self._joined = joined
        self._left = left
        self._hopeless = hopeless
        self._unable = unable
        self._log = log or Logger(namespace="relay.parent")
        self._posts = {share.index: Post(share) for share in shares}
        self._stopping: Deferred[None] | None = None

    @property
    def posts(self) -> tuple[Post, ...]:
        """In the order of their numbers."""
        return tuple(self._posts.values())

    def start(self) -> None:
        for post in self.posts:
            self._begin(post)

    def signal(self, number: int) -> None:
        """Send this to all."""
        for post in self.posts:
            if post.process is not None:
                post.process.signal(number)

    def dismiss(self, post: Post) -> None:
        """There is nothing left for it to do: it ends, and its post is given up."""
        post.dismissed = True
        self._end(post)

    async def stop(self) -> None:
        """All end; it returns when they have."""
        if self._stopping is None:
            self._stopping = Deferred()
            for post in self.posts:
                post.dismissed = True
                cancel(post.timer)
                self._end(post)
            self._look()
        waiting: Deferred[None] = Deferred()
        self._stopping.addCallback(lambda _: waiting.callback(None))
        await waiting

    def _begin(self, post: Post) -> None:
        line = Line()
        self._lines(post, line)
        line.hear("ready", lambda body: self._serves(post))
        try:
            post.process = self._start(post.share, line, lambda ended: self._ended(post, ended))
        except OSError as problem:
            self._log.error(
                "Worker {worker} cannot be started: {program}: {problem}",
                worker=post.share.index,
                program=sys.executable,
                problem=problem.strerror,
            )
            if post.proved:
                self._again(post)
            else:
                self._cannot_begin(post, os.EX_OSERR)

    def _serves(self, post: Post) -> None:
        if post.serves:
            return
        post.since = self._clock.seconds()
        again, post.proved, post.unable = post.proved, True, None
        if again:
            self._log.info("Worker {worker} serves again", worker=post.share.index)
        self._joined(post)

    def _end(self, post: Post) -> None:
        process = post.process
        if process is None:
            return
        process.signal(signal.SIGTERM)

        def use_force() -> None:
            self._log.error("Worker {worker} does not end, and is killed", worker=post.share.index)
            process.signal(signal.SIGKILL)

        cancel(post.timer)
        post.timer = self._clock.callLater(MARGIN, use_force)

    def _ended(self, post: Post, ended: Ended) -> None:
        line, since = post.line, post.since
        post.process = post.since = None
        if line is not None:
            line.close()
        cancel(post.timer)
        if since is not None and self._clock.seconds() - since >= GOOD_LIFE:
            post.failures = 0
        if self._stopping is not None or (post.dismissed and ended.status == 0):
            if self._stopping is None:
                del self._posts[post.share.index]
            self._left(post)
            self._look()
            return
        # Whoever was dismissed and has not ended in order is tried again: it will find out again that it is done.
        post.dismissed = False
        self._left(post)
        if post.unable is None or post.unable != ended:
            how = f"by signal {ended.signal}" if ended.status is None else f"with status {ended.status}"
            self._log.error("Worker {worker} has ended {how}", worker=post.share.index, how=how)
        # With 0 ends who was told to by somebody, which says nothing about the next one.
        if ended.status and not post.proved:
            self._cannot_begin(post, ended.status)
        else:
            self._again(post)

    def _cannot_begin(self, post: Post, status: int) -> None:
        if not post.share.retired:
            self._hopeless(post, status)
            return
        before, post.unable = post.unable, Ended(status)
        if before != post.unable:
            self._unable(post, status)
        self._again(post)

    def _again(self, post: Post) -> None:
        rest = min(REST_MOST, REST_FIRST * 2.0 ** min(post.failures - 1, 20)) if post.failures else 0.0
        post.failures += 1
        post.timer = self._clock.callLater(rest, self._begin, post)

    def _look(self) -> None:
        stopping = self._stopping
        if stopping is not None and not stopping.called and all(post.process is None for post in self.posts):
            stopping.callback(None)
