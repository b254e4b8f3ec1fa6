"""
Who may say that he is somebody else: whether that lets strangers in, whatever policies there are.

It looks at what the file says and nothing else. Whom the policies let in, they are asked themselves
(`relay.policy.probing`).
"""

from __future__ import annotations

from collections.abc import Iterator

from relay.config.addresses import is_local
from relay.config.settings import Settings
from relay.config.wording import Complaint


def open_doors(settings: Settings) -> Iterator[Complaint]:
    """What lets anybody send mail to anybody, with what should be there instead."""
    for index, listener in enumerate(settings.listener):
        for key, networks in (("proxy", listener.proxy), ("xclient", listener.xclient)):
            if not is_local(listener.address) and any(network.prefixlen == 0 for network in networks):
                yield Complaint(
                    ("listener", index, key),
                    "anybody can say here that he is somebody else, and is believed: name the hosts that may",
                )
