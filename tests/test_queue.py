"""Which recipients are kept for what policies have said, and what is wished for them."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address
from relay.mail.decision import Placement
from relay.mail.dsn import NO_WISHES, Notify, Wishes
from relay.mail.queue import EXPANSION, Recipient, destination, recipients
from relay.mail.routing import Deliver, Discard

ANN, BOB, CEO, TEAM, BOSSES = (Address(name, "example.org") for name in ("ann", "bob", "ceo", "team", "bosses"))
MAILBOX = Deliver("maildir")


def wishing(*what: Notify, orcpt: str = "") -> Wishes:
    return Wishes(frozenset(what), orcpt)


def placed(original: Address, *members: Address, wishes: Wishes = NO_WISHES) -> list[Placement]:
    return [Placement(member, original, MAILBOX, "mailboxes", "", wishes) for member in members]


def kept(*placements: list[Placement]) -> list[tuple[str, str, bool, set[str] | None]]:
    """Address, the name that a notice uses, whether it is an expansion, and what is wished."""
    return [
        (
            one.address.local,
            one.original.local,
            one.route == EXPANSION,
            None if one.wishes.notify is None else {what.value for what in one.wishes.notify},
        )
        for one in recipients("Q", [placement for each in placements for placement in each])
    ]


class DestinationTests(SynchronousTestCase):
    def test_copies_for_an_agent_wait_by_where_it_takes_them(self) -> None:
        for agent, parameters, name in (
            ("maildir", {"folder": "/mail/jon"}, "maildir"),
            ("console", {}, "console"),
            ("pipe", {"command": '["/usr/bin/ticket", "{recipient}"]', "user": "jon"}, "pipe:ticket"),
            ("pipe", {"command": '["/usr/bin/a b;c\\n"]'}, "pipe:a?b?c?"),
            ("pipe", {"command": "/usr/bin/ticket now"}, "pipe:ticket"),
            ("http", {"url": "https://App.example.org/mail?key=x"}, "http:app.example.org"),
            ("http", {"url": "http://127.0.0.1:8080/"}, "http:127.0.0.1:8080"),
            ("http", {"url": "http://[::1]:8080/"}, "http:[::1]:8080"),
            ("http", {"url": "https://app.example.org:x/"}, "http"),
            ("fax", {"destination": "Bonn", "url": "https://fax.example.org/"}, "fax:Bonn"),
            ("my.own:Fax", {"url": "https://fax.example.org/"}, "my.own:Fax:fax.example.org"),
            (EXPANSION.agent, {}, EXPANSION.agent),
        ):
            self.assertEqual(destination(Deliver(agent, parameters)), name)

    @given(st.dictionaries(st.sampled_from(["destination", "command", "url"]), st.text() | st.just("[" * 9999)))
    def test_whatever_is_said_makes_one_word(self, parameters: dict[str, str]) -> None:
        name = destination(Deliver("fax", parameters))
        self.assertRegex(name, r"\Afax(:[!-~]{1,100})?\Z")


class RecipientsTests(SynchronousTestCase):
    def test_a_mailbox_that_was_named_twice_gets_one_copy(self) -> None:
        self.assertEqual(
            recipients("Q", [*placed(ANN, ANN), *placed(ANN, ANN), *placed(TEAM, ANN, BOB)]),
            (
                Recipient("Q.0", ANN, ANN, MAILBOX, "maildir", "mailboxes"),
                Recipient("Q.1", BOB, TEAM, MAILBOX, "maildir", "mailboxes"),
            ),
        )

    def test_what_is_discarded_is_not_kept(self) -> None:
        wishes = wishing(Notify.SUCCESS)
        discarded = [Placement(ANN, ANN, Discard(), "p", "", wishes)]
        self.assertEqual(kept(discarded), [])
        self.assertEqual(kept([*discarded, *placed(BOB, BOB, wishes=wishes)]), [("bob", "bob", False, {"SUCCESS"})])

    def test_an_alias_of_one_passes_on_what_is_wished(self) -> None:
        wishes = wishing(Notify.SUCCESS, Notify.FAILURE, orcpt="rfc822;ceo@example.org")
        (only,) = recipients("Q", placed(CEO, ANN, wishes=wishes))
        self.assertEqual((only.address, only.original, only.wishes), (ANN, CEO, wishes))

    def test_an_alias_of_several_tells_of_its_expansion_and_its_members_of_failures_alone(self) -> None:
        wishes = wishing(Notify.SUCCESS, Notify.FAILURE, Notify.DELAY, orcpt="rfc822;team@example.org")
        self.assertEqual(
            kept(placed(TEAM, ANN, BOB, wishes=wishes)),
            [
                ("ann", "team", False, {"FAILURE", "DELAY"}),
                ("bob", "team", False, {"FAILURE", "DELAY"}),
                ("team", "team", True, {"SUCCESS", "FAILURE", "DELAY"}),
            ],
        )
        self.assertEqual(
            {one.wishes.orcpt for one in recipients("Q", placed(TEAM, ANN, BOB, wishes=wishes))},
            {"rfc822;team@example.org"},
        )

    def test_who_wants_to_hear_of_success_alone_hears_nothing_of_the_members(self) -> None:
        self.assertEqual(
            kept(placed(TEAM, ANN, BOB, wishes=wishing(Notify.SUCCESS)))[:2],
            [("ann", "team", False, {"NEVER"}), ("bob", "team", False, {"NEVER"})],
        )

    def test_nothing_is_expanded_where_nobody_asked(self) -> None:
        for notify in (None, frozenset([Notify.NEVER]), frozenset([Notify.FAILURE, Notify.DELAY])):
            found = kept(placed(TEAM, ANN, BOB, wishes=Wishes(notify)))
            wished = None if notify is None else {what.value for what in notify}
            self.assertEqual(found, [("ann", "team", False, wished), ("bob", "team", False, wished)])

    def test_a_mailbox_to_which_two_names_lead_tells_of_what_is_wished_for_either(self) -> None:
        self.assertEqual(
            kept(placed(CEO, ANN, wishes=wishing(Notify.NEVER)), placed(ANN, ANN)),
            [("ann", "ann", False, {"FAILURE"})],
        )
        # The one copy can tell of one success only; of the other name the sender hears that it was expanded.
        self.assertEqual(
            kept(placed(CEO, ANN, wishes=wishing(Notify.SUCCESS)), placed(ANN, ANN, wishes=wishing(Notify.SUCCESS))),
            [("ann", "ann", False, {"SUCCESS"}), ("ceo", "ceo", True, {"SUCCESS"})],
        )

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([TEAM, BOSSES, CEO]),
                st.lists(st.sampled_from([ANN, BOB, CEO]), min_size=1, max_size=3, unique=True),
                st.none() | st.just({Notify.NEVER}) | st.sets(st.sampled_from(list(Notify)[1:]), min_size=1),
            ),
            max_size=4,
            unique_by=lambda one: one[0],
        )
    )
    def test_each_name_has_one_who_tells_of_its_success_and_each_copy_one_of_its_failure(
        self, said: list[tuple[Address, list[Address], set[Notify] | None]]
    ) -> None:
        placements = [
            placed(name, *members, wishes=Wishes(None if notify is None else frozenset(notify)))
            for name, members, notify in said
        ]
        found = recipients("Q", [placement for each in placements for placement in each])
        self.assertEqual(len({one.id for one in found}), len(found))
        copies = Counter(one.address for one in found if one.route != EXPANSION)
        self.assertEqual(copies, Counter({member for _, members, _ in said for member in members}))
        telling = Counter(one.original for one in found if one.wishes.wants(Notify.SUCCESS))
        self.assertEqual(telling, Counter(name for name, _, notify in said if notify and Notify.SUCCESS in notify))
        for what in (Notify.FAILURE, Notify.DELAY):
            for one in found:
                if one.route != EXPANSION:
                    wished = [
                        Wishes(None if notify is None else frozenset(notify)).wants(what)
                        for _, members, notify in said
                        if one.address in members
                    ]
                    self.assertEqual(one.wishes.wants(what), any(wished))
