"""An operator on a disk that stops after its n-th call, for every n, or on which the n-th call fails."""

from __future__ import annotations

from relay.interfaces import ActUnknown, SpoolError
from relay.mail.routing import Forward
from relay.mail.selection import Act, Reroute, Selection, Steered, Verb
from tests import test_spool_faults
from tests.test_spool_faults import LARGE, SMALL, Correspondent


class Operator(Correspondent):
    """Holds and releases all that is there, sends it another way, and removes some of it."""

    async def everything(self) -> None:
        everybody = Selection()
        small, large = await self.keep(SMALL, lease=None), await self.keep(LARGE, lease=None)
        assert small is large is None
        kept = [id for id, there in self.story.kept.items() if there]
        await self.steer(Verb.HOLD, everybody)
        await self.delete(kept[:1])
        await self.steer(Reroute(Forward("other.example")), everybody)
        await self.delete(kept[-1:])
        await self.keep(SMALL, lease=None)
        await self.steer(Verb.FAIL, Selection(ids=tuple(kept[1:2])))
        await self.steer(Verb.RETRY, everybody)
        await self.steer(Verb.RELEASE, everybody)

    async def delete(self, ids: list[str]) -> None:
        """Until the answer comes, both ends may be true of it."""
        before = {id: self.story.kept[id] for id in ids}
        self.story.kept.update(dict.fromkeys(ids))
        steered = await self.steer(Verb.DELETE, Selection(ids=tuple(ids)) if ids else Selection(ids=("NOBODY",)))
        if steered is None:
            return
        gone = {one.entry for one in steered.done}
        self.story.kept.update({id: False if id in gone else was for id, was in before.items()})

    async def steer(self, act: Act, selection: Selection) -> Steered | None:
        """What was done, or `None` where nobody can say."""
        try:
            return await self.spool.steer(act, selection)
        except ActUnknown:
            return None
        except SpoolError:
            return Steered(())


class OperatorFaultTests(test_spool_faults.FaultTests):
    """The same laws. What is held at the end of a life is released by the next operator, and only then found."""

    correspondent = Operator
    outcome = [False] * 2 + [True] * 3

    def check(self, shard: test_spool_faults.SqliteShard) -> None:
        spool = shard.open()
        test_spool_faults.start(spool.recover())
        test_spool_faults.start(spool.steer(Verb.RELEASE, Selection()))
        shard.die()
        super().check(shard)
