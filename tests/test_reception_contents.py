"""What policies say about one message, and what becomes of it, of its copies, and of what the client hears."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.monkey import MonkeyPatcher
from twisted.trial.unittest import SynchronousTestCase

from relay.history.memory import MemoryHistory
from relay.mail.address import Address
from relay.mail.dsn import Notify, Wishes
from relay.mail.edits import AddField, AddRecipient, ReplaceField, ReplaceRecipients
from relay.mail.explanation import Explanation
from relay.mail.phases import Each, Edit
from relay.mail.routing import ABSTAIN, Accept, Delay, Discard, Hold, Note, Reject
from relay.mail.screening import Outcome
from relay.policy.chain import Chain
from relay.reception.examination import Examination
from relay.reception.intake import Intake
from relay.reception.weighing import Judged
from relay.smtp.octets import wire
from relay.spool.memory import MemoryDraft
from relay.testing.policy import NOON
from tests.stage import Client, StagedWorld, Users
from tests.test_reception_policies import ANN, BOB, CONFIGURATION, LATER, MESSAGE, NO, Everywhere, Script

EVE, ARCHIVE, GONE, LIST = (Address.parse(f"{name}@here.test") for name in ("eve", "archive", "gone", "list"))
HEAD = CONFIGURATION.partition("[[policy]]")[0]
BOXES = """
[[policy]]
name = "mailboxes"
use = "mailbox"
domains = ["here.test"]
users = ["ann", "bob", "eve", "archive"]
directory = "mail"
"""
ALIAS = """
[[policy]]
name = "aliases"
use = "alias"
[policy.aliases]
"list@here.test" = ["ann@here.test", "gone@here.test"]
"both@here.test" = ["ann@here.test", "bob@here.test"]
"""
#: Each tells the client of each recipient.
SINGLY = ({"listener": "lmtp"}, {"prdr": True})


def script(name: str, when: str = "") -> str:
    return f'\n[[policy]]\nname = "{name}"\nuse = "tests.test_reception_policies:Everywhere"\n{when}\n'


class ContentCase(SynchronousTestCase):
    """A relay with these policies, and clients that send to it."""

    def setUp(self) -> None:
        Script.says = {}
        Script.asked = {}
        self.said: list[str] = []

    def content(self, *verdicts: Any) -> None:
        """What the scripts say about content, one after the other, each time anew for a message."""
        rest: Iterator[Any] = iter(verdicts)
        Script.says["content"] = lambda inquiry: next(rest)

    def world(self, *policies: str, mixed: str = "split", history: bool = False, boxes: str = BOXES) -> Any:
        self.history = MemoryHistory(lambda: NOON) if history else None
        configuration = HEAD.replace("{mixed}", mixed) + "".join(policies or (script("script"),)) + boxes
        return StagedWorld(configuration, Users({"ann@here.test": "secret"}), history=self.history)

    def send(
        self,
        world: Any,
        *recipients: str,
        listener: str = "mx",
        prdr: bool = False,
        message: bytes = MESSAGE,
        sender: str | None = None,
    ) -> list[str]:
        """What is heard at the end of the content. By `submission`: from a sender who is known."""
        client: Client = world.meet(listener=listener)
        client.say("LHLO client.test" if listener == "lmtp" else "EHLO client.test")
        if sender is None:
            sender = "ann@here.test" if listener == "submission" else "bob@far.test"
        if listener == "submission":
            client.say("STARTTLS")
            client.handshake()
            client.say("EHLO client.test")
            client.say("AUTH PLAIN " + base64.b64encode(b"\0ann@here.test\0secret").decode())
            world.settle()
            client.replies()
        client.say(f"MAIL FROM:<{sender}>" + (" PRDR" if prdr else ""))
        for recipient in recipients or ("ann@here.test",):
            name, _, more = recipient.partition(" ")
            [heard] = client.say(f"RCPT TO:<{name}> {more}".rstrip())
            self.assertTrue(heard.startswith("250 "), heard)
        client.say("DATA")
        client.send(b"".join(wire([message])))
        world.settle()
        replies = client.replies()
        return replies[1:] if prdr and len(replies) > 1 else replies

    def codes(self, replies: Sequence[str]) -> list[str]:
        return [reply[:3] for reply in replies]

    def boxes(self, world: Any) -> set[str]:
        world.settle()
        return {folder.rsplit("/", 1)[-1] for folder in world.mailboxes}

    def happened(self, world: Any, what: str) -> list[tuple[str, str]]:
        """Of whom such an event speaks, and why."""
        return [
            (str(fields.get("recipient")), str(fields.get("because") or ""))
            for event, fields in world.log.events
            if event == what
        ]

    def queued(self, world: Any, reply: str) -> list[Any]:
        """The recipients of a message that nobody has carried away yet."""
        found = self.successResultOf(Deferred.fromCoroutine(world.spool.look_up(reply.rpartition(" ")[2])))
        return [pending.recipient for pending in found[1]]

    def accounts(self, text: str) -> list[Explanation]:
        assert self.history is not None
        found: Any = self.successResultOf(Deferred.fromCoroutine(self.history.why(text)))
        return [account.explanation for account in found.accounts]


class FactsTests(ContentCase):
    def setUp(self) -> None:
        super().setUp()
        Everywhere.provides = {"spam", "who", "vip"}  # type: ignore[attr-defined]
        self.addCleanup(delattr, Everywhere, "provides")

    quarantine = '\n[[policy]]\nname = "q"\nuse = "quarantine"\nif = { spam = ["yes"], vip = ["yes"] }\n'

    def test_what_was_found_out_about_one_recipients_content_is_not_said_of_another(self) -> None:
        guarded = script("script", 'when = { recipient = ["bob@here.test"] }')
        guard = '\n[[policy]]\nname = "q"\nuse = "quarantine"\nwhen = { facts = { spam = ["yes"] } }\n'
        for verdict in (Note({"spam": "yes"}), Edit([AddField("A", "b")], facts={"spam": "yes"})):
            Script.says["content"] = verdict
            world = self.world(guarded, guard)
            self.send(world, "ann@here.test", "bob@here.test", listener="lmtp")
            self.assertEqual(self.boxes(world), {"ann"})
            self.assertEqual([recipient for recipient, _ in self.happened(world, "held")], ["bob@here.test"])

    def test_it_is_kept_with_that_recipients_copy_alone(self) -> None:
        Script.says["content"] = Note({"spam": "yes"})
        world = self.world(script("script", 'when = { recipient = ["bob@here.test"] }'))
        world.relay.dispatcher.stop()
        [reply, _] = self.send(world, "ann@here.test", "bob@here.test", listener="lmtp")
        facts = {str(each.address): dict(each.facts) for each in self.queued(world, reply)}
        self.assertEqual(facts, {"ann@here.test": {}, "bob@here.test": {"spam": "yes"}})

    def test_a_policy_knows_of_content_what_is_known_of_all_its_recipients(self) -> None:
        Script.says["sender"] = Note({"spam": "perhaps"})
        Script.says["recipient"] = lambda inquiry: Note({"who": inquiry.recipient.local, "vip": "yes"})
        self.send(self.world(), "ann@here.test", "bob@here.test")
        (asked,) = Script.asked["content"]
        self.assertEqual(dict(asked.facts), {"spam": "perhaps", "vip": "yes"})

    def test_mail_is_quarantined_by_what_is_known_of_its_recipient(self) -> None:
        Script.says["recipient"] = Note({"vip": "yes"})
        world = self.world(script("script"), self.quarantine)
        self.send(world)
        self.assertEqual(self.happened(world, "held"), [("ann@here.test", "in quarantine: vip is yes")])

    def test_an_alias_is_what_all_its_members_are(self) -> None:
        held = '\n[[policy]]\nname = "q"\nuse = "quarantine"\nwhen = { facts = { who = ["bob"] } }\n'
        Script.says["recipient"] = lambda inquiry: Note({"who": inquiry.recipient.local, "vip": "yes"})
        for members in ('"ann@here.test", "bob@here.test"', '"bob@here.test", "ann@here.test"'):
            Script.asked.clear()
            alias = f'\n[[policy]]\nname = "a"\nuse = "alias"\n[policy.aliases]\n"both@here.test" = [{members}]\n'
            world = self.world(alias, script("script"), held)
            self.send(world, "both@here.test")
            self.assertEqual(self.boxes(world), {"ann", "bob"})
            self.assertEqual(dict(Script.asked["content"][0].facts), {"vip": "yes"})

    def test_a_member_that_is_refused_has_no_say_in_that(self) -> None:
        Script.says["recipient"] = lambda inquiry: NO if inquiry.recipient == GONE else Note({"vip": "yes"})
        world = self.world(ALIAS, script("script"), self.quarantine)
        self.send(world, "list@here.test")
        self.assertEqual(self.happened(world, "held"), [("ann@here.test", "in quarantine: vip is yes")])

    def test_an_accept_for_one_recipient_keeps_its_facts(self) -> None:
        Script.says["content"] = Each({ANN: Accept(facts={"spam": "no"})})
        world = self.world()
        world.relay.dispatcher.stop()
        [reply, _] = self.send(world, "ann@here.test", "bob@here.test", listener="lmtp")
        facts = {str(each.address): dict(each.facts) for each in self.queued(world, reply)}
        self.assertEqual(facts, {"ann@here.test": {"spam": "no"}, "bob@here.test": {}})


class FollowingTests(ContentCase):
    """What is said of the client's recipients holds for those whom policies name."""

    def two(self, first: Any, second: Any, **how: Any) -> Any:
        self.content(first, second)
        return self.world(script("one"), script("two"), **how)

    def test_copies_for_others_are_held_where_all_is_held(self) -> None:
        for change in (ReplaceRecipients([EVE]), AddRecipient(EVE)):
            world = self.two(Edit([change]), Hold("a look first"))
            [reply] = self.send(world, "ann@here.test", "bob@here.test")
            self.assertTrue(reply.startswith("250 "))
            self.assertEqual(self.boxes(world), set())
            held = {recipient for recipient, because in self.happened(world, "held") if because == "a look first"}
            own = set() if isinstance(change, ReplaceRecipients) else {"ann@here.test", "bob@here.test"}
            self.assertEqual(held, {"eve@here.test", *own})

    def test_what_is_held_for_others_is_let_out_to_them(self) -> None:
        world = self.two(Edit([ReplaceRecipients([EVE])]), Hold("a look first"))
        [reply] = self.send(world)
        [recipient] = self.queued(world, reply)
        self.assertEqual((recipient.address, recipient.original, recipient.policy), (EVE, ANN, "two"))
        [held] = [fields for event, fields in world.log.events if event == "held"]
        self.assertEqual((held["recipient"], held["original"]), (EVE, ANN))

    def test_they_are_thrown_away_where_all_is_thrown_away(self) -> None:
        for change in (ReplaceRecipients([EVE]), AddRecipient(EVE)):
            world = self.two(Edit([change]), Discard("a virus"))
            [reply] = self.send(world, "ann@here.test", "bob@here.test")
            self.assertTrue(reply.startswith("250 "))
            self.assertEqual(self.boxes(world), set())
            self.assertEqual(
                self.happened(world, "discarded"), [("ann@here.test", "a virus"), ("bob@here.test", "a virus")]
            )

    def test_they_are_held_where_some_is_held_and_the_rest_thrown_away(self) -> None:
        for verdicts in ({ANN: Discard(), BOB: Hold("a look")}, {ANN: Hold("a look"), BOB: Discard()}):
            world = self.two(Edit([ReplaceRecipients([EVE])]), Each(verdicts))
            self.send(world, "ann@here.test", "bob@here.test")
            self.assertEqual(self.happened(world, "held"), [("eve@here.test", "a look")])
            self.assertEqual(self.boxes(world), set())

    def test_the_clients_recipients_are_gone_through_once_however_many_others_are_named(self) -> None:
        seen: list[str] = []

        def noted(kind: type, name: str) -> None:
            found = vars(kind)[name].fget

            def look(value: Any) -> Any:
                seen.append(name)
                return found(value)

            self.patch(kind, name, property(look))

        noted(Outcome, "facts")
        noted(Judged, "following")
        others = [Address(f"x{number}", "far.test") for number in range(20)]
        for change in ([ReplaceRecipients(others)], [AddRecipient(other) for other in others]):
            world = self.two(Edit(change), Hold("a look"), boxes=BOXES + '[[policy]]\nname = "on"\nuse = "forward"\n')
            self.send(world, "ann@here.test", "bob@here.test")
            held = [recipient for recipient, because in self.happened(world, "held") if because == "a look"]
            self.assertEqual([recipient for recipient in held if "@far" in recipient], [str(each) for each in others])
            self.assertEqual(seen, ["facts", "following"])
            seen.clear()

    def test_as_long_as_one_recipient_is_accepted_they_go_their_way(self) -> None:
        for other in (Hold(), Discard()):
            world = self.two(Edit([ReplaceRecipients([EVE])]), Each({ANN: other}))
            self.send(world, "ann@here.test", "bob@here.test")
            self.assertEqual(self.boxes(world), {"eve"})
            world = self.two(Edit([AddRecipient(EVE)]), Each({ANN: other}))
            self.send(world, "ann@here.test", "bob@here.test")
            self.assertEqual(self.boxes(world), {"bob", "eve"})

    def test_who_is_known_is_told_of_who_refuses_as_if_nothing_had_been_replaced(self) -> None:
        world = self.two(Edit([ReplaceRecipients([EVE])]), Each({BOB: NO}))
        [reply] = self.send(world, "archive@here.test", "bob@here.test", listener="submission")
        self.assertTrue(reply.startswith("250 "))
        self.assertEqual(self.boxes(world), {"eve", "ann"})
        [notice] = world.mailboxes["/world/mail/ann"]
        self.assertIn(b"we do not want that", notice.octets)
        self.assertEqual([recipient for recipient, _ in self.happened(world, "failed")], ["bob@here.test"])

    def test_a_known_sender_without_an_address_cannot_be_told(self) -> None:
        for mixed, code in (("split", "451"), ("reject-all", "550"), ("hold", "250")):
            self.content(Each({BOB: NO}))
            world = self.world(mixed=mixed)
            replies = self.send(world, "ann@here.test", "bob@here.test", listener="submission", sender="")
            self.assertEqual(self.codes(replies), [code])
            self.assertEqual(self.happened(world, "failed"), [])

    def test_nothing_is_sent_on_of_what_every_recipient_refuses(self) -> None:
        for change in (ReplaceRecipients([EVE]), AddRecipient(EVE)):
            for how in SINGLY:
                for verdicts, codes in (({ANN: LATER, BOB: NO}, ["451", "550"]), ({ANN: NO, BOB: NO}, ["550", "550"])):
                    world = self.two(Edit([change]), Each(verdicts))
                    replies = self.send(world, "ann@here.test", "bob@here.test", **how)
                    self.assertEqual(self.codes(replies)[: len(codes)], codes if len(replies) > 1 else ["550"])
                    self.assertEqual(self.boxes(world), set())
                    self.assertEqual(self.happened(world, "accepted"), [])

    def test_the_last_reply_of_prdr_is_negative_then(self) -> None:
        self.content(Each({ANN: LATER, BOB: NO}))
        replies = self.send(self.world(), "ann@here.test", "bob@here.test", prdr=True)
        self.assertEqual(self.codes(replies), ["451", "550", "451"])
        differ = "451 4.7.1 Not all recipients take this message: send each a copy of its own"
        self.assertEqual(replies[-1], differ)
        self.content(Each({ANN: LATER, BOB: NO}))
        self.assertEqual(self.send(self.world(), "ann@here.test", "bob@here.test"), [differ])

    def test_a_member_that_was_refused_at_rcpt_fails_and_is_never_held(self) -> None:
        self.content(Each({BOB: NO}))
        world = self.world(ALIAS, script("script"), mixed="hold")
        self.send(world, "list@here.test", "bob@here.test")
        self.assertEqual(self.boxes(world), {"ann"})
        self.assertEqual(self.happened(world, "held"), [("bob@here.test", "it is spam")])
        self.assertEqual([recipient for recipient, _ in self.happened(world, "failed")], ["gone@here.test"])

    def test_nor_is_it_forgotten_where_another_recipient_hears_of_it_at_once(self) -> None:
        for how in SINGLY:
            self.content(Each({BOB: NO}))
            world = self.world(ALIAS, script("script"))
            replies = self.send(world, "list@here.test", "bob@here.test", **how)
            self.assertEqual(self.codes(replies)[:2], ["250", "550"])
            self.assertEqual(self.boxes(world), {"ann"})
            self.assertEqual([recipient for recipient, _ in self.happened(world, "failed")], ["gone@here.test"])

    def test_of_an_alias_that_refuses_its_members_are_not_told_of_again(self) -> None:
        self.content(Each({LIST: NO}))
        world = self.world(ALIAS, script("script"))
        replies = self.send(world, "list@here.test", "bob@here.test", listener="lmtp")
        self.assertEqual(self.codes(replies), ["550", "250"])
        self.assertEqual(self.boxes(world), {"bob"})
        self.assertEqual(self.happened(world, "failed"), [])


