"""What the client's side of the dialogue is asked to do, and what it says has happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from attrs import define, frozen

from relay.mail.address import Address
from relay.mail.dsn import Return, Wishes
from relay.mail.envelope import ByMode
from relay.mail.outcome import Answered, Broke, Fact, Unauthenticated, Unencrypted
from relay.mail.routing import TlsLevel
from relay.smtp.features import Features
from relay.smtp.sasl_client import Login


@frozen
class Approach:
    """How a server is met, before any transaction: what has to come true until one may begin."""

    #: LHLO is said, and each recipient is answered behind the content (RFC 2033).
    lmtp: bool = False
    #: `none`: STARTTLS is not said. `may`: where it is offered, and not taken back. `encrypt`, `verify`: or nothing.
    tls: TlsLevel = "none"
    #: Who we are there. It is said on a channel that is verified TLS, and on no other.
    login: Login | None = None
    #: Makes text that nobody can guess, for a login by SCRAM: printable ASCII without a comma.
    nonce: Callable[[], str] | None = None
    #: Extensions that are not used even where they are offered, by their keywords.
    without: frozenset[str] = frozenset()


#: In clear, and without saying who we are.
PLAINLY = Approach()


@frozen
class By:
    """BY, as it is now (RFC 2852): seconds that are left, fewer than none for `ByMode.NOTIFY` where it is late."""

    seconds: int
    mode: ByMode
    trace: bool = False


@define
class Transaction:
    """
    One message for some recipients, as far as the dialogue must know it. Nobody changes it once it is made.

    Three things about the content are for the caller to find out, since they take reading it:

    `eight_bit`: it must go to a server with 8BITMIME. True for content that was declared to be 8BITMIME and has
    octets above 127; false for a declaration that the content does not bear out, and for content that nobody declared:
    that is sent as it came, since relays everywhere do so, and refusing it would lose mail that arrives today. What
    was declared and is true is never sent where it was not offered, since we do not convert it (RFC 6152 section 3).

    `binary`: the same of BINARYMIME (RFC 3030 section 3): it has lines that DATA cannot carry, or octets that are in
    no line.

    `international`: its client asked for SMTPUTF8, and its header section is not ASCII (RFC 6531 section 3.4). That
    an address is not ASCII the session sees by itself.

    Two are the caller's choice: `recipients` are as many as the server's LIMITS permit (`relay.smtp.limits`), and the
    content of a `chunked` one comes in chunks (`relay.smtp.outgoing.chunks`), for BDAT: to a server with CHUNKING.
    """

    reverse_path: Address | None
    recipients: tuple[Address, ...]
    #: Octets of the message in plain form, head included (RFC 1870 section 5); 0: not known.
    size: int = 0
    eight_bit: bool = False
    international: bool = False
    binary: bool = False
    chunked: bool = False
    #: What the sender wants to be told of each recipient, in the order of `recipients`; empty: nothing of any.
    wishes: tuple[Wishes, ...] = ()
    returns: Return | None = None
    #: In xtext.
    envid: str = ""
    #: To a server that is known by its certificate and offers REQUIRETLS, and to no other (RFC 8689).
    require_tls: bool = False
    #: MT-PRIORITY (RFC 6710).
    priority: int | None = None
    by: By | None = None


# Events: what the caller has to know or to do.


@frozen
class StartTls:
    """220 to STARTTLS: shake hands now, then call `secured`; or `break_off`, if it fails."""


@frozen
class Ready:
    """The server has said who it is and what it offers: a transaction may begin."""

    features: Features


#: Why no transaction could begin.
Refusal: TypeAlias = Answered | Broke | Unencrypted | Unauthenticated


@frozen
class TurnedAway:
    """It did not come to a transaction, and on this connection it never will: the same fact for everybody."""

    fact: Refusal


@frozen
class Proceed:
    """
    Send the content: all of it with its terminator behind a 354, or in chunks. For each piece but the last
    `piece_sent` is called, then `content_sent`; no more of it when `wants_content` is false.
    """


#: There is one for all.
PROCEED: Final = Proceed()


@define
class Settled:
    """The oldest transaction is over: a fact for each of its recipients, in their order. Nobody changes it."""

    facts: tuple[Fact, ...]


@frozen
class Over:
    """The conversation is over: close the connection. Unless `politely`, what was not sent yet is of no use."""

    politely: bool


Event: TypeAlias = StartTls | Ready | TurnedAway | Proceed | Settled | Over
