"""What a message costs in reception, in its policies, and in what the logs are told of it: bounds for the common way."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relay.config.limits import Limits
from relay.config.policies import When
from relay.delivery.chronicle import Chronicle
from relay.delivery.settlement import Settlement
from relay.history.records import Bounds, Records
from relay.history.sqlite import SqliteHistory
from relay.interfaces import Claim, ITakesRows, Step, World
from relay.mail.address import Address
from relay.mail.envelope import Client, Envelope, Form
from relay.mail.event import ACCEPTED, Shape
from relay.mail.outcome import Relayed
from relay.mail.queue import Entry, Pending, Recipient
from relay.mail.reply import Reply
from relay.mail.routing import Forward
from relay.net.clock import ReactorClock
from relay.net.doorway import Arrival
from relay.net.maillog import MailLog
from relay.net.meter import Meter
from relay.net.teed import Teed
from relay.net.waiting import Coming
from relay.policy.chain import Chain, Station
from relay.policy.forward import ForwardAll, ForwardOptions
from relay.policy.guard import Guard
from relay.policy.mailbox import Mailbox, MailboxOptions
from relay.reception import Reception, Turnstile, Visit
from relay.smtp import answers
from relay.smtp.events import Content, ContentEnded, Data, Mail, Rcpt
from tests.calls import calls_of

CONTENT = b"Subject: hello\r\nMessage-ID: <1@client.example>\r\n\r\n" + b"x" * 1000 + b"\r\n.\r\n"
MESSAGES = 100
CLIENT = Client("192.0.2.1", 40000, "client.example", True, "mx")
ANN, BOB = Address("ann", "client.example"), Address("bob", "example.net")


class Silent:
    """A spool, its drafts and a dispatcher that answer at once and keep nothing: what they cost is bounded elsewhere."""

    accepting = True
    id = "4Q2X7P3M9K1A"

    def begin(self, form: Form) -> Silent:
        return self

    def write(self, octets: bytes) -> None:
        pass

    def room(self, octets: int) -> bool:
        return True

    def lease(self, envelope: Envelope, recipients: Sequence[Recipient]) -> float:
        return 300.0

    def commit(self, steps: Sequence[Step]) -> Coming[tuple[Claim, ...]]:
        self.committed: Coming[tuple[Claim, ...]] = Coming()
        return self.committed

    def accept(self, claims: Sequence[Claim], left: Sequence[Recipient] = ()) -> None:
        pass

    def row(self, shape: Shape[Any], row: tuple[Any, ...]) -> None:
        pass


class CallsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Clock()
        self.clock = ReactorClock(self.reactor, lambda: 1e9)
        self.world = cast(World, SimpleNamespace(clock=self.clock))

    def bounded(self, work: Any, most: float) -> None:
        """`work` is done once before, and takes at most so many calls for each message."""
        work()
        names: Counter[str] = Counter()
        calls = calls_of(work, by_name=names) / MESSAGES
        told = "\n".join(f"{times / MESSAGES:7.2f} {name}" for name, times in names.most_common(50))
        self.assertLessEqual(calls, most, f"\n{told}")


class ReceptionCallTests(CallsCase):
    def visit(self, silent: Any) -> Visit:
        own = MailboxOptions(domains=("here.example",), users="any", directory="/nowhere")
        onward = Guard(When(client=["192.0.2.0/24"]))  # type: ignore[list-item]  # as the configuration says it
        stations = [
            Station("mailboxes", Mailbox(own, self.world)),
            Station("outbound", ForwardAll(ForwardOptions(), self.world), onward),
        ]
        chain: Any = Chain(stations, self.clock, silent)
        reception = Reception(
            "mx.example", "ESMTP", Limits(), chain, silent, silent, silent, Turnstile(200), self.clock
        )
        return Visit(reception, Arrival(CLIENT.address), CLIENT)

    def test_a_message_from_mail_to_the_answer_to_its_content(self) -> None:
        silent = Silent()
        visit = self.visit(silent)
        questions: Any = (Mail(ANN, 1024), Rcpt(BOB), Data())
        expected = [answers.SENDER_OK, answers.RECIPIENT_OK, answers.SEND_CONTENT]
        content, ended = Content(CONTENT), ContentEnded(1024)

        def work() -> None:
            for _ in range(MESSAGES):
                assert [visit.answer(question) for question in questions] == expected
                visit.take(content)
                promise: Any = visit.answer(ended)
                silent.committed.give(())
                assert type(promise.now()) is Reply, "something waits"

        # Of which what stands in for the rest of the relay, and this loop, have 21.
        self.bounded(work, 81)


class LogCallTests(CallsCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)

    def test_two_events_of_each_message_of_a_turn_for_the_meter_the_log_and_the_history(self) -> None:
        log = MailLog(self.reactor, self.root / "mail.log", calendar=lambda: 1e9)
        log.start()
        self.addCleanup(log.close)
        silent: Any = Silent()
        meter = Meter(self.clock, Teed(log, SqliteHistory(self.root / "history.db", self.clock, silent)))
        work = self.happening(meter)
        self.bounded(lambda: (work(), log.flush()), 30)
        lines = (self.root / "mail.log").read_text().splitlines()
        self.assertEqual(len(lines), 2 * 2 * MESSAGES)
        self.assertEqual(meter.counts, {"accepted": 2 * MESSAGES, "relayed": 2 * MESSAGES})

    def test_blocks_of_the_history(self) -> None:
        records = Records(self.root / "history.db", Bounds(reserve=0))
        told: list[Any] = []

        class Kept:
            def row(self, shape: Shape[Any], row: tuple[Any, ...]) -> None:
                told.append((1e9, shape, (f"{row[0]}{len(told) // 2}", *row[1:])))

        self.happening(cast(ITakesRows, Kept()))()
        self.addCleanup(records.close)
        self.bounded(lambda: records.keep(told, 1e9), 5)

    def happening(self, log: ITakesRows) -> Any:
        """What tells the log of a hundred messages that were accepted and relayed."""
        envelope = Envelope(ANN, client=CLIENT)
        entry = Entry(Silent.id, 1e9, envelope, b"")
        recipient = Recipient(f"{Silent.id}.0", BOB, BOB, Forward("example.net"), "example.net", "outbound")
        pending = Pending(recipient)
        claim = cast(Claim, SimpleNamespace(entry=entry))
        settled = cast(
            Settlement,
            SimpleNamespace(
                carried=[(pending, Relayed("mx.example.net[192.0.2.9]:25", "250 2.0.0 Ok: queued"))],
                delayed=(),
                failed=(),
            ),
        )
        chronicle = Chronicle(log)

        def work() -> None:
            for _ in range(MESSAGES):
                said = (Silent.id, ANN, 1, "bob@example.net", 1024, "<1@client.example>")
                log.row(ACCEPTED, (*said, CLIENT.address, CLIENT.helo, CLIENT.listener, None, None, ""))
                chronicle.attempted(claim, settled, {}, 1e9 + 0.25)

        return work
