"""Who may say that he is somebody else."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from relay.config.load import load
from relay.config.openness import open_doors
from relay.policy.registry import option_model

PUBLIC = '[[listener]]\nname = "mx"\naddress = "[::]:25"\n'


class OpennessTests(SynchronousTestCase):
    def doors(self, *parts: str) -> list[str]:
        """Where the problems are."""
        settings = load(
            "".join(parts), file="x", base=Path("/etc"), hostname="mx.test", user="ann", option_model=option_model
        )
        return [str(settings.problem("x", door.path, door.text)) for door in open_doors(settings)]

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
