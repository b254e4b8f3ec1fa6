"""Addresses that have failed are known, for some days, to those who write to them."""

from __future__ import annotations

import json
import shutil
import stat
import tempfile
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from attrs import define
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from relay.assembly import Surroundings
from relay.delivery.suppression import Suppressed, Suppressions, address_of, why_no_list
from relay.interfaces import IChain, IMailLog
from relay.mail.address import Address
from relay.mail.decision import Accepted, Decision, Placement, Refused
from relay.mail.reply import Reply
from relay.mail.routing import Deliver, Forward, Inquiry, NextHop, Reject, Route
from relay.net.clock import ReactorClock
from relay.net.waiting import start
from relay.policy.guard import Networks
from relay.policy.suppressing import Suppressing
from relay.testing import world
from relay.testing.peers import Say
from relay.testing.policy import NOON, inquiry
from relay.testing.world import MailWorld

DAY = 86400.0
PEER = "mx.far.test[192.0.2.25]:25"
ANN, BOB, EVE = (Address(name, "far.test") for name in ("ann", "bob", "eve"))


class ListCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.file = self.folder / "suppressed"
        self.reactor = Clock()
        self.clock = ReactorClock(self.reactor, lambda: NOON + self.reactor.seconds())  # type: ignore[arg-type]
        self.list = self.made()
        self.said: list[str] = []
        globalLogPublisher.addObserver(self.hear)
        self.addCleanup(globalLogPublisher.removeObserver, self.hear)

    def hear(self, event: Any) -> None:
        if event.get("log_level") in (LogLevel.warn, LogLevel.error):
            self.said.append(event["log_format"])

    def made(self, **more: Any) -> Suppressions:
        made = Suppressions(self.file, self.clock, **more)
        made.load()
        return made

    def meet(self, address: Address = ANN, status: str = "5.1.1", diagnostic: str = "550 5.1.1 no") -> None:
        self.list.event("failed", id="Q", recipient=address, status=status, diagnostic=diagnostic, peer=PEER)

    def on(self, list: Suppressions) -> list[Address]:
        return [one.address for one in list.listed()]


class ListTests(ListCase):
    def test_it_is_told_what_the_mail_log_is_told(self) -> None:
        self.assertTrue(verifyObject(IMailLog, self.list))

    def test_who_does_not_exist_is_on_it_for_thirty_days(self) -> None:
        self.meet()
        expected = Suppressed(ANN, NOON, NOON + 30 * DAY, "550 5.1.1 no")
        self.assertEqual(self.list.find(ANN), expected)
        self.reactor.advance(30 * DAY - 1)
        self.assertEqual(self.list.listed(), (expected,))
        self.reactor.advance(1)
        self.assertIsNone(self.list.find(ANN))
        self.assertEqual(self.list.listed(), ())

    def test_so_is_who_is_in_no_domain_or_in_one_that_takes_no_mail_and_nobody_else(self) -> None:
        for status in ("5.1.1", "5.1.2", "5.1.10"):
            self.meet(Address(status, "far.test"), status)
        for status in ("5.0.0", "5.2.2", "5.7.1", "4.1.1", "5.1.3"):
            self.meet(EVE, status)
        for what in ("delayed", "refused", "delivered", "noticed"):
            self.list.event(what, recipient=EVE, status="5.1.1")
        self.list.event("accepted", sender=EVE, recipients=1)
        self.list.event("failed", recipient=EVE, status="5.1.1", because="a program has said so")
        self.assertEqual([address.local for address in self.on(self.list)], ["5.1.1", "5.1.2", "5.1.10"])

    def test_a_name_in_other_letters_is_another_one(self) -> None:
        self.meet()
        self.assertIsNone(self.list.find(Address("Ann", "far.test")))

    def test_mail_that_was_taken_takes_it_off(self) -> None:
        self.meet()
        self.list.event("relayed", recipient=BOB)
        self.assertEqual(self.on(self.made()), [ANN])
        self.list.event("relayed", recipient=ANN)
        self.assertEqual((self.list.find(ANN), self.on(self.made())), (None, []))

    def test_an_operator_puts_addresses_on_it_and_takes_them_off(self) -> None:
        self.list.add(BOB, "has asked for it", "root")
        self.assertEqual(self.list.find(BOB), Suppressed(BOB, NOON, NOON + 30 * DAY, "has asked for it", "root"))
        self.assertTrue(self.list.remove(BOB))
        self.assertFalse(self.list.remove(BOB))
        self.assertEqual(address_of("<ann@Far.test>"), ANN)
        self.assertIn("ann", str(self.assertRaises(ValueError, address_of, "ann")))

    def test_who_fails_again_begins_anew(self) -> None:
        self.meet(ANN)
        self.meet(BOB)
        self.reactor.advance(DAY)
        self.meet(ANN, diagnostic="550 still no\n")
        self.assertEqual(self.on(self.list), [BOB, ANN])
        self.assertEqual(self.list.find(ANN), Suppressed(ANN, NOON + DAY, NOON + 31 * DAY, "550 still no?"))

    def test_it_has_an_end(self) -> None:
        short = self.made(most=2)
        for address in (ANN, BOB, EVE):
            short.add(address, "", "")
        self.assertEqual(self.on(short), [BOB, EVE])