class NamedByPoliciesTests(ContentCase):
    """Those to whom policies send it, and the client has not."""

    def questions(self) -> int:
        """How often somebody was asked about a recipient. (Where a notice would go is asked, too.)"""
        return sum(inquiry.recipient.domain == "here.test" for inquiry in Script.asked["recipient"])

    def routes(self, verdicts: dict[Address, Any]) -> None:
        Script.says["recipient"] = lambda inquiry: verdicts.get(inquiry.recipient, ABSTAIN)

    def test_one_that_is_delayed_delays_the_message_for_all(self) -> None:
        self.routes({EVE: LATER})
        for change in (ReplaceRecipients([BOB, EVE]), AddRecipient(EVE)):
            self.content(Edit([change]))
            world = self.world()
            self.assertEqual(self.send(world), ["451 4.7.1 come again"])
            self.assertEqual(self.boxes(world), set())
            self.assertEqual(self.happened(world, "accepted"), [])
            for how in SINGLY:
                Script.says["content"] = lambda inquiry: Edit([change])  # noqa: B023
                replies = self.send(self.world(), "ann@here.test", "archive@here.test", **how)
                self.assertEqual({*self.codes(replies)}, {"451"})

    def test_who_has_refused_the_content_hears_that_all_the_same(self) -> None:
        self.routes({EVE: LATER})
        self.content(Edit([AddRecipient(EVE)]), Each({BOB: NO}))
        replies = self.send(self.world(script("1"), script("2")), "ann@here.test", "bob@here.test", listener="lmtp")
        self.assertEqual(self.codes(replies), ["451", "550"])

    def test_one_that_is_refused_beside_others_fails_and_the_sender_is_told(self) -> None:
        self.routes({GONE: NO})
        self.content(Edit([ReplaceRecipients([EVE, GONE])]))
        world = self.world()
        [reply] = self.send(world, "bob@here.test", listener="submission")
        self.assertTrue(reply.startswith("250 "))
        self.assertEqual(self.boxes(world), {"eve", "ann"})
        self.assertIn(b"we do not want that", world.mailboxes["/world/mail/ann"][0].octets)

    def test_if_all_are_refused_so_is_the_message(self) -> None:
        self.routes({GONE: NO, EVE: NO})
        self.content(Edit([ReplaceRecipients([EVE, GONE])]))
        world = self.world(ALIAS, script("script"))
        self.assertEqual(self.send(world, "list@here.test"), ["550 5.7.1 we do not want that"])
        world.settle()
        self.assertEqual(self.happened(world, "failed"), [])

    def test_a_copy_beside_that_is_refused_is_left_out(self) -> None:
        self.routes({EVE: NO})
        self.content(Edit([AddRecipient(EVE)]))
        world = self.world()
        self.assertTrue(self.send(world)[0].startswith("250 "))
        self.assertEqual(self.boxes(world), {"ann"})

    def test_they_are_asked_about_in_the_place_of_whom_the_client_has_named(self) -> None:
        for change in (ReplaceRecipients([EVE]), AddRecipient(EVE)):
            Script.asked.clear()
            self.content(Edit([change]))
            self.send(self.world(), "ann@here.test", "bob@here.test")
            last = Script.asked["recipient"][-1]
            self.assertEqual((last.recipient, last.original), (EVE, ANN))

    def test_it_is_the_place_of_one_that_takes_the_message(self) -> None:
        self.content(Edit([AddRecipient(EVE)]), Each({ANN: NO}))
        self.send(self.world(script("1"), script("2")), "ann@here.test", "bob@here.test", listener="lmtp")
        self.assertEqual(Script.asked["recipient"][-1].original, BOB)

    def test_whom_the_client_has_named_too_is_not_asked_about_again(self) -> None:
        for changes, named, boxes in (
            ([ReplaceRecipients([BOB])], (), {"bob"}),
            ([AddRecipient(BOB)], (), {"ann", "bob"}),
            ([ReplaceRecipients([LIST])], ("list@here.test",), {"ann"}),
            ([ReplaceRecipients([EVE]), AddRecipient(BOB)], (), {"bob", "eve"}),
        ):
            Script.asked.clear()
            before: list[int] = []
            edit = Edit(changes)
            Script.says["content"] = lambda _, before=before, edit=edit: [before.append(self.questions()), edit][1]
            world = self.world(ALIAS, script("script"))
            self.send(world, "ann@here.test", "bob@here.test", *named)
            self.assertEqual(self.boxes(world), boxes)
            self.assertEqual(self.questions() - before[0], 1 if "eve" in boxes else 0)

    def test_who_refuses_the_content_gets_it_in_no_other_way(self) -> None:
        for change in (ReplaceRecipients([BOB, EVE]), AddRecipient(BOB)):
            for how in SINGLY:
                self.content(Edit([change]), Each({BOB: NO}))
                world = self.world(script("1"), script("2"))
                replies = self.send(world, "ann@here.test", "bob@here.test", **how)
                self.assertEqual(self.codes(replies)[:2], ["250", "550"])
                self.assertNotIn("bob", self.boxes(world))
                self.assertEqual(self.happened(world, "failed"), [])

    def test_where_nobody_is_left_to_have_it_instead_it_is_refused(self) -> None:
        self.content(Edit([ReplaceRecipients([BOB])]), Each({BOB: NO}))
        world = self.world(script("1"), script("2"))
        replies = self.send(world, "ann@here.test", "bob@here.test", listener="submission")
        self.assertEqual(replies, ["550 5.7.1 we do not want that"])
        world.settle()
        self.assertEqual(self.happened(world, "failed"), [])

    def test_a_copy_does_not_wait_for_the_greylist_again(self) -> None:
        greylist = '\n[[policy]]\nname = "grey"\nuse = "greylist"\n'
        bcc = '\n[[policy]]\nname = "journal"\nuse = "bcc"\nto = ["archive@here.test"]\n'
        world = self.world(greylist, bcc)
        client = world.meet()
        client.say("EHLO client.test")
        client.say("MAIL FROM:<bob@far.test>")
        [heard] = client.say("RCPT TO:<ann@here.test>")
        self.assertTrue(heard.startswith("450 "))
        world.clock.advance(301)
        self.assertTrue(self.send(world)[0].startswith("250 "))
        self.assertEqual(self.boxes(world), {"ann", "archive"})

    def test_nor_is_it_counted_by_a_rate_limit(self) -> None:
        limit = '\n[[policy]]\nname = "limit"\nuse = "rate-limit"\nby = ["recipient"]\nrate = "2/1h"\n'
        bcc = '\n[[policy]]\nname = "journal"\nuse = "bcc"\nto = ["archive@here.test"]\n'
        world = self.world(limit, bcc)
        for recipient in ("ann@here.test", "bob@here.test", "eve@here.test"):
            self.assertTrue(self.send(world, recipient)[0].startswith("250 "))
        world.settle()
        self.assertEqual(len(world.mailboxes["/world/mail/archive"]), 3)

    def test_what_the_client_wishes_holds_for_those_who_stand_instead(self) -> None:
        for named, wishes in [
            (
                ["ann@here.test NOTIFY=NEVER ORCPT=rfc822;a@x.test"],
                Wishes(frozenset({Notify.NEVER}), "rfc822;a@x.test"),
            ),
            (
                [
                    "ann@here.test NOTIFY=DELAY ORCPT=rfc822;a@x.test",
                    "bob@here.test NOTIFY=DELAY ORCPT=rfc822;b@x.test",
                ],
                Wishes(frozenset({Notify.DELAY})),
            ),
            (["ann@here.test NOTIFY=NEVER", "bob@here.test"], Wishes()),
        ]:
            self.content(Edit([ReplaceRecipients([EVE])]))
            world = self.world()
            world.relay.dispatcher.stop()
            [reply] = self.send(world, *named)
            [recipient] = self.queued(world, reply)
            self.assertEqual((recipient.address, recipient.wishes), (EVE, wishes))

    def test_nobody_hears_of_a_copy_beside(self) -> None:
        """Not even who wants to hear of success: it would be told of an expansion (RFC 3461 section 5.2.7.3)."""
        self.content(Edit([AddRecipient(ARCHIVE)]))
        world = self.world()
        world.relay.dispatcher.stop()
        [reply] = self.send(world, "ann@here.test NOTIFY=SUCCESS")
        ann, archive = self.queued(world, reply)
        self.assertEqual((ann.address, ann.original, ann.wishes.notify), (ANN, ANN, frozenset({Notify.SUCCESS})))
        self.assertEqual((archive.address, archive.original), (ARCHIVE, ARCHIVE))
        self.assertEqual(archive.wishes, Wishes(frozenset({Notify.NEVER})))


