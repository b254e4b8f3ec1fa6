"""Verdicts: one that makes no sense cannot be built."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Delay, Deliver, Forward, Hold, NextHop, Reject, Rewrite

NO, LATER, YES = (Reply.of(code, None, "x") for code in (550, 450, 250))


class VerdictTests(SynchronousTestCase):
    def test_an_impossible_verdict_cannot_be_built(self) -> None:
        impossible: list[Callable[[], object]] = [
            lambda: Reject(LATER),
            lambda: Reject(YES),
            lambda: Reject("550 no"),  # type: ignore[arg-type]
            lambda: Delay(NO),
            lambda: Delay(YES),
            lambda: Forward(()),
            lambda: Forward("no domain"),
            lambda: Forward([7]),  # type: ignore[list-item]
            lambda: NextHop("example.org", 0),
            lambda: NextHop("example.org", 65536),
            lambda: NextHop("example.org", tls="some"),  # type: ignore[arg-type]
            lambda: NextHop("example.org", login="us"),
            lambda: NextHop("example.org", tls="encrypt", login="us"),
            lambda: NextHop("example.org", lmtp=True),
            lambda: NextHop("unix:/run/lmtp", mx=False),
            lambda: NextHop(f"unix:/{'a' * 107}", mx=False, lmtp=True),
            lambda: Rewrite([]),
            lambda: Rewrite(["jon@example.org"]),  # type: ignore[list-item]
            lambda: Deliver(None),  # type: ignore[arg-type]
            lambda: Deliver("maildir", {"folder": 7}),  # type: ignore[dict-item]
            lambda: Hold(because=None),  # type: ignore[arg-type]
        ]
        for number, build in enumerate(impossible):
            with self.subTest(str(number)):
                self.assertRaises((ValueError, TypeError), build)

    def test_onward_by_mx_is_one_word(self) -> None:
        self.assertEqual(Forward("Example.ORG"), Forward((NextHop("example.org", 25, True),)))

    def test_a_destination_is_named_as_people_write_it(self) -> None:
        names = [str(NextHop("x.test")), str(NextHop("x.test", 26)), str(NextHop("x.test", 25, mx=False))]
        self.assertEqual(names, ["x.test", "x.test:26", "[x.test]:25"])

    def test_what_waits_for_a_host_in_another_way_waits_under_another_name(self) -> None:
        for hop, name in (
            (NextHop("x.test", tls="may", without=("CHUNKING",)), "x.test"),
            (NextHop("x.test", source=("192.0.2.1",), hello="us.test"), "x.test"),
            (NextHop("x.test", tls="none"), "x.test;tls=none"),
            (NextHop("x.test", 587, False, "verify", "us"), "[x.test]:587;tls=verify;login=us"),
            (NextHop("192.0.2.1", 24, False, lmtp=True), "lmtp:[192.0.2.1]:24"),
            (NextHop("unix:/run/lmtp", mx=False, lmtp=True), "unix:/run/lmtp"),
            (NextHop(f"unix:/{'a' * 106}", mx=False, lmtp=True), f"unix:/{'a' * 106}"),
        ):
            self.assertEqual(str(hop), name)

    def test_an_alias_stands_for_addresses(self) -> None:
        jon = Address("jon", "x.test")
        self.assertEqual(Rewrite([jon]).recipients, (jon,))

    def test_to_abstain_is_a_word_of_its_own(self) -> None:
        self.assertEqual(repr(ABSTAIN), "ABSTAIN")
