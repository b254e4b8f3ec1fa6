"""What policies say of clients, senders and content, as a client hears it and as mail arrives."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.history.memory import MemoryHistory
from relay.interfaces import IConnectionPolicy, IContentPolicy, IRoutingPolicy, ISenderPolicy
from relay.mail.address import Address
from relay.mail.edits import AddField, AddRecipient, RemoveField, ReplaceField, ReplaceRecipients
from relay.mail.phases import Each, Edit
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Accept, Delay, Discard, Hold, Note, Reject
from relay.smtp.octets import wire
from relay.testing.policy import NOON
from tests.stage import Client, StagedWorld, Users

NO = Reject(Reply.of(550, "5.7.1", "we do not want that"), because="it is spam")
LATER = Delay(Reply.of(451, "4.7.1", "come again"), because="too busy")
ANN, BOB = Address.parse("ann@here.test"), Address.parse("bob@here.test")
MESSAGE = b"Subject: hello\r\nX-Spam: 7\r\n .\r\n\r\nHi!\r\n.dot\r\n"


class Script:
    """Says what the test has written for a phase, and notes what it was asked."""

    says: ClassVar[dict[str, Any]] = {}
    asked: ClassVar[dict[str, list[Any]]] = {}
    wants = "headers"
    read: ClassVar[list[bytes]] = []

    def __init__(self, options: Any, world: Any) -> None:
        pass

    def _say(self, phase: str, inquiry: Any) -> Any:
        self.asked.setdefault(phase, []).append(inquiry)
        answer = self.says.get(phase, ABSTAIN)
        return answer(inquiry) if callable(answer) else answer


@implementer(IConnectionPolicy, ISenderPolicy, IRoutingPolicy, IContentPolicy)
class Everywhere(Script):
    def connect(self, inquiry: Any) -> Any:
        return self._say("connection", inquiry)

    def sender(self, inquiry: Any) -> Any:
        return self._say("sender", inquiry)

    def route(self, inquiry: Any) -> Any:
        return self._say("recipient", inquiry)

    def examine(self, inquiry: Any) -> Any:
        return self._say("content", inquiry)


class Reading(Everywhere):
    wants = "message"


class Along(Everywhere):
    wants = "stream"

    def begin(self, inquiry: Any) -> Any:
        self.read.clear()
        return self

    def take(self, octets: bytes) -> None:
        self.read.append(octets)


CONFIGURATION = """\
[auth]
passwords = "passwords"
[content]
mixed = "{mixed}"
[[listener]]
name = "mx"
address = "127.0.0.1:2525"
tls = "offer"
xclient = ["127.0.0.9"]
[[listener]]
name = "lmtp"
address = "127.0.0.1:2424"
protocol = "lmtp"
[[listener]]
name = "submission"
address = "127.0.0.1:2587"
protocol = "submission"
tls = "offer"
[[policy]]
name = "script"
use = "tests.test_reception_policies:{script}"
{when}
[[policy]]
name = "mailboxes"
use = "mailbox"
domains = ["here.test"]
users = ["ann", "bob", "eve"]
directory = "mail"
"""


class PoliciesInSessionTests(SynchronousTestCase):
    def setUp(self) -> None:
        Script.says = {}
        Script.asked = {}

    def world(self, script: str = "Everywhere", *, mixed: str = "split", when: str = "", history: bool = False) -> Any:
        self.history = MemoryHistory(lambda: NOON) if history else None
        configuration = CONFIGURATION.format(script=script, mixed=mixed, when=when)
        return StagedWorld(configuration, Users({"ann@here.test": "secret"}), history=self.history)

    def begin(self, world: Any, *recipients: str, listener: str = "mx", prdr: bool = False) -> Client:
        client: Client = world.meet(listener=listener)
        client.say("LHLO client.test" if listener == "lmtp" else "EHLO client.test")
        client.say("MAIL FROM:<bob@far.test>" + (" PRDR" if prdr else ""))
        for recipient in recipients or ("ann@here.test",):
            client.say(f"RCPT TO:<{recipient}>")
        return client

    def sent(self, world: Any, *recipients: str, message: bytes = MESSAGE, **how: Any) -> list[str]:
        client = self.begin(world, *recipients, **how)
        client.say("DATA")
        client.send(b"".join(wire([message])))
        world.settle()
        return client.replies()

    def arrived(self, world: Any) -> dict[str, bytes]:
        """What was delivered, by mailbox, from the line behind our Received on."""
        world.settle()
        found = {}
        for folder, mails in world.mailboxes.items():
            octets = mails[-1].octets
            found[folder.rsplit("/", 1)[-1]] = octets.split(b"+0000\r\n", 1)[1]
        return found

    # Connection.

    def test_a_client_that_is_not_wanted_hears_so_instead_of_a_greeting(self) -> None:
        for verdict, greeting in [
            (NO, "554 5.7.1 we do not want that"),
            (LATER, "421 4.7.1 come again"),
            (Reject(Reply.of(554, "5.7.0", "go")), "554 5.7.0 go"),
        ]:
            Script.says["connection"] = verdict
            client = self.world().meet()
            self.assertEqual(client.greeting, [greeting])
            self.assertNotIn("250", client.say("EHLO client.test")[:1])

    def test_the_session_begins_when_policies_have_answered(self) -> None:
        answer: Deferred[Any] = Deferred()
        Script.says["connection"] = lambda inquiry: answer
        client = self.world().meet()
        self.assertEqual(client.greeting, [])
        answer.callback(ABSTAIN)
        self.assertTrue(client.replies()[0].startswith("220 "))

    def test_facts_go_along_from_the_connection_to_the_content(self) -> None:
        Script.says["connection"] = Note({"list": "no"})
        Script.says["sender"] = Accept("known", {"spf": "pass"})
        Script.says["recipient"] = Note({"vip": "yes"})
        self.sent(self.world())
        facts = {phase: dict(asked[0].facts) for phase, asked in Script.asked.items()}
        self.assertEqual(
            facts,
            {
                "connection": {},
                "sender": {"list": "no"},
                "recipient": {"list": "no", "spf": "pass"},
                "content": {"list": "no", "spf": "pass", "vip": "yes"},
            },
        )

    def test_a_client_is_asked_about_once_also_behind_starttls(self) -> None:
        Script.says["connection"] = Note({"list": "no"})
        client = self.world().meet()
        client.say("EHLO client.test")
        client.say("STARTTLS")
        client.handshake()
        client.say("EHLO client.test")
        client.say("MAIL FROM:<bob@far.test>")
        self.assertEqual(len(Script.asked["connection"]), 1)
        self.assertEqual(dict(Script.asked["sender"][0].facts), {"list": "no"})

    def test_whom_a_front_host_speaks_for_is_asked_about_at_mail(self) -> None:
        Script.says["connection"] = lambda inquiry: NO if inquiry.client.address == "192.0.2.66" else ABSTAIN
        world = self.world()
        client = world.meet("127.0.0.9")
        client.say("EHLO front.test")
        self.assertTrue(client.say("XCLIENT ADDR=192.0.2.66")[0].startswith("220 "))
        client.say("EHLO client.test")
        self.assertEqual(client.say("MAIL FROM:<bob@far.test>"), ["550 5.7.1 we do not want that"])
        self.assertEqual([each.client.address for each in Script.asked["connection"]], ["127.0.0.9", "192.0.2.66"])

    # Sender.

    def test_a_sender_is_refused_at_mail_and_another_one_may_be_tried(self) -> None:
        Script.says["sender"] = lambda inquiry: NO if str(inquiry.reverse_path) == "bad@far.test" else ABSTAIN
        client = self.world().meet()
        client.say("EHLO client.test")
        self.assertEqual(client.say("MAIL FROM:<bad@far.test> SIZE=77"), ["550 5.7.1 we do not want that"])
        self.assertEqual(client.say("RCPT TO:<ann@here.test>"), ["503 5.5.1 Say MAIL first"])
        self.assertEqual(client.say("MAIL FROM:<>"), ["250 2.1.0 Sender ok"])
        self.assertEqual([each.size for each in Script.asked["sender"]], [77, None])

    # Content.

    def test_content_is_refused_for_all(self) -> None:
        for verdict, reply in [(NO, "550 5.7.1 we do not want that"), (LATER, "451 4.7.1 come again")]:
            Script.says["content"] = verdict
            world = self.world()
            self.assertEqual(self.sent(world, "ann@here.test", "bob@here.test"), [reply])
            self.assertEqual(self.arrived(world), {})
            self.assertEqual(world.log.events[-1][0], "refused")

    def test_content_is_discarded_or_held(self) -> None:
        for verdict, word in [(Discard("spam"), "discarded"), (Hold("a look first"), "held")]:
            Script.says["content"] = verdict
            world = self.world()
            self.assertTrue(self.sent(world)[0].startswith("250 2.0.0 Ok: queued as "))
            self.assertEqual(self.arrived(world), {})
            _, fields = next(event for event in world.log.events if event[0] == word)
            self.assertEqual((fields["policy"], fields["because"]), ("script", verdict.because))

    def test_a_policy_sees_the_header_section(self) -> None:
        self.sent(self.world())
        (asked,) = Script.asked["content"]
        self.assertEqual([field.name for field in asked.fields], [b"subject", b"x-spam"])
        self.assertEqual(asked.recipients, (ANN,))
        self.assertEqual(asked.size, len(MESSAGE))
        self.assertIsNone(asked.blocks)

    def test_what_is_found_out_about_the_content_is_kept_with_its_copies(self) -> None:
        for verdict in (
            Note({"spam": "no"}),
            Accept(facts={"spam": "no"}),
            Edit([AddField("A", "b")], "", {"spam": "no"}),
        ):
            Script.says = {"recipient": Note({"vip": "yes"}), "content": verdict}
            world = self.world()
            world.relay.dispatcher.stop()
            (reply,) = self.sent(world)
            _, (pending,) = self.successResultOf(Deferred.fromCoroutine(world.spool.look_up(reply.rpartition(" ")[2])))
            self.assertEqual(dict(pending.recipient.facts), {"vip": "yes", "spam": "no"})

    def test_text_without_a_header_section_has_no_fields(self) -> None:
        Script.says["content"] = Edit([AddField("X-Seen", "yes"), RemoveField("subject")])
        world = self.world()
        self.sent(world, message=b"just text\r\n")
        self.assertEqual(len(Script.asked["content"][0].fields), 0)
        self.assertEqual(self.arrived(world)["ann"], b"X-Seen: yes\r\n\r\njust text\r\n")

    def test_a_policy_reads_the_whole_message_as_often_as_it_likes(self) -> None:
        seen: list[bytes] = []
        Script.says["content"] = lambda inquiry: [seen.extend(b"".join(inquiry.blocks()) for _ in "12"), ABSTAIN][1]
        for message in (MESSAGE, b"A: b\r\n\r\n" + b"x" * 70 + b"\r\n.y\r\n" * 20_000):
            seen.clear()
            self.sent(self.world("Reading"), message=message)
            self.assertEqual(seen, [message] * 2)

    @given(st.lists(st.integers(0, 60), max_size=5))
    def test_a_policy_reads_along_however_the_network_cuts(self, places: list[int]) -> None:
        self.setUp()
        world = self.world("Along")
        client = self.begin(world)
        client.say("DATA")
        octets = b"".join(wire([MESSAGE]))
        edges = [0, *sorted(place % len(octets) for place in places), len(octets)]
        for at, end in pairwise(edges):
            client.send(octets[at:end])
        world.settle()
        self.assertTrue(client.replies()[-1].startswith("250 "))
        self.assertEqual(b"".join(Script.read), MESSAGE)

    def test_fields_are_changed_and_not_one_octet_else(self) -> None:
        body = MESSAGE.partition(b"\r\n\r\n")[2]
        for changes, section in [
            ([AddField("X-New", "1")], b"X-New: 1\r\nSubject: hello\r\nX-Spam: 7\r\n .\r\n"),
            ([RemoveField("x-spam")], b"Subject: hello\r\n"),
            ([ReplaceField("Subject", "bye"), AddField("X", "y")], b"X: y\r\nSubject: bye\r\nX-Spam: 7\r\n .\r\n"),
            ([RemoveField("subject"), RemoveField("x-spam")], b""),
            ([ReplaceField("subject", "a\r\n .b")], b"Subject: a\r\n .b\r\nX-Spam: 7\r\n .\r\n".replace(b"S", b"s", 1)),
        ]:
            Script.says["content"] = Edit(changes)
            for chunked in (False, True):
                world = self.world()
                client = self.begin(world)
                if chunked:
                    client.send(b"BDAT %d LAST\r\n" % len(MESSAGE) + MESSAGE)
                else:
                    client.say("DATA")
                    client.send(b"".join(wire([MESSAGE])))
                world.settle()
                self.assertTrue(client.replies()[-1].startswith("250 "))
                self.assertEqual(self.arrived(world)["ann"], section + b"\r\n" + body, (changes, chunked))
                event = next(fields for what, fields in world.log.events if what == "accepted")
                self.assertEqual(event["edited"], "script")

    def test_a_message_that_is_nothing_but_fields_is_changed_too(self) -> None:
        Script.says["content"] = Edit([RemoveField("a"), AddField("C", "3")])
        world = self.world()
        self.sent(world, message=b"A: 1\r\nB: 2\r\n")
        self.assertEqual(self.arrived(world)["ann"], b"C: 3\r\nB: 2\r\n")

    def test_a_copy_goes_to_somebody_else_beside_and_instead(self) -> None:
        for change, boxes in [
            (AddRecipient(BOB), {"ann", "bob"}),
            (AddRecipient(ANN), {"ann"}),
            (ReplaceRecipients([BOB]), {"bob"}),
        ]:
            Script.says["content"] = Edit([change])
            world = self.world()
            self.assertTrue(self.sent(world)[0].startswith("250 "))
            self.assertEqual(set(self.arrived(world)), boxes)

    def test_a_copy_that_is_refused_harms_nobody_but_the_log(self) -> None:
        Script.says["content"] = Edit([AddRecipient(Address.parse("eve@far.test"))])
        world = self.world()
        self.assertTrue(self.sent(world)[0].startswith("250 "))
        self.assertEqual(set(self.arrived(world)), {"ann"})

    def test_who_is_there_instead_and_refused_refuses_the_message(self) -> None:
        Script.says["content"] = Edit([ReplaceRecipients([Address.parse("eve@far.test")])])
        world = self.world()
        self.assertEqual(self.sent(world), ["550 5.7.1 <ann@here.test>: relaying denied"])
        self.assertEqual(self.arrived(world), {})

    def test_a_policy_that_fails_makes_the_client_come_again(self) -> None:
        def raises(inquiry: Any) -> Any:
            raise LookupError

        for phase in ("connection", "sender", "content"):
            Script.says = {phase: raises}
            world = self.world()
            client = world.meet()
            if phase == "connection":
                self.assertTrue(client.greeting[0].startswith("421 4.3.0 "))
                continue
            client = self.begin(world)
            client.say("DATA")
            client.send(b"".join(wire([MESSAGE])))
            world.settle()
            client.replies()
            self.assertEqual(len([line for line in client.heard if line.startswith("451 4.3.0 ")]), 1, phase)
            self.assertEqual(self.arrived(world), {})
        self.flushLoggedErrors()

    def test_a_client_that_goes_while_policies_think_has_sent_nothing(self) -> None:
        answer: Deferred[Any] = Deferred()
        Script.says["content"] = lambda inquiry: answer
        world = self.world()
        client = self.begin(world)
        client.say("DATA")
        client.send(b"".join(wire([MESSAGE])))
        client.hang_up()
        answer.callback(ABSTAIN)
        self.assertEqual(self.arrived(world), {})
        self.assertEqual([what for what, _ in world.log.events if what == "accepted"], [])

    # Recipients that differ.

    def differing(self, **how: Any) -> tuple[Any, list[str]]:
        Script.says["content"] = Each({BOB: NO})
        world = self.world(mixed=how.pop("mixed", "split"))
        return world, self.sent(world, "ann@here.test", "bob@here.test", **how)

    def test_who_has_other_policies_about_content_comes_in_a_transaction_of_its_own(self) -> None:
        world = self.world(when='when = { recipient = ["bob@here.test"] }')
        client = self.begin(world, "ann@here.test")
        self.assertEqual(
            client.say("RCPT TO:<bob@here.test>"),
            ["452 4.5.3 Other policies hold for this recipient: send it a copy of its own"],
        )
        self.assertEqual(client.say("RCPT TO:<eve@here.test>"), ["250 2.1.5 Recipient ok"])

    def test_where_they_differ_all_the_same_the_client_is_to_send_them_apart(self) -> None:
        world, replies = self.differing()
        self.assertEqual(replies, ["451 4.7.1 Not all recipients take this message: send each a copy of its own"])
        self.assertEqual(self.arrived(world), {})

    def test_the_copies_of_who_refuses_are_held(self) -> None:
        world, replies = self.differing(mixed="hold")
        self.assertTrue(replies[0].startswith("250 "))
        self.assertEqual(set(self.arrived(world)), {"ann"})
        _, fields = next(event for event in world.log.events if event[0] == "held")
        self.assertEqual((str(fields["recipient"]), fields["because"]), ("bob@here.test", "it is spam"))

    def test_if_one_refuses_it_all_do(self) -> None:
        world, replies = self.differing(mixed="reject-all")
        self.assertEqual(replies, ["550 5.7.1 we do not want that"])
        self.assertEqual(self.arrived(world), {})

    def test_lmtp_and_prdr_say_each(self) -> None:
        for how in ({"listener": "lmtp"}, {"prdr": True}):
            world, replies = self.differing(**how)
            codes = [reply[:3] for reply in replies]
            self.assertEqual(codes, ["250", "550"] if "listener" in how else ["353", "250", "550", "250"], how)
            self.assertEqual(set(self.arrived(world)), {"ann"})

    def test_where_each_refuses_in_its_own_way_each_is_told(self) -> None:
        Script.says["content"] = Each({ANN: LATER, BOB: NO})
        world = self.world()
        replies = self.sent(world, "ann@here.test", "bob@here.test", listener="lmtp")
        self.assertEqual([reply[:3] for reply in replies], ["451", "550"])
        self.assertEqual(self.arrived(world), {})
        self.assertEqual([reply[:3] for reply in self.sent(self.world(), "ann@here.test", "bob@here.test")], ["451"])

    def test_a_sender_who_is_known_has_a_notice_of_who_refuses(self) -> None:
        Script.says["content"] = Each({BOB: NO})
        world = self.world()
        client = world.meet(listener="submission")
        client.say("EHLO client.test")
        client.say("STARTTLS")
        client.handshake()
        client.say("EHLO client.test")
        client.say("AUTH PLAIN AGFubkBoZXJlLnRlc3QAc2VjcmV0")
        world.settle()
        client.replies()
        client.say("MAIL FROM:<ann@here.test>")
        client.say("RCPT TO:<eve@here.test>")
        client.say("RCPT TO:<bob@here.test>")
        client.say("DATA")
        client.send(b"".join(wire([MESSAGE])))
        world.settle()
        self.assertTrue(client.replies()[-1].startswith("250 "))
        boxes = self.arrived(world)
        self.assertEqual(set(boxes), {"eve", "ann"})
        self.assertIn(b"we do not want that", boxes["ann"])

    # Accounts.

    def account(self, text: str) -> Any:
        assert self.history is not None
        found: Any = self.successResultOf(Deferred.fromCoroutine(self.history.why(text)))
        return found.accounts[0].explanation

    def test_each_refusal_has_a_reference_by_which_it_is_explained(self) -> None:
        for phase, step in (("connection", 0), ("sender", 1), ("recipient", 2), ("content", 3)):
            Script.says = {phase: NO}
            world = self.world(history=True)
            client = world.meet()
            heard = [*client.greeting]
            if phase != "connection":
                client = self.begin(world)
                client.say("DATA")
                client.send(b"".join(wire([MESSAGE])))
                world.settle()
                client.replies()
                heard = client.heard
            (line,) = [line for line in heard if "we do not want that" in line]
            self.assertRegex(line, r"^55\d 5\.7\.1 we do not want that \[ref [0-9A-Z]{6}\]$")
            explanation = self.account(line[-7:-1].lower())
            self.assertEqual(explanation.reply, line)
            self.assertEqual((explanation.policy, explanation.because), ("script", "it is spam"))
            phases = [each.phase for each in explanation.steps if each.policy == "script"]
            self.assertEqual(phases, ["connection", "sender", "recipient", "content"][: step + 1])

    def test_what_was_accepted_is_explained_by_its_queue_id(self) -> None:
        Script.says["content"] = Edit([AddField("X", "y")], because="a mark")
        (reply,) = self.sent(self.world(history=True))
        explanation = self.account(reply.rpartition(" ")[2])
        told = [(each.phase, each.policy) for each in explanation.steps]
        self.assertEqual(
            told,
            [
                ("connection", "script"),
                ("sender", "script"),
                ("recipient", "script"),
                ("recipient", "mailboxes"),
                ("content", "script"),
            ],
        )
        self.assertEqual(explanation.ways[0].recipient, "ann@here.test")

    def test_what_one_recipient_was_refused_for_is_no_part_of_the_others_account(self) -> None:
        Script.says["recipient"] = lambda inquiry: NO if inquiry.recipient == BOB else ABSTAIN
        (reply,) = self.sent(self.world(history=True), "bob@here.test", "ann@here.test")
        explanation = self.account(reply.rpartition(" ")[2])
        self.assertEqual({each.recipient for each in explanation.steps}, {"", "ann@here.test"})
