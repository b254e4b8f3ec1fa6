"""Addresses: one strict parser, and one canonical form in which two addresses are compared."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from functools import lru_cache
from typing import Final

import idna
from attrs import field, frozen

#: RFC 5321 section 4.5.3.1: octets, not characters.
LOCAL_PART_OCTETS = 64
DOMAIN_OCTETS = 255
PATH_OCTETS = 256

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
#: RFC 5321 section 4.1.2, `Dot-string`, all of it ASCII.
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*\Z")
_ATOMS_AND_DOTS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]\Z")
#: RFC 5321 section 4.1.2, `Domain`; underscores are tolerated, since names with them receive mail.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
#: An address as nearly all are: a dot-string, and labels in any letter case.
_USUAL = re.compile(
    rf"({_ATOM}(?:\.{_ATOM})*)@([A-Za-z0-9_](?:[A-Za-z0-9_-]{{0,61}}[A-Za-z0-9_])?"
    r"(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*)\Z"
)
_PLAIN_DOMAIN = re.compile(r"[a-z0-9._-]+\Z")

#: How many addresses, and how many domains, that were read lately are kept: the same ones come again and again, and
#: none of them is longer than a path.
_KEPT: Final = 1024


class AddressError(ValueError):
    """
    The text is not an address. Its message says why, in words for the person who wrote it.

    Who reads a command turns it into a reply (`501 5.1.3`, RFC 3463 section 3.2), who reads
    a configuration into a problem with a line.
    """


@frozen(order=True, init=False)
class Address:
    """
    A mailbox of RFC 5321 section 4.1.2, in canonical form.

    Two addresses are the same mailbox's exactly if they are equal, but for a local part's
    letter case, which only the domain it belongs to may fold (section 2.4).
    """

    #: The local part as it is meant, without quotes and backslashes, its letter case kept.
    local: str
    #: Lower case with A-labels (RFC 5891), or an address literal: `[192.0.2.1]`, `[IPv6:2001:db8::1]`.
    domain: str
    #: Whether a next hop without SMTPUTF8 can be told this address (RFC 6531).
    ascii: bool = field(init=False, eq=False, repr=False)
    #: As it is written in a path. Asked for so often that it is made once.
    text: str = field(init=False, eq=False, repr=False)

    def __init__(self, local: str, domain: str, _text: str = "") -> None:
        """`_text`: for who has just read it. It takes as long to find out as all the rest."""
        _set_local(self, local)
        _set_domain(self, domain)
        _set_ascii(self, local.isascii())
        _set_text(self, _text or f"{quote_local(local)}@{domain}")

    @classmethod
    def parse(cls, text: str) -> Address:
        """
        Read `local@domain`, strictly: no route, no comment, no display name, no white space.

        Raises `AddressError`. Time is linear in the length of the text.
        """
        return parse_address(text)

    @property
    def is_literal(self) -> bool:
        """Whether the domain is an address literal (RFC 5321 section 4.1.3)."""
        return self.domain.startswith("[")

    def __str__(self) -> str:
        return self.text


# How a frozen value gets its fields, in half the time that `object.__setattr__` takes for it.
_set_local, _set_domain, _set_ascii, _set_text = (
    Address.__dict__[name].__set__ for name in ("local", "domain", "ascii", "text")
)


def quote_local(local: str) -> str:
    """The local part as it is written in a path: quoted only if it must be (RFC 5321 section 4.1.2)."""
    if _is_dot_string(local):
        return local
    escaped = local.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def parse_address(text: str) -> Address:
    """See `Address.parse`."""
    return _parsed(text)


@lru_cache(_KEPT)
def _parsed(text: str) -> Address:
    usual = _USUAL.match(text) if len(text) <= PATH_OCTETS - 2 else None
    if usual is not None:
        local, domain = usual.groups()
        if len(local) <= LOCAL_PART_OCTETS:
            domain = domain.lower()
            return Address(local, domain, f"{local}@{domain}")
    return _parsed_by_parts(text)


def _parsed_by_parts(text: str) -> Address:
    """What any text is, and why one is no address."""
    local, domain = split_address(text)
    address = Address(local, canonical_domain(domain))
    # A-labels are longer than what they stand for, and a path has to hold them.
    if not domain.isascii() and len(address.text.encode()) > PATH_OCTETS - 2:
        raise AddressError("the address is too long")
    return address


def split_address(text: str) -> tuple[str, str]:
    """
    The local part (unquoted, checked) and the domain's text (not yet checked).

    The decision where a local part ends is made here and nowhere else: at the closing quote,
    or at the first `@` of an unquoted one, behind which there may be no other.
    """
    plain = text.isascii()
    if (len(text) if plain else _octets(text)) > PATH_OCTETS - 2:
        raise AddressError("the address is too long")
    if text[:1] == '"':
        local, rest = _quoted(text)
        if not rest.startswith("@"):
            raise AddressError("there must be an @ behind the quoted local part")
        domain = rest[1:]
        written = len(text) - len(rest)
    else:
        local, at, domain = text.partition("@")
        if not at:
            raise AddressError("there is no @ and no domain")
        if not _is_dot_string(local):
            raise AddressError("the local part is malformed" if local else "the local part is empty")
        written = len(local)
    if "@" in domain:
        raise AddressError("there is more than one @")
    if written > LOCAL_PART_OCTETS or (not plain and _octets(local) > LOCAL_PART_OCTETS):
        raise AddressError(f"the local part is longer than {LOCAL_PART_OCTETS} octets")
    return local, domain


def canonical_domain(text: str) -> str:
    """
    The one form in which a domain is kept: lower case, A-labels, no dot at the end.

    Takes a domain or an address literal; raises `AddressError`. A single label (`frogbog`) is
    a domain: whether mail can be sent there is not a question of syntax.
    """
    return _canonical(text)


@lru_cache(_KEPT)
def _canonical(text: str) -> str:
    if text.startswith("["):
        return _literal(text)
    if not text:
        raise AddressError("the domain is empty")
    if _octets(text) > DOMAIN_OCTETS:
        raise AddressError(f"the domain is longer than {DOMAIN_OCTETS} octets")
    if text.isascii():
        domain = text.lower()
    else:
        try:
            domain = idna.encode(text, uts46=True).decode("ascii").lower()
        except (idna.IDNAError, UnicodeError):
            raise AddressError("the domain is not a valid internationalized name") from None
        if len(domain) > DOMAIN_OCTETS:
            raise AddressError(f"the domain is longer than {DOMAIN_OCTETS} octets")
    if not _PLAIN_DOMAIN.match(domain):
        raise AddressError("the domain has characters that no domain has")
    for label in domain.split("."):
        if not _LABEL.match(label):
            raise AddressError("the domain is malformed")
    return domain


def literal(address: str) -> str:
    """
    An IP address as a domain (RFC 5321 section 4.1.3), canonical, and without its zone: that is a name on one machine.

    Raises `ValueError` for what is none.
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return f"[IPv6:{parsed}]" if parsed.version == 6 else f"[{parsed}]"


