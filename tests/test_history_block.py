"""A block: what was told is what is found in it, in whichever way it was written."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias
from unittest.mock import ANY, patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.history import block
from relay.history.block import DECIDED, Block, Written
from relay.history.columns import packed, texts, unpacked
from relay.history.decisions import LONGEST as LONGEST_DECISION
from relay.history.decisions import InColumns, are_usual, in_columns, kept, keys_of
from relay.history.keys import LONGEST, keys, legible, plain
from relay.mail.address import Address
from relay.mail.decision import Placement
from relay.mail.envelope import Client
from relay.mail.event import shape_of
from relay.mail.explanation import MOST, Decided
from relay.mail.history import Account, Happening
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Delay, Deliver, Discard, Forward, Hold, Note, Reject, Rewrite
from relay.mail.tls import TlsFacts
from relay.policy.looking import Look
from relay.policy.steps import Asked, Skipped

#: When, what, and its fields. Of a `DECIDED` these are `id`, `ref` and `decision`.
Told: TypeAlias = tuple[float, str, Mapping[str, object]]

ANN, BOB = Address("ann", "x.example"), Address("b\u00f6b", "here.example")
OK, NO = Reply.of(250, "2.0.0", "Ok: queued as NG79W8MR4E21H9"), Reply.of(550, "5.7.1", "no")
LATER = Reply.of(451, "4.7.1", "later")

TEXTS = st.text(max_size=5) | st.sampled_from(("", "alias", "\udc80", '"', "y" * 500))
ADDRESSES = st.sampled_from((ANN, BOB))
ROUTES: Any = (
    st.just(Forward("far.example"))
    | st.builds(lambda because: Forward("far.example", because=because), TEXTS)
    | st.sampled_from((Deliver("maildir", {"directory": "d"}), Discard("out"), Hold("in"), Reject(NO, "no")))
)
VERDICTS = ROUTES | st.sampled_from((ABSTAIN, Note({"spf": "pass"}, "so"), Rewrite((ANN, BOB), "alias"), Delay(LATER)))
LOOKS = st.lists(st.builds(Look, TEXTS, TEXTS, TEXTS), max_size=3).map(tuple)
PHASES = st.sampled_from(("connection", "sender", "recipient", "content"))
SECONDS = st.floats(0, 100)


def asked(failed: st.SearchStrategy[bool]) -> st.SearchStrategy[Asked]:
    given = st.tuples(st.none() | ADDRESSES, TEXTS, VERDICTS, SECONDS, failed, PHASES, LOOKS)
    return given.map(lambda each: Asked(*each))


SKIPPED = st.tuples(st.none() | ADDRESSES, TEXTS, TEXTS, PHASES).map(lambda each: Skipped(*each))
CLIENTS = st.builds(
    Client,
    st.sampled_from((None, "192.0.2.9")),
    helo=TEXTS,
    listener=TEXTS,
    user=st.none() | TEXTS,
    tls=st.sampled_from((None, TlsFacts("TLSv1.3", "AES", 256))),
)


def decisions(steps: st.SearchStrategy[Any]) -> st.SearchStrategy[Decided]:
    return st.builds(
        Decided,
        st.lists(steps, max_size=4),
        CLIENTS,
        st.sampled_from((OK, NO)),
        st.sampled_from((None, "", ANN, BOB)),
        st.lists(ADDRESSES, max_size=3),
        TEXTS,
        TEXTS,
        st.lists(st.builds(Placement, ADDRESSES, ADDRESSES, ROUTES, TEXTS, TEXTS), max_size=3),
    )


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


RECURRING = st.none() | st.booleans() | st.sampled_from([0, 1, 1.0, "", "a", ["a"], (), ("a",), Look("", "", "")])


class PackedTests(SynchronousTestCase):
    @given(st.lists(RECURRING, max_size=4), st.integers(1, 3), st.integers(1, 4))
    def test_it_is_what_it_was(self, some: list[Any], times: int, period: int) -> None:
        for column in some * times, tuple(some * times), [*some * times, True]:
            again = unpacked(packed(column, period), len(column))
            self.assertEqual([(type(each), each) for each in again], [(type(each), each) for each in column])

    def test_what_stands_everywhere_is_said_once(self) -> None:
        for value in ("a", "", None, 1, ()):
            self.assertEqual(packed([value] * 600), [value])
            self.assertEqual(packed((value, "b") * 600, 2), (value, "b") if type(value) not in (int, tuple) else ANY)

    def test_what_is_equal_and_not_the_same_is_said_each_time(self) -> None:
        for column in [1, True], [1, 1.0], [("a",)] * 2, [0.0] * 2:
            self.assertEqual(packed(column), column)


class TextsTests(SynchronousTestCase):
    @given(st.lists(st.none() | ADDRESSES | st.just("<>"), max_size=3))
    def test_addresses_are_texts_unless_there_are_texts_among_them(self, column: list[Any]) -> None:
        texts_of_all = [each if each is None else str(each) for each in column]
        self.assertEqual(texts(column), column if "<>" in column else texts_of_all)


class InColumnsTests(SynchronousTestCase):
    @given(st.lists(decisions(asked(st.just(False)) | SKIPPED), min_size=1, max_size=4))
    def test_it_says_what_the_explanations_say(self, said: list[Decided]) -> None:
        told = InColumns(as_json(in_columns(said)))
        for number, decision in enumerate(said):
            explanation = told.explanation(number)
            self.assertEqual(explanation, decision.explanation())
            self.assertEqual(as_json(explanation.to_json()), as_json(decision.explanation().to_json()))

    def test_what_many_have_in_common_is_said_once(self) -> None:
        route, client = Forward("far.example"), Client("192.0.2.9", helo="a.example")
        said = Decided(
            (Asked(BOB, "a", route, 0.0),), client, OK, ANN, (BOB,), placements=(Placement(BOB, BOB, route),)
        )
        told = as_json(in_columns([said] * 3))
        self.assertEqual([len(told[name]) for name in ("clients", "verdicts", "routes")], [1, 1, 1])

    def test_what_was_asked_of_each_in_the_same_order_is_said_once(self) -> None:
        steps = (Skipped(None, "a", "client"), Asked(None, "b", Forward("far.example"), 0.001))
        told = as_json(in_columns([Decided(steps, Client(None), OK)] * 3))
        self.assertEqual([len(column) for column in told["steps"]], [2] * 8)

    def test_of_more_looks_than_are_kept_the_first_are_told(self) -> None:
        looks = (Look("dns", "a", "b"),) * 60
        said = Decided((Asked(BOB, "a", ABSTAIN, 0.0, looks=looks),) * 5, Client(None), OK)
        told = InColumns(as_json(in_columns([said]))).explanation(0)
        self.assertEqual([len(step.looks) for step in told.steps], [60, 60, 60, 20, 0])
        self.assertEqual([step.looks for step in told.steps], [step.looks for step in said.explanation().steps])

    def test_of_very_much_something_is_left_out_so_that_it_is_not_usual(self) -> None:
        few: dict[str, Any] = {"steps": (), "client": Client("192.0.2.9"), "reply": OK}
        placement = Placement(BOB, BOB, Forward("a.example"))
        for name, one in (("steps", Asked(BOB, "a", ABSTAIN, 0.0)), ("recipients", BOB), ("placements", placement)):
            self.assertTrue(are_usual([Decided(**{**few, name: (one,) * MOST})]))
            self.assertFalse(are_usual([Decided(**{**few, name: (one,) * (MOST + 1)})]))
        self.assertFalse(are_usual([Decided(**{**few, "reply": NO})]))  # it is found by what it says


#: Values as events have them, and as peers would like them to be.
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.text(st.sampled_from('aB "\\\n<>é@,\x7f\udc80')),
    st.just("<>"),
    st.builds(Address, st.text(st.sampled_from('aB "\\'), min_size=1), st.just("example.org")),
    st.lists(st.sampled_from(["a", 'd"', "\udc80"])),
    st.just("x" * (LONGEST + 1)),
    st.just("x" * 6000),
)
NAMES = ["sender", "recipient", "user", "to", "message_id", "client", "size", "because"]
IDS = st.sampled_from(["", "NG79W8MR4E21H9", "NG79W8MR9XYZ0K", "\udc80"])
EVENT = st.tuples(
    st.sampled_from(["accepted", "refused"]),
    st.builds(
        lambda ids, fields: {**ids, **fields},
        st.fixed_dictionaries({}, optional={"id": IDS | st.none()}),
        st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4),
    ),
)
DECISION = st.builds(
    lambda id, ref, decision: (DECIDED.what, {"id": id, "ref": ref, "decision": decision}),
    IDS,
    st.sampled_from(["", "", "7K3QX2"]),
    decisions(asked(st.booleans()) | SKIPPED),
)


USUAL: list[Told] = [
    (
        1.5,
        "accepted",
        {
            "id": "A",
            "sender": ANN,
            "to": "bob@x.example, c@x.example",
            "message_id": "<1@x>",
            "client": "::1",
            "size": 5,
            "tls": None,
        },
    ),
    (
        1.6,
        DECIDED.what,
        {"id": "A", "ref": "", "decision": Decided((Skipped(BOB, "a", "client"),), Client(None), OK, ANN)},
    ),
    (2.5, "relayed", {"id": "A", "recipient": BOB, "original": None, "text": "250 Ok", "age": 0.5}),
]


def write(batch: Sequence[Told]) -> Written:
    """A block of what was told."""
    shapes = [DECIDED if what == DECIDED.what else shape_of(what, fields) for _, what, fields in batch]
    return block.write(
        [(at, shape, tuple(fields.values())) for (at, _, fields), shape in zip(batch, shapes, strict=True)]
    )


class BlockTests(SynchronousTestCase):
    def check(self, batch: list[Told], octets: bytes) -> None:
        """What is in the block is what was told."""
        there = Block(octets)
        self.assertEqual(len(there), len(batch))
        happenings: dict[str | int, list[Happening]] = {}
        accounts: dict[str | int, list[Account]] = {}
        found: dict[str | int, set[str]] = {}
        for position, (at, what, fields) in enumerate(batch):
            id: Any = legible(str(fields.get("id") or ""))
            life = id or position
            told = found.setdefault(life, {id.casefold()} - {""})
            if what == DECIDED.what:
                decision, ref = fields["decision"], fields["ref"]
                assert isinstance(decision, Decided)
                accounts.setdefault(life, []).append(Account(at, id, str(ref), kept(decision)))
                told |= keys_of(kept(decision), str(ref))
            else:
                happenings.setdefault(life, []).append(Happening(at, what, plain(fields)))
                told |= keys(what, fields, plain(fields))
        for life, names in found.items():
            self.assertEqual(there.happenings(life), happenings.get(life, []))
            self.assertEqual(there.accounts(life), accounts.get(life, []))
            for name in names - {""}:
                everybody = {each for each, others in found.items() if name in others}
                self.assertEqual(there.found({name}), everybody, name)

    @settings(max_examples=100)
    @given(st.lists(EVENT | DECISION, min_size=1, max_size=6))
    def test_what_was_told_is_what_is_found(self, events: list[tuple[str, dict[str, Any]]]) -> None:
        batch: list[Told] = [(float(number), what, fields) for number, (what, fields) in enumerate(events)]
        written = write(batch)
        self.check(batch, written.told)
        with patch.object(block, "_at_once", None):
            one_by_one = write(batch)
        self.check(batch, one_by_one.told)
        self.assertEqual((written.ids, written.begun), (one_by_one.ids, one_by_one.begun))
        # What leads to the block in vain does no harm, what does not lead there does.
        self.assertLessEqual(one_by_one.keys, written.keys | {""})
        self.assertEqual((written.began, written.ended), (0.0, len(batch) - 1))

    def test_usual_events_are_written_at_once(self) -> None:
        self.patch(block, "_one_by_one", None)
        self.check(USUAL * 50, write(USUAL * 50).told)

    def test_what_one_policy_did_wrong_makes_only_its_decisions_odd(self) -> None:
        failed = Decided((Asked(BOB, "a", Delay(LATER), 0.1, True),), Client(None), OK, ANN)
        batch = [*USUAL, (3.0, DECIDED.what, {"id": "A", "ref": "", "decision": failed})]
        self.patch(block, "_one_by_one", None)
        self.check(batch, write(batch).told)

    def test_what_is_kept_of_much_is_bounded(self) -> None:
        names = ("text", "diagnostic", "by", "because")
        loud: list[Told] = [(1.0, "failed", {"id": "A", **{name: "\ud7ff" * 65_536 for name in names}})] * 100
        octets = len(zlib.decompress(write(loud).told))
        # Six octets for each of these characters.
        self.assertLess(octets, 100 * len(names) * 6.5 * LONGEST)
        step = Asked(BOB, "a", Discard("y" * 300), 0.0, looks=(Look("dns", "x" * 400, "y" * 400),) * 90)
        wordy = Decided((step,) * MOST, Client(None), OK, ANN)
        told: list[Told] = [(1.0, DECIDED.what, {"id": "A", "ref": "", "decision": wordy})]
        self.assertLess(len(zlib.decompress(write(told).told)), LONGEST_DECISION + 100)
        self.check(told, write(told).told)

    def test_what_json_cannot_say_does_not_keep_the_rest_from_being_kept(self) -> None:
        class Odd:
            def __str__(self) -> str:
                return "odd"

        endless: list[Any] = []
        endless.append(endless)
        batch: list[Told] = [*USUAL, (9.0, "refused", {"because": Odd(), "sender": Odd(), "x": {Odd(): 1}})]
        self.assertEqual(
            {**Block(write(batch).told).happenings(3)[0].fields, "x": ""}, {"because": "odd", "sender": "odd", "x": ""}
        )
        self.check(
            [*USUAL, (9.0, "refused", {"x": {(1, 2): 3}})],
            write([*USUAL, (9.0, "refused", {"x": {(1, 2): 3}})]).told,
        )
        self.assertEqual(len(Block(write([*USUAL, (9.0, "refused", {"x": endless})]).told)), 4)

    def test_what_a_disk_has_changed_is_no_block(self) -> None:
        octets = write(USUAL).told
        unharmed = 0
        for at in range(len(octets)):
            spoilt = bytearray(octets)
            spoilt[at] ^= 16
            try:
                self.check(USUAL, bytes(spoilt))
            except (ValueError, zlib.error):
                continue
            unharmed += 1  # a bit that fills up the last octet
        self.assertLessEqual(unharmed, 1)
