"""What an operator has paused stays paused when the relay, or the machine, starts again."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from relay.control.api import Refused
from relay.control.dispatching import Dispatching
from relay.delivery.destination import Destinations, Limits
from relay.delivery.pauses import Paused, Pauses
from relay.net.disk import Disk
from relay.net.waiting import start
from relay.testing.disk import FaultyDisk, Gone
from tests.delivery_world import DeliveryWorld, forwarded

NAMES = ["a.example", "a.example;tls=verify", "a.example;tls=none", "b.example", "maildir"]


async def at_once(work: Callable[[], bytes | None]) -> bytes | None:
    return work()


class Destined:
    """What restoring asks of the dispatcher, on the real destinations."""

    def __init__(self) -> None:
        self.destinations = Destinations(Limits())

    def pause(self, name: str) -> None:
        self.destinations.pause(name, 0.0)

    def resume(self, name: str) -> None:
        self.destinations.resume(name, 0.0)

    def stopped(self) -> set[str]:
        """Which of `NAMES` would be carried no mail now, whatever was known of them before."""
        return {name for name in NAMES if self.destinations._health(name, 0.0).is_paused(0.0)}


class PauseCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.file = folder / "paused.json"
        self.said: list[str] = []
        globalLogPublisher.addObserver(self.hear)
        self.addCleanup(globalLogPublisher.removeObserver, self.hear)

    def hear(self, event: Any) -> None:
        if event.get("log_level") is LogLevel.error:
            self.said.append(event["log_format"])

    def pauses(self, disk: Disk | None = None) -> Pauses:
        return Pauses(self.file, at_once, disk)

    def restored(self) -> Destined:
        """After a restart."""
        delivery = Destined()
        start(self.pauses().restore(delivery))
        return delivery

    def keep(self, *names: str, disk: Disk | None = None) -> None:
        start(self.pauses(disk).keep(Paused(names)))


class RestoringTests(PauseCase):
    def test_where_nothing_was_ever_paused_nothing_is_and_nothing_is_written(self) -> None:
        self.assertEqual(self.restored().destinations.paused(), Paused())
        self.assertEqual((list(self.file.parent.iterdir()), self.said), ([], []))

    def test_what_was_paused_is_paused_and_is_kept_for_nobody_else_to_read(self) -> None:
        self.keep("b.example", "maildir")
        self.assertEqual(self.restored().stopped(), {"b.example", "maildir"})
        self.assertEqual(self.file.stat().st_mode & 0o777, 0o600)

    @given(st.lists(st.tuples(st.booleans(), st.sampled_from(NAMES))))
    def test_whatever_an_operator_has_said_a_restart_changes_none_of_it(self, words: list[tuple[bool, str]]) -> None:
        before = Destined()
        for pausing, name in words:
            (before.pause if pausing else before.resume)(name)
        start(self.pauses().keep(before.destinations.paused()))
        self.assertEqual(self.restored().stopped(), before.stopped())

    def test_a_damaged_file_is_set_aside_and_said_aloud(self) -> None:
        for octets in (
            b"",
            b'{"paused": ["a.ex',
            b"\xff\xfe",
            b"[]",
            b"[" * 100_000,
            b'{"paused": "a.example", "exempt": []}',
            b'{"paused": [1], "exempt": []}',
            b'{"paused": [""], "exempt": []}',
            b'{"paused": ["a\\nb"], "exempt": []}',
            b'{"paused": ["a.example"]}',
        ):
            self.said.clear()
            self.file.write_bytes(octets)
            self.assertEqual(self.restored().stopped(), set(), octets)
            self.assertEqual(len(self.said), 1, octets)
            self.assertFalse(self.file.exists())
            self.assertEqual(self.file.with_name("paused.json.damaged").read_bytes(), octets)

    def test_a_disk_that_cannot_be_read_or_written_is_said_aloud_and_keeps_nobody_from_starting(self) -> None:
        self.keep("b.example")
        pauses = self.pauses(FaultyDisk(1, errno.EIO, stays=True))
        delivery = Destined()
        start(pauses.restore(delivery))
        self.assertTrue(pauses.restored)
        self.assertEqual((delivery.stopped(), len(self.said)), (set(), 1))


class KeepingTests(PauseCase):
    def test_a_power_cut_at_any_call_leaves_what_was_paused_before_or_after(self) -> None:
        disk = FaultyDisk()
        self.keep("b.example", disk=disk)
        # The file, its name, the directory: none of them may be left out (RELIABILITY, Durability).
        self.assertEqual(disk.names, ["open", "write", "sync", "rename", "open", "sync"])
        for n in range(1, len(disk.calls) + 1):
            self.keep("b.example")
            with self.assertRaises(Gone):
                self.keep("maildir", disk=FaultyDisk(n))
            self.assertEqual(self.restored().stopped(), {"maildir"} if n > 4 else {"b.example"}, n)
            self.assertEqual(self.said, [])

    def test_a_disk_that_fails_at_any_call_is_told_to_whoever_wants_it_kept(self) -> None:
        for n in range(1, 7):
            with self.assertRaises(OSError):
                self.keep("b.example", disk=FaultyDisk(n, errno.ENOSPC))

    def test_the_last_word_is_kept_whichever_thread_comes_last(self) -> None:
        works: list[Callable[[], bytes | None]] = []

        def later(work: Callable[[], bytes | None]) -> Deferred[bytes | None]:
            works.append(work)
            return Deferred()

        pauses = Pauses(self.file, later)
        start(pauses.keep(Paused(("a.example",))))
        start(pauses.keep(Paused(("b.example",))))
        for work in reversed(works):
            work()
        self.assertEqual(json.loads(self.file.read_text())["paused"], ["b.example"])


class OperatorTests(PauseCase):
    """The same, by way of what `relayctl` asks."""

    def delivery(self, disk: Disk | None = None) -> tuple[DeliveryWorld, Dispatching, Pauses]:
        world, pauses = DeliveryWorld(), self.pauses(disk)
        return world, Dispatching(world.dispatcher, pauses), pauses

    def test_mail_for_what_was_paused_before_a_restart_is_not_carried_behind_it(self) -> None:
        _, delivery, pauses = self.delivery()
        start(pauses.restore(Destined()))
        delivery.pause("Example.NET")
        start(delivery.keep())
        world, delivery, pauses = self.delivery()
        start(pauses.restore(world.dispatcher))
        world.accept(forwarded("ann@example.net"))
        self.assertEqual(world.hosts.calls, [])
        delivery.resume("example.net")
        start(delivery.keep())
        self.assertEqual(self.restored().stopped(), set())

    def test_nothing_can_be_said_before_it_is_known_what_was_paused(self) -> None:
        self.keep("b.example")
        _, delivery, _ = self.delivery()
        for say in delivery.pause, delivery.resume:
            with self.assertRaises(Refused) as caught:
                say("a.example")
            self.assertEqual(caught.exception.status, 503)
        self.assertEqual(self.restored().stopped(), {"b.example"})

    def test_an_operator_hears_that_a_pause_will_not_last(self) -> None:
        world, delivery, pauses = self.delivery(FaultyDisk(2, errno.ENOSPC))
        start(pauses.restore(world.dispatcher))
        delivery.pause("example.net")
        with self.assertRaises(Refused) as caught:
            start(delivery.keep())
        self.assertIn("No space left", caught.exception.sentence)
        world.accept(forwarded("ann@example.net"))
        self.assertEqual(world.hosts.calls, [])
