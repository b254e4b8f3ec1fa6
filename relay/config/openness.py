"""
Who may say that he is somebody else: whether that lets strangers in, whatever policies there are.

It looks at what the file says and nothing else. Whom the policies let in, they are asked themselves
(`relay.policy.probing`).
"""

from __future__ import annotations

from collections.abc import Iterator

from relay.config.addresses import is_local
from relay.config.listeners import ListenerSettings
from relay.config.settings import Settings
from relay.config.wording import Complaint


def brings_others(listener: ListenerSettings) -> bool:
    """Whether somebody speaks there for clients of its own, who may be anywhere: by PROXY, or by XCLIENT."""
    return bool(listener.proxy or listener.xclient)


def is_public(listener: ListenerSettings) -> bool:
    """Whether mail of strangers may come in there, as far as the file tells."""
    return brings_others(listener) or not is_local(listener.address)


def open_doors(settings: Settings) -> Iterator[Complaint]:
    """What lets anybody send mail to anybody, with what should be there instead."""
    for index, listener in enumerate(settings.listener):
        for key, networks in (("proxy", listener.proxy), ("xclient", listener.xclient)):
            if not is_local(listener.address) and any(network.prefixlen == 0 for network in networks):
                yield Complaint(
                    ("listener", index, key),
                    "anybody can say here that he is somebody else, and is believed: name the hosts that may",
                )
