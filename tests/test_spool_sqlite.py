"""What is particular to the spool on a disk: batches, files, the lock, and what it says when it cannot be opened."""

from __future__ import annotations

import gc
import os
import sqlite3
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from relay.interfaces import Claim, ClaimLost, Enrol, OutcomeUnknown, Renew, SpoolError
from relay.mail.dsn import NO_WISHES
from relay.mail.envelope import Form
from relay.net.waiting import start
from relay.spool import claiming, schema
from relay.spool.errors import SpoolUnusable
from relay.spool.schema import APPLICATION, MIGRATIONS, open_database
from relay.spool.sqlite import Limits, SqliteSpool
from relay.spool.strokes import GIVE_BACK, SETTLE
from relay.spool.writer import Writer
from relay.testing.spool_case import LEASE, awaited, entry, given_back, postponed, recipient, settled
from tests.contracts.spool.shards import LIMITS, SqliteShard, WhenTold

LARGE = b"x" * 70_000


class SpoolTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.shard = SqliteShard()
        self.addCleanup(self.shard.dispose)
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self._observe)
        self.addCleanup(globalLogPublisher.removeObserver, self._observe)

    def _observe(self, event: Any) -> None:
        if event.get("log_namespace") == "relay.spool.sqlite.SqliteSpool" and event["log_level"] > LogLevel.info:
            self.logged.append(event["log_format"].format(**event))

    def opened(self) -> SqliteSpool:
        spool = self.shard.open()
        self.result(spool.recover())
        return spool

    def restarted(self) -> SqliteSpool:
        self.shard.die()
        return self.opened()

    def result(self, waiting: Any) -> Any:
        answer = start(waiting)
        return self.successResultOf(answer) if isinstance(answer, Deferred) else answer

    def fails(self, kind: type[Exception], waiting: Any) -> Exception:
        return self.failureResultOf(Deferred.fromCoroutine(awaited(waiting)), kind).value

    def enrolment(self, spool: SqliteSpool, content: bytes = b"x\r\n.\r\n", lease: float | None = LEASE) -> Enrol:
        draft = spool.begin(Form.WIRE)
        draft.write(content)
        return Enrol(entry(draft.id), draft, (recipient(draft.id + ".0"),), lease)

    def enrolled(self, spool: SqliteSpool, content: bytes = b"x\r\n.\r\n") -> Claim:
        (claim,) = self.result(spool.commit([self.enrolment(spool, content)]))
        assert isinstance(claim, Claim)
        return claim

    def due(self, spool: SqliteSpool) -> Any:
        return self.result(spool.claim(self.shard.clock.now(), 100, LEASE))


