"""What a relay that runs cannot change: sockets that are bound, files that are open, who it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from relay.config.settings import Settings
from relay.config.wording import Complaint

#: Sections of which nothing changes, and single keys of others; `hostname` is in certificates, and in names of files.
_SECTIONS: Final = ("spool", "dns", "log", "history", "suppression", "store", "control", "metrics", "process")
_KEYS: Final = (
    ("limits", "memory"),
    ("limits", "backlog"),
    ("auth", "passwords"),
    ("auth", "dovecot"),
    ("auth", "checker"),
)
_TEXT: Final = "has changed, and that takes a restart"


def restarts(before: Settings, after: Settings) -> Iterator[Complaint]:
    """Each key of `after` that only counts once the relay has been started again."""
    if before.hostname != after.hostname:
        yield Complaint(("hostname",), _TEXT)
    for section in _SECTIONS:
        old, new = getattr(before, section), getattr(after, section)
        for key in type(new).model_fields:
            if getattr(old, key) != getattr(new, key):
                yield Complaint((section, key), _TEXT)
    for section, key in _KEYS:
        if getattr(getattr(before, section), key) != getattr(getattr(after, section), key):
            yield Complaint((section, key), _TEXT)
    yield from _of_listeners(before, after)


def _of_listeners(before: Settings, after: Settings) -> Iterator[Complaint]:
    """A listener is who has its name: how it speaks may change, where it listens may not."""
    old = {listener.name: listener for listener in before.listener}
    for index, listener in enumerate(after.listener):
        known = old.pop(listener.name, None)
        if known is None:
            yield Complaint(("listener", index), f"'{listener.name}' is new, and that takes a restart")
        elif known.address != listener.address:
            yield Complaint(("listener", index, "address"), _TEXT)
    for name in old:
        yield Complaint(("listener",), f"'{name}' is not there any more, and that takes a restart")
