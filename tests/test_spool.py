"""Both spools keep the one contract, and the kit that says so fails for a spool that does not."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relay.interfaces import Claim, Enrol, ISpool, Settle, Step
from relay.mail.envelope import Form
from relay.net.workers import IsWorkers, Workers
from relay.spool.memory import MemorySpool
from relay.testing.spool import SpoolContract, check_spool
from relay.testing.spool_case import Shard
from relay.testing.spool_operator import OperatorContract
from tests.contracts.spool.shards import MemoryShard, SqliteShard


class MemorySpoolContractTests(SpoolContract, OperatorContract, SynchronousTestCase):
    def make_shard(self) -> Shard:
        return MemoryShard()


class SqliteSpoolContractTests(SpoolContract, OperatorContract, SynchronousTestCase):
    def make_shard(self) -> Shard:
        return SqliteShard()


class SqliteSpoolInThreadsContractTests(SpoolContract, OperatorContract, TestCase):
    """The same with threads and a reactor, as in the relay."""

    def make_shard(self) -> Shard:
        def threads() -> IsWorkers:
            return Workers(reactor.callFromThread, "spool-test", 2)  # type: ignore[attr-defined]

        return SqliteShard(threads)


class Careless(MemorySpool):
    """Spools that break one clause each, in the way in which one would."""


class Forgetful(Careless):
    async def commit(self, steps: Sequence[Step]) -> tuple[Claim, ...]:
        return await super().commit([step for step in steps if not isinstance(step, Settle)])


class Fenceless(Careless):
    async def commit(self, steps: Sequence[Step]) -> tuple[Claim, ...]:
        claims = await super().commit([step for step in steps if isinstance(step, Enrol)])
        for step in steps:
            if isinstance(step, Settle):
                row = next(iter(self.shelf.recipients.get(step.claim.entry.id, {}).values()), None)
                token = row.token if row is not None else 0
                await super().commit([evolve(step, claim=evolve(step.claim, token=token))])
            elif not isinstance(step, Enrol):
                await super().commit([step])
        return claims


class Greedy(Careless):
    async def claim(self, now: float, most: int, lease: float, excluding: Collection[str] = ()) -> Sequence[Claim]:
        return await super().claim(now, most, lease)


class Lenient(Careless):
    async def recover(self) -> Sequence[str]:
        return []


class Repetitive(Careless):
    def begin(self, form: Form) -> Any:
        draft = super().begin(form)
        draft.id = draft.id[:-4] + "0000"  # type: ignore[misc]
        return draft


class KitTests(SynchronousTestCase):
    def shard(self, spool: type[MemorySpool]) -> type[MemoryShard]:
        class CarelessShard(MemoryShard):
            def open(self) -> ISpool:
                holder = spool(self.clock, self.shelf)
                self._holders.append(holder)
                return holder

        return CarelessShard

    def test_a_spool_that_keeps_the_contract_passes(self) -> None:
        check_spool(MemoryShard)

    def test_a_spool_that_breaks_it_is_told_how(self) -> None:
        for spool, clause in (
            (Forgetful, "an_entry_goes_with_its_last_recipient"),
            (Fenceless, "the_settlement_of_a_holder_who_came_too_late_is_refused"),
            (Greedy, "excluded_destinations_are_passed_over"),
            (Lenient, "recovering_ends_the_claims_of_the_dead"),
            (Repetitive, "no_two_drafts_have_one_id"),
        ):
            problem = self.assertRaises(AssertionError, check_spool, self.shard(spool))
            self.assertIn(f"test_{clause}:", str(problem))
