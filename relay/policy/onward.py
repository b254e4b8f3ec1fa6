"""Where mail goes that is handed onward, and how: the options of it, and the verdict."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Any, Literal, Self

from attrs import frozen
from pydantic import Field, PlainValidator, WithJsonSchema, model_validator

from relay.config.fields import HostName, Port, Section, Word
from relay.mail.address import Address, canonical_domain
from relay.mail.routing import UNIX, UNIX_OCTETS, Forward, NextHop, TlsLevel

#: Extensions that can be done without. STARTTLS has a key of its own, and so has AUTH but for the parameter of MAIL.
Dispensable = Literal[
    "PIPELINING",
    "SIZE",
    "8BITMIME",
    "SMTPUTF8",
    "AUTH",
    "CHUNKING",
    "BINARYMIME",
    "DSN",
    "LIMITS",
    "REQUIRETLS",
    "DELIVERBY",
    "MT-PRIORITY",
]

_SMTP_PORT = 25
#: RFC 2033 section 5: never SMTP's.
_LMTP_PORT = 24

#: How many verdicts are kept ready.
_READY = 10_000


@frozen
class Host:
    """A host to hand mail to, and its port if one was said; or a Unix socket, `unix:` and its path."""

    name: str
    port: int | None


def host(text: str) -> Host:
    """
    Read `mail.example.net`, `mail.example.net:587`, `192.0.2.1:25`, `[2001:db8::1]`, `[2001:db8::1]:25` or
    `unix:/run/lmtp`.

    Raises `ValueError`.
    """
    if text.startswith(UNIX):
        return Host(_socket(text), None)
    name, port = text, ""
    if text.startswith("["):
        name, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise ValueError("should be like '[2001:db8::1]' or '[2001:db8::1]:25'")
    elif text.count(":") == 1:
        name, _, port = text.partition(":")
        port = f":{port}"
    return Host(_host_name(name), _port(port[1:]) if port else None)


def _socket(text: str) -> str:
    path = text.removeprefix(UNIX)
    if not path.startswith("/") or not path.isprintable() or len(path.encode()) > UNIX_OCTETS:
        raise ValueError("should be like 'unix:/run/dovecot/lmtp', with the whole path")
    return text


def _host_name(text: str) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        if ":" in text:
            raise ValueError("should be like 'mail.example.net:25' or '[2001:db8::1]:25'") from None
        return canonical_domain(text)
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ValueError("should be an address without a zone")
    return str(address)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
        raise ValueError("a port is a number from 1 to 65535")
    return int(text)


def _hosts(value: Any) -> tuple[Host, ...]:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError("should be a host such as 'mail.example.net:25', or a list of them")
    return tuple(host(text) for text in texts)


Hosts = Annotated[
    tuple[Host, ...],
    PlainValidator(_hosts),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]


def _sources(value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError("should be an address of this machine, or a list of two")
    addresses = tuple(map(_source, texts))
    if len({address.version for address in addresses}) < len(addresses):
        raise ValueError("should have one IPv4 address and one IPv6 address at most")
    return tuple(map(str, addresses))


def _source(text: str) -> IPv4Address | IPv6Address:
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError(f"'{text}' should be an IP address such as '192.0.2.1' or '2001:db8::1'") from None
    if isinstance(address, IPv6Address) and (address.scope_id is not None or address.ipv4_mapped is not None):
        raise ValueError(f"'{text}' should be a plain IPv4 or IPv6 address")
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"'{text}' should be an address of this machine, and is nobody's")
    return address


Sources = Annotated[
    tuple[str, ...],
    PlainValidator(_sources),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2}]}
    ),
]


class WayOptions(Section):
    """How mail is handed onward."""

    next_hop: Hosts | None = Field(
        default=None,
        description='A host to hand everything to (`"mail.example.net:587"`, `"[2001:db8::1]:25"`), or several: the '
        "first that takes it. Their MX records mean nothing. Without a next hop mail goes where the MX records of the "
        'recipient\'s domain say. `"unix:/run/dovecot/lmtp"` is a Unix socket, for LMTP.',
    )
    port: Port | None = Field(
        default=None, description="The port, where none is said with a host. Without it 25, and 24 for LMTP."
    )
    protocol: Literal["smtp", "lmtp"] = Field(
        default="smtp", description="`lmtp`: the next hop speaks LMTP, and delivers what it takes."
    )
    tls: TlsLevel = Field(
        default="may",
        description="`none`: in clear. `may`: encrypted where that is offered and works. `encrypt`: encrypted or not "
        "at all, whoever the host is. `verify`: encrypted, with a host that proves its name by a certificate.",
    )
    login: Word | None = Field(
        default=None,
        description='The name of a `[[login]]`, by which the relay logs in there. It needs `tls = "verify"`.',
    )
    without: tuple[Dispensable, ...] = Field(
        default=(),
        description='Extensions that are not used although they are offered: `["CHUNKING"]`. Of `AUTH` that is the '
        "parameter of MAIL, which some smarthosts offer and refuse with 555.",
    )
    source: Sources = Field(
        default=(),
        description='The address that connections come from, or one IPv4 and one IPv6 address (`["192.0.2.1", '
        '"2001:db8::1"]`). They should be this machine\'s. For the family that is not named the system chooses, as it '
        "does without this key.",
    )
    hello: HostName | None = Field(
        default=None,
        description="The name that the relay says in EHLO there. Without it `hostname`. It should be the one that the "
        "DNS has for `source`.",
    )

    @property
    def names_hosts(self) -> bool:
        """The operator says where mail goes, and not the DNS."""
        return self.next_hop is not None

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        sockets = [each.name for each in self.next_hop or () if each.name.startswith(UNIX)]
        if self.login is not None and self.tls != "verify":
            raise ValueError("'login' needs tls = \"verify\": a password is told to nobody but a host that is known")
        if self.protocol == "lmtp" and not self.names_hosts:
            raise ValueError("'lmtp' needs a 'next_hop': MX records never lead to LMTP")
        if sockets and self.protocol != "lmtp":
            raise ValueError('a Unix socket needs protocol = "lmtp"')
        if sockets and self.source:
            raise ValueError("nothing comes from an address at a Unix socket: there should be no 'source'")
        if sockets and self.tls in ("encrypt", "verify"):
            raise ValueError(f'at a Unix socket there is no TLS, so tls = "{self.tls}" would keep all mail here')
        return self


class Onward:
    """Where a copy goes by these options."""

    def __init__(self, options: WayOptions) -> None:
        self._options = options
        self._port = options.port or (_LMTP_PORT if options.protocol == "lmtp" else _SMTP_PORT)
        self._always: Forward | None = None
        if options.next_hop is not None:
            self._always = self.by(options.next_hop)
        #: By the recipient's domain.
        self._ready: dict[str, Forward] = {}

    def _hop(self, name: str, port: int, *, mx: bool) -> NextHop:
        options = self._options
        return NextHop(
            name,
            port,
            mx,
            tls=options.tls,
            login=options.login or "",
            lmtp=options.protocol == "lmtp",
            without=options.without,
            source=options.source,
            hello=options.hello or "",
        )

    def by(self, hosts: Sequence[Host]) -> Forward:
        """To the first of these hosts that takes it."""
        hops = tuple(self._hop(each.name, each.port or self._port, mx=False) for each in hosts)
        return Forward(hops, because="by way of " + ", ".join(map(str, hops)))

    def to(self, recipient: Address) -> Forward:
        if self._always is not None:
            return self._always
        domain = recipient.domain
        return self._ready.get(domain) or self._by_mx(domain)

    def _by_mx(self, domain: str) -> Forward:
        if len(self._ready) >= _READY:
            self._ready.clear()
        # RFC 5321 section 5.1; an address literal has no MX records, and who looks them up knows that.
        verdict = self._ready[domain] = Forward(
            self._hop(domain, self._port, mx=True), because=f"onward by MX of {domain}"
        )
        return verdict