class FailingTests(ContentCase):
    def test_nothing_of_a_message_that_was_given_up_by_our_fault_gets_into_the_next_one(self) -> None:
        def waits(examination: Examination, size: int, section: bytes) -> Any:
            return fails.addCallback(lambda _: 1 / 0)

        def raises(examination: Examination, size: int, section: bytes) -> Any:
            raise ZeroDivisionError

        for judge in (raises, waits):
            fails: Deferred[None] = Deferred()
            world = self.world()
            client = world.meet()
            client.say("EHLO client.test")
            usual = Examination.judge
            heard: list[list[int]] = []
            for each, text in ((judge, b"secret"), (usual, b"public")):
                self.patch(Examination, "judge", each)
                client.codes("MAIL FROM:<bob@far.test>", "RCPT TO:<ann@here.test>")
                client.send(b"BDAT 19 LAST\r\nSubject: " + text + b"\r\n\r\n")
                if each is waits:
                    fails.callback(None)
                heard.append([int(reply[:3]) for reply in client.replies()])
            self.assertEqual(heard, [[451], [250]])
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            world.settle()
            [mail] = world.mailboxes["/world/mail/ann"]
            self.assertNotIn(b"secret", mail.octets)

    def test_nothing_is_taken_that_could_not_be_shown_to_whom_it_is_to_be_shown(self) -> None:
        def show(intake: Intake, transaction: Any, screening: Any) -> None:
            self.patch(Intake, "show", usual)
            raise ZeroDivisionError

        usual = Intake.show
        self.patch(Intake, "show", show)
        Script.says["content"] = NO
        client = self.world().meet()
        codes = client.codes("EHLO client.test", "MAIL FROM:<bob@far.test>", "RCPT TO:<ann@here.test>", "DATA")
        self.assertEqual(codes[-1], 451)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        client.send(b"BDAT 14 LAST\r\nSubject: x\r\n\r\n")
        self.assertEqual(self.codes(client.replies()), ["550"])


