"""Whom an operator means by a destination's name."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relay.control.api import Refused
from relay.control.dispatching import Dispatching, canonical
from tests.delivery_world import DeliveryWorld, forwarded


class NameTests(SynchronousTestCase):
    def test_neither_letter_case_nor_a_dot_at_the_end_of_a_domain_matters(self) -> None:
        for said, name in {
            "Partner.Example": "partner.example",
            " partner.example. ": "partner.example",
            "Partner.Example.;tls=verify;login=Smart": "partner.example;tls=verify;login=Smart",
            "partner.example.:2525": "partner.example:2525",
            "LMTP.example": "lmtp.example",
            "lmtp:[Mail.Example.]:24": "lmtp:[mail.example]:24",
            "[Mail.Example]:25": "[mail.example]:25",
            "[192.0.2.1]:25": "[192.0.2.1]:25",
            "b\u00fccher.example": "xn--bcher-kva.example",
        }.items():
            self.assertEqual(canonical(said), name)

    def test_names_in_which_it_matters_stay_as_they_are(self) -> None:
        for name in "pipe:Ticket", "unix:/run/Some.d/lmtp", "Maildir", "[IPv6:2001:db8::1]", "http:127.0.0.1:8080":
            self.assertEqual(canonical(name), name)

    def test_a_name_is_one_line_of_three_hundred_characters(self) -> None:
        self.assertEqual(canonical("a" * 300), "a" * 300)
        for name in "a" * 301, "a.example\nb.example", "a\x1b[2J.example":
            with self.assertRaises(Refused):
                canonical(name)

    def test_a_pause_stops_mail_however_the_name_is_written(self) -> None:
        world = DeliveryWorld()
        delivery = Dispatching(world.dispatcher)
        self.assertFalse(delivery.knows("Example.NET."))
        delivery.pause("Example.NET.")
        self.assertTrue(delivery.knows("example.net"))
        world.accept(forwarded("ann@example.net"))
        self.assertEqual(world.hosts.calls, [])
        delivery.resume("EXAMPLE.net")
        world.accept(forwarded("ann@example.net"))
        self.assertEqual(len(world.hosts.calls), 1)
