"""What a commit's steps come to, whichever way they go."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relay.interfaces import Claim, Enrol, Settle
from relay.mail.envelope import Form
from relay.mail.outcome import Relayed
from relay.mail.queue import Pending
from relay.mail.routing import Deliver, Discard, Forward, Hold, Route
from relay.net.clock import ReactorClock
from relay.spool.contents import Budget, Draft, FileContent, Shelving
from relay.spool.disk import SpoolDisk
from relay.spool.layout import Layout, prepare
from relay.spool.plans import Plan, Planner
from relay.spool.strokes import ENROLMENT, SETTLE
from relay.testing.spool_case import entry, recipient

NOW = 1000.0
CONTENT = b"Subject: hello\r\n\r\n.\r\n"
ROUTES = st.sampled_from([Forward("example.org"), Deliver("maildir", {"user": "jon"}), Hold("later")])
RELEASES = st.sampled_from([None, NOW - 1, NOW, NOW + 1])
LEASES = st.sampled_from([None, 300.0])


class PlannerTests(SynchronousTestCase):
    def setUp(self) -> None:
        path = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, path)
        layout, disk = Layout(Path(path) / "spool"), SpoolDisk()
        prepare(layout, disk)
        self.shelving = Shelving(layout, disk, Budget(10**6), in_row=1000)
        self.removed: list[str] = []
        self.ids = (f"0123456789{number:04}" for number in count())

    def planner(self) -> Planner:
        clock: Any = ReactorClock(Clock(), lambda: NOW)
        no_files: Callable[[str, int], Any] = self.fail
        return Planner(clock, count(1).__next__, no_files, self.removed.append)

    def enrolment(
        self, *routes: Route, lease: float | None = None, release: float | None = None, size: int | None = None
    ) -> Enrol:
        draft = Draft(next(self.ids), Form.WIRE, self.shelving)
        draft.write(CONTENT)
        recipients = [
            recipient(f"{draft.id}.{number}", f"{number}@x.example", route=route, destination=f"lane {number}")
            for number, route in enumerate(routes)
        ]
        return Enrol(entry(draft.id, release=release), draft, tuple(recipients), lease, size)

    def planned(self, *steps: Any) -> Plan:
        plan = Plan()
        self.planner().plan(steps, plan)
        return plan

    @given(ROUTES, RELEASES, LEASES)
    def test_a_recipient_is_enrolled_alone_as_it_is_among_others(
        self, route: Route, release: float | None, lease: float | None
    ) -> None:
        both = self.enrolment(route, Forward("example.net"), lease=lease, release=release)
        draft = Draft(both.entry.id, Form.WIRE, self.shelving)
        draft.write(CONTENT)
        alone = self.planned(evolve(both, draft=draft, recipients=both.recipients[:1]))
        among = self.planned(both)
        self.assertEqual((alone.request.statements, among.request.statements), (ENROLMENT, ENROLMENT))
        entries, rows = alone.request.rows
        self.assertEqual(entries, among.request.rows[0])
        self.assertEqual([*rows], [*among.request.rows[1]][:1])
        meant = [claim for claim in among.claims if claim.pending[0].recipient is both.recipients[0]]
        self.assertEqual(
            [evolve(claim, content=None) for claim in alone.claims],
            [evolve(claim, content=None, fresh=True) for claim in meant],
        )
        for claim in meant:
            self.assertFalse(claim.fresh, "there is another claim of its entry")
        for claim in alone.claims:
            self.assertEqual(b"".join(claim.content.blocks()), CONTENT)

    def test_the_only_claim_of_an_entry_is_fresh_however_many_it_is_for(self) -> None:
        for routes in [Forward("a")], [Forward("a"), Hold("later")]:
            [claim] = self.planned(self.enrolment(*routes, lease=300.0)).claims
            self.assertTrue(claim.fresh)

    def test_who_has_counted_the_content_spares_the_spool_to_do_it(self) -> None:
        claims = [
            self.planned(self.enrolment(Forward("a"), lease=300.0, size=size)).claims[0] for size in (None, 18, 77)
        ]
        self.assertEqual([claim.content.size for claim in claims], [18, 18, 77])

    def test_of_what_is_claimed_any_part_is_settled_with_its_token(self) -> None:
        enrol = self.enrolment(Forward("a"), Forward("b"), Forward("c"))
        pending = tuple(Pending(one) for one in enrol.recipients)
        file = FileContent(Form.WIRE, 1, 1, Path("content") / "X" / "NAME", SpoolDisk())
        claim = Claim(7, NOW, enrol.entry, pending, file)
        for chosen in ([0], [1], [2], [0, 1], [2, 0], [0, 1, 2], []):
            settle = Settle(claim, tuple((enrol.recipients[at], Relayed("mx")) for at in chosen))
            plan = self.planned(settle)
            rows = [(enrol.entry.id, enrol.recipients[at].id, 7) for at in chosen]
            self.assertEqual([*plan.request.strokes], [(SETTLE, rows)])
            self.assertEqual(plan.request.in_files, ("NAME",))
        other = self.enrolment(Forward("a")).recipients[0]
        for outcomes in ([other], [enrol.recipients[0], other]):
            with self.assertRaises(ValueError):
                self.planned(Settle(claim, tuple((one, Relayed("mx")) for one in outcomes)))

    def test_drafts_of_steps_that_mean_nothing_are_used_up_with_the_plan(self) -> None:
        good, bad = self.enrolment(Forward("a")), self.enrolment(Discard())
        plan = Plan()
        with self.assertRaises(ValueError):
            self.planner().plan((good, bad), plan)
        self.assertEqual(plan.drafts, (good.draft,))
        self.assertRaises(ValueError, good.draft.write, b"more")

    def test_files_that_have_gone_are_removed_before_the_answer(self) -> None:
        plan = self.planned(self.enrolment(Forward("a")))
        plan.remove = self.removed.append
        plan.answered(("NAME",))
        self.assertEqual(self.removed, ["NAME"])
        self.assertEqual(plan.now(), ())
