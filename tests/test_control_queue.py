"""What an operator may ask of the queue of a relay that runs, and do with it, over the control socket."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import UNIXAddress
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.assembly import answers_for_control
from relay.cli.queue_text import recipient_lines
from relay.control.api import MOST_SAID, Desk, site
from relay.interfaces import IRoutingPolicy, OutcomeUnknown, SpoolError
from relay.mail.routing import ABSTAIN, Hold, Inquiry
from relay.mail.selection import Verb
from relay.mail.waiting import OBSTACLES, Reason
from relay.testing.world import MailWorld

SICK = """
[[listener]]
address = "127.0.0.1:2525"
[[policy]]
use = "forward"
"""


class Socket:
    """The control socket of a relay: what HTTP says, and what it answers."""

    def __init__(self, desk: Desk) -> None:
        self._site = site(lambda: desk)

    def say(self, octets: bytes) -> tuple[int, Any]:
        """The status, and the object."""
        channel = self._site.buildProtocol(UNIXAddress("client"))
        transport = StringTransport(peerAddress=UNIXAddress("client"))
        channel.makeConnection(transport)
        channel.dataReceived(octets)
        head, _, body = transport.value().partition(b"\r\n\r\n")
        channel.connectionLost(None)
        assert b"application/json" in head, head
        return int(head.split()[1]), json.loads(body)

    def get(self, path: str, **words: str) -> tuple[int, Any]:
        query = f"?{urlencode(words)}" if words else ""
        return self.say(f"GET /{path}{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def post(self, path: str, body: bytes | None = None, **words: Any) -> tuple[int, Any]:
        octets = json.dumps(words).encode() if body is None else body
        return self.say(
            b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(octets)) + octets
        )


class ControlCase(SynchronousTestCase):
    """A relay with mail for three destinations of which nobody answers."""

    configuration = SICK

    def setUp(self) -> None:
        self.world = MailWorld(self.configuration)
        for domain in ("a", "b", "c"):
            self.world.names[f"{domain}.example"] = {"MX": [(10, f"mx.{domain}.example")]}
            self.world.names[f"mx.{domain}.example"] = {"A": ["192.0.2.9"]}
        self.socket = Socket(answers_for_control(self.world.relay, 42, {"127.0.0.1:2525": "127.0.0.1:2525"}))

    def post_mail(self, *to: str, sender: str = "jon@example.net") -> str:
        id = self.world.send(sender, to, b"Subject: hello\r\n\r\nHello.\r\n")
        self.world.pass_time(60)
        return id

    def get(self, path: str, **words: str) -> Any:
        status, said = self.socket.get(path, **words)
        self.assertEqual(status, 200, said)
        return said

    def post(self, path: str, **words: Any) -> Any:
        status, said = self.socket.post(path, **words)
        self.assertEqual(status, 200, said)
        return said

    def refused(self, status_and_said: tuple[int, Any], status: int, words: str) -> None:
        self.assertEqual(status_and_said[0], status, status_and_said)
        self.assertIn(words, status_and_said[1]["error"])

    def events(self, what: str) -> list[dict[str, Any]]:
        return [fields for event, fields in self.world.log.events if event == what]

    def reasons(self) -> set[str]:
        entries = self.get("queue")["entries"]
        return {recipient["why"] for entry in entries for recipient in entry["recipients"]}


class AskingTests(ControlCase):
    def test_the_queue_is_listed_by_message_with_the_reason_why_each_recipient_waits(self) -> None:
        first = self.post_mail("x@a.example", "y@b.example")
        second = self.post_mail("z@a.example", sender="")
        said = self.get("queue")
        self.assertEqual([entry["id"] for entry in said["entries"]], [first, second])
        self.assertEqual(said["next"], "")
        entry = said["entries"][0]
        self.assertEqual((entry["sender"], entry["queue"]), ("jon@example.net", "deferred"))
        self.assertEqual([each["address"] for each in entry["recipients"]], ["x@a.example", "y@b.example"])
        for recipient in entry["recipients"]:
            self.assertEqual((recipient["state"], recipient["attempts"]), ("deferred", 1))
            self.assertEqual(recipient["why"], Reason.NEXT_ATTEMPT.value)
            self.assertIn("4.4.1", recipient["delay_reason"])
        self.assertEqual(said["entries"][1]["sender"], "")

    def test_only_the_recipients_that_are_meant_are_listed(self) -> None:
        self.post_mail("x@a.example", "y@b.example")
        self.post_mail("z@c.example")
        [entry] = self.get("queue", to="@b.example")["entries"]
        self.assertEqual([each["address"] for each in entry["recipients"]], ["y@b.example"])
        self.assertEqual(self.get("queue", **{"from": "<>"})["entries"], [])

    def test_pages_come_one_after_the_other_and_no_message_is_torn(self) -> None:
        ids = [self.post_mail(*(f"u{n}@{d}.example" for n in range(3) for d in "ab")) for _ in range(4)]
        for most in ("1", "5", "6", "7", "24", "100"):
            listed: list[str] = []
            after = ""
            while True:
                said = self.get("queue", most=most, **({"after": after} if after else {}))
                for entry in said["entries"]:
                    self.assertEqual(len(entry["recipients"]), 6)
                    listed.append(entry["id"])
                after = said["next"]
                if not after:
                    break
            self.assertEqual(listed, ids, most)

    def test_it_is_counted_by_destination_and_by_what_was_met(self) -> None:
        for domain, many in (("a", 3), ("b", 2), ("c", 1)):
            for n in range(many):
                self.post_mail(f"u{n}@{domain}.example")
        said = self.get("queue/count")
        expected = {"a.example": {"deferred": 3}, "b.example": {"deferred": 2}, "c.example": {"deferred": 1}}
        self.assertEqual((said["groups"], said["next"]), (expected, ""))
        groups = self.get("queue/count", by="reason", reason="4.4.1")["groups"]
        self.assertEqual(sum(states["deferred"] for states in groups.values()), 6)
        for reason in groups:
            self.assertTrue(reason.endswith(" (4.4.1)"), reason)
        self.refused(self.socket.get("queue/count", by="weather"), 400, "destination, reason, sender, policy")

    def test_who_is_put_off_for_what_others_have_met_is_counted_with_them(self) -> None:
        for n in range(6):
            self.post_mail(f"u{n}@a.example")
        met = [one["recipients"][0]["last"]["because"] for one in self.get("queue")["entries"]]
        self.assertEqual({because.startswith("not tried again yet") for because in met}, {True, False})
        [(reason, states)] = self.get("queue/count", by="reason")["groups"].items()
        self.assertFalse(reason.startswith("not tried"), reason)
        self.assertEqual(states, {"deferred": 6})

    def test_who_has_said_a_part_of_a_destinations_name_hears_the_whole(self) -> None:
        self.post_mail("x@a.example")
        self.post_mail("x@b.example")
        for name, alike in (("a.ex", ["a.example"]), (".example", ["a.example", "b.example"]), ("z.example", [])):
            status, said = self.socket.post("dest/pause", name=name)
            self.assertEqual((status, said["known"], said["alike"]), (200, False, alike), name)
            self.socket.post("dest/resume", name=name)
        self.assertEqual(self.socket.post("dest/pause", name="a.example")[1]["alike"], [])
        self.refused(self.socket.get("dest/show", name="b.ex"), 404, "; known is b.example")

    def test_a_message_is_shown_with_all_that_is_known(self) -> None:
        id = self.post_mail("x@a.example", "y@b.example")
        said = self.get("queue/show", id=id.lower())
        self.assertEqual((said["id"], said["helo"], said["client"]), (id, "client.test", "127.0.0.1"))
        self.assertEqual(len(said["recipients"]), 2)
        self.assertIn("Received:", said["head"])
        self.refused(self.socket.get("queue/show", id="NOBODY"), 404, "relayctl trace NOBODY")
        self.refused(self.socket.get("queue/show"), 400, "which message?")

    def test_how_the_relay_is(self) -> None:
        self.post_mail("x@a.example")
        said = self.get("status")
        self.assertEqual((said["pid"], said["queue"]["waiting"], said["counts"]["accepted"]), (42, 1, 1))

    def test_a_word_that_is_not_understood_is_refused_lest_more_be_meant_than_said(self) -> None:
        for words, said in (
            ({"too": "x@a.example"}, "'too' is not understood"),
            ({"state": "sick"}, "waiting, deferred, active, held"),
            ({"older": "a while"}, "number of seconds"),
            ({"older": "-1"}, "number of seconds"),
            ({"older": "nan"}, "number of seconds"),
            ({"most": "0"}, "'most' is a number"),
            ({"most": "100000"}, "'most' is a number"),
            ({"to": "x" * 3000}, "longer than anything"),
            ({"id": ",".join(["A"] * 1001)}, "no more than 1000"),
        ):
            self.refused(self.socket.get("queue", **words), 400, said)

    def test_without_a_history_nothing_is_traced(self) -> None:
        self.refused(self.socket.get("trace", text="x@a.example"), 404, "keeps no history")
        self.refused(self.socket.get("trace"), 400, "what is to be traced?")


class ActingTests(ControlCase):
    def test_each_act_is_in_the_mail_log_with_who_it_was_done_to(self) -> None:
        id = self.post_mail("x@a.example")
        for act, event in (("hold", "held"), ("release", "released"), ("hold", "held"), ("release", "released")):
            self.assertEqual(self.post(f"queue/{act}", id=id), {"done": 1, "busy": 0, "unmoved": 0, "next": ""})
            self.assertEqual(self.events(event)[-1]["id"], id)
            self.assertEqual(self.events(event)[-1]["operator"], "unknown")
            self.world.pass_time(60)
        self.assertEqual(self.post("queue/delete", to="@a.example")["done"], 1)
        self.assertEqual([str(each["recipient"]) for each in self.events("deleted")], ["x@a.example"])
        self.assertEqual(self.get("queue")["entries"], [])

    def test_who_is_held_waits_until_it_is_released(self) -> None:
        self.post_mail("x@a.example")
        self.post("queue/hold", dest="a.example")
        self.assertEqual(self.reasons(), {Reason.HELD_BY_OPERATOR.value})
        attempts = len(self.events("delayed"))
        self.world.pass_time(86400)
        self.assertEqual(len(self.events("delayed")), attempts)
        mx = self.world.exchange("a.example", "192.0.2.1", preference=1)
        self.post("queue/release", all=True)
        self.world.settle()
        self.assertEqual(len(mx.messages), 1)

    def test_who_is_to_be_tried_now_is(self) -> None:
        self.post_mail("x@a.example", "y@b.example")
        self.post("queue/retry", to="@a.example")
        self.world.pass_time(1)
        self.assertEqual([str(each["recipient"]) for each in self.events("delayed")][2:], ["x@a.example"])
        self.assertEqual(self.events("hastened")[0]["destination"], "a.example")

    def test_who_is_rerouted_goes_there_at_once(self) -> None:
        self.post_mail("x@a.example", "y@b.example")
        other = self.world.exchange("other.example", "192.0.2.1")
        self.assertEqual(self.post("queue/reroute", dest="a.example", via="other.example")["done"], 1)
        self.world.settle()
        self.assertEqual(len(other.messages), 1)
        self.assertEqual(self.events("rerouted")[0]["via"], "other.example")
        self.assertEqual(list(self.get("queue/count")["groups"]), ["b.example"])

    def test_who_is_given_up_fails_and_its_sender_is_told_in_the_same_commit(self) -> None:
        sender = self.world.exchange("example.net", "192.0.2.1")
        self.post_mail("x@a.example", "y@b.example")
        self.assertEqual(self.post("queue/fail", dest="a.example")["done"], 1)
        self.world.pass_time(60)
        [failed] = self.events("failed")
        self.assertEqual((str(failed["recipient"]), failed["status"]), ("x@a.example", "5.0.0"))
        [notice] = sender.messages
        self.assertIn(b"operator of this relay has ended the attempts", b" ".join(notice.content.split()))
        self.assertNotIn(b"y@b.example", notice.content)
        self.assertEqual(list(self.get("queue/count")["groups"]), ["b.example"])

    def test_a_bounce_that_is_given_up_is_noted_and_nobody_is_told(self) -> None:
        self.post_mail("x@a.example", sender="")
        self.post("queue/fail", all=True)
        self.world.pass_time(60)
        self.assertEqual(len(self.events("failed")), 1)
        self.assertEqual(self.events("unnoticed")[0]["because"], "null reverse-path")
        self.assertEqual(self.get("queue")["entries"], [])

    def test_who_is_being_carried_is_busy(self) -> None:
        claim = self.world.send("jon@example.net", ["x@a.example"], b"Subject: x\r\n\r\n")
        [entry] = self.get("queue")["entries"]
        self.assertEqual((entry["queue"], self.reasons()), ("active", {Reason.CARRIED.value}))
        said = self.post("queue/delete", id=claim)
        self.assertEqual((said["done"], said["busy"]), (0, 1))
        self.world.pass_time(60)
        self.assertEqual(self.post("queue/delete", id=claim)["done"], 1)

    def test_the_whole_queue_is_meant_only_if_that_is_said(self) -> None:
        self.post_mail("x@a.example")
        for verb in [*(verb.value for verb in Verb)]:
            self.refused(self.socket.post(f"queue/{verb}"), 400, "who is meant?")
            self.refused(self.socket.post(f"queue/{verb}", all="yes"), 400, "who is meant?")
            self.refused(self.socket.post(f"queue/{verb}", too="x"), 400, "'too' is not understood")
        self.assertEqual(len(self.get("queue")["entries"]), 1)

    def test_a_word_that_is_empty_is_refused_lest_more_be_meant_than_said(self) -> None:
        self.post_mail("x@a.example")
        for name in ("to", "from", "dest", "policy", "state", "older", "reason", "id"):
            for empty in ("", " "):
                words = {"dest": "a.example", name: empty}
                self.refused(self.socket.post("queue/delete", **words), 400, f"'{name}'")
                self.refused(self.socket.get("queue", **words), 400, f"'{name}'")
        for ids in ([], [""], ["A", " "], "A,,B", ","):
            self.refused(self.socket.post("queue/delete", dest="a.example", id=ids), 400, "'id' is empty")
        self.assertEqual(len(self.get("queue")["entries"]), 1)

    def test_an_age_that_no_clock_knows_is_refused(self) -> None:
        for older in (10**400, -1, 1e300, None, [], "nan"):
            self.refused(self.socket.post("queue/hold", older=older), 400, "'older' is a number of seconds")

    def test_a_long_queue_is_done_with_in_pieces(self) -> None:
        for _ in range(3):
            self.post_mail(*(f"u{n}@a.example" for n in range(400)))
        done, after, pieces = 0, "", 0
        clock = self.world.clock
        spool = self.world.spool
        steer = spool.steer

        async def slow(*arguments: Any) -> Any:
            clock.rightNow += 1.0
            return await steer(*arguments)

        spool.steer = slow  # type: ignore[method-assign]
        while True:
            said = self.post("queue/hold", all=True, after=after)
            done, after, pieces = done + said["done"], said["next"], pieces + 1
            if not after:
                break
        self.assertEqual((done, pieces), (1200, 3))
        self.assertEqual(len(self.events("held")), 1200)

    def test_next_hops_that_cannot_be(self) -> None:
        for via, words in (
            ("", "where to?"),
            ("a..b", "is no next hop"),
            ("lmtp:host:24", "in brackets"),
            ("[host", "in brackets"),
            ("[host]25", "in brackets"),
            ("unix:run", "whole path"),
            ("host:99999", "not a port"),
            ("host;tls=maybe", "none, may, encrypt, verify"),
            ("host;login=smarthost", "none, may, encrypt, verify"),
        ):
            self.refused(self.socket.post("queue/reroute", via=via, all=True), 400, words)

    def test_next_hops_are_named_as_the_queue_names_them(self) -> None:
        self.post_mail("x@a.example")
        for via in (
            "other.example",
            "other.example:2525;tls=verify",
            "[mail.other.example]:587;tls=encrypt",
            "[192.0.2.7]:25",
            "[2001:db8::1]:25",
            "lmtp:[192.0.2.7]:24",
            "unix:/run/lmtp",
        ):
            self.post("queue/hold", all=True)
            self.assertEqual(self.post("queue/reroute", via=via, all=True)["done"], 1, via)
            self.assertEqual(list(self.get("queue/count")["groups"]), [via])


WORDS = st.sampled_from(
    [
        "id",
        "to",
        "from",
        "dest",
        "policy",
        "state",
        "older",
        "reason",
        "after",
        "most",
        "by",
        "via",
        "all",
        "name",
        "text",
        "x",
    ]
)
TEXTS = st.text(max_size=20) | st.sampled_from(
    [
        "a.example",
        "x@a.example",
        "deferred",
        "held",
        "reason",
        "1",
        "NG79W8MR4E21H9",
        "E:E.0",
        ":",
        "[",
        "unix:/x",
        "*",
        "%",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@implementer(IRoutingPolicy)
class Suspicious:
    """A policy that holds what comes to anybody called suspicious."""

    def __init__(self, options: Any, world: Any) -> None:
        pass

    def route(self, inquiry: Inquiry) -> Any:
        return Hold("it looks odd") if inquiry.recipient.local.startswith("suspicious") else ABSTAIN


class QuarantineTests(ControlCase):
    configuration = """
