from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from relay.interfaces import CredentialsUnavailable, ICredentials
from relay.net.clock import ReactorClock
from relay.net.dovecot_auth import DovecotAuth

GREETING = (
    b"VERSION\t1\t2",
    b"MECH\tPLAIN\tplaintext",
    b"MECH\tLOGIN\tplaintext",
    b"SPID\t1234",
    b"CUID\t5",
    b"COOKIE\t0123456789abcdef0123456789abcdef",
    b"DONE",
)


@implementer(IStreamClientEndpoint)
class FakeDovecot:
    """
    Greets with these lines, and answers each question as its users have it; `silent` about everything after the
    greeting, if so told.
    """

    def __init__(self, users: dict[str, str] | None = None, greeting: Sequence[bytes] = GREETING) -> None:
        self.users = users or {}
        self.greeting = greeting
        self.silent = False
        self.refuses = False
        #: What else an answer says, behind the user's name.
        self.more = b""
        self.connections: list[tuple[IProtocol, StringTransport]] = []
        self.heard: list[bytes] = []

    def connect(self, factory: Factory) -> Deferred[Any]:
        if self.refuses:
            return fail(ConnectError("nobody there"))
        protocol, transport = factory.buildProtocol(None), StringTransport()  # type: ignore[arg-type]
        assert protocol is not None
        self.connections.append((protocol, transport))
        protocol.makeConnection(transport)
        if self.greeting:
            self.say(*self.greeting)
        self.answer()
        return succeed(protocol)

    def say(self, *lines: bytes) -> None:
        self.connections[-1][0].dataReceived(b"".join(line + b"\n" for line in lines))

    def answer(self) -> None:
        """To what was asked so far."""
        transport = self.connections[-1][1]
        lines = transport.value().splitlines()
        transport.clear()
        self.heard += lines
        for line in lines:
            match line.split(b"\t"):
                case [b"AUTH", number, b"PLAIN", *words] if not self.silent:
                    assert words[-1].startswith(b"resp=")
                    _, user, password = b64decode(words[-1][len(b"resp=") :]).decode().split("\0")
                    verdict = b"OK" if self.users.get(user) == password else b"FAIL"
                    self.say(b"\t".join((verdict, number, b"user=" + user.lower().encode())) + self.more)

    @property
    def closed(self) -> bool:
        return all(transport.disconnecting for _, transport in self.connections)


class DovecotCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def dovecot(self, *greeting: bytes) -> FakeDovecot:
        self.fake = FakeDovecot({"jon": "s€cret", "Ann": "pencil"}, greeting or GREETING)
        self.users = DovecotAuth(self.fake, ReactorClock(self.clock, lambda: 0.0), at_once=3)
        return self.fake

    def check(self, user: str = "jon", password: str = "s€cret") -> Deferred[str | None]:
        return Deferred.fromCoroutine(self.users.check_password(user, password))

    def assertUnavailable(self, checked: Deferred[str | None], saying: str) -> None:
        failure = self.failureResultOf(checked, CredentialsUnavailable)
        self.assertIn(saying, failure.getErrorMessage())
        self.assertNothingLeft()
        self.assertNotIn("s€cret", failure.getTraceback())

    def assertNothingLeft(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertTrue(self.fake.closed)
        self.assertEqual(self.users._asking, 0)


class DovecotTests(DovecotCase):
    def test_it_keeps_the_contract(self) -> None:
        self.dovecot()
        self.assertTrue(verifyObject(ICredentials, self.users))
        self.assertFalse(self.users.scram)
        self.assertEqual(len(self.users.secret), 32)
        self.assertIs(self.successResultOf(Deferred.fromCoroutine(self.users.scram_keys("jon"))), None)

    def test_the_password_of_a_user(self) -> None:
        self.dovecot()
        self.assertEqual(self.successResultOf(self.check()), "jon")
        self.assertIs(self.successResultOf(self.check("jon", "pencil")), None)
        self.assertIs(self.successResultOf(self.check("elvis")), None)
        self.assertNothingLeft()

    def test_the_user_is_who_dovecot_says(self) -> None:
        self.dovecot()
        self.assertEqual(self.successResultOf(self.check("Ann", "pencil")), "ann")

    def test_what_is_said(self) -> None:
        fake = self.dovecot()
        self.successResultOf(self.check())
        version, number, request = fake.heard
        self.assertEqual(version, b"VERSION\t1\t1")
        self.assertRegex(number, rb"\ACPID\t[0-9]{7,10}\Z")
        response = b64encode("\0jon\0s€cret".encode())
        self.assertEqual(request, b"AUTH\t1\tPLAIN\tservice=smtp\tsecured\tno-penalty\tresp=" + response)

    def test_nothing_is_asked_before_dovecot_has_said_its_last_word(self) -> None:
        fake = self.dovecot(*GREETING[:-1])
        checked = self.check()
        self.assertEqual(len(fake.heard), 2)
        fake.say(b"DONE")
        fake.answer()
        self.assertEqual(self.successResultOf(checked), "jon")

    def test_answers_may_say_more_than_we_know(self) -> None:
        fake = self.dovecot(*GREETING[:-1], b"NEWS\tof\tlater", b"", b"DONE")
        fake.more = b"\tnologin\tuid=1000"
        self.assertEqual(self.successResultOf(self.check()), "jon")

    def test_an_answer_to_another_question_is_not_ours(self) -> None:
        fake = self.dovecot()
        fake.silent = True
        checked = self.check()
        fake.say(b"OK\t2\tuser=elvis", b"OK", b"FAIL\t11\tuser=jon", b"OK\t1\tuser=jon", b"OK\t1\tuser=elvis")
        self.assertEqual(self.successResultOf(checked), "jon")

    def test_an_answer_before_the_question_is_none(self) -> None:
        fake = self.dovecot(b"OK\t1\tuser=jon", *GREETING)
        fake.silent = True
        checked = self.check()
        self.assertNoResult(checked)
        fake.say(b"FAIL\t1\tuser=jon")
        self.assertIs(self.successResultOf(checked), None)

    def test_users_who_are_not_allowed_in_are_nobody(self) -> None:
        for more in b"\tauthz", b"\tuser_disabled", b"\tpass_expired", b"\treason=temp":
            fake = self.dovecot()
            fake.more = more
            self.assertIs(self.successResultOf(self.check("jon", "pencil")), None)


class TroubleTests(DovecotCase):
    def test_where_dovecot_is_not_there_nobody_can_say(self) -> None:
        self.dovecot().refuses = True
        self.assertUnavailable(self.check(), "not connected")

    def test_where_it_cannot_say_itself_it_is_not_the_password(self) -> None:
        for more in b"\ttemp", b"\tcode=temp_fail":
            self.dovecot().more = more
            self.assertUnavailable(self.check("jon", "pencil"), "cannot say at the moment")

    def test_what_it_should_not_say(self) -> None:
        for line, why in (
            (b"CONT\t1\t", "more than PLAIN has"),
            (b"OK\t1", "which user"),
            (b"OK\t1\tuser=", "which user"),
            (b"OK\t1\tuser=jon\tuser=elvis", "which user"),
            (b"OK\t1\tuser=\xff", "which user"),
            (b"VERSION\t2\t0", "another version"),
            (b"x" * 9000, "too long"),
        ):
            fake = self.dovecot()
            fake.silent = True
            checked = self.check()
            fake.say(line)
            self.assertUnavailable(checked, why)

    def test_without_plain_nothing_is_asked(self) -> None:
        fake = self.dovecot(b"VERSION\t1\t2", b"MECH\tCRAM-MD5", b"DONE")
        self.assertUnavailable(self.check(), "does not offer PLAIN")
        self.assertEqual(len(fake.heard), 2)

    def test_another_protocol_is_not_spoken(self) -> None:
        fake = self.dovecot(b"VERSION\t2\t0", *GREETING)
        self.assertUnavailable(self.check(), "another version")
        self.assertEqual(len(fake.heard), 2)

    def test_it_may_not_talk_for_ever(self) -> None:
        self.dovecot(*[b"MECH\tPLAIN"] * 101)
        self.assertUnavailable(self.check(), "talks and talks")

    def test_who_does_not_answer_in_time_is_not_waited_for(self) -> None:
        for greeting in GREETING, GREETING[:-1], (b"",):
            fake = self.dovecot(*greeting)
            fake.silent = True
            checked = self.check()
            self.clock.advance(14.9)
            self.assertNoResult(checked)
            self.clock.advance(0.1)
            self.assertUnavailable(checked, "no answer in time")
            fake.say(b"OK\t1\tuser=jon")

    def test_a_connection_that_does_not_come_about_is_given_up_too(self) -> None:
        fake = self.dovecot()
        never: Deferred[Any] = Deferred()
        self.patch(fake, "connect", lambda factory: never)
        checked = self.check()
        self.clock.advance(15)
        self.assertUnavailable(checked, "no answer in time")
        self.assertTrue(never.called)

    def test_who_hangs_up_has_not_answered(self) -> None:
        for greeting in GREETING, GREETING[:2]:
            fake = self.dovecot(*greeting)
            fake.silent = True
            checked = self.check()
            fake.connections[-1][0].connectionLost(Failure(connectionDone.value))
            self.assertUnavailable(checked, "hung up")

    def test_a_client_that_is_gone_ends_the_question(self) -> None:
        fake = self.dovecot()
        fake.silent = True
        checked = self.check()
        checked.cancel()
        self.failureResultOf(checked, CancelledError)
        self.assertNothingLeft()
        fake.say(b"OK\t1\tuser=jon")
        fake.connections[-1][0].connectionLost(Failure(connectionDone.value))

    def test_no_more_than_so_many_are_asked_at_once(self) -> None:
        fake = self.dovecot()
        fake.silent = True
        waiting = [self.check() for _ in range(3)]
        self.failureResultOf(self.check(), CredentialsUnavailable)
        waiting[0].cancel()
        self.failureResultOf(waiting[0])
        fake.silent = False
        self.assertEqual(self.successResultOf(self.check()), "jon")

    @settings(max_examples=100)
    @given(
        st.lists(st.binary(max_size=30) | st.sampled_from((*GREETING, b"OK\t1", b"FAIL\t1", b"CONT\t1")), max_size=8)
    )
    def test_nothing_that_it_says_raises_or_lets_anybody_in(self, lines: list[bytes]) -> None:
        fake = self.dovecot(b"VERSION\t1\t2")
        fake.silent = True
        checked = self.check()
        failures: list[Failure] = []
        users: list[str | None] = []
        checked.addCallbacks(users.append, failures.append)
        fake.say(*lines)
        self.clock.advance(15)
        self.assertIn(users, ([], [None]))
        for failure in failures:
            failure.trap(CredentialsUnavailable)
        self.assertNothingLeft()
