"""
For those who write a history: its contract (`relay.interfaces.IHistory`) as a test case.

    class SqliteHistoryTests(HistoryContract, SynchronousTestCase):
        def open(self) -> IHistory:
            return SqliteHistory(...)

A history that answers at once is tested in milliseconds; for one that waits for threads the contract is mixed into
trial's asynchronous `TestCase`.
"""

from __future__ import annotations

import json
from typing import Any, Final

from attrs import frozen
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from relay.interfaces import HistoryUnavailable, IHistory
from relay.mail.address import Address, parse_address
from relay.mail.envelope import Client
from relay.mail.explanation import Decided, Step
from relay.mail.history import Account, Accounts, Findings, Happening, Life, Plain
from relay.mail.reply import Reply
from relay.testing.spool_case import clause

#: When the time of a test begins: 2026-11-23T12:00:00Z.
NOON: Final = 1795435200.0

ID: Final = "NG79W8MR4E21H9"
OTHER: Final = "NG79W8MR9XYZ0K"

ANN: Final = Address("Ann", "example.org")
BOB: Final = Address("bob", "example.net")
CLIENT: Final = Client("192.0.2.7", 12345, "c.example", True, "mx")


@frozen
class Long:
    """A step with more to say than is kept of all."""

    number: int
    whole = False

    def told(self) -> Step:
        return Step("recipient", str(self.number), because="because " * 40, looks=(("dns", "x" * 200, "y" * 200),) * 50)