[[listener]]
address = "127.0.0.1:2525"
[[policy]]
name = "quarantine"
use = "tests.test_control_queue:Suspicious"
[[policy]]
use = "mailbox"
domains = ["here.example"]
users = ["suspicious1"]
directory = "mail"
[[policy]]
use = "forward"
when = { recipient = ["a.example", "b.example"] }
"""

    def test_what_a_policy_holds_is_let_out_and_goes_the_way_of_all_others(self) -> None:
        mx = self.world.exchange("a.example", "192.0.2.1", preference=1)
        self.post_mail("suspicious@a.example", "suspicious2@a.example", "x@a.example", "suspicious1@here.example")
        self.assertEqual(self.reasons(), {Reason.HELD_BY_POLICY.value})
        self.assertEqual(
            self.post("queue/release", policy="quarantine"), {"done": 3, "busy": 0, "unmoved": 0, "next": ""}
        )
        self.world.pass_time(60)
        self.assertEqual(self.get("queue")["entries"], [])
        self.assertEqual(sum(len(message.recipients) for message in mx.messages), 3)
        self.assertEqual(len(self.world.mailboxes), 1)
        self.assertEqual({event["via"] for event in self.events("rerouted")}, {"a.example", "maildir"})

    def test_the_reason_is_in_the_queue_also_while_an_operator_holds_it(self) -> None:
        self.post_mail("suspicious@a.example")
        for _ in range(2):
            [entry] = self.get("queue", state="held")["entries"]
            [recipient] = entry["recipients"]
            self.assertEqual((recipient["policy"], recipient["because"]), ("quarantine", "it looks odd"))
            lines = list(recipient_lines(recipient, 0.0))
            self.assertIn("        policy quarantine: it looks odd", lines)
            self.post("queue/hold", all=True)
        self.post_mail("x@b.example")
        [entry] = self.get("queue", to="x@b.example")["entries"]
        self.assertNotIn("because", entry["recipients"][0])

    def test_what_no_other_policy_has_a_way_for_stays(self) -> None:
        self.post_mail("suspicious@a.example", "suspicious@c.example")
        self.assertEqual(self.post("queue/release", all=True)["unmoved"], 1)
        [entry] = self.get("queue", state="held")["entries"]
        self.assertEqual([each["address"] for each in entry["recipients"]], ["suspicious@c.example"])

    def test_only_those_are_let_out_that_are_meant(self) -> None:
        self.post_mail("suspicious@a.example", "suspicious@b.example")
        self.assertEqual(self.post("queue/release", to="@b.example", state="held")["done"], 1)
        self.assertEqual(self.post("queue/release", to="@a.example", state="deferred")["done"], 0)
        [entry] = self.get("queue", state="held")["entries"]
        self.assertEqual([each["address"] for each in entry["recipients"]], ["suspicious@a.example"])

    def test_a_long_quarantine_is_let_out_whole(self) -> None:
        for _ in range(3):
            self.post_mail(*(f"suspicious{n}@a.example" for n in range(400)), "x@b.example")
        self.assertEqual(self.post("queue/release", all=True)["done"], 1200)
        self.assertEqual(self.get("queue", state="held")["entries"], [])


class TroubleTests(ControlCase):
    @settings(max_examples=300)
    @given(st.dictionaries(WORDS, VALUES, max_size=4), st.data())
    def test_whatever_is_said_it_is_answered_and_is_no_fault_of_ours(self, words: dict[str, Any], data: Any) -> None:
        desk = answers_for_control(self.world.relay, 42, {})
        status, said = self.socket.post(data.draw(st.sampled_from(sorted(desk.acts))), **words)
        self.assertIn(status, {200, 400, 404}, said)
        asked = {name: str(value) for name, value in words.items()}
        status, said = self.socket.get(data.draw(st.sampled_from(sorted(desk.questions))), **asked)
        self.assertIn(status, {200, 400, 404}, said)

    def test_what_is_not_there_or_not_allowed(self) -> None:
        self.refused(self.socket.get("weather"), 404, "there is no /weather")
        self.refused(self.socket.get("queue/delete", id="X"), 405, "is an act: POST it")
        self.refused(self.socket.post("queue"), 405, "is a question: GET it")
        self.refused(self.socket.say(b"DELETE /queue HTTP/1.1\r\nHost: x\r\n\r\n"), 405, "only GET and POST")
        self.refused(self.socket.post("queue/hold", b"{"), 400, "JSON")
        self.refused(self.socket.post("queue/hold", b"[" * 100_000), 400, "JSON")
        self.refused(self.socket.post("queue/hold", b"[]"), 400, "an object")
        self.refused(self.socket.post("queue/hold", b'{"id": 7}'), 400, "'id'")
        self.refused(self.socket.post("queue/hold", b'{"to": "\\ud800"}'), 400, "JSON")
        self.refused(self.socket.post("queue/hold", b'{"to": ["x"]}'), 400, "'to' should be a text")
        self.refused(self.socket.say(b"GET /queue?to=%ff HTTP/1.1\r\nHost: x\r\n\r\n"), 400, "UTF-8")

    def test_no_more_is_kept_than_may_be_said(self) -> None:
        self.refused(self.socket.post("queue/hold", b" " * (MOST_SAID + 1)), 413, "may be said at once")

    def test_a_spool_that_fails_is_told_as_it_is(self) -> None:
        self.post_mail("x@a.example")
        self.world.spool.fail_next(SpoolError("the disk is full"))
        self.refused(self.socket.post("queue/hold", all=True), 503, "the disk is full")
        self.world.spool.fail_next(OutcomeUnknown("?"))
        self.refused(self.socket.post("queue/hold", all=True), 503, "nobody can say")
        [held] = self.events("held")
        self.assertEqual((str(held["recipient"]), held["perhaps"]), ("x@a.example", "yes"))

    def test_our_own_fault_is_in_the_log_and_not_in_the_answer(self) -> None:
        async def broken(*_: object) -> None:
            raise ZeroDivisionError("secret")

        self.world.spool.tally = broken  # type: ignore[assignment,method-assign]
        status, said = self.socket.get("queue/count")
        self.assertEqual((status, said), (500, {"error": "the relay could not answer; its log says why"}))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class ReasonTests(SynchronousTestCase):
    def test_each_reason_is_a_sentence_of_its_own(self) -> None:
        self.assertEqual(len({reason.value for reason in Reason}), len(Reason))
        for reason in Reason:
            self.assertGreater(len(reason.value.split()), 4)
        self.assertTrue(set(Reason) > OBSTACLES)
