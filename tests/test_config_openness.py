"""What makes an open relay of a configuration."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from relay.config.load import load
from relay.config.openness import open_doors
from relay.policy.registry import option_model

PUBLIC = '[[listener]]\nname = "mx"\naddress = "[::]:25"\n'
PRIVATE = '[[listener]]\nname = "home"\naddress = "127.0.0.1:25"\n[[listener]]\nname = "s"\naddress = "unix:s"\n'
SUBMISSION = (
    '[auth]\npasswords = "users"\n[[listener]]\nname = "people"\naddress = "[::]:465"\n'
    'protocol = "submission"\ntls = "implicit"\n'
)


def policy(use: str, when: str = "") -> str:
    return f'[[policy]]\nuse = "{use}"\n' + (f"when = {{ {when} }}\n" if when else "")


class OpennessTests(SynchronousTestCase):
    def doors(self, *parts: str) -> list[str]:
        """Where the problems are."""
        settings = load(
            "".join(parts), file="x", base=Path("/etc"), hostname="mx.test", user="ann", option_model=option_model
        )
        return [str(settings.problem("x", door.path, door.text)) for door in open_doors(settings)]

    def test_who_forwards_for_everybody_is_an_open_relay(self) -> None:
        self.assertEqual(
            self.doors(PUBLIC, PRIVATE, policy("forward")),
            [
                "x:10: policy.1: anybody who connects to mx can send mail to anybody by way of 'forward': it should say "
                "'when = { client = ... }' or 'when = { authenticated = true }'"
            ],
        )

    def test_whoever_may_say_that_he_is_somebody_else_is_let_in(self) -> None:
        for key in ("proxy", "xclient"):
            self.assertEqual(
                self.doors(PUBLIC, f'{key} = ["10.0.0.0/8", "::/0"]\n'),
                [
                    f"x:4: listener.1.{key}: anybody can say here that he is somebody else, and is believed: name the "
                    "hosts that may"
                ],
            )
            self.assertEqual(self.doors(PUBLIC, f'{key} = ["10.0.0.0/8"]\n'), [])
            self.assertEqual(self.doors(f'[[listener]]\naddress = "[::1]:25"\n{key} = ["::/0"]\n'), [])

    def test_what_is_no_condition(self) -> None:
        for when in (
            'client = ["0.0.0.0/0"]',
            'client = ["127.0.0.1", "::/0"]',
            'sender = ["example.org"]',
            "authenticated = false",
            'listener = ["mx"]',
        ):
            self.assertEqual(len(self.doors(PUBLIC, policy("forward", when))), 1, when)

    def test_what_is_one(self) -> None:
        for when in (
            'client = ["10.0.0.0/8"]',
            'recipient = ["example.org"]',
            "authenticated = true",
            'listener = ["home"]',
        ):
            self.assertEqual(self.doors(PUBLIC, PRIVATE, policy("forward", when)), [], when)

    def test_listeners_where_no_stranger_comes_in(self) -> None:
        for listeners in ("", PRIVATE, SUBMISSION, SUBMISSION + PRIVATE):
            self.assertEqual(self.doors(listeners, policy("forward")), [], listeners)

    def test_a_socket_of_systemds_may_be_anywhere_and_a_proxy_brings_anybody(self) -> None:
        for listener in ('address = "systemd:smtp"', 'address = "127.0.0.1:2525"\nproxy = ["127.0.0.1"]'):
            self.assertEqual(len(self.doors(f'[[listener]]\nname = "x"\n{listener}\n', policy("forward"))), 1, listener)

    def test_whom_a_policy_before_it_has_turned_away_does_not_come_so_far(self) -> None:
        for before, doors in (
            (policy("reject"), 0),
            (policy("reject", "authenticated = false"), 0),
            (policy("discard", 'listener = ["mx"]'), 0),
            (policy("reject", 'client = ["0.0.0.0/0"]'), 1),
            (policy("reject", 'sender = ["example.org"]'), 1),
            (policy("reject", 'recipient = ["example.org"]'), 1),
            (policy("reject").replace("reject", 'reject"\nmode = "off'), 1),
            (policy("deliver", "authenticated = false") + 'agent = "console"\n', 0),
            (policy("deliver") + 'agent = "console"\ndomains = ["a.test"]\n', 1),
            ('[[policy]]\nuse = "mailbox"\ndomains = ["a.test"]\ndirectory = "mail"\n', 1),
        ):
            self.assertEqual(len(self.doors(PUBLIC, before, policy("forward"))), doors, before)

    def test_a_policy_that_is_off_forwards_nothing(self) -> None:
        self.assertEqual(self.doors(PUBLIC, policy("forward"), 'mode = "off"\n'), [])

    def test_it_is_said_of_the_first_that_has_them_and_not_of_those_behind_it(self) -> None:
        self.assertEqual(len(self.doors(PUBLIC, policy("forward"), policy("forward"))), 1)
