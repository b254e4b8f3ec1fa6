"""A transport map: a table that says, by recipient, domain or the domains below one, to which hosts mail goes."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from attrs import frozen

from relay.interfaces import ITable
from relay.mail.address import Address
from relay.mail.routing import UNIX, Forward
from relay.policy.lookup import check_key, find_address
from relay.policy.onward import Host, Onward, host

#: How many verdicts are kept ready.
_READY: Final = 10_000
_BETWEEN: Final = re.compile(r"[,\s]+")


@lru_cache(maxsize=10_000)
def hosts_of(value: str) -> tuple[Host, ...]:
    """The hosts that a line names, with commas or blanks between them. Raises `ValueError`."""
    return tuple(host(text) for text in _BETWEEN.split(value) if text)


@frozen
class HopsMakeSense:
    """Whether a line names hosts that a policy with these options can hand mail to: for `ITable.checked`."""

    lmtp: bool
    encrypted: bool
    from_source: bool

    def __call__(self, key: str, value: str) -> None:
        check_key(key)
        hosts = hosts_of(value)
        if not hosts and self.lmtp:
            raise ValueError(f"{key!r} has no next hop, and MX records never lead to LMTP")
        if any(each.name.startswith(UNIX) for each in hosts):
            if not self.lmtp:
                raise ValueError('a Unix socket needs protocol = "lmtp"')
            if self.encrypted or self.from_source:
                raise ValueError("a Unix socket has no TLS, and nothing comes from an address there")


class Hops:
    """Where the table says that mail goes. A line without hosts: where the MX records of the domain say."""

    def __init__(self, table: ITable, way: Onward) -> None:
        self._table = table
        self._way = way
        #: By what a line says.
        self._ready: dict[str, Forward] = {}

    def to(self, recipient: Address) -> Forward | None:
        """`None`: the recipient stands not in it. Raises as `ITable.get`."""
        found = find_address(self._table, recipient)
        if found is None:
            return None
        value = found[1]
        return self._ready.get(value) or (self._by(value) if value else self._way.to(recipient))

    def _by(self, value: str) -> Forward:
        if len(self._ready) >= _READY:
            self._ready.clear()
        verdict = self._ready[value] = self._way.by(hosts_of(value))
        return verdict
