"""What the client's side of the dialogue is asked to do, and what it says has happened."""

from __future__ import annotations

from typing import TypeAlias

from attrs import frozen

from relay.mail.address import Address
from relay.mail.outcome import Answered, Broke, Fact
from relay.smtp.features import Features


@frozen
class Transaction:
    """
    One message for some recipients, as far as the dialogue must know it.

    Two things about the content are for the caller to find out, since they take reading it:

    `eight_bit`: it must go to a server with 8BITMIME. True for content that was declared to be 8BITMIME and has
    octets above 127; false for a declaration that the content does not bear out, and for content that nobody declared:
    that is sent as it came, since relays everywhere do so, and refusing it would lose mail that arrives today. What
    was declared and is true is never sent where it was not offered, since we do not convert it (RFC 6152 section 3).

    `international`: its client asked for SMTPUTF8, and its header section is not ASCII (RFC 6531 section 3.4). That
    an address is not ASCII the session sees by itself.
    """

    reverse_path: Address | None
    recipients: tuple[Address, ...]
    #: Octets of the message in plain form, head included (RFC 1870 section 5); 0: not known.
    size: int = 0
    eight_bit: bool = False
    international: bool = False


# Events: what the caller has to know or to do.


@frozen
class Ready:
    """The server has said who it is and what it offers: a transaction may begin."""

    features: Features


@frozen
class TurnedAway:
    """It did not come to a transaction, and on this connection it never will: the same fact for everybody."""

    fact: Answered | Broke


@frozen
class Proceed:
    """354: send the content, all of it with its terminator, then call `content_sent`."""


@frozen
class Settled:
    """The oldest transaction is over: a fact for each of its recipients, in their order."""

    facts: tuple[Fact, ...]


@frozen
class Over:
    """The conversation is over: close the connection. Unless `politely`, what was not sent yet is of no use."""

    politely: bool


Event: TypeAlias = Ready | TurnedAway | Proceed | Settled | Over
