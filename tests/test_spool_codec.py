from __future__ import annotations

import json
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address
from relay.mail.dsn import Notify, Return, Wishes
from relay.mail.envelope import Body, ByMode, Client, DeliverBy, Envelope, Form
from relay.mail.facts import Facts
from relay.mail.outcome import Delayed
from relay.mail.queue import Entry, Pending, Recipient
from relay.mail.reply import Reply
from relay.mail.routing import Deliver, Discard, Forward, Hold, NextHop, Reject, Route
from relay.mail.tls import Subject, TlsFacts
from relay.spool.codec import Decoder, Encoder, Row
from relay.spool.errors import Damaged
from relay.spool.schema import OPTIONAL, PENDING, RECIPIENT
from relay.testing.spool_case import NOON, entry, recipient

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
DOMAINS = st.sampled_from(["example.org", "localhost", "[192.0.2.1]", "[IPv6:2001:db8::1]", "xn--bcher-kva.example"])
ADDRESSES = st.builds(Address, TEXT.filter(bool), DOMAINS)
SUBJECTS = st.builds(Subject, TEXT, st.none() | TEXT, st.tuples(TEXT, TEXT), st.tuples(), TEXT)
TLS = st.builds(TlsFacts, TEXT, TEXT, st.integers(0, 256), st.none() | SUBJECTS)
CLIENTS = st.builds(
    Client,
    st.none() | TEXT,
    st.integers(0, 65535),
    TEXT,
    st.booleans(),
    TEXT,
    st.none() | TEXT,
    st.none() | TLS,
    st.booleans(),
)
TIMES = st.floats(0, 4e9)
ENVELOPES = st.builds(
    Envelope,
    st.none() | ADDRESSES,
    st.sampled_from(Body),
    st.booleans(),
    CLIENTS,
    st.none() | st.sampled_from(Return),
    TEXT,
    st.booleans(),
    st.none() | st.integers(-9, 9),
    st.none() | st.builds(DeliverBy, TIMES, st.sampled_from(ByMode), st.booleans()),
    st.none() | TIMES,
    st.none() | st.integers(1, 10**9),
)
WISHES = st.builds(Wishes, st.none() | st.frozensets(st.sampled_from(Notify)), TEXT)
ENTRIES = st.builds(Entry, TEXT, st.floats(0, 4e9), ENVELOPES, st.binary(max_size=20))
PORTS = st.integers(1, 65535)
KEYWORDS = st.lists(st.sampled_from(["CHUNKING", "DSN", "PIPELINING"]), max_size=3).map(tuple)
HOPS = st.one_of(
    st.builds(NextHop, DOMAINS, PORTS, st.booleans()),
    st.builds(NextHop, DOMAINS, PORTS, st.booleans(), st.sampled_from(["none", "encrypt"]), without=KEYWORDS),
    st.builds(NextHop, DOMAINS, PORTS, st.just(False), st.just("verify"), TEXT, st.booleans(), KEYWORDS),
    st.builds(
        NextHop,
        DOMAINS,
        source=st.sampled_from([(), ("192.0.2.1",), ("192.0.2.1", "2001:db8::1")]),
        hello=st.sampled_from(["", "bulk.example.org"]),
    ),
    st.builds(NextHop, st.just("unix:/run/lmtp"), mx=st.just(False), lmtp=st.just(True)),
)
ROUTES: st.SearchStrategy[Route] = st.one_of(
    st.builds(
        Forward,
        st.lists(HOPS, min_size=1).map(tuple),
        TEXT,
        st.none() | ADDRESSES,
    ),
    st.builds(Deliver, TEXT, st.dictionaries(TEXT, TEXT, max_size=3), TEXT),
    st.builds(Hold, TEXT),
    st.builds(Reject, st.builds(lambda text: Reply.saying(550, "5.7.1", text), TEXT), TEXT),
)
FACTS = st.dictionaries(st.sampled_from(["spf", "vip", "ü"]), TEXT, max_size=2).map(Facts)
RECIPIENTS = st.builds(Recipient, TEXT, ADDRESSES, ADDRESSES, ROUTES, TEXT, TEXT, WISHES, FACTS)


def entry_columns(row: Row) -> Row:
    return row[:5]


def pending_columns(row: Row) -> Row:
    """Of RECIPIENT those of PENDING."""
    columns: dict[str, Any] = dict(zip(RECIPIENT.split(", "), row, strict=True), attempts=0, last=None)
    kept = {name: None if name in OPTIONAL and value == 0 else value for name, value in columns.items()}
    return tuple(kept[name] for name in PENDING.split(", "))