class AccountsTests(ContentCase):
    def test_each_recipient_that_is_refused_has_a_reference_an_event_and_an_account(self) -> None:
        for how in SINGLY:
            self.content(Each({BOB: NO, EVE: LATER}))
            world = self.world(history=True)
            replies = self.send(world, "ann@here.test", "bob@here.test", "eve@here.test", **how)
            id = replies[0].rpartition(" ")[2]
            self.assertEqual(self.codes(replies)[:3], ["250", "550", "451"])
            self.assertEqual(
                self.happened(world, "refused"), [("bob@here.test", "it is spam"), ("eve@here.test", "too busy")]
            )
            for recipient, reply in zip(("bob@here.test", "eve@here.test"), replies[1:3], strict=True):
                found = re.search(r" \[ref (\w{6})\]$", reply)
                assert found is not None, reply
                [account] = self.accounts(found[1])
                self.assertEqual((account.mail.recipients, account.policy), ((recipient,), "script"))
                self.assertEqual({step.recipient for step in account.steps}, {"", recipient})
                self.assertEqual(account.reply, reply)
            self.assertEqual([account.mail.recipients for account in self.accounts(id)], [("ann@here.test",)])
            [accepted] = [fields for event, fields in world.log.events if event == "accepted"]
            self.assertEqual((accepted["recipients"], accepted["to"]), (1, "ann@here.test"))

    def test_so_has_each_where_all_refuse_it_in_their_own_way(self) -> None:
        self.content(Each({ANN: LATER, BOB: NO}))
        world = self.world(history=True)
        replies = self.send(world, "ann@here.test", "bob@here.test", listener="lmtp")
        references = [reply[-7:-1] for reply in replies]
        self.assertEqual([self.accounts(each)[0].mail.recipients for each in references], [(str(ANN),), (str(BOB),)])
        self.assertEqual(len(self.happened(world, "refused")), 2)

    def test_how_others_came_to_have_a_copy_is_told(self) -> None:
        self.content(Edit([ReplaceRecipients([EVE]), AddRecipient(ARCHIVE)]))
        world = self.world(history=True)
        [reply] = self.send(world)
        [account] = self.accounts(reply.rpartition(" ")[2])
        told = [(step.phase, step.policy, step.recipient) for step in account.steps]
        for recipient in ("eve@here.test", "archive@here.test"):
            self.assertIn(("recipient", "mailboxes", recipient), told)

    def test_and_so_is_how_they_came_to_be_refused(self) -> None:
        self.content(Edit([ReplaceRecipients([Address.parse("x@far.test")])]))
        world = self.world(history=True)
        [reply] = self.send(world)
        [account] = self.accounts(reply[-7:-1])
        self.assertIn(("recipient", "x@far.test"), [(step.phase, step.recipient) for step in account.steps])


