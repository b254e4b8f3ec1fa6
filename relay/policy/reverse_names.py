"""What the DNS calls a client: reverse DNS, and whether it is confirmed."""

from __future__ import annotations

import re
from fnmatch import translate
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from attrs import field, frozen

from relay.mail.answer import Found, Unanswered
from relay.policy.client_checks import Check, Seen
from relay.policy.resolving import LookUps

#: Names of an address that are looked at. Some have hundreds, which is no reason to ask for all of them.
_MOST_NAMES: Final = 10

_PATTERN: Final = re.compile(r"[a-z0-9._*?-]+\Z")


def pattern(text: str) -> str:
    """How names look, in lower case. Raises `ValueError`."""
    text = text.lower()
    if not _PATTERN.match(text) or len(text) > 255:
        raise ValueError("should be a host's name with `*` and `?` in it, such as '*.dyn.example.net'")
    return text


@frozen
class Pattern:
    """A way in which names look."""

    text: str
    _expression: re.Pattern[str] = field(init=False, repr=False, eq=False)

    @_expression.default
    def _translated(self) -> re.Pattern[str]:
        return re.compile(translate(self.text))

    def matches(self, name: str) -> bool:
        return self._expression.match(name) is not None


class ReverseNames:
    """Looks names up for addresses, as far as somebody wants to know (RFC 1912 section 2.1, RFC 8601 section 2.7.3)."""

    def __init__(self, asked: frozenset[Check], generic: tuple[Pattern, ...]) -> None:
        self._missing = Check.RDNS_MISSING in asked
        self._unconfirmed = Check.RDNS_UNCONFIRMED in asked
        self._generic = generic if Check.RDNS_GENERIC in asked else ()
        self.wanted = self._missing or self._unconfirmed or bool(self._generic)

    async def look(self, ip: IPv4Address | IPv6Address, look_ups: LookUps) -> Seen:
        match await look_ups.look_up(ip.reverse_pointer, "PTR"):
            case Found(records):
                names = [str(record) for record in records[:_MOST_NAMES]]
                return await self._named(ip, names, look_ups)
            case Unanswered(why):
                might_be = frozenset({Check.RDNS_MISSING, Check.RDNS_UNCONFIRMED, Check.RDNS_GENERIC})
                facts = {"rdns": "unsure", "fcrdns": "unsure"}
                return Seen(facts, ((Check.UNSURE, f"the name of {ip}: {why}"),), might_be)
            case _:
                findings = ((Check.RDNS_MISSING, f"{ip} has no name"),) if self._missing else ()
                return Seen({"rdns": "none", "fcrdns": "none"}, findings)

    async def _named(self, ip: IPv4Address | IPv6Address, names: list[str], look_ups: LookUps) -> Seen:
        name, confirmed, why = names[0], "", ""
        might_be: frozenset[Check] = frozenset()
        findings: list[tuple[Check, str]] = []
        facts: dict[str, str] = {}
        if self._unconfirmed:
            confirmed, why = await _confirmed(ip, names, look_ups)
            name = confirmed or name
            facts["fcrdns"] = "pass" if confirmed else "unsure" if why else "fail"
            if why and not confirmed:
                might_be = frozenset({Check.RDNS_UNCONFIRMED})
                findings.append((Check.UNSURE, why))
            elif not confirmed:
                findings.append((Check.RDNS_UNCONFIRMED, f"{ip} is {name}, which is not {ip}"))
        facts["rdns"] = name
        for each in self._generic:
            if each.matches(name):
                facts["rdns.generic"] = each.text
                findings.append((Check.RDNS_GENERIC, f"{name} looks like {each.text}"))
                break
        return Seen(facts, tuple(findings), might_be)


async def _confirmed(ip: IPv4Address | IPv6Address, names: list[str], look_ups: LookUps) -> tuple[str, str]:
    """The first name that has this address, or ""; and why there may be one all the same, or ""."""
    unanswered = ""
    kind = "A" if ip.version == 4 else "AAAA"
    for name in names:
        match await look_ups.look_up(name, kind):
            case Found(records) if str(ip) in records:
                return name, ""
            case Unanswered(why):
                unanswered = f"{name} {kind}: {why}"
            case _:
                pass
    return "", unanswered
