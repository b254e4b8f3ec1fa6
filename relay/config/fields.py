"""
Kinds of values that settings have, beside durations and sizes (`relay.config.units`). Each refuses what it cannot mean.

For the options of policies too. A relative `pathlib.Path` needs no kind of its own: in settings and options alike,
`load` makes it relative to the configuration file.
"""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from relay.config.addresses import Inet, ListenAddress, listen_address, server_address
from relay.mail.address import canonical_domain, parse_address

_DNS_PORT = 53


class Section(BaseModel):
    """A table of the configuration, or the options of a policy: a value that cannot change and has no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("should be a string")
    return value


def _hostname(text: str) -> str:
    if text.startswith("["):
        raise ValueError("should be a name, not an address")
    return canonical_domain(text)


def _domain_or_address(text: str) -> str:
    if text == "<>":
        return text
    return str(parse_address(text)) if "@" in text else canonical_domain(text)


def _word(text: str) -> str:
    if not text or len(text) > 100 or not text.isprintable() or re.search(r"[\s\"']", text):
        raise ValueError("should be one word, without blanks and quotes")
    return text


def _line(text: str) -> str:
    # RFC 5321 section 4.2: `textstring`; and a line of a reply has at most 512 octets (section 4.5.3.1.5).
    if not text.isascii() or not text.isprintable():
        raise ValueError("should be one line of printable ASCII")
    if len(text) > 200:
        raise ValueError("should be at most 200 characters")
    return text


def _network(value: object) -> IPv4Network | IPv6Network:
    text = _text(value)
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        raise ValueError("should be a network such as '10.0.0.0/8' or '2001:db8::/32', or one address") from None
    raise ValueError(f"is an address within a network, did you mean '{meant}'?")


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("should be a number")
    if abs(value) > 1e12:
        raise ValueError("should be a smaller number")
    return float(value)


def _place(value: object) -> Path:
    if isinstance(value, Path):
        return value
    text = _text(value)
    if not text or "\0" in text:
        raise ValueError("should be a path")
    return Path(text)


def _listen_address(value: object) -> ListenAddress:
    return listen_address(_text(value))


def _server_address(value: object) -> Inet:
    return server_address(_text(value), port=_DNS_PORT)


_STRING = WithJsonSchema({"type": "string"})

#: A host's name, in canonical form.
HostName = Annotated[str, AfterValidator(_hostname)]

#: A domain in canonical form, or an address literal.
Domain = Annotated[str, AfterValidator(canonical_domain)]

#: A domain, an address, or `<>` for the null reverse-path; each in canonical form.
DomainOrAddress = Annotated[str, AfterValidator(_domain_or_address)]

#: A name for something in the configuration. It stands in log lines and metrics, so it is one word.
Word = Annotated[str, AfterValidator(_word)]

#: Text for one line of a reply.
Line = Annotated[str, AfterValidator(_line)]

Network = Annotated[IPv4Network | IPv6Network, PlainValidator(_network), _STRING]

#: Where to listen.
Listening = Annotated[ListenAddress, PlainValidator(_listen_address), _STRING]

#: A DNS server.
NameServer = Annotated[Inet, PlainValidator(_server_address), _STRING]

#: How many. A string or a boolean is no number here, though pydantic would take it for one.
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]

Port = Annotated[int, Field(strict=True, ge=1, le=65535)]

Yes = Annotated[bool, Field(strict=True)]

#: A number, whole or not.
Factor = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]

#: A file or a directory. Relative ones become relative to the configuration file when it is loaded.
Place = Annotated[Path, BeforeValidator(_place), _STRING]
