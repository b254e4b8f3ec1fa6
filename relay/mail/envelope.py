"""The envelope: who sends, how, and what the transport must be able to carry."""

from __future__ import annotations

from enum import Enum

from attrs import frozen

from relay.mail.address import Address


class Body(Enum):
    """The BODY parameter of MAIL (RFC 6152, RFC 3030): what octets the client says the content has."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT = "8BITMIME"
    BINARY = "BINARYMIME"


class Form(Enum):
    """How a message's content is kept. Only `relay.smtp.octets` converts one form into the other."""

    #: As DATA carries it: each line that begins with a dot has one more, and `.` CRLF ends it.
    WIRE = "wire"
    #: The octets of the message and nothing else.
    PLAIN = "plain"


@frozen
class Client:
    """The SMTP client of a session, as far as it is known by now: what policies and trace fields see."""

    #: Its IP address as text, or `None` where there is none: a Unix socket.
    address: str | None
    port: int = 0
    #: The argument of HELO, EHLO or LHLO as it was given, or "" before it.
    helo: str = ""
    #: Whether it said EHLO (or LHLO).
    extended: bool = False
    #: The name of the listener in the configuration.
    listener: str = ""
    #: Whom it has proved to be (RFC 4954), or `None`.
    user: str | None = None


#: Who sends the notices that we make ourselves: this machine, so that what relays for it carries them too.
OURSELVES = Client(address="127.0.0.1", listener="ourselves")


@frozen
class Envelope:
    """
    What MAIL said, and of whom (RFC 5321 section 2.3.1). Recipients stand beside it, one by one.

    The client is part of it because the trace field, the mail log and later questions to
    policies need it for as long as the message is kept.
    """

    #: `None` is the null reverse-path `<>`: nobody is ever told of a failure (RFC 5321 section 4.5.5).
    reverse_path: Address | None
    body: Body = Body.SEVEN_BIT
    #: The client asked for internationalized mail (RFC 6531): each next hop must offer SMTPUTF8.
    smtputf8: bool = False
    client: Client = OURSELVES