class SubmissionTests(ContentCase):
    def test_what_a_policy_has_put_there_is_not_added_again(self) -> None:
        for change in (AddField, ReplaceField):
            self.content(Edit([change("Message-ID", "<p@x.test>"), change("Date", "Thu, 1 Jan 2026 00:00:00 +0000")]))
            world = self.world()
            self.send(world, listener="submission", message=b"Subject: x\r\n\r\nhi\r\n")
            world.settle()
            [mail] = world.mailboxes["/world/mail/ann"]
            self.assertEqual(mail.octets.count(b"Message-ID: "), 1)
            self.assertEqual(mail.octets.count(b"Date: "), 1)
            [accepted] = [fields for event, fields in world.log.events if event == "accepted"]
            self.assertEqual(accepted["message_id"], "<p@x.test>")

    def test_what_is_still_lacking_is(self) -> None:
        self.content(Edit([AddField("Date", "Thu, 1 Jan 2026 00:00:00 +0000")]))
        world = self.world()
        [reply] = self.send(world, listener="submission", message=b"Subject: x\r\n\r\nhi\r\n")
        world.settle()
        [mail] = world.mailboxes["/world/mail/ann"]
        self.assertIn(f"Message-ID: <{reply.rpartition(' ')[2]}@mx.test>\r\n".encode(), mail.octets)
        self.assertEqual(mail.octets.count(b"Date: "), 1)


