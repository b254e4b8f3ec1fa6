"""
The reactor of the relay: Twisted's, on a clock that nobody can set back, with short ways for what happens most.

Each short way can be taken back by the environment of the process, to find out whether it is to blame for something.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor

from relay.net.dialling import PromptDialling
from relay.net.epoll import LeanPolling
from relay.net.transports import PromptTransports

#: `stock`: Twisted's own transports, or Twisted's own way from an event to who is concerned by it.
TRANSPORTS: Final = "RELAY_TRANSPORTS"
POLLING: Final = "RELAY_POLLING"


class MonotonicReactor(EPollReactor):
    """
    Twisted's epoll reactor on the clock that only goes forward.

    The stock reactor computes the time of a delayed call from the clock on the wall. When that is set
    back by an hour every timer of ours stands still for an hour: deadlines of sessions, retries, all.
    Here `seconds` counts from an unknown moment, so it tells how long something took and never what
    the date is.
    """

    seconds = staticmethod(time.monotonic)

    def forget(self, selectable: Any) -> None:
        """`removeReader` and `removeWriter`: it is about to close."""
        self.removeReader(selectable)  # type: ignore[no-untyped-call]
        self.removeWriter(selectable)  # type: ignore[no-untyped-call]


class PromptReactor(PromptDialling, PromptTransports, MonotonicReactor):
    """What is written leaves at once."""


class LeanReactor(LeanPolling, MonotonicReactor):
    """What has come is read by a short way."""


class RelayReactor(PromptDialling, PromptTransports, LeanPolling, MonotonicReactor):
    """Both."""


def kind_of_reactor(environment: Mapping[str, str]) -> type[MonotonicReactor]:
    """Which one such an environment asks for."""
    if environment.get(TRANSPORTS) == "stock":
        return MonotonicReactor if environment.get(POLLING) == "stock" else LeanReactor
    return PromptReactor if environment.get(POLLING) == "stock" else RelayReactor


def install_monotonic_reactor() -> Any:
    """
    Install the relay's reactor if no reactor is installed yet, and answer with the one that is.

    What is installed already is respected: somebody asked for it (`twistd --reactor`), or imported it
    before us, and a process has only one.
    """
    if "twisted.internet.reactor" not in sys.modules:
        installReactor(kind_of_reactor(os.environ)())
    from twisted.internet import reactor

    return reactor
