"""
The settings of a relay: what a configuration file can say, with the defaults of what it does not.

Values and nothing else. `relay.config.load` makes them of a text, and `relay.service` a relay of them. Each
description stands in the JSON schema, which editors show, and in docs/configuration.md.
"""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    PrivateAttr,
    WithJsonSchema,
    model_validator,
)

from relay.config.delivery import DeliverySettings
from relay.config.errors import Problem
from relay.config.fields import Count, HostName, Line, NameServer, Network, Place, Section, Word, Yes
from relay.config.limits import Limits
from relay.config.lines import KeyPath, Lines, spelled
from relay.config.listeners import ListenerSettings
from relay.config.logins import LoginSettings, different
from relay.config.metrics import MetricsSettings
from relay.config.policies import PolicySettings
from relay.config.tables import TableSettings, distinct
from relay.config.units import DAY, KIB, MIB, Duration, Size, Timeout, TimeoutOrNever
from relay.config.users import AuthSettings


def _engine(value: object) -> object:
    if isinstance(value, str) and value.startswith("postgres"):
        raise ValueError("PostgreSQL is not built yet; there are 'sqlite' and 'memory'")
    return value


#: Each worker has a shard of the spool, and some fifty MiB: more of them than this are a slip.
MOST_WORKERS: Final = 256


def _workers(value: object) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_WORKERS:
        raise ValueError(f"should be a number from 1 to {MOST_WORKERS}, or 'auto'")
    return value


Workers = Annotated[
    int | Literal["auto"],
    PlainValidator(_workers),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": MOST_WORKERS}, {"const": "auto"}]}),
]


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


class HistorySettings(Section):
    """What happened to messages and refusals, for people to ask. Nothing that was promised depends on it."""

    keep: Yes = Field(default=True, description="Whether it is kept on disk. Otherwise only the mail log knows.")
    path: Place | None = Field(default=None, description="The file. Without it, `history.db` beside the spool.")
    age: Duration = Field(default=14 * DAY, description="How long it is kept.")
    size: Size = Field(default=1024 * MIB, description="How large it may become. Over it the oldest goes.")


class SuppressionSettings(Section):
    """Addresses of others to which mail has failed since there is no such mailbox or domain."""

    keep: Yes = Field(
        default=False,
        description="Whether they are kept, and refused (550 5.1.1) to clients that have logged in or are `trusted`.",
    )
    path: Place | None = Field(default=None, description="The file. Without it, `suppressed` beside the spool.")
    days: Count = Field(default=30, le=10_000, description="For how many days an address is refused.")


class StoreSettings(Section):
    """What policies keep themselves: whom they have seen, and counts. Nothing that was promised depends on it."""

    path: Place | None = Field(default=None, description="The file. Without it, `store.db` beside the spool.")
    entries: Count = Field(
        default=200_000, description="How many entries there may be. Of more, what would expire first goes."
    )
    size: Size = Field(default=128 * MIB, description="How much memory they may take, about; the same goes.")


class ContentSettings(Section):
    mixed: Literal["split", "hold", "reject-all"] = Field(
        default="split",
        description="Where the recipients of one message have different policies about its content. `split`: the "
        "client sends them apart. `hold`: it is taken, and the copies of those who refuse it wait for the operator. "
        "`reject-all`: if one refuses it, all do.",
    )


class ControlSettings(Section):
    """Where `relayctl` finds the running relay."""

    socket: Place = Field(default=Path("var/control.sock"), description="A Unix socket.")


class ProcessSettings(Section):
    """Who the relay is, once it listens, and when it gives up."""

    workers: Workers = Field(
        default=1,
        description='Processes that do the work, for machines with many cores. `"auto"`: one for each processor that '
        "the relay may use.",
    )

    user: Word | None = Field(default=None, description="The user it becomes if root has started it.")
    group: Word | None = Field(
        default=None, description="The group it becomes if root has started it; else that user's."
    )
    stall_limit: TimeoutOrNever = Field(
        default=60,
        description="When the reactor has stood still for so long, since a policy computes or blocks, the process ends "
        "with status 70 for its supervisor to start it again. `0`: it never does.",
    )


class CertificateSettings(Section):
    """The certificates of listeners with TLS that have none of their own."""

    certificates: tuple[Place, ...] = Field(
        default=(),
        description="Files or folders: PEM, each certificate with its key. A client that names a host sees the one "
        "for that name, any other client the first. Without them the relay makes one itself.",
    )
    own: Place = Field(
        default=Path("var/tls"), description="A folder, for the certificate that the relay makes itself."
    )


_LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


class Settings(Section):
    """All that a configuration file says."""

    hostname: HostName | None = Field(
        default=None, description="The relay's name in greetings and trace fields. Without it, the machine's name."
    )
    greeting: Line = Field(default="ESMTP relay", description="What follows the host name in the greeting.")
    open_relay: Literal["I mean it"] | None = Field(
        default=None,
        description="Says that strangers may send mail to strangers by this relay. Without it, a configuration that "
        "lets them does not run.",
    )
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
    history: HistorySettings = Field(
        default=HistorySettings(), description="What happened to messages and refusals, for people to ask."
    )
    suppression: SuppressionSettings = Field(
        default=SuppressionSettings(), description="Whether addresses that have failed for good are refused."
    )
    store: StoreSettings = Field(default=StoreSettings(), description="What policies keep themselves.")
    content: ContentSettings = Field(
        default=ContentSettings(), description="What becomes of a message about which policies differ."
    )
    control: ControlSettings = Field(default=ControlSettings(), description="Where `relayctl` finds the running relay.")
    metrics: MetricsSettings = Field(
        default=MetricsSettings(), description="A page of numbers about the relay, for Prometheus."
    )
    process: ProcessSettings = Field(
        default=ProcessSettings(), description="Who the relay is, once it listens, and when it gives up."
    )
    limits: Limits = Field(default=Limits(), description="What a client may ask of the relay.")
    delivery: DeliverySettings = Field(default=DeliverySettings(), description="How mail is carried onward.")
    tls: CertificateSettings = Field(
        default=CertificateSettings(), description="The certificates of listeners with TLS that have none of their own."
    )
    auth: AuthSettings = Field(default=AuthSettings(), description="Who knows the users of listeners with TLS.")
    listener: tuple[ListenerSettings, ...] = Field(default=(), description="The places where mail comes in.")
    login: Annotated[tuple[LoginSettings, ...], AfterValidator(different)] = Field(
        default=(), description="Who the relay is at hosts that want to know, for `login` of policies."
    )
    table: Annotated[tuple[TableSettings, ...], AfterValidator(distinct)] = Field(
        default=(), description="Look-up tables in files, for `table` of policies."
    )
    policy: tuple[PolicySettings, ...] = Field(
        default=(),
        description="The policies, in the order in which they are asked. The first that does not abstain decides; "
        "if all abstain the answer is 550 5.7.1.",
    )

    #: Where each key stands, for problems that are found later: that is not part of what the file says.
    _lines: Lines = PrivateAttr(default_factory=Lines)

    def standing(self, lines: Lines) -> Self:
        """The same settings, of a text with these lines."""
        copy = self.model_copy()
        copy._lines = lines
        return copy

    def problem(self, file: str, path: KeyPath, text: str) -> Problem:
        """What is wrong with the key at `path`, for a `ConfigurationError`. `file` is the name for the operator."""
        return Problem(file, self._lines.line(path), spelled(path), text)
