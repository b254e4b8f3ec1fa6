"""`[limits]`: what a client may ask of us, and how long we wait. Each row says what is answered over it."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from relay.config.fields import Count, Section
from relay.config.units import DAY, KIB, MIB, MINUTE, Duration, Size, Timeout, at_least, at_most


class Limits(Section):
    """
    The limits of sessions and of all of them together.

    The lengths of a local part, a domain and a path (64, 255 and 256 octets, RFC 5321 section 4.5.3.1) are part of
    the grammar and no settings; see `relay.mail.address`.
    """

    # One line, one message.
    command_line: Annotated[Size, at_least(512)] = Field(
        default=2 * KIB, description="A command's line, in octets with its CRLF. Over it 500 5.5.2 once, then 421."
    )
    content_line: Annotated[Size, at_least(1000)] = Field(
        default=64 * KIB, description="A line of content. Over it 554 5.6.0; up to it lines are passed on as they came."
    )
    recipients: int = Field(
        default=1000,
        ge=100,
        le=1_000_000,
        strict=True,
        description="Recipients of one transaction, never fewer than 100 (RFC 5321). Over it 452 4.5.3.",
    )
    message: Annotated[Size, at_least(64 * KIB)] = Field(
        default=25 * MIB, description="The size of a message, announced by SIZE. Over it 552 5.3.4."
    )
    header: Annotated[Size, at_least(KIB)] = Field(default=256 * KIB, description="The header section. Over it 552.")
    header_field: Annotated[Size, at_least(1000)] = Field(
        default=64 * KIB, description="One field of the header section. Over it 552."
    )
    header_fields: Count = Field(default=2000, description="Fields of the header section. Over it 552.")
    hops: Count = Field(
        default=100,
        description="Received fields of a message; with more of them it runs in circles. Over it 554 5.4.6.",
    )

    # The time a session may take.
    idle: Timeout = Field(default=5 * MINUTE, description="How long a client may say nothing. Over it 421 4.4.2.")
    idle_stressed: Timeout = Field(default=30, description="The same while the relay is under stress.")
    handshake: Timeout = Field(
        default=30, description="How long a client may take for the handshake of TLS. Over it the connection is closed."
    )
    progress: Count = Field(
        default=500,
        description="Octets of content a second that a client has to reach, under stress or from half of "
        "`connections` on. Under it 421.",
    )
    progress_window: Timeout = Field(default=MINUTE, description="The time over which `progress` is measured.")
    content_time: Timeout = Field(
        default=30 * MINUTE, description="All the time that one content may take. Over it 421."
    )
    final_reply: Annotated[Duration, at_most(10 * MINUTE)] = Field(
        default=5 * MINUTE,
        description="How long the relay may take itself to answer the end of content; a client waits for ten "
        "minutes (RFC 5321). Over it the connection is closed without a reply, since the message may be kept yet.",
    )
    policies_at_command: Timeout = Field(
        default=30, description="How long all policies together may think about a command. Over it 451."
    )

    # What a session may do.
    errors_slow: Count = Field(default=10, description="Errors of a session from which on replies come slower.")
    errors: Count = Field(default=20, description="Errors of a session. Over it 421.")
    errors_stressed: Count = Field(default=5, description="The same while the relay is under stress, if that is fewer.")
    idle_commands: Count = Field(
        default=100,
        description="NOOP, RSET, VRFY and EHLO since the last accepted message, unless trusted. Over it 421.",
    )
    idle_commands_stressed: Count = Field(
        default=10, description="The same while the relay is under stress, if that is fewer."
    )
    messages: Count = Field(default=1000, description="Messages of one connection, unless trusted. Over it 421.")

    chunks: Count = Field(default=4096, description="BDAT chunks of one message. Over it 552 5.3.4.")

    # Who clients say they are.
    auth_failures: Count = Field(default=3, description="Failures of AUTH in a session. At so many 421 4.7.0.")
    auth_failures_per_address: Count = Field(
        default=10,
        description="Failures of AUTH from an address (of IPv6: a network of 64 bits) in `auth_window`. From so many "
        "on 421 4.7.0.",
    )
    auth_window: Timeout = Field(
        default=10 * MINUTE, description="How long a failure of AUTH counts against its address."
    )
    auth_line: Annotated[Size, at_least(2 * KIB)] = Field(
        default=12 * KIB, description="A line of AUTH, in octets with its CRLF (RFC 4954). Over it 500 5.5.6."
    )

    # Connections.
    connections: Count = Field(default=2000, description="Connections in all. Over it 421 4.7.0.")
    connections_per_address: Count = Field(
        default=50, description="Connections of one address at once, unless trusted. Over it 421 4.7.0."
    )
    connections_per_minute: Count = Field(
        default=60, description="New connections of one address in a minute, unless trusted. Over it 421 4.7.0."
    )
    backlog: int = Field(
        default=1024, ge=1, le=65535, strict=True, description="Connections that may wait until they are accepted."
    )

    # What a client may ask for.
    hold: Duration = Field(
        default=7 * DAY,
        description="How long a client may have its message wait before it is sent (FUTURERELEASE). Over it 501 5.5.4.",
    )

    # Memory.
    input_ahead: Annotated[Size, at_least(4 * KIB)] = Field(
        default=64 * KIB, description="What a client may send before it is answered. Over it reading pauses."
    )
    unread_replies: Annotated[Size, at_least(4 * KIB)] = Field(
        default=64 * KIB, description="Replies that a client has not read. Over it reading pauses, for `unread_time`."
    )
    unread_time: Timeout = Field(
        default=MINUTE,
        description="How long replies above `unread_replies` may stay unread; then the connection is closed.",
    )
    memory: Size = Field(
        default=64 * MIB,
        description="Content in memory, of all sessions together. Over it content goes straight to files.",
    )
    waiting_commits: Count = Field(
        default=200, description="Messages that wait for the spool to keep them. Over it reading pauses."
    )

    @model_validator(mode="after")
    def _slow_before_closed(self) -> Self:
        if self.errors_slow > self.errors:
            raise ValueError("'errors_slow' should not be more than 'errors'")
        return self
