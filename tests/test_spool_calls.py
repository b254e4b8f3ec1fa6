"""
What a message costs in the spool on its common way, in calls: bounds for the reactor's thread, and for what the writer's
takes from it by Python's lock.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from relay.interfaces import Claim, Enrol
from relay.mail.envelope import Client, Form
from relay.mail.routing import Forward
from relay.net.waiting import start
from relay.spool.sqlite import SqliteSpool
from relay.testing.spool_case import LEASE, entry, recipient, settled
from tests.calls import calls_of
from tests.contracts.spool.shards import LIMITS, SqliteShard, WhenTold

CONTENT = b"Subject: hello\r\n\r\n" + b"x" * 1000 + b"\r\n.\r\n"
MESSAGES = 100


class CallTests(SynchronousTestCase):
    """A hundred messages of one connection, each to one recipient, in one batch."""

    def setUp(self) -> None:
        shard = SqliteShard()
        self.addCleanup(shard.dispose)
        self.writer = WhenTold()
        self.spool = SqliteSpool(shard.layout.path, shard.clock, self.writer, WhenTold(), limits=LIMITS)
        start(self.spool.recover())
        self.writer.work()
        self.route = Forward("example.org")
        self.client = Client("192.0.2.1", 40000, "client.example.net", True, "mx")
        self.by_name: Counter[str] = Counter()
        #: Calls of the writer's thread, batch by batch.
        self.written: list[int] = []
        self.counting(1)
        self.by_name.clear()
        self.written.clear()

    def counting(self, messages: int) -> list[float]:
        """Calls for each message: for its draft, its enrolment, the answer; for its settlement and the answer to all."""
        drafts: list[Any] = []
        enrolments: list[Enrol] = []
        waiting: list[Any] = []
        claims: list[Claim] = []

        def draw() -> None:
            for _ in range(messages):
                draft = self.spool.begin(Form.WIRE)
                draft.write(CONTENT)
                drafts.append(draft)

        def enrol() -> None:
            waiting.extend([self.spool.commit((enrolment,)) for enrolment in enrolments])

        def settle() -> None:
            waiting.append(self.spool.commit(settlements))

        calls = [calls_of(draw, by_name=self.by_name)]
        for draft in drafts:
            entry_ = entry(draft.id, client=self.client)
            enrolments.append(Enrol(entry_, draft, (recipient(draft.id + ".0", route=self.route),), LEASE))
        calls += [calls_of(enrol, by_name=self.by_name), self.answered()]
        for one in waiting:
            claims += one.now()
        settlements = [settled(claim) for claim in claims]
        calls += [calls_of(settle, by_name=self.by_name), self.answered()]
        return [number / messages for number in calls]

    def answered(self) -> int:
        """Let the writer work, and count what its answers cost."""
        calls = 0
        while self.writer.tasks:
            work, answer = self.writer.tasks.pop(0)
            results: list[Any] = []
            self.written.append(calls_of(lambda: results.append(work())))  # noqa: B023
            calls += calls_of(lambda: answer(*results), by_name=self.by_name)  # noqa: B023
        return calls

    def test_a_message_is_enrolled_and_settled_in_few_calls(self) -> None:
        calls = self.counting(MESSAGES)
        most = ", ".join(f"{name} {times / MESSAGES:.1f}" for name, times in self.by_name.most_common(60))
        self.assertLessEqual(sum(calls), 61, f"{calls}: {most}")

    def test_what_the_writer_does_is_done_for_the_batch_and_not_for_each_message(self) -> None:
        self.counting(MESSAGES)
        # The first enrolment goes alone, the others meanwhile together; then all are settled.
        self.assertEqual(len(self.written), 3)
        self.assertLessEqual(max(self.written), 60)
