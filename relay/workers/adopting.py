"""
Reading the configuration again where several workers use it.

It is read and checked once, by the parent; then each worker takes it up, or says why not. A worker that is started from
then on has it as well. None is asked to wait for the others: for a moment some have the old one and some the new one.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Container, Sequence
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.logger import Logger

from relay.config.errors import ConfigurationError
from relay.config.restarts import restarts
from relay.config.settings import Settings
from relay.control.reloading import InForce, Reloaded
from relay.interfaces import IClock
from relay.net.line import Line
from relay.net.threads import IThreads
from relay.net.together import together
from relay.net.waiting import start
from relay.reloading import Checked, Source
from relay.workers.crew import Crew, Post
from relay.workers.orders import Reading

#: Seconds that a worker gets.
PATIENCE: Final = 60.0
#: What is said for one that has said nothing: neither that it has taken it up nor that it has not.
_UNHEARD: Final = Reloaded(
    False,
    "",
    (f"it has not answered within {PATIENCE:g} s: it will have what is in force when it does, or is started again",),
)


class Adopting:
    """Has the configuration that is in force, and exchanges it for another, one time after the other."""

    def __init__(
        self,
        reading: Reading,
        settings: Settings,
        crew: Callable[[], Crew],
        clock: IClock,
        threads: IThreads,
        *,
        source: Source | None = None,
        log: Logger | None = None,
    ) -> None:
        """`crew` is who uses it; `source` looks at files."""
        #: Which is in force: workers that are started have it.
        self.reading = reading
        self._settings = settings
        self._crew = crew
        self._clock = clock
        self._threads = threads
        self._source = source or Source()
        self._path = os.path.abspath(reading.file)
        self._log = log or Logger(namespace="relay")
        self._one = DeferredLock()
        self._number = 0
        #: Whose answer is waited for: by the number of the question, and of the worker.
        self._asked: dict[tuple[int, int], Deferred[Reloaded | None]] = {}
        #: What a worker was told whose answer nobody waits for any more: by the same.
        self._open: dict[tuple[int, int], Reading] = {}
        self._checking: Any = None
        self._stopped = False
        self.in_force = InForce(reading.file, reading.digest, clock.seconds())

    def stop(self) -> None:
        """Nothing changes any more."""
        self._stopped = True
        if self._checking is not None:
            self._checking.cancel()
        for waiting in list(self._asked.values()):
            waiting.callback(None)

    @property
    def busy(self) -> bool:
        """One is under way, and another one waits: a third would find out no more than that one."""
        return bool(self._one.waiting)

    async def __call__(self) -> Reloaded:
        """Read it. Never raises."""
        await self._one.acquire()
        try:
            said = await self._reloaded()
        finally:
            self._one.release()
        self._tell(said)
        return said

    # Workers answer.

    def answered(self, post: Post, body: Any) -> None:
        """What a worker says of one that it was to take up."""
        key = body["number"], post.share.index
        problems, warnings = tuple(body["problems"]), tuple(body["warnings"])
        waiting, told = self._asked.get(key), self._open.pop(key, None)
        if waiting is not None:
            waiting.callback(Reloaded(body["done"], body["digest"], problems, warnings))
        elif told is not None and told is self.reading:
            self._late_answer(post, body["done"], problems)

    def _late_answer(self, post: Post, done: bool, problems: Sequence[str]) -> None:
        index, file = post.share.index, self.in_force.file
        if done:
            self._log.info("Worker {worker} has {file} as it is in force, too", worker=index, file=file)
            return
        for problem in problems:
            self._log.error("Worker {worker}: {problem}", worker=index, problem=problem)
        self._log.error(
            "Worker {worker} does not have {file} as it is in force: a restart of the relay helps",
            worker=index,
            file=file,
        )

    def left(self, post: Post) -> None:
        """A worker has ended. The one that takes its place has what is in force by then."""
        for (_, index), waiting in list(self._asked.items()):
            if index == post.share.index:
                waiting.callback(None)
        for key in [key for key in self._open if key[1] == post.share.index]:
            del self._open[key]

    async def _reloaded(self) -> Reloaded:
        file = self.reading.file
        name = file if os.path.abspath(file) == self._path else self._path
        before = self._source.digest(name)
        for post in self._crew().posts:
            if post.line is not None:
                # Certificates, and what else the file only names, also where the file itself is not used.
                post.line.say("reread")
        checked = await self._checked(name)
        if checked.problems:
            return self._refused(checked.problems, checked.warnings)
        try:
            reading = Reading.of(name)
            settings = reading.settings()
            if reading.digest != before or self._source.digest(name) != before:
                return self._refused([f"{name}: it has changed while it was checked: say it again"])
            found = [settings.problem(name, each.path, each.text) for each in restarts(self._settings, settings)]
        except ConfigurationError as error:
            found = list(error.problems)
        if found:
            return self._refused([str(problem) for problem in found], checked.warnings)
        old, self.reading = self.reading, reading
        said = await self._taken_up(reading)
        problems = [f"worker {post.share.index}: {text}" for post, each in said for text in each.problems]
        warnings = [*checked.warnings, *dict.fromkeys(text for _, each in said for text in each.warnings)]
        if problems and not any(each.done for _, each in said):
            self.reading = old
            self._give_back({post.share.index for post, each in said if each is not _UNHEARD})
            return self._refused(problems, warnings)
        self._settings = settings
        self.in_force = InForce(file, before, self._clock.seconds())
        if problems:
            warnings += problems
            if any(not each.done and each is not _UNHEARD for _, each in said):
                warnings.append("it is not in force everywhere: a restart of the relay helps")
        return Reloaded(True, before, warnings=tuple(warnings))

    async def _checked(self, name: str) -> Checked:
        try:
            answer: Awaitable[Checked] = self._threads.run(lambda stop: self._source.check(name, stop))
            said: Checked | Deferred[Checked] = start(answer)
            if isinstance(said, Deferred):
                self._checking = said
                said = await said
            checked: Checked = said
        except CancelledError:
            return Checked(("the relay stops",))
        except OSError as problem:
            return Checked((f"{name}: it cannot be checked: {problem}",))
        finally:
            self._checking = None
        return Checked(("the relay stops",)) if self._stopped else checked

    async def _taken_up(self, reading: Reading) -> Sequence[tuple[Post, Reloaded]]:
        """What those have said who have said anything. Who has ended meanwhile begins with it."""
        self._number += 1
        posts = [post for post in self._crew().posts if post.line is not None]
        answers = await together(self._told(post, reading, self._number) for post in posts)
        return [(post, said) for post, said in zip(posts, answers, strict=True) if said is not None]

    def _give_back(self, refused: Container[int]) -> None:
        """
        What is in force stays. Who has not `refused` the other one may use it, or will when the line is read: one that
        has not answered, or was started meanwhile. Things are heard in the order in which they are said.
        """
        self._number += 1
        for post in self._crew().posts:
            if post.line is not None and post.share.index not in refused:
                self._open[self._number, post.share.index] = self.reading
                self._say(post.line, self.reading, self._number)

    def _say(self, line: Line, reading: Reading, number: int) -> None:
        line.say("reload", {"number": number, "text": reading.text, "digest": reading.digest})

    async def _told(self, post: Post, reading: Reading, number: int) -> Reloaded | None:
        waiting: Deferred[Reloaded | None] = Deferred()
        key = number, post.share.index
        self._asked[key] = waiting
        late = self._clock.callLater(PATIENCE, self._late, key, reading)
        try:
            assert post.line is not None
            self._say(post.line, reading, number)
            return await waiting
        finally:
            del self._asked[key]
            if late.active():
                late.cancel()

    def _late(self, key: tuple[int, int], reading: Reading) -> None:
        self._open[key] = reading
        self._asked[key].callback(_UNHEARD)

    def _refused(self, problems: Sequence[str], warnings: Sequence[str] = ()) -> Reloaded:
        return Reloaded(False, self.in_force.digest, tuple(problems), tuple(warnings))

    def _tell(self, said: Reloaded) -> None:
        file = self.in_force.file
        for warning in said.warnings:
            self._log.warn("{warning}", warning=warning)
        if said.done:
            self._log.info("{file} is in force as it is now ({digest})", file=file, digest=said.digest)
            return
        if self._stopped:
            self._log.info("{file} was not reloaded: the relay stops", file=file)
            return
        for problem in said.problems:
            self._log.error("{problem}", problem=problem)
        if self._open:
            self._log.error("{file} was not reloaded: who has not answered hears that all goes on as it was", file=file)
            return
        self._log.error("{file} was not reloaded: all goes on as it was", file=file)
