"""Recipients in portions, as a server's LIMITS have it (RFC 9422)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from relay.smtp.features import Features

T = TypeVar("T")


def portions(recipients: Sequence[T], features: Features, domain: Callable[[T], str]) -> Sequence[Sequence[T]]:
    """
    `recipients` in their order, divided so that each part may be named in one transaction.

    `RCPTMAX` is how many recipients a transaction may have, `RCPTDOMAINMAX` in how many domains (section 4).
    """
    if not features.limits:
        return [recipients]
    most, domains = features.limits.get("RCPTMAX"), features.limits.get("RCPTDOMAINMAX")
    if (most is None or len(recipients) <= most) and domains is None:
        return [recipients]
    parts: list[list[T]] = []
    seen: set[str] = set()
    for recipient in recipients:
        name = domain(recipient)
        if not parts or len(parts[-1]) == most or (name not in seen and len(seen) == domains):
            parts.append([])
            seen.clear()
        parts[-1].append(recipient)
        seen.add(name)
    return parts