def _octets(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _literal(text: str) -> str:
    if not text.endswith("]"):
        raise AddressError("the address literal is not closed")
    inside = text[1:-1]
    try:
        if inside[:5].lower() == "ipv6:":
            # A zone (`%eth0`) names an interface of one machine, so it is no part of an address on the net.
            if "%" in inside:
                raise ValueError
            return f"[IPv6:{ipaddress.IPv6Address(inside[5:]).compressed}]"
        return f"[{ipaddress.IPv4Address(inside)}]"
    except ValueError:
        raise AddressError("the address literal is malformed") from None


def _quoted(text: str) -> tuple[str, str]:
    """The content of the quoted string that `text` begins with, and what stands behind it."""
    content: list[str] = []
    at = 1
    while at < len(text):
        character = text[at]
        if character == '"':
            return "".join(content), text[at + 1 :]
        if character == "\\":
            at += 1
            character = text[at : at + 1]
            if not " " <= character <= "~":
                raise AddressError("a backslash is followed by nothing that can be quoted")
        elif not _may_stand_in_quotes(character):
            raise AddressError("the local part has control characters")
        content.append(character)
        at += 1
    raise AddressError("the quoted local part is not closed")


def _may_stand_in_quotes(character: str) -> bool:
    return " " <= character <= "~" or (character > "\x7f" and _printable(character))


def _is_dot_string(local: str) -> bool:
    if _DOT_STRING.match(local):
        return True
    # RFC 6531 section 3.3: `atext` grows by every UTF-8 character that is not ASCII; ours must be printable.
    if local.isascii() or local[0] == "." or local[-1] == "." or ".." in local:
        return False
    return all(_ATOMS_AND_DOTS.match(c) if c.isascii() else _printable(c) for c in local)


def _printable(character: str) -> bool:
    return character > "\x7f" and unicodedata.category(character)[0] not in "CZ"
