"""`[[listener]]`: a place where mail comes in, and what is offered there."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from relay.config.addresses import Systemd, Unix, is_local
from relay.config.fields import Line, Listening, Network, Place, Section, Word, Yes
from relay.config.units import MINUTE, Duration, at_most

Protocol = Literal["smtp", "submission", "lmtp"]
Tls = Literal["none", "offer", "require", "implicit"]
TlsVersion = Literal["1.2", "1.3"]
Newlines = Literal["strict", "lenient"]
EarlyTalkers = Literal["refuse", "accept"]
Verify = Literal["nothing", "authenticated"]
#: The keywords of EHLO that a listener may keep to itself. STARTTLS is none of them: that is what `tls` says.
Keyword = Literal[
    "PIPELINING",
    "SIZE",
    "8BITMIME",
    "ENHANCEDSTATUSCODES",
    "SMTPUTF8",
    "CHUNKING",
    "HELP",
    "DSN",
    "AUTH",
    "REQUIRETLS",
    "LIMITS",
    "DELIVERBY",
    "MT-PRIORITY",
    "FUTURERELEASE",
    "PRDR",
    "ETRN",
    "VRFY",
]
#: Those that it keeps to itself unless it is asked for them.
Extra = Literal["BINARYMIME"]


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
    protocol: Protocol = Field(
        default="smtp",
        description="What is spoken there. `smtp`: with other servers. `submission`: with people's mail programs, who "
        "have to say who they are (RFC 6409). `lmtp`: with programs that want a reply for each recipient (RFC 2033).",
    )
    tls: Tls = Field(
        default="none",
        description="Encryption. `offer`: STARTTLS. `require`: the same, and nothing else is done before it. "
        "`implicit`: from the first octet on, as on port 465.",
    )
    certificates: tuple[Place, ...] = Field(
        default=(),
        description="Files or folders of the certificates that are shown here. Without them, those of `[tls]`.",
    )
    minimum_tls: TlsVersion = Field(default="1.2", description="The oldest version of TLS that is spoken.")
    ciphers: Line | None = Field(
        default=None,
        description="Ciphers for TLS 1.2, as OpenSSL writes them. Without it, Mozilla's intermediate list but for DHE.",
    )
    client_authorities: Place | None = Field(
        default=None,
        description="A file with authorities. Clients are asked for a certificate, and believed if one of these has "
        "signed it. Without it nobody is asked.",
    )
    newlines: Newlines = Field(
        default="strict",
        description="`strict`: only CRLF ends a line. `lenient`: LF does too in a session whose first line ends so, "
        "as a person at netcat types it; only for loopback and Unix sockets.",
    )
    early_talkers: EarlyTalkers = Field(
        default="refuse",
        description="Strangers that speak before the greeting, or send content before 354, where `protocol` is "
        "`smtp`. `refuse`: 554, and the connection is closed.",
    )
    greeting_delay: Annotated[Duration, at_most(MINUTE)] | None = Field(
        default=None,
        description="How long clients that are not trusted wait for the greeting; without it, not at all. Programs "
        "that send spam tend not to wait, and are found by it (`early_talkers`).",
    )
    proxy: tuple[Network, ...] = Field(
        default=(),
        description="Networks of proxies, from which each connection begins with a header of the PROXY protocol "
        "(version 1 or 2) that names the client. From elsewhere clients connect themselves.",
    )
    xclient: tuple[Network, ...] = Field(
        default=(),
        description="Networks of clients that may say on whose behalf they speak (XCLIENT), and are believed.",
    )
    local_users: Yes = Field(
        default=False,
        description="Whether programs that connect to this Unix socket are taken for the users that run them, as the "
        "kernel says: they count as authenticated.",
    )
    verify: Verify = Field(
        default="nothing",
        description="What VRFY tells. `nothing`: 252, to everyone. `authenticated`: the truth, to clients that have "
        "said who they are.",
    )
    expand: Yes = Field(
        default=False, description="Whether EXPN tells such clients whom an alias stands for. Otherwise 502."
    )
    without: tuple[Keyword, ...] = Field(
        default=(),
        description='Extensions that are not offered here, by their keywords: `["CHUNKING"]`, `["SMTPUTF8"]`.',
    )
    also: tuple[Extra, ...] = Field(
        default=(),
        description='Extensions that are offered only where one asks for them: `["BINARYMIME"]`, since few next hops '
        "take such mail.",
    )

    @field_validator("newlines")
    @classmethod
    def _lenient_only_at_home(cls, newlines: Newlines, info: ValidationInfo) -> Newlines:
        # Two readings of where a message ends are a way to smuggle one past us, unless it is our own people who
        # type it.
        if newlines == "lenient" and "address" in info.data and not is_local(info.data["address"]):
            raise ValueError("'lenient' is for loopback addresses and Unix sockets only")
        return newlines

    @field_validator("local_users")
    @classmethod
    def _only_where_the_kernel_knows(cls, local_users: bool, info: ValidationInfo) -> bool:
        if local_users and not isinstance(info.data.get("address"), Unix | Systemd):
            raise ValueError("is for Unix sockets only")
        return local_users
