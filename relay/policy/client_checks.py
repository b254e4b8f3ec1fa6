"""What may be wrong with a client's names, and what came of looking at them."""

from __future__ import annotations

from enum import Enum

from attrs import frozen


class Check(Enum):
    """What may be wrong; the value is the option of `client-names` that says what is done about it."""

    RDNS_MISSING = "rdns_missing"
    RDNS_UNCONFIRMED = "rdns_unconfirmed"
    RDNS_GENERIC = "rdns_generic"
    HELO_MALFORMED = "helo_malformed"
    HELO_OURS = "helo_ours"
    HELO_UNRESOLVED = "helo_unresolved"
    HELO_MISMATCH = "helo_mismatch"
    #: The DNS has not said.
    UNSURE = "unsure"


@frozen
class Seen:
    """What came of looking."""

    facts: dict[str, str]
    #: What was found, and what it comes from, for people.
    findings: tuple[tuple[Check, str], ...] = ()
    #: Where it is `UNSURE`: what it might have been.
    open: frozenset[Check] = frozenset()
