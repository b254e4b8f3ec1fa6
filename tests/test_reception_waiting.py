"""Policies that take their time: what a client hears of that, and what becomes of them when it does not wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from relay.history.memory import MemoryHistory
from relay.mail.address import Address
from relay.mail.edits import AddRecipient, ReplaceRecipients
from relay.mail.phases import Edit
from relay.mail.routing import ABSTAIN
from relay.smtp.octets import wire
from relay.testing.policy import NOON
from tests.stage import Client, StagedWorld, Users
from tests.test_reception_policies import CONFIGURATION, LATER, MESSAGE, NO, Script

POLICY = '[[policy]]\nname = "{name}"\nuse = "tests.test_reception_policies:{script}"\n'
#: How many policies there are that a test may make slow.
SOME = 5
#: The phases of a session.
PHASES = ("connection", "sender", "recipient", "content")


class WaitingCase(SynchronousTestCase):
    script = "Everywhere"

    def setUp(self) -> None:
        Script.says = {}
        Script.asked = {}

    def world(self, **more: str) -> Any:
        """A world with some more of these policies; `more` are settings of its first listener."""
        configuration = CONFIGURATION.format(script=self.script, mixed="split", when="")
        others = "".join(POLICY.format(name=f"script-{at}", script=self.script) for at in range(2, SOME + 1))
        configuration = configuration.replace(
            '[[policy]]\nname = "mailboxes"', f'{others}[[policy]]\nname = "mailboxes"'
        )
        settings = "".join(f'{key} = "{value}"\n' for key, value in more.items())
        configuration = configuration.replace("xclient =", f"{settings}xclient =")
        world: Any = StagedWorld(configuration, Users({}), history=MemoryHistory(lambda: NOON))
        self.time = world.clock
        return world

    def slow(self, seconds: float) -> Callable[[Any], Deferred[Any]]:
        """Says nothing, and takes so long for it."""

        def think(inquiry: Any) -> Deferred[Any]:
            answer: Deferred[Any] = Deferred()
            self.time.callLater(seconds, lambda: None if answer.called else answer.callback(ABSTAIN))
            return answer

        return think

    def reach(self, world: Any, phase: str) -> Client:
        """A client that has said all up to what this phase is about."""
        client: Client = world.meet()
        if phase == "connection":
            return client
        client.say("EHLO client.test")
        client.say("MAIL FROM:<bob@far.test>")
        if phase != "sender":
            client.say("RCPT TO:<ann@here.test>")
        if phase == "content":
            self.content(client)
        return client

    def content(self, client: Client) -> None:
        client.say("DATA")
        client.send(b"".join(wire([MESSAGE])))

    def heard_within(self, world: Any, client: Client, seconds: int) -> list[str]:
        heard = client.replies()
        for _ in range(seconds):
            world.clock.advance(1)
            world.settle()
            heard += client.replies()
        return heard


class DeadlineTests(WaitingCase):
    def test_one_who_never_answers_is_named_and_its_client_has_a_reference(self) -> None:
        for phase in PHASES:
            self.setUp()
            Script.says = {phase: lambda inquiry: Deferred()}
            world = self.world()
            client = self.reach(world, phase)
            (line,) = self.heard_within(world, client, 12)
            code = 421 if phase == "connection" else 451
            self.assertRegex(line, rf"^{code} 4\.3\.0 Local error, please try again later \[ref \w{{6}}\]$")
            self.assertEqual(client.closed, phase == "connection")
            what, fields = world.log.events[-1]
            self.assertEqual(
                (what, fields["policy"], fields["because"]), ("refused", "script", "no answer within 10 seconds")
            )

    def test_so_is_one_for_whom_those_before_it_have_left_no_time(self) -> None:
        for phase in PHASES:
            self.setUp()
            # Four of them have 30 seconds, which is all that there is for a command.
            world = self.world()
            Script.says = {phase: self.slow(9)}
            client = self.reach(world, phase)
            heard = self.heard_within(world, client, 29)
            self.assertEqual(heard, [], phase)
            (line,) = self.heard_within(world, client, 2)
            self.assertRegex(line, r"^4[25]1 4\.3\.0 .*\[ref \w{6}\]$")
            what, fields = world.log.events[-1]
            self.assertEqual((what, fields["policy"]), ("refused", "script-4"))

    def test_at_mail_of_a_client_who_is_spoken_for_two_phases_share_the_time(self) -> None:
        world = self.world()
        client = world.meet("127.0.0.9")
        client.say("EHLO front.test")
        client.say("XCLIENT ADDR=192.0.2.66")
        client.say("EHLO client.test")
        # Each of the phases takes 20 seconds: that is less than 30, and twice that is more.
        Script.says = {"connection": self.slow(4), "sender": self.slow(4)}
        self.assertEqual(client.say("MAIL FROM:<bob@far.test>"), [])
        self.assertEqual(self.heard_within(world, client, 29), [])
        (line,) = self.heard_within(world, client, 2)
        self.assertRegex(line, r"^451 4\.3\.0 .*\[ref \w{6}\]$")
        self.assertEqual(world.log.events[-1][1]["policy"], "script-3")

    def test_all_who_stand_instead_or_beside_have_the_time_of_one(self) -> None:
        named = [Address.parse(f"eve+{number}@here.test") for number in range(20)]
        for changes in ([ReplaceRecipients(named)], [AddRecipient(address) for address in named]):
            self.setUp()
            world = self.world()
            said = [Edit(changes), *[ABSTAIN] * SOME]
            # All policies together take 25 seconds for one of them.
            slow = self.slow(5)
            Script.says = {
                "recipient": lambda inquiry, slow=slow: slow(inquiry) if inquiry.recipient in named else ABSTAIN,
                "content": lambda inquiry, said=said: said.pop(0),
            }
            client = self.reach(world, "content")
            self.assertEqual(self.heard_within(world, client, 24), [])
            self.assertEqual([line[:3] for line in self.heard_within(world, client, 2)], ["250"])
            self.assertEqual(sum(map(len, world.mailboxes.values())), 20 if len(changes) == 1 else 21)


class GreetingDelayTests(WaitingCase):
    def test_who_has_waited_for_a_policy_waits_the_rest_of_the_delay(self) -> None:
        for thought, rest in ((0, 5), (2, 3), (7, 0)):
            self.setUp()
            world = self.world(greeting_delay="5s")
            answer: Deferred[Any] = Deferred()
            said = [answer if thought else ABSTAIN, *[ABSTAIN] * SOME]
            Script.says = {"connection": lambda inquiry, said=said: said.pop(0)}
            client = world.meet()
            self.assertEqual(self.heard_within(world, client, thought), [])
            answer.callback(ABSTAIN)
            heard = client.replies()
            for _ in range(rest):
                self.assertEqual(heard, [], thought)
                heard = self.heard_within(world, client, 1)
            self.assertEqual([line[:4] for line in heard], ["220 "], thought)

    def test_who_may_not_stay_is_not_kept_here_for_it(self) -> None:
        for verdict in (NO, LATER):
            answer: Deferred[Any] = Deferred()
            for answered in (verdict, answer):
                Script.says = {"connection": lambda inquiry, answered=answered: answered}
                client = self.world(greeting_delay="5s").meet()
                if answered is answer:
                    answer.callback(verdict)
                self.assertEqual(len([*client.greeting, *client.replies()]), 1)
                self.assertTrue(client.closed or client.say("EHLO client.test")[0].startswith("503"))


class GoneTests(WaitingCase):
    """The client does not wait."""

    def test_who_thinks_about_its_message_may_stop_and_nobody_else_is_asked(self) -> None:
        for phase in PHASES:
            self.setUp()
            cancelled: list[Any] = []
            Script.says = {phase: lambda inquiry, cancelled=cancelled: Deferred(cancelled.append)}
            world = self.world()
            client = self.reach(world, phase)
            client.hang_up()
            self.heard_within(world, client, 60)
            self.assertEqual((len(cancelled), len(Script.asked[phase])), (1, 1), phase)
            self.assertEqual([what for what, _ in world.log.events if what != "connection"], [])

    def test_nor_is_anybody_who_does_not_let_go(self) -> None:
        async def stubborn(inquiry: Any) -> Any:
            try:
                await Deferred()
            except CancelledError:
                return ABSTAIN

        world = self.world()
        Script.says = {"content": stubborn}
        self.reach(world, "content").hang_up()
        self.assertEqual(len(Script.asked["content"]), 1)
        world.settle()
        self.assertEqual(world.mailboxes, {})


class GoneWhileReadingTests(WaitingCase):
    script = "Reading"

    def test_there_is_nothing_left_to_read_and_nobody_complains(self) -> None:
        read: list[bytes] = []

        async def reads(inquiry: Any) -> Any:
            try:
                await Deferred()
            finally:
                read.append(b"".join(inquiry.blocks()))
            return ABSTAIN

        world = self.world()
        Script.says = {"content": reads}
        self.reach(world, "content").hang_up()
        world.settle()
        # It is told while there still is something.
        self.assertEqual(read, [MESSAGE])
        self.assertEqual(self.flushLoggedErrors(), [])
