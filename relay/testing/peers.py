"""
Mail exchangers that are not there: strict, small, and as wicked as a test wants them.

Whoever talks to a `FakeExchange` and leaves no `complaints` has kept the RFCs as somebody else reads them; see
`relay.testing.strict`. What can go wrong is in `relay.testing.wicked`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory, Protocol

from relay.mail.tls import TlsFacts
from relay.testing.strict import Conversation, Message
from relay.testing.wicked import Babble, Drop, Fault, Moment, Reset, Say, Slow, Stall

__all__ = [
    "MECHANISMS",
    "OFFERS",
    "Babble",
    "Drop",
    "FakeExchange",
    "Fault",
    "Message",
    "Moment",
    "Reset",
    "Say",
    "Slow",
    "Stall",
]

OFFERS = ("PIPELINING", "SIZE 26214400", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
MECHANISMS = ("PLAIN", "LOGIN", "SCRAM-SHA-256")


@define
class _Planned:
    moment: Moment
    fault: Fault
    number: int | None
    times: int | None
    about: str


class FakeExchange(Factory):
    """
    A mail exchanger, to be added to a `FakeInternet` (or to be listened with by a reactor, on loopback).

    It takes what it is sent, unless `at` says otherwise. One exchange may have any number of connections.
    """

    noisy = False

    def __init__(
        self,
        name: str = "mx.example.org",
        *,
        offers: Sequence[str] = OFFERS,
        extended: bool = True,
        lmtp: bool = False,
        tls: Any = None,
        implicit: bool = False,
        users: Mapping[str, str] | None = None,
        mechanisms: Sequence[str] = MECHANISMS,
        auth_required: bool = False,
        clock: IReactorTime | None = None,
    ) -> None:
        """
        `offers`: the lines of its answer to EHLO. What is among them is obeyed: `CHUNKING`, `BINARYMIME`, `DSN`,
        `REQUIRETLS` (offered in TLS only), `LIMITS RCPTMAX=2 MAILMAX=3 RCPTDOMAINMAX=1`, `DELIVERBY`, `MT-PRIORITY`.

        `tls`: it offers STARTTLS, and this is its server's side (a `ServerTls`, a `CertificateOptions`); `implicit`:
        TLS begins with the connection. `users`: it offers AUTH to those, each with a password (or a token, for
        XOAUTH2), by these `mechanisms`; in TLS only, if it has any. `SCRAM-SHA-256-PLUS` and `XOAUTH2` are known, too.
        `auth_required`: MAIL has 530 without.

        `lmtp`: it speaks LMTP. `extended`: false for one that knows HELO only. `Slow` needs a `clock`.
        """
        self.name = name
        self.offers = tuple(offers)
        self.extended = extended
        self.lmtp = lmtp
        self.tls = tls
        self.implicit = implicit
        self.users: Mapping[str, str] = users or {}
        self.mechanisms = tuple(mechanisms)
        self.auth_required = auth_required
        self.clock = clock
        self._plan: list[_Planned] = []
        #: What it has said a positive reply to, oldest first.
        self.messages: list[Message] = []
        #: What it has received whole, and refused or left without a reply.
        self.unpromised: list[Message] = []
        #: What clients have done that no client may do.
        self.complaints: list[str] = []
        #: Everything that was said: `"C"` or `"S"`, and the octets as they came or went, segment by segment.
        self.transcript: list[tuple[str, bytes]] = []
        #: What is known of each connection whose handshake was completed.
        self.handshakes: list[TlsFacts] = []
        #: How many connections were made, and how many there are now.
        self.connections = 0
        self.open = 0

    def at(
        self, moment: Moment, fault: Fault, *, number: int | None = None, times: int | None = None, about: str = ""
    ) -> FakeExchange:
        """
        Plan a fault. Of several that fit, the one planned first happens.

        `number`: only the so-manieth such moment of a connection, from 1 (2 of RCPT: the second recipient).
        `times`: only so often in all; after that the exchange is well again. `about`: only if the command has this
        text in it (an address; for `END` by LMTP the recipient, and for `AUTH` the user).
        """
        self._plan.append(_Planned(moment, fault, number, times, about))
        return self

    def fault_at(self, moment: Moment, number: int, command: str) -> Fault | None:
        """What was planned for this moment; asked once for each."""
        for planned in self._plan:
            fits = planned.moment == moment and planned.number in (None, number) and planned.about in command
            if fits and planned.times != 0:
                if planned.times is not None:
                    planned.times -= 1
                return planned.fault
        return None

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        self.connections += 1
        return Conversation(self)
