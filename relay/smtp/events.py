"""
What a server session hears, as values.

Everything but `Content` is a question: it waits for exactly one reply, and the reply moves the state.
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import frozen

from relay.mail.address import Address
from relay.mail.envelope import Body, Form
from relay.mail.reply import Reply


@frozen
class Connected:
    """The client has connected and waits for the greeting (RFC 5321 section 3.1)."""


@frozen
class Hello:
    """HELO or EHLO (RFC 5321 section 4.1.1.1)."""

    extended: bool
    #: A domain or an address literal, as it was given; it is never evidence of anything.
    name: str


@frozen
class Mail:
    """MAIL, with its parameters understood (RFC 5321 section 4.1.1.2)."""

    reverse_path: Address | None
    #: The SIZE parameter (RFC 1870), or `None` if the client did not say.
    size: int | None = None
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    #: The path was not written in ASCII, be it only its domain: that needs SMTPUTF8 (RFC 6531 section 3.4).
    international: bool = False


@frozen
class Rcpt:
    """RCPT (RFC 5321 section 4.1.1.3)."""

    recipient: Address
    #: As in `Mail`.
    international: bool = False


@frozen
class Data:
    """DATA: may content be sent? A reply of 354 says yes (RFC 5321 section 4.1.1.4)."""


@frozen
class Content:
    """
    A piece of the content, as it arrived: not a question.

    In wire form (DATA) the pieces joined are the whole content with its terminator, and every line ends with CRLF. In
    plain form (BDAT) they are the message.
    """

    octets: bytes
    form: Form = Form.WIRE


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


@frozen
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


@frozen
class Verify:
    """VRFY (RFC 5321 section 4.1.1.6)."""

    text: str


@frozen
class Quit:
    """QUIT (RFC 5321 section 4.1.1.10)."""


@frozen
class Misspoken:
    """The session knows the answer itself: unknown, malformed, out of order, or over a limit."""

    reply: Reply


Question: TypeAlias = (
    Connected | Hello | Mail | Rcpt | Data | ChunkEnded | ContentEnded | Reset | Noop | Help | Verify | Quit | Misspoken
)
Event: TypeAlias = Question | Content