class FileTests(ListCase):
    def test_a_restart_finds_it_as_it_was(self) -> None:
        for address in (ANN, BOB, EVE, Address('a "b', "far.test"), Address("jörg", "far.test")):
            self.meet(address, diagnostic="550 é\x1b")
        self.list.remove(BOB)
        self.assertEqual(self.made().listed(), self.list.listed())
        self.assertEqual(len(self.list.listed()), 4)
        self.assertEqual(self.said, [])
        self.assertFalse(stat.S_IMODE(self.file.stat().st_mode) & stat.S_IRWXO)

    def test_one_that_ends_in_the_middle_of_a_line_is_read_up_to_there_and_mended(self) -> None:
        self.meet(ANN)
        self.meet(BOB)
        self.file.write_bytes(self.file.read_bytes()[:-7])
        found = self.made()
        self.assertEqual(self.on(found), [ANN])
        self.assertEqual(len(self.said), 1)
        found.add(EVE, "", "root")
        self.assertEqual(self.on(self.made()), [ANN, EVE])
        self.assertEqual(len(self.said), 1)

    def test_as_it_was_it_is_kept_when_lines_of_it_are_left_out(self) -> None:
        self.meet(ANN)
        was = self.file.read_bytes() + b"jon:secret\n"
        self.file.write_bytes(was)
        found = self.made()
        self.assertEqual((self.on(found), len(self.said)), ([ANN], 1))
        self.assertEqual(self.folder.joinpath("suppressed.damaged").read_bytes(), was)
        self.assertNotIn(b"jon", self.file.read_bytes())

    def test_where_no_copy_can_be_kept_nothing_is_left_out_of_the_file(self) -> None:
        self.folder.joinpath("suppressed.damaged").mkdir()
        self.meet(ANN)
        was = self.file.read_bytes() + b"jon:secret\n"
        self.file.write_bytes(was)
        found = self.made()
        found.add(BOB, "", "root")
        self.assertEqual((self.on(found), len(self.said)), ([ANN, BOB], 1))
        self.assertEqual(self.file.read_bytes(), was)

    def test_a_file_without_a_line_of_a_list_is_not_touched(self) -> None:
        for content in (b"jon:secret\nann:secret2\n", b"x", b"\n\n", b'{"event": "accepted"}\n'):
            self.file.write_bytes(content)
            found = self.made()
            found.add(ANN, "", "root")
            found.remove(ANN)
            self.assertEqual((self.on(found), len(self.said)), ([], 1), content)
            self.assertIn("is no suppression list", self.said.pop())
            self.assertEqual([each.name for each in self.folder.iterdir()], ["suppressed"])
            self.assertEqual(self.file.read_bytes(), content)
            self.assertIn("is no suppression list", why_no_list(self.file))

    def test_a_file_that_is_empty_or_not_there_or_a_list_can_be_one(self) -> None:
        self.assertEqual(why_no_list(self.file), "")
        self.file.touch()
        self.assertEqual(why_no_list(self.file), "")
        self.list = self.made()
        self.meet()
        self.assertEqual((why_no_list(self.file), self.said), ("", []))
        self.assertIn("cannot be read", why_no_list(self.folder))

    def test_a_time_that_no_calendar_has_is_no_time(self) -> None:
        self.meet(ANN)
        good = self.file.read_text()
        for time in ("1e300", "-1", "NaN", "Infinity", "1" + "0" * 400, "253402300800"):
            for key in ("since", "until"):
                line = {"address": str(ANN), "since": NOON, "until": NOON + DAY, "because": "", "by": "", key: 0}
                del line[key]
                self.file.write_text(good + json.dumps(line)[:-1] + f', "{key}": {time}}}\n')
                # Nor does the line take off who is there.
                self.assertEqual(self.on(self.made()), [ANN], (key, time))
                self.assertEqual(self.file.read_text(), good)

    @given(st.binary(max_size=200))
    def test_whatever_stands_in_it_nothing_raises(self, octets: bytes) -> None:
        self.meet()
        self.file.write_bytes(self.file.read_bytes() + octets)
        self.made()
        self.file.unlink()

    def test_what_stands_there_twice_is_removed_now_and_then(self) -> None:
        for _ in range(5000):
            self.meet()
        self.assertLess(len(self.file.read_bytes().splitlines()), 1100)
        self.assertEqual(self.made().listed(), self.list.listed())

    def test_a_disk_that_takes_nothing_is_said_once_and_what_it_missed_is_written_later(self) -> None:
        self.file = self.folder / "gone" / "suppressed"
        self.list = Suppressions(self.file, self.clock)
        self.meet(ANN)
        self.meet(BOB)
        self.assertEqual(self.on(self.list), [ANN, BOB])
        self.assertEqual(len(self.said), 1)
        self.file.parent.mkdir()
        self.meet(EVE)
        self.assertEqual(self.on(self.made()), [ANN, BOB, EVE])

    def test_a_file_that_cannot_be_read_is_not_overwritten(self) -> None:
        self.file.mkdir()
        self.list = self.made()
        self.file.rmdir()
        self.meet(ANN)
        self.assertEqual(self.on(self.list), [ANN])
        self.assertFalse(self.file.exists())
        self.assertEqual(len(self.said), 1)


