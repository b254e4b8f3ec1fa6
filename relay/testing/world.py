"""
A world of mail in memory: names, other servers, the real relay, and one clock.

    world = MailWorld(CONFIGURATION)
    mx = world.exchange("example.org", "192.0.2.25")
    world.send("ann@here.example", "bob@example.org", b"Subject: hello\\r\\n\\r\\nHi!\\r\\n")
    world.settle()
    assert mx.messages[0].recipients == ("bob@example.org",)

Only sockets, disks and time are not real. Days of retries take milliseconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from relay.assembly import Relay, Surroundings, assemble
from relay.config.load import load
from relay.interfaces import IAgent, IClock, ICredentials, IHistory
from relay.net.clock import ReactorClock
from relay.net.listener import SmtpServerFactory
from relay.net.server import SmtpServer
from relay.net.teed import Teed
from relay.net.tls_client import PeerTls
from relay.net.tls_server import ServerTls
from relay.net.waiting import start
from relay.policy.registry import option_model
from relay.smtp.octets import wire
from relay.spool.memory import MemorySpool, Shelf
from relay.store.memory import MemoryStore
from relay.testing.caller import Caller
from relay.testing.dns import FakeNames
from relay.testing.http import FakeHttp
from relay.testing.internet import FakeInternet
from relay.testing.mailboxes import FakeMailboxes, Mail
from relay.testing.maillog import MemoryMailLog
from relay.testing.peers import FakeExchange
from relay.testing.policy import NOON

#: A world that still turns after so many steps in one moment has an endless loop in it.
_MOST_STEPS: Final = 100_000


class MailWorld:
    """
    The relay that `configuration` (TOML) describes, and everybody around it.

    `clock` moves when the test says so (`settle`, `pass_time`); `names` is the DNS, `internet` the other hosts,
    `spool` the queue, `log` the mail log, and `mailboxes` the local mailboxes by folder or file. `store` is what
    policies keep, and `http` answers them by URL.
    """

    def __init__(
        self,
        configuration: str,
        names: Mapping[str, Any] | None = None,
        *,
        hostname: str = "mx.test",
        user: str = "ann",
        latency: float = 0.0,
        tls: Callable[[str], ServerTls] | None = None,
        credentials: ICredentials | None = None,
        history: IHistory | None = None,
        agents: Mapping[str, IAgent] | None = None,
        spool: Callable[[IClock, Shelf], MemorySpool] = MemorySpool,
        base: Path = Path("/world"),
    ) -> None:
        """
        `tls` makes the TLS of a listener, by its name, if it has some; `credentials` know the users. `agents` are those
        that are not what they are in the real relay, beside the local mailboxes; `spool` makes the queue. Files that
        the configuration names are looked for in `base`.
        """
        self._configuration = configuration
        self._tls = tls
        self._credentials = credentials
        self.history = history
        self._agents, self._make_spool, self._base = dict(agents or {}), spool, base
        self._hostname, self._user = hostname, user
        self.clock = Clock()
        self.time = ReactorClock(self.clock, lambda: NOON + self.clock.seconds())
        self.names = FakeNames(names)
        self.internet = FakeInternet(self.clock, latency=latency)
        self.local = FakeMailboxes()
        self.log = MemoryMailLog()
        self.store = MemoryStore(self.time)
        self.http = FakeHttp()
        self._shelf = Shelf()
        self.spool: MemorySpool
        self.relay: Relay
        self.start()

    @property
    def mailboxes(self) -> Mapping[str, Sequence[Mail]]:
        """Mail that was delivered here, by folder or file."""
        return self.local.mailboxes

    # The relay.

    def start(self) -> None:
        """Start the relay, with what its spool had before. The constructor has called this once."""
        settings = load(
            self._configuration,
            file="relay.toml",
            base=self._base,
            hostname=self._hostname,
            user=self._user,
            option_model=option_model,
        )
        self.spool = self._make_spool(self.time, self._shelf)
        surroundings = Surroundings(
            clock=self.time,
            resolver=self.names,
            tcp=self.internet,
            spool=self.spool,
            maillog=self.log if self.history is None else Teed(self.log, self.history),
            history=self.history,
            agents={"maildir": self.local, "mbox": self.local, "console": self.local, **self._agents},
            random=random.Random(1),  # noqa: S311  # chance in a test keeps no secrets
            is_local=lambda address: False,
            tls={each.name: self._tls(each.name) for each in settings.listener if each.tls != "none" and self._tls},
            credentials=self._credentials,
            store=self.store,
            http=self.http,
        )
        self.relay = assemble(settings, surroundings, file="relay.toml")
        done(start(self.spool.recover()))
        self.relay.dispatcher.start()

    def crash(self) -> None:
        """Kill the relay as `kill -9` does, and start another one on the same spool."""
        for call in self.clock.getDelayedCalls():
            call.cancel()
        self.start()

    # Others.

    def exchange(
        self, domain: str, address: str, *, name: str = "", preference: int = 10, **options: Any
    ) -> FakeExchange:
        """
        A mail exchanger for `domain`, at `address`; call it again for another one of the same domain.

        The `options` are those of `FakeExchange`: what it offers, and to whom.
        """
        host = name or f"mx{preference}.{domain}"
        exchange = FakeExchange(host, clock=self.clock, **options)
        self.internet.add(address, exchange)
        self.names[host] = {"AAAA" if ":" in address else "A": [address]}
        known = self.names.answer(domain, "MX")
        records = [(each.preference, each.exchanger) for each in getattr(known, "records", ())]
        self.names[domain] = {"MX": [*records, (preference, host)]}
        return exchange

    def connect(self, client: str = "127.0.0.1", listener: int = 0) -> Conversation:
        """A client at this address begins a session with one of the relay's listeners."""
        return Conversation(self.relay.listeners[listener].factory, client)

    def call(self, client: str = "127.0.0.1", listener: int = 0, *, tls: PeerTls | None = None) -> Caller:
        """
        The same by a connection that TLS can be started on (`Caller.start_tls`); with `tls` that is done at once, as
        a listener with implicit TLS wants it.
        """
        return Caller(self.relay.listeners[listener].factory, client, tls)

    def send(self, sender: str, recipients: str | Sequence[str], content: bytes, client: str = "127.0.0.1") -> str:
        """
        Send a message to the relay, as another server would. Returns the queue id.

        `sender` is an address, or "" for the null reverse-path. `AssertionError` if the relay refuses anything.
        """
        conversation = self.connect(client)
        recipients = [recipients] if isinstance(recipients, str) else recipients
        conversation.say("EHLO client.test")
        assert conversation.say(f"MAIL FROM:<{sender}>")[-1].startswith("250"), conversation.heard
        for recipient in recipients:
            assert conversation.say(f"RCPT TO:<{recipient}>")[-1].startswith("250"), conversation.heard
        conversation.say("DATA")
        conversation.send(b"".join(wire([content])))
        answer = conversation.replies()[-1]
        assert answer.startswith("250"), answer
        conversation.say("QUIT")
        return answer.rpartition(" ")[2]

    # Time.

    def settle(self) -> None:
        """Let everything happen that happens at this moment."""
        self.pass_time(0.0)

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass, each thing happening at its own moment."""
        end = self.clock.seconds() + seconds
        for _ in range(_MOST_STEPS):
            calls = self.clock.getDelayedCalls()
            next_at = min((call.getTime() for call in calls), default=None)
            if next_at is None or next_at > end:
                self.clock.advance(max(0.0, end - self.clock.seconds()))
                return
            self.clock.advance(max(0.0, next_at - self.clock.seconds()))
        raise AssertionError("the world does not come to rest")


class Conversation:
    """A client's side of a session with the relay, by hand."""

    def __init__(self, factory: SmtpServerFactory, client: str = "127.0.0.1", port: int = 40000) -> None:
        kind = IPv6Address if ":" in client else IPv4Address
        address = kind("TCP", client, port)
        self._transport = StringTransport(peerAddress=address)
        server = factory.buildProtocol(address)
        assert isinstance(server, SmtpServer), (
            "a proxy introduces its clients: write to the factory's protocol yourself"
        )
        self._server: SmtpServer = server
        self._server.makeConnection(self._transport)
        #: Every line that was heard.
        self.heard: list[str] = []
        self.greeting = self.replies()

    @property
    def closed(self) -> bool:
        """The relay has closed the connection."""
        return bool(self._transport.disconnecting)

    def say(self, line: str) -> list[str]:
        """Send one line, with CRLF; returns the lines of what can be heard by now."""
        self.send(line.encode() + b"\r\n")
        return self.replies()

    def send(self, octets: bytes) -> None:
        """Send these octets."""
        self._server.dataReceived(octets)

    def replies(self) -> list[str]:
        """The lines that were heard since the last look."""
        lines: list[str] = self._transport.value().decode("ascii").splitlines()
        self._transport.clear()
        self.heard += lines
        return lines

    def hang_up(self) -> None:
        """Close the connection, without a word."""
        self._server.connectionLost(Failure(ConnectionError("the client has hung up")))


def done(answer: Any) -> Any:
    """What has been answered at once; `AssertionError` if it waits for something."""
    assert not isinstance(answer, Deferred), "this should not have to wait"
    return answer