class SparedTests(ContentCase):
    """Where no policy about content means a message, it goes as if there were none, and leaves the same behind."""

    policies = (
        script("for-bob", 'when = { recipient = ["bob@here.test"] }'),
        '\n[[policy]]\nname = "q"\nuse = "quarantine"\nwhen = { facts = { spam = ["yes"] } }\n',
        '\n[[policy]]\nname = "audit"\nuse = "quarantine"\nwhen = { sender = ["eve@far.test"] }\n',
        '\n[[policy]]\nname = "afar"\nuse = "quarantine"\nwhen = { client = ["203.0.113.0/24"] }\n',
    )

    def setUp(self) -> None:
        super().setUp()
        Everywhere.provides = {"spam"}  # type: ignore[attr-defined]
        self.addCleanup(delattr, Everywhere, "provides")

    def left_by(self, recipients: Sequence[str], how: dict[str, Any], *, spared: bool) -> Any:
        """Whether it was examined, and all that can be seen of it."""
        examined: list[Examination] = []
        examine = Intake.show

        def show(intake: Intake, transaction: Any, screening: Any) -> None:
            examine(intake, transaction, screening)
            assert intake.examination is not None
            examined.append(intake.examination)

        changed: Any = MonkeyPatcher((Intake, "show", show))  # type: ignore[no-untyped-call]
        if not spared:
            changed.addPatch(Chain, "sparing", lambda *_: lambda about: None)
        world = self.world(*self.policies, history=True)
        replies = changed.runWithPatches(self.send, world, *recipients, **how)
        boxes = self.boxes(world)
        accounts = [account.to_json() for account in self.accounts("ann@here.test")]
        ids = re.compile("queued as [^ ]+")
        return (
            bool(examined),
            [ids.sub("", reply) for reply in replies],
            boxes,
            [(what, {**fields, "id": None, "message_id": None}) for what, fields in world.log.events],
            ids.sub("", str(accounts)),
        )

    def test_what_is_left_of_it_is_the_same(self) -> None:
        ways: tuple[dict[str, Any], ...] = ({}, *SINGLY, {"listener": "submission"}, {"message": b"no header\r\n"})
        for how in ways:
            for recipients in (["ann@here.test"], ["ann@here.test", "archive@here.test NOTIFY=NEVER"]):
                examined, *left = self.left_by(recipients, how, spared=True)
                otherwise, *general = self.left_by(recipients, how, spared=False)
                self.assertEqual((examined, otherwise), (False, True))
                self.assertEqual(left, general)
                self.assertIn("'guard': 'facts'", left[3])

    def test_who_was_not_asked_is_told_also_of_one_that_ends_where_it_begins(self) -> None:
        world = self.world(*self.policies, history=True)
        client = world.meet()
        client.codes("EHLO client.test", "MAIL FROM:<bob@far.test>", "RCPT TO:<ann@here.test>", "BDAT 0 LAST")
        world.settle()
        [account] = self.accounts("ann@here.test")
        guards = [step.guard for step in account.steps if step.phase == "content"]
        self.assertEqual(guards, ["recipient", "facts", "sender", "client"])

    def test_one_recipient_who_is_meant_is_enough_for_it_to_be_examined(self) -> None:
        Script.says["content"] = Hold("a look first")
        for recipients in (["bob@here.test", "ann@here.test"], ["ann@here.test", "bob@here.test"], ["bob@here.test"]):
            examined, replies, boxes, *_ = self.left_by(recipients, {"listener": "lmtp"}, spared=True)
            self.assertEqual((examined, self.codes(replies)), (True, ["250"] * len(recipients)))
            self.assertEqual(boxes, {"ann"} if len(recipients) > 1 else set())
        examined, *_ = self.left_by(["ann@here.test"], {"sender": "eve@far.test"}, spared=True)
        self.assertTrue(examined)


