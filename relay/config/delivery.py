"""`[delivery]`: how mail is carried onward, and when it is tried again."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema, model_validator

from relay.config.fields import Count, Factor, Network, Place, Section
from relay.config.units import DAY, HOUR, MINUTE, Duration, Timeout, duration
from relay.mail.address import canonical_domain


def _destination(text: str) -> str:
    if text.startswith(("[", "lmtp:", "unix:")):
        if ";" in text:
            raise ValueError("should be what stands before the ';'")
        return _word(text)
    domain, colon, port = text.partition(":")
    return f"{canonical_domain(domain)}{colon}{port}"


def _word(text: str) -> str:
    if not text.isprintable() or " " in text:
        raise ValueError("should be one word")
    return text


def _rate(value: object) -> tuple[int, float]:
    count, slash, time = value.partition("/") if isinstance(value, str) else ("", "", "")
    if not slash or not count.strip().isdecimal() or not 0 < int(count) <= 1_000_000:
        raise ValueError("should be a number of messages in a time, such as '100/1m' or '5/1s'")
    return int(count), duration(time.strip())


#: So many in so many seconds.
RateText = Annotated[
    tuple[int, float],
    PlainValidator(_rate),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+/[0-9]+(\.[0-9]+)? ?[smhd]$"}),
]


class RetrySettings(Section):
    """When a copy that could not be delivered is tried again, and when no longer."""

    first: Timeout = Field(default=5 * MINUTE, description="The pause after the first attempt that failed.")
    factor: Factor = Field(default=2, ge=1, le=100, description="How much longer each pause is than the one before.")
    most: Duration = Field(default=4 * HOUR, description="The longest pause.")
    jitter: Factor = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="How far a pause may be off by chance, as a part of it: 0.2 is up to 20 % each way.",
    )
    give_up: Duration = Field(
        default=5 * DAY, description="The age at which a copy has failed, and its sender gets a notice."
    )
    give_up_notices: Duration = Field(default=2 * DAY, description="The same for a notice, which fails without one.")
    warn: Duration | None = Field(
        default=None,
        description="The age at which the sender of a copy that is still waiting gets a notice of the delay, once. "
        "Without it only those get one who ask for it (`NOTIFY=DELAY`), after 4 h.",
    )

    @model_validator(mode="after")
    def _longer_and_longer(self) -> Self:
        if self.first > self.most:
            raise ValueError("'first' should not be longer than 'most'")
        return self


class ConcurrencySettings(Section):
    """How much is under way at once."""

    first: Count = Field(
        default=2,
        description="Sessions with one destination in the beginning: more with each success, fewer by trouble.",
    )
    most: Count = Field(default=20, description="Sessions with one destination at most.")
    total: Count = Field(default=200, description="Sessions with all destinations together.")


class DestinationSettings(Section):
    """What one destination is sent."""

    name: Annotated[str, AfterValidator(_destination)] = Field(
        description="A domain, or a next hop as the mail log calls it in `destination`: `[smtp.example.net]:587`. "
        "It is meant whatever TLS and login are."
    )
    rate: RateText | None = Field(
        default=None,
        description="Messages in a time, as in `100/1m`; up to 50 recipients of one count once. A tenth of them may go "
        "at once.",
    )
    most: Count | None = Field(default=None, description="Sessions at most, instead of those of `concurrency`.")


class ConnectionSettings(Section):
    """Connections that have delivered and wait for the next message that goes the same way."""

    idle: Timeout = Field(default=5, description="How long a connection is kept for the next message.")
    most: int = Field(
        default=100,
        ge=0,
        le=10_000,
        strict=True,
        description="How many are kept in all, besides those at work; 0: a connection for each message.",
    )
    of_host: Count = Field(default=20, description="How many are kept for one host.")
    messages: Count = Field(default=1000, description="After so many messages a connection is closed.")
    lifetime: Timeout = Field(default=5 * MINUTE, description="After so long it is closed, too.")


class TlsSettings(Section):
    """Whose word counts for who a host is, where `tls = "verify"` of a policy wants it to be known."""

    authorities: Place | None = Field(
        default=None,
        description="A file of certificates (PEM) of authorities that are trusted. Without it, those of the system.",
    )


class TimeoutSettings(Section):
    """How long another server may take. Over each: the next host, or later (RFC 5321 section 4.5.3.2)."""

    connect: Timeout = Field(default=30, description="To accept a connection.")
    greeting: Timeout = Field(
        default=5 * MINUTE,
        description="To greet, to answer EHLO, STARTTLS, AUTH, RSET and QUIT, and to shake hands for TLS.",
    )
    mail: Timeout = Field(default=5 * MINUTE, description="To answer MAIL.")
    rcpt: Timeout = Field(default=5 * MINUTE, description="To answer RCPT.")
    data: Timeout = Field(default=2 * MINUTE, description="To answer DATA.")
    block: Timeout = Field(default=3 * MINUTE, description="To take a block of content.")
    end: Timeout = Field(default=10 * MINUTE, description="To answer the end of content.")


class DeliverySettings(Section):
    """How mail is carried onward."""

    allow_private: tuple[Network, ...] = Field(
        default=(),
        description="Networks to which mail is delivered although they are private, loopback or the relay's own. "
        "Without it a name in the DNS cannot make the relay connect there.",
    )
    addresses: Count = Field(
        default=5, description="Addresses of a domain that are tried in one attempt. Over it: later."
    )
    sessions: Count = Field(default=3, description="Sessions that are begun in one attempt. Over it: later.")
    retry: RetrySettings = Field(default=RetrySettings(), description="When a copy is tried again, and when no longer.")
    concurrency: ConcurrencySettings = Field(
        default=ConcurrencySettings(), description="How much is under way at once."
    )
    destination: tuple[DestinationSettings, ...] = Field(
        default=(), description="Destinations that want to be sent less than others, or may be sent more."
    )
    connections: ConnectionSettings = Field(
        default=ConnectionSettings(), description="How connections are kept for the next message."
    )
    timeouts: TimeoutSettings = Field(default=TimeoutSettings(), description="How long another server may take.")
    tls: TlsSettings = Field(default=TlsSettings(), description="Whose word counts for who a host is.")
