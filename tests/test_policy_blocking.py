"""Policies whose code blocks: only their own clients wait for them, and what they know of the world is what all know."""

from __future__ import annotations

import gc
import queue
import re
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.config.errors import ConfigurationError
from relay.config.load import load
from relay.config.policies import PolicySettings
from relay.interfaces import (
    IAttemptPolicy,
    IConnectionPolicy,
    IContentPolicy,
    IContentReader,
    IObserver,
    IRoutingPolicy,
    ISenderPolicy,
    IStreamPolicy,
)
from relay.mail.decision import Accepted, Refused
from relay.mail.fields import Fields
from relay.mail.phases import AttemptInquiry
from relay.mail.reply import Reply
from relay.mail.routing import Accept, Discard, Reject
from relay.net.threads import Stop, Stopped
from relay.policy.assembly import make_chain
from relay.policy.blocking import Blocking, spare
from relay.policy.chain import Chain, Station
from relay.policy.elsewhere import Crossing, stop_of_question
from relay.policy.registry import NoOptions, option_model
from relay.policy.steps import Asked
from relay.smtp.answers import OUR_FAULT
from relay.testing.policy import FakeWorld, PolicyContract, inquiry
from relay.testing.questions import connecting, content, in_each_phase, sending

#: Seconds after which a thread that has not done its work will not do it.
PATIENCE = 20.0
NO = Reject(Reply.of(550, "5.7.1", "no"), because="not you")
MESSAGE = b"Subject: hello\r\n\r\nHi!\r\n"


