"""How much is let through, and when."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from twisted.trial.unittest import SynchronousTestCase

from relay.interfaces import IConnectionPolicy, IRoutingPolicy, ISenderPolicy
from relay.mail.envelope import OURSELVES
from relay.mail.phases import SenderInquiry
from relay.mail.routing import ABSTAIN, Delay, Reject
from relay.policy.bucket import Bucket
from relay.policy.rate_limit import RateLimit, RateLimitOptions
from relay.store.memory import LONGEST_KEY, Part
from relay.testing.policy import FakeWorld, PolicyContract, inquiry
from relay.testing.questions import Question, connecting, put, sending


class Limited:
    """A limit, and a clock that the test moves."""

    def __init__(self, rate: str, *by: str, **options: Any) -> None:
        self.world = FakeWorld()
        given = {"rate": rate, **({"by": by} if by else {}), **options}
        self.options = RateLimitOptions.model_validate(given)
        self.restart()

    def restart(self) -> None:
        """Another process, with the same store."""
        self.policy = RateLimit(self.options, self.world.world)

    def put(self, question: Question) -> Any:
        return put(self.policy, question)

    def passes(self, question: Question) -> bool:
        verdict = self.put(question)
        assert verdict is ABSTAIN or isinstance(verdict, Delay | Reject), verdict
        return verdict is ABSTAIN

    def later(self, seconds: float) -> None:
        self.world.clock.advance(seconds)


class RateLimitTests(PolicyContract, SynchronousTestCase):
    policy = "rate-limit"
    options = {"rate": "3/1m", "by": ["client", "recipient"]}  # noqa: RUF012
    remembers = True

    def test_so_many_are_let_through_and_no_more(self) -> None:
        limit = Limited("3/1m", "sender")
        self.assertEqual([limit.passes(sending()) for _ in range(5)], [True, True, True, False, False])

    def test_they_come_back_one_by_one(self) -> None:
        limit = Limited("3/1m", "sender")
        for _ in range(3):
            limit.passes(sending())
        limit.later(19.9)
        self.assertFalse(limit.passes(sending()))
        limit.later(0.1)
        self.assertEqual([limit.passes(sending()) for _ in range(2)], [True, False])
        limit.later(1000)
        self.assertEqual([limit.passes(sending()) for _ in range(4)], [True, True, True, False])

    def test_who_is_refused_is_told_when_to_come_again_and_that_is_right(self) -> None:
        limit = Limited("2/1m", "sender")
        limit.passes(sending())
        limit.later(10)
        limit.passes(sending())
        verdict = limit.put(sending())
        self.assertEqual(str(verdict.reply), "451 4.7.1 too many, come again in 20 seconds")
        self.assertEqual(verdict.because, "more than 2/1m of ann@sender.example")
        limit.later(19)
        self.assertFalse(limit.passes(sending()))
        limit.later(1)
        self.assertTrue(limit.passes(sending()))

    def test_who_tries_again_and_again_is_not_kept_out_by_that(self) -> None:
        limit = Limited("1/1m", "sender")
        limit.passes(sending())
        for _ in range(59):
            limit.later(1)
            self.assertFalse(limit.passes(sending()))
        limit.later(1)
        self.assertTrue(limit.passes(sending()))

    def test_a_burst_may_be_more_or_less_than_the_rate(self) -> None:
        for burst in (1, 2, 7):
            limit = Limited("3/1m", "sender", burst=burst)
            self.assertEqual([limit.passes(sending()) for _ in range(10)].count(True), burst)
            limit.later(20)
            self.assertEqual([limit.passes(sending()) for _ in range(10)].count(True), 1)

    def test_a_restart_forgets_nothing(self) -> None:
        limit = Limited("1/1h", "sender")
        limit.passes(sending())
        limit.restart()
        self.assertFalse(limit.passes(sending()))

    def test_what_is_full_again_is_not_kept(self) -> None:
        limit = Limited("2/1m", "sender")
        limit.passes(sending())
        self.assertEqual(len(limit.world.store.items()), 1)
        limit.later(30)
        self.assertEqual(limit.world.store.items(), [])

    def test_a_clock_that_was_set_back_keeps_nobody_out(self) -> None:
        limit = Limited("2/1m", "sender")
        limit.world.store.put("ann@sender.example", str(limit.world.world.clock.now() + 1e8), 2e8)
        self.assertEqual([limit.passes(sending()) for _ in range(3)], [True, True, False])
        limit.later(30)
        self.assertTrue(limit.passes(sending()))

    # For each of what.

    def assert_counts(self, limit: Limited, same: Question, other: Question) -> None:
        """The first is of the same kind as another that was let through, and the second is not."""
        self.assertFalse(limit.passes(same), same)
        self.assertTrue(limit.passes(other), other)

    def test_connections_are_counted_by_client_and_a_network_of_64_bits_is_one(self) -> None:
        limit = Limited("1/1h")
        self.assertTrue(limit.passes(connecting("192.0.2.1")))
        self.assert_counts(limit, connecting("192.0.2.1"), connecting("192.0.2.2"))
        self.assertTrue(limit.passes(connecting("2001:db8::1")))
        self.assert_counts(limit, connecting("2001:db8::ffff:1"), connecting("2001:db8:0:1::1"))
        self.assertFalse(limit.passes(connecting("::ffff:192.0.2.1")))

    def test_a_client_at_a_unix_socket_is_not_counted(self) -> None:
        limit = Limited("1/1h")
        self.assertTrue(all(limit.passes(connecting(None)) for _ in range(3)))

    def test_messages_are_counted_by_sender_by_its_domain_and_by_user(self) -> None:
        limit = Limited("1/1h", "sender")
        self.assertTrue(limit.passes(sending("ann@a.example")))
        self.assert_counts(limit, sending("ANN@A.example", "192.0.2.9"), sending("bob@a.example"))
        limit = Limited("1/1h", "sender-domain")
        self.assertTrue(limit.passes(sending("ann@a.example")))
        self.assert_counts(limit, sending("bob@a.example"), sending("ann@b.example"))
        limit = Limited("1/1h", "user")
        self.assertTrue(limit.passes(sending(user="ann")))
        self.assert_counts(limit, sending("bob@b.example", "192.0.2.9", user="ann"), sending(user="bob"))
        self.assertTrue(all(limit.passes(sending()) for _ in range(3)))

    def test_recipients_are_counted_by_those_whom_the_client_names(self) -> None:
        limit = Limited("1/1h", "recipient")
        self.assertTrue(limit.passes(inquiry("jon@example.org")))
        self.assert_counts(limit, inquiry("Jon@example.org", "x@y.example"), inquiry("ann@example.org"))
        for _ in range(3):
            self.assertTrue(limit.passes(inquiry("member@example.org", original="team@example.org")))

    def test_of_several_keys_each_combination_is_counted(self) -> None:
        limit = Limited("1/1h", "client", "recipient")
        self.assertTrue(limit.passes(inquiry("jon@example.org", client="192.0.2.1")))
        self.assertTrue(limit.passes(inquiry("jon@example.org", client="192.0.2.2")))
        self.assertTrue(limit.passes(inquiry("ann@example.org", client="192.0.2.1")))
        self.assertFalse(limit.passes(inquiry("jon@example.org", client="192.0.2.1")))

    def test_notices_are_counted_where_more_is_known_than_that_they_have_no_sender(self) -> None:
        limit = Limited("1/1h", "sender")
        self.assertTrue(all(limit.passes(sending("<>")) for _ in range(3)))
        limit = Limited("1/1h", "client", "sender")
        self.assertTrue(limit.passes(sending("<>")))
        self.assert_counts(limit, sending("<>"), sending("<>", "192.0.2.9"))

    def test_what_we_send_ourselves_is_not_counted(self) -> None:
        limit = Limited("1/1h", "client", count="messages")
        self.assertTrue(all(limit.passes(SenderInquiry(OURSELVES, None)) for _ in range(3)))

    def test_a_key_may_be_as_long_as_a_path_can_be(self) -> None:
        limit = Limited("1/1h", "sender", "recipient", "user")
        domain = ".".join(["d" * 60] * 3)
        question = inquiry(f"{'r' * 60}@{domain}", f"{'s' * 60}@{domain}", user="u" * LONGEST_KEY)
        limit.policy._store = Part(limit.world.store, "p" * 100)
        self.assertTrue(limit.passes(question))
        self.assertFalse(limit.passes(question))
        self.assertTrue(limit.passes(inquiry(f"{'r' * 60}@{domain}", f"{'s' * 60}@{domain}", user="v" * LONGEST_KEY)))

    # Phases and replies.

    def test_the_phase_follows_from_what_is_counted(self) -> None:
        for by, count, phase in [
            (("client",), None, IConnectionPolicy),
            (("client",), "messages", ISenderPolicy),
            (("client",), "recipients", IRoutingPolicy),
            (("user",), None, ISenderPolicy),
            (("user",), "recipients", IRoutingPolicy),
            (("client", "recipient"), None, IRoutingPolicy),
        ]:
            policy = Limited("1/1h", *by, count=count).policy
            provided = [each for each in (IConnectionPolicy, ISenderPolicy, IRoutingPolicy) if each.providedBy(policy)]
            self.assertEqual(provided, [phase], (by, count))

    def test_each_command_has_its_codes(self) -> None:
        for question, options, delayed, rejected in [
            (connecting(), {"by": ["client"]}, "421 4.7.1 too many, ", "554 5.7.1 too many, "),
            (sending(), {"by": ["sender"]}, "451 4.7.1 too many, ", "550 5.7.1 too many, "),
            (
                inquiry("jon@example.org"),
                {"by": ["recipient"]},
                "450 4.7.1 <jon@example.org>: too many, ",
                "550 5.7.1 <jon@example.org>: too many, ",
            ),
        ]:
            for over, kind, text in (
                ("delay", Delay, f"{delayed}come again in 3600 seconds"),
                ("reject", Reject, f"{rejected}over the limit"),
            ):
                limit = Limited("1/1h", over=over, **options)
                limit.passes(question)
                verdict = limit.put(question)
                self.assertIsInstance(verdict, kind)
                self.assertEqual(str(verdict.reply), text)

    def test_what_cannot_be_counted_is_a_mistake(self) -> None:
        for wrong, words in [
            ({"rate": "many"}, "100/1h"),
            ({"rate": 30}, "100/1h"),
            ({"rate": "0/1h"}, "100/1h"),
            ({"rate": "1/2"}, "should be a duration"),
            ({"rate": "1/h", "by": []}, ""),
            ({"rate": "1/500d"}, "in a year"),
            ({"rate": "1001/1s"}, "1000 in a second at most"),
            ({"rate": "1/300d", "burst": 2}, "more than a year"),
            ({"rate": "1/h", "by": ["user", "user"]}, "each once"),
            ({"rate": "1/h", "by": ["user"], "count": "connections"}, "by client alone"),
            ({"rate": "1/h", "by": ["recipient"], "count": "messages"}, "cannot be counted by recipient"),
            ({"rate": "1/h", "burst": 0}, ""),
        ]:
            error = self.assertRaises(ValidationError, RateLimitOptions.model_validate, wrong)
            self.assertIn(words, str(error))

    def test_the_fastest_rate_is_counted_too(self) -> None:
        limit = Limited("1000/1s", "sender")
        self.assertEqual([limit.passes(sending()) for _ in range(1001)].count(True), 1000)
        limit.later(0.001)
        self.assertEqual([limit.passes(sending()) for _ in range(2)], [True, False])

    def test_a_rate_may_be_written_with_a_unit_alone(self) -> None:
        for text, interval in (("60/1h", 60), ("60/h", 60), ("5/30s", 6), ("2 / 1 m", 30)):
            self.assertEqual(RateLimitOptions(rate=text).bucket.interval, interval)


class BucketTests(SynchronousTestCase):
    @given(
        st.integers(1, 20),
        st.floats(0.01, 1000),
        st.lists(st.floats(0, 100), min_size=1, max_size=60),
    )
    def test_in_no_time_more_pass_than_the_burst_and_what_came_back_meanwhile(
        self, burst: int, interval: float, pauses: list[float]
    ) -> None:
        bucket, now, full = Bucket(interval, burst), 1.8e9, 0.0
        passed: list[float] = []
        for pause in pauses:
            now += pause
            wait = bucket.wait(full, now)
            self.assertGreaterEqual(wait, 0)
            self.assertLessEqual(wait, interval + 1e-5)
            if not wait:
                full = bucket.after(full, now)
                self.assertLessEqual(full, now + burst * interval + 1e-5)
                passed.append(now)
        for at, first in enumerate(passed):
            for more, last in enumerate(passed[at:], 1):
                self.assertLessEqual(more, burst + (last - first) / interval + 1e-3)

    @given(st.integers(1, 20), st.floats(0.1, 1000), st.integers(0, 100))
    def test_after_the_wait_one_passes(self, burst: int, interval: float, tries: int) -> None:
        bucket, now, full = Bucket(interval, burst), 1.8e9, 0.0
        for _ in range(tries):
            wait = bucket.wait(full, now)
            now += wait
            self.assertEqual(bucket.wait(full, now), 0)
            full = bucket.after(full, now)
