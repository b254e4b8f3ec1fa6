"""VRFY and EXPN: policies are asked, and keep nothing of it."""

from __future__ import annotations

from typing import Any, get_args

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.interfaces import IRoutingPolicy
from relay.mail.routing import ABSTAIN
from relay.net.clock import ReactorClock
from relay.net.waiting import start
from relay.policy.chain import Chain, Station
from relay.policy.watched import watched
from relay.reception import visit
from relay.smtp.events import Question
from relay.testing.policy import FakeWorld, inquiry
from tests.stage import Client, StagedWorld, Users

CONFIGURATION = """
[auth]
passwords = "passwords"
[[listener]]
name = "submission"
address = "127.0.0.1:2587"
protocol = "submission"
tls = "offer"
verify = "authenticated"
expand = true
[[policy]]
name = "limit"
use = "rate-limit"
by = ["user"]
count = "recipients"
rate = "2/1h"
[[policy]]
name = "aliases"
use = "alias"
[policy.aliases]
"team@here.test" = ["ann@here.test", "bob@here.test"]
[[policy]]
name = "mailboxes"
use = "mailbox"
domains = ["here.test"]
users = ["ann", "bob"]
directory = "mail"
"""


class InquiriesTests(SynchronousTestCase):
    def test_who_only_asks_is_not_counted(self) -> None:
        world = StagedWorld(CONFIGURATION, Users({"ann@here.test": "secret"}))
        client: Client = world.meet()
        client.say("EHLO client.test")
        client.say("STARTTLS")
        client.handshake()
        client.say("EHLO client.test")
        client.say("AUTH PLAIN AGFubkBoZXJlLnRlc3QAc2VjcmV0")
        world.settle()
        client.replies()
        self.assertEqual(client.codes(*["VRFY ann@here.test", "EXPN team@here.test"] * 3), [250] * 6)
        client.say("MAIL FROM:<ann@here.test>")
        codes = client.codes(*["RCPT TO:<ann@here.test>"] * 3, "VRFY ann@here.test")
        # What counts is known to who asks, too.
        self.assertEqual(codes, [250, 250, 450, 450])


@implementer(IRoutingPolicy)
class Counts:
    """Keeps how often it was asked, before and behind a wait, and notes what it sees of that."""

    def __init__(self, world: Any) -> None:
        self.parts = (world.store.scoped("one"), world.store.scoped("two"))
        self.waiting: Deferred[None] = Deferred()
        self.seen: list[Any] = []

    async def route(self, asked: Any) -> Any:
        for part in self.parts:
            part.put("new", "1", 60)
            part.forget("old")
        await self.waiting
        for part in self.parts:
            part.put("count", str(int(part.get("count") or 0) + 1), 60)
            self.seen.append(sorted(part.items()))
        self.seen.append(self.parts[0].items("c", 1))
        return ABSTAIN


class AsideTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = FakeWorld()
        self.policy = Counts(watched(self.world.world))
        for store in (self.world.store.scoped("one"), self.world.store.scoped("two")):
            store.put("count", "7", 60)
            store.put("old", "1", 60)
        self.chain = Chain([Station("counts", self.policy)], ReactorClock(Clock()), Logger(observer=lambda event: None))
        self.kept = self.all_kept()

    def all_kept(self) -> list[list[tuple[str, str]]]:
        return [sorted(store.items()) for store in (self.world.store.scoped("one"), self.world.store.scoped("two"))]

    def test_nothing_is_kept_of_a_question_however_long_it_is_thought_about(self) -> None:
        asked: Any = start(self.chain.inquire(inquiry("ann@here.test")))
        self.assertEqual(self.all_kept(), self.kept)
        self.policy.waiting.callback(None)
        self.successResultOf(asked)
        self.assertEqual(self.all_kept(), self.kept)

    def test_but_whoever_keeps_something_finds_it_as_long_as_the_question_lasts(self) -> None:
        self.policy.waiting.callback(None)
        start(self.chain.inquire(inquiry("ann@here.test")))
        now = [("count", "8"), ("new", "1")]
        self.assertEqual(self.policy.seen, [now, now, [("count", "8")]])

    def test_mail_that_comes_meanwhile_counts(self) -> None:
        asked: Any = start(self.chain.inquire(inquiry("ann@here.test")))
        mail: Any = start(self.chain.route(inquiry("ann@here.test")))
        self.policy.waiting.callback(None)
        self.successResultOf(asked)
        self.successResultOf(mail)
        self.assertEqual(self.all_kept(), [[("count", "8"), ("new", "1")]] * 2)


class VisitTests(SynchronousTestCase):
    def test_there_is_an_answer_to_each_question(self) -> None:
        self.assertEqual(set(visit._ANSWERS), set(get_args(Question)))
