"""
A disk that stops after its n-th call, for every n; and one on which the n-th call fails.

Whatever the call, and however it fails: what was promised is there after a restart, whole; what was refused is not; and
where nobody knew, the spool has said so.
"""

from __future__ import annotations

import errno
import shutil
from typing import Any

from attrs import Factory, define
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from relay.interfaces import Claim, Enrol, ISpool, OutcomeUnknown, SpoolError, Step
from relay.mail.envelope import Form
from relay.mail.queue import Entry
from relay.net.waiting import start
from relay.testing.disk import Gone
from relay.testing.spool_case import LEASE, NEVER, entry, octets, postponed, recipient, settled
from tests.contracts.spool.shards import FaultySpoolDisk, SqliteShard

SMALL, LARGE = b"small\r\n.\r\n", b"large " * 15_000 + b"\r\n.\r\n"


@define
class Story:
    """What somebody who used the spool was told, entry by entry."""

    #: The last word on each entry: `None` while the answer is awaited, which is where a process that ends leaves it.
    kept: dict[str, bool | None] = Factory(dict)
    content: dict[str, bytes] = Factory(dict)


class Correspondent:
    """Uses the spool as reception and delivery do, and writes down what it was told."""

    def __init__(self, spool: ISpool, story: Story) -> None:
        self.spool = spool
        self.story = story

    async def everything(self) -> None:
        small, large = await self.keep(SMALL), await self.keep(LARGE)
        await self.keep(LARGE, lease=None)
        self.abandon()
        await self.commit([settled(small)] if small else [], gone=small)
        notice = self.enrolment(SMALL)
        if large:
            await self.commit([settled(large, NEVER), notice], kept=notice, gone=large)
        for claim in await self.claim():
            await self.commit([postponed(claim, 0.0)])
        await self.keep(SMALL)
        for claim in (await self.claim())[:2]:
            await self.commit([settled(claim)], gone=claim)

    def enrolment(self, content: bytes, lease: float | None = LEASE) -> Enrol | None:
        try:
            draft = self.spool.begin(Form.WIRE)
        except SpoolError:
            return None
        try:
            for at in range(0, len(content), 40_000):
                draft.write(content[at : at + 40_000])
        except OSError:
            draft.abandon()
            self.story.kept[draft.id] = False
            return None
        self.story.content[draft.id] = content
        self.story.kept[draft.id] = False
        return Enrol(entry(draft.id), draft, (recipient(draft.id + ".0"),), lease)

    def abandon(self) -> None:
        enrol = self.enrolment(LARGE)
        if enrol is not None:
            enrol.draft.abandon()

    async def keep(self, content: bytes, lease: float | None = LEASE) -> Claim | None:
        enrol = self.enrolment(content, lease)
        claims = await self.commit([], kept=enrol) if enrol is not None else ()
        return claims[0] if claims else None

    async def commit(self, steps: list[Any], kept: Enrol | None = None, gone: Claim | None = None) -> tuple[Claim, ...]:
        """Commit these and `kept`. Until the answer comes, both ends may be true of what it touches."""
        story = self.story.kept
        made: list[Step] = [step for step in steps if step is not None]
        if kept is not None and kept not in made:
            made.append(kept)
        before = {}
        for one, then in ((kept, True), (gone, False)):
            if one is not None:
                before[one.entry.id] = (story.get(one.entry.id), then)
                story[one.entry.id] = None
        try:
            claims = await self.spool.commit(made)
        except OutcomeUnknown:
            return ()
        except SpoolError:
            for id, (was, _) in before.items():
                story[id] = was
            return ()
        for id, (_, then) in before.items():
            story[id] = then
        return claims

    async def claim(self) -> list[Claim]:
        try:
            return list(await self.spool.claim(4e9, 100, LEASE))
        except SpoolError:
            return []


