"""
The settings of a relay: what a configuration file can say, with the defaults of what it does not.

Values and nothing else. `relay.config.load` makes them of a text, and `relay.service` a relay of them. Each
description stands in the JSON schema, which editors show, and in docs/configuration.md.
"""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from relay.config.addresses import is_local
from relay.config.delivery import DeliverySettings
from relay.config.fields import Count, HostName, Line, Listening, NameServer, Network, Place, Section, Word
from relay.config.limits import Limits
from relay.config.policies import PolicySettings
from relay.config.units import KIB, MIB, Size, Timeout

Protocol = Literal["smtp", "submission", "lmtp"]
Tls = Literal["none", "offer", "require", "implicit"]
Newlines = Literal["strict", "lenient"]
#: The keywords of EHLO that a listener may keep to itself.
Keyword = Literal["PIPELINING", "SIZE", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8", "CHUNKING", "HELP"]


def _engine(value: object) -> object:
    if isinstance(value, str) and value.startswith("postgres"):
        raise ValueError("PostgreSQL is not built yet; there are 'sqlite' and 'memory'")
    return value


class SpoolSettings(Section):
    """Where the relay keeps what it has promised to deliver."""

    path: Place = Field(default=Path("var/spool"), description="The directory of the spool.")
    engine: Annotated[Literal["sqlite", "memory"], BeforeValidator(_engine)] = Field(
        default="sqlite", description="`sqlite` survives a power cut; `memory` forgets, and is for tests."
    )
    large: Size = Field(
        default=64 * KIB,
        description="Content above this size has a file of its own instead of a place in the database.",
    )
    reserve: Size = Field(
        default=64 * MIB,
        description="Space on the disk that is left for notices and the relay's own records. Mail that would take "
        "it is answered with 452 4.3.1.",
    )


class DnsSettings(Section):
    """Whom the relay asks for names."""

    servers: tuple[NameServer, ...] = Field(default=(), description="DNS servers, asked in turn. Empty: the system's.")
    timeout: Timeout = Field(
        default=20, description="How long a look-up may take in all. Over it the answer is that nobody answered."
    )
    server_timeout: Timeout = Field(
        default=2,
        description="How long one server may take before the next is asked. In each further round it is twice as long.",
    )
    records: Count = Field(default=100, description="Records of an answer. One with more of them is no answer.")

    @model_validator(mode="after")
    def _a_part_of_the_whole(self) -> Self:
        if self.server_timeout > self.timeout:
            raise ValueError("'server_timeout' should not be longer than 'timeout'")
        return self


class LogSettings(Section):
    """The mail log: one line for each thing that happens to a message."""

    mail: Literal["-"] | Place = Field(default="-", description='A file, or `"-"` for standard output.')
    format: Literal["text", "json"] = Field(default="text", description="`text`, or `json`: one JSON object a line.")


class ControlSettings(Section):
    """Where `relayctl` finds the running relay."""

    socket: Place = Field(default=Path("var/control.sock"), description="A Unix socket.")


class ProcessSettings(Section):
    """Who the relay is, once it listens."""

    user: Word | None = Field(default=None, description="The user it becomes if root has started it.")
    group: Word | None = Field(
        default=None, description="The group it becomes if root has started it; else that user's."
    )


class ListenerSettings(Section):
    """A place where mail comes in."""

    address: Listening = Field(
        description='Where to listen: `"127.0.0.1:2525"`, `"[::1]:2525"`, `"[::]:25"` (everywhere), '
        '`"unix:/run/relay/smtp.sock"` or `"systemd:smtp"`.'
    )
    name: Word = Field(
        default="",
        description="What the listener is called in log lines and in `when`. Without it, as its address.",
    )
    protocol: Protocol = Field(default="smtp", description="What is spoken there; only `smtp` is built yet.")
    tls: Tls = Field(default="none", description="Encryption; only `none` is built yet.")
    newlines: Newlines = Field(
        default="strict",
        description="`strict`: only CRLF ends a line. `lenient`: LF does too in a session whose first line ends so, "
        "as a person at netcat types it; only for loopback and Unix sockets.",
    )

    proxy: tuple[Network, ...] = Field(
        default=(),
        description="Networks of proxies, from which each connection begins with a header of the PROXY protocol "
        "(version 1 or 2) that names the client. From elsewhere clients connect themselves.",
    )
    without: tuple[Keyword, ...] = Field(
        default=(),
        description='Extensions that are not offered here, by their keywords: `["CHUNKING"]`, `["SMTPUTF8"]`.',
    )

    @field_validator("protocol")
    @classmethod
    def _only_smtp_yet(cls, protocol: Protocol) -> Protocol:
        if protocol != "smtp":
            raise ValueError(f"'{protocol}' is not built yet; there is 'smtp'")
        return protocol

    @field_validator("tls")
    @classmethod
    def _no_tls_yet(cls, tls: Tls) -> Tls:
        if tls != "none":
            raise ValueError(f"'{tls}' is not built yet; there is 'none'")
        return tls

    @field_validator("newlines")
    @classmethod
    def _lenient_only_at_home(cls, newlines: Newlines, info: ValidationInfo) -> Newlines:
        # Two readings of where a message ends are a way to smuggle one past us, unless it is our own people who
        # type it.
        if newlines == "lenient" and "address" in info.data and not is_local(info.data["address"]):
            raise ValueError("'lenient' is for loopback addresses and Unix sockets only")
        return newlines


_LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


class Settings(Section):
    """All that a configuration file says."""

    hostname: HostName | None = Field(
        default=None, description="The relay's name in greetings and trace fields. Without it, the machine's name."
    )
    greeting: Line = Field(default="ESMTP relay", description="What follows the host name in the greeting.")
    trusted: tuple[Network, ...] = Field(
        default=_LOOPBACK,
        description="Clients that are not bound by `connections_per_address`, `connections_per_minute`, "
        "`messages` and `idle_commands`. They may not relay because of it: that is a policy's decision.",
    )
    spool: SpoolSettings = Field(
        default=SpoolSettings(), description="Where the relay keeps what it has promised to deliver."
    )
    dns: DnsSettings = Field(default=DnsSettings(), description="Whom the relay asks for names.")
    log: LogSettings = Field(default=LogSettings(), description="The mail log.")
    control: ControlSettings = Field(default=ControlSettings(), description="Where `relayctl` finds the running relay.")
    process: ProcessSettings = Field(default=ProcessSettings(), description="Who the relay is, once it listens.")
    limits: Limits = Field(default=Limits(), description="What a client may ask of the relay.")
    delivery: DeliverySettings = Field(default=DeliverySettings(), description="How mail is carried onward.")
    listener: tuple[ListenerSettings, ...] = Field(default=(), description="The places where mail comes in.")
    policy: tuple[PolicySettings, ...] = Field(
        default=(),
        description="The policies, in the order in which they are asked. The first that does not abstain decides; "
        "if all abstain the answer is 550 5.7.1.",
    )
