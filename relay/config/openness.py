"""
Where strangers may come in, as far as the file tells. Whom the policies let in, they are asked themselves
(`relay.policy.probing`).
"""

from __future__ import annotations

from relay.config.addresses import is_local
from relay.config.listeners import ListenerSettings


def brings_others(listener: ListenerSettings) -> bool:
    """Whether somebody speaks there for clients of its own, who may be anywhere: by PROXY, or by XCLIENT."""
    return bool(listener.proxy or listener.xclient)


def is_public(listener: ListenerSettings) -> bool:
    """Whether mail of strangers may come in there, as far as the file tells."""
    return brings_others(listener) or not is_local(listener.address)
