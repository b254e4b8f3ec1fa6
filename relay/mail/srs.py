"""
SRS, the Sender Rewriting Scheme: a reverse-path in a domain of ours for mail that we pass on in the name of others.

The receiver compares the reverse-path's domain with the host that the mail comes from (SPF, RFC 7208), and we are not
among the hosts of the sender's. So `ann@example.org` becomes `SRS0=HASH=DAY=example.org=ann@ours`, and what comes back
to that address goes to her. A sender that a forwarder before us has rewritten, `SRS0=...@theirs`, becomes
`SRS1=HASH=theirs==...@ours`: what comes back goes to that forwarder, which knows the rest, over however many of us.

The hash is keyed, so nobody but us makes such addresses, and the day ends them: nobody can use us for long to write to
people from whom they have had one message. Both survive a relay on the way that folds letter case.
"""

from __future__ import annotations

import hmac
import re
from base64 import b32encode
from enum import Enum
from hashlib import sha256
from typing import Final

from attrs import field, frozen

from relay.mail.address import LOCAL_PART_OCTETS, Address, AddressError, canonical_domain, parse_address, quote_local

#: What such addresses begin with. Of the separators behind it `=` is ours; others are those of other forwarders.
_SRS: Final = re.compile(r"SRS([01])([=+-])", re.IGNORECASE)
#: Octets of the hash: 40 bits, eight letters and digits.
_HASH: Final = 5
_DIGITS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
#: The days that two digits can tell apart.
_DAYS: Final = len(_DIGITS) ** 2
_DAY_SECONDS: Final = 86400


class Unfit(Enum):
    """Why nobody stands behind an address."""

    FORGED = "it is not one that was made here"
    OVER = "its time is over"


@frozen
class Srs:
    """The rewriting of one domain. `secrets`: the first one signs, all of them are believed."""

    domain: str
    secrets: tuple[bytes, ...] = field(repr=False)
    #: For how long an address is good.
    days: int = 21

    def rewritten(self, sender: Address, now: float) -> Address | None:
        """
        The reverse-path in whose place `sender` stands, at `now` in seconds since the epoch.

        `None`: it is in this domain already, is in no domain (an address literal), or has a name so long that the new
        one would be longer than may be.
        """
        if sender.domain == self.domain or sender.is_literal:
            return None
        said = self._again(sender) if _SRS.match(sender.local) else None
        local = said or self._first(sender, now)
        return Address(local, self.domain) if len(quote_local(local).encode()) <= LOCAL_PART_OCTETS else None

    def original(self, address: Address, now: float) -> Address | Unfit | None:
        """Who stands behind this address; `None` if it is no such address of this domain at all."""
        found = self.signed(address)
        if isinstance(found, Address) and address.local[3] == "0":
            day = _number(address.local.split("=", 3)[2])
            # Yesterday's clock may have been ahead of ours.
            if (int(now // _DAY_SECONDS) + 1 - day) % _DAYS > self.days + 1:
                return Unfit.OVER
        return found

    def signed(self, address: Address) -> Address | Unfit | None:
        """The same whenever the address was made."""
        match = _SRS.match(address.local)
        if address.domain != self.domain or match is None:
            return None
        parts = address.local[len(match[0]) :].split("=", 3 if match[1] == "0" else 2)
        if match[2] != "=" or len(parts) != (4 if match[1] == "0" else 3):
            return Unfit.FORGED
        hashed, *rest = parts
        if not any(hmac.compare_digest(_sign(secret, *rest), _octets(hashed.upper())) for secret in self.secrets):
            return Unfit.FORGED
        try:
            if match[1] == "1":
                first_hop, opaque = rest
                return parse_address(f"{quote_local(f'SRS0{opaque}')}@{first_hop}")
            day, domain, local = rest
            return Unfit.FORGED if _number(day) < 0 else parse_address(f"{quote_local(local)}@{domain}")
        except AddressError:
            return Unfit.FORGED

    def _first(self, sender: Address, now: float) -> str:
        day = int(now // _DAY_SECONDS) % _DAYS
        rest = (_DIGITS[day // len(_DIGITS)] + _DIGITS[day % len(_DIGITS)], sender.domain, sender.local)
        return f"SRS0={self._signed(*rest)}"

    def _again(self, sender: Address) -> str | None:
        """For what another forwarder has rewritten; `None` if it only looks so."""
        if sender.local[3] == "0":
            return f"SRS1={self._signed(sender.domain, sender.local[4:])}"
        _, _, rest = sender.local[5:].partition("=")
        first_hop, _, opaque = rest.partition("=")
        try:
            domain = canonical_domain(first_hop)
        except AddressError:
            return None
        return f"SRS1={self._signed(domain, opaque)}" if opaque.startswith(("=", "+", "-")) else None

    def _signed(self, *rest: str) -> str:
        return "=".join((_sign(self.secrets[0], *rest).decode(), *rest))


def _sign(secret: bytes, *rest: str) -> bytes:
    # Three parts or two, none of which but the last has an "=" in it: no two addresses have the same text.
    text = f"{len(rest)}={'='.join(rest)}".lower()
    return b32encode(hmac.digest(secret, _octets(text), sha256)[:_HASH])


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _number(day: str) -> int:
    """The day, or -1 for what is none."""
    high, low = (_DIGITS.find(digit) for digit in day.upper()) if len(day) == 2 else (-1, -1)
    return -1 if min(high, low) < 0 else high * len(_DIGITS) + low