class RoundTripTests(SynchronousTestCase):
    def setUp(self) -> None:
        # One each for all examples, since what they remember must not matter.
        self.encoder, self.decoder = Encoder(), Decoder()

    @given(ENTRIES)
    def test_an_entry_comes_back_as_it_was(self, kept: Entry) -> None:
        row = self.encoder.entry(kept, Form.WIRE, 1, 2, b"")
        self.assertEqual(self.decoder.entry(entry_columns(row)), kept)

    @given(RECIPIENTS, st.floats(0, 4e9))
    def test_a_recipient_comes_back_as_it_was(self, kept: Recipient, due: float) -> None:
        row = self.encoder.recipient("entry", kept, due, due, 0)
        self.assertEqual(self.decoder.pending(pending_columns(row)), Pending(kept, due=due))

    @given(st.builds(Delayed, TEXT, TEXT, TEXT, TEXT), st.integers(0, 1000))
    def test_what_has_happened_comes_back_as_it_was(self, last: Delayed, attempts: int) -> None:
        row = list(pending_columns(self.encoder.recipient("entry", recipient("id"), 1.0, 1.0, 0)))
        row[2], row[8] = attempts, self.encoder.delayed(last)
        self.assertEqual(self.decoder.pending(tuple(row)), Pending(recipient("id"), attempts, 1.0, last))

    def test_all_there_is_to_a_client_can_be_kept(self) -> None:
        """What a client learns later must be text, a number or a truth value, or the codec must learn it, too."""
        self.assertEqual({attribute.type for attribute in attrs.fields(Client)} - _PLAIN_TYPES, set())

    def test_all_that_is_kept_is_known_here(self) -> None:
        """Whoever adds to one of these values is to teach the codec, and the strategies above."""
        for kept, names in (
            (Entry, "id arrived envelope head"),
            (
                Envelope,
                "reverse_path body smtputf8 client returns envid require_tls priority deliver_by release hold_for",
            ),
            (DeliverBy, "until mode trace"),
            (Client, "address port helo extended listener user tls lmtp"),
            (TlsFacts, "protocol cipher bits client_subject"),
            (Subject, "name common_name hosts addresses fingerprint"),
            (Recipient, "id address original route destination policy wishes facts"),
            (Wishes, "notify orcpt"),
            (Pending, "recipient attempts due last"),
            (Delayed, "status because diagnostic peer"),
            (Forward, "next_hops because reverse_path"),
            (NextHop, "name port mx tls login lmtp without source hello unix text"),
            (Deliver, "agent parameters because"),
            (Hold, "because"),
            (Reject, "reply because"),
            (Reply, "code status lines wire"),
        ):
            self.assertEqual([attribute.name for attribute in attrs.fields(kept)], names.split(), kept.__name__)

    def test_a_row_written_before_a_client_knew_something_is_still_read(self) -> None:
        row = list(entry_columns(self.encoder.entry(entry("id"), Form.PLAIN, 1, 1, b"")))
        row[3] = '{"client":{"address":"192.0.2.1"}}'
        self.assertEqual(self.decoder.entry(tuple(row)).envelope.client, Client("192.0.2.1"))

    def test_a_next_hop_is_written_as_it_always_was_and_more_only_where_there_is_more(self) -> None:
        for hop, text in (
            (NextHop("example.net"), '["example.net",25,true]'),
            (NextHop("smtp.example.net", 587, mx=False), '["smtp.example.net",587,false]'),
            (
                NextHop("smtp.example.net", 587, mx=False, tls="verify", login="smarthost", without=("DSN",)),
                '["smtp.example.net",587,false,{"tls":"verify","login":"smarthost","without":["DSN"]}]',
            ),
            (
                NextHop("example.net", source=("192.0.2.1",), hello="bulk.example.org"),
                '["example.net",25,true,{"source":["192.0.2.1"],"hello":"bulk.example.org"}]',
            ),
        ):
            written = self.encoder.route(Forward(hop))
            self.assertEqual(written, f'{{"forward":[{text}]}}')
        written = self.encoder.route(Forward("example.net", reverse_path=Address("news+jon", "example.org")))
        self.assertEqual(written, '{"forward":[["example.net",25,true]],"sender":"news+jon@example.org"}')

    def test_nothing_is_written_of_what_was_not_said(self) -> None:
        row = self.encoder.entry(entry("id", client=Client("192.0.2.1")), Form.PLAIN, 1, 1, b"")
        self.assertEqual(row[3], '{"client":{"address":"192.0.2.1"}}')
        self.assertEqual(self.encoder.recipient("id", recipient("id.0"), 1.0, 1.0, 0)[-1], 0)
        self.assertEqual(self.encoder.recipient("id", recipient("id.0", wishes=Wishes(None)), 1.0, 1.0, 0)[-1], 0)
        by = DeliverBy(NOON + 60, ByMode.RETURN)
        row = self.encoder.entry(
            entry("id", client=Client("192.0.2.1"), priority=0, deliver_by=by), Form.PLAIN, 1, 1, b""
        )
        self.assertEqual(
            row[3], '{"client":{"address":"192.0.2.1"},"priority":0,"deliver_by":[1795435260.0,"R",false]}'
        )

    def test_a_discarded_copy_is_not_kept(self) -> None:
        self.assertRaises(ValueError, self.encoder.route, Discard())

    def test_two_connections_of_one_client_differ_in_what_they_differ_in(self) -> None:
        clients = [
            Client("192.0.2.1", port, helo, tls=tls, user=user)
            for port in (0, 25, 40000)
            for helo in ("a", "b")
            for tls in (None, TlsFacts("TLSv1.3", "x", 256))
            for user in (None, "jon")
        ]
        for body in Body:
            for client in clients * 2:
                kept = Entry("id", NOON, Envelope(None, body, client=client), b"")
                row = self.encoder.entry(kept, Form.WIRE, 1, 2, b"")
                self.assertEqual(self.decoder.entry(entry_columns(row)), kept)

    def test_a_client_that_is_gone_lends_its_text_to_nobody(self) -> None:
        """Where it stood in memory another one may stand now."""
        for number in range(5000):
            kept = entry("id", client=Client("192.0.2.1", 1 + number % 7, f"host{number % 3}"))
            for body, smtputf8 in ((Body.SEVEN_BIT, False), (Body.EIGHT_BIT, False), (Body.SEVEN_BIT, True)):
                kept = attrs.evolve(
                    kept, envelope=attrs.evolve(kept.envelope, body=body, smtputf8=smtputf8, envid="%s")
                )
                row = self.encoder.entry(kept, Form.WIRE, 1, 2, b"")
                self.assertEqual(Decoder().entry(entry_columns(row)), kept)

    def test_what_an_agent_is_told_is_written_as_it_is_now(self) -> None:
        parameters = {"folder": "a"}
        route = Deliver("maildir", parameters)
        self.encoder.route(route)
        parameters["folder"] = "b"
        self.assertIn('"folder":"b"', self.encoder.route(route))

    def test_texts_are_remembered_up_to_a_bound(self) -> None:
        for number in range(5000):
            text = self.encoder.route(Forward(f"example{number}.org"))
            row = pending_columns(
                self.encoder.recipient("entry", recipient("id", route=Forward(f"x{number}.org")), 1, 1, 0)
            )
            self.decoder.pending(row)
            self.encoder.entry(entry("id", client=Client("192.0.2.1", helo=str(number))), Form.WIRE, 1, 1, b"")
        self.assertEqual(text, self.encoder.route(Forward("example4999.org")))
        for known in (self.encoder._envelopes, self.encoder._connections, self.encoder._routes):
            self.assertLessEqual(len(known), 2000)
        self.assertLessEqual(len(self.decoder._values), 2000)


