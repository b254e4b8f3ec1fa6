"""
Whether a list of policies lets strangers send mail to strangers: what an open relay is, and every spammer looks for.

It looks at what the file says and nothing else, so it can only warn: what a policy of somebody else refuses is not
known here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from relay.config.addresses import is_local
from relay.config.listeners import ListenerSettings
from relay.config.policies import PolicySettings
from relay.config.settings import Settings
from relay.config.wording import Complaint

#: Policies that answer whatever they are asked about: none behind them is.
_CONCLUSIVE: Final = frozenset({"console", "deliver", "discard", "forward", "reject"})


def open_doors(settings: Settings) -> Iterator[Complaint]:
    """What lets anybody send mail to anybody, with what should be there instead."""
    for index, listener in enumerate(settings.listener):
        for key, networks in (("proxy", listener.proxy), ("xclient", listener.xclient)):
            if not is_local(listener.address) and any(network.prefixlen == 0 for network in networks):
                yield Complaint(
                    ("listener", index, key),
                    "anybody can say here that he is somebody else, and is believed: name the hosts that may",
                )
    listeners = frozenset(listener.name for listener in settings.listener if _is_public(listener))
    for index, policy in enumerate(settings.policy):
        reached = listeners if not policy.when.listener else listeners & set(policy.when.listener)
        if policy.mode == "off" or not reached or not _asks_about_anybody(policy):
            continue
        if policy.use == "forward" and not _has_table(policy):
            names = ", ".join(sorted(reached))
            yield Complaint(
                ("policy", index),
                f"anybody who connects to {names} can send mail to anybody by way of '{policy.name}': it should say "
                "'when = { client = ... }' or 'when = { authenticated = true }'",
            )
        if _answers_everything(policy) and not policy.when.client and not policy.when.sender:
            listeners -= reached


def _answers_everything(policy: PolicySettings) -> bool:
    return policy.use in _CONCLUSIVE and not getattr(policy.options, "domains", ()) and not _has_table(policy)


def _has_table(policy: PolicySettings) -> bool:
    """It answers for those who stand in a table, and for nobody else."""
    return any(getattr(policy.options, key, None) is not None for key in ("table", "file"))


def _is_public(listener: ListenerSettings) -> bool:
    # Who submits mail has said who he is (RFC 6409 section 4.3). A proxy beside us brings whoever connects to it.
    return listener.protocol != "submission" and (bool(listener.proxy) or not is_local(listener.address))


def _asks_about_anybody(policy: PolicySettings) -> bool:
    """
    Whether it is asked about mail from any client that nobody knows, to any recipient.

    A sender is no condition: whoever sends the mail says it.
    """
    when = policy.when
    everybody = not when.client or any(network.prefixlen == 0 for network in when.client)
    return everybody and not when.recipient and when.authenticated is not True
