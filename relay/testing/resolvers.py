"""What every `IResolver` does, as tests to be inherited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from relay.interfaces import IResolver
from relay.mail.answer import Absent, Answer, Exchange, Found, Unanswered
from relay.net.waiting import start
from relay.testing.dns import Records

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase as _Case
else:
    _Case = object


class ResolverContract(_Case):
    """
    Mix this into a `SynchronousTestCase`, and say how to make the resolver.

    Answers must come without any more help (a fake network answers at once).
    """

    def resolver(self, names: Mapping[str, Records], signed: Sequence[str] = ()) -> IResolver:
        """An `IResolver` that finds these names and no others. What is at or below `signed` ones has been validated."""
        raise NotImplementedError

    def look_up(self, names: Mapping[str, Records], name: str, kind: str, signed: Sequence[str] = ()) -> Answer:
        answer: Answer | Deferred[Answer] = start(self.resolver(names, signed).look_up(name, kind))
        assert isinstance(answer, Found | Absent | Unanswered), answer
        return answer

    def expect(self, names: Mapping[str, Records], name: str, kind: str, *records: str | Exchange) -> None:
        """This look-up finds these records, in any order."""
        answer = self.look_up(names, name, kind)
        assert isinstance(answer, Found), answer
        assert sorted(map(repr, answer.records)) == sorted(map(repr, records)), answer

    def expect_no(self, names: Mapping[str, Records], name: str, kind: str, *, nonexistent: bool) -> None:
        """There are no such records, or not even such a name."""
        answer = self.look_up(names, name, kind)
        assert isinstance(answer, Absent), answer
        assert answer.nonexistent is nonexistent, answer

    def expect_unanswered(self, names: Mapping[str, Records], name: str, kind: str) -> None:
        answer = self.look_up(names, name, kind)
        assert isinstance(answer, Unanswered), answer

    def test_exchangers_come_with_their_preferences(self) -> None:
        names: dict[str, Records] = {"example.org": {"MX": [(20, "b.example.org"), (10, "a.example.org")]}}
        self.expect(names, "example.org", "MX", Exchange(10, "a.example.org"), Exchange(20, "b.example.org"))

    def test_each_kind_has_its_canonical_form(self) -> None:
        for kind, written, found in (
            ("A", "192.0.2.1", "192.0.2.1"),
            ("AAAA", "2001:db8::1", "2001:db8::1"),
            ("TXT", "v=spf1 -all", "v=spf1 -all"),
            ("PTR", "mx.example.org", "mx.example.org"),
        ):
            self.expect({"name.example": {kind: [written]}}, "name.example", kind, found)

    def test_the_strings_of_one_txt_record_are_joined(self) -> None:
        text = "v=DKIM1; p=" + "A" * 400
        self.expect({"k.example": {"TXT": [text]}}, "k.example", "TXT", text)

    def test_a_null_mx_is_an_exchanger_without_a_name(self) -> None:
        self.expect({"n.example": {"MX": [(0, "")]}}, "n.example", "MX", Exchange(0, ""))

    def test_a_name_that_does_not_exist_is_told_from_one_without_such_records(self) -> None:
        names: dict[str, Records] = {"mx.example.org": {"A": ["192.0.2.1"]}}
        self.expect_no(names, "mx.example.com", "A", nonexistent=True)
        self.expect_no(names, "mx.example.org", "AAAA", nonexistent=False)
        self.expect_no(names, "example.org", "A", nonexistent=False)

    def test_aliases_are_followed_to_their_end(self) -> None:
        names: dict[str, Records] = {
            "a.example": {"CNAME": "b.example"},
            "b.example": {"CNAME": "c.example"},
            "c.example": {"A": ["192.0.2.1"]},
            "astray.example": {"CNAME": "nowhere.example"},
        }
        self.expect(names, "a.example", "A", "192.0.2.1")
        self.expect_no(names, "a.example", "AAAA", nonexistent=False)
        self.expect(names, "a.example", "CNAME", "b.example")
        self.expect_no(names, "astray.example", "A", nonexistent=True)

    def test_only_what_was_validated_is_authentic(self) -> None:
        names: dict[str, Records] = {
            "signed.example": {"A": ["192.0.2.1"]},
            "mx.signed.example": {"A": ["192.0.2.1"]},
            "unsigned.example": {"A": ["192.0.2.1"]},
        }
        for below in "", "mx.", "nowhere.":
            for kind in "A", "AAAA":
                for domain, authentic in ("signed.example", True), ("unsigned.example", False):
                    answer = self.look_up(names, below + domain, kind, ["signed.example"])
                    assert isinstance(answer, Found | Absent), answer
                    assert answer.authentic is authentic, answer

    def test_along_aliases_each_has_to_be_validated(self) -> None:
        names: dict[str, Records] = {
            "a.example": {"CNAME": "b.example"},
            "b.example": {"CNAME": "c.example"},
            "c.example": {"A": ["192.0.2.1"]},
            "astray.example": {"CNAME": "nowhere.example"},
        }
        abc = {"a.example", "b.example", "c.example"}
        for name, kind, needed in (
            ("a.example", "A", abc),
            ("a.example", "AAAA", abc),
            ("a.example", "CNAME", {"a.example"}),
            ("astray.example", "A", {"astray.example", "nowhere.example"}),
        ):
            for spoilt in None, *needed:
                answer = self.look_up(names, name, kind, sorted(needed - {spoilt}))
                assert isinstance(answer, Found | Absent), answer
                assert answer.authentic is (spoilt is None), answer

    def test_aliases_in_a_circle_are_no_answer(self) -> None:
        names: dict[str, Records] = {"a.example": {"CNAME": "b.example"}, "b.example": {"CNAME": "a.example"}}
        self.expect_unanswered(names, "a.example", "A")

    def test_a_server_failure_is_no_answer_and_never_a_no(self) -> None:
        names: dict[str, Records] = {
            "broken.example": Unanswered("SERVFAIL"),
            "half.example": {"MX": Unanswered("SERVFAIL"), "A": ["192.0.2.1"]},
        }
        self.expect_unanswered(names, "broken.example", "MX")
        self.expect_unanswered(names, "half.example", "MX")
        self.expect(names, "half.example", "A", "192.0.2.1")

    def test_a_hundred_records_are_an_answer_and_more_are_none(self) -> None:
        addresses = [f"192.0.2.{number}" for number in range(101)]
        self.expect({"m.example": {"A": addresses[:100]}}, "m.example", "A", *addresses[:100])
        self.expect_unanswered({"m.example": {"A": addresses}}, "m.example", "A")

    def test_localhost_is_this_machine_whatever_servers_say(self) -> None:
        names: dict[str, Records] = {"localhost": {"A": ["192.0.2.1"], "MX": [(10, "mx.example")]}}
        self.expect(names, "localhost", "A", "127.0.0.1")
        self.expect(names, "localhost", "AAAA", "::1")
        self.expect_no(names, "localhost", "MX", nonexistent=False)

    def test_a_name_that_no_server_could_have_does_not_exist(self) -> None:
        for name in "x" * 64 + ".example", "a..example", "", ".".join(["x" * 60] * 5):
            self.expect_no({}, name, "A", nonexistent=True)

    def test_what_cannot_be_asked_for_is_the_fault_of_who_asks(self) -> None:
        try:
            self.look_up({}, "example.org", "ANY")
        except ValueError:
            return
        raise AssertionError("ANY is no kind of record")
