"""One configuration for several workers, and then another."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from relay.control.reloading import Reloaded
from relay.net.clock import ReactorClock
from relay.net.line import Line
from relay.net.threads import AtOnce, Stop
from relay.reloading import Checked, Source, digest_of
from relay.sharing import Share
from relay.workers.adopting import PATIENCE, Adopting
from relay.workers.crew import Crew, Post
from relay.workers.orders import Ended, Reading

TEXT = 'hostname = "mx.test"\n[[listener]]\naddress = "127.0.0.1:25"\n'


class Body:
    def __init__(self, line: Line, ended: Callable[[Ended], object]) -> None:
        self.line = line
        self.pid = 1
        self.ended = ended
        self.transport = StringTransport()
        line.makeConnection(self.transport)

    def signal(self, number: int) -> None:
        """It does not hear."""

    def told(self, topic: str) -> list[Any]:
        """What it was told under this topic."""
        said = [json.loads(line) for line in self.transport.value().splitlines()]
        return [each["body"] for each in said if each["topic"] == topic]

    def answers(self, problems: tuple[str, ...] = (), warnings: tuple[str, ...] = ()) -> None:
        body = {
            "number": self.told("reload")[-1]["number"],
            "done": not problems,
            "digest": "of no use",
            "problems": problems,
            "warnings": warnings,
        }
        self.line.dataReceived(json.dumps({"topic": "reloaded", "body": body}).encode() + b"\n")


class Checks(Source):
    """Says what it was told to say, and notes which file it was asked about."""

    def __init__(self) -> None:
        self.checked: list[str] = []
        self.says = Checked()
        self.meanwhile: Callable[[], object] = lambda: None

    def check(self, name: str, stop: Stop) -> Checked:
        self.checked.append(name)
        self.meanwhile()
        return self.says


class AdoptingTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "relay.toml"
        self.file.write_text(TEXT)
        self.clock = Clock()
        self.bodies: list[Body] = []
        self.checks = Checks()
        reading = Reading.of(str(self.file))
        self.crew = Crew(
            ReactorClock(self.clock), self.start, (Share(0, 2), Share(1, 2)), lines=self.connect, left=self.left
        )
        self.adopting = Adopting(
            reading, reading.settings(), lambda: self.crew, ReactorClock(self.clock), AtOnce(), source=self.checks
        )
        self.crew.start()

    def start(self, share: Share, line: Line, ended: Callable[[Ended], object]) -> Body:
        self.bodies.append(Body(line, ended))
        return self.bodies[-1]

    def connect(self, post: Post, line: Line) -> None:
        line.hear("reloaded", lambda body: self.adopting.answered(post, body))

    def left(self, post: Post) -> None:
        self.adopting.left(post)

    def rewrite(self, text: str = f"# new\n{TEXT}") -> None:
        self.file.write_text(text)

    def reload(self) -> Deferred[Reloaded]:
        return Deferred.fromCoroutine(self.adopting())

    def test_it_is_checked_once_and_taken_up_by_all(self) -> None:
        self.rewrite()
        self.checks.says = Checked(warnings=("look out",))
        said = self.reload()
        self.assertEqual(self.checks.checked, [str(self.file)])
        self.assertEqual([body.told("reload")[0]["text"] for body in self.bodies], [self.file.read_text()] * 2)
        self.bodies[0].answers(warnings=("mind the gap",))
        self.assertNoResult(said)
        self.bodies[1].answers(warnings=("mind the gap",))
        digest = digest_of(str(self.file))
        self.assertEqual(self.successResultOf(said), Reloaded(True, digest, (), ("look out", "mind the gap")))
        self.assertEqual((self.adopting.reading.text, self.adopting.in_force.digest), (self.file.read_text(), digest))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def refused(self, *problems: str) -> None:
        before = self.adopting.reading
        said = self.successResultOf(self.reload())
        self.assertEqual((said.done, said.problems), (False, problems))
        self.assertEqual(said.digest, before.digest)
        self.assertIs(self.adopting.reading, before)
        self.assertEqual([body.told("reload") for body in self.bodies], [[], []])
        # What the file only names is looked at all the same.
        self.assertEqual([body.told("reread") for body in self.bodies], [[{}], [{}]])

    def test_what_the_check_refuses_no_worker_hears_of(self) -> None:
        self.rewrite()
        self.checks.says = Checked(("relay.toml:1: this is wrong",))
        self.refused("relay.toml:1: this is wrong")

    def test_what_takes_a_restart_no_worker_hears_of(self) -> None:
        self.rewrite(f"{TEXT}[process]\nworkers = 3\n")
        self.refused(f"{self.file}:5: process.workers: has changed, and that takes a restart")

    def test_a_file_that_changes_while_it_is_checked_no_worker_hears_of(self) -> None:
        self.checks.meanwhile = self.rewrite
        self.refused(f"{self.file}: it has changed while it was checked: say it again")

    def test_a_file_that_goes_while_it_is_checked_no_worker_hears_of(self) -> None:
        self.checks.meanwhile = self.file.unlink
        self.refused(f"{self.file}: cannot be read: No such file or directory")

    def test_where_no_worker_can_use_it_all_goes_on_as_it_was(self) -> None:
        before = self.adopting.reading
        self.rewrite()
        said = self.reload()
        self.bodies[0].answers(problems=("no",))
        self.bodies[1].answers(problems=("never",))
        self.assertEqual(
            self.successResultOf(said), Reloaded(False, before.digest, ("worker 0: no", "worker 1: never"), ())
        )
        self.assertIs(self.adopting.reading, before)

    def test_where_one_of_them_cannot_it_is_said(self) -> None:
        self.rewrite()
        said = self.reload()
        self.bodies[0].answers()
        self.bodies[1].answers(problems=("no",))
        found = self.successResultOf(said)
        self.assertTrue(found.done)
        self.assertEqual(
            found.warnings, ("worker 1: no", "it is not in force everywhere: a restart of the relay helps")
        )
        self.assertEqual(self.adopting.reading.text, self.file.read_text())

    def test_one_that_ends_meanwhile_begins_again_with_the_new_one(self) -> None:
        self.rewrite()
        said = self.reload()
        self.bodies[0].answers()
        self.bodies[1].ended(Ended(signal=9))
        self.assertTrue(self.successResultOf(said).done)
        self.assertEqual(self.adopting.reading.text, self.file.read_text())

    def test_one_that_does_not_answer_is_not_waited_for_for_ever(self) -> None:
        self.rewrite()
        said = self.reload()
        self.bodies[0].answers()
        self.clock.advance(PATIENCE)
        [warning] = self.successResultOf(said).warnings
        self.assertTrue(warning.startswith("worker 1: it has not answered within 60 s"), warning)
        # It takes it up later, and need not be told again.
        self.bodies[1].answers()
        self.assertEqual(len(self.bodies[1].told("reload")), 1)

    def test_what_one_refuses_long_after_the_others_have_it_is_said(self) -> None:
        self.rewrite()
        self.reload()
        self.bodies[0].answers()
        self.clock.advance(PATIENCE)
        with capturedLogs() as events:
            self.bodies[1].answers(problems=("no",))
        self.assertIn("a restart of the relay helps", formatEvent(events[-1]))

    def test_one_that_takes_it_up_when_it_has_been_refused_gets_back_what_is_in_force(self) -> None:
        self.rewrite()
        said = self.reload()
        self.bodies[0].answers(problems=("no",))
        self.clock.advance(PATIENCE)
        found = self.successResultOf(said)
        self.assertEqual((found.done, found.problems[0]), (False, "worker 0: no"))
        # Who has refused it is left alone. The other one hears it behind the one that is refused by now.
        self.assertEqual([len(body.told("reload")) for body in self.bodies], [1, 2])
        self.assertEqual([each["text"] for each in self.bodies[1].told("reload")], [self.file.read_text(), TEXT])

    def test_where_nobody_answers_all_get_back_what_is_in_force(self) -> None:
        self.rewrite()
        said = self.reload()
        self.clock.advance(PATIENCE)
        self.assertFalse(self.successResultOf(said).done)
        self.assertEqual([body.told("reload")[-1]["text"] for body in self.bodies], [TEXT] * 2)
        self.assertEqual(self.adopting.reading.text, TEXT)

    def test_one_that_was_started_with_what_is_refused_then_gets_back_what_is_in_force(self) -> None:
        self.rewrite()
        said = self.reload()
        self.bodies[1].ended(Ended(signal=9))
        self.clock.advance(0)
        self.bodies[0].answers(problems=("no",))
        self.assertFalse(self.successResultOf(said).done)
        self.assertEqual([each["text"] for each in self.bodies[2].told("reload")], [TEXT])

    def test_a_second_one_waits_for_the_first(self) -> None:
        self.rewrite()
        first, second = self.reload(), self.reload()
        self.assertTrue(self.adopting.busy)
        self.assertEqual(len(self.bodies[0].told("reload")), 1)
        for body in self.bodies:
            body.answers()
        self.assertTrue(self.successResultOf(first).done)
        for body in self.bodies:
            body.answers()
        self.assertTrue(self.successResultOf(second).done)

    def test_whoever_waits_is_told_when_the_relay_stops(self) -> None:
        self.rewrite()
        said = self.reload()
        self.adopting.stop()
        self.successResultOf(said)
        self.assertEqual(self.clock.getDelayedCalls(), [])
