"""What senders are told, and when: NOTIFY, RET, ENVID and ORCPT (RFC 3461), deadlines (RFC 2852), release (RFC 4865)."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from relay.delivery.retry import Schedule
from relay.interfaces import Enrol, Settle
from relay.mail.decision import Refused
from relay.mail.dsn import Notify, Return, Wishes
from relay.mail.envelope import ByMode, DeliverBy
from relay.mail.outcome import Answered, Breakage, Broke, Carried, Peer, Phase
from relay.mail.reply import Reply
from tests.delivery_world import EPOCH, JON, DeliveryWorld, expansion, forwarded, local, wishing
from tests.test_notice import people_read, read, status_of

NEVER, SUCCESS, FAILURE, DELAY = Notify
MX = Peer("mx.example.net", "192.0.2.1")
OK = Carried(True, str(MX), "250 2.0.0 Ok: queued as 1")
UNKNOWN = Answered(Reply.of(550, "5.1.1", "user unknown"), Phase.RCPT, MX)
DOWN = Broke(Breakage.REFUSED, Phase.CONNECT, MX)
ANN = forwarded("ann@example.net")
BOB = local("bob@example.com")
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
BUSY = Refused(Reply.of(451, "4.3.0", "the table is locked"))


class TellingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = DeliveryWorld()

    def told(self) -> list[dict[str, str]]:
        """The fields about recipients of all notices, in their order."""
        return [group for octets in self.texts() for group in status_of(octets)[1:]]

    def actions(self) -> list[str]:
        return [f"{group['Action']} {group['Final-Recipient'].removeprefix('rfc822; ')}" for group in self.told()]

    def texts(self) -> list[bytes]:
        return [self.world.spool.texts[enrol.entry.id] for enrol in self.notices()]

    def notices(self) -> list[Enrol]:
        return self.world.spool.notices()

    def silences(self) -> list[dict[str, object]]:
        return self.world.log.said("unnoticed")

    def settled(self) -> list[str]:
        return [type(outcome).__name__ for id, outcome in self.world.spool.settled.items() if id in self.ids]

    def accept(self, *recipients: Any, **how: Any) -> str:
        id = self.world.accept(*recipients, **how)
        self.ids = {f"{id}.{at}" for at in range(len(recipients))}
        return id

    def down(self) -> None:
        self.world.hosts.answering("mx.example.net", DOWN)

    def tries(self) -> list[float]:
        """When the copy was tried, in seconds since the start."""
        return [when for when, host, ids in self.world.hosts.calls if set(ids) & self.ids]


class SuccessTests(TellingTestCase):
    def test_who_asked_hears_that_a_copy_is_in_its_mailbox(self) -> None:
        self.accept(BOB, wishes=wishing(SUCCESS))
        self.assertEqual(self.actions(), ["delivered bob@example.com"])
        self.assertEqual(self.told()[0]["Status"], "2.0.0")
        self.assertNotIn("Remote-MTA", self.told()[0])
        self.assertEqual(read(self.texts()[0])["Subject"], "Your message was delivered")

    def test_who_has_not_asked_hears_of_no_success(self) -> None:
        for wishes in (Wishes(), wishing(FAILURE, DELAY), wishing(NEVER)):
            self.accept(BOB, ANN, wishes=wishes)
        self.assertEqual((self.notices(), self.silences()), ([], []))

    def test_the_notice_is_kept_in_the_commit_that_settles_the_copy(self) -> None:
        self.accept(BOB, wishes=wishing(SUCCESS))
        (commit,) = [
            commit for commit in self.world.spool.commits if any(isinstance(step, Settle) for step in commit[:1])
        ][:1]
        self.assertEqual([type(step) for step in commit], [Settle, Enrol])

    def test_the_next_hop_that_offers_dsn_tells_and_any_other_does_not(self) -> None:
        self.world.hosts.answering("mx.example.net", OK, evolve(OK, told=True))
        self.accept(ANN, wishes=wishing(SUCCESS))
        self.assertEqual(self.actions(), ["relayed ann@example.net"])
        fields = self.told()[0]
        self.assertEqual((fields["Status"], fields["Remote-MTA"]), ("2.0.0", "dns; mx.example.net"))
        self.assertEqual(fields["Diagnostic-Code"], "smtp; 250 2.0.0 Ok: queued as 1")
        self.accept(ANN, wishes=wishing(SUCCESS))
        self.assertEqual(len(self.notices()), 1)
        self.assertEqual(self.settled(), ["Relayed"])

    def test_one_notice_tells_of_those_that_arrived_and_of_those_that_did_not(self) -> None:
        eve = forwarded("eve@example.net")
        self.world.hosts.scripts["mx.example.net"] = lambda *_: [OK, UNKNOWN]
        self.accept(ANN, eve, wishes=wishing(SUCCESS, FAILURE))
        self.assertEqual(len(self.notices()), 1)
        self.assertEqual(sorted(self.actions()), ["failed eve@example.net", "relayed ann@example.net"])

    def test_a_message_from_nobody_is_told_to_nobody(self) -> None:
        self.accept(BOB, reverse_path=None, wishes=wishing(SUCCESS, FAILURE, DELAY))
        self.assertEqual((self.notices(), self.settled()), ([], ["Delivered"]))
        self.assertEqual([said["because"] for said in self.silences()], ["null reverse-path"])

    def test_nobody_is_told_of_a_notice(self) -> None:
        self.accept(BOB, wishes=wishing(SUCCESS))
        self.assertEqual([enrol.entry.envelope.reverse_path for enrol in self.notices()], [None])
        self.world.pass_time(DAY)
        self.assertEqual(len(self.notices()), 1)

    def test_a_copy_that_was_carried_is_settled_though_its_sender_cannot_be_told_now(self) -> None:
        self.world.policies.decisions[str(JON)] = BUSY
        self.accept(BOB, wishes=wishing(SUCCESS))
        self.assertEqual((self.settled(), self.notices()), (["Delivered"], []))
        self.assertIn("not known now", str(self.silences()[0]["because"]))
        self.world.pass_time(DAY)
        self.assertEqual(len(self.world.maildir.got), 1)

    def test_while_what_failed_with_it_waits(self) -> None:
        eve = forwarded("eve@example.net")
        self.world.policies.decisions[str(JON)] = BUSY
        self.world.hosts.scripts["mx.example.net"] = lambda consignment, _: (
            [OK, UNKNOWN] if len(consignment.recipients) == 2 else UNKNOWN
        )
        self.accept(ANN, eve, wishes=wishing(SUCCESS, FAILURE))
        self.assertEqual(self.settled(), ["Relayed"])
        self.assertEqual([len(self.world.log.said(what)) for what in ("unnoticed", "notice_delayed")], [1, 1])
        self.world.policies.decisions.clear()
        self.world.pass_time(10 * MINUTE)
        self.assertEqual(self.actions(), ["failed eve@example.net"])

    def test_a_program_that_asks_is_told_and_one_that_answers_by_itself_is_not(self) -> None:
        text = b"Auto-Submitted: auto-replied\r\n\r\nI am away.\r\n"
        self.accept(BOB, local("eve@example.com"), wishes=[wishing(SUCCESS), Wishes()], text=text)
        self.assertEqual(self.actions(), ["delivered bob@example.com"])
        self.assertEqual(self.silences(), [])
        eve = forwarded("eve@example.net")
        self.world.hosts.answering("mx.example.net", UNKNOWN)
        self.accept(ANN, eve, wishes=[wishing(FAILURE), Wishes()], text=text)
        self.assertEqual(self.actions()[1:], ["failed ann@example.net"])
        self.assertEqual([said["because"] for said in self.silences()], ["the message was an automatic reply"])

    def test_when_the_relay_stops_meanwhile_the_copy_is_settled_with_the_reason(self) -> None:
        self.world.policies.decisions[str(JON)] = Deferred()
        self.accept(BOB, wishes=wishing(SUCCESS))
        stopped = self.world.dispatcher.stop()
        self.world.pass_time(15, step=1)
        self.successResultOf(stopped)
        self.assertEqual(self.settled(), ["Delivered"])
        self.assertEqual([said["because"] for said in self.silences()], ["the relay stopped"])


class FailureTests(TellingTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.world.hosts.answering("mx.example.net", UNKNOWN)

    def test_who_does_not_want_to_hear_of_failures_is_not_told_and_the_log_says_so(self) -> None:
        for wishes in (wishing(NEVER), wishing(SUCCESS, DELAY)):
            id = self.accept(ANN, wishes=wishes)
            self.assertEqual((self.notices(), self.settled()), ([], ["Failed"]))
            last = self.silences()[-1]
            self.assertEqual((last["id"], str(last["recipient"])), (id, "ann@example.net"))
            self.assertIn("NOTIFY", str(last["because"]))

    def test_a_notice_names_nobody_of_whom_the_sender_does_not_want_to_hear(self) -> None:
        eve = forwarded("eve@example.net")
        self.accept(ANN, eve, wishes=[wishing(FAILURE), wishing(NEVER)])
        self.assertEqual(self.actions(), ["failed ann@example.net"])
        self.assertEqual([str(said["recipient"]) for said in self.silences()], ["eve@example.net"])

    def test_the_silent_do_not_wait_for_a_notice_that_is_not_about_them(self) -> None:
        self.world.policies.decisions[str(JON)] = BUSY
        self.accept(ANN, forwarded("eve@example.net"), wishes=[wishing(FAILURE), wishing(NEVER)])
        self.assertEqual(self.settled(), ["Failed"])
        self.assertEqual(len(self.world.spool.pending()), 1)

    def test_the_senders_own_names_come_back_decoded(self) -> None:
        self.accept(ANN, wishes=wishing(FAILURE, orcpt="rfc822;Ann+2BHome@Example.NET"), envid="QQ+3D314+20159")
        fields = status_of(self.texts()[0])
        self.assertEqual(fields[0]["Original-Envelope-Id"], "QQ=314 159")
        self.assertEqual(fields[1]["Original-Recipient"], "rfc822;Ann+Home@Example.NET")

    def test_names_that_were_not_given_are_not_invented(self) -> None:
        self.accept(ANN)
        fields = status_of(self.texts()[0])
        self.assertNotIn("Original-Envelope-Id", fields[0])
        self.assertNotIn("Original-Recipient", fields[1])
        self.assertNotIn("Deliver-By-Date", fields[0])

    def returned(self, **how: Any) -> bytes:
        """The last part of the notice, from its kind on."""
        self.accept(ANN, **how)
        return self.texts()[-1].rpartition(b"Content-Type: ")[2]

    def test_all_of_a_message_is_returned_if_that_is_wanted(self) -> None:
        for form in (Return.HEADERS, None):
            part = self.returned(returns=form)
            self.assertTrue(part.startswith(b"text/rfc822-headers"), part)
            self.assertNotIn(b"\r\nhello\r\n", part)
        part = self.returned(returns=Return.FULL)
        self.assertTrue(part.startswith(b"message/rfc822"), part)
        self.assertIn(b"\r\n\r\nReceived: here\r\nSubject: hello\r\n", part)
        self.assertIn(b"\r\n\r\nhello\r\n", part)

    def test_but_not_a_large_one(self) -> None:
        head = b"Subject: hello\r\n\r\n"
        for size, kind in ((64 * 1024, b"message/rfc822"), (64 * 1024 + 1, b"text/rfc822-headers")):
            text = head + b"x" * 62 + b"\r\n" + (b"x" * 62 + b"\r\n") * 2000
            part = self.returned(returns=Return.FULL, text=text[: size - 2] + b"\r\n")
            self.assertTrue(part.startswith(kind), size)

    def test_nor_of_one_that_must_not_travel_in_clear(self) -> None:
        part = self.returned(returns=Return.FULL, require_tls=True)
        self.assertTrue(part.startswith(b"text/rfc822-headers"), part)

    def test_nor_where_nothing_failed(self) -> None:
        self.accept(BOB, wishes=wishing(SUCCESS), returns=Return.FULL)
        self.assertIn(b"text/rfc822-headers", self.texts()[-1])
        self.assertNotIn(b"message/rfc822", self.texts()[-1])

    def test_a_message_without_a_header_is_returned_whole_too(self) -> None:
        part = self.returned(returns=Return.FULL, text=b"typed by hand\r\n", headless=True)
        self.assertTrue(part.startswith(b"message/rfc822"), part)
        self.assertIn(b"Received: here\r\n\r\ntyped by hand\r\n", part)

    def test_a_notice_is_guarded_and_as_urgent_as_what_it_tells_of(self) -> None:
        self.accept(ANN, require_tls=True, priority=4, returns=Return.FULL, envid="x")
        envelope = self.notices()[0].entry.envelope
        self.assertEqual((envelope.require_tls, envelope.priority), (True, 4))
        self.assertEqual((envelope.returns, envelope.envid, envelope.deliver_by), (None, "", None))
        self.accept(ANN)
        envelope = self.notices()[1].entry.envelope
        self.assertEqual((envelope.require_tls, envelope.priority), (False, None))


class DelayTests(TellingTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.down()

    def when_told(self, seconds: float = 6 * DAY, step: float = MINUTE) -> list[tuple[str, float]]:
        """Which notices were kept within this time, and when: hours since the start."""
        self.world.pass_time(seconds, step)
        return [
            (action.partition(" ")[0], round((enrol.entry.arrived - EPOCH) / HOUR, 2))
            for enrol, action in zip(self.notices(), self.actions(), strict=True)
        ]

    def test_who_asked_is_told_once_that_a_copy_still_waits(self) -> None:
        self.accept(ANN, wishes=wishing(DELAY, FAILURE))
        self.assertEqual(self.when_told(), [("delayed", 4.0), ("failed", 120.0)])
        fields = self.told()[0]
        self.assertEqual((fields["Status"], fields["Remote-MTA"]), ("4.4.1", "dns; mx.example.net"))
        self.assertIn("Will-Retry-Until", fields)
        self.assertIn("will be tried again", people_read(self.texts()[0]))

    def test_who_has_not_asked_is_not(self) -> None:
        for wishes in (Wishes(), wishing(FAILURE)):
            self.accept(ANN, wishes=wishes)
        self.accept(ANN, wishes=wishing(NEVER))
        self.accept(ANN, wishes=wishing(DELAY), reverse_path=None)
        self.assertEqual(self.when_told(4 * DAY), [])

    def test_the_operator_may_have_all_told_who_have_not_forbidden_it(self) -> None:
        self.world = DeliveryWorld(schedule=Schedule(warn=HOUR))
        self.down()
        self.accept(ANN)
        self.accept(ANN, wishes=wishing(FAILURE))
        self.accept(ANN, wishes=wishing(DELAY))
        self.assertEqual(self.when_told(4 * DAY), [("delayed", 1.0)] * 2)

    def test_a_restart_neither_forgets_nor_repeats_it(self) -> None:
        self.accept(ANN, wishes=wishing(DELAY))
        told: list[int] = []
        for hours in (3.9, 0.4, 10, 24):
            self.world.pass_time(hours * HOUR)
            told.append(len(self.notices()))
            old = self.world
            self.world = DeliveryWorld(shelf=old.spool.shelf, at=old.reactor.seconds(), running=False)
            self.down()
            self.successResultOf(Deferred.fromCoroutine(self.world.spool.recover()))
            self.world.dispatcher.start()
        self.assertEqual(told, [0, 1, 0, 0])

    def test_a_relay_that_was_down_at_the_time_tells_afterwards(self) -> None:
        self.world.enrol(ANN, wishes=wishing(DELAY), lease=None)
        self.world = DeliveryWorld(shelf=self.world.spool.shelf, at=9 * HOUR, running=False)
        self.down()
        self.world.dispatcher.start()
        self.assertEqual(self.when_told(20 * HOUR), [("delayed", 9.0)])

    def test_haste_neither_hides_nor_repeats_it(self) -> None:
        self.accept(ANN, wishes=wishing(DELAY))
        for _ in range(60):
            self.world.pass_time(10 * MINUTE + 1)
            self.successResultOf(Deferred.fromCoroutine(self.world.dispatcher.hasten("example.net")))
        self.assertEqual([action for action, _ in self.when_told(DAY)], ["delayed"])

    def test_each_recipient_is_told_of_by_itself(self) -> None:
        eve = forwarded("eve@example.net")
        self.accept(ANN, eve, wishes=[wishing(DELAY), Wishes()])
        self.when_told(DAY)
        self.assertEqual(self.actions(), ["delayed ann@example.net"])

    def test_no_two_notices_have_one_id(self) -> None:
        self.accept(ANN, wishes=wishing(DELAY, FAILURE), deliver_by=DeliverBy(EPOCH + HOUR, ByMode.NOTIFY))
        self.when_told()
        ids = {read(text)["Message-ID"] for text in self.texts()}
        self.assertEqual((self.actions(), len(ids)), (["delayed ann@example.net"] * 2 + ["failed ann@example.net"], 3))


class DeadlineTests(TellingTestCase):
    def by(self, seconds: float, mode: ByMode = ByMode.RETURN, trace: bool = False) -> DeliverBy:
        return DeliverBy(self.world.clock.now() + seconds, mode, trace)

    def test_what_is_not_delivered_in_time_has_failed_at_that_time(self) -> None:
        self.down()
        self.accept(ANN, deliver_by=self.by(1000))
        self.world.pass_time(999, step=1)
        self.assertEqual((self.tries(), self.notices()), ([0.0, 300.0, 900.0], []))
        self.world.pass_time(2)
        self.assertEqual(self.actions(), ["failed ann@example.net"])
        fields = status_of(self.texts()[0])
        self.assertEqual(fields[1]["Status"], "5.4.7")
        self.assertNotIn("Last-Attempt-Date", fields[1])
        self.assertEqual(fields[0]["Deliver-By-Date"], "Tue, 14 Nov 2023 22:30:00 +0000")
        self.assertEqual(fields[1]["Remote-MTA"], "dns; mx.example.net")
        self.assertEqual((self.tries(), self.settled()), ([0.0, 300.0, 900.0], ["Failed"]))

    def test_after_it_nothing_is_tried_even_the_first_time(self) -> None:
        self.world.enrol(ANN, deliver_by=self.by(60), lease=None)
        self.world.pass_time(61)
        self.world.dispatcher.wake()
        self.assertEqual(self.actions(), ["failed ann@example.net"])
        self.assertEqual([call for call in self.world.hosts.calls if "mx.example.net" in call], [])

    def test_an_attempt_that_ends_after_it_was_the_last(self) -> None:
        answer: Deferred[Any] = Deferred()
        self.world.hosts.scripts["mx.example.net"] = lambda *_: answer
        self.accept(ANN, deliver_by=self.by(60))
        self.world.pass_time(100)
        answer.callback(DOWN)
        self.assertEqual(self.told()[0]["Status"], "5.4.7")

    def test_an_attempt_that_succeeds_after_it_has_succeeded(self) -> None:
        answer: Deferred[Any] = Deferred()
        self.world.hosts.scripts["mx.example.net"] = lambda *_: answer
        self.accept(ANN, deliver_by=self.by(60))
        self.world.pass_time(100)
        answer.callback(OK)
        self.assertEqual((self.notices(), self.settled()), ([], ["Relayed"]))

    def test_who_does_not_want_to_hear_of_failures_is_not_told_of_this_one(self) -> None:
        self.down()
        self.accept(ANN, deliver_by=self.by(1000), wishes=wishing(DELAY))
        self.world.pass_time(2000)
        self.assertEqual((self.notices(), self.settled()), ([], ["Failed"]))
        self.assertEqual(len(self.silences()), 1)

    def test_a_deadline_of_the_other_kind_is_told_once_and_the_copy_tried_on(self) -> None:
        self.down()
        self.accept(ANN, deliver_by=self.by(1000, ByMode.NOTIFY))
        self.world.pass_time(2000, step=1)
        self.world.pass_time(DAY)
        self.assertEqual(self.actions(), ["delayed ann@example.net"])
        self.assertEqual(self.told()[0]["Status"], "4.4.7")
        self.assertEqual(round(self.notices()[0].entry.arrived - EPOCH), 1000)
        self.assertEqual(self.tries()[:4], [0.0, 300.0, 900.0, 1000.0])
        self.assertGreater(len(self.tries()), 6)

    def test_of_which_who_named_no_delay_does_not_hear(self) -> None:
        self.down()
        for wishes in (wishing(FAILURE), wishing(NEVER), wishing(SUCCESS)):
            self.accept(ANN, deliver_by=self.by(1000, ByMode.NOTIFY), wishes=wishes)
        self.world.pass_time(DAY)
        self.assertEqual(self.notices(), [])

    def test_a_deadline_that_had_passed_before_is_told_with_the_first_delay(self) -> None:
        self.down()
        self.accept(ANN, deliver_by=self.by(-10, ByMode.NOTIFY))
        self.world.pass_time(DAY)
        self.assertEqual([round(enrol.entry.arrived - EPOCH) for enrol in self.notices()], [0])

    def test_whoever_has_a_deadline_hears_that_a_server_took_over_that_may_not_keep_it(self) -> None:
        for wishes in (Wishes(), wishing(FAILURE)):
            self.accept(ANN, deliver_by=self.by(1000, ByMode.NOTIFY), wishes=wishes)
        self.assertEqual(self.actions(), ["relayed ann@example.net"] * 2)
        self.accept(ANN, deliver_by=self.by(1000, ByMode.NOTIFY), wishes=wishing(NEVER))
        self.accept(ANN, deliver_by=self.by(-1, ByMode.NOTIFY))
        self.accept(ANN, deliver_by=self.by(1000))
        self.accept(BOB, deliver_by=self.by(1000, ByMode.NOTIFY, trace=True))
        self.assertEqual(len(self.notices()), 2)

    def test_but_not_of_a_server_that_keeps_it_itself(self) -> None:
        self.world.hosts.answering("mx.example.net", evolve(OK, timed=True))
        self.accept(ANN, deliver_by=self.by(1000, ByMode.NOTIFY))
        self.assertEqual(self.actions(), [])

    def test_who_traces_hears_of_each_hop(self) -> None:
        self.world.hosts.answering("mx.example.net", evolve(OK, told=True))
        for mode in ByMode:
            self.accept(ANN, deliver_by=self.by(1000, mode, trace=True))
        self.assertEqual(self.actions(), ["relayed ann@example.net"] * 2)
        self.accept(ANN, deliver_by=self.by(1000, trace=True), wishes=wishing(NEVER))
        self.assertEqual(len(self.notices()), 2)


class ReleaseTests(TellingTestCase):
    def test_nothing_is_tried_before_its_release(self) -> None:
        self.accept(ANN, release=EPOCH + 5 * HOUR)
        self.world.pass_time(5 * HOUR - 1)
        self.assertEqual(self.tries(), [])
        self.successResultOf(Deferred.fromCoroutine(self.world.dispatcher.hasten("example.net")))
        self.assertEqual(self.tries(), [])
        self.world.pass_time(2, step=1)
        self.assertEqual((self.tries(), self.settled()), ([5 * HOUR], ["Relayed"]))

    def test_patience_begins_with_it(self) -> None:
        self.down()
        self.accept(ANN, release=EPOCH + 3 * DAY, wishes=wishing(DELAY, FAILURE))
        self.world.pass_time(9 * DAY)
        self.assertEqual(
            [round((enrol.entry.arrived - EPOCH) / HOUR) for enrol in self.notices()], [3 * 24 + 4, 8 * 24]
        )
        self.assertEqual(
            [status_of(text)[0]["Future-Release-Request"] for text in self.texts()], ["until;2023-11-17T22:13:20Z"] * 2
        )

    def test_a_restart_changes_nothing(self) -> None:
        self.world.enrol(ANN, release=EPOCH + 5 * HOUR)
        self.world = DeliveryWorld(shelf=self.world.spool.shelf, at=HOUR, running=False)
        self.successResultOf(Deferred.fromCoroutine(self.world.spool.recover()))
        self.world.dispatcher.start()
        self.world.pass_time(4 * HOUR - 1)
        self.assertEqual(self.world.hosts.calls, [])
        self.world.pass_time(2, step=1)
        self.assertEqual([call[0] for call in self.world.hosts.calls], [5 * HOUR])


class ExpansionTests(TellingTestCase):
    def test_who_asked_hears_that_the_alias_was_expanded(self) -> None:
        self.accept(BOB, expansion("team@example.com"), wishes=[wishing(FAILURE), wishing(SUCCESS, FAILURE)])
        self.assertEqual(self.actions(), ["expanded team@example.com"])
        self.assertEqual((self.told()[0]["Status"], sorted(self.settled())), ("2.0.0", ["Delivered", "Delivered"]))
        self.assertEqual([event for event, _ in self.world.log.events], ["delivered", "noticed", "relayed"])

    def test_no_agent_is_asked_for_it(self) -> None:
        self.accept(expansion("team@example.com"), wishes=wishing(SUCCESS))
        self.assertEqual(self.world.maildir.got, [])
        self.assertEqual(self.world.log.said("delayed"), [])

    def test_while_the_way_to_the_sender_is_not_known_it_waits(self) -> None:
        self.world.policies.decisions[str(JON)] = BUSY
        self.accept(expansion("team@example.com"), wishes=wishing(SUCCESS))
        self.assertEqual((self.settled(), self.notices()), ([], []))
        self.world.policies.decisions.clear()
        self.world.pass_time(10 * MINUTE)
        self.assertEqual((self.settled(), self.actions()), (["Delivered"], ["expanded team@example.com"]))

    def test_and_goes_back_when_the_relay_stops(self) -> None:
        self.world.policies.decisions[str(JON)] = Deferred()
        self.accept(expansion("team@example.com"), wishes=wishing(SUCCESS))
        stopped = self.world.dispatcher.stop()
        self.world.pass_time(15, step=1)
        self.successResultOf(stopped)
        self.assertEqual(len(self.world.spool.unclaimed()), 1)
        self.assertEqual(self.silences(), [])

    def test_a_deadline_that_has_passed_does_not_concern_it(self) -> None:
        self.world.enrol(
            expansion("team@example.com"),
            wishes=wishing(SUCCESS, FAILURE),
            lease=None,
            deliver_by=DeliverBy(EPOCH - 1, ByMode.RETURN),
        )
        self.world.dispatcher.wake()
        self.assertEqual(self.actions(), ["expanded team@example.com"])


class HasteTests(TellingTestCase):
    def hasten(self, domain: str, below: bool = False) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(self.world.dispatcher.hasten(domain, below)))

    def test_what_waits_for_a_domain_is_tried_at_once(self) -> None:
        self.world.hosts.answering("mx.example.net", DOWN, DOWN, OK)
        self.accept(ANN)
        self.world.pass_time(400)
        self.assertEqual(self.hasten("example.org"), 0)
        self.assertEqual(self.tries(), [0.0, 300.0])
        self.assertEqual(self.hasten("example.net"), 1)
        self.assertEqual((self.tries(), self.settled()), ([0.0, 300.0, 400.0], ["Relayed"]))

    def test_and_below_it_if_that_was_asked_for(self) -> None:
        self.down()
        self.accept(ANN)
        self.assertEqual((self.hasten("net"), self.hasten("net", below=True)), (0, 1))
