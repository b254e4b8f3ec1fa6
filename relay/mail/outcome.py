"""
Facts and outcomes: what an agent met when it carried a recipient's copy, and what that means.

An agent only ever reports facts. What a fact means for the recipient (try again, give up, done) is
decided in one place, `relay.delivery.trouble`, and is then an outcome.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, TypeAlias

from attrs import field, frozen

from relay.mail.reply import Reply
from relay.mail.value import value

#: RFC 3463 section 2, of what was not carried.
_STATUS: Final = re.compile(r"[45]\.[0-9]{1,3}\.[0-9]{1,3}")


class Phase(Enum):
    """Where in an attempt something happened."""

    RESOLVE = "looking up the next hop"
    CONNECT = "connecting"
    GREETING = "the greeting"
    HELLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    CONTENT = "sending the content"
    END = "the end of the content"
    #: Behind the content, about one recipient: only LMTP speaks so (RFC 2033 section 4.2).
    COPY = "the end of the content, for this recipient"
    LOCAL = "local delivery"


class Breakage(Enum):
    """How a conversation ended without an answer."""

    REFUSED = "connection refused"
    UNREACHABLE = "no way to the host"
    #: Our own machine did not let us: the address to connect from is not one of its own, or there are no descriptors.
    NO_SOCKET = "this relay could not open a connection"
    TIMEOUT = "timed out"
    LOST = "connection lost"
    #: The peer does not speak SMTP as RFC 5321 has it, or says more than we read.
    NONSENSE = "protocol violation"


class NameTrouble(Enum):
    """Why no host could be found for a destination (RFC 5321 section 5.1, RFC 7505)."""

    NO_SUCH_DOMAIN = "the domain does not exist"
    NO_ADDRESS = "no host with an address"
    NULL_MX = "the domain takes no mail (null MX)"
    #: SERVFAIL, a timeout, a refusal, an answer that is no answer: never "no MX, so use A".
    UNANSWERED = "the name servers did not answer"
    #: The best exchanger is this relay.
    LOOP = "mail for the domain loops back to this host"
    #: Every address is one that we do not connect to (loopback, private) unless told so.
    FORBIDDEN = "all addresses of the domain are loopback or private"


class Need(Enum):
    """What a next hop lacks for this message (RFC 6531, RFC 6152, RFC 1870, RFC 3030, RFC 8689, RFC 2852)."""

    SMTPUTF8 = "SMTPUTF8"
    EIGHT_BIT = "8BITMIME"
    SIZE = "SIZE"
    BINARY = "BINARYMIME"
    REQUIRE_TLS = "REQUIRETLS"
    DELIVER_BY = "DELIVERBY"


class TlsTrouble(Enum):
    """Why a conversation that had to be encrypted was not (RFC 3207)."""

    NOT_OFFERED = "the server does not offer STARTTLS"
    REFUSED = "STARTTLS was refused"
    FAILED = "the TLS handshake failed"


@frozen
class Peer:
    """The host at the other end: its name as we looked it up, and the address we spoke to."""

    name: str
    address: str = ""
    port: int = 25
    #: That this is the host for the mail is certain: the operator has named it, or a validated answer of the DNS. Of
    #: others a certificate proves that they are who the DNS says, and not that it speaks the truth.
    assured: bool = False

    def __str__(self) -> str:
        return f"{self.name}[{self.address}]:{self.port}" if self.address else self.name


@value
class Carried:
    """The copy is out of our hands. `onward`: another server has promised to go on with it."""

    onward: bool
    #: What took it: a peer, a folder.
    by: str
    #: What it said, for the log and the trace.
    text: str = ""
    #: The other server has taken over the duty of telling the sender (it offers DSN, RFC 3461). If it has not, somebody
    #: who wants to hear of success hears from us that it was relayed.
    told: bool = False
    #: How the connection to the other server was encrypted: `TLSv1.3:TLS_AES_256_GCM_SHA384:verified`; "": not at all.
    tls: str = ""
    #: The other server keeps the deadline of DELIVERBY, if there is one (RFC 2852).
    timed: bool = False


@frozen
class Answered:
    """The peer refused, with a reply (4yz or 5yz) to `phase`."""

    reply: Reply
    phase: Phase
    peer: Peer


@frozen
class Broke:
    """The conversation ended at `phase` before the peer answered."""

    breakage: Breakage
    phase: Phase
    peer: Peer
    text: str = ""


@frozen
class Unencrypted:
    """The peer cannot be given anything, since it would be in clear. It was told nothing but QUIT."""

    trouble: TlsTrouble
    peer: Peer
    #: What the peer said, or what is wrong with its certificate.
    text: str = ""


@frozen
class Unauthenticated:
    """We could not even try to log in, or do not believe that we have: `text` says why, in words for the operator."""

    peer: Peer
    text: str


@frozen
class Unresolved:
    """There was nobody to connect to."""

    trouble: NameTrouble
    domain: str
    text: str = ""


@frozen
class Unsuitable:
    """The peer cannot be given this message at all: it does not offer what the message needs."""

    need: Need
    peer: Peer


@frozen
class Unwritten:
    """
    A local agent could not write. `errno_name` is `ENOSPC`, `EACCES` and so on, or "" where there is none.

    `permanent` is what the agent knows for certain (the mailbox is gone); everything else is tried again.
    """

    what: str
    #: For the log: it may say how we are built.
    text: str
    errno_name: str = ""
    permanent: bool = False
    #: What the agent knows better than the table of troubles: 5.y.z (RFC 3463) if it is permanent, and 4.y.z if it is
    #: not. One of the other class says nothing.
    status: str = field(default="")
    #: Why, in words for the sender, where the table's would not do.
    because: str = ""

    @status.validator
    def _is_of_trouble(self, _attribute: object, status: str) -> None:
        if status and not _STATUS.fullmatch(status):
            raise ValueError(f"{status!r} is no status of mail that was not delivered")


@frozen
class Misbehaved:
    """Our own fault: the agent raised. The traceback is in the log, and nobody else is told."""

    agent: str


@frozen
class RefusedByPolicy:
    """
    Policy refuses the copy after it was accepted: one of several (an alias), or this attempt. For now or for good, as
    the reply says.
    """

    reply: Reply
    #: Why, in words for the operator, or "".
    because: str = ""


Fact: TypeAlias = (
    Carried
    | Answered
    | Broke
    | Unencrypted
    | Unauthenticated
    | Unresolved
    | Unsuitable
    | Unwritten
    | Misbehaved
    | RefusedByPolicy
)


@value
class Delivered:
    """In a mailbox of ours (RFC 3464 section 2.3.3, `delivered`)."""

    by: str
    text: str = ""
    #: As in `Carried`: where an LMTP server has delivered it.
    tls: str = ""


@value
class Relayed:
    """Another server has taken it on (RFC 3464 section 2.3.3, `relayed`)."""

    by: str
    text: str = ""
    #: It has also taken over the duty of telling the sender (RFC 3461 section 5.2.2).
    told: bool = False
    #: As in `Carried`.
    tls: str = ""
    timed: bool = False


@frozen
class Delayed:
    """Not now: it will be tried again. `status` is 4.y.z (RFC 3463)."""

    status: str
    because: str
    #: What the peer said, word for word, or "".
    diagnostic: str = ""
    peer: str = ""


@frozen
class Failed:
    """Never: the sender is to be told. `status` is 5.y.z, or 4.y.z where patience ended (RFC 3463)."""

    status: str
    because: str
    diagnostic: str = ""
    peer: str = ""


Outcome: TypeAlias = Delivered | Relayed | Delayed | Failed
