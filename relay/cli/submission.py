"""
The relay of this machine, as a local program talks to it: SMTP or LMTP over a Unix socket, with sockets that block.

Nothing of Twisted is imported, since a program that sends one message should not take longer to start than to send.
"""

from __future__ import annotations

import os
import select
import socket
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from attrs import evolve, frozen

from relay.cli.mailq import spelled_out
from relay.mail.outcome import Breakage, Broke, Fact, Peer, Phase
from relay.mail.reply import Reply

if TYPE_CHECKING:
    from relay.smtp.client import ClientSession
    from relay.smtp.features import Features
    from relay.smtp.transaction import Event, Transaction

#: Where the configuration is looked for, and the socket if there is none that we may read.
USUAL_CONFIG: Final = "/etc/relay/relay.toml"
USUAL_SOCKETS: Final = ("var/sendmail.sock", "/run/relay/sendmail.sock")

#: Which listener is for us: by its name, else by what is spoken there.
_NAME: Final = "sendmail"
_PROTOCOLS: Final = ("smtp", "submission", "lmtp")

_OCTETS: Final = 65536


class NoSuchPlace(Exception):
    """There is no way to the relay; the message says why, for whoever has written the configuration."""


@frozen
class Place:
    """Where the relay takes mail from local programs."""

    path: str
    #: By which local users are known who say no domain.
    hostname: str
    lmtp: bool = False


def find(config: str | None, path: str | None) -> Place:
    """
    The place that `config` names, or the one at `path`. Raises `NoSuchPlace`.

    `config` that somebody has named must be there; the usual one may be missing, or be closed to us.
    """
    named = config or os.environ.get("RELAY_CONFIG")
    document: dict[str, Any] = {}
    try:
        with open(named or USUAL_CONFIG, encoding="utf-8-sig") as file:
            document = tomllib.loads(file.read())
    except (OSError, ValueError) as problem:
        if named and path is None:
            raise NoSuchPlace(f"{named}: {problem}") from None
    hostname = str(document.get("hostname") or socket.gethostname()).lower()
    if path is not None:
        return Place(path, hostname)
    if document:
        file_name = named or USUAL_CONFIG
        return _listener(document, file_name, hostname)
    found = next((usual for usual in USUAL_SOCKETS if os.path.exists(usual)), USUAL_SOCKETS[0])
    return Place(found, hostname)


def _listener(document: dict[str, Any], file: str, hostname: str) -> Place:
    """Only what is needed is read of it: `relayctl check` says what is wrong with a configuration."""
    listeners = document.get("listener")
    unix = [
        each
        for each in (listeners if isinstance(listeners, list) else ())
        if isinstance(each, dict)
        and str(each.get("address", "")).startswith("unix:")
        and each.get("protocol", "smtp") in _PROTOCOLS
        and each.get("tls", "none") in ("none", "offer")
    ]
    if not unix:
        raise NoSuchPlace(f"{file}: there is no listener on a Unix socket for local programs")
    chosen = min(unix, key=lambda each: (each.get("name") != _NAME, _PROTOCOLS.index(each.get("protocol", "smtp"))))
    path = spelled_out(chosen["address"].removeprefix("unix:"), document)
    return Place(os.path.normpath(Path(file).parent / path), hostname, lmtp=chosen.get("protocol") == "lmtp")


def submit(place: Place, transaction: Transaction, content: bytes) -> list[Fact]:
    """
    Give the relay this message. A fact for each recipient, in order; nothing
    raises for what the relay does. More recipients than it takes at once are given in several transactions.
    """
    from relay.smtp.client import ClientSession
    from relay.smtp.transaction import Approach

    session = ClientSession(place.hostname, _peer(place), approach=Approach(lmtp=place.lmtp))
    try:
        connection = _connected(place)
    except OSError as problem:
        broken = Broke(Breakage.REFUSED, Phase.CONNECT, _peer(place), problem.strerror or str(problem))
        return [broken] * len(transaction.recipients)
    with closing(connection):
        session.connected()
        return _Conversation(connection, session, transaction, content).facts()


