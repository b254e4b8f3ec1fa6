"""A worker waits for the one that has had its share before, as long as anybody waits for it."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from relay.config.settings import Settings
from relay.net.disk import Disk, opened
from relay.sharing import shard
from relay.spool.layout import Layout, prepare
from relay.workers.among import _end_alone
from relay.workers.before import answers, is_free, wait_for_share
from relay.workers.crew import MARGIN
from relay.workers.orders import Reading


class WaitingTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.own = shard(self.folder / "spool", 1)
        prepare(Layout(self.folder / "spool"), Disk())
        self.own.parent.mkdir()
        self.ours, self.its = socket.socketpair()
        for end in (self.ours, self.its):
            self.addCleanup(end.close)

    def settings(self, engine: str = "sqlite") -> Settings:
        text = (
            f'hostname = "mx.test"\n[[listener]]\naddress = "127.0.0.1:25"\n[spool]\nengine = "{engine}"\n'
            f'path = "{self.own}"\n[control]\nsocket = "{self.folder / "s"}"\n'
        )
        return Reading("no.toml", str(self.folder), text, "d1", "mx.test", "ann").settings()

    def waiting(self, settings: Settings) -> tuple[threading.Thread, Callable[[], list[object]]]:
        """A thread that waits, and what has come of it."""
        begun, returned = threading.Event(), list[object]()

        def wait() -> None:
            begun.set()
            try:
                returned.append(wait_for_share(settings, self.its.fileno()))
            except SystemExit as end:
                returned.append(end.code)

        thread = threading.Thread(target=wait)
        thread.start()
        begun.wait(10)
        thread.join(0.2)
        return thread, lambda: returned

    def test_a_shard_that_another_process_still_has_is_waited_for(self) -> None:
        prepare(Layout(self.own), Disk())
        Layout(self.own).lock.touch()
        disk = Disk()
        with opened(disk, str(Layout(self.own).lock), os.O_RDWR) as lock:
            self.assertTrue(disk.lock(lock))
            self.assertFalse(is_free(self.own))
            thread, returned = self.waiting(self.settings())
            self.assertEqual(returned(), [])
        thread.join(10)
        self.assertEqual(returned(), [None])

    def test_a_control_socket_at_which_another_process_still_answers_is_waited_for(self) -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(self.folder / "s"))
            listening.listen(0)
            self.assertTrue(answers(self.folder / "s"))
            # Now so many wait there that there is no room.
            self.assertTrue(answers(self.folder / "s"))
            thread, returned = self.waiting(self.settings("memory"))
            self.assertEqual(returned(), [])
        thread.join(10)
        self.assertEqual(returned(), [None])

    def test_a_socket_that_nobody_listens_at_is_not_waited_for(self) -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(self.folder / "s"))
        self.assertFalse(answers(self.folder / "s"))
        wait_for_share(self.settings(), self.its.fileno())

    def test_one_that_was_never_there_is_not_waited_for(self) -> None:
        wait_for_share(self.settings(), self.its.fileno())

    def test_who_waits_and_is_not_waited_for_ends_at_once(self) -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(self.folder / "s"))
            listening.listen()
            thread, returned = self.waiting(self.settings("memory"))
            # Also if there is something to be read before the end.
            self.ours.send(b"{}\n")
            thread.join(0.2)
            self.assertEqual(returned(), [])
            self.ours.close()
            thread.join(10)
            self.assertEqual(returned(), [0])

    def test_who_is_alone_before_it_begins_does_not_begin(self) -> None:
        self.ours.close()
        self.assertRaises(SystemExit, wait_for_share, self.settings(), self.its.fileno())


class AloneTests(SynchronousTestCase):
    def test_whoever_has_no_parent_and_does_not_end_is_ended_by_the_kernel(self) -> None:
        said: list[Any] = []
        before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        self.addCleanup(signal.alarm, 0)
        _end_alone(SimpleNamespace(callWhenRunning=lambda *call: said.append(call)))
        self.assertEqual(len(said), 1)
        self.assertEqual(signal.getsignal(signal.SIGALRM), signal.SIG_DFL)
        self.assertEqual(signal.alarm(0), MARGIN)
