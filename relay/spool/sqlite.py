"""The spool on a disk of this machine: the reactor's side. `relay.spool.writer` has the other, and the boundary."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from relay.interfaces import (
    Claim,
    IClock,
    IDraft,
    ISpool,
    SpoolError,
    Step,
)
from relay.mail.envelope import Form
from relay.mail.queue import Census, Entry, Pending
from relay.mail.selection import Act, Group, Page, Selection, Steered, Tally
from relay.net.workers import IsWorkers, Workers
from relay.spool.batches import Batches, Patience
from relay.spool.claiming import Claimed, SetAside, Wanted
from relay.spool.contents import Budget, Draft, Shelving, make_durable
from relay.spool.disk import SpoolDisk, remove
from relay.spool.hastening import Hasten, Hastened
from relay.spool.identity import Identities
from relay.spool.layout import Layout
from relay.spool.plans import Plan, Planner
from relay.spool.steering import Done, Steer
from relay.spool.writer import Errand, Request, Writer

_CLOSED = "the spool is closed"
_NOT_ACCEPTING = "after an error the spool waits until writing works again"

#: Seconds to the first probe after an outcome that is unknown; each further one takes twice as long, up to the last.
PROBE_FIRST, PROBE_LAST = 1.0, 30.0


@frozen
class Limits:
    """How much a spool keeps where, in octets."""

    #: Content up to this stands in its entry's row; more goes to a file.
    in_row: int = 64 * 1024
    #: Content in memory, of all drafts and of claims handed over by a commit; beyond it drafts go straight to files.
    in_memory: int = 64 * 1024 * 1024
    #: Free space that is left for notices and for our own records.
    reserve: int = 64 * 1024 * 1024


@implementer(ISpool)
class SqliteSpool:
    """
    Entries and small content in a database, larger content in files beside it.

    A commit that is cancelled while its batch waits has not happened. One that the writer has can be called back no
    more: it goes on, and its result is given in spite of the cancelling. A draft is used up by its commit.

    Nothing is touched on the disk, and no thread is started, before the first use.
    """

    log = Logger()

    accepting: bool

    def __init__(
        self,
        path: str | os.PathLike[str],
        clock: IClock,
        writer: IsWorkers,
        syncers: IsWorkers,
        *,
        limits: Limits = Limits(),
        disk: SpoolDisk = SpoolDisk(),  # noqa: B008
        random: Callable[[int], bytes] = os.urandom,
        patience: Patience | None = None,
    ) -> None:
        self.accepting = True
        self._clock = clock
        self._writers = writer
        self._syncers = syncers
        self._limits = limits
        self._disk = disk
        self._layout = Layout(Path(path))
        self._identities = Identities(clock.now, random)
        self._planner = Planner(clock, self._identities.token, self._sync, self._remove)
        self._shelving = Shelving(self._layout, disk, Budget(limits.in_memory), limits.in_row)
        # The writer's thread draws its own tokens: a source is for one thread.
        self._writer = Writer(self._layout, disk, Identities(clock.now, random).token)
        self._batches = Batches(self._writer, writer, self._refuse, clock, self._shelving.open.__len__, patience)
        self._open_calls = 0
        self._idle: Deferred[None] | None = None
        self._closed = False
        #: Octets that may still come, and until when (by the clock's `seconds`) that counts.
        self._free = -1
        self._free_until = float("-inf")
        self._probe_delay = PROBE_FIRST
        self._next_probe: Any = None

    @classmethod
    def in_threads(
        cls,
        path: str | os.PathLike[str],
        clock: IClock,
        call_from_thread: Callable[..., object],
        *,
        limits: Limits = Limits(),
    ) -> SqliteSpool:
        """The spool as a relay has it: `call_from_thread` is the reactor's `callFromThread`."""
        return cls(
            path,
            clock,
            Workers(call_from_thread, "spool-writer"),
            Workers(call_from_thread, "spool-sync", 4),
            limits=limits,
            patience=Patience(),
        )

    # Accepting.

    def begin(self, form: Form) -> IDraft:
        if self._closed:
            raise SpoolError(_CLOSED)
        if not self.accepting:
            raise SpoolError(_NOT_ACCEPTING)
        return Draft(self._identities.queue_id(), form, self._shelving)

    def room(self, octets: int) -> bool:
        if self._clock.seconds() >= self._free_until:
            self._free_until = self._clock.seconds() + 1.0
            self._free = self._space()
        return octets <= self._free

    def _space(self) -> int:
        """Octets that there is room for."""
        try:
            space = self._disk.space(str(self._layout.path))
        except OSError as problem:
            self.log.error("{path}: free space is unknown: {problem}", path=self._layout.path, problem=problem)
            return -1
        if space.f_files and not space.f_favail:
            return -1
        return space.f_bavail * space.f_frsize - self._limits.reserve

    @property
    def waiting(self) -> int:
        """How many requests wait for the writer or are being carried out."""
        return self._batches.waiting

    # The contract.

    def commit(self, steps: Sequence[Step]) -> Awaitable[tuple[Claim, ...]]:
        plan = Plan()
        try:
            if self._closed:
                raise SpoolError(_CLOSED)
            if not steps:
                return succeed(())
            self._planner.plan(steps, plan)
            if plan.drafts and not self.accepting:
                raise SpoolError(_NOT_ACCEPTING)
        except Exception:
            plan.destroy_drafts()
            return fail()
        if plan.syncing:
            return Deferred.fromCoroutine(self._commit_synced(plan))
        # Who sends mail waits for what is enrolled; for what became of it nobody does.
        self._batches.add(plan, patient=not plan.drafts)
        return plan

    async def claim(self, now: float, most: int, lease: float, excluding: Collection[str] = ()) -> Sequence[Claim]:
        claimed: Claimed = await self._ask(Wanted(now, most, now + lease, frozenset(excluding)))
        self._report(claimed.set_aside)
        return claimed.claims

    async def next_due(self, excluding: Collection[str] = ()) -> float | None:
        excluded = frozenset(excluding)
        due: float | None = await self._ask(Errand(lambda writer: writer.next_due(excluded)))
        return due

    async def look_up(self, id: str) -> tuple[Entry, Sequence[Pending]] | None:
        found: tuple[Entry, Sequence[Pending]] | None = await self._ask(Errand(lambda writer: writer.look_up(id)))
        return found

    async def hasten(self, domain: str, now: float, below: bool = False) -> int:
        done = Hastened(0, Hasten(domain, now, below))
        count = 0
        while done.next is not None:
            done = await self._ask(done.next)
            count += done.count
        return count

    async def select(self, selection: Selection, most: int, after: str = "") -> Page:
        now = self._clock.now()
        page: Page = await self._ask(Errand(lambda writer: writer.select(selection, now, most, after)))
        return page

    async def tally(self, selection: Selection, by: Group = Group.DESTINATION, after: str = "") -> Tally:
        now = self._clock.now()
        tally: Tally = await self._ask(Errand(lambda writer: writer.tally(selection, by, now, after)))
        return tally

    async def steer(self, act: Act, selection: Selection, after: str = "") -> Steered:
        done: Done = await self._ask(Steer(act, selection, self._clock.now(), after))
        for name in done.gone:
            self._remove(name)
        return done.steered

    async def census(self) -> Census:
        now = self._clock.now()
        counted: Census = await self._ask(Errand(lambda writer: writer.census(now)))
        return counted

    async def recover(self) -> Sequence[str]:
        recovered = await self._ask(Errand(Writer.recover))
        self._report(recovered.set_aside)
        for id in recovered.restored:
            self.log.info("{id} can be read again, and is in the queue", id=id)
        if recovered.orphans:
            self.log.info("{count} files of content without an entry were removed", count=len(recovered.orphans))
        return [set_aside.id for set_aside in recovered.set_aside]

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._next_probe is not None and self._next_probe.active():
            self._next_probe.cancel()
        if self._open_calls:
            self._idle = Deferred()
            await self._idle
        # When the writer has closed there are no workers any more, and of what is settled files may have to go.
        self._batches.wait_for_all()
        await self._result(Errand(Writer.close))
        self._writers.stop()
        self._syncers.stop()

    # Files.

    def _sync(self, id: str, file: int) -> Deferred[Exception | None]:
        """Make a draft's file durable, in a thread that closes it, too."""
        done: Deferred[Exception | None] = Deferred()
        disk, shelf = self._disk, self._layout.shelf(id)
        self._syncers.perform(lambda: make_durable(disk, file, shelf), done.callback)
        return done

    async def _commit_synced(self, plan: Plan) -> tuple[Claim, ...]:
        """Make the request when the files of this commit are durable, which are all synced at the same time."""
        self._open_calls += 1
        try:
            for problem in [await done for done in plan.syncing]:
                if problem is not None:
                    why = f"the content could not be made durable: {problem}"
                    self._refuse(why)
                    raise SpoolError(why) from problem
            self._batches.add(plan)
        except BaseException:
            plan.destroy_drafts()
            raise
        finally:
            self._call_ended()
        claims: tuple[Claim, ...] = await plan
        return claims

    def _remove(self, name: str) -> None:
        path, disk = self._layout.file(name), self._disk
        self._syncers.perform(lambda: remove(disk, path), self._removed)

    def _removed(self, problem: Exception | None) -> None:
        if problem is not None:
            self.log.warn("a file of content is of no use, and cannot be removed: {problem}", problem=problem)

    async def _ask(self, request: Request) -> Any:
        if self._closed:
            raise SpoolError(_CLOSED)
        self._open_calls += 1
        try:
            return await self._result(request)
        finally:
            self._call_ended()

    async def _result(self, request: Request) -> Any:
        result = await self._batches.request(request)
        if isinstance(result, Exception):
            raise result
        return result

    # Trouble.

    def _refuse(self, why: str) -> None:
        """Accept nothing until a probe has passed."""
        if not self.accepting:
            return
        self.accepting = False
        self._probe_delay = PROBE_FIRST
        self.log.critical("{path}: no mail is accepted: {why}", path=self._layout.path, why=why)
        self._probe_later()

    def _probe_later(self) -> None:
        if not self._closed:
            self._next_probe = self._clock.callLater(self._probe_delay, self._probe)
            self._probe_delay = min(2 * self._probe_delay, PROBE_LAST)

    def _probe(self) -> None:
        Deferred.fromCoroutine(self._probed())

    async def _probed(self) -> None:
        try:
            await self._result(Errand(Writer.probe))
        except Exception as problem:
            self.log.error("{path}: still no writing: {problem}", path=self._layout.path, problem=problem)
            self._probe_later()
            return
        self.accepting = True
        self.log.info("{path}: writing works again, mail is accepted", path=self._layout.path)

    def _report(self, set_aside: Sequence[SetAside]) -> None:
        for id, trouble in set_aside:
            self.log.error("{id} is set aside: {trouble}", id=id, trouble=trouble)

    def _call_ended(self) -> None:
        """`close` waits for calls that may ask more of the writer; behind what was asked before comes its own."""
        self._open_calls -= 1
        if not self._open_calls and self._idle is not None:
            idle, self._idle = self._idle, None
            idle.callback(None)