class Reactor:
    """As much of a reactor as threads need, turned by hand."""

    def __init__(self) -> None:
        self._calls: queue.Queue[tuple[Callable[..., Any], tuple[Any, ...]]] = queue.Queue()

    def callFromThread(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._calls.put((call, arguments))

    def turn(self) -> None:
        call, arguments = self._calls.get(timeout=PATIENCE)
        call(*arguments)

    def wait(self) -> None:
        """Until somebody has called."""
        call = self._calls.get(timeout=PATIENCE)
        self._calls.put(call)

    def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self.turn()


@implementer(IConnectionPolicy, ISenderPolicy, IRoutingPolicy, IContentPolicy, IAttemptPolicy, IObserver)
class Slow:
    """Blocks until somebody opens its gate, and says what the test wants."""

    blocking = True
    threads = 2
    wants = "headers"
    provides = ("reputation",)

    def __init__(self, answer: Any = NO, *, opened: bool = False) -> None:
        self.answer = answer
        self.gate = threading.Event()
        self.began: queue.Queue[int] = queue.Queue()
        self.asked: list[Any] = []
        self.observed: list[str] = []
        if opened:
            self.gate.set()

    def _say(self, inquiry: Any) -> Any:
        self.asked.append(inquiry)
        self.began.put(threading.get_ident())
        assert self.gate.wait(PATIENCE)
        return self.answer(inquiry) if callable(self.answer) else self.answer

    connect = sender = route = examine = attempt = _say

    def observe(self, what: str, fields: Any) -> None:
        self.observed.append(what)
        self.began.put(threading.get_ident())


class BlockingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.world = FakeWorld({"known.example": {"A": ["192.0.2.7"]}}, tables={"people": {"jon": "here"}})
        self.clock = self.world.clock
        self.events: list[Any] = []
        self.logger = Logger(namespace="tests", observer=self.events.append)
        self.steps: list[Any] = []

    @property
    def log(self) -> list[str]:
        return [formatEvent(event) for event in self.events]

    def of(self, policy: Any, *, reactor: Any = True, timeout: float = 10, waiting: int = 2) -> Chain:
        """A chain of this policy alone."""
        if isinstance(policy, Slow):
            self.addCleanup(policy.gate.set)
        reactor = self.reactor if reactor is True else reactor
        clock = self.world.world.clock
        asked = Blocking(
            "slow",
            policy,
            reactor,
            Crossing(reactor, PATIENCE),
            timeout=timeout,
            clock=clock,
            log=self.logger,
            waiting=waiting,
        )
        self.asked = asked
        return Chain([Station("slow", asked, None, timeout)], clock, self.logger)

    def route(self, chain: Chain, recipient: str = "jon@example.org") -> Deferred[Any]:
        return Deferred.fromCoroutine(chain.route(inquiry(recipient), self.steps.append))

    def came(self, deferred: Deferred[Any]) -> Any:
        """What it comes to, once the reactor has had its turns."""
        self.reactor.until(lambda: deferred.called)
        return self.successResultOf(deferred)

    def made(self, name: str, **keywords: Any) -> Chain:
        """The chain that a configuration with one of the policies below would get."""
        settings = PolicySettings(name="own", use=f"{__name__}:{name}", options=NoOptions(), timeout=100)
        return make_chain([settings], self.world.world, file="relay.toml", **{"reactor": self.reactor, **keywords})


class ThreadsOfAPolicyTests(BlockingCase):
    def test_it_is_asked_in_a_thread_and_its_verdict_counts_in_each_phase(self) -> None:
        policy = Slow(opened=True)
        chain = self.of(policy)
        (attempt,) = (
            each for each in in_each_phase(policy, [inquiry("jon@example.org")]) if isinstance(each, AttemptInquiry)
        )
        examining = chain.content("id", content().envelope, [inquiry("jon@example.org")])
        refused = Refused(NO.reply, "slow", "not you")
        for ask, answer in (
            (chain.connect(connecting()), refused),
            (chain.sender(sending()), refused),
            (chain.route(inquiry("jon@example.org")), refused),
            (chain.attempt(attempt, inquiry("jon@example.org")), NO),
        ):
            self.assertEqual(self.came(Deferred.fromCoroutine(ask)), answer)
            self.assertNotEqual(policy.began.get(timeout=PATIENCE), threading.get_ident())
        outcome = self.came(Deferred.fromCoroutine(examining.decide(9, Fields(b"Subject: x\r\n"), None)))
        self.assertEqual(outcome.each[0].verdict, NO)

    def test_an_observer_sees_in_a_thread(self) -> None:
        policy = Slow()
        self.of(policy)
        self.asked.observe("accepted", {})
        self.assertNotEqual(policy.began.get(timeout=PATIENCE), threading.get_ident())
        self.assertEqual(policy.observed, ["accepted"])

    def test_what_else_there_is_to_know_of_it_is_known(self) -> None:
        self.of(Slow())
        self.assertEqual(
            (self.asked.provides, self.asked.wants, self.asked.routes), (("reputation",), "headers", False)
        )
        self.assertFalse(hasattr(self.asked, "requires"))

    def test_nobody_waits_while_it_blocks_but_who_has_asked(self) -> None:
        policy = Slow(Discard())
        waiting = self.route(self.of(policy))
        policy.began.get(timeout=PATIENCE)
        self.assertNoResult(waiting)
        policy.gate.set()
        self.assertIsInstance(self.came(waiting), Accepted)

    def test_as_many_are_asked_at_once_as_it_has_threads_and_others_wait(self) -> None:
        policy = Slow()
        chain = self.of(policy)
        asked = [self.route(chain, f"{number}@example.org") for number in range(4)]
        policy.began.get(timeout=PATIENCE)
        policy.began.get(timeout=PATIENCE)
        self.assertEqual(len(policy.asked), 2)
        policy.gate.set()
        for each in asked:
            self.assertEqual(self.came(each).reply, NO.reply)
        self.assertEqual(len(policy.asked), 4)

    def test_where_too_many_wait_the_next_hears_451_at_once_and_the_operator_hears_it_once(self) -> None:
        policy = Slow()
        chain = self.of(policy)
        waiting = [self.route(chain) for _ in range(4)]
        for _ in range(3):
            self.assertEqual(self.successResultOf(self.route(chain)).reply, OUR_FAULT)
        self.assertEqual(self.asked.turned_away, 3)
        (said,) = self.log
        self.assertIn("policy slow cannot be asked, and answers 451 until it can: 4 questions wait", said)
        policy.gate.set()
        for each in waiting:
            self.came(each)
        for _ in range(2):
            self.assertEqual(self.came(self.route(chain)).reply, NO.reply)
        (said,) = self.log[1:]
        self.assertIn("has threads again", said)
        policy.gate.clear()
        for _ in range(5):
            self.route(chain)
        self.assertIn("cannot be asked", self.log[2], "and when it happens again, it is said again")

    def test_who_has_hung_up_before_a_thread_was_free_is_not_asked_about(self) -> None:
        policy = Slow()
        chain = self.of(policy)
        first = [self.route(chain, "first@example.org") for _ in range(2)]
        gone, here = self.route(chain, "gone@example.org"), self.route(chain, "here@example.org")
        gone.addErrback(lambda _: None)
        gone.cancel()
        policy.gate.set()
        for each in (*first, here):
            self.came(each)
        self.assertNotIn("gone@example.org", [str(each.recipient) for each in policy.asked])

    def test_an_exception_is_451_with_its_traceback_in_the_log(self) -> None:
        chain = self.of(Slow(lambda inquiry: 1 // 0, opened=True))
        self.assertEqual(self.came(self.route(chain)).reply, OUR_FAULT)
        self.assertIn("raised an exception", self.log[0])
        self.assertIs(self.events[0]["log_failure"].type, ZeroDivisionError)

    def test_what_is_no_verdict_is_451(self) -> None:
        chain = self.of(Slow(None, opened=True))
        self.assertEqual(self.came(self.route(chain)).reply, OUR_FAULT)

    def test_without_other_threads_it_blocks_where_it_is(self) -> None:
        policy = Slow(opened=True)
        self.assertEqual(self.successResultOf(self.route(self.of(policy, reactor=None))).reply, NO.reply)
        self.assertEqual(policy.began.get(timeout=PATIENCE), threading.get_ident())

    def test_where_none_are_kept_each_ends_with_its_question_and_the_next_one_gets_another(self) -> None:
        before = set(threading.enumerate())
        policy = Slow()
        chain = self.of(policy)
        under_way = self.route(chain)
        policy.began.get(timeout=PATIENCE)
        spare([self.asked, object()])
        for asked in under_way, self.route(chain), self.route(chain):
            policy.gate.set()
            self.came(asked)
        self.reactor.until(lambda: not self.asked._pool.unfinished)
        for each in set(threading.enumerate()) - before:
            each.join(PATIENCE)
            self.assertFalse(each.is_alive())
        self.assertEqual(self.came(self.route(chain)).reply, NO.reply)

    def test_threads_end_with_the_policy_that_they_are_for(self) -> None:
        before = set(threading.enumerate())
        chain = self.of(Slow(opened=True))
        self.came(self.route(chain))
        own = set(threading.enumerate()) - before
        self.assertTrue(own)
        self.assertTrue(all(each.daemon for each in own), "the process does not wait for them")
        del chain, self.asked
        gc.collect()
        for each in own:
            each.join(PATIENCE)
            self.assertFalse(each.is_alive())


class HangingTests(BlockingCase):
    def test_a_call_that_does_not_end_is_451_after_the_policys_time_and_the_log_says_where_it_is(self) -> None:
        policy = Slow()
        chain = self.of(policy)
        late = self.route(chain)
        policy.began.get(timeout=PATIENCE)
        self.clock.advance(9.9)
        self.assertNoResult(late)
        self.clock.advance(0.1)
        self.assertEqual(self.successResultOf(late).reply, OUR_FAULT)
        self.assertEqual(self.asked.late, 1)
        told, where = self.log
        self.assertRegex(where, r"policy slow still blocks at \S*test_policy_blocking\.py:\d+ \(Slow\._say\)")
        self.assertIn("has not answered", told)

    def test_who_hangs_up_early_says_nothing_about_the_policy(self) -> None:
        policy = Slow()
        asked = self.route(self.of(policy))
        policy.began.get(timeout=PATIENCE)
        asked.addErrback(lambda _: None)
        asked.cancel()
        self.assertEqual(self.log, [])

    def test_when_all_its_threads_hang_it_answers_at_once_until_one_comes_back(self) -> None:
        policy = Slow()
        chain = self.of(policy, waiting=50)
        late = [self.route(chain), self.route(chain)]
        policy.began.get(timeout=PATIENCE)
        policy.began.get(timeout=PATIENCE)
        self.clock.advance(10)
        for each in late:
            self.assertEqual(self.successResultOf(each).reply, OUR_FAULT)
        self.events.clear()
        for _ in range(3):
            self.assertEqual(self.successResultOf(self.route(chain)).reply, OUR_FAULT)
        (said,) = self.log
        self.assertIn("all of its 2 threads hang", said)
        self.assertIn("test_policy_blocking.py", said)
        self.assertEqual([step.failed for step in self.steps if isinstance(step, Asked)], [True] * 5)
        policy.gate.set()
        self.reactor.until(lambda: self.asked._pool.unfinished == 0)
        self.assertEqual(self.came(self.route(chain)).reply, NO.reply)
        self.assertIn("has threads again", self.log[-1])

    def test_while_one_thread_is_left_the_others_hang_and_mail_goes_on(self) -> None:
        policy = Slow()
        chain = self.of(policy)
        late = self.route(chain)
        policy.began.get(timeout=PATIENCE)
        self.clock.advance(10)
        self.successResultOf(late)
        asked = self.route(chain)
        policy.began.get(timeout=PATIENCE)
        self.assertNoResult(asked)
        policy.gate.set()
        self.assertEqual(self.came(asked).reply, NO.reply)


@implementer(IRoutingPolicy)
class Asks:
    """Asks the world for all that there is."""

    blocking = True

    def __init__(self, options: Any, world: Any) -> None:
        self.world = world
        self.table = world.table("people")
        world.store.put("made", "yes", 100)

    def route(self, inquiry: Any) -> Any:
        world = self.world
        answer = world.resolver.look_up("known.example", "A")
        store = world.store.scoped("part")
        store.put("seen", str(inquiry.recipient), 100)
        said = [answer.records, world.store.get("made"), self.table.get("jon"), store.get("seen")]
        store.forget("seen")
        said += [store.get("seen"), list(world.store.items()), world.clock.now() > 0]
        return Reject(Reply.of(550, "5.7.1", "no"), because=repr(said))


@implementer(IRoutingPolicy)
class Waits(Asks):
    def route(self, inquiry: Any) -> Any:
        self.world.resolver.look_up("slow.example", "A")
        return NO


@implementer(IRoutingPolicy)
class Timer(Asks):
    def route(self, inquiry: Any) -> Any:
        self.world.clock.callLater(1, print)
        return NO


@implementer(IRoutingPolicy)
class WaitsWhenMade(Asks):
    def __init__(self, options: Any, world: Any) -> None:
        world.resolver.look_up("slow.example", "A")


@implementer(IRoutingPolicy)
class Coroutine(Asks):
    async def route(self, inquiry: Any) -> Any:
        return NO


@implementer(IRoutingPolicy)
class Threadless(Asks):
    threads = 0


@implementer(IRoutingPolicy)
class SaysSoTooLate(Asks):
    blocking = False

    def __init__(self, options: Any, world: Any) -> None:
        self.blocking = True


class WorldTests(BlockingCase):
    def test_it_learns_of_the_world_in_its_thread_and_the_world_is_asked_in_the_reactors(self) -> None:
        asked_in: set[int] = set()
        inner = self.world.names.look_up

        async def look_up(name: str, kind: str) -> Any:
            asked_in.add(threading.get_ident())
            return await inner(name, kind)

        def put(key: str, *more: Any) -> None:
            stored.append((key, threading.get_ident()))
            keep(key, *more)

        stored: list[tuple[str, int]] = []
        keep = self.world.store.put
        self.patch(self.world.store, "put", put)
        self.patch(self.world.names, "look_up", look_up)
        refused = self.came(self.route(self.made("Asks")))
        self.assertEqual(
            refused.because,
            repr([("192.0.2.7",), "yes", "here", "jon@example.org", None, [("made", "yes")], True]),
        )
        self.assertEqual(asked_in, {threading.get_ident()})
        self.assertEqual(stored, [(key, threading.get_ident()) for key in ("own made", "own part seen")])

    def test_what_it_has_looked_at_is_noted_with_its_question(self) -> None:
        self.came(self.route(self.made("Asks")))
        (step,) = self.steps
        looks = [(look.where, look.what) for look in step.looks]
        self.assertEqual(looks[:3], [("dns", "known.example A"), ("store", "seen"), ("store", "made")])
        self.assertIn(("table", "people: jon"), looks)

    def test_a_thread_that_waits_for_the_world_is_free_when_its_question_is_late(self) -> None:
        self.world.names.hold("slow.example", "A")
        before = set(threading.enumerate())
        chain = self.made("Waits")
        late = self.route(chain)
        self.reactor.turn()
        self.assertNoResult(late)
        self.clock.advance(30)
        self.assertEqual(self.successResultOf(late).reply, OUR_FAULT)
        pool = chain.stations[0].policy._pool
        self.assertEqual(pool.unfinished, 1)
        self.reactor.until(lambda: pool.unfinished == 0)
        self.assertEqual(len(set(threading.enumerate()) - before), 1)

    def test_a_question_that_is_over_asks_the_world_no_more(self) -> None:
        asked: list[str] = []

        async def look_up(name: str, kind: str) -> Any:
            asked.append(name)

        self.patch(self.world.names, "look_up", look_up)
        chain = self.made("Waits")
        gone = self.route(chain)
        gone.addErrback(lambda _: None)
        gone.cancel()
        self.reactor.until(lambda: chain.stations[0].policy._pool.unfinished == 0)
        self.assertEqual(asked, [])

    def test_what_is_under_way_to_the_world_when_the_question_is_over_does_not_get_there(self) -> None:
        cross, stop, asked, came = Crossing(self.reactor, PATIENCE), Stop(), [], []

        def ask() -> None:
            stop_of_question.set(stop)
            try:
                cross(lambda: asked.append("it"))
            except Stopped as stopped:
                came.append(stopped)

        thread = threading.Thread(target=ask)
        thread.start()
        self.reactor.wait()
        stop.say()
        self.reactor.turn()
        thread.join(PATIENCE)
        self.assertEqual((asked, len(came)), ([], 1))

    def test_what_the_world_raises_is_raised_in_the_thread(self) -> None:
        class Broken(Slow):
            def _say(self, inquiry: Any) -> Any:
                cross(lambda: 1 // 0)

            route = _say

        policy = Broken()
        cross = Crossing(self.reactor, PATIENCE)
        self.assertEqual(self.came(self.route(self.of(policy))).reply, OUR_FAULT)
        self.assertIs(self.events[0]["log_failure"].type, ZeroDivisionError)

    def test_a_reactor_that_says_nothing_is_not_waited_for(self) -> None:
        cross = Crossing(Reactor(), 0.01)
        came: list[Any] = []

        def ask() -> None:
            try:
                cross(lambda: 1)
            except TimeoutError as late:
                came.append(late)

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(PATIENCE)
        self.assertEqual(len(came), 1)

    def test_it_has_no_timers(self) -> None:
        self.assertEqual(self.came(self.route(self.made("Timer"))).reply, OUR_FAULT)
        self.flushLoggedErrors(RuntimeError)

    def wrong(self, name: str) -> str:
        with self.assertRaises(ConfigurationError) as raised:
            self.made(name)
        return str(raised.exception)

    def test_what_cannot_be_asked_in_threads_is_an_error_of_the_configuration(self) -> None:
        self.world.names.hold("slow.example", "A")
        for name, text in (
            ("WaitsWhenMade", "ask it when you are asked"),
            ("Coroutine", "its route should be no coroutine"),
            ("Threadless", "from 1 to 64 threads, and not 0"),
            ("SaysSoTooLate", "its class or maker does not say so"),
        ):
            self.assertIn(text, self.wrong(name))

    def test_without_other_threads_it_asks_where_it_is(self) -> None:
        refused = self.successResultOf(self.route(self.made("Asks", reactor=None)))
        self.assertIn("192.0.2.7", refused.because)


class ContractTests(PolicyContract, SynchronousTestCase):
    """The kit that its author has asks it, too."""

    policy = Waits
    names = {"slow.example": {"A": ["192.0.2.1"]}}  # noqa: RUF012

    def setUp(self) -> None:
        self.patch(Waits, "__init__", lambda policy, options, world: setattr(policy, "world", world))


@implementer(IContentReader)
class Reader:
    def __init__(self) -> None:
        self.octets: list[bytes] = []
        self.threads = {threading.get_ident()}

    def take(self, octets: bytes) -> None:
        self.threads.add(threading.get_ident())
        self.octets.append(octets)


@implementer(IStreamPolicy)
class Streaming:
    blocking = True
    wants = "stream"

    def __init__(self) -> None:
        self.begun: list[Any] = []

    def begin(self, inquiry: Any) -> Reader:
        self.begun.append(inquiry)
        return Reader()

    def examine(self, inquiry: Any) -> Any:
        self.inquiry = inquiry
        return Accept("read")


@implementer(IContentPolicy)
class Reading(Streaming):
    wants = "message"

    def examine(self, inquiry: Any) -> Any:
        self.octets = [b"".join(inquiry.blocks()) for _ in range(2)]
        return Accept("read")


class ContentTests(BlockingCase):
    def decided(self, policy: Any) -> Any:
        examining = self.of(policy).content("id", content().envelope, [inquiry("jon@example.org")])
        self.assertFalse(examining.wants_stream)
        fields = Fields(b"Subject: hello\r\n")
        return self.came(Deferred.fromCoroutine(examining.decide(len(MESSAGE), fields, self.blocks)))

    def blocks(self) -> Iterator[bytes]:
        for at in range(0, len(MESSAGE), 5):
            self.read_in.add(threading.get_ident())
            yield MESSAGE[at : at + 5]

    def setUp(self) -> None:
        super().setUp()
        self.read_in: set[int] = set()

    def test_a_message_is_read_by_a_thread_as_often_as_it_likes(self) -> None:
        policy = Reading()
        self.assertEqual(self.decided(policy).each[0].verdict, Accept("read"))
        self.assertEqual(policy.octets, [MESSAGE, MESSAGE])
        self.assertEqual(self.read_in, {threading.get_ident()}, "the spool knows of no threads")

    def test_a_stream_is_read_in_a_thread_when_all_of_it_is_here(self) -> None:
        policy = Streaming()
        self.assertEqual(self.decided(policy).each[0].verdict, Accept("read"))
        (begun,) = policy.begun
        self.assertEqual((begun.size, list(begun.fields), begun.reader), (0, [], None))
        self.assertEqual(b"".join(policy.inquiry.reader.octets), MESSAGE)
        self.assertEqual(len(policy.inquiry.fields.all), 1)
        self.assertNotIn(threading.get_ident(), policy.inquiry.reader.threads)


class PageTests(SynchronousTestCase):
    """docs/blocking.md."""

    def test_its_policy_works_with_its_configuration(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        folder = Path(temporary.name)
        page = (Path(__file__).parent.parent / "docs/blocking.md").read_text()
        code, configured = (re.search(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("python", "toml"))
        assert code is not None
        assert configured is not None
        (folder / "moved.py").write_text(code[1])
        self.patch(sys, "path", [str(folder), *sys.path])
        self.addCleanup(sys.modules.pop, "moved", None)
        with sqlite3.connect(folder / "moved.db") as database:
            database.execute("CREATE TABLE moved (old, new)")
            database.execute("INSERT INTO moved VALUES ('jon@example.org', 'jon@example.net')")
        settings = load(
            configured[1], file="relay.toml", base=folder, hostname="mx.test", user="ann", option_model=option_model
        )
        world, reactor = FakeWorld(), Reactor()
        chain = make_chain(settings.policy, world.world, file="relay.toml", reactor=reactor)
        heard = []
        for name in ("Jon", "ann"):
            asked = Deferred.fromCoroutine(chain.route(inquiry(f"{name}@example.org")))
            reactor.until(lambda asked=asked: asked.called)  # type: ignore[misc]
            heard.append(str(self.successResultOf(asked).reply))
        self.assertEqual(
            heard, ["551 5.1.6 they are jon@example.net now", "550 5.7.1 <ann@example.org>: relaying denied"]
        )
        self.assertEqual(world.store.get("moved jon@example.org"), "jon@example.net")
