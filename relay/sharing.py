"""
What each of several workers has of a relay: a shard of the spool, and what lies beside it.

A shard is a whole spool of one worker's own, so that no lock is shared and nothing has to be agreed upon. The first
worker's is the spool that a relay without workers has: with one more worker, or one less, its mail stays where it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

from relay.config.division import count_of as count_of
from relay.config.division import divided
from relay.config.metrics import MetricsSettings
from relay.config.settings import Settings
from relay.history.database import USUAL_NAME as HISTORY
from relay.store.file import USUAL_NAME as STORE

#: Where the shards of all workers but the first are, in the spool.
SHARDS: Final = "shards"
_SUPPRESSED: Final = "suppressed"


@frozen
class Share:
    """
    One worker's share.

    A retired one is of a worker that there is no more: somebody has to deliver what is left in its shard, and to answer
    for its history, but listens nowhere.
    """

    index: int
    #: How many workers listen.
    count: int
    retired: bool = False


def shard(spool: Path, index: int) -> Path:
    """Where the spool of this worker is."""
    return spool if index == 0 else spool / SHARDS / str(index)


def in_words(shares: Sequence[Share]) -> str:
    """Who works, and why there are others besides, for the person who has started them."""
    working = sum(not share.retired for share in shares)
    said = "One worker does the work" if working == 1 else f"{working} workers do the work"
    left = ", ".join(f"shard {share.index}" for share in shares if share.retired)
    return f"{said}; mail that is left in {left} is delivered too" if left else said


def shares_of(settings: Settings) -> tuple[Share, ...]:
    """
    Who has to run: the workers that the settings ask for, and one for each shard that is left of others. One alone
    needs nobody beside it.
    """
    count = count_of(settings)
    left = [] if settings.spool.engine == "memory" else sorted(_left(settings.spool.path, count))
    return (*(Share(index, count) for index in range(count)), *(Share(index, count, True) for index in left))


def _left(spool: Path, count: int) -> Iterator[int]:
    try:
        names = os.listdir(spool / SHARDS)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        # Only what we have made: nobody else's folder is a shard.
        if name.isascii() and name.isdigit() and str(int(name)) == name and int(name) >= max(1, count):
            yield int(name)


def settings_of_share(settings: Settings, share: Share) -> Settings:
    """
    The settings of the worker with this share: its own spool, history and control socket, and its part of what is
    promised for the relay as a whole.

    Where nothing else was said, what lies beside the spool lies beside the first worker's, and in the shards of others.
    The store and the suppression list are one file for all.
    """
    settings = divided(settings, share.count, share.index)
    spool, beside = settings.spool.path, settings.spool.path.parent
    own = shard(spool, share.index)
    history = (settings.history.path or beside / HISTORY) if share.index == 0 else own / HISTORY
    socket = settings.control.socket
    return settings.model_copy(
        update={
            "spool": settings.spool.model_copy(update={"path": own}),
            "history": settings.history.model_copy(update={"path": history}),
            "store": settings.store.model_copy(update={"path": settings.store.path or beside / STORE}),
            "suppression": settings.suppression.model_copy(
                update={"path": settings.suppression.path or beside / _SUPPRESSED}
            ),
            "control": settings.control.model_copy(update={"socket": socket.with_name(f"{socket.name}.{share.index}")}),
            # One page tells of all.
            "metrics": MetricsSettings(),
        }
    )
