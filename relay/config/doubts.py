"""What can be meant as it is written, and probably is not: the operator is warned."""

from __future__ import annotations

from collections.abc import Iterator

from relay.config.settings import Settings
from relay.config.wording import Complaint


def doubts(settings: Settings) -> Iterator[Complaint]:
    """Each, at its key."""
    known, here = _known_domains(settings), settings.hostname or "localhost"
    for index, policy in enumerate(settings.policy):
        for key, names in (("recipient", policy.when.recipient), ("sender", policy.when.sender)):
            for number, name in enumerate(names):
                if _may_be_a_user(name) and name not in known:
                    yield Complaint(
                        ("policy", index, "when", key, number),
                        f"'{name}' is taken for a domain: an address is written like '{name}@{here}'",
                    )


def _may_be_a_user(name: str) -> bool:
    return "." not in name and not name.startswith(("[", "<"))


def _known_domains(settings: Settings) -> set[str]:
    known = {"localhost", settings.hostname or "localhost"}
    for policy in settings.policy:
        domains = getattr(policy.options, "domains", ())
        known.update(each for each in domains if isinstance(each, str))
    return known
