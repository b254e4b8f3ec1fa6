"""Clients of a relay with several workers."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.system.clients import Telnet
from tests.system.harness import RelayProcess

#: Clients who come at once, and how often so many do.
_AT_ONCE = 10
_ROUNDS = 10


def workers(relay: RelayProcess) -> list[dict[str, Any]]:
    """What the relay says of each."""
    said = relay.relayctl("status", "--socket", "control.sock", "--json")
    assert said.stdout, said.stderr
    found: list[dict[str, Any]] = json.loads(said.stdout)["workers"]
    return found


def crowd(relay: RelayProcess) -> list[Telnet]:
    """
    So many clients that each worker has some of them.

    Who comes alone is taken by a worker that has nothing to do, which may be the same one each time.
    """
    clients: list[Telnet] = []
    for _ in range(_ROUNDS):
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            clients += pool.map(lambda _: Telnet(relay.address()), range(_AT_ONCE))
        connected = [each["listeners"][0]["connections"] for each in workers(relay)]
        assert sum(connected) == len(clients), connected
        if all(connected):
            return clients
    raise AssertionError("one of them has had nothing to do")