class _Conversation:
    """One connection, one message."""

    def __init__(
        self, connection: socket.socket, session: ClientSession, transaction: Transaction, content: bytes
    ) -> None:
        self._connection = connection
        self._session = session
        self._transaction = transaction
        self._content = content
        #: What is still to be sent, in portions that the relay takes.
        self._portions: list[Transaction] = []
        self._facts: list[Fact] = []

    def facts(self) -> list[Fact]:
        session = self._session
        while True:
            while (event := session.next_event()) is not None:
                self._take(event)
            if session.over:
                return self._facts
            self._exchange()

    def _take(self, event: Event) -> None:
        from relay.smtp.transaction import Proceed, Ready, Settled, TurnedAway

        match event:
            case Ready(features):
                self._portions = list(_portions(self._transaction, features))
                self._begin()
            case TurnedAway(fact):
                self._facts = [fact] * len(self._transaction.recipients)
            case Proceed():
                self._send_content()
            case Settled(facts):
                self._facts += facts
                self._begin()

    def _begin(self) -> None:
        session = self._session
        if self._portions and (session.can_begin or session.over):
            session.begin(self._portions.pop(0))
        elif not session.over:
            session.quit()

    def _send_content(self) -> None:
        from relay.mail.envelope import Form
        from relay.smtp.outgoing import outgoing

        try:
            for piece in outgoing(b"", Form.PLAIN, (self._content,)):
                self._connection.sendall(piece)
        except OSError:
            return  # perhaps the relay has said why
        self._session.content_sent()

    def _exchange(self) -> None:
        """Say what is to be said, and wait for what is answered."""
        session = self._session
        try:
            self._connection.settimeout(session.deadline)
            octets = session.data_to_send()
            if octets:
                self._connection.sendall(octets)
            heard = self._connection.recv(_OCTETS)
        except TimeoutError:
            session.break_off(Breakage.TIMEOUT)
        except OSError as problem:
            session.break_off(Breakage.LOST, problem.strerror or str(problem))
        else:
            if heard:
                session.receive_data(heard)
            else:
                session.break_off(Breakage.LOST)


def _portions(transaction: Transaction, features: Features) -> Iterator[Transaction]:
    from relay.smtp.limits import portions

    pairs = list(zip(transaction.recipients, transaction.wishes, strict=True))
    for part in portions(pairs, features, lambda pair: str(pair[0].domain)):
        yield evolve(
            transaction,
            recipients=tuple(recipient for recipient, _ in part),
            wishes=tuple(wishes for _, wishes in part),
        )


def verify(place: Place, sender: str, recipients: Sequence[str]) -> list[Reply | Broke]:
    """
    What the relay says to RCPT, for each recipient (paths without brackets). No message is sent.
    """
    from relay.smtp.replies import Nonsense, ReplyReader

    broken: Reply | Broke = Broke(Breakage.LOST, Phase.RCPT, _peer(place))
    answers: list[Reply | Broke] = []
    try:
        with closing(_connected(place)) as connection:
            connection.settimeout(300)
            reader = ReplyReader()

            def hear() -> Reply:
                while (reply := reader.next_reply()) is None:
                    heard = connection.recv(_OCTETS)
                    if not heard:
                        raise OSError("the relay has closed the connection")
                    reader.receive_data(heard)
                if isinstance(reply, Nonsense):
                    raise OSError(reply.text)
                return reply

            def say(line: str) -> Reply:
                connection.sendall(f"{line}\r\n".encode())
                return hear()

            refusal = hear()
            for line in (f"{'LHLO' if place.lmtp else 'EHLO'} {place.hostname}", f"MAIL FROM:<{sender}>"):
                if refusal.positive:
                    refusal = say(line)
            for recipient in recipients:
                # One by one: what was answered stands, also when the next answer does not come.
                answers.append(say(f"RCPT TO:<{recipient}>") if refusal.positive else refusal)  # noqa: PERF401
            say("QUIT")
    except OSError as problem:
        broken = Broke(Breakage.LOST, Phase.RCPT, _peer(place), problem.strerror or str(problem))
    return [*answers, *[broken] * (len(recipients) - len(answers))]


def pass_through(place: Place, said: BinaryIO, heard: BinaryIO) -> None:
    """
    Let whoever is at `said` and `heard` speak with the relay, until the relay closes. Raises `OSError`.
    """
    with closing(_connected(place)) as connection:
        sources: list[Any] = [connection, said]
        while True:
            ready, _, _ = select.select(sources, [], [])
            if said in ready:
                octets = os.read(said.fileno(), _OCTETS)
                if octets:
                    connection.sendall(octets)
                else:
                    sources.remove(said)
                    connection.shutdown(socket.SHUT_WR)
            if connection in ready:
                octets = connection.recv(_OCTETS)
                if not octets:
                    return
                heard.write(octets)
                heard.flush()


def _connected(place: Place) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(30)
        connection.connect(place.path)
        connection.settimeout(None)
    except BaseException:
        connection.close()
        raise
    return connection


def _peer(place: Place) -> Peer:
    return Peer(place.path)
