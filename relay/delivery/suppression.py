"""
The suppression list: addresses of others that do not exist, so that nobody writes to them again and again.

It is told what the mail log is told. An address is on it for some days, from the moment in which mail to it has failed
or an operator has put it there; mail that was taken for it takes it off. `relay.policy.suppressing` refuses what is on
it.

All of it is in memory, and in a file of JSON lines, to which each change is appended: nothing that was promised depends
on it, so it is never synced, and where it cannot be written the relay goes on without.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from attrs import asdict, frozen
from twisted.logger import Logger
from zope.interface import implementer

from relay.interfaces import IClock, ITakesRows
from relay.mail.address import Address, AddressError, parse_address
from relay.mail.event import Shape
from relay.mail.reply import printable

#: There is no such mailbox, there is no such domain (RFC 3463), it takes no mail (RFC 7505).
STATUSES: Final = frozenset({"5.1.1", "5.1.2", "5.1.10"})
#: Addresses at most: then the oldest go.
MOST: Final = 100_000

_BECAUSE: Final = 300
#: The end of the year 9999, which is the last that a date can have.
_END_OF_TIME: Final = 253_402_300_800.0
#: Lines of the file that say nothing any more before it is written anew.
_STALE: Final = 1000


@frozen
class Suppressed:
    """An address on the list. Times are seconds since the epoch."""

    address: Address
    since: float
    until: float
    #: What the other server has said, or an operator.
    because: str
    #: The login of the operator who has put it there, or "".
    by: str = ""


@implementer(ITakesRows)
class Suppressions:
    """The list. For one thread; nothing in it waits for anything but the disk, and nothing raises."""

    def __init__(
        self, path: Path, clock: IClock, lifetime: float = 30 * 86400.0, most: int = MOST, log: Logger | None = None
    ) -> None:
        self._path = path
        self._clock = clock
        self._lifetime = lifetime
        self._most = most
        self._log = log or Logger(namespace="relay.delivery")
        #: Who came last stands last.
        self._listed: dict[Address, Suppressed] = {}
        self._lines = 0
        self._failing = False
        #: What is in the file is not known, and must not be overwritten.
        self._unreadable = False

    def load(self) -> None:
        """
        Read the file, if there is one. Lines that cannot be read are left out, which is said once, and the file as it
        was is kept under another name. One that cannot be read at all, or has no line of a list, may be anything: it
        stays as it is, and the list is in memory alone.
        """
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            octets = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as problem:
            self._unreadable = True
            self._cannot(problem)
            return
        lines, damaged = _read(octets)
        if damaged and not lines:
            self._unreadable = self._failing = True
            self._log.error(
                "{file} is no suppression list: {why}. It is left as it is, and the list is in memory alone",
                file=str(self._path),
                why=_NO_LIST,
            )
            return
        for address, one in lines:
            self._listed.pop(address, None)
            if one is not None:
                self._listed[address] = one
        self._lines = len(lines)
        self._forget_old()
        if damaged:
            self._mend(octets)

    def _mend(self, octets: bytes) -> None:
        """Write the file anew, without what cannot be read; but not before a copy of it is kept."""
        aside = self._path.with_name(f"{self._path.name}.damaged")
        try:
            with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_TRUNC, 0o640), "wb") as file:
                file.write(octets)
        except OSError as problem:
            self._unreadable = True
            self._cannot(problem)
            return
        self._log.warn(
            "Lines of {file} cannot be read, and are left out; as it was, it is {aside} now",
            file=str(self._path),
            aside=str(aside),
        )
        self._write_anew()

    # What the mail log is told.

    def row(self, shape: Shape[Any], row: tuple[Any, ...]) -> None:
        what = shape.what
        if what == "failed" or (what == "relayed" and self._listed):
            self.event(what, **shape.fields(row))

    def event(self, what: str, /, **fields: object) -> None:
        recipient = fields.get("recipient")
        if not isinstance(recipient, Address):
            return
        status = fields.get("status")
        # No peer has said so of a program's or an application's mailboxes, which are ours to know.
        if what == "failed" and status in STATUSES and (fields.get("peer") or status != "5.1.1"):
            self._put(recipient, str(fields.get("diagnostic") or fields.get("because") or ""), "")
        elif what == "relayed" and recipient in self._listed:
            self.remove(recipient)

    # What an operator may do.

    def add(self, address: Address, because: str, by: str) -> Suppressed:
        """Put it on the list, for as long as any; who is there already begins anew."""
        return self._put(address, because, by)

    def remove(self, address: Address) -> bool:
        """Take it off; false if it was not there."""
        if self._listed.pop(address, None) is None:
            return False
        self._append({"address": str(address), "until": 0})
        return True

    def listed(self) -> Sequence[Suppressed]:
        """All that are on the list, who came last at the end."""
        self._forget_old()
        return tuple(self._listed.values())

    def find(self, address: Address) -> Suppressed | None:
        """Whether it is on the list."""
        found = self._listed.get(address)
        return None if found is None or found.until <= self._clock.now() else found

    # The file.

    def _put(self, address: Address, because: str, by: str) -> Suppressed:
        now = self._clock.now()
        one = Suppressed(address, now, now + self._lifetime, printable(because)[:_BECAUSE], by)
        self._listed.pop(address, None)
        self._listed[address] = one
        self._forget_old()
        self._append({**asdict(one, recurse=False), "address": str(address)})
        return one

    def _forget_old(self) -> None:
        """Each is there for equally long, but for the time in which the setting was another."""
        now = self._clock.now()
        while self._listed:
            oldest = next(iter(self._listed.values()))
            if oldest.until > now and len(self._listed) <= self._most:
                break
            del self._listed[oldest.address]

    def _append(self, line: dict[str, Any]) -> None:
        if self._failing or self._lines > 2 * len(self._listed) + _STALE:
            self._write_anew()
            return
        self._lines += 1
        self._write(self._path, (line,), os.O_APPEND)

    def _write_anew(self) -> None:
        lines = [{**asdict(one, recurse=False), "address": str(one.address)} for one in self._listed.values()]
        new = self._path.with_name(f"{self._path.name}.new")
        if self._write(new, lines, os.O_TRUNC):
            try:
                new.replace(self._path)
            except OSError as problem:
                self._cannot(problem)
                return
            self._lines = len(lines)

    def _write(self, path: Path, lines: Sequence[dict[str, Any]], how: int) -> bool:
        if self._unreadable:
            return False
        octets = "".join(f"{json.dumps(line)}\n" for line in lines).encode("ascii")
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o640), "wb") as file:
                file.write(octets)
        except OSError as problem:
            self._cannot(problem)
            return False
        self._failing = False
        return True

    def _cannot(self, problem: OSError) -> None:
        if not self._failing:
            self._failing = True
            self._log.error(
                "The suppression list cannot be read or written, and is in memory alone: {file}: {why}",
                file=str(self._path),
                why=problem.strerror,
            )


_NO_LIST: Final = "not one line of it can be read"


def why_no_list(path: Path) -> str:
    """Why the file at `path` cannot be the list's, in words for the operator; "" if it can, or is not there yet."""
    try:
        lines, damaged = _read(path.read_bytes())
    except FileNotFoundError:
        return ""
    except OSError as problem:
        return f"it cannot be read: {problem.strerror}"
    return f"it is no suppression list: {_NO_LIST}" if damaged and not lines else ""


def _read(octets: bytes) -> tuple[list[tuple[Address, Suppressed | None]], bool]:
    """What each line of the file says, `None` for who was taken off; and whether there are others in it."""
    *lines, rest = octets.split(b"\n")
    damaged = bool(rest)
    readable = []
    for line in lines:
        try:
            readable.append(read_line(json.loads(line)))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            damaged = True
    return readable, damaged


def read_line(line: Any) -> tuple[Address, Suppressed | None]:
    """What a line of the file says. Raises all sorts of things for what is none."""
    address = parse_address(line["address"])
    if not line["until"]:
        return address, None
    since, until = float(line["since"]), float(line["until"])
    # Also true of what is no number.
    if not (0 <= since < _END_OF_TIME and 0 <= until < _END_OF_TIME):
        raise ValueError("no time that a clock has shown")
    return address, Suppressed(address, since, until, str(line["because"]), str(line["by"]))


def address_of(text: str) -> Address:
    """What an operator has typed. Raises `ValueError` with words for the operator."""
    try:
        return parse_address(text.removeprefix("<").removesuffix(">"))
    except AddressError as problem:
        raise ValueError(f"{text}: {problem}") from None
