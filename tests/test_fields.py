"""Header fields told apart, and changed by whole fields."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address
from relay.mail.edits import AddField, AddRecipient, Change, Edited, RemoveField, ReplaceField, ReplaceRecipients
from relay.mail.facts import Facts, agreed, facts
from relay.mail.fields import MOST_FIELDS, Field, Fields

SECTION = b"Received: a\r\n by b\r\nSubject : =?utf-8?q?J=C3=B6rg?=\r\nreceived:c\r\nX-Odd:\r\n"

names = st.sampled_from(["A", "B", "Subject", "X-Spam"])
bodies = st.sampled_from(["", "one", "folded\r\n and on", "ümlaut"])
changes: st.SearchStrategy[Change] = st.one_of(
    st.builds(AddField, names, bodies),
    st.builds(RemoveField, names, st.none() | st.integers(1, 3)),
    st.builds(ReplaceField, names, bodies),
)
sections = st.lists(st.builds(lambda name, body: f"{name}: {body}\r\n".encode(), names, bodies), max_size=6).map(
    b"".join
)


class FieldsTests(SynchronousTestCase):
    def test_fields_are_told_apart_with_their_continuations(self) -> None:
        fields = Fields(SECTION)
        self.assertEqual([field.name for field in fields], [b"received", b"subject", b"received", b"x-odd"])
        self.assertEqual(fields.all[0].octets, b"Received: a\r\n by b\r\n")

    def test_bodies_are_unfolded_and_shown_to_people(self) -> None:
        fields = Fields(SECTION)
        self.assertEqual([field.body for field in fields.named("RECEIVED")], [b"a by b", b"c"])
        first = fields.first("subject")
        assert first is not None
        self.assertEqual(first.text, "Jörg")
        self.assertEqual(fields.all[3].text, "")
        self.assertIsNone(fields.first("nothing"))
        self.assertNotIn("nothing", fields)

    def test_what_cannot_be_decoded_stands_as_it_is(self) -> None:
        for body in (b"=?x-unknown?q?a?=", b"=?utf-8?b?****?=", b"=?utf-8?q?=ZZ?=", b"\xff\xfe"):
            text = Field(b"Subject: " + body + b"\r\n").text
            self.assertIsInstance(text, str)
            text.encode()

    def test_lines_that_are_no_field_have_no_name(self) -> None:
        self.assertEqual([field.name for field in Fields(b"hello\r\nA: b\r\n")], [b"", b"a"])

    def test_the_empty_line_is_no_part_of_it(self) -> None:
        for section in (b"\r\n", b""):
            self.assertEqual(len(Fields(section)), 0)
        self.assertEqual(Fields(b"A: b\r\n\r\n").section, b"A: b\r\n")

    def test_there_is_an_end_to_telling_apart(self) -> None:
        fields = Fields(b"A: b\r\n" * (MOST_FIELDS + 5))
        self.assertEqual(len(fields), MOST_FIELDS)
        self.assertEqual(b"".join(field.octets for field in fields), fields.section)

    @given(
        st.binary(max_size=200) | st.lists(st.sampled_from([b"A:", b" ", b"\r\n", b"\t", b"x", b"\n"])).map(b"".join)
    )
    def test_no_octet_is_lost_or_invented(self, octets: bytes) -> None:
        fields = Fields(octets)
        self.assertEqual(b"".join(field.octets for field in fields), fields.section)
        for field in fields:
            field.text.encode()


class EditsTests(SynchronousTestCase):
    def after(self, *changes: Change, section: bytes = b"A: 1\r\nB: 2\r\na: 3\r\n") -> Edited:
        edited = Edited.beginning(Fields(section))
        for change in changes:
            edited = edited.after(change)
        return edited

    def test_a_field_is_added_on_top_without_copying(self) -> None:
        edited = self.after(AddField("X", "1"), AddField("Y", "2"))
        self.assertEqual(b"".join(field.octets for field in edited.added), b"Y: 2\r\nX: 1\r\n")
        self.assertFalse(edited.copied)

    def test_all_fields_of_a_name_are_left_out_or_one(self) -> None:
        self.assertEqual(self.after(RemoveField("a")).fields.section, b"B: 2\r\n")
        self.assertEqual(self.after(RemoveField("A", 2)).fields.section, b"A: 1\r\nB: 2\r\n")
        self.assertTrue(self.after(RemoveField("A", 2)).copied)

    def test_what_is_not_there_costs_no_copy(self) -> None:
        for change in (RemoveField("C"), RemoveField("A", 3)):
            self.assertFalse(self.after(change).copied)

    def test_what_was_added_is_removed_without_copying(self) -> None:
        edited = self.after(AddField("X", "1"), RemoveField("X"))
        self.assertEqual((edited.added, edited.copied), ((), False))

    def test_a_field_is_replaced_where_it_stands(self) -> None:
        edited = self.after(ReplaceField("A", "new"))
        self.assertEqual(edited.fields.section, b"A: new\r\nB: 2\r\n")
        self.assertTrue(edited.copied)

    def test_where_there_is_none_to_replace_it_is_added(self) -> None:
        edited = self.after(ReplaceField("C", "new"))
        self.assertEqual(edited.fields.section, b"C: new\r\nA: 1\r\nB: 2\r\na: 3\r\n")
        self.assertFalse(edited.copied)

    @given(sections, st.lists(changes, max_size=6))
    def test_what_is_kept_stays_as_it_came(self, section: bytes, changes: list[Change]) -> None:
        before = Fields(section)
        edited = self.after(*changes, section=section)
        if not edited.copied:
            self.assertEqual(edited.kept, before.all)
        made = {change.octets for change in changes if isinstance(change, AddField | ReplaceField)}
        for field in edited.fields:
            self.assertTrue(field in before.all or field.octets in made)
        # What each policy sees is what comes of reading it again.
        self.assertEqual(Fields(edited.fields.section).all, edited.fields.all)

    def test_nothing_can_be_smuggled_in(self) -> None:
        for body in ("a\r\nBcc: all", "a\nb", "a\rb", "a\r\n\r\nText", "a\r\n ", "nul\0", "x" * 1000):
            self.assertRaises(ValueError, AddField, "X", body)
            self.assertRaises(ValueError, ReplaceField, "X", body)
        for name in ("", "a b", "a:", "ä", "a\r\n"):
            self.assertRaises(ValueError, AddField, name, "b")
            self.assertRaises(ValueError, RemoveField, name)
        self.assertRaises(ValueError, RemoveField, "A", 0)

    def test_a_message_is_never_for_nobody(self) -> None:
        self.assertRaises(ValueError, ReplaceRecipients, [])
        self.assertRaises(ValueError, ReplaceRecipients, ["ann@example.org"])
        self.assertRaises(ValueError, AddRecipient, "ann@example.org")
        self.assertEqual(len(ReplaceRecipients([Address.parse("ann@example.org")]).recipients), 1)


class FactsTests(SynchronousTestCase):
    def test_what_came_later_counts(self) -> None:
        self.assertEqual(dict(Facts({"a": "1", "b": "2"}).plus({"b": "3"})), {"a": "1", "b": "3"})

    def test_the_same_facts_are_equal_in_whatever_order(self) -> None:
        one, other = Facts({"a": "1", "b": "2"}), Facts({"b": "2", "a": "1"})
        self.assertEqual((one, hash(one)), (other, hash(other)))
        self.assertNotEqual(one, Facts({"a": "1"}))

    def test_what_all_agree_on_is_what_all_know_alike(self) -> None:
        first = Facts({"a": "1", "b": "2", "c": "3"})
        self.assertEqual(dict(agreed([first, Facts({"a": "1", "b": "3"}), Facts({"d": "4", "a": "1"})])), {"a": "1"})
        self.assertEqual(dict(agreed([])), {})
        self.assertIs(agreed([first, first, Facts({"c": "3", "b": "2", "a": "1"})]), first)

    def test_they_are_texts_of_bounded_length(self) -> None:
        for wrong in ({"a": 1}, {1: "a"}, {"": "a"}, {"a" * 65: "b"}, {"a": "b" * 1025}):
            self.assertRaises(ValueError, facts, wrong)
