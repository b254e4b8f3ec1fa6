"""Verdicts: what a policy can say about a recipient's copy, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from ipaddress import ip_address
from typing import Final, Literal, TypeAlias, get_args

from attrs import Factory, field, frozen
from attrs.validators import deep_iterable, deep_mapping, in_, instance_of, optional

from relay.mail.address import Address, canonical_domain
from relay.mail.envelope import Client
from relay.mail.facts import NO_FACTS, Facts, facts
from relay.mail.reply import Reply

#: How much TLS is asked of a next hop (RFC 3207). `none`: none. `may`: where it is offered, whoever the host is.
#: `encrypt`: or nothing, whoever the host is. `verify`: with a host whose certificate comes from a trusted authority
#: and is for its name, or nothing.
TlsLevel: TypeAlias = Literal["none", "may", "encrypt", "verify"]
TLS_LEVELS: Final[tuple[TlsLevel, ...]] = get_args(TlsLevel)

#: What the name of a Unix socket begins with.
UNIX: Final = "unix:"
#: unix(7): the path of a socket has 108 octets at most, the last of them a NUL.
UNIX_OCTETS: Final = 107

#: A verdict is kept in the spool and shown to people, so what it says has to be text.
_TEXT: Final = instance_of(str)


@frozen
class Inquiry:
    """
    What a routing policy is asked: where does the copy of this one recipient go?

    `recipient` is the address that is asked about now; `original` is the one that the client
    named, which differs once an alias has been followed.
    """

    recipient: Address
    original: Address
    #: `None` is the null reverse-path `<>` (RFC 5321 section 4.5.5).
    reverse_path: Address | None
    client: Client
    #: What policies that were asked before this one have found out.
    facts: Facts = field(default=NO_FACTS, converter=facts)


def _in_order(keywords: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(keyword.upper() for keyword in keywords))


def _as_said(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(texts)


def _unix(hop: NextHop) -> str:
    return "" if hop.mx or not hop.name.startswith(UNIX) else hop.name.removeprefix(UNIX)


def _destination(hop: NextHop) -> str:
    if hop.mx:
        text = hop.name if hop.port == 25 else f"{hop.name}:{hop.port}"
    elif not hop.lmtp:
        text = f"[{hop.name}]:{hop.port}"
    else:
        text = hop.name if hop.unix else f"lmtp:[{hop.name}]:{hop.port}"
    if hop.tls != "may" and not hop.unix:
        text += f";tls={hop.tls}"
    return f"{text};login={hop.login}" if hop.login else text


@frozen
class NextHop:
    """
    A host to hand mail to: by the MX records of `name`, or `name` itself if `mx` is false.

    `name` is a domain in canonical form, an address literal, or (only without MX) an IP address, or `unix:` and the
    path of a socket where LMTP is spoken.
    """

    name: str
    port: int = field(default=25)
    mx: bool = field(default=True)
    tls: TlsLevel = field(default="may", validator=in_(TLS_LEVELS))
    #: The name of a login in the configuration, or "". What stands behind it is never kept with the mail.
    login: str = field(default="", validator=_TEXT)
    #: LMTP is spoken there (RFC 2033): who takes the mail delivers it.
    lmtp: bool = field(default=False)
    #: Extensions that are not used with it even where it offers them, by their keywords.
    without: tuple[str, ...] = field(default=(), converter=_in_order)
    #: The addresses of ours that connections there come from, one of each family at most; of another: any.
    source: tuple[str, ...] = field(default=(), converter=_as_said)
    #: Who we are in EHLO, or "": who we are anywhere.
    hello: str = field(default="", validator=_TEXT)
    #: The path of the Unix socket that this is, or "". Known from the rest, like what follows.
    unix: str = field(default=Factory(_unix, takes_self=True), init=False, eq=False, repr=False)
    #: The destination's name, in logs and in the queue: `example.org`, `[mail.example.org]:2525`,
    #: `lmtp:[192.0.2.1]:24`, `unix:/run/lmtp`, `[smtp.example.net]:587;tls=verify;login=smarthost`.
    text: str = field(default=Factory(_destination, takes_self=True), init=False, eq=False, repr=False)

    @port.validator
    def _is_a_port(self, _attribute: object, port: int) -> None:
        if not 0 < port < 65536:
            raise ValueError(f"{port} is not a port")

    @source.validator
    def _are_addresses(self, _attribute: object, source: tuple[str, ...]) -> None:
        if source and len({ip_address(each).version for each in source}) < len(source):
            raise ValueError("mail leaves from one address of each family")

    @login.validator
    def _is_kept_to_itself(self, _attribute: object, login: str) -> None:
        if login and self.tls != "verify":
            raise ValueError("who we are is told to nobody but a host whose certificate was verified")

    @lmtp.validator
    def _is_no_exchanger(self, _attribute: object, lmtp: bool) -> None:
        if lmtp and self.mx:
            # RFC 2033 section 5: an MX record never leads to an LMTP server.
            raise ValueError("LMTP is spoken with hosts that were named, and not with those of MX records")
        if self.unix and not lmtp:
            raise ValueError("at a Unix socket LMTP is spoken")
        if self.unix and len(self.unix.encode("utf-8", "surrogateescape")) > UNIX_OCTETS:
            raise ValueError(f"the path of a Unix socket has {UNIX_OCTETS} octets at most")

    def __str__(self) -> str:
        return self.text


def _next_hops(hops: str | NextHop | Iterable[str | NextHop]) -> tuple[NextHop, ...]:
    if isinstance(hops, str | NextHop):
        hops = (hops,)
    return tuple(NextHop(canonical_domain(hop)) if isinstance(hop, str) else hop for hop in hops)


def _addresses(given: Iterable[Address]) -> tuple[Address, ...]:
    return tuple(given)


@frozen
class Deliver:
    """
    Hand the copy to an agent of this machine, after the 250, from the spool.

    `agent` is the name under which the configuration or a plugin has registered an
    `IAgent`; `parameters` is what that agent needs to know (a folder, a file), as text,
    since it is kept in the spool.
    """

    agent: str = field(validator=_TEXT)
    parameters: Mapping[str, str] = field(factory=dict, validator=deep_mapping(_TEXT, _TEXT))
    because: str = field(default="", validator=_TEXT)


@frozen
class Forward:
    """
    Hand the copy to the first of `next_hops` that takes it.

    `Forward("example.org")` is onward by MX lookup (RFC 5321 section 5.1).
    """

    next_hops: tuple[NextHop, ...] = field(converter=_next_hops, validator=deep_iterable(instance_of(NextHop)))
    because: str = field(default="", validator=_TEXT)
    #: What the next hop is told instead of the reverse-path that the client said (VERP, SRS). `None`: that one. Mail
    #: without a reverse-path stays so: nobody is to be told of it (RFC 5321 section 4.5.5).
    reverse_path: Address | None = field(default=None, validator=optional(instance_of(Address)))

    @next_hops.validator
    def _has_one(self, _attribute: object, next_hops: tuple[NextHop, ...]) -> None:
        if not next_hops:
            raise ValueError("mail is forwarded to at least one next hop")


@frozen
class Rewrite:
    """This recipient stands for others (an alias): ask again about each of these."""

    recipients: tuple[Address, ...] = field(converter=_addresses, validator=deep_iterable(instance_of(Address)))
    because: str = field(default="", validator=_TEXT)

    @recipients.validator
    def _has_one(self, _attribute: object, recipients: tuple[Address, ...]) -> None:
        if not recipients:
            raise ValueError("an alias that stands for nobody would lose mail: reject or discard instead")


@frozen
class Reject:
    """Refuse for good: a 5yz reply, which the client hears."""

    reply: Reply = field(validator=instance_of(Reply))
    because: str = field(default="", validator=_TEXT)

    @reply.validator
    def _is_permanent(self, _attribute: object, reply: Reply) -> None:
        if not reply.permanent:
            raise ValueError(f"a {reply.code} reply does not reject")


@frozen
class Delay:
    """Refuse for now: a 4yz reply, after which the client tries again later."""

    reply: Reply = field(validator=instance_of(Reply))
    because: str = field(default="", validator=_TEXT)

    @reply.validator
    def _is_temporary(self, _attribute: object, reply: Reply) -> None:
        if not reply.temporary:
            raise ValueError(f"a {reply.code} reply does not delay")


@frozen
class Discard:
    """Say 250 and throw the copy away. The verdict is recorded in the mail log (law L3)."""

    because: str = field(default="", validator=_TEXT)


@frozen
class Hold:
    """Say 250 and keep the copy in the spool until the operator decides."""

    because: str = field(default="", validator=_TEXT)


@frozen
class Accept:
    """
    No policy behind this one is asked in this phase, and nothing speaks against it: of a connection, a sender, content.

    Of a recipient nobody can say so: what is accepted has to go somewhere.
    """

    because: str = field(default="", validator=_TEXT)
    facts: Facts = field(default=NO_FACTS, converter=facts)


@frozen
class Note:
    """
    "I have no opinion on this one, but this is known now": the next policy is asked, and all that are asked later about
    the same client, transaction or recipient find it among their inquiry's `facts`.
    """

    facts: Facts = field(converter=facts)
    because: str = field(default="", validator=_TEXT)

    @facts.validator
    def _knows_something(self, _attribute: object, facts: Facts) -> None:
        if not facts:
            raise ValueError("a note says something: whoever knows nothing says ABSTAIN")


class Abstention(Enum):
    """The type of `ABSTAIN`, so that a policy must say the word: `None` is no verdict."""

    ABSTAIN = "abstain"

    def __repr__(self) -> str:
        return "ABSTAIN"


#: "I have no opinion on this one": the next policy is asked.
ABSTAIN: Final = Abstention.ABSTAIN

#: Where an accepted copy goes; what the spool keeps with a recipient.
Route: TypeAlias = Deliver | Forward | Hold | Discard | Reject
Verdict: TypeAlias = Deliver | Forward | Rewrite | Reject | Delay | Discard | Hold
RoutingVerdict: TypeAlias = Verdict | Note | Literal[Abstention.ABSTAIN]
