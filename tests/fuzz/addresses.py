"""Text that is said to be an address."""

from __future__ import annotations

import re
import socket
from typing import Final

from relay.mail.address import (
    DOMAIN_OCTETS,
    LOCAL_PART_OCTETS,
    PATH_OCTETS,
    Address,
    AddressError,
    canonical_domain,
    parse_address,
)
from relay.mail.reply import Reply

#: RFC 5321 section 4.1.2, as far as it is ASCII, in one expression. Domains may have underscores (docs/QUIRKS.md).
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_MAILBOX: Final = re.compile(
    rf'(?P<local>{_ATOM}(?:\.{_ATOM})*|"(?:[ !#-\[\]-~]|\\[ -~])*")'
    rf"@(?:(?P<domain>{_LABEL}(?:\.{_LABEL})*)|\[(?P<v4>[0-9.]+)\]|\[[Ii][Pp][Vv]6:(?P<v6>[0-9A-Fa-f:.]+)\])"
)


def check(data: bytes) -> None:
    for text in {data.decode("utf-8", "surrogateescape"), data.decode("utf-8", "replace"), data.decode("latin-1")}:
        address = _read(text)
        if text.isascii():
            assert (address is not None) == _is_mailbox(text), f"{text!r} is {address}"
        if address is not None:
            _is_canonical(address)
        _domain(text)


def _read(text: str) -> Address | None:
    try:
        return parse_address(text)
    except AddressError as problem:
        why = str(problem)
        assert why.isascii()
        assert why.isprintable()
        return None


def _is_mailbox(text: str) -> bool:
    match = _MAILBOX.fullmatch(text)
    if match is None or len(text) > PATH_OCTETS - 2 or len(match["local"]) > LOCAL_PART_OCTETS:
        return False
    if match["domain"]:
        return len(match["domain"]) <= DOMAIN_OCTETS
    family, literal = (socket.AF_INET, match["v4"]) if match["v4"] else (socket.AF_INET6, match["v6"])
    try:
        socket.inet_pton(family, literal)
    except OSError:
        return False
    return True


def _is_canonical(address: Address) -> None:
    """It can be written anywhere, and is read as the same one."""
    written = str(address)
    assert written.isprintable()
    assert written.encode().decode() == written
    assert address.ascii == written.isascii()
    assert address.domain.isascii()
    assert " " not in address.domain
    assert "@" not in address.domain
    assert canonical_domain(address.domain) == address.domain
    if len(written.encode()) <= PATH_OCTETS - 2:
        assert parse_address(written) == address, f"{written!r} is not {address!r}"
    else:
        # A name in letters of its own may be longer when it is written in ASCII.
        assert "xn--" in address.domain
    Reply.saying(550, "5.1.1", f"<{address}>: user unknown")


def _domain(text: str) -> None:
    try:
        domain = canonical_domain(text)
    except AddressError:
        return
    assert canonical_domain(domain) == domain
    assert domain.startswith("[") or domain == domain.lower()
    assert len(domain) <= DOMAIN_OCTETS
