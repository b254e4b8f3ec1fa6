"""
Policies whose code blocks: asked in threads of their own, so that nobody but their own client waits for them.

A thread cannot be made to stop. So each policy has a bounded number of them, and a bounded number of questions may wait
for one; a call that never ends keeps its thread, and when all of them are kept, each question is answered at once: 451.
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import copy_context
from inspect import iscoroutinefunction
from threading import get_ident
from typing import Any, Final

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import directlyProvides

from relay.interfaces import IClock
from relay.mail.fields import NO_FIELDS
from relay.mail.phases import ContentInquiry
from relay.mail.routing import Delay
from relay.net.frames import frame_of, place
from relay.net.threads import AtOnce, Stop, Threads
from relay.net.waiting import start
from relay.policy.elsewhere import Crossing, pieces, stop_of_question
from relay.policy.phases import INTERFACES, PHASES
from relay.smtp.answers import OUR_FAULT

#: Threads of a policy that does not say how many (`threads`), and how many it may have.
THREADS: Final = 4
MOST_THREADS: Final = 64
#: Questions that wait until one of a policy's threads is free.
WAITING: Final = 100

#: A call begins a little later than the question is asked, and is given up when that has had its time.
_NEARLY: Final = 0.9


class Blocking:
    """
    A policy that blocks, as the chain asks one: it provides what the policy provides, and all its answers come later.

    A content policy that wants a stream reads it when all of it is here: its reader may block, too.
    """

    def __init__(
        self,
        name: str,
        policy: Any,
        reactor: Any,
        cross: Crossing,
        *,
        timeout: float,
        clock: IClock,
        log: Logger,
        waiting: int = WAITING,
    ) -> None:
        """
        `reactor` is an `IReactorFromThreads`; `None`: there are no threads, and who asks waits. A call that has taken
        `timeout` seconds hangs.

        Raises `ValueError`, with words for the operator, for a policy that cannot be asked in this way.
        """
        self._name = name
        #: The policy itself.
        self.policy = policy
        self._cross = cross
        self._timeout = timeout
        self._clock = clock
        self._log = log
        self.threads = _wanted(name, policy)
        self._most = self.threads + waiting
        self._pool = AtOnce() if reactor is None else self._started(reactor)
        #: When each of the calls began that are under way, by the thread that it has.
        self._calls: dict[int, float] = {}
        #: How many calls were not waited for any longer, and how many questions had no thread.
        self.late = 0
        self.turned_away = 0
        #: What keeps it from answering was said.
        self._told = False
        self._streams = getattr(policy, "wants", None) == "stream"
        self.wants = "message" if self._streams else getattr(policy, "wants", None)
        self.routes = getattr(policy, "routes", False)
        directlyProvides(self, *_provided(name, policy))

    def _started(self, reactor: Any) -> Threads:
        pool = Threads(reactor, self.threads, self._name, waited_for=False)
        pool.start()
        # Whoever makes a chain only to try something out need not close it.
        weakref.finalize(self, pool.let_go).atexit = False
        return pool

    def spare(self) -> None:
        """It is hardly asked any more: no thread waits for a question, and each gets one for itself."""
        if isinstance(self._pool, Threads):
            self._pool.spare()

    def __getattr__(self, name: str) -> Any:
        """What else there is to know of the policy: `requires`, `provides`."""
        return getattr(self.policy, name)

    # The phases.

    def connect(self, inquiry: Any) -> Any:
        return self._ask(lambda: self.policy.connect(inquiry))

    def sender(self, inquiry: Any) -> Any:
        return self._ask(lambda: self.policy.sender(inquiry))

    def route(self, inquiry: Any) -> Any:
        return self._ask(lambda: self.policy.route(inquiry))

    def examine(self, inquiry: ContentInquiry) -> Any:
        if inquiry.blocks is not None:
            inquiry = evolve(inquiry, blocks=pieces(inquiry.blocks, self._cross))
        return self._ask(lambda: self._examined(inquiry))

    def attempt(self, inquiry: Any) -> Any:
        return self._ask(lambda: self.policy.attempt(inquiry))

    def observe(self, what: str, fields: Mapping[str, object]) -> None:
        """What cannot be seen in time is not seen."""
        try:
            told = start(self._ask(lambda: self.policy.observe(what, fields)))
        except Exception:
            self._observed_badly(Failure())
        else:
            if isinstance(told, Deferred):
                told.addErrback(self._observed_badly)

    def _observed_badly(self, failure: Failure) -> None:
        self._log.failure("policy {policy} raised an exception while it observed", failure, policy=self._name)

    def _examined(self, inquiry: ContentInquiry) -> Any:
        """In a thread."""
        if not self._streams or inquiry.blocks is None:
            return self.policy.examine(inquiry)
        beginning = evolve(inquiry, blocks=None, fields=NO_FIELDS, size=0)
        reader = self.policy.begin(beginning)
        for octets in inquiry.blocks():
            reader.take(octets)
        return self.policy.examine(evolve(inquiry, blocks=None, reader=reader))

    # Asking.

    def _ask(self, call: Callable[[], Any]) -> Delay | Awaitable[Any]:
        problem = self._problem()
        if problem:
            self.turned_away += 1
            return Delay(OUR_FAULT, problem)
        context = copy_context()
        threads: list[int] = []

        def work(stop: Stop) -> Any:
            thread = get_ident()
            self._calls[thread] = self._clock.seconds()
            threads.append(thread)
            stop_of_question.set(stop)
            try:
                return call()
            finally:
                threads.clear()
                del self._calls[thread]

        asked = self._pool.run(lambda stop: context.run(work, stop))
        return asked.addErrback(self._given_up, threads) if isinstance(asked, Deferred) else asked

    def _problem(self) -> str:
        """Why nobody can be asked now, or ""."""
        if self._pool.unfinished < self.threads:
            if self._told:
                self._told = False
                self._log.warn("policy {policy} has threads again, and answers", policy=self._name)
            return ""
        hanging = self._hanging()
        if len(hanging) >= self.threads:
            problem = f"all of its {self.threads} threads hang"
        elif self._pool.unfinished >= self._most:
            problem = f"{self._pool.unfinished} questions wait for its {self.threads} threads"
        else:
            return ""
        if not self._told:
            self._told = True
            self._log.critical(
                "policy {policy} cannot be asked, and answers 451 until it can: {problem}. Its calls are at {places}",
                policy=self._name,
                problem=problem,
                places=", ".join(map(_place, hanging or list(self._calls))) or "their ends",
            )
        return problem

    def _hanging(self) -> list[int]:
        """The threads whose calls have taken too long."""
        latest = self._clock.seconds() - _NEARLY * self._timeout
        return [thread for thread, began in list(self._calls.items()) if began <= latest]

    def _given_up(self, failure: Failure, threads: list[int]) -> Failure:
        """Nobody waits for this call any longer: say where it is, if it has had its time."""
        if failure.check(CancelledError):
            for thread in threads:
                if thread in self._hanging():
                    self.late += 1
                    self._log.error(
                        "policy {policy} still blocks at {place}, and keeps one of its {threads} threads",
                        policy=self._name,
                        place=_place(thread),
                        threads=self.threads,
                    )
        return failure


def spare(policies: Iterable[object]) -> None:
    """Keep no threads for those of them that have some."""
    for policy in policies:
        if isinstance(policy, Blocking):
            policy.spare()


def _wanted(name: str, policy: Any) -> int:
    threads: object = getattr(policy, "threads", THREADS)
    if not (isinstance(threads, int) and not isinstance(threads, bool) and 1 <= threads <= MOST_THREADS):
        raise ValueError(f"the policy {name!r} should have from 1 to {MOST_THREADS} threads, and not {threads!r}")
    return threads


def _provided(name: str, policy: Any) -> list[Any]:
    """The interfaces of its phases."""
    for phase in PHASES:
        if phase.interface.providedBy(policy) and iscoroutinefunction(getattr(policy, phase.method)):
            raise ValueError(f"the policy {name!r} is 'blocking', so its {phase.method} should be no coroutine")
    return [each for each in INTERFACES if each.providedBy(policy)]


def _place(thread: int) -> str:
    frame = frame_of(thread)
    return "its end" if frame is None else place(frame)