class ThinkingTests(ContentCase):
    """What policies say of content comes to the same, whether or not they had to think about it."""

    verdicts: tuple[Any, ...] = (
        ABSTAIN,
        NO,
        LATER,
        Accept("fine", {"spam": "no"}),
        Discard("spam"),
        Hold("a look first"),
        Each({ANN: NO, BOB: Hold("a look first")}),
        Note({"spam": "yes"}),
        Edit([AddField("X-A", "1"), ReplaceField("Subject", "other")]),
        Edit([AddRecipient(EVE)]),
        Edit([ReplaceRecipients([ARCHIVE])]),
        Edit([AddRecipient(GONE)]),
        LookupError(),
    )
    #: Beside each what policies are shown of it as its header section.
    messages = (
        (MESSAGE, MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n"),
        (b"Subject: x\r\n.dotted: y\r\n\r\n.\r\nhi\r\n", b"Subject: x\r\n.dotted: y\r\n"),
        (b".first: y\r\nSubject: x\r\n\r\n", b".first: y\r\nSubject: x\r\n"),
        (b"Subject: no more than that\r\n", b"Subject: no more than that\r\n"),
        (b"\r\nno header\r\n", b""),
        (b"text\r\n", b""),
        (b"", b""),
    )

    def setUp(self) -> None:
        super().setUp()
        Everywhere.provides = {"spam"}  # type: ignore[attr-defined]
        self.addCleanup(delattr, Everywhere, "provides")

    def left_by(self, verdict: Any, recipients: Sequence[str], how: dict[str, Any], *, thinking: bool) -> Any:
        """All that can be seen of it."""
        world = self.world(
            script("script"), '\n[[policy]]\nuse = "quarantine"\nwhen = { facts = { spam = ["yes"] } }\n', history=True
        )
        seen: list[Any] = []

        def says(inquiry: Any) -> Any:
            seen.append((inquiry.recipients, inquiry.size, inquiry.fields.section))
            if isinstance(verdict, Exception):
                raise verdict
            return verdict

        async def thinks(inquiry: Any) -> Any:
            thought: Deferred[None] = Deferred()
            world.clock.callLater(0, thought.callback, None)
            await thought
            return says(inquiry)

        Script.says["content"] = thinks if thinking else says
        replies = self.send(world, *recipients, **how)
        world.settle()
        mailboxes = {folder: [mail.octets for mail in box] for folder, box in world.mailboxes.items()}
        accounts = [account.to_json() for account in self.accounts("ann@here.test")]
        self.flushLoggedErrors()
        ids = re.compile(r"[0-9A-Z]{12,}|\[ref \w+\]")
        return [ids.sub("", str(each)) for each in (seen, replies, mailboxes, accounts, world.log.events)]

    def test_all_that_is_seen_of_it_is_the_same(self) -> None:
        ways: tuple[dict[str, Any], ...] = ({}, *SINGLY, {"listener": "submission"})
        for verdict in self.verdicts:
            for how in ways:
                for recipients in (["ann@here.test"], ["ann@here.test", "bob@here.test"]):
                    at_once = self.left_by(verdict, recipients, how, thinking=False)
                    self.assertEqual(at_once, self.left_by(verdict, recipients, how, thinking=True))
                    if not isinstance(verdict, Reject | Delay | Each | Exception):
                        self.assertNotRegex(at_once[1], r"'[45]")

    def test_a_message_is_shown_as_it_is_meant_however_it_was_sent(self) -> None:
        for message, section in self.messages:
            for verdict in self.verdicts[-6:-1]:
                ways = [
                    self.left_by(verdict, ["ann@here.test"], {"message": message}, thinking=thinking)
                    for thinking in (False, True)
                ]
                self.assertEqual(*ways)
                self.assertRegex(ways[0][1], r"^\['250 [^']*'\]$")
                self.assertIn(f"{len(message)}, {section!r})", ways[0][0])


class ForgottenTests(ContentCase):
    """What nobody receives is looked at as everything is, and not kept anywhere."""

    discarded = '\n[[policy]]\nuse = "discard"\nwhen = { recipient = ["eve@here.test", "gone@here.test"] }\n'

    def setUp(self) -> None:
        super().setUp()
        self.written: list[int] = []
        write = MemoryDraft.write

        def noted(draft: MemoryDraft, octets: bytes) -> None:
            self.written.append(len(octets))
            write(draft, octets)

        self.patch(MemoryDraft, "write", noted)

    def test_it_is_accepted_and_recorded_and_never_written(self) -> None:
        for policies in ((self.discarded,), (self.discarded, script("script", 'when = { sender = ["x@y.test"] }'))):
            for recipients in (["eve@here.test"], ["gone@here.test", "eve@here.test"]):
                for how in ({}, *SINGLY, {"message": b"", "prdr": False}):
                    world = self.world(*policies, history=True)
                    replies = self.send(world, *recipients, **how)
                    self.assertEqual({reply[:3] for reply in replies}, {"250"})
                    self.assertEqual([name for name, _ in self.happened(world, "discarded")], recipients)
                    self.assertEqual(self.boxes(world), set())
                    self.assertEqual(len(self.accounts(recipients[-1])), 1)
        self.assertEqual(self.written, [])

    def test_it_is_written_if_one_receives_it(self) -> None:
        for recipients in (["eve@here.test", "ann@here.test"], ["ann@here.test", "eve@here.test"]):
            world = self.world(self.discarded)
            self.send(world, *recipients)
            self.assertEqual(self.boxes(world), {"ann"})

    def test_it_is_written_if_a_policy_looks_at_it_who_may_send_it_elsewhere(self) -> None:
        self.content(Edit([AddRecipient(ANN)]))
        world = self.world(self.discarded, script("script"))
        self.send(world, "eve@here.test")
        self.assertEqual(self.boxes(world), {"ann"})

    def test_what_is_wrong_with_it_is_told(self) -> None:
        loop = b"Received: by x\r\n" * 101 + b"\r\nhi\r\n"
        world = self.world(self.discarded)
        self.assertEqual(self.codes(self.send(world, "eve@here.test", message=loop)), ["554"])
        self.assertEqual(self.happened(world, "discarded"), [])
