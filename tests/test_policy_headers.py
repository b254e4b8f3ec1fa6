"""What stands in a message's header section, and what is done about it."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.edits import AddField, RemoveField, ReplaceField
from relay.mail.phases import Edit
from relay.mail.routing import ABSTAIN, Accept, Delay, Discard, Hold, Note, Reject
from relay.policy.headers import LOOKED_AT, Headers, HeadersOptions, matcher
from relay.testing.policy import FakeWorld, PolicyContract
from relay.testing.questions import content, put

SPAM = b"Subject: Cheap =?utf-8?q?Vi=C3=A1gra?= here\r\nX-Flag: YES\r\nX-Flag: no\r\n\r\nText.\r\n"


def asked(message: bytes = SPAM, action: str = "reject", **options: Any) -> Any:
    policy = Headers(HeadersOptions.model_validate({"action": action, **options}), FakeWorld().world)
    return put(policy, content(message))


def sought(*conditions: dict[str, Any], message: bytes = SPAM, **options: Any) -> bool:
    verdict = asked(message, fields=list(conditions), **options)
    assert verdict is ABSTAIN or isinstance(verdict, Reject), verdict
    return verdict is not ABSTAIN


class HeadersTests(PolicyContract, SynchronousTestCase):
    policy = "headers"
    options = {"fields": [{"name": "Subject", "contains": ["spam"]}], "action": "reject"}  # noqa: RUF012
    inquiries = (content(b"Subject: spam\r\n\r\n"),)

    def test_a_field_has_a_text_or_has_it_in_it(self) -> None:
        for condition, found in [
            ({"contains": ["VIÁGRA"]}, True),
            ({"contains": ["nothing", "cheap"]}, True),
            ({"contains": ["text"]}, False),
            ({"is": ["cheap viágra HERE"]}, True),
            ({"is": ["cheap"]}, False),
            ({"matches": ["^cheap .*here$"]}, True),
            ({"matches": [r"vi\wgra"]}, True),
            ({"matches": ["^here"]}, False),
            ({"is": ["other"], "contains": ["more"], "matches": ["ea"]}, True),
            ({"is": ["other"], "contains": ["more"], "matches": ["eaa"]}, False),
        ]:
            self.assertIs(sought({"name": "SUBJECT", **condition}), found, condition)

    def test_fields_are_there_or_missing_and_are_counted(self) -> None:
        for condition, found in [
            ({"name": "subject"}, True),
            ({"name": "date"}, False),
            ({"name": "date", "at_most": 0}, True),
            ({"name": "subject", "at_most": 0}, False),
            ({"name": "x-flag", "at_least": 2}, True),
            ({"name": "x-flag", "at_least": 3}, False),
            ({"name": "x-flag", "at_most": 1}, False),
            ({"name": "x-flag", "at_least": 1, "at_most": 2}, True),
            ({"name": "x-flag", "is": ["yes"], "at_least": 2}, False),
            ({"name": "x-flag", "is": ["yes"], "at_most": 1}, True),
            ({"name": "x-flag", "is": ["yes", "no"], "at_least": 2}, True),
        ]:
            self.assertIs(sought(condition), found, condition)

    def test_all_conditions_have_to_hold_or_any(self) -> None:
        yes, no = {"name": "subject"}, {"name": "date"}
        for conditions, every, some in [([yes, no], False, True), ([yes, yes], True, True), ([no, no], False, False)]:
            self.assertIs(sought(*conditions), every)
            self.assertIs(sought(*conditions, match="any"), some)

    def test_without_conditions_each_message_is_meant(self) -> None:
        self.assertTrue(sought())
        self.assertTrue(sought(match="any"))

    def test_a_message_without_a_header_section_has_no_fields(self) -> None:
        self.assertFalse(sought({"name": "subject"}, message=b"\r\n\r\ntext"))

    def test_what_is_done_about_it(self) -> None:
        facts = {"spam": "yes"}
        for action, more, verdict in [
            ("discard", {}, Discard()),
            ("hold", {}, Hold()),
            ("accept", {"facts": facts}, Accept(facts=facts)),
            ("note", {"facts": facts}, Note(facts)),
            (
                "edit",
                {"remove": ["X-Flag"], "replace": {"Subject": "[spam]"}, "add": {"X-Spam": "yes"}, "facts": facts},
                Edit([RemoveField("X-Flag"), ReplaceField("Subject", "[spam]"), AddField("X-Spam", "yes")], "", facts),
            ),
        ]:
            self.assertEqual(asked(action=action, **more), verdict)
        refused, delayed = asked(text="no spam"), asked(action="delay", fields=[{"name": "subject"}])
        assert isinstance(refused, Reject)
        assert isinstance(delayed, Delay)
        self.assertEqual(str(refused.reply), "550 5.7.1 no spam")
        self.assertEqual(str(delayed.reply), "450 4.7.1 the message was refused by its header")
        self.assertEqual(delayed.because, "by its subject")

    def test_facts_that_it_leaves_are_known_beforehand(self) -> None:
        options = HeadersOptions.model_validate({"action": "note", "facts": {"spam": "yes"}})
        self.assertEqual(Headers(options, FakeWorld().world).provides, {"spam"})

    def test_what_cannot_be_meant_is_an_error(self) -> None:
        for wrong in (
            {},
            {"action": "reject", "fields": [{"name": "no name"}]},
            {"action": "reject", "fields": [{"name": "Subject", "matches": ["("]}]},
            {"action": "reject", "fields": [{"name": "Subject", "matches": [r"(a)\1"]}]},
            {"action": "reject", "fields": [{"name": "Subject", "matches": ["a" * 501]}]},
            {"action": "reject", "fields": [{"name": "Subject", "matches": [r"(\w{1,1000}){1,1000}"]}]},
            {"action": "reject", "fields": [{"name": "Subject", "contains": [""]}]},
            {"action": "reject", "fields": [{"name": "Subject", "at_least": 0}]},
            {"action": "reject", "fields": [{"name": "Subject", "at_least": 2, "at_most": 1}]},
            {"action": "reject", "facts": {"spam": "yes"}},
            {"action": "reject", "add": {"X-Spam": "yes"}},
            {"action": "note"},
            {"action": "note", "facts": {"": "yes"}},
            {"action": "edit"},
            {"action": "edit", "add": {"X-Spam": "yes\r\nBcc: jon@example.org"}},
            {"action": "edit", "add": {"X-Späm": "yes"}},
            {"action": "edit", "remove": ["two words"]},
        ):
            self.assertRaises(ValidationError, HeadersOptions.model_validate, wrong)

    def test_no_pattern_takes_its_time_whatever_stands_in_a_field(self) -> None:
        began = time.process_time()
        for pattern in ("(a+)+$", "(a|a)*b", "(.*)*x$", "^(([a-z])+.)+[A-Z]([a-z])+$", ".*.*.*.*.*.*q"):
            self.assertFalse(matcher(pattern).isinstance_python("a" * LOOKED_AT + "!"))
        self.assertLess(time.process_time() - began, 1)

    def test_only_the_beginning_of_a_field_is_looked_at(self) -> None:
        for length, found in ((LOOKED_AT - 4, True), (LOOKED_AT, False)):
            message = b"X: " + b"a" * length + b"spam\r\n\r\n"
            for condition in ({"contains": ["spam"]}, {"matches": ["spam"]}):
                self.assertIs(sought({"name": "x", **condition}, message=message), found)

    @given(st.binary(max_size=300), st.text(min_size=1, max_size=3))
    def test_nothing_that_a_stranger_writes_makes_it_fail(self, octets: bytes, text: str) -> None:
        message = b"Subject: " + octets + b"\r\n\r\n"
        condition = {"name": "subject", "contains": [text], "matches": ["."]}
        self.assertIn(sought(condition, message=message), (True, False))
