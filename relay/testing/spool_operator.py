"""
For those who write a spool: what an operator asks of it and does with it, as a test case beside `SpoolContract`.

    class SqliteSpoolTests(SpoolContract, OperatorContract, SynchronousTestCase):
        def make_shard(self) -> Shard:
            return SqliteShard()
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from relay.interfaces import ActUnknown, ClaimLost, ISpool, Postpone, SpoolError
from relay.mail.address import Address
from relay.mail.dsn import Notify, Wishes
from relay.mail.outcome import Delayed
from relay.mail.queue import EXPANSION
from relay.mail.routing import Forward, Hold, NextHop
from relay.mail.selection import (
    GIVEN_UP,
    Act,
    Group,
    Holder,
    Queued,
    Reroute,
    Selection,
    State,
    Steered,
    Verb,
)
from relay.testing.spool_case import (
    A_WHILE,
    LEASE,
    LETTER,
    SpoolCase,
    addresses,
    clause,
    given_back,
    recipient,
    settled,
)

ALL = Selection()


class OperatorContract(SpoolCase):
    """The contract of `ISpool.select`, `tally` and `steer`, one clause a test."""

    # What clauses are made of.

    async def found(self, spool: ISpool, selection: Selection = ALL, most: int = 100) -> list[Queued]:
        """All that are meant, page after page."""
        found: list[Queued] = []
        after = ""
        while True:
            page = await spool.select(selection, most, after)
            self.assertLessEqual(len(page.queued), most)
            found += page.queued
            after = page.after
            if not after:
                return found

    async def names(self, spool: ISpool, **selection: Any) -> str:
        """The local parts of who is meant."""
        chosen = Selection(**selection)
        found = await self.found(spool, chosen)
        counted: Counter[State] = Counter()
        after = ""
        while True:
            tally = await spool.tally(chosen, after=after)
            for (_, state), count in tally.counts.items():
                counted[state] += count
            after = tally.after
            if not after:
                break
        self.assertEqual(counted, Counter(queued.state for queued in found))
        return " ".join(sorted(queued.pending.recipient.address.local for queued in found))

    async def steered(self, spool: ISpool, act: Act, **selection: Any) -> tuple[str, int, int]:
        """Who was changed, how many were busy, and to how many it means nothing."""
        done: list[Queued] = []
        busy = unmoved = 0
        after = ""
        while True:
            steered: Steered = await spool.steer(act, Selection(**selection), after)
            done += steered.done
            busy, unmoved, after = busy + steered.busy, unmoved + steered.unmoved, steered.after
            if not after:
                break
        return " ".join(sorted(one.pending.recipient.address.local for one in done)), busy, unmoved

    async def put_off(self, spool: ISpool, *to: Any, seconds: float = 3600, met: Delayed | None = None) -> str:
        """The id of an entry that was tried once, in vain."""
        claim = await self.claimed(spool, *to)
        met = met or Delayed("4.4.1", "connection refused", "", "mx.example.org[192.0.2.25]:25")
        delays = tuple((pending.recipient, self.now + seconds, met) for pending in claim.pending)
        await spool.commit([Postpone(claim, delays)])
        return claim.entry.id

    # Asking.

    @clause
    async def test_everybody_is_in_exactly_one_state(self) -> None:
        spool = await self.opened()
        await self.enrolled(spool, "new@x.example")
        await self.put_off(spool, "tried@x.example")
        await self.claimed(spool, "carried@x.example")
        await self.enrolled(spool, recipient("", "kept@x.example", Hold()))
        await self.enrolled(spool, "parked@x.example")
        self.assertEqual(await self.steered(spool, Verb.HOLD, to="parked@x.example"), ("parked", 0, 0))
        for state, who in (
            (State.WAITING, "new"),
            (State.DEFERRED, "tried"),
            (State.ACTIVE, "carried"),
            (State.HELD, "kept parked"),
        ):
            self.assertEqual(await self.names(spool, state=state), who)
        holders = {one.pending.recipient.address.local: one.held_by for one in await self.found(spool)}
        self.assertEqual((holders["kept"], holders["parked"], holders["new"]), (Holder.POLICY, Holder.OPERATOR, None))
        self.pass_time(LEASE)
        self.assertEqual(await self.names(spool, state=State.WAITING), "carried new")
        spool = await self.restarted()
        self.assertEqual(await self.names(spool, state=State.HELD), "kept parked")

    @clause
    async def test_who_is_meant_is_found_with_all_that_is_known(self) -> None:
        spool = await self.opened()
        wishes = Wishes(frozenset([Notify.NEVER]))
        enrol = await self.enrolled(
            spool, recipient("", "a@x.example", wishes=wishes), sender=None, release=self.now + 60
        )
        (found,) = await self.found(spool)
        self.assertEqual(
            (found.entry, found.arrived, found.sender, found.size),
            (enrol.entry.id, enrol.entry.arrived, None, len(LETTER) - len(b".\r\n")),
        )
        self.assertEqual(found.pending.recipient, enrol.recipients[0])
        self.assertEqual((found.state, found.release, found.held_by), (State.WAITING, self.now + 60, None))

    @clause
    async def test_a_selection_means_those_of_whom_all_of_it_is_true(self) -> None:
        spool = await self.opened()
        first = await self.enrolled(spool, "a@x.example", "b@y.example", sender="Jon@Example.NET")
        self.pass_time(100)
        hop = Forward(NextHop("192.0.2.7", 2525, False))
        await self.enrolled(
            spool, recipient("", "c%_@y.example", hop, destination="[192.0.2.7]:2525", policy="relays"), sender=None
        )
        verified = recipient("", "d@z.example", destination="z.example;tls=verify")
        await self.put_off(spool, verified, met=Delayed("4.7.1", "greylisted", "450 4.7.1 Wait 100%", "mx.Z"))
        for selection, who in (
            ({}, "a b c%_ d"),
            ({"to": "a@x.example"}, "a"),
            ({"to": "<A@X.example>"}, "a"),
            ({"to": "@y.example"}, "b c%_"),
            ({"to": "*@*.example"}, "a b c%_ d"),
            ({"to": "x.example"}, ""),
            ({"to": "c%_@*"}, "c%_"),
            ({"to": "%@y.example"}, ""),
            ({"sender": "<>"}, "c%_"),
            ({"sender": "jon@example.net"}, "a b d"),
            ({"sender": "@example.net", "destination": "y.example"}, "b"),
            ({"destination": "[192.*"}, "c%_"),
            ({"destination": "z.example"}, "d"),
            ({"destination": "*.EXAMPLE"}, "a b d"),
            ({"destination": "z.example;tls=verify"}, "d"),
            ({"destination": "z.example;tls"}, ""),
            ({"destination": "z"}, ""),
            ({"policy": "relays"}, "c%_"),
            ({"policy": "Relays"}, ""),
            ({"older": 100.0}, "a b"),
            ({"older": 100.5}, ""),
            ({"older": 0.0}, "a b c%_ d"),
            ({"reason": "GREYLIST"}, "d"),
            ({"reason": "100%"}, "d"),
            ({"reason": "1%0"}, ""),
            ({"reason": "4.7.1\n"}, "d"),
            ({"reason": "mx.z"}, "d"),
            ({"reason": "*"}, ""),
            ({"ids": (first.entry.id,)}, "a b"),
            ({"ids": (first.recipients[1].id, "NOBODY")}, "b"),
            ({"ids": (first.entry.id,), "to": "@x.example"}, "a"),
            ({"ids": ("NOBODY",)}, ""),
        ):
            self.assertEqual(await self.names(spool, **selection), who, selection)

    @clause
    async def test_one_who_was_named_otherwise_is_found_by_either_name(self) -> None:
        spool = await self.opened()
        named = recipient("", "all@x.example").address
        await self.enrolled(spool, recipient("", "a@y.example", original=named))
        self.assertEqual(await self.names(spool, to="@x.example"), "a")
        self.assertEqual(await self.names(spool, to="a@y.example"), "a")

    @clause
    async def test_pages_leave_out_nobody_and_name_nobody_twice(self) -> None:
        spool = await self.opened()
        for number in range(5):
            await self.enrolled(spool, *(f"u{number}{n}@x{n}.example" for n in range(3)))
        everybody = await self.found(spool)
        self.assertEqual(len(everybody), 15)
        keys = [queued.key.split(":") for queued in everybody]
        self.assertEqual(keys, sorted(keys))
        for most in (1, 2, 4, 15, 16):
            self.assertEqual(await self.found(spool, ALL, most), everybody)
            some = await self.found(spool, Selection(to="@x1.example"), most)
            self.assertEqual(len(some), 5)
        page = await spool.select(ALL, 100, everybody[6].key)
        self.assertEqual(list(page.queued), everybody[7:])

    @clause
    async def test_a_queue_is_counted_by_what_it_goes_to_comes_from_or_met(self) -> None:
        spool = await self.opened()
        await self.enrolled(spool, "a@x.example", "b@x.example", sender=None)
        await self.put_off(spool, "c@y.example")
        await self.claimed(spool, "d@y.example")
        for by, expected in (
            (
                Group.DESTINATION,
                {("x.example", "waiting"): 2, ("y.example", "deferred"): 1, ("y.example", "active"): 1},
            ),
            (
                Group.REASON,
                {("", "waiting"): 2, ("connection refused (4.4.1)", "deferred"): 1, ("", "active"): 1},
            ),
            (
                Group.SENDER,
                {("<>", "waiting"): 2, ("jon@example.net", "deferred"): 1, ("jon@example.net", "active"): 1},
            ),
            (Group.POLICY, {("outbound", "waiting"): 2, ("outbound", "deferred"): 1, ("outbound", "active"): 1}),
        ):
            tally = await spool.tally(ALL, by)
            self.assertEqual(tally.after, "")
            self.assertEqual({(name, state.value): count for (name, state), count in tally.counts.items()}, expected)

    @clause
    async def test_what_is_set_aside_is_not_in_the_queue(self) -> None:
        spool = await self.opened()
        broken = await self.enrolled(spool, "a@x.example")
        await self.enrolled(spool, "b@x.example")
        self.shard.die()
        self._opened = False
        self.shard.damage(broken.entry.id)
        spool = await self.opened()
        self.assertEqual(await self.names(spool), "b")
        self.assertEqual(await self.steered(spool, Verb.DELETE), ("b", 0, 0))

    # Acting.

    @clause
    async def test_who_is_held_waits_for_the_operator(self) -> None:
        spool = await self.opened()
        await self.put_off(spool, "a@x.example", "b@x.example")
        self.assertEqual(await self.steered(spool, Verb.HOLD, to="a@x.example"), ("a", 0, 0))
        self.assertEqual(await self.steered(spool, Verb.HOLD), ("b", 0, 1))
        self.assertEqual(await self.steered(spool, Verb.RETRY), ("", 0, 2))
        self.pass_time(7200)
        self.assertEqual(await self.due(spool), [])
        self.assertIsNone(await spool.next_due())
        self.assertEqual(await spool.hasten("x.example", self.now), 0)
        spool = await self.restarted()
        self.assertEqual(await self.due(spool), [])
        self.assertEqual((await spool.census()).held, 2)
        self.assertEqual(await self.steered(spool, Verb.RELEASE, to="b@x.example"), ("b", 0, 0))
        (claim,) = await self.due(spool)
        self.assertEqual((addresses([claim]), claim.pending[0].attempts), (["b@x.example"], 1))

    @clause
    async def test_who_is_to_be_tried_again_is_due_now(self) -> None:
        spool = await self.opened()
        await self.put_off(spool, "a@x.example")
        await self.enrolled(spool, "later@x.example", release=self.now + 600)
        await self.enrolled(spool, recipient("", "kept@x.example", Hold()))
        self.pass_time(1)
        self.assertEqual(await self.due(spool), [])
        self.assertEqual(await self.steered(spool, Verb.RETRY), ("a", 0, 2))
        (claim,) = await self.due(spool)
        self.assertEqual((claim.pending[0].due, claim.pending[0].attempts), (self.now, 1))

    @clause
    async def test_who_waits_for_a_release_may_be_released_and_who_a_policy_holds_has_nowhere_to_go(self) -> None:
        spool = await self.opened()
        await self.enrolled(spool, "later@x.example", release=self.now + 600)
        await self.enrolled(spool, "parked@x.example", release=self.now + 600)
        await self.enrolled(spool, recipient("", "kept@x.example", Hold()))
        await self.steered(spool, Verb.HOLD, to="parked@x.example")
        self.assertEqual(await self.steered(spool, Verb.RELEASE), ("later parked", 0, 1))
        self.assertEqual(addresses(await self.due(spool)), ["later@x.example"])
        self.pass_time(600)
        self.assertIn("parked@x.example", addresses(await self.due(spool)))

    @clause
    async def test_nobody_who_is_claimed_is_touched(self) -> None:
        spool = await self.opened()
        claim = await self.claimed(spool, "a@x.example")
        await self.enrolled(spool, "b@x.example")
        for act in (*Verb, Reroute(Forward("y.example"))):
            self.assertEqual(await self.steered(spool, act, to="a@x.example"), ("", 1, 0), act)
        self.assertEqual(await self.steered(spool, Verb.HOLD), ("b", 1, 0))
        await spool.commit([settled(claim)])
        self.assertEqual(await self.names(spool), "b")

    @clause
    async def test_a_claim_that_has_expired_is_lost_to_an_operator(self) -> None:
        spool = await self.opened()
        for act in (*Verb, Reroute(Forward("y.example"))):
            if act is Verb.RELEASE:
                continue
            claim = await self.claimed(spool, "a@x.example")
            self.pass_time(LEASE)
            self.assertEqual(await self.steered(spool, act, ids=(claim.entry.id,)), ("a", 0, 0), act)
            await self.fails(ClaimLost, spool.commit([settled(claim)]))
            await self.fails(ClaimLost, spool.commit([given_back(claim)]))

    @clause
    async def test_an_entry_goes_with_its_last_recipient_that_is_deleted(self) -> None:
        spool = await self.opened()
        enrol = await self.enrolled(spool, "a@x.example", "b@y.example", content=b"x" * 300_000)
        self.assertEqual(await self.steered(spool, Verb.DELETE, to="a@x.example"), ("a", 0, 0))
        found = await spool.look_up(enrol.entry.id)
        assert found is not None
        self.assertEqual([str(pending.recipient.address) for pending in found[1]], ["b@y.example"])
        self.assertEqual(await self.steered(spool, Verb.DELETE), ("b", 0, 0))
        async for holder in self.now_and_restarted(spool):
            self.assertIsNone(await holder.look_up(enrol.entry.id))

    @clause
    async def test_who_is_rerouted_goes_another_way(self) -> None:
        spool = await self.opened()
        way = Forward(NextHop("192.0.2.9", 2525, False), "by the operator")
        await self.put_off(spool, "a@x.example")
        await self.enrolled(spool, recipient("", "kept@x.example", Hold()))
        await self.enrolled(spool, "parked@x.example")
        await self.enrolled(spool, "later@x.example", release=self.now + 600)
        await self.enrolled(spool, recipient("", "team@x.example", EXPANSION, destination=EXPANSION.agent))
        await self.steered(spool, Verb.HOLD, to="parked@x.example")
        self.assertEqual(await self.steered(spool, Reroute(way)), ("a kept later parked", 0, 1))
        spool = await self.restarted()
        claims = await self.due(spool)
        for claim in claims:
            for pending in claim.pending:
                if pending.recipient.route != EXPANSION:
                    self.assertEqual(
                        (pending.recipient.route, pending.recipient.destination), (way, "[192.0.2.9]:2525")
                    )
        self.assertEqual(sorted(addresses(claims)), ["a@x.example", "kept@x.example", "team@x.example"])
        await self.steered(spool, Verb.RELEASE, to="parked@x.example")
        self.assertEqual(addresses(await self.due(spool)), ["parked@x.example"])
        self.pass_time(600)
        self.assertIn("later@x.example", addresses(await self.due(spool)))

    @clause
    async def test_who_is_rerouted_keeps_the_reverse_path_that_a_policy_has_given(self) -> None:
        spool = await self.opened()
        path = Address("news+a=x.example", "list.example")
        await self.enrolled(spool, recipient("", "a@x.example", Forward("x.example", reverse_path=path)))
        await self.enrolled(spool, recipient("", "b@x.example", Forward("x.example")))
        await self.steered(spool, Reroute(Forward("y.example")))
        spool = await self.restarted()
        found = {
            one.recipient.address.local: one.recipient.route for claim in await self.due(spool) for one in claim.pending
        }
        by = "by the operator"
        self.assertEqual(found, {"a": Forward("y.example", by, path), "b": Forward("y.example", by)})

    @clause
    async def test_who_is_given_up_is_due_to_be_settled_as_failed(self) -> None:
        spool = await self.opened()
        await self.put_off(spool, "a@x.example")
        await self.enrolled(spool, recipient("", "kept@x.example", Hold()))
        await self.enrolled(spool, "later@x.example", release=self.now + 600)
        await self.enrolled(spool, recipient("", "team@x.example", EXPANSION, destination=EXPANSION.agent))
        self.assertEqual(await self.steered(spool, Verb.FAIL), ("a kept later", 0, 1))
        self.assertEqual(await self.steered(spool, Verb.FAIL), ("", 0, 4))
        claims = await self.due(spool)
        routes = {str(pending.recipient.address): pending.recipient.route for one in claims for pending in one.pending}
        self.assertEqual(routes.pop("team@x.example"), EXPANSION)
        self.assertEqual(routes, dict.fromkeys(["a@x.example", "kept@x.example", "later@x.example"], GIVEN_UP))

    @clause
    async def test_more_are_changed_than_one_commit_takes(self) -> None:
        spool = await self.opened()
        for _ in range(3):
            await self.enrolled(spool, *(f"u{n}@x.example" for n in range(300)))
        who, busy, unmoved = await self.steered(spool, Verb.HOLD)
        self.assertEqual((len(who.split()), busy, unmoved), (900, 0, 0))
        self.assertEqual((await spool.census()).held, 900)

    # Trouble.

    @clause
    async def test_an_act_that_could_not_be_kept_has_not_happened(self) -> None:
        spool = await self.opened()
        await self.enrolled(spool, "a@x.example")
        self.shard.fail_commit(kept=False)
        await self.fails(SpoolError, spool.steer(Verb.DELETE, ALL))
        self.assertEqual(await self.names(spool), "a")

    @clause
    async def test_an_act_behind_whose_error_it_is_there_is_told_as_it_is(self) -> None:
        spool = await self.opened()
        await self.enrolled(spool, "a@x.example", "b@x.example")
        self.shard.fail_commit(kept=True)
        self.assertEqual(await self.steered(spool, Verb.HOLD), ("a b", 0, 0))
        self.assertEqual((await spool.census()).held, 2)

    @clause
    async def test_an_act_of_which_nobody_can_say_whether_it_was_kept_says_so(self) -> None:
        for kept in (True, False):
            spool = await self.opened()
            await self.enrolled(spool, "a@x.example")
            self.shard.fail_commit(kept=kept, probes=1)
            unknown = await self.fails(ActUnknown, spool.steer(Verb.HOLD, ALL))
            assert isinstance(unknown, ActUnknown)
            self.assertEqual([str(one.pending.recipient.address) for one in unknown.perhaps.done], ["a@x.example"])
            self.assertFalse(spool.accepting)
            await self.fails(SpoolError, spool.steer(Verb.HOLD, ALL))
            self.pass_time(A_WHILE)
            spool = await self.restarted()
            await self.steered(spool, Verb.DELETE)
            self.assertEqual(await self.found(spool), [])

    @clause
    async def test_a_closed_spool_answers_no_operator(self) -> None:
        spool = await self.opened()
        await spool.close()
        await self.fails(SpoolError, spool.select(ALL, 10))
        await self.fails(SpoolError, spool.tally(ALL))
        await self.fails(SpoolError, spool.steer(Verb.HOLD, ALL))
