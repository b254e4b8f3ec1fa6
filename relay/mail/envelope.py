"""The envelope: who sends, how, and what the transport must be able to carry."""

from __future__ import annotations

from enum import Enum

from attrs import frozen

from relay.mail.address import Address
from relay.mail.dsn import Return
from relay.mail.tls import TlsFacts


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
    #: How the connection is encrypted; `None`: it is not.
    tls: TlsFacts | None = None
    #: Whether it spoke LMTP (RFC 2033).
    lmtp: bool = False


#: Who sends the notices that we make ourselves: this machine, so that what relays for it carries them too.
OURSELVES = Client(address="127.0.0.1", listener="ourselves")


class ByMode(Enum):
    """What is to happen when a message was not delivered in time (RFC 2852 section 4)."""

    #: It has failed, and comes back.
    RETURN = "R"
    #: Its sender is told that it is late, and it is tried on.
    NOTIFY = "N"


@frozen
class DeliverBy:
    """The BY parameter of MAIL (RFC 2852)."""

    #: Seconds since the epoch, by the spool's clock (`IClock.now`); it may have passed for `NOTIFY`.
    until: float
    mode: ByMode
    #: The sender wants to hear of servers that do not know DELIVERBY.
    trace: bool = False


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
    #: RET and ENVID (RFC 3461): what a notice returns of the message, `None` where that was not said; and the sender's
    #: own name for the transaction, in xtext, or "".
    returns: Return | None = None
    envid: str = ""
    #: It must not travel in clear, nor to a server that does not promise the same (RFC 8689).
    require_tls: bool = False
    #: From -9 to 9 (RFC 6710); `None`: nothing was said, which counts as 0.
    priority: int | None = None
    deliver_by: DeliverBy | None = None
    #: Nothing is tried before this time (RFC 4865): seconds since the epoch, by the spool's clock.
    release: float | None = None
    #: The seconds of HOLDFOR, where the client has said that and no time: a notice repeats what was asked for.
    hold_for: int | None = None