class FaultTests(SynchronousTestCase):
    #: Who uses the spool, and how a life without faults ends: entries that are gone, and that are kept.
    correspondent = Correspondent
    outcome = [False] * 5 + [True] * 3

    def setUp(self) -> None:
        """A spool with two entries in it, from a life before; each life of a test begins with a copy of it."""
        self.before = SqliteShard()
        self.addCleanup(self.before.dispose)
        self.story = Story()
        spool = self.before.open()
        start(spool.recover())
        correspondent = Correspondent(spool, self.story)
        for content in (SMALL, LARGE):
            start(correspondent.keep(content))
        self.before.die()
        self.kept, self.content = dict(self.story.kept), dict(self.story.content)

    def shard(self) -> SqliteShard:
        shard = SqliteShard()
        self.addCleanup(shard.dispose)
        shutil.copytree(self.before.layout.path, shard.layout.path)
        self.story = Story(dict(self.kept), dict(self.content))
        return shard

    def life(self, *fault: Any, **more: Any) -> FaultySpoolDisk:
        """One process's life on a disk with this fault, and what the next one finds."""
        disk = FaultySpoolDisk(*fault, **more)
        shard = self.shard()
        self.live(shard, disk)
        self.check(shard)
        shard.dispose()
        return disk

    def live(self, shard: SqliteShard, disk: FaultySpoolDisk) -> None:
        """One process's life on this disk, from its start until it ends by itself or is killed."""
        shard.disk = disk
        spool = shard.open()
        try:
            start(spool.recover())
            start(self.correspondent(spool, self.story).everything())
            start(spool.close())
        except (SpoolError, Gone):
            pass
        shard.die()

    def check(self, shard: SqliteShard) -> None:
        """What the next process finds."""
        spool = shard.open()
        self.assertEqual(start(spool.recover()), [])
        claims = start(spool.claim(4e9, 1000, LEASE))
        assert not isinstance(claims, Deferred)
        found: dict[str, Entry] = {claim.entry.id: claim.entry for claim in claims}
        for id, kept in self.story.kept.items():
            if kept is not None:
                self.assertEqual(id in found, kept, f"{id} was {'promised' if kept else 'refused or settled'}")
        for claim in claims:
            self.assertIn(claim.entry.id, self.story.content)
            self.assertEqual(octets(claim.content), self.story.content[claim.entry.id])
        files = [id for id in found if self.story.content[id] == LARGE]
        self.assertEqual(shard.files, sorted(files))
        shard.die()

    def calls(self) -> list[tuple[int, str]]:
        """All calls of a whole life, counted, but for most of those on the shelves, which are all alike."""
        disk = self.life()
        shelves = [n for name in ("mkdir", "listdir") for n, each in enumerate(disk.names, 1) if each == name]
        return [
            (n, str(arguments[0]) if name == "execute" else name)
            for n, (name, arguments) in enumerate(disk.calls, 1)
            if n not in shelves or n in shelves[:4]
        ]

    def test_on_a_disk_without_faults_everything_is_as_it_was_told(self) -> None:
        self.life()
        self.assertNotIn(None, self.story.kept.values())
        self.assertEqual(sorted(self.story.kept.values()), self.outcome)

    def test_a_process_that_ends_at_any_call_has_lost_nothing(self) -> None:
        for n, _ in self.calls():
            self.life(n)

    def test_a_process_that_ends_behind_any_commit_has_lost_nothing(self) -> None:
        for n, call in self.calls():
            if call == "COMMIT":
                self.life(n, after=True)

    def test_a_disk_that_breaks_at_any_call_has_lost_nothing(self) -> None:
        for n, _ in self.calls():
            self.life(n, errno.EIO, stays=True)

    def test_a_disk_that_breaks_behind_any_commit_has_lost_nothing(self) -> None:
        for n, call in self.calls():
            if call == "COMMIT":
                self.life(n, errno.EIO, stays=True, after=True)

    def test_any_call_that_fails_once_has_lost_nothing(self) -> None:
        for n, _ in self.calls():
            self.life(n, errno.ENOSPC)

    def test_any_commit_that_fails_once_though_it_happened_counts(self) -> None:
        for n, call in self.calls():
            if call == "COMMIT":
                self.life(n, errno.EIO, after=True)
                self.assertNotIn(None, self.story.kept.values())