class HistoryContract:
    """The contract, one clause a test. Mix it into a test case, and say how a history is made."""

    assertEqual: Any
    assertTrue: Any
    assertFalse: Any
    assertIsNone: Any
    assertIn: Any

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        self.time = Clock()

    def open(self) -> IHistory:
        """A history that is empty, and whose calendar is `calendar`. It is disposed of by whoever makes it."""
        raise NotImplementedError

    def calendar(self) -> float:
        return NOON + self.time.seconds()

    # What clauses are made of.

    def accept(self, history: IHistory, id: str = ID, **fields: object) -> None:
        """A message from Ann to Bob, unless something else is said."""
        said: dict[str, object] = {
            "sender": ANN,
            "recipients": 1,
            "to": str(BOB),
            "size": 1234,
            "client": "192.0.2.7",
            "helo": "c.example",
            "listener": "mx",
            "user": None,
            "message_id": "<1234.Abc@mail.example.org>",
        }
        history.event("accepted", id=id, **{**said, **fields})

    async def ids(self, history: IHistory, text: str, most: int = 20) -> list[str]:
        found = await history.find(text, most)
        return [life.id for life in found.lives]

    async def life(self, history: IHistory, text: str) -> Life:
        """The only one that is found."""
        found = await history.find(text)
        self.assertEqual(len(found.lives), 1)
        return found.lives[0]

    # Clauses.

    @clause
    async def test_it_provides_the_interface(self) -> None:
        verifyObject(IHistory, self.open())

    @clause
    async def test_an_empty_history_has_nothing_to_say(self) -> None:
        history = self.open()
        self.assertEqual(await history.find(ID), Findings(()))

    @clause
    async def test_the_life_of_a_message_is_told_in_order_and_word_for_word(self) -> None:
        history = self.open()
        self.accept(history)
        self.time.advance(1.5)
        reply = Reply.of(450, "4.2.0", "Come back later")
        history.event("delayed", id=ID, recipient=BOB, diagnostic=reply, attempts=1, age=1.5, again_in=300, note="")
        self.time.advance(300)
        history.event("relayed", id=ID, recipient=BOB, by="mx.example.net[192.0.2.9]:25", text='250 "Ok" \\ \x1b é')
        accepted: dict[str, Plain] = {
            "sender": "Ann@example.org",
            "recipients": 1,
            "to": "bob@example.net",
            "size": 1234,
            "client": "192.0.2.7",
            "helo": "c.example",
            "listener": "mx",
            "message_id": "<1234.Abc@mail.example.org>",
        }
        delayed: dict[str, Plain] = {
            "recipient": "bob@example.net",
            "diagnostic": "450 4.2.0 Come back later",
            "attempts": 1,
            "age": 1.5,
            "again_in": 300,
        }
        relayed: dict[str, Plain] = {
            "recipient": "bob@example.net",
            "by": "mx.example.net[192.0.2.9]:25",
            "text": '250 "Ok" \\ \x1b é',
        }
        self.assertEqual(
            await history.find(ID),
            Findings(
                (
                    Life(
                        ID,
                        (
                            Happening(NOON, "accepted", accepted),
                            Happening(NOON + 1.5, "delayed", delayed),
                            Happening(NOON + 301.5, "relayed", relayed),
                        ),
                    ),
                ),
                since=NOON,
            ),
        )

    @clause
    async def test_a_message_is_found_by_whatever_people_have_of_it(self) -> None:
        history = self.open()
        self.accept(history, to="bob@example.net, carol@example.com")
        history.event("relayed", id=ID, recipient=Address("dave", "example.edu"), original=BOB)
        self.accept(history, OTHER, sender=None, to="zoe@example.info", message_id="<other@example.org>")
        for text in (
            ID,
            f" {ID.lower()}\n",
            "<1234.Abc@mail.example.org>",
            "1234.abc@MAIL.example.org",
            "ann@example.org",
            "<Ann@Example.Org>",
            "bob@example.net",
            "Carol@Example.com",
            "dave@example.edu",
        ):
            self.assertEqual(await self.ids(history, text), [ID])
        for text in ("nobody@example.org", "example.org", "ann", "", "<>", " ", "%", "192.0.2.7", ID[:-1]):
            self.assertEqual(await self.ids(history, text), [])

    @clause
    async def test_addresses_are_found_in_every_way_of_writing_them(self) -> None:
        history = self.open()
        umlaut = parse_address("jürgen@bücher.example")
        self.accept(history, sender=umlaut, to=f"{parse_address(chr(34) + 'a, b' + chr(34) + '@example.net')}, {BOB}")
        for text in ("jürgen@bücher.example", "JÜRGEN@xn--bcher-kva.example", '"a, b"@example.net', "bob@example.net"):
            self.assertEqual(await self.ids(history, text), [ID])
        self.assertEqual(await self.ids(history, "b@example.net"), [])

    @clause
    async def test_who_authenticated_is_found_by_name(self) -> None:
        history = self.open()
        self.accept(history, user="jon")
        history.event("authenticated", user="jon", client="192.0.2.8", listener="submission")
        self.assertEqual(await self.ids(history, "JON"), ["", ID])

    @clause
    async def test_the_newest_come_first_and_not_more_than_one_asks_for(self) -> None:
        history = self.open()
        ids = [f"NG79W8MR4E2{number:03}" for number in range(5)]
        for id in ids:
            self.accept(history, id)
            self.time.advance(1)
        self.assertEqual(await self.ids(history, "ann@example.org"), ids[::-1])
        found = await history.find("ann@example.org", 2)
        self.assertEqual([life.id for life in found.lives], ids[:2:-1])
        self.assertTrue(found.more)
        self.assertFalse((await history.find("ann@example.org", 5)).more)
        # What happens later to an older one does not make it a newer one.
        history.event("relayed", id=ids[0], recipient=BOB)
        self.assertEqual(await self.ids(history, "bob@example.net"), ids[::-1])

    @clause
    async def test_a_refusal_is_a_life_of_its_own_and_found_by_address_and_client(self) -> None:
        history = self.open()
        reply = Reply.of(550, "5.7.1", "relaying denied")
        for client in ("192.0.2.7", "2001:DB8::7"):
            history.event("refused", reply=str(reply), sender=ANN, recipient=BOB, policy="nobody-else", client=client)
        found = (await history.find("bob@example.net")).lives
        self.assertEqual([(life.id, len(life.happenings)) for life in found], [("", 1), ("", 1)])
        self.assertEqual([life.happenings[0].text("client") for life in found], ["2001:DB8::7", "192.0.2.7"])
        life = await self.life(history, "192.0.2.7")
        self.assertEqual(life.happenings[0].fields["reply"], "550 5.7.1 relaying denied")
        self.assertEqual(await self.life(history, "2001:db8::7"), found[0])

    @clause
    async def test_a_refusal_with_a_queue_id_is_found_by_it(self) -> None:
        history = self.open()
        history.event("refused", id=ID, reply="550 5.6.0 no", sender=ANN, client="192.0.2.7")
        for text in (ID, "ann@example.org", "192.0.2.7"):
            self.assertEqual((await self.life(history, text)).id, ID)

    @clause
    async def test_a_notice_leads_to_the_message_that_it_is_about_and_has_a_life_of_its_own(self) -> None:
        history = self.open()
        self.accept(history)
        history.event("noticed", id=ID, notice=OTHER, recipient=ANN)
        self.assertEqual(await self.ids(history, OTHER), [ID])
        history.event("delivered", id=OTHER, recipient=ANN)
        self.assertEqual(await self.ids(history, OTHER), [OTHER, ID])
        self.assertEqual(len((await self.life(history, ID)).happenings), 2)

    @clause
    async def test_what_a_peer_has_said_at_length_is_cut(self) -> None:
        history = self.open()
        history.event("failed", id=ID, recipient=BOB, diagnostic="x" * 70_000)
        life = await self.life(history, ID)
        self.assertEqual(life.happenings[0].text("diagnostic"), "x" * 1000 + "...")

    @clause
    async def test_nothing_that_it_is_told_makes_it_lose_the_rest(self) -> None:
        history = self.open()
        self.accept(history)
        history.event("failed", id=ID, recipient=BOB, because="\ud800 \x00 is no text", age=1.5)
        history.event("corrupt", id=OTHER)
        history.event("unnoticed", id=ID, because=("a", BOB), extra=object)
        life = await self.life(history, ID)
        self.assertEqual([each.what for each in life.happenings], ["accepted", "failed", "unnoticed"])
        self.assertEqual(life.happenings[2].fields["because"], ["a", "bob@example.net"])
        self.assertEqual(await self.ids(history, OTHER), [OTHER])

    # Why.

    def decide(self, history: IHistory, id: str = "", ref: str = "", **fields: Any) -> Decided:
        """A decision about mail from Ann to Bob, unless something else is said."""
        denied = Reply.of(550, "5.7.1", "relaying denied")
        said: dict[str, Any] = {"steps": (), "sender": ANN, "recipients": (BOB,), "client": CLIENT, "reply": denied}
        decision = Decided(**{**said, **fields})
        history.decided(decision, id=id, ref=ref)
        return decision

    async def whys(self, history: IHistory, text: str, most: int = 20) -> list[tuple[str, str]]:
        """The queue id and the reference of each."""
        return [(each.id, each.ref) for each in (await history.why(text, most)).accounts]

    @clause
    async def test_an_empty_history_knows_no_reason(self) -> None:
        self.assertEqual(await self.open().why("7K3QX2"), Accounts(()))

    @clause
    async def test_why_somebody_was_refused_is_found_by_the_reference_as_people_write_it(self) -> None:
        history = self.open()
        decision = self.decide(history, ref="7K3QX0", because="nobody is there")
        self.decide(history, ref="AAAAAA")
        found = await history.why("7K3QX0")
        self.assertEqual(found, Accounts((Account(NOON, "", "7K3QX0", decision.explanation()),), since=NOON))
        self.assertEqual(found.accounts[0].explanation.because, "nobody is there")
        for text in ("7k3qx0", "[ref 7K3QX0]", " ref 7k3qxo\n", "[REF 7K3QX0"):
            self.assertEqual(await self.whys(history, text), [("", "7K3QX0")])
        for text in ("7K3QX1", "7K3QX", "", "[ref ]", "ref"):
            self.assertEqual(await self.whys(history, text), [])

    @clause
    async def test_why_somebody_was_refused_is_found_by_address_and_client(self) -> None:
        history = self.open()
        self.decide(history, ref="7K3QX2")
        for text in ("<Ann@example.org>", "BOB@example.net", "192.0.2.7"):
            self.assertEqual(await self.whys(history, text), [("", "7K3QX2")])
        self.decide(history, ref="AAAAAA", sender=None, recipients=())
        self.assertEqual(await self.whys(history, "192.0.2.7"), [("", "AAAAAA"), ("", "7K3QX2")])
        self.assertEqual(await self.whys(history, "<>"), [])

    @clause
    async def test_why_a_message_was_accepted_is_found_by_all_by_which_the_message_is(self) -> None:
        history = self.open()
        for id in (ID, OTHER):
            # Whatever is told first.
            if id is ID:
                self.accept(history, id, message_id=f"<{id}@example.org>")
            self.decide(history, id, reply=Reply.of(250, "2.0.0", "queued"))
            if id is OTHER:
                self.accept(history, id, message_id=f"<{id}@example.org>")
        for text in (ID, ID.lower(), f"<{ID}@example.org>"):
            self.assertEqual(await self.whys(history, text), [(ID, "")])
        for text in ("ann@example.org", "bob@example.net"):
            self.assertEqual(await self.whys(history, text), [(OTHER, ""), (ID, "")])
        self.assertEqual(await self.whys(history, "192.0.2.7"), [])

    @clause
    async def test_who_traces_a_message_does_not_hear_why(self) -> None:
        history = self.open()
        self.accept(history)
        self.decide(history, ID, reply=Reply.of(250, "2.0.0", "queued"))
        self.decide(history, ref="7K3QX2")
        self.assertEqual([each.what for each in (await self.life(history, ID)).happenings], ["accepted"])
        self.assertEqual(await self.ids(history, "ann@example.org"), [ID])
        self.decide(history, OTHER, ref="AAAAAA")
        self.assertEqual(await self.ids(history, OTHER), [])
        self.assertEqual(await self.whys(history, OTHER), [(OTHER, "AAAAAA")])

    @clause
    async def test_the_newest_reasons_come_first_and_not_more_than_one_asks_for(self) -> None:
        history = self.open()
        for number in range(5):
            self.decide(history, ref=f"AAAAA{number}")
            self.time.advance(1)
        found = await history.why("bob@example.net", 2)
        self.assertEqual([each.ref for each in found.accounts], ["AAAAA4", "AAAAA3"])
        self.assertTrue(found.more)
        self.assertFalse((await history.why("bob@example.net", 5)).more)
        self.assertEqual(Accounts.from_json(found.to_json()), found)

    @clause
    async def test_what_came_about_in_many_steps_is_kept_within_bounds(self) -> None:
        history = self.open()
        steps = [Long(number) for number in range(10_000)]
        self.decide(history, ref="7K3QX2", steps=steps, because="\ud800" * 10_000)
        self.decide(history, ref="AAAAAA")
        (account,) = (await history.why("7K3QX2")).accounts
        told = account.explanation
        self.assertTrue(len(json.dumps(told.to_json())) <= 64 * 1024)
        self.assertEqual([step.policy for step in told.steps[:3]], ["0", "1", "2"])
        self.assertEqual(len(told.steps) + told.left_out, 10_000)
        self.assertEqual(len(await self.whys(history, "bob@example.net")), 2)

    @clause
    async def test_what_it_answers_travels_as_json(self) -> None:
        history = self.open()
        self.accept(history)
        found = await history.find(ID)
        self.assertEqual(Findings.from_json(found.to_json()), found)

    @clause
    async def test_a_closed_history_says_so(self) -> None:
        history = self.open()
        self.accept(history)
        await history.close()
        await history.close()
        self.accept(history)
        self.decide(history, ID)
        for ask in (history.find, history.why):
            try:
                await ask(ID)
            except HistoryUnavailable:
                continue
            raise AssertionError("it should have raised HistoryUnavailable")
