"""What a client calls itself with HELO, EHLO or LHLO."""

from __future__ import annotations

from attrs import frozen

from relay.mail.address import AddressError, canonical_domain
from relay.mail.answer import Found, Unanswered
from relay.policy.client_checks import Check, Seen
from relay.policy.clients import plain
from relay.policy.guard import Networks
from relay.policy.resolving import LookUps


@frozen
class Ours:
    """Who we are."""

    names: frozenset[str]
    addresses: Networks

    def has(self, address: str | None) -> bool:
        """Whether somebody at this address is no stranger: at a Unix socket, on this machine, or at one of ours."""
        return address is None or plain(address).is_loopback or address in self.addresses


class Hello:
    """Looks at it, as far as somebody wants to know (RFC 5321 sections 2.3.5 and 4.1.4)."""

    def __init__(self, asked: frozenset[Check], ours: Ours) -> None:
        self._asked = asked
        self._ours = ours
        own = {Check.HELO_MALFORMED, Check.HELO_OURS, Check.HELO_UNRESOLVED, Check.HELO_MISMATCH}
        self.wanted = not asked.isdisjoint(own)

    async def look(self, helo: str, address: str | None, look_ups: LookUps) -> Seen:
        try:
            name = canonical_domain(helo)
        except AddressError as error:
            return self._found(Check.HELO_MALFORMED, f"{helo[:100]!r}: {error}")
        if name.startswith("["):
            return self._literal(name, address)
        if not helo.isascii() or not _is_full(name):
            return self._found(Check.HELO_MALFORMED, f"{helo[:100]!r} is no full name")
        if name in self._ours.names and not self._ours.has(address):
            return self._found(Check.HELO_OURS, f"{name} is our name")
        return await self._named(name, look_ups)

    def _literal(self, name: str, address: str | None) -> Seen:
        said = str(plain(name[1:-1].removeprefix("IPv6:")))
        if address is None or str(plain(address)) == said:
            return Seen({"helo": "ok"})
        if not self._ours.has(address) and (said in self._ours.addresses or plain(said).is_loopback):
            return self._found(Check.HELO_OURS, f"{name} is our address")
        return self._found(Check.HELO_MISMATCH, f"{name} is not {address}")

    async def _named(self, name: str, look_ups: LookUps) -> Seen:
        if Check.HELO_UNRESOLVED not in self._asked:
            return Seen({"helo": "ok"})
        unanswered = ""
        for kind in ("A", "AAAA", "MX"):
            match await look_ups.look_up(name, kind):
                case Found():
                    return Seen({"helo": "ok"})
                case Unanswered(why):
                    unanswered = f"{name} {kind}: {why}"
                case _:
                    pass
        if unanswered:
            return Seen({"helo": "unsure"}, ((Check.UNSURE, unanswered),), frozenset({Check.HELO_UNRESOLVED}))
        return self._found(Check.HELO_UNRESOLVED, f"there is no {name}")

    def _found(self, check: Check, because: str) -> Seen:
        """One that nobody has asked for is as good as none."""
        if check not in self._asked:
            return Seen({"helo": "ok"})
        return Seen({"helo": check.value.removeprefix("helo_")}, ((check, because),))


def _is_full(name: str) -> bool:
    """With a dot in it, and no address without its brackets."""
    return "." in name and not name.rpartition(".")[2].isdigit()
