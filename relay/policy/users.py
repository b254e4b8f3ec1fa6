"""Which mailboxes exist: what `users` of the policy `mailbox` can mean."""

from __future__ import annotations

import pwd
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol

from relay.interfaces import IClock, ITable
from relay.policy.names import fold
from relay.policy.tables import FileTable

#: A name that may become a folder's without anybody having written it down.
_PLAIN: Final = re.compile(r"[a-z0-9_-][a-z0-9._-]*\Z")

#: What the system has said about an account is believed for this long, and for so many accounts at once.
_BELIEVED_FOR: Final = 60.0
_ACCOUNTS: Final = 10_000


class Users(Protocol):
    """Knows which mailboxes there are."""

    def folder(self, name: str) -> str | None:
        """The folder of the mailbox with this folded name, one component of a path; `None` if there is no such one."""


def folder_name(text: str) -> str:
    """The text, if it can be a folder's name that somebody has chosen. Raises `ValueError`."""
    if not text or text.startswith(".") or "/" in text or not text.isprintable() or len(text.encode()) > 255:
        raise ValueError("should be a name that a folder can have, and not begin with a dot")
    return text


def table_of(names: Iterable[str]) -> dict[str, str]:
    """The folders by folded name. Raises `ValueError` if two would share mail by accident, or a name is no folder's."""
    table: dict[str, str] = {}
    for name in names:
        other = table.setdefault(fold(folder_name(name)), name)
        if other != name:
            raise ValueError(f"{other!r} and {name!r} are the same mailbox: letter case means nothing in it")
    return table


def table_in(text: str) -> dict[str, str]:
    """The same from the text of a file: a name a line; blank lines, and what follows a `#`, mean nothing."""
    table: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name = line.partition("#")[0].strip()
        if name:
            try:
                if table.setdefault(fold(folder_name(name)), name) != name:
                    raise ValueError(f"{name!r} stands there twice, in different letter case")
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    return table


class Listed:
    """Those that the configuration names."""

    def __init__(self, names: Iterable[str]) -> None:
        self._folders: Mapping[str, str] = table_of(names)

    def folder(self, name: str) -> str | None:
        return self._folders.get(name)


class InFile:
    """Those that a file names."""

    def __init__(self, path: Path, clock: IClock) -> None:
        self._table = FileTable(path, lambda file: table_in(file.read()), clock)

    def folder(self, name: str) -> str | None:
        return self._table.current().get(name)


class InTable:
    """Those that a table has: a name, and the mailbox's folder if that is called otherwise."""

    def __init__(self, table: ITable) -> None:
        self._table = table.checked(_names_a_folder)

    def folder(self, name: str) -> str | None:
        folder = self._table.get(name)
        return name if folder == "" else folder


def _names_a_folder(name: str, folder: str) -> None:
    """A check of a line."""
    if "@" in name:
        raise ValueError(f"{name!r} should be a name without a domain: 'domains' says where the mailboxes are")
    folder_name(folder or name)


class Anyone:
    """Every name that is plain enough: folders appear as mail comes, so this is for trying things out."""

    def folder(self, name: str) -> str | None:
        return name if _PLAIN.match(name) else None


class OfTheSystem:
    """Those who have an account on this machine (`/etc/passwd`, or whatever else the system asks)."""

    def __init__(self, clock: IClock, account: Callable[[str], object] = pwd.getpwnam) -> None:
        """`account` raises `KeyError` for a name that has none."""
        self._clock = clock
        self._account = account
        #: By name: whether there is an account, and until when that is believed.
        self._known: dict[str, tuple[bool, float]] = {}

    def folder(self, name: str) -> str | None:
        if not _PLAIN.match(name):
            return None
        now = self._clock.seconds()
        known = self._known.get(name)
        if known is None or known[1] <= now:
            if len(self._known) >= _ACCOUNTS:
                self._known.clear()
            known = self._known[name] = (self._has_account(name), now + _BELIEVED_FOR)
        return name if known[0] else None

    def _has_account(self, name: str) -> bool:
        try:
            self._account(name)
        except KeyError:
            return False
        return True
