"""A limit of size for some, below what the listener takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.routing import ABSTAIN, Reject
from relay.policy.size import SizeLimit, SizeOptions
from relay.testing.policy import FakeWorld, PolicyContract
from relay.testing.questions import MESSAGE, content, put, sending


class SizeTests(PolicyContract, SynchronousTestCase):
    policy = "size"
    options = {"most": "1 KiB"}  # noqa: RUF012
    inquiries = (sending(size=1025), content(MESSAGE + b"x" * 1024))

    def test_what_says_that_it_is_too_large_is_refused_before_it_comes(self) -> None:
        verdict = self.put(sending(size=1025))
        assert isinstance(verdict, Reject)
        self.assertEqual(str(verdict.reply), "552 5.3.4 Message too large: at most 1 KiB")
        self.assertEqual(verdict.because, "1025 octets are more than 1024")
        self.assertIs(self.put(sending(size=1024)), ABSTAIN)
        self.assertIs(self.put(sending()), ABSTAIN)

    def test_what_is_too_large_is_refused_when_it_is_here(self) -> None:
        large = MESSAGE + b"x" * (1025 - len(MESSAGE))
        verdict = self.put(content(large))
        assert isinstance(verdict, Reject)
        self.assertEqual(str(verdict.reply), "552 5.3.4 Message too large: at most 1 KiB")
        self.assertIs(self.put(content(large[:-1])), ABSTAIN)

    def test_a_message_of_no_octets_is_no_limit(self) -> None:
        for wrong in (0, -1, "much", "1 KB"):
            self.assertRaises(ValidationError, SizeOptions.model_validate, {"most": wrong})

    @given(st.integers(1, 10**9), st.integers(0, 10**9))
    def test_the_limit_is_the_limit(self, most: int, size: int) -> None:
        policy = SizeLimit(SizeOptions(most=most), FakeWorld().world)
        self.assertEqual(put(policy, sending(size=size)) is ABSTAIN, size <= most)
