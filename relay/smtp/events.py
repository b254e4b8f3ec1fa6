"""
What a server session hears, as values.

Everything but `Content` is a question: it waits for exactly one reply, and the reply moves the state.
"""

from __future__ import annotations

from typing import TypeAlias, final

from attrs import field, frozen

from relay.mail.address import Address
from relay.mail.dsn import NO_WISHES, Return, Wishes
from relay.mail.envelope import Body, ByMode, Form
from relay.mail.reply import Reply
from relay.mail.value import value


@frozen
class Connected:
    """The client has connected and waits for the greeting (RFC 5321 section 3.1)."""


@frozen
class Hello:
    """HELO, EHLO (RFC 5321 section 4.1.1.1) or LHLO (RFC 2033)."""

    extended: bool
    #: A domain or an address literal, as it was given; it is never evidence of anything.
    name: str
    #: What is offered to this client now: the lines of the answer behind the first.
    keywords: tuple[str, ...] = ()


@frozen
class StartTls:
    """STARTTLS (RFC 3207). A reply of 220 says yes, and what comes then is a handshake."""


@frozen
class Auth:
    """AUTH (RFC 4954): 334 asks for a `Response`, 235 says that the client is who it says it is."""

    mechanism: str
    #: The initial response, decoded; `None` if there was none.
    initial: bytes | None = field(default=None, repr=False)


@frozen
class Response:
    """What the client answered to a 334, decoded."""

    octets: bytes = field(repr=False)


@frozen
class Cancelled:
    """
    The exchange ends before its verdict: the client said `*`, or what is no response. The reply says which, and
    whoever keeps the exchange forgets it.
    """

    reply: Reply


@frozen
class By:
    """The BY parameter of MAIL (RFC 2852): seconds from now, which may be over already for `ByMode.NOTIFY`."""

    seconds: int
    mode: ByMode
    trace: bool = False


@value
class Mail:
    """MAIL, with its parameters understood (RFC 5321 section 4.1.1.2)."""

    reverse_path: Address | None
    #: The SIZE parameter (RFC 1870), or `None` if the client did not say.
    size: int | None = None
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    #: The path was not written in ASCII, be it only its domain: that needs SMTPUTF8 (RFC 6531 section 3.4).
    international: bool = False
    #: RET and ENVID (RFC 3461), as `relay.mail.envelope.Envelope` has them.
    returns: Return | None = None
    envid: str = ""
    require_tls: bool = False
    #: MT-PRIORITY (RFC 6710).
    priority: int | None = None
    by: By | None = None
    #: HOLDFOR in seconds, or HOLDUNTIL in seconds since the epoch (RFC 4865); never both.
    hold_for: int | None = None
    hold_until: float | None = None
    #: The client understands a reply for each recipient behind the content (PRDR).
    prdr: bool = False


@value
class Rcpt:
    """RCPT (RFC 5321 section 4.1.1.3)."""

    recipient: Address
    #: As in `Mail`.
    international: bool = False
    wishes: Wishes = NO_WISHES


@frozen
class Data:
    """DATA: may content be sent? A reply of 354 says yes (RFC 5321 section 4.1.1.4)."""


@value
class Content:
    """
    A piece of the content, as it arrived: not a question.

    In wire form (DATA) the pieces joined are the whole content with its terminator, and every line ends with CRLF. In
    plain form (BDAT) they are the message.
    """

    octets: bytes
    form: Form = Form.WIRE


@final
@frozen
class Bdat:
    """BDAT (RFC 3030): a chunk of so many octets follows, whatever we think of it. `ChunkEnded` is the question."""

    size: int
    last: bool


@frozen
class ChunkEnded:
    """The end of a chunk that is not the last: go on? `fault` as in `ContentEnded`, of the content so far."""

    size: int
    fault: Reply | None = None


@value
class ContentEnded:
    """
    The end of content: accepted or not?

    `fault` is the answer where the content itself forbids acceptance (too large, a bare CR or LF, a line too
    long). What was handed out of such content must be forgotten.
    """

    #: Octets of the message in plain form.
    size: int
    fault: Reply | None = None


@frozen
class Reset:
    """RSET (RFC 5321 section 4.1.1.5)."""


@frozen
class Noop:
    """NOOP (RFC 5321 section 4.1.1.9)."""


@frozen
class Help:
    """HELP (RFC 5321 section 4.1.1.8), with its argument in upper case or ""."""

    topic: str = ""
    #: The commands that this listener has.
    commands: tuple[str, ...] = ()


@frozen
class Verify:
    """VRFY (RFC 5321 section 4.1.1.6)."""

    text: str


@frozen
class Expand:
    """EXPN (RFC 5321 section 4.1.1.7)."""

    text: str


@frozen
class TurnQueue:
    """ETRN (RFC 1985): try now what waits for a domain, or for it and all below it (`@`)."""

    domain: str
    below: bool = False


@frozen
class XClient:
    """
    XCLIENT: a host that we trust speaks for a client of its own. A reply of 220 is a new greeting, to that client.

    A value is `None` where the host knows that there is none, or cannot find out; names that were not said are
    not in it. Names are in upper case, values decoded from xtext.
    """

    attributes: tuple[tuple[str, str | None], ...]


@frozen
class Quit:
    """QUIT (RFC 5321 section 4.1.1.10)."""


@final
@frozen
class Misspoken:
    """The session knows the answer itself: unknown, malformed, out of order, or over a limit."""

    reply: Reply
    #: Nothing is read behind it.
    last: bool = False


Question: TypeAlias = (
    Connected
    | Hello
    | StartTls
    | Auth
    | Response
    | Cancelled
    | Mail
    | Rcpt
    | Data
    | ChunkEnded
    | ContentEnded
    | Reset
    | Noop
    | Help
    | Verify
    | Expand
    | TurnQueue
    | XClient
    | Quit
    | Misspoken
)


@final
@frozen
class Verdicts:
    """
    The answer to the end of content where recipients differ: one reply for each RCPT that was accepted, in their order.

    LMTP (RFC 2033) and PRDR say each of them; a client that knows neither hears `reply`.
    """

    each: tuple[Reply, ...]
    reply: Reply

    @property
    def code(self) -> int:
        """What moves the session's state."""
        return self.reply.code

    @property
    def wire(self) -> bytes:
        """For who knows of nothing else."""
        return self.reply.wire


Answer: TypeAlias = Reply | Verdicts
Event: TypeAlias = Question | Content
