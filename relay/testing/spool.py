"""
For those who write a spool: its contract (`relay.interfaces.ISpool`) as a test case.

    class SqliteSpoolTests(SpoolContract, SynchronousTestCase):
        def make_shard(self) -> Shard:
            return SqliteShard()

A `Shard` (`relay.testing.spool_case`) is the spool as the contract sees it: several holders may have it, their time
is a `Clock`, it outlives them, and things go wrong when a test says so. A spool that answers at once is tested in
milliseconds; for one that waits for threads or for a server, the contract is mixed into trial's asynchronous
`TestCase`. `check_spool` is the same as a function, with what `relay.testing.spool_operator` adds.
"""

from __future__ import annotations

import contextlib
import unittest
from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from relay.interfaces import (
    Claim,
    ClaimLost,
    Enrol,
    IContent,
    IDraft,
    ISpool,
    OutcomeUnknown,
    Postpone,
    Renew,
    Settle,
    SpoolError,
)
from relay.mail.address import Address, parse_address
from relay.mail.dsn import Notify, Return, Wishes
from relay.mail.envelope import Body, ByMode, Client, DeliverBy, Form
from relay.mail.queue import Census, Pending, Recipient
from relay.mail.reply import Reply
from relay.mail.routing import Deliver, Discard, Forward, Hold, NextHop, Reject, Route
from relay.mail.tls import Subject, TlsFacts
from relay.smtp.octets import plain
from relay.testing.spool_case import (
    A_WHILE,
    GONE,
    LEASE,
    LETTER,
    NEVER,
    NOON,
    NOT_NOW,
    Shard,
    SpoolCase,
    addresses,
    awaited,
    clause,
    entry,
    given_back,
    octets,
    postponed,
    recipient,
    settled,
)
from relay.testing.spool_operator import OperatorContract