class DamageTests(SynchronousTestCase):
    def setUp(self) -> None:
        encoder = Encoder()
        self.entry = entry_columns(encoder.entry(entry("id"), Form.WIRE, 1, 1, b""))
        self.pending = pending_columns(encoder.recipient("id", recipient("id.0"), 1.0, 1.0, 0))

    def with_column(self, row: Row, at: int, value: Any) -> Row:
        return (*row[:at], value, *row[at + 1 :])

    def test_an_entry_that_cannot_be_read_is_damaged(self) -> None:
        for at, value in (
            (0, None),
            (1, "yesterday"),
            (2, "nobody"),
            (2, b"jon@example.org"),
            (3, "{"),
            (3, "[]"),
            (3, '{"client":{"address":null,"colour":"red"}}'),
            (3, '{"client":{}}'),
            (3, '{"body":"9BIT","client":{"address":null}}'),
            *(
                (3, '{"client":{"address":null},"%s":%s}' % (name, value))  # noqa: UP031
                for name, value in (
                    ("returns", '"ALL"'),
                    ("envid", "1"),
                    ("priority", '"high"'),
                    ("deliver_by", "60"),
                    ("deliver_by", '[60,"X",false]'),
                    ("deliver_by", '[60,"R"]'),
                    ("release", '"now"'),
                    ("hold_for", '"long"'),
                )
            ),
            (3, '{"client":{"address":null,"tls":{"protocol":"TLSv1.3"}}}'),
            (3, '{"client":{"address":null,"tls":{"protocol":"","cipher":"","bits":1,"client_subject":{"name":""}}}}'),
            (3, "[" * 100_000),
            (4, "text"),
        ):
            self.assertRaises(Damaged, Decoder().entry, self.with_column(self.entry, at, value))

    def test_a_recipient_that_cannot_be_read_is_damaged(self) -> None:
        routes = [
            {},
            {"forward": []},
            {"forward": [["x", 0, True]]},
            {"deliver": 1},
            {"reject": [450, "4.0.0", "x"]},
            [],
            1,
        ]
        for at, value in (
            (0, 1),
            (1, None),
            (2, "many"),
            (3, "@"),
            (4, ""),
            *((5, json.dumps(route)) for route in routes),
            (6, None),
            (7, 7),
            (8, "[]"),
            (8, '["4.0.0",1,"",""]'),
            (9, "NEVER"),
            (9, '{"notify":["ALWAYS"]}'),
            (9, '{"notify":1}'),
            (9, '{"orcpt":1}'),
        ):
            self.assertRaises(Damaged, Decoder().pending, self.with_column(self.pending, at, value))

    def test_an_unknown_form_is_damage(self) -> None:
        self.assertRaises(Damaged, Decoder().form, "mime")
        self.assertEqual(Decoder().form("wire"), Form.WIRE)
        self.assertEqual(NOON, Decoder().entry(self.entry).arrived)


_PLAIN_TYPES = {"str", "str | None", "int", "bool", "TlsFacts | None"}