class BatchTests(SpoolTestCase):
    """The writer works when told; what comes meanwhile waits together."""

    def setUp(self) -> None:
        super().setUp()
        self.writer, self.syncers = WhenTold(), WhenTold()
        shard = self.shard
        self.spool = SqliteSpool(
            shard.layout.path, shard.clock, self.writer, self.syncers, limits=LIMITS, disk=shard.disk
        )
        recovered = Deferred.fromCoroutine(self.spool.recover())
        self.writer.work()
        self.successResultOf(recovered)
        self.shard.disk.calls.clear()

    def commit(self, *steps: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(awaited(self.spool.commit(steps)))

    @property
    def commits_on_disk(self) -> int:
        return self.shard.disk.calls.count(("execute", ("COMMIT",)))

    def test_what_arrives_while_the_last_commit_runs_shares_the_next(self) -> None:
        waiting = [self.commit(self.enrolment(self.spool)) for _ in range(100)]
        self.assertEqual(self.spool.waiting, 100)
        self.writer.work(1)
        self.successResultOf(waiting[0])
        for one in waiting[1:]:
            self.assertNoResult(one)
        self.assertEqual(self.spool.waiting, 99)
        self.writer.work(1)
        for one in waiting[1:]:
            self.successResultOf(one)
        self.assertEqual(self.commits_on_disk, 2)
        self.assertEqual(self.spool.waiting, 0)

    def test_a_batch_needs_few_statements_for_a_hundred(self) -> None:
        """For each Python lets go of its lock, and has to win it back from the reactor's thread."""
        first = self.commit(self.enrolment(self.spool))
        waiting = [self.commit(self.enrolment(self.spool)) for _ in range(100)]
        self.writer.work(1)
        self.successResultOf(first)
        self.shard.disk.calls.clear()
        self.writer.work(1)
        # BEGIN and COMMIT; and all rows of each kind at once.
        self.assertEqual(len(self.shard.disk.calls), 2 + 2)
        self.shard.disk.calls.clear()
        settling = self.commit(*(settled(claim) for one in waiting for claim in self.successResultOf(one)))
        self.done(settling)
        # The entries go with their last recipients.
        self.assertEqual(len(self.shard.disk.calls), 2 + 1)

    def test_a_batch_of_any_size_is_whole(self) -> None:
        for size in (*range(1, 67), 127, 128, 129, 257):
            first = self.commit(self.enrolment(self.spool))
            waiting = [self.commit(self.enrolment(self.spool)) for _ in range(size)]
            (own,) = self.done(first)
            claims = [claim for one in waiting for claim in self.successResultOf(one)]
            self.assertEqual(len({claim.entry.id for claim in claims}), size)
            census = Deferred.fromCoroutine(self.spool.census())
            self.assertEqual(self.done(census).entries, size + 1)
            self.done(self.commit(*(settled(claim) for claim in claims), settled(own)))
            self.assertEqual(self.shard.rows("SELECT count(*) FROM entries, recipients"), [(0,)])

    def test_many_are_claimed_and_given_back_in_few_statements(self) -> None:
        self.commit(self.enrolment(self.spool))
        self.done(self.commit(*(self.enrolment(self.spool, lease=None) for _ in range(64))))
        self.shard.disk.calls.clear()
        claims = self.done(Deferred.fromCoroutine(self.spool.claim(self.shard.clock.now(), 100, LEASE)))
        self.assertEqual([len(claim.pending) for claim in claims], [1] * 64)
        # BEGIN, SAVEPOINT, RELEASE and COMMIT; who is due, their rows, their entries, and the claims.
        self.assertLessEqual(len(self.shard.disk.calls), 4 + 4)
        self.shard.disk.calls.clear()
        back = [self.commit(given_back(claim)) for claim in claims]
        self.writer.work()
        for one in back:
            self.successResultOf(one)
        self.assertEqual(len(self.shard.disk.calls), (2 + 1) + (2 + 1))

    def test_of_many_settlements_in_a_batch_the_one_that_is_lost_is_found(self) -> None:
        first = self.commit(self.enrolment(self.spool))
        waiting = [self.commit(self.enrolment(self.spool)) for _ in range(70)]
        self.done(first)
        claims = [claim for one in waiting for claim in self.successResultOf(one)]
        for at in (0, 40, 69):
            lost = evolve(claims[at], token=claims[at - 1].token)
            self.commit(self.enrolment(self.spool))
            settling = [self.commit(settled(lost if claim is claims[at] else claim)) for claim in claims]
            self.writer.work()
            self.failureResultOf(settling.pop(at), ClaimLost)
            for one in settling:
                self.successResultOf(one)
            again = [self.commit(self.enrolment(self.spool)) for _ in range(70)]
            self.writer.work()
            claims = [claim for one in again for claim in self.successResultOf(one)]

    def test_settling_and_claiming_read_no_more_of_a_long_queue_than_they_need(self) -> None:
        for texts in (
            SETTLE.texts,
            GIVE_BACK.texts,
            claiming._ENTRIES,
            claiming._RECIPIENTS,
            claiming._CLAIM,
        ):
            for text in texts:
                plan = self.shard.rows(f"EXPLAIN QUERY PLAN {text}", *[0] * text.count("?"))
                steps = [str(row[3]) for row in plan]
                self.assertEqual([step for step in steps if step in ("SCAN recipients", "SCAN entries")], [], text)
                self.assertIn("SEARCH", " ".join(steps))

    def test_the_next_batch_is_handed_over_before_the_last_is_answered(self) -> None:
        first = self.commit(self.enrolment(self.spool))
        second = self.commit(self.enrolment(self.spool))
        handed_over: list[int] = []
        first.addCallback(lambda _: handed_over.append(len(self.writer.tasks)))
        self.writer.work(1)
        self.assertEqual(handed_over, [1])
        self.assertNoResult(second)
        self.writer.work()

    def test_questions_and_claims_come_with_the_batch(self) -> None:
        first = self.commit(self.enrolment(self.spool))
        second = self.commit(self.enrolment(self.spool, lease=None))
        claims = Deferred.fromCoroutine(self.spool.claim(self.shard.clock.now(), 10, LEASE))
        census = Deferred.fromCoroutine(self.spool.census())
        self.writer.work(2)
        for one in (first, second):
            self.successResultOf(one)
        self.assertEqual(len(self.successResultOf(claims)), 1)
        self.assertEqual(self.successResultOf(census).active, 2)
        self.assertEqual(self.commits_on_disk, 2)

    def test_one_that_is_refused_does_not_cost_the_others_of_its_batch(self) -> None:
        (claim,) = self.done(self.commit(self.enrolment(self.spool)))
        self.done(self.commit(settled(claim)))
        self.commit(self.enrolment(self.spool))
        good, lost = self.commit(self.enrolment(self.spool)), self.commit(settled(claim))
        bad = self.enrolment(self.spool)
        strange = self.commit(evolve(bad, entry=evolve(bad.entry, head="not octets")))
        unwritable = self.enrolment(self.spool)
        surrogate = self.commit(evolve(unwritable, recipients=(evolve(unwritable.recipients[0], policy="\udc80"),)))
        also_good = self.commit(self.enrolment(self.spool))
        self.writer.work()
        for one in (good, also_good):
            self.successResultOf(one)
        self.failureResultOf(lost, ClaimLost)
        self.failureResultOf(surrogate, SpoolError)
        self.failureResultOf(strange, SpoolError)
        self.assertEqual(self.done(Deferred.fromCoroutine(self.spool.census())).entries, 3)

    def done(self, waiting: Deferred[Any]) -> Any:
        self.writer.work()
        return self.successResultOf(waiting)

    def test_two_settlements_of_one_claim_in_a_batch_are_told_apart(self) -> None:
        (claim,) = self.done(self.commit(self.enrolment(self.spool)))
        other = self.commit(self.enrolment(self.spool))
        first, second = self.commit(settled(claim)), self.commit(postponed(claim, 1.0))
        third = self.commit(given_back(claim))
        self.writer.work()
        self.successResultOf(other)
        self.successResultOf(first)
        self.failureResultOf(second, ClaimLost)
        self.failureResultOf(third, ClaimLost)

    def test_a_batch_in_which_nothing_happens_is_not_synced(self) -> None:
        (claim,) = self.done(self.commit(self.enrolment(self.spool)))
        self.done(self.commit(settled(claim)))
        before = self.commits_on_disk
        lost = self.commit(settled(claim))
        self.writer.work()
        self.failureResultOf(lost, ClaimLost)
        self.assertEqual(self.commits_on_disk, before)

    def test_a_commit_that_is_cancelled_while_it_waits_has_not_happened(self) -> None:
        first = self.commit(self.enrolment(self.spool))
        enrol = self.enrolment(self.spool, LARGE)
        cancelled = self.commit(enrol)
        self.syncers.work()
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.writer.work()
        self.successResultOf(first)
        self.assertIsNone(self.done(Deferred.fromCoroutine(self.spool.look_up(enrol.entry.id))))
        self.assertEqual(self.shard.files, [])

    def test_a_commit_that_is_cancelled_while_its_file_is_synced_has_not_happened(self) -> None:
        cancelled = self.commit(self.enrolment(self.spool, LARGE))
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.syncers.work()
        self.assertEqual(self.writer.tasks, [])
        self.assertEqual(self.shard.files, [])

    def test_a_commit_that_the_writer_has_is_cancelled_in_vain(self) -> None:
        enrol = self.enrolment(self.spool)
        waiting = self.commit(enrol)
        waiting.cancel()
        waiting.cancel()
        self.assertNoResult(waiting)
        self.writer.work()
        (claim,) = self.successResultOf(waiting)
        self.assertEqual(claim.entry, enrol.entry)

    def test_an_answer_may_cancel_another_of_its_batch_in_vain(self) -> None:
        self.commit(self.enrolment(self.spool))
        first, second = self.commit(self.enrolment(self.spool)), self.commit(self.enrolment(self.spool))
        first.addCallback(lambda _: second.cancel())
        self.writer.work()
        self.assertEqual(len(self.successResultOf(second)), 1)

    def test_a_file_is_synced_before_its_row_is_handed_over(self) -> None:
        waiting = self.commit(self.enrolment(self.spool, LARGE), self.enrolment(self.spool, LARGE))
        self.assertEqual((len(self.syncers.tasks), len(self.writer.tasks)), (2, 0))
        self.syncers.work(1)
        self.assertEqual(self.writer.tasks, [])
        self.syncers.work(1)
        self.assertEqual(self.shard.disk.names.count("sync"), 4)
        self.assertNotIn("execute", self.shard.disk.names)
        self.done(waiting)

    def test_small_mail_does_not_wait_for_the_files_of_others(self) -> None:
        large, small = self.commit(self.enrolment(self.spool, LARGE)), self.commit(self.enrolment(self.spool))
        self.done(small)
        self.assertNoResult(large)
        self.syncers.work()
        self.done(large)

    def test_closing_waits_for_what_is_under_way(self) -> None:
        waiting = self.commit(self.enrolment(self.spool, LARGE))
        closing = Deferred.fromCoroutine(self.spool.close())
        self.writer.work()
        self.assertNoResult(closing)
        self.syncers.work()
        self.writer.work()
        self.successResultOf(waiting)
        self.successResultOf(closing)
        self.assertTrue(self.writer.stopped and self.syncers.stopped)

    def test_a_writer_that_fails_by_our_own_fault_leaves_nobody_waiting(self) -> None:
        def broken(batch: Any) -> Any:
            raise RuntimeError("a bug")

        self.patch(self.spool._writer, "run", broken)
        waiting = self.commit(self.enrolment(self.spool))
        self.writer.work()
        self.failureResultOf(waiting, OutcomeUnknown)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertFalse(self.spool.accepting)

    def test_an_answer_may_begin_the_next_commit(self) -> None:
        async def two() -> None:
            (claim,) = await self.spool.commit([self.enrolment(self.spool)])
            await self.spool.commit([settled(claim)])

        waiting = [Deferred.fromCoroutine(two()) for _ in range(3)]
        self.writer.work()
        for one in waiting:
            self.successResultOf(one)


class FileTests(SpoolTestCase):
    def test_nothing_is_touched_before_the_first_use(self) -> None:
        self.shard.open()
        self.assertFalse(self.shard.layout.path.exists())

    def test_what_it_makes_is_for_its_user_alone(self) -> None:
        previous = os.umask(0)
        self.addCleanup(os.umask, previous)
        spool = self.opened()
        self.enrolled(spool, LARGE)
        made = [self.shard.layout.path, *self.shard.layout.path.rglob("*")]
        self.assertGreater(len(made), 35)
        for path in made:
            self.assertEqual(path.stat().st_mode & 0o777, 0o700 if path.is_dir() else 0o600, path)

    def test_large_content_is_in_a_file_until_its_entry_goes(self) -> None:
        spool = self.opened()
        claim = self.enrolled(spool, LARGE)
        self.enrolled(spool)
        self.assertEqual(self.shard.files, [claim.entry.id])
        self.assertEqual(self.shard.rows("SELECT content FROM entries WHERE id = ?", claim.entry.id), [(None,)])
        self.result(spool.commit([settled(claim)]))
        self.assertEqual(self.shard.files, [])

    def test_content_that_was_settled_by_recipients_goes_with_the_last(self) -> None:
        spool = self.opened()
        enrol = self.enrolment(spool, LARGE)
        id = enrol.entry.id
        enrol = evolve(enrol, recipients=(recipient(id + ".0", "a@x.example"), recipient(id + ".1", "b@y.example")))
        first, second = self.result(spool.commit([enrol]))
        self.result(spool.commit([settled(first)]))
        self.assertEqual(self.shard.files, [id])
        self.result(spool.commit([settled(second)]))
        self.assertEqual(self.shard.files, [])

    def test_content_without_an_entry_is_removed_by_the_owner(self) -> None:
        spool = self.opened()
        claim = self.enrolled(spool, LARGE)
        self.enrolment(spool, LARGE)
        self.assertEqual(len(self.shard.files), 2)
        (self.shard.layout.content / "0" / "README").write_text("an operator's")
        self.shard.die()
        bystander = self.shard.open()
        self.result(bystander.look_up("x"))
        self.assertEqual(len(self.shard.files), 3)
        self.restarted()
        self.assertEqual(self.shard.files, sorted([claim.entry.id, "README"]))

    def test_missing_or_short_content_sets_its_entry_aside(self) -> None:
        for spoil in (Path.unlink, lambda path: os.truncate(path, 69_999), lambda path: os.truncate(path, 0)):
            spool = self.opened()
            claim = self.enrolled(spool, LARGE)
            self.shard.die()
            spoil(self.shard.layout.file(claim.entry.id))
            spool = self.shard.open()
            self.assertIn(claim.entry.id, self.result(spool.recover()))
            self.assertIn(f"{claim.entry.id} is set aside: its content", "\n".join(self.logged))
            self.assertEqual(self.due(spool), ())
            self.shard.die()

    def test_content_that_is_put_back_is_delivered_after_all(self) -> None:
        spool = self.opened()
        claim = self.enrolled(spool, LARGE)
        self.shard.die()
        path = self.shard.layout.file(claim.entry.id)
        path.rename(path.with_suffix(".away"))
        spool = self.opened()
        self.assertEqual(self.result(spool.census()).corrupt, 1)
        self.shard.die()
        path.with_suffix(".away").rename(path)
        spool = self.shard.open()
        self.assertEqual(self.result(spool.recover()), [])
        (again,) = self.due(spool)
        self.assertEqual(b"".join(again.content.blocks()), LARGE)
        self.assertEqual(again.pending, claim.pending)

    def test_damage_that_shows_only_when_it_is_claimed_is_set_aside_then(self) -> None:
        spool = self.opened()
        bad, good = self.enrolment(spool, lease=None), self.enrolment(spool, lease=None)
        self.result(spool.commit([bad, good]))
        self.shard.alter("UPDATE recipients SET route = '{}' WHERE entry = ?", bad.entry.id)
        self.assertEqual([claim.entry for claim in self.due(spool)], [good.entry])
        self.assertIn(f"{bad.entry.id} is set aside", self.logged[-1])
        self.assertEqual(self.result(spool.census()).corrupt, 1)
        self.shard.die()
        self.assertEqual(self.result(self.shard.open().recover()), [bad.entry.id])

    def test_what_is_claimed_of_a_damaged_entry_can_still_be_settled(self) -> None:
        spool = self.opened()
        enrol = self.enrolment(spool)
        id = enrol.entry.id
        enrol = evolve(enrol, recipients=(recipient(id + ".0", "a@x.example"), recipient(id + ".1", "b@y.example")))
        first, second = self.result(spool.commit([enrol]))
        self.result(spool.commit([given_back(second)]))
        self.shard.alter("UPDATE entries SET envelope = '' WHERE id = ?", id)
        self.assertEqual(self.due(spool), ())
        self.result(spool.commit([settled(first)]))
        self.assertEqual(self.shard.rows("SELECT id, wake FROM recipients"), [(id + ".1", None)])

    def test_memory_for_content_is_bounded_and_comes_back(self) -> None:
        self.shard.limits = Limits(in_memory=10_000, reserve=0)
        spool = self.opened()
        claims = [self.enrolled(spool, b"x" * 4_000) for _ in range(4)]
        self.assertEqual(len(self.shard.files), 2)
        for claim in claims:
            self.assertEqual(b"".join(claim.content.blocks()), b"x" * 4_000)
        del claims, claim
        gc.collect()
        self.enrolled(spool, b"x" * 10_000)
        self.assertEqual(len(self.shard.files), 2)

    def test_room_is_free_space_less_the_reserve_and_asked_for_once_a_second(self) -> None:
        self.shard.limits = Limits(reserve=1 << 20)
        spool = self.opened()
        space = os.statvfs(self.shard.layout.path)
        free = space.f_bavail * space.f_frsize
        self.assertTrue(spool.room(0))
        self.assertFalse(spool.room(free * 2))
        self.assertEqual(self.shard.disk.names.count("space"), 1)
        self.shard.time.advance(1)
        spool.room(1)
        self.assertEqual(self.shard.disk.names.count("space"), 2)
        self.patch(self.shard.disk, "space", lambda path: Space(1000, 4096, 10, 5))
        self.shard.time.advance(1)
        self.assertTrue(spool.room(1000 * 4096 - (1 << 20)))
        self.assertFalse(spool.room(1000 * 4096 - (1 << 20) + 1))
        self.patch(self.shard.disk, "space", lambda path: Space(1 << 30, 4096, 10, 0))
        self.shard.time.advance(1)
        self.assertFalse(spool.room(1))

    def test_where_free_space_is_unknown_there_is_no_room(self) -> None:
        spool = self.shard.open()
        self.assertFalse(spool.room(1))
        self.assertIn("free space is unknown", self.logged[-1])


class Space:
    def __init__(self, f_bavail: int, f_frsize: int, f_files: int, f_favail: int) -> None:
        self.f_bavail, self.f_frsize, self.f_files, self.f_favail = f_bavail, f_frsize, f_files, f_favail


class ProofTests(SpoolTestCase):
    def test_behind_an_error_of_commit_the_log_is_cut_off_before_anything_is_written(self) -> None:
        """What is in the kernel's memory of it may not be on the disk, and what came behind it would be lost."""
        spool = self.opened()
        disk = self.shard.disk
        disk.calls.clear()
        self.shard.fail_commit(kept=True)
        self.enrolled(spool)
        done = [str(arguments[0]) if name == "execute" else name for name, arguments in disk.calls]
        proof = done[done.index("connect") :]
        cut = proof.index("PRAGMA wal_checkpoint(TRUNCATE)")
        self.assertLess(proof.index("PRAGMA synchronous = FULL"), cut)
        self.assertEqual([each.split()[0] for each in proof[cut + 1 :]], ["BEGIN", "SELECT", "UPDATE", "COMMIT"])

    def test_a_batch_that_was_there_counts_for_all_but_those_it_refused(self) -> None:
        spool = self.opened()
        lost = self.enrolled(spool)
        self.result(spool.commit([settled(lost)]))
        writer = WhenTold()
        self.patch(spool._batches, "_workers", writer)
        commits = ([self.enrolment(spool)], [self.enrolment(spool)], [settled(lost)])
        waiting = [Deferred.fromCoroutine(awaited(spool.commit(steps))) for steps in commits]
        writer.work(1)
        self.shard.fail_commit(kept=True)
        writer.work()
        self.successResultOf(waiting[0])
        self.successResultOf(waiting[1])
        self.failureResultOf(waiting[2], ClaimLost)
        census = Deferred.fromCoroutine(spool.census())
        writer.work()
        self.assertEqual(self.successResultOf(census).entries, 2)

    def test_each_kind_of_step_is_a_witness(self) -> None:
        for kept in (True, False):
            for step in (settled, lambda claim: postponed(claim, 4e9), given_back, lambda claim: Renew(claim, 999.0)):
                spool = self.opened()
                claim = self.enrolled(spool)
                self.shard.fail_commit(kept=kept)
                commit = Deferred.fromCoroutine(awaited(spool.commit([step(claim)])))
                if kept:
                    self.result(commit)
                else:
                    self.fails(SpoolError, commit)
                    self.result(spool.commit([step(claim)]))
                self.shard.die()

    def test_a_claim_whose_commit_failed_is_nobodys(self) -> None:
        spool = self.opened()
        self.result(spool.commit([self.enrolment(spool, lease=None)]))
        self.shard.fail_commit(kept=False)
        self.fails(SpoolError, spool.claim(self.shard.clock.now(), 10, LEASE))
        self.assertEqual(len(self.due(spool)), 1)

    def test_a_claim_whose_proof_failed_is_followed_by_probes_too(self) -> None:
        spool = self.opened()
        self.result(spool.commit([self.enrolment(spool, lease=None)]))
        self.shard.fail_commit(kept=True, probes=1)
        self.fails(SpoolError, spool.claim(self.shard.clock.now(), 10, LEASE))
        self.assertFalse(spool.accepting)
        self.shard.time.pump([60] * 3)
        self.assertTrue(spool.accepting)
        self.shard.time.advance(LEASE)
        self.assertEqual(len(self.due(spool)), 1)

    def test_a_content_file_that_cannot_be_synced_is_refused_until_a_probe_passes(self) -> None:
        spool = self.opened()
        claim = self.enrolled(spool)
        enrol = self.enrolment(spool, LARGE)
        failing = [OSError(5, "Input/output error")] * 3

        def sync(fd: int) -> None:
            if failing:
                raise failing.pop()

        self.patch(self.shard.disk, "sync", sync)
        problem = self.fails(SpoolError, spool.commit([enrol]))
        self.assertIn("could not be made durable", str(problem))
        self.assertEqual(self.shard.files, [])
        self.assertFalse(spool.accepting)
        self.assertRaises(SpoolError, spool.begin, Form.WIRE)
        self.result(spool.commit([settled(claim)]))
        for accepting in (False, False, True):
            self.assertEqual(spool.accepting, False)
            self.shard.time.advance(30)
            self.assertEqual(spool.accepting, accepting)
        self.enrolled(spool, LARGE)

    def test_a_closed_spool_probes_no_more(self) -> None:
        spool = self.opened()
        enrol = self.enrolment(spool)
        self.shard.fail_commit(kept=False, probes=1)
        self.fails(OutcomeUnknown, spool.commit([enrol]))
        self.result(spool.close())
        self.assertEqual(self.shard.time.getDelayedCalls(), [])


class OpeningTests(SpoolTestCase):
    def unusable(self, *words: str) -> None:
        """Recovering says why the spool cannot be used, and so does everything else."""
        spool = self.shard.open()
        problem = self.fails(SpoolUnusable, spool.recover())
        for word in words:
            self.assertIn(word, str(problem))
        self.fails(SpoolUnusable, spool.next_due())
        self.shard.die()

    def test_two_processes_never_own_one_spool(self) -> None:
        first = self.opened()
        self.fails(SpoolUnusable, self.shard.open().recover())
        problem = self.fails(SpoolUnusable, self.shard.open().recover())
        self.assertIn(f"process {os.getpid()}", str(problem))
        self.result(first.recover())
        self.result(first.close())
        self.result(self.shard.open().recover())

    def test_a_directory_in_which_everybody_may_write_is_refused(self) -> None:
        for path in (self.shard.layout.path, self.shard.layout.content):
            path.mkdir()
            path.chmod(0o777)
            self.unusable(str(path), "chmod o-w")
            path.chmod(0o770)
        self.opened()

    def test_the_directory_may_be_a_link_to_another_disk(self) -> None:
        elsewhere = self.shard.parent / "elsewhere"
        elsewhere.mkdir(mode=0o700)
        self.shard.layout.path.symlink_to(elsewhere)
        self.enrolled(self.opened(), LARGE)
        self.shard.die()
        elsewhere.chmod(0o707)
        self.unusable("chmod o-w")

    def test_a_directory_that_cannot_be_made_is_named(self) -> None:
        self.shard.layout.path.write_text("a file")
        self.unusable(str(self.shard.layout.path))

    def test_a_damaged_database_is_named_and_left_as_it_is(self) -> None:
        self.opened()
        self.shard.die()
        for octets in (
            b"this is no database" * 1000,
            self.shard.layout.database.read_bytes()[:9000] + b"\xff" * 30_000,
        ):
            for path in self.shard.layout.path.glob("spool.db-*"):
                path.unlink()
            self.shard.layout.database.write_bytes(octets)
            spool = self.shard.open()
            problem = self.fails(SpoolUnusable, spool.recover())
            self.assertIn(str(self.shard.layout.database), str(problem))
            self.shard.die()
            self.assertEqual(self.shard.layout.database.read_bytes(), octets)

    def test_a_format_of_the_future_is_refused(self) -> None:
        self.opened()
        self.shard.die()
        database = sqlite3.connect(self.shard.layout.database)
        database.execute(f"PRAGMA user_version = {schema.FORMAT + 1}")
        database.close()
        self.unusable(f"format {schema.FORMAT + 1}", f"up to {schema.FORMAT}", "newer relay")

    def test_another_programs_database_is_refused(self) -> None:
        self.shard.layout.path.mkdir()
        database = sqlite3.connect(self.shard.layout.database)
        database.execute("CREATE TABLE letters (text)")
        database.close()
        self.unusable("not a spool of this relay")

    def test_a_format_of_the_past_is_migrated_in_one_transaction(self) -> None:
        spool = self.opened()
        claim = self.enrolled(spool)
        self.shard.die()
        next, last = schema.FORMAT + 1, schema.FORMAT + 2
        broken = {**MIGRATIONS, next: ("ALTER TABLE entries ADD COLUMN colour TEXT",), last: ("nonsense",)}
        self.assertRaises(SpoolUnusable, open_database, self.shard.layout, self.shard.disk, broken)
        self.shard.disk.die()
        good = {**broken, last: ("UPDATE entries SET colour = 'red'",)}
        database = open_database(self.shard.layout, self.shard.disk, good)
        self.assertEqual(database.execute("SELECT id, colour FROM entries").fetchall(), [(claim.entry.id, "red")])
        self.assertEqual(database.execute("PRAGMA user_version").fetchone(), (last,))
        self.assertEqual(database.execute("PRAGMA application_id").fetchone(), (APPLICATION,))

    def test_every_released_format_can_be_opened(self) -> None:
        formats = sorted(Path(__file__).with_name("contracts").joinpath("spool").glob("format-*.sql"))
        self.assertEqual([path.name for path in formats], [f"format-{number}.sql" for number in MIGRATIONS])
        for path in formats:
            shard = SqliteShard()
            self.addCleanup(shard.dispose)
            shard.layout.path.mkdir(mode=0o700)
            database = sqlite3.connect(shard.layout.database)
            database.executescript(path.read_text())
            database.close()
            spool = shard.open()
            self.assertEqual(self.result(spool.recover()), ["1ZZZZZ00000002"])
            census = self.result(spool.census())
            self.assertEqual((census.waiting, census.held, census.corrupt, census.entries), (2, 1, 1, 2))
            (second, first) = self.result(spool.claim(4e9, 10, LEASE))
            self.assertEqual(
                [str(one.pending[0].recipient.address) for one in (first, second)],
                ["elvis@example.org", '"strange one"@localhost'],
            )
            self.assertEqual(b"".join(first.content.blocks()), b"Subject: hello\r\n\r\n..\r\n.\r\n")
            self.assertEqual(second.pending[0].last, None)
            self.assertEqual(first.pending[0].attempts, 1)
            # What a format did not know is as if it had not been said.
            said = path.name != "format-1.sql"
            envelope, wishes = first.entry.envelope, first.pending[0].recipient.wishes
            self.assertEqual((envelope.priority, envelope.envid), (3, "QQ314159") if said else (None, ""))
            self.assertEqual(wishes == NO_WISHES, not said)

    def test_it_is_durable_as_it_says(self) -> None:
        spool = self.opened()
        asked: list[Any] = []

        def ask(writer: Writer) -> None:
            database = writer._database()
            names = ("journal_mode", "synchronous", "page_size", "secure_delete")
            asked.extend(database.execute(f"PRAGMA {name}").fetchone()[0] for name in names)

        ask(spool._writer)
        self.assertEqual(asked, ["wal", 2, 8192, 0])
