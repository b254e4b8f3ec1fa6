"""What all visits to a listener share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from attrs import Factory, field, frozen
from twisted.logger import Logger

from relay.config.limits import Limits
from relay.interfaces import Deciding, IChain, IClock, IDispatch, IHistory, IScreening, ISpool, ITakesRows
from relay.mail.reply import Reply
from relay.mail.routing import Inquiry
from relay.reception.authentication import Users
from relay.reception.inspection import Bounds
from relay.reception.turnstile import Turnstile

#: See `Reception.mixed`.
Mixed: TypeAlias = Literal["split", "hold", "reject-all"]

#: RFC 5322 section 3.6.
_NEEDED: Final = (b"date", b"message-id")


@frozen
class Reception:
    """One listener's collaborators, and its manners."""

    #: In canonical form.
    hostname: str
    #: What follows the host name in the greeting.
    greeting: str
    limits: Limits
    chain: IChain
    spool: ISpool
    dispatch: IDispatch
    maillog: ITakesRows
    #: One for all listeners of a relay.
    turnstile: Turnstile
    clock: IClock
    #: Its name in the configuration.
    listener: str = ""
    #: Who may authenticate, if anybody may.
    users: Users | None = None
    #: People's mail programs come here: what their messages lack is added (RFC 6409 section 8).
    submission: bool = False
    #: LMTP is spoken here (RFC 2033).
    lmtp: bool = False
    #: VRFY has a real answer for clients that have authenticated.
    verifies: bool = False
    #: Policies about clients, senders and content; `None`: there are none.
    screening: IScreening | None = None
    #: Where recipients have different policies about content, or these say different things of them
    #: (docs/phases.md).
    mixed: Mixed = "split"
    #: Where it is kept how decisions came about; `None`: nowhere.
    history: IHistory | None = None
    #: Makes a reference for a refusal that can be asked about.
    refer: Callable[[], str] = lambda: ""
    log: Logger = field(factory=lambda: Logger(namespace="relay.reception"))
    #: What decides about the recipients of an inquiry's client.
    deciding: Callable[[Inquiry], Deciding] = field(
        init=False,
        default=Factory(
            lambda self: getattr(self.chain, "deciding", None) or (lambda inquiry: self.chain.route), takes_self=True
        ),
    )
    #: Policies are asked about clients, about senders, about content.
    asks_clients: bool = field(
        init=False, default=Factory(lambda self: bool(self.screening and self.screening.asks_clients), takes_self=True)
    )
    asks_senders: bool = field(
        init=False, default=Factory(lambda self: bool(self.screening and self.screening.asks_senders), takes_self=True)
    )
    asks_contents: bool = field(
        init=False, default=Factory(lambda self: bool(self.screening and self.screening.asks_contents), takes_self=True)
    )
    #: How much a header section may be.
    header: Bounds = field(init=False, default=Factory(lambda self: Bounds.of(self.limits), takes_self=True))
    #: The fields that a message here has to have, and gets from us.
    needed: tuple[bytes, ...] = field(
        init=False, default=Factory(lambda self: _NEEDED if self.submission else (), takes_self=True)
    )
    #: Said to every client, so made once.
    greets: Reply = field(
        init=False,
        default=Factory(lambda self: Reply.of(220, None, f"{self.hostname} {self.greeting}"), takes_self=True),
    )
    parts: Reply = field(
        init=False,
        default=Factory(lambda self: Reply.of(221, "2.0.0", f"{self.hostname} closing, goodbye"), takes_self=True),
    )