class WorldTests(ListCase):
    CONFIGURATION = """
hostname = "mx.test"
[[listener]]
name = "mx"
address = "127.0.0.1:2525"
[[policy]]
use = "forward"
"""

    def setUp(self) -> None:
        super().setUp()
        self.patch(world, "Surroundings", partial(Surroundings, suppressions=self.list))
        self.world = MailWorld(self.CONFIGURATION)
        self.world.exchange("here.test", "192.0.2.26")
        self.far = self.world.exchange("far.test", "192.0.2.25").at("RCPT", Say("550 5.1.1 Unknown"), about="ann@")

    def asked(self, client: str) -> str:
        conversation = self.world.connect(client)
        conversation.say("EHLO client.test")
        conversation.say("MAIL FROM:<jon@here.test>")
        *_, reply = conversation.say("RCPT TO:<ann@far.test>")
        return reply

    def test_who_writes_again_to_an_address_that_has_failed_hears_of_it_at_once(self) -> None:
        self.assertTrue(self.asked("127.0.0.1").startswith("250 "))
        self.list.event("failed", recipient=Address("x", "nowhere.test"), status="5.1.2")
        self.assertTrue(self.list.remove(Address("x", "nowhere.test")))
        self.world.send("jon@here.test", ["ann@far.test", "bob@far.test"], b"Subject: hello\r\n\r\nHi!\r\n")
        self.world.settle()
        self.assertEqual([address.local for address in self.on(self.list)], ["ann"])
        self.assertIn("550 5.1.1 Unknown", self.asked("127.0.0.1"))
        self.assertTrue(self.asked("192.0.2.9").startswith("250 "))
        self.assertEqual(self.world.log.named("refused")[-1]["because"], "it is on the suppression list")


@implementer(IChain)
@define
class Answer:
    """A chain with one answer."""

    decision: Decision

    async def route(self, inquiry: Inquiry, observe: Any = None) -> Decision:
        return self.decision

    async def inquire(self, inquiry: Inquiry) -> Decision:
        return self.decision


class RefusalTests(ListCase):
    def setUp(self) -> None:
        super().setUp()
        self.meet()

    def decided(self, *routes: Route, asked: Inquiry | None = None, address: Address = ANN) -> Decision:
        asked = asked or inquiry("ann@far.test", user="jon")
        placements = tuple(Placement(address, asked.original, route, "outbound") for route in routes)
        chain = Suppressing(Answer(Accepted(placements)), self.list, Networks([]))
        decision: Any = start(chain.route(asked))
        assert isinstance(decision, Accepted | Refused)
        return decision

    def test_who_has_logged_in_is_told_at_once(self) -> None:
        text = "<ann@far.test>: mail to this address has failed, and is not tried again before 2026-12-23: 550 5.1.1 no"
        self.assertEqual(
            self.decided(Forward("far.test")),
            Refused(Reply.saying(550, "5.1.1", text), "outbound", "it is on the suppression list"),
        )

    def test_so_is_a_client_of_a_trusted_network_and_nobody_else(self) -> None:
        given = Accepted((Placement(ANN, ANN, Forward("far.test"), "outbound"),))
        chain = Suppressing(Answer(given), self.list, Networks([IPv4Network("10.0.0.0/8")]))
        for client, type_ in (("10.1.2.3", Refused), ("192.0.2.1", Accepted), (None, Accepted)):
            decision: Any = start(chain.route(inquiry("ann@far.test", client=client)))
            self.assertIsInstance(decision, type_, client)

    def test_what_is_none_of_that_is_as_the_policies_say(self) -> None:
        onward, here = Forward("far.test"), Deliver("maildir")
        for routes, asked, address in (
            ([onward], inquiry("ann@far.test", "<>", user="jon"), ANN),
            ([here], inquiry("ann@far.test", user="jon"), ANN),
            ([Forward(NextHop("unix:/run/lmtp", mx=False, lmtp=True))], inquiry("ann@far.test", user="jon"), ANN),
            ([onward], inquiry("bob@far.test", user="jon"), BOB),
            ([onward], inquiry("info@here.test", user="jon"), ANN),
            ([onward, here], inquiry("ann@far.test", user="jon"), ANN),
        ):
            self.assertIsInstance(self.decided(*routes, asked=asked, address=address), Accepted, (routes, asked))
        refused = Refused(Reply.of(550, "5.7.1", "no"))
        chain = Suppressing(Answer(refused), self.list, Networks([]))
        decision: Any = start(chain.route(inquiry("ann@far.test", user="jon")))
        self.assertIs(decision, refused)

    def test_it_is_a_chain(self) -> None:
        reject = Reject(Reply.of(550, "5.7.1", "no"))
        self.assertTrue(
            verifyObject(IChain, Suppressing(Answer(Accepted((Placement(ANN, ANN, reject),))), self.list, Networks([])))
        )
