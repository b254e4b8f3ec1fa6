"""One process of the relay asks another, at its control socket."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from relay.config.addresses import Unix
from relay.control.api import Asked, Desk, Refused, site
from relay.control.peer import Peer
from relay.control.workers.asking import Silent
from relay.net.listen import listen
from relay.net.peer_user import own_user
from tests.real_reactor import RealReactor


class PeerCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        self.real = RealReactor()
        self.addCleanup(self.real.close)
        self.addCleanup(self.real.forget_timers)
        self.path = Path(folder, "control.sock.1")
        self.asked: list[Asked] = []
        self.port: Any = None
        self.peer = Peer(self.real.reactor, self.path)

    def answering(self) -> None:
        async def echo(asked: Asked) -> Mapping[str, Any]:
            self.asked.append(asked)
            return {"words": dict(asked.words)}

        async def long(asked: Asked) -> Mapping[str, Any]:
            return {"text": "x" * 3_000_000}

        async def no(asked: Asked) -> Mapping[str, Any]:
            raise Refused("there is no message x", 404)

        async def nothing(asked: Asked) -> Mapping[str, Any]:
            await Deferred()
            return {}

        questions = {"echo": echo, "long": long, "no": no, "nothing": nothing, "status": nothing}
        self.serve(Desk(questions, {"echo": echo, "nothing": nothing}))

    def serve(self, desk: Desk) -> None:
        self.port = listen(self.real.reactor, Unix(self.path), site(lambda: desk), backlog=5, mode=0o600)
        self.port.startReading()

    def ask(self, path: str, *, act: bool = False, user: str | None = None, aside: bool = False, **words: Any) -> Any:
        return self.real.result(Deferred.fromCoroutine(self.peer(path, words, act, user, aside)))

    def refusal(self, path: str, *, act: bool = False) -> Refused:
        try:
            self.ask(path, act=act)
        except Refused as refused:
            return refused
        raise AssertionError("it was not refused")


class AskingTests(PeerCase):
    def setUp(self) -> None:
        super().setUp()
        self.answering()

    def test_words_and_answers_arrive_as_they_were_said(self) -> None:
        self.assertEqual(self.ask("echo", to="ä+b@x.example", most="5")["words"], {"to": "ä+b@x.example", "most": "5"})
        words = {"id": ["A", "B"], "all": True, "via": "ä"}
        self.assertEqual(self.ask("echo", act=True, **words)["words"], words)
        self.assertEqual(self.ask("echo")["words"], {})
        self.assertEqual(self.ask("echo", act=True)["words"], {})
        self.assertEqual(len(self.ask("long")["text"]), 3_000_000)

    def test_a_refusal_is_the_same_refusal(self) -> None:
        refused = self.refusal("no")
        self.assertEqual((type(refused), refused.sentence, refused.status), (Refused, "there is no message x", 404))
        self.assertEqual(self.refusal("soup").status, 404)

    def test_it_is_known_for_whom_is_asked_and_who_asks_otherwise(self) -> None:
        for user in (None, "jürgen"):
            self.ask("echo", act=True, user=user, aside=user is not None)
        self.assertEqual([(each.user, each.aside) for each in self.asked], [(own_user(), False), ("jürgen", True)])

    def test_nothing_is_left_open(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            self.ask("echo")
        self.real.until(lambda: len(os.listdir("/proc/self/fd")) <= before)

    def test_that_somebody_asked_is_no_news_for_the_log(self) -> None:
        heard: list[Any] = []
        globalLogPublisher.addObserver(heard.append)
        self.addCleanup(globalLogPublisher.removeObserver, heard.append)
        self.ask("echo")
        self.assertEqual([event["log_format"] for event in heard], [])

    def test_a_question_that_is_given_up_leaves_nothing_open(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        asking = Deferred.fromCoroutine(self.peer("nothing", {}, False))
        self.real.until(lambda: len(os.listdir("/proc/self/fd")) > before + 1)
        asking.cancel()
        with self.assertRaises(Silent):
            self.real.result(asking)
        self.real.until(lambda: len(os.listdir("/proc/self/fd")) <= before)


class SilenceTests(PeerCase):
    def test_where_nobody_is_nothing_has_happened(self) -> None:
        for _ in range(2):
            for act in (False, True):
                refused = self.refusal("echo", act=act)
                self.assertIsInstance(refused, Silent)
                self.assertIn("it is being started, or has ended", refused.sentence)
            if not self.path.exists():
                # What a process leaves behind that was killed.
                left = socket.socket(socket.AF_UNIX)
                left.bind(os.fspath(self.path))
                left.close()

    def test_who_breaks_off_may_have_done_it(self) -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(os.fspath(self.path))
            listening.listen(5)
            for said in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{", b"HTTP/1.1 200 OK\r\n\r\nsoup", b"\0"):
                for act, words in ((True, "nobody can say whether this has happened"), (False, "has ended")):
                    asking = Deferred.fromCoroutine(self.peer("echo", {}, act))
                    self.real.turn()
                    connection, _ = listening.accept()
                    connection.sendall(said)
                    connection.close()
                    with self.assertRaises(Silent) as raised:
                        self.real.result(asking)
                    self.assertIn(words, raised.exception.sentence)

    def test_who_says_no_object_says_nothing(self) -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(os.fspath(self.path))
            listening.listen(5)
            asking = Deferred.fromCoroutine(self.peer("echo", {}, False))
            self.real.turn()
            connection, _ = listening.accept()
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(["soup"]).encode())
            connection.close()
            with self.assertRaises(Silent):
                self.real.result(asking)

    def test_who_is_not_heard_in_time_is_silent(self) -> None:
        class Timed:
            """A reactor whose time passes as the test says."""

            def __init__(self, reactor: Any, clock: Clock) -> None:
                self.callLater, self._reactor = clock.callLater, reactor

            def __getattr__(self, name: str) -> Any:
                return getattr(self._reactor, name)

        self.answering()
        for path, act, patience in (("nothing", False, 10), ("nothing", True, 25), ("status", False, 5)):
            clock = Clock()
            peer = Peer(Timed(self.real.reactor, clock), self.path)
            asking = Deferred.fromCoroutine(peer(path, {}, act))
            for _ in range(5):
                self.real.turn()
            clock.advance(patience - 0.1)
            self.assertFalse(asking.called)
            clock.advance(0.1)
            with self.assertRaises(Silent):
                self.real.result(asking)
