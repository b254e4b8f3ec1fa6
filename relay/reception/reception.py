"""What all visits to a listener share."""

from __future__ import annotations

from attrs import field, frozen
from twisted.logger import Logger

from relay.config.limits import Limits
from relay.interfaces import IChain, IClock, IDispatch, IMailLog, ISpool
from relay.reception.turnstile import Turnstile


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
    maillog: IMailLog
    #: One for all listeners of a relay.
    turnstile: Turnstile
    clock: IClock
    #: Keywords for the answer to EHLO, with their arguments.
    keywords: tuple[str, ...] = ()
    log: Logger = field(factory=lambda: Logger(namespace="relay.reception"))
