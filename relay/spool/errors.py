"""What may be wrong with a spool, beyond what the contract names."""

from __future__ import annotations

from relay.interfaces import SpoolError


class SpoolUnusable(SpoolError):
    """
    This spool cannot be opened, and trying again will not help: it is damaged, somebody else's, too new, or open
    to the world. The text tells the operator which, with the path. Nothing was changed.
    """


class Damaged(ValueError):
    """One entry cannot be read. It is set aside, and everything else goes on."""