class SpoolContract(SpoolCase):
    """
    The contract, one clause a test. Mix it into a test case. What an operator asks and does is in
    `relay.testing.spool_operator`.
    """

    # Keeping.

    @clause
    async def test_it_provides_the_interfaces(self) -> None:
        spool = await self.opened()
        verifyObject(ISpool, spool)
        verifyObject(IDraft, spool.begin(Form.WIRE))
        verifyObject(IContent, (await self.claimed(spool)).content)
        await self.restarted()

    @clause
    async def test_what_was_committed_is_found_by_its_id(self) -> None:
        spool = await self.opened()
        subject = Subject("CN=jon", "jon", ("jon.example.net",), ("jon@example.net",), "f" * 64)
        tls = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, subject)
        client = Client("2001:db8::1", 40000, "client.example.net", True, "submission", "jon", tls, True)
        envelope = {
            "body": Body.EIGHT_BIT,
            "smtputf8": True,
            "client": client,
            "returns": Return.HEADERS,
            "envid": "QQ+2B314159",
            "require_tls": True,
            "priority": -3,
            "deliver_by": DeliverBy(NOON + 60.5, ByMode.NOTIFY, trace=True),
            "release": NOON - 1.5,
        }
        routes: tuple[Route, ...] = (
            Forward((NextHop("example.org"), NextHop("192.0.2.1", 2525, False)), "outbound"),
            Deliver("maildir", {"folder": "elvis/new", "größe": "1"}, "mailboxes"),
            Reject(Reply.of(550, "5.1.1", "no such user", "here"), "closed"),
            Hold("suspicious"),
        )
        original = parse_address("team@example.org")
        to = [
            recipient("", f"user{number}@example.org", route, original=original) for number, route in enumerate(routes)
        ]
        to.append(evolve(to[0], address=Address('strange "@" one', "[IPv6:2001:db8::1]"), policy=""))
        to[1] = evolve(to[1], wishes=Wishes(frozenset([Notify.SUCCESS, Notify.DELAY]), "rfc822;a+2Bb@example.org"))
        to[2] = evolve(to[2], wishes=Wishes(frozenset([Notify.NEVER])))
        enrol = await self.enrolled(spool, *to, **envelope)
        async for holder in self.now_and_restarted(spool):
            found = await holder.look_up(enrol.entry.id)
            assert found is not None
            self.assertEqual(found[0], enrol.entry)
            self.assertEqual(
                sorted(found[1], key=lambda pending: pending.recipient.id),
                [Pending(each, due=NOON) for each in enrol.recipients],
            )

    @clause
    async def test_the_null_reverse_path_is_kept_as_such(self) -> None:
        spool = await self.opened()
        enrol = await self.enrolled(spool, sender=None)
        found = await (await self.restarted()).look_up(enrol.entry.id)
        assert found is not None
        self.assertEqual(found[0], enrol.entry)
        self.assertIsNone(found[0].envelope.reverse_path)

    @clause
    async def test_what_was_not_committed_was_never_there(self) -> None:
        spool = await self.opened()
        enrol, abandoned = self.enrolment(spool), self.enrolment(spool, content=b"x" * 300_000)
        abandoned.draft.abandon()
        abandoned.draft.abandon()
        with self.assertRaises(ValueError):
            await spool.commit([abandoned])
        spool = await self.restarted()
        for one in (enrol, abandoned):
            self.assertIsNone(await spool.look_up(one.entry.id))
        self.assertEqual(await self.due(spool), [])

    @clause
    async def test_content_of_any_size_comes_back_octet_for_octet(self) -> None:
        spool = await self.opened()
        kept = {}
        for size in (0, 1, 1000, 65_536, 65_537, 300_000, 1_000_003):
            for form in Form:
                text = (b".dots\r\n\x00\xff" * (size // 9 + 1))[:size]
                content = text if form is Form.PLAIN else b"\r\n." + text + b"\r\n.\r\n"
                draft = spool.begin(form)
                for at in range(0, len(content), 50_000):
                    draft.write(content[at : at + 50_000])
                (claim,) = await spool.commit([Enrol(entry(draft.id), draft, (recipient(draft.id + ".0"),), LEASE)])
                kept[draft.id] = (form, content)
                self._is_whole(claim, form, content)
        spool = await self.restarted()
        claims = await self.due(spool)
        self.assertEqual({claim.entry.id for claim in claims}, set(kept))
        for claim in claims:
            self._is_whole(claim, *kept[claim.entry.id])

    def _is_whole(self, claim: Claim, form: Form, content: bytes) -> None:
        for _attempt in range(2):
            blocks = list(claim.content.blocks())
            self.assertEqual(b"".join(blocks), content)
            self.assertLessEqual(max(map(len, blocks), default=0), 256 * 1024)
        self.assertEqual(claim.content.form, form)
        size = len(content) if form is Form.PLAIN else len(b"".join(plain([content])))
        self.assertEqual(claim.content.size, size)

    @clause
    async def test_a_draft_is_read_back_and_its_beginning_replaced(self) -> None:
        draft = (await self.opened()).begin(Form.WIRE)
        self.assertEqual(draft.form, Form.WIRE)
        draft.write(b"Subject: a\r\n\r\n")
        draft.write(b"..\r\n.\r\n")
        self.assertEqual(b"".join(draft.blocks()), b"Subject: a\r\n\r\n..\r\n.\r\n")
        draft.replace(12, b"X-Other: b\r\n")
        self.assertEqual(b"".join(draft.blocks()), b"X-Other: b\r\n\r\n..\r\n.\r\n")
        draft.abandon()

    @clause
    async def test_a_draft_is_used_once(self) -> None:
        spool = await self.opened()
        enrol = await self.enrolled(spool)
        await self.fails(ValueError, spool.commit([enrol]))
        with self.assertRaises(ValueError):
            enrol.draft.write(b"more")
        self.assertIsNotNone(await spool.look_up(enrol.entry.id))

    @clause
    async def test_an_enrolment_without_meaning_is_an_error_of_ours(self) -> None:
        spool = await self.opened()
        discarded = self.enrolment(spool, recipient("", route=Discard()))
        await self.refused(ValueError, spool, discarded)
        await self.refused(ValueError, spool, evolve(self.enrolment(spool), recipients=()))
        other = self.enrolment(spool)
        await self.refused(ValueError, spool, evolve(self.enrolment(spool), draft=other.draft))

    @clause
    async def test_no_two_drafts_have_one_id(self) -> None:
        first, second = await self.opened(), await self.opened()
        ids = [spool.begin(Form.WIRE).id for spool in (first, second) for _ in range(500)]
        self.assertEqual(len(set(ids)), len(ids))
        again = await self.restarted()
        self.assertNotEqual(again.begin(Form.WIRE).id, first)

    @clause
    async def test_there_is_no_room_for_more_than_there_is(self) -> None:
        spool = await self.opened()
        self.assertTrue(spool.room(1000))
        self.assertFalse(spool.room(1 << 60))

    # Claiming.

    @clause
    async def test_a_commit_with_a_lease_hands_over_a_claim_at_once(self) -> None:
        spool, other = await self.opened(), await self.opened()
        enrol = self.enrolment(spool, lease=LEASE)
        (claim,) = await spool.commit([enrol])
        self.assertEqual((claim.entry, claim.expires), (enrol.entry, self.now + LEASE))
        self.assertEqual(claim.pending, (Pending(enrol.recipients[0], due=self.now),))
        self.assertEqual(octets(claim.content), LETTER)
        for holder in (spool, other):
            self.assertEqual(await self.due(holder), [])
        self.assertEqual(await spool.next_due(), claim.expires)

    @clause
    async def test_a_commit_hands_over_one_claim_for_each_destination(self) -> None:
        spool = await self.opened()
        first = self.enrolment(spool, "a@x.example", "b@y.example", recipient("", "c@x.example", Hold()), lease=LEASE)
        second = self.enrolment(spool, "d@x.example", "e@x.example", lease=LEASE)
        third = self.enrolment(spool, "f@x.example")
        claims = await spool.commit([first, third, second])
        self.assertEqual(
            [addresses([claim]) for claim in claims], [["a@x.example"], ["b@y.example"], addresses(claims[2:])]
        )
        self.assertEqual(addresses(claims[2:]), ["d@x.example", "e@x.example"])
        self.assertEqual(len({claim.token for claim in claims}), 3)
        self.assertFalse(claims[0].fresh or claims[1].fresh, "what one carries may be what the other one wants to")
        self.assertEqual(addresses(await self.due(spool)), ["f@x.example"])

    @clause
    async def test_what_is_due_is_claimed_once(self) -> None:
        spool, other = await self.opened(), await self.opened()
        enrol = await self.enrolled(spool)
        (claim,) = await self.due(other)
        self.assertEqual(claim.entry, enrol.entry)
        self.assertEqual(claim.pending, (Pending(enrol.recipients[0], due=self.now),))
        self.assertEqual(claim.expires, self.now + LEASE)
        self.assertEqual(octets(claim.content), LETTER)
        for holder in (spool, other):
            self.assertEqual(await self.due(holder), [])

    @clause
    async def test_recipients_of_one_destination_come_in_one_claim(self) -> None:
        spool = await self.opened()
        await self.enrolled(spool, "a@x.example", "b@y.example", "c@x.example")
        await self.enrolled(spool, "d@x.example")
        claims = await self.due(spool)
        self.assertEqual(
            sorted(sorted(addresses([claim])) for claim in claims),
            [["a@x.example", "c@x.example"], ["b@y.example"], ["d@x.example"]],
        )

    @clause
    async def test_the_longest_due_come_first_and_no_more_than_asked_for(self) -> None:
        spool = await self.opened()
        claims = [await self.claimed(spool, f"u{number}@example.org") for number in range(6)]
        for number, claim in enumerate(claims):
            await spool.commit([postponed(claim, self.now + 60 - number)])
        self.assertEqual(await self.due(spool), [])
        self.assertEqual(await spool.next_due(), self.now + 55)
        self.pass_time(59)
        self.assertEqual(addresses(await self.due(spool, 2)), ["u5@example.org", "u4@example.org"])
        self.assertEqual(addresses(await self.due(spool, 0)), [])
        self.assertEqual(addresses(await self.due(spool)), ["u3@example.org", "u2@example.org", "u1@example.org"])
        self.assertEqual(await spool.next_due(), NOON + 60)

    @clause
    async def test_excluded_destinations_are_passed_over(self) -> None:
        spool = await self.opened()
        await self.enrolled(spool, "a@x.example", "b@y.example", "c@z.example")
        excluding = ["x.example", "y.example"]
        self.assertEqual(await spool.next_due(excluding), self.now)
        self.assertEqual(addresses(await self.due(spool, 10, excluding)), ["c@z.example"])
        self.assertEqual(await spool.next_due(excluding), self.now + LEASE)
        self.assertIsNone(await spool.next_due([*excluding, "z.example"]))
        self.assertEqual(len(await self.due(spool)), 2)

    @clause
    async def test_a_long_queue_for_one_destination_holds_up_no_other(self) -> None:
        spool = await self.opened()
        many = [f"u{number}@busy.example" for number in range(1100)]
        for at in range(0, len(many), 100):
            await self.enrolled(spool, *many[at : at + 100])
        self.pass_time(1)
        await self.enrolled(spool, "a@x.example", "b@y.example")
        await self.enrolled(spool, "c@x.example")
        self.assertEqual(await spool.next_due(["busy.example"]), self.now)
        claims = await self.due(spool, 10, ["busy.example"])
        self.assertEqual(sorted(addresses(claims)), ["a@x.example", "b@y.example", "c@x.example"])
        self.assertEqual(await spool.next_due(["busy.example"]), self.now + LEASE)
        self.assertIsNone(await spool.next_due(["busy.example", "x.example", "y.example"]))

    @clause
    async def test_beside_a_long_queue_the_longest_due_come_first_too(self) -> None:
        spool = await self.opened()
        for _ in range(11):
            await self.enrolled(spool, *(f"u{number}@busy.example" for number in range(100)))
        for wait, to in ((40, "b@x.example"), (10, "a@x.example"), (20, "c@y.example"), (60, "d@z.example")):
            await spool.commit([postponed(await self.claimed(spool, to), self.now + wait)])
        self.pass_time(50)
        busy = ["busy.example"]
        self.assertEqual(addresses(await self.due(spool, 2, busy)), ["a@x.example", "c@y.example"])
        self.assertEqual(await spool.next_due(busy), NOON + 40)
        self.assertEqual(addresses(await self.due(spool, 2, busy)), ["b@x.example"])

    @clause
    async def test_held_recipients_are_kept_and_never_claimed(self) -> None:
        spool = await self.opened()
        enrol = self.enrolment(spool, recipient("", route=Hold("suspicious")), lease=LEASE)
        self.assertEqual(await spool.commit([enrol]), ())
        async for holder in self.now_and_restarted(spool):
            self.pass_time(10 * LEASE)
            self.assertEqual(await self.due(holder), [])
            self.assertIsNone(await holder.next_due())
            found = await holder.look_up(enrol.entry.id)
            assert found is not None
            self.assertEqual(found[1][0].recipient, enrol.recipients[0])
            self.assertEqual((await holder.census()).held, 1)

    @clause
    async def test_nothing_is_due_in_an_empty_spool(self) -> None:
        spool = await self.opened()
        self.assertEqual(await self.due(spool), [])
        self.assertIsNone(await spool.next_due())
        self.assertIsNone(await spool.look_up("00000000000000"))
        self.assertEqual(await spool.commit([]), ())

    # Leases and fences.

    @clause
    async def test_when_a_lease_expires_another_holder_may_claim(self) -> None:
        spool, other = await self.opened(), await self.opened()
        claim = await self.claimed(spool)
        self.pass_time(LEASE - 1)
        self.assertEqual(await self.due(other), [])
        self.pass_time(1)
        (again,) = await self.due(other)
        self.assertEqual((again.entry, again.pending), (claim.entry, claim.pending))
        self.assertNotEqual(again.token, claim.token)
        self.assertFalse(again.fresh, "the one before may have carried it")

    @clause
    async def test_the_settlement_of_a_holder_who_came_too_late_is_refused(self) -> None:
        spool, other = await self.opened(), await self.opened()
        late = await self.claimed(spool)
        self.pass_time(LEASE)
        (claim,) = await self.due(other)
        for step in (settled(late), postponed(late, self.now), given_back(late), Renew(late, LEASE)):
            await self.fails(ClaimLost, spool.commit([step]))
        await other.commit([settled(claim)])
        for step in (settled(late), settled(claim), Renew(claim, LEASE)):
            await self.fails(ClaimLost, spool.commit([step]))
        self.assertIsNone(await spool.look_up(claim.entry.id))

    @clause
    async def test_an_expired_lease_that_nobody_took_is_still_its_holders(self) -> None:
        spool = await self.opened()
        claim = await self.claimed(spool)
        self.pass_time(2 * LEASE)
        await spool.commit([settled(claim)])
        self.assertIsNone(await spool.look_up(claim.entry.id))

    @clause
    async def test_a_renewed_lease_goes_on(self) -> None:
        spool, other = await self.opened(), await self.opened()
        claim = await self.claimed(spool, "a@x.example", "b@x.example")
        self.pass_time(LEASE - 1)
        await spool.commit([Renew(claim, LEASE)])
        self.assertEqual(await spool.next_due(), self.now + LEASE)
        self.pass_time(LEASE - 1)
        self.assertEqual(await self.due(other), [])
        await spool.commit([Settle(claim, ((claim.pending[0].recipient, GONE),)), Renew(claim, LEASE)])
        self.pass_time(LEASE)
        self.assertEqual(addresses(await self.due(other)), ["b@x.example"])

    @clause
    async def test_what_is_given_back_is_due_as_it_was(self) -> None:
        spool = await self.opened()
        claim = await self.claimed(spool)
        due = self.now
        self.pass_time(10)
        await spool.commit([given_back(claim)])
        (again,) = await self.due(spool)
        self.assertEqual(again.pending, claim.pending)
        self.assertEqual(again.pending[0].due, due)

    @clause
    async def test_what_is_postponed_is_tried_again_at_its_time(self) -> None:
        spool = await self.opened()
        claim = await self.claimed(spool, "a@x.example", "b@x.example")
        first, second = (pending.recipient for pending in claim.pending)
        await spool.commit([Postpone(claim, ((first, self.now + 60, NOT_NOW), (second, self.now + 90, NOT_NOW)))])
        self.pass_time(60)
        spool = await self.restarted()
        (again,) = await self.due(spool)
        self.assertEqual(again.pending, (Pending(first, 1, NOON + 60, NOT_NOW),))
        await spool.commit([postponed(again, NOON + 100)])
        self.pass_time(40)
        claims = await self.due(spool)
        self.assertEqual(
            sorted((one.recipient.id, one.attempts) for claim in claims for one in claim.pending),
            [(first.id, 2), (second.id, 1)],
        )

    @clause
    async def test_recovering_ends_the_claims_of_the_dead(self) -> None:
        spool = await self.opened()
        claim = await self.claimed(spool)
        await self.enrolled(spool, "b@x.example")
        await self.due(spool)
        again = await self.restarted()
        claims = await self.due(again)
        self.assertEqual(sorted(addresses(claims)), ["b@x.example", "elvis@example.org"])
        await self.fails(ClaimLost, again.commit([settled(claim)]))

    # Settling, all or none.

    @clause
    async def test_an_entry_goes_with_its_last_recipient(self) -> None:
        spool = await self.opened()
        claim = await self.claimed(spool, "a@x.example", "b@x.example")
        first, second = (pending.recipient for pending in claim.pending)
        await spool.commit([Settle(claim, ((first, GONE),))])
        found = await spool.look_up(claim.entry.id)
        assert found is not None
        self.assertEqual([pending.recipient for pending in found[1]], [second])
        await spool.commit([Settle(claim, ((second, NEVER),))])
        async for holder in self.now_and_restarted(spool):
            self.assertIsNone(await holder.look_up(claim.entry.id))
            self.assertEqual(await holder.census(), Census(0, 0, 0, 0, 0, None))

    @clause
    async def test_a_failure_and_its_notice_are_one_commit(self) -> None:
        spool = await self.opened()
        claim = await self.claimed(spool)
        notice = self.enrolment(spool, "jon@example.net", sender=None, lease=LEASE)
        (handed_over,) = await spool.commit([settled(claim, NEVER), notice])
        self.assertEqual(handed_over.entry, notice.entry)
        async for holder in self.now_and_restarted(spool):
            self.assertIsNone(await holder.look_up(claim.entry.id))
            self.assertIsNotNone(await holder.look_up(notice.entry.id))

    @clause
    async def test_if_the_claim_is_lost_there_is_no_notice_either(self) -> None:
        spool, other = await self.opened(), await self.opened()
        lost, mine = await self.claimed(spool), await self.claimed(spool, "a@x.example")
        self.pass_time(LEASE)
        claims = await self.due(other)
        self.assertEqual(len(claims), 2)
        await other.commit([given_back(claim) for claim in claims if claim.entry == mine.entry])
        (mine,) = await self.due(spool)
        notice = self.enrolment(spool, "jon@example.net", sender=None)
        await self.fails(ClaimLost, spool.commit([settled(mine), notice, settled(lost, NEVER)]))
        async for holder in self.now_and_restarted(spool):
            self.assertIsNone(await holder.look_up(notice.entry.id))
            for claim in (lost, mine):
                self.assertIsNotNone(await holder.look_up(claim.entry.id))

    @clause
    async def test_many_steps_are_one_commit(self) -> None:
        spool = await self.opened()
        claims = [await self.claimed(spool, f"u{number}@example.org") for number in range(4)]
        enrol = self.enrolment(spool)
        await spool.commit(
            [
                settled(claims[0]),
                postponed(claims[1], self.now + 60),
                given_back(claims[2]),
                Renew(claims[3], 600),
                enrol,
            ]
        )
        self.assertEqual(await spool.census(), Census(3, 1, 0, 0, 4, NOON))
        self.pass_time(60)
        self.assertEqual(
            sorted(addresses(await self.due(spool))), ["elvis@example.org", "u1@example.org", "u2@example.org"]
        )

    @clause
    async def test_commits_at_the_same_time_do_not_fail_together(self) -> None:
        spool = await self.opened()
        claim = await self.claimed(spool)
        await spool.commit([settled(claim)])
        good = [self.enrolment(spool, f"u{number}@example.org") for number in range(5)]
        bad = [self.enrolment(spool, f"v{number}@example.org") for number in range(2)]
        steps: list[Any] = [[one] for one in good]
        steps[1:1] = [[bad[0], settled(claim)]]
        steps[4:4] = [[settled(claim), bad[1]]]
        waiting = [Deferred.fromCoroutine(awaited(spool.commit(each))) for each in steps]
        outcomes = [await commit.addCallbacks(lambda _: None, lambda failure: failure.type) for commit in waiting]
        self.assertEqual(outcomes, [None, ClaimLost, None, None, ClaimLost, None, None])
        for one in good:
            self.assertIsNotNone(await spool.look_up(one.entry.id))
        for one in bad:
            self.assertIsNone(await spool.look_up(one.entry.id))

    @clause
    async def test_a_recipient_that_is_not_in_the_claim_is_an_error_of_ours(self) -> None:
        spool = await self.opened()
        claim, other = await self.claimed(spool), await self.claimed(spool)
        wrong = Settle(claim, ((other.pending[0].recipient, GONE),))
        await self.fails(ValueError, spool.commit([wrong]))

    # Waiting for a time of its own.

    @clause
    async def test_what_may_not_be_released_yet_waits_for_its_time(self) -> None:
        spool = await self.opened()
        later = self.enrolment(spool, "a@x.example", recipient("", route=Hold()), lease=LEASE, release=self.now + 3600)
        self.assertEqual(await spool.commit([later]), ())
        async for holder in self.now_and_restarted(spool):
            self.assertEqual(await self.due(holder), [])
            self.assertEqual(await holder.next_due(), NOON + 3600)
            self.assertEqual((await holder.census()).waiting, 1)
            spool = holder
        self.pass_time(3600)
        (claim,) = await self.due(spool)
        self.assertEqual(claim.pending, (Pending(later.recipients[0], due=NOON + 3600),))
        (claim,) = await spool.commit([self.enrolment(spool, lease=LEASE, release=NOON + 3600)])
        self.assertEqual(claim.pending[0].due, self.now)

    async def waiting(self, spool: ISpool, *to: str | Recipient, seconds: float = 3600, **fields: Any) -> Claim:
        """Recipients that are tried again later."""
        claim = await self.claimed(spool, *to, **fields)
        await spool.commit([postponed(claim, self.now + seconds)])
        return claim

    @clause
    async def test_who_waits_for_a_domain_can_be_made_due(self) -> None:
        spool = await self.opened()
        await self.waiting(spool, "a@x.example")
        await self.waiting(spool, "b@sub.x.example")
        await self.waiting(spool, "c@xx.example")
        tricky = Address("@x.example", "y.example")
        await self.waiting(spool, Recipient("", tricky, tricky, Forward("y.example"), "y.example"))
        await self.waiting(
            spool, recipient("", "d@y.example", Forward((NextHop("x.example"),)), destination="x.example")
        )
        self.assertEqual(await self.due(spool), [])
        self.pass_time(10)
        self.assertEqual(await spool.hasten("z.example", self.now), 0)
        self.assertEqual(await spool.hasten("x.example", self.now), 2)
        self.assertEqual(await spool.hasten("x.example", self.now), 0)
        claims = await self.due(spool)
        self.assertEqual(sorted(addresses(claims)), ["a@x.example", "d@y.example"])
        for claim in claims:
            self.assertEqual((claim.pending[0].due, claim.pending[0].attempts), (self.now, 1))
        self.assertEqual(await spool.hasten("x.example", self.now, below=True), 1)
        spool = await self.restarted()
        self.assertIn("b@sub.x.example", addresses(await self.due(spool)))

    @clause
    async def test_haste_concerns_nobody_who_does_not_wait_for_the_next_attempt(self) -> None:
        spool = await self.opened()
        await self.enrolled(spool, "due@x.example")
        await self.enrolled(spool, recipient("", "held@x.example", Hold()))
        await self.enrolled(spool, "later@x.example", release=self.now + 7200)
        self.pass_time(10)
        (due,) = await self.due(spool)
        await self.claimed(spool, "claimed@x.example")
        self.assertEqual(await spool.hasten("x.example", self.now, below=True), 0)
        await spool.commit([given_back(due)])
        self.assertEqual(addresses(await self.due(spool)), ["due@x.example"])
        # Once it was released it waits as others do.
        self.pass_time(7200)
        (claim,) = [claim for claim in await self.due(spool) if claim.entry.envelope.release is not None]
        await spool.commit([postponed(claim, self.now + 60)])
        self.assertEqual(await spool.hasten("x.example", self.now), 1)

    # Counting.

    @clause
    async def test_the_census_counts_recipients_by_state(self) -> None:
        spool = await self.opened()
        await self.enrolled(spool, "a@x.example", "b@x.example", recipient("", "c@x.example", Hold()))
        self.pass_time(10)
        await self.claimed(spool, "d@x.example")
        claim = await self.claimed(spool, "e@x.example")
        await spool.commit([postponed(claim, self.now + 60)])
        self.assertEqual(await spool.census(), Census(3, 1, 1, 0, 3, NOON))
        self.pass_time(LEASE)
        self.assertEqual(await spool.census(), Census(4, 0, 1, 0, 3, NOON))

    # Trouble.

    @clause
    async def test_an_error_means_that_nothing_was_kept(self) -> None:
        spool = await self.opened()
        before = await self.enrolled(spool)
        enrol = self.enrolment(spool, content=b"x" * 100_000)
        self.shard.fail_commit(kept=False)
        await self.refused(SpoolError, spool, enrol)
        self.assertTrue(spool.accepting)
        after = await self.enrolled(spool)
        spool = await self.restarted()
        self.assertIsNone(await spool.look_up(enrol.entry.id))
        self.assertEqual({claim.entry.id for claim in await self.due(spool)}, {before.entry.id, after.entry.id})

    @clause
    async def test_an_error_of_a_settlement_leaves_the_claim(self) -> None:
        spool = await self.opened()
        claim = await self.claimed(spool)
        notice = self.enrolment(spool, sender=None)
        self.shard.fail_commit(kept=False)
        await self.fails(SpoolError, spool.commit([settled(claim, NEVER), notice]))
        self.assertIsNone(await spool.look_up(notice.entry.id))
        await spool.commit([settled(claim, NEVER), self.enrolment(spool, sender=None)])
        self.assertIsNone(await spool.look_up(claim.entry.id))

    @clause
    async def test_an_error_behind_which_the_commit_is_there_is_told_as_it_is(self) -> None:
        """Either it counts, and then it is durable, or it has been taken back: never something in between."""
        spool = await self.opened()
        claim = await self.claimed(spool)
        enrol = self.enrolment(spool)
        self.shard.fail_commit(kept=True)
        try:
            await spool.commit([settled(claim), enrol])
        except SpoolError:
            expected = [claim.entry.id]
        else:
            expected = [enrol.entry.id]
        self.assertTrue(spool.accepting)
        async for holder in self.now_and_restarted(spool):
            found = [id for id in (claim.entry.id, enrol.entry.id) if await holder.look_up(id) is not None]
            self.assertEqual(found, expected)

    @clause
    async def test_where_nobody_can_say_whether_it_was_kept_no_more_is_accepted(self) -> None:
        for kept in (True, False):
            spool = await self.opened()
            claim = await self.claimed(spool)
            content = b"x" * 100_000
            enrol = self.enrolment(spool, "a@x.example", content=content)
            self.shard.fail_commit(kept=kept, probes=2)
            await self.fails(OutcomeUnknown, spool.commit([enrol]))
            self.assertFalse(spool.accepting)
            await self.fails(SpoolError, spool.commit([settled(claim)]))
            with self.assertRaises(SpoolError):
                spool.begin(Form.WIRE)
            for _ in range(10):
                self.pass_time(A_WHILE)
                # What is asked while a probe is under way is answered behind it, if only with an error.
                with contextlib.suppress(SpoolError):
                    await spool.next_due()
            self.assertTrue(spool.accepting)
            await spool.commit([settled(claim)])
            known = await self.enrolled(spool)
            found = await spool.look_up(enrol.entry.id)
            again = await self.restarted()
            self.assertEqual(await again.look_up(enrol.entry.id), found)
            self.assertIsNotNone(await again.look_up(known.entry.id))
            claims = {claim.entry.id: claim for claim in await self.due(again)}
            if found is not None:
                self.assertEqual(octets(claims[enrol.entry.id].content), content)
            await again.commit([settled(claim) for claim in claims.values()])

    @clause
    async def test_what_waits_while_nothing_is_accepted_is_refused_for_certain(self) -> None:
        spool = await self.opened()
        prepared = self.enrolment(spool)
        self.shard.fail_commit(kept=False, probes=1)
        await self.fails(OutcomeUnknown, spool.commit([self.enrolment(spool)]))
        await self.fails(SpoolError, spool.commit([prepared]))
        spool = await self.restarted()
        self.assertIsNone(await spool.look_up(prepared.entry.id))

    @clause
    async def test_a_damaged_entry_is_set_aside_and_all_else_goes_on(self) -> None:
        spool = await self.opened()
        good, bad = await self.enrolled(spool), await self.enrolled(spool, "b@x.example")
        self.shard.die()
        self.shard.damage(bad.entry.id)
        for _restart in range(2):
            self.shard.die()
            spool = self.shard.open()
            self.assertEqual(list(await spool.recover()), [bad.entry.id])
            self.assertEqual([claim.entry for claim in await self.due(spool)], [good.entry])
            self.assertEqual(await spool.census(), Census(0, 1, 0, 1, 2, NOON))
            problem = await self.fails(SpoolError, spool.look_up(bad.entry.id))
            self.assertIn(bad.entry.id, str(problem))
        self.pass_time(10 * LEASE)
        self.assertEqual([claim.entry for claim in await self.due(spool)], [good.entry])

    @clause
    async def test_a_closed_spool_says_so(self) -> None:
        spool = await self.opened()
        enrol = self.enrolment(spool)
        waiting = Deferred.fromCoroutine(awaited(spool.commit([enrol])))
        await spool.close()
        await waiting
        await spool.close()
        await self.fails(SpoolError, spool.commit([]))
        await self.fails(SpoolError, spool.next_due())
        with self.assertRaises(SpoolError):
            spool.begin(Form.WIRE)
        spool = await self.restarted()
        self.assertIsNotNone(await spool.look_up(enrol.entry.id))


def check_spool(make_shard: Callable[[], Shard]) -> None:
    """
    Whether a spool that answers at once keeps its contract. Raises `AssertionError` if not, with all that was found.
    """

    class Contract(SpoolContract, OperatorContract, SynchronousTestCase):
        def make_shard(self) -> Shard:
            return make_shard()

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Contract).run(result)
    troubles = [f"{test.id().rpartition('.')[2]}: {text}" for test, text in (*result.failures, *result.errors)]
    assert not troubles, "\n".join(troubles)
