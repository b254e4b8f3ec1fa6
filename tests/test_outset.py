"""What a relay does once, as whoever has started it."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from relay.config.addresses import Unix
from relay.outset import Refused, bind


@frozen
class Listener:
    address: Unix


class BindingTests(SynchronousTestCase):
    def test_a_socket_for_which_there_is_no_folder_says_so(self) -> None:
        """And so does the parent that has gone into the background, which has nothing but the exception's words."""
        from twisted.internet import reactor

        folder = Path(self.mktemp()).absolute()
        wanted: Any = [(Listener(Unix(folder / "s")), Factory())]
        said = io.StringIO()
        self.patch(sys, "stderr", said)
        error = self.assertRaises(Refused, bind, reactor, wanted, backlog=5, file="relay.toml")
        text = f"relay.toml: cannot listen on unix:{folder}/s: there is no folder {folder}"
        self.assertEqual((said.getvalue(), str(error), error.code), (f"{text}\n", text, os.EX_TEMPFAIL))
