"""What is explained beforehand is what happens; and to explain it leaves nothing behind."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from relay.assembly import Surroundings
from relay.control.rehearsal import STRANGER, Asked
from relay.delivery.suppression import Suppressions
from relay.history.memory import MemoryHistory
from relay.mail.address import Address
from relay.mail.explanation import Explanation
from relay.mail.history import Account
from relay.net.clock import ReactorClock
from relay.testing import world
from relay.testing.world import MailWorld
from tests.speaking import VERDICTS, Speaking

CONFIGURATION = """
[[listener]]
name = "mx"
address = "127.0.0.1:2525"
[[listener]]
name = "local"
address = "127.0.0.1:2424"
protocol = "lmtp"
"""
SUBMISSION = """
[[listener]]
name = "submission"
address = "127.0.0.1:2587"
protocol = "submission"
tls = "require"
[auth]
passwords = "users"
"""
SECURE = """
[[listener]]
name = "secure"
address = "127.0.0.1:2588"
tls = "offer"
[auth]
passwords = "users"
"""
IMPLICIT = """
[[listener]]
name = "implicit"
address = "127.0.0.1:2465"
tls = "implicit"
"""
PLAIN = """
[[listener]]
name = "plain"
address = "127.0.0.1:2526"
without = ["SMTPUTF8"]
"""
MAILBOXES = """
[[policy]]
name = "mailboxes"
use = "mailbox"
domains = ["here.example"]
directory = "mail"
users = ["bob", "other", "archive"]
"""
OUTBOUND = """
[[policy]]
name = "outbound"
use = "forward"
when = { client = ["127.0.0.0/8"] }
"""
#: What a policy may be told to say, by the phase in which it is asked.
SAID = {
    "AtConnection": ("abstain", "note", "reject", "delay", "accept", "raise", "count"),
    "AtSender": ("abstain", "note", "reject", "delay", "accept", "none", "count"),
    "AtRecipient": (
        *("abstain", "note", "reject", "delay", "deliver", "forward", "rewrite", "discard", "hold"),
        *("raise", "none", "count"),
    ),
    "AtContent": (
        *("abstain", "note", "reject", "delay", "accept", "discard", "hold", "edit", "bcc", "each"),
        *("raise", "count"),
    ),
}
GUARDS = (
    "",
    'when = { client = ["127.0.0.0/8"] }',
    'when = { listener = ["local"] }',
    'when = { sender = ["x.example"] }',
    'when = { recipient = ["here.example"] }',
    "when = { authenticated = true }",
)
MESSAGE = b"Subject: hello\r\nFrom: ann@x.example\r\n\r\nHi!\r\n.and more\r\n"
BOB, FAR = Address("bob", "here.example"), Address("eve", "far.example")
ANN = Address("ann", "x.example")


def speaking(name: str, kind: str, says: str, guard: str = "", about: str = "") -> str:
    return f'[[policy]]\nname = "{name}"\nuse = "tests.speaking:{kind}"\nsays = "{says}"\nabout = "{about}"\n{guard}\n'


@st.composite
def policies(draw: Any) -> str:
    texts = []
    for number in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from(sorted(SAID)))
        texts.append(
            speaking(
                f"p{number}",
                kind,
                draw(st.sampled_from(SAID[kind])),
                draw(st.sampled_from(GUARDS)),
                draw(st.sampled_from(("", "", "x.example", "far.example"))),
            )
        )
    texts += draw(st.lists(st.sampled_from((MAILBOXES, OUTBOUND)), unique=True))
    return "".join(draw(st.permutations(texts)))


MAILS = st.builds(
    Asked,
    recipient=st.sampled_from((BOB, Address("nobody", "here.example"), FAR)),
    sender=st.sampled_from((None, ANN, BOB)),
    client=st.sampled_from((STRANGER, "127.0.0.1", "2001:db8::7")),
    helo=st.just("c.example"),
    listener=st.sampled_from(("", "local")),
    message=st.just(MESSAGE),
)


class RehearsedCase(SynchronousTestCase):
    def open(self, policies: str) -> None:
        self.history = MemoryHistory()
        self.world = MailWorld(CONFIGURATION + policies, history=self.history)
        self.world.exchange("far.example", "192.0.2.25")

    def done(self, waiting: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(waiting))

    def explain(self, asked: Asked) -> Explanation:
        explained: Explanation = self.done(self.world.relay.rehearsal.explain(asked))
        return explained

    def why(self, text: str) -> Sequence[Account]:
        accounts: Sequence[Account] = self.done(self.history.why(text)).accounts
        return accounts

    def send(self, asked: Asked) -> str:
        """Send this mail to the relay. The reply that counts: a refusal, or the one behind the content."""
        lmtp = asked.listener == "local"
        talk = self.world.connect(asked.client, 1 if lmtp else 0)
        said = [talk.greeting[-1]]
        if not said[-1].startswith("2"):
            return said[-1]
        talk.say(f"{'LHLO' if lmtp else 'EHLO'} {asked.helo}")
        for line in (f"MAIL FROM:<{asked.sender or ''}>", f"RCPT TO:<{asked.recipient}>", "DATA"):
            said += talk.say(line)[-1:]
            if said[-1][0] in "45":
                return said[-1]
        assert asked.message is not None
        talk.send(asked.message.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return talk.replies()[-1]

    def accounts(self) -> list[Account]:
        """The newest first."""
        return [account for life in reversed(self.history._lives.values()) for account in reversed(life.accounts)]

    def left_behind(self) -> Any:
        """All that stays of what was done."""
        return (
            list(self.world.log.events),
            list(self.world.store.items()),
            self.done(self.world.spool.census()),
            len(self.world.clock.getDelayedCalls()),
            len(self.history._lives),
        )


class PredictionTests(RehearsedCase):
    @settings(max_examples=150)
    @given(policies(), st.lists(MAILS, min_size=1, max_size=4))
    def test_what_happens_is_what_was_explained_whatever_the_configuration(
        self, policies: str, mails: list[Asked]
    ) -> None:
        self.open(policies)
        for number, asked in enumerate(mails, 1):
            before = self.left_behind()
            explained = self.explain(asked)
            self.assertTrue(self.explain(asked).same_as(explained))
            self.assertEqual(self.left_behind(), before)
            heard = self.send(asked)
            self.flushLoggedErrors(RuntimeError)
            account, *earlier = self.accounts()
            self.assertEqual(len(earlier), number - 1)
            told = account.explanation
            self.assertTrue(told.same_as(explained), f"{told}\n\n{explained}")
            self.assertEqual(heard.startswith("2"), explained.reply.startswith("2"))
            if not heard.startswith("2"):
                self.assertEqual(heard[4:].removesuffix(f" [ref {account.ref}]"), explained.reply[4:])
                self.assertEqual([each.ref for each in self.why(account.ref)], [account.ref])
            else:
                self.assertIn(account.id, heard)


class LeftBehindTests(RehearsedCase):
    def test_a_greylist_does_not_learn_of_a_question(self) -> None:
        for kind in ("AtConnection", "AtSender", "AtRecipient", "AtContent"):
            self.open(speaking("grey", kind, "count") + MAILBOXES)
            asked = Asked(BOB, ANN, helo="c.example", message=MESSAGE)
            for _ in range(3):
                self.assertEqual(self.explain(asked).policy, "grey")
            self.assertTrue(self.send(asked).startswith("4"))
            self.assertTrue(self.explain(asked).reply.startswith("250"))
            self.assertTrue(self.send(asked).startswith("250"))

    def test_no_mail_goes_anywhere_and_no_log_has_a_line(self) -> None:
        self.open(speaking("bcc", "AtContent", "bcc") + MAILBOXES + OUTBOUND)
        before = self.left_behind()
        for recipient in (BOB, FAR):
            explained = self.explain(Asked(recipient, ANN, "127.0.0.1", message=MESSAGE))
            self.assertEqual(explained.reply, "250 2.0.0 Ok: queued as (its queue id)")
            self.assertEqual([way.recipient for way in explained.ways], [str(recipient), "archive@here.example"])
        self.world.pass_time(3600)
        self.assertEqual(self.left_behind(), before)
        self.assertFalse(self.world.mailboxes)

    def test_a_policy_that_fails_at_a_question_alarms_nobody(self) -> None:
        self.open(speaking("wrong", "AtRecipient", "raise") + MAILBOXES)
        heard: list[Any] = []
        globalLogPublisher.addObserver(heard.append)
        self.addCleanup(globalLogPublisher.removeObserver, heard.append)
        self.assertTrue(self.explain(Asked(BOB, ANN)).reply.startswith("451"))
        self.flushLoggedErrors(RuntimeError)  # trial takes notice of failures however softly they are told
        self.assertEqual({each["log_level"] for each in heard}, {LogLevel.info})
        self.assertIn("policy wrong raised an exception", formatEvent(heard[-1]))


class ExplanationTests(RehearsedCase):
    """What is told besides the policies."""

    def ask(self, recipient: Address = FAR, **more: Any) -> Explanation:
        return self.explain(Asked(recipient, ANN, "127.0.0.1", "c.example", **more))

    def test_the_hosts_of_the_next_hop_are_told_in_the_order_in_which_they_are_tried(self) -> None:
        self.open(OUTBOUND)
        self.world.exchange("far.example", "192.0.2.26", preference=20)
        (way,) = self.ask().ways
        self.assertEqual((way.to, way.tls, way.policy, way.trouble), ("far.example", "may", "outbound", ""))
        self.assertEqual(way.hosts, ("mx10.far.example[192.0.2.25]:25", "mx20.far.example[192.0.2.26]:25"))

    def test_why_there_is_no_host_is_told(self) -> None:
        self.open(OUTBOUND)
        (way,) = self.ask(Address("eve", "nowhere.example")).ways
        self.assertEqual((way.hosts, way.trouble), ((), "nowhere.example: the domain does not exist"))

    def test_without_a_message_nobody_is_asked_about_content_and_the_client_hears_what_rcpt_is_answered(self) -> None:
        self.open(speaking("nose", "AtContent", "reject") + OUTBOUND)
        explained = self.ask()
        self.assertEqual(explained.reply, "250 2.1.5 Recipient ok")
        self.assertEqual([step.policy for step in explained.steps], ["outbound"])
        self.assertEqual(self.ask(message=MESSAGE).policy, "nose")

    def test_who_the_client_is_and_where_it_comes_in_counts(self) -> None:
        self.open(
            speaking("users", "AtRecipient", "deliver", "when = { authenticated = true }")
            + speaking("secret", "AtRecipient", "deliver", about="TLSv1.3")
            + SECURE
        )
        self.assertEqual(self.ask(user="ann", listener="secure").ways[0].policy, "users")
        self.assertEqual(self.ask(tls=True, listener="secure").ways[0].policy, "secret")
        self.assertEqual(self.ask(listener="secure").reply, "550 5.7.1 <eve@far.example>: relaying denied")
        mail = self.ask(user="ann", listener="secure").mail
        # Nobody says who it is in clear.
        self.assertEqual((mail.user, mail.tls, mail.listener), ("ann", "TLSv1.3", "secure"))

    def test_where_there_is_no_tls_and_nobody_is_known_that_is_the_answer(self) -> None:
        self.open(OUTBOUND + SECURE.partition("[auth]")[0])
        for more, because in (
            ({"tls": True}, "there is no TLS at this listener"),
            ({"user": "ann"}, "there is no TLS at this listener"),
            ({"user": "ann", "listener": "secure"}, "nobody can say at this listener who it is"),
        ):
            explained = self.ask(**more)
            self.assertEqual((explained.reply[:3], explained.because), ("502", because))

    def test_who_it_is_and_that_it_speaks_tls_is_not_known_when_it_connects(self) -> None:
        self.open(
            speaking("gate", "AtConnection", "reject", "when = { authenticated = false }")
            + OUTBOUND
            + SECURE
            + IMPLICIT
        )
        self.assertEqual(self.ask(user="ann", listener="secure").policy, "gate")
        self.open(speaking("gate", "AtConnection", "reject", about="TLSv1.3") + OUTBOUND + SECURE + IMPLICIT)
        for listener, policy in ("secure", "outbound"), ("implicit", "gate"):
            self.assertEqual(self.ask(tls=True, listener=listener).policy, policy)

    def test_what_a_session_refuses_by_itself_is_told(self) -> None:
        self.open('[limits]\nmessage = "64 KiB"\n' + OUTBOUND + PLAIN)
        large, wide = MESSAGE + b"y" * 70_000 + b"\r\n", MESSAGE + b"x" * 65_537 + b"\r\n"
        for message, reply in (large, "552"), (wide, "5"), (MESSAGE, "250"):
            asked = Asked(FAR, ANN, "127.0.0.1", "c.example", message=message)
            explained = self.explain(asked)
            self.assertTrue(explained.reply.startswith(reply), explained.reply)
        abroad = Address.parse("j\u00fcrgen@far.example")
        self.assertEqual(self.ask(abroad).reply, "250 2.1.5 Recipient ok")
        self.assertTrue(self.ask(abroad, listener="plain").reply.startswith("553"))

    def test_what_a_listener_wants_first_is_heard_before_policies_are_asked_about_the_sender(self) -> None:
        self.open(speaking("gate", "AtConnection", "note") + MAILBOXES + SUBMISSION)
        asked = Asked(BOB, ANN, listener="submission")
        for more, reply in (
            ({}, "530 5.7.0 Say STARTTLS first"),
            ({"tls": True}, "530 5.7.0 Authentication required"),
            ({"tls": True, "user": "ann"}, "250 2.1.5 Recipient ok"),
        ):
            explained = self.explain(evolve(asked, **more))
            self.assertEqual((explained.reply, explained.steps[0].policy), (reply, "gate"))

    def test_a_client_at_a_listener_for_lmtp_speaks_it(self) -> None:
        self.open(speaking("gate", "AtRecipient", "reject", about="lmtp=True") + MAILBOXES)
        asked = Asked(BOB, ANN, "127.0.0.1", "c.example", listener="local", message=MESSAGE)
        self.assertEqual(self.explain(asked).policy, "gate")
        self.assertEqual(self.explain(evolve(asked, listener="mx")).policy, "mailboxes")
        self.assertTrue(self.send(asked).startswith("550"))

    def test_chance_is_the_same_each_time_one_asks(self) -> None:
        self.open(speaking("dice", "AtRecipient", "chance"))
        self.assertEqual(self.ask().reply, self.ask().reply)

    def test_one_question_waits_for_the_other(self) -> None:
        self.open(speaking("slow", "AtSender", "wait") + MAILBOXES)
        thinking: list[Deferred[Any]] = []
        self.patch(Speaking, "thinking", thinking)
        asked = Asked(BOB, ANN)
        first, second = (Deferred.fromCoroutine(self.world.relay.rehearsal.explain(asked)) for _ in range(2))
        self.assertEqual(len(thinking), 1)
        thinking[0].callback(VERDICTS["reject"])
        self.assertEqual(self.successResultOf(first).policy, "slow")
        self.assertNoResult(second)
        thinking[1].callback(VERDICTS["abstain"])
        self.assertEqual(self.successResultOf(second).reply, "250 2.1.5 Recipient ok")

    def test_a_question_that_fails_keeps_nobody_waiting(self) -> None:
        self.open(MAILBOXES)
        rehearsal = self.world.relay.rehearsal
        self.failureResultOf(Deferred.fromCoroutine(rehearsal.explain(Asked(BOB, listener="no"))), LookupError)
        self.assertEqual(self.explain(Asked(BOB)).reply, "250 2.1.5 Recipient ok")

    def test_an_address_that_needs_smtputf8_is_asked_about_with_it(self) -> None:
        self.open(OUTBOUND)
        self.assertEqual(self.ask(Address.parse("j\u00fcrgen@far.example")).reply, "250 2.1.5 Recipient ok")

    def test_what_a_suppression_list_refuses_is_told(self) -> None:
        listed = Suppressions(Path("/nowhere/suppressed"), ReactorClock(Clock(), lambda: 0.0))
        self.patch(world, "Surroundings", partial(Surroundings, suppressions=listed))
        self.open(OUTBOUND)
        listed.add(FAR, "has left", "root")
        self.assertIn("has left", self.ask().reply)
        self.assertEqual(self.ask().because, "it is on the suppression list")


class ShippedPoliciesTests(RehearsedCase):
    """Those that keep something."""

    def test_a_question_counts_for_no_limit_and_greylists_nobody(self) -> None:
        self.open(
            """
[[policy]]
name = "rate"
use = "rate-limit"
rate = "100/1h"
by = ["client"]
burst = 2
[[policy]]
name = "greylist"
use = "greylist"
delay = "5m"
"""
            + MAILBOXES
        )
        asked = Asked(BOB, ANN, helo="c.example", message=MESSAGE)

        def compared() -> str:
            for _ in range(5):
                explained = self.explain(asked)
            heard = self.send(asked)
            self.assertEqual(heard[:3], explained.reply[:3])
            told = self.accounts()[0].explanation
            self.assertTrue(told.same_as(explained), f"{told}\n\n{explained}")
            return told.policy

        self.assertEqual(compared(), "greylist")
        self.world.pass_time(301)
        self.assertEqual([compared() for _ in range(3)][-1], "rate")
