"""How a client comes in: what is known of it, and what all who come in by the same listener share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import Factory, field, frozen
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import Logger

from relay.config.limits import Limits
from relay.interfaces import IClock, IVisit
from relay.mail.reply import Reply
from relay.mail.tls import TlsFacts
from relay.mail.value import value
from relay.net.admission import Admission, Network
from relay.net.timeouts import Timers
from relay.smtp.server import ServerSession


@frozen
class Secured:
    """A TLS connection whose handshake is complete."""

    facts: TlsFacts
    #: By which a proof can be bound to it (`relay.net.channel_binding`).
    bindings: Callable[[], Mapping[str, bytes]] = field(default=dict, repr=False)


@value
class Arrival:
    """How a client has come: what a session begins with."""

    #: `None`: by a Unix socket.
    address: str | None
    port: int = 0
    #: Why it may not stay.
    refusal: Reply | None = None
    #: `None`: it speaks in clear.
    secured: Secured | None = None
    #: What the host at `address` has said of its own client: it is that one's session.
    introduced: tuple[tuple[str, str | None], ...] = ()
    #: No greeting is due: the session follows another one on the same connection, which had so many errors.
    greeted: bool = False
    errors: int = 0
    #: Who it is by the kernel's word: on a Unix socket whose listener asks for that.
    user: str | None = None
    #: What `IVisit.known` was in the session before, which was with the same client.
    known: Any = None


@frozen
class Doorway:
    """What all connections of a listener share."""

    #: A new session, and who answers it.
    admit: Callable[[Arrival], tuple[ServerSession, IVisit]]
    admission: Admission
    limits: Limits
    clock: IClock
    #: Networks of proxies, who introduce each client by a PROXY header.
    proxies: tuple[Network, ...] = ()
    #: `None`: there is no TLS here. `implicit`: it begins at once (RFC 8314 section 3), else by STARTTLS.
    tls: IOpenSSLServerConnectionCreator | None = None
    implicit: bool = False
    #: Seconds that a client who is not trusted waits for its greeting.
    greeting_delay: float = 0.0
    #: Who is at the other end of a Unix socket, given its transport; `None`: nobody asks.
    identify: Callable[[Any], str | None] | None = None
    log: Logger = field(factory=lambda: Logger(namespace="relay.net.server"))
    #: Of the deadlines of these connections.
    timers: Timers = field(init=False, default=Factory(lambda self: Timers(self.clock), takes_self=True))
    #: In so many seconds content that does not come at all is noticed first.
    pace: float = field(init=False, eq=False, repr=False)

    @pace.default
    def _first_look(self) -> float:
        return min(self.limits.progress_window, self.limits.content_time)
