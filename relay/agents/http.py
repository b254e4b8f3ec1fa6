"""
The agent that posts mail to a URL: the message as the body, its envelope as JSON in the field `Relay-Envelope`.

docs/decisions/0012-mail-over-http.md says why in this form.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from twisted.internet.defer import CancelledError
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent as IWebAgent
from zope.interface import implementer

from relay import __version__
from relay.agents.copies import Copy, Unreadable
from relay.agents.http_exchange import Answered, Exchange, Message, broken
from relay.agents.http_options import HttpParameters
from relay.agents.http_status import OTHER, meaning
from relay.agents.parcels import Fate, Places, carry_parcels, octets, shown, size
from relay.interfaces import Consignment, IAgent, IAgentMaker, IClock, Report, World
from relay.mail.outcome import (
    Carried,
    Fact,
    Peer,
    Unwritten,
)
from relay.mail.queue import Recipient
from relay.net.http_way import Way
from relay.net.tls_client import PeerTls
from relay.net.tls_peers import TlsPeers
from relay.net.urls import Url

#: Recipients of one request: their names in the envelope stay far below the 8 KiB that servers take for one field.
TOGETHER: Final = 20

#: No token comes near to it.
_LONGEST_TOKEN: Final = 4096

#: What makes requests, given the way to the server.
Web = Callable[[Way], IWebAgent]


@implementer(IAgent)
class HttpAgent:
    """
    Carries `Deliver("http", {"url": ...})`. A status of 2xx, behind all of the message, is the server's promise.

    Each request has a connection of its own: on one that was kept nobody could say whether a request that failed has
    been read.
    """

    Options = HttpParameters

    def __init__(self, reactor: Any, clock: IClock, web: Web | None = None) -> None:
        self._reactor = reactor
        self._clock = clock
        self._web = web or (lambda way: Agent.usingEndpointFactory(reactor, way))
        self._places = Places()
        #: By the file of authorities.
        self._tls: dict[Path | None, TlsPeers] = {}

    def carry(self, consignment: Consignment) -> Awaitable[Sequence[Report]]:
        return carry_parcels("http", consignment, HttpParameters, self._send, TOGETHER)

    async def _send(self, options: HttpParameters, copy: Copy) -> Fact:
        url = Url.of(options.url, plain=options.plain)
        return await self._places.within(url.text, options.concurrency, lambda: self._post(options, url, copy))

    async def _post(self, options: HttpParameters, url: Url, copy: Copy) -> Fact:
        peer = Peer(url.host, "", url.port)
        try:
            headers = _headers(copy, options.token)
            tls = self._toward(options.authorities, peer) if url.secure else None
        except Unusable as unusable:
            return Unwritten(url.shown, str(unusable), because=OTHER.because)
        message = Message(octets(copy, top=options.top, lf=False), size(copy, top=options.top))
        way = Way(self._reactor, url.host, url.port, tls)
        exchange = Exchange(self._clock, way, message)
        exchange.begin(self._web(way), url.text.encode("ascii"), headers, options.timeout)
        try:
            return _fact(url, await exchange.finished)
        except (CancelledError, Unreadable):
            raise
        except Exception as error:
            return broken(error, peer, message, tls)

    def _toward(self, authorities: Path | None, peer: Peer) -> PeerTls:
        """Raises `Unusable`."""
        try:
            if authorities not in self._tls:
                self._tls[authorities] = TlsPeers(self._clock, authorities)
            return self._tls[authorities].toward("verify", peer)
        except (ValueError, OSError) as error:
            raise Unusable(f"{authorities}: {error}") from error


class Unusable(Exception):
    """The operator has something to mend before anything can be sent: words for the log."""


# What is sent.


def _headers(copy: Copy, token: Path | None) -> Headers:
    fields = {
        "Content-Type": "message/rfc822",
        "User-Agent": f"relay/{__version__}",
        "Relay-Envelope": envelope_of(copy),
        "Idempotency-Key": key_of(copy.entry.id, copy.recipients),
    }
    if token is not None:
        fields["Authorization"] = f"Bearer {read_token(token)}"
    return Headers({name: [value] for name, value in fields.items()})


def envelope_of(copy: Copy) -> str:
    """The envelope as JSON of ASCII, which may stand in a header field: RFC 8259 section 7 escapes all else."""
    envelope = copy.entry.envelope
    client = envelope.client
    return json.dumps(
        {
            "id": copy.entry.id,
            "arrived": copy.entry.arrived,
            "sender": None if envelope.reverse_path is None else str(envelope.reverse_path),
            "recipients": [
                {"id": each.id, "address": str(each.address), "original": str(each.original)}
                for each in copy.recipients
            ],
            "client": {
                "address": client.address,
                "helo": client.helo,
                "listener": client.listener,
                "user": client.user,
                "tls": client.tls is not None,
            },
        },
        separators=(",", ":"),
    )


def key_of(id: str, recipients: Sequence[Recipient]) -> str:
    """
    The same for each attempt at the same recipients, and another one for any others: who have been carried together
    once may be carried by themselves the next time.
    """
    if len(recipients) == 1:
        return recipients[0].id
    names = "\0".join(sorted(recipient.id for recipient in recipients))
    return f"{id}-{hashlib.sha256(names.encode()).hexdigest()[:32]}"


def read_token(file: Path) -> str:
    """The token in this file. Raises `Unusable`, in whose words there is nothing of it."""
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            octets = opened.read(_LONGEST_TOKEN + 1)
    except OSError as error:
        raise Unusable(f"the token {file} cannot be read: {error.strerror}") from None
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise Unusable(f"the token {file} can be read by everybody: chmod o= {file}")
    token = octets.decode("latin-1").strip()
    if not token or len(octets) > _LONGEST_TOKEN or not all("!" <= character <= "~" for character in token):
        raise Unusable(f"the token {file} is not one word of ASCII")
    return token


# What is answered.


def _fact(url: Url, answered: Answered) -> Fact:
    status = f"{answered.status} {shown(answered.phrase, beginning=True, most=50)}"
    said = shown(answered.said, beginning=True)
    line = meaning(answered.status)
    if line.fate is not Fate.DELIVERED:
        text = f"{status}: {said}" if said else status
        failed = line.fate is Fate.FAILED
        return Unwritten(url.shown, text, permanent=failed, status=line.status, because=line.because)
    if not answered.whole:
        return Unwritten(url.shown, f"{status}, before the end of the message", because=OTHER.because)
    return Carried(onward=False, by=url.shown, text=status)


@frozen
class _Maker:
    """
    Makes the agent where it is first used.

    The reactor is then the one that runs: whoever has another gives the relay an agent of its own.
    """

    use: str = "http"
    options: type[HttpParameters] = HttpParameters

    def make(self, world: World) -> HttpAgent:
        from twisted.internet import reactor

        return HttpAgent(reactor, world.clock)


HTTP: Final = implementer(IAgentMaker)(_Maker)()
