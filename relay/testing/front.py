"""
The front of a relay: sessions, policies and the promise at the end of content, as in the real one. Nothing is carried
anywhere: what was accepted is kept in a list, with the way that it would go.

`relay.testing.server` opens a port to it, `relay.testing.invariants` talks to it in memory.
"""

from __future__ import annotations

import email
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from email import policy as email_policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final, TypeAlias

from attrs import frozen
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import Clock

from relay.assembly import Relay, Surroundings, assemble
from relay.config.load import load
from relay.config.settings import Settings
from relay.history.memory import MemoryHistory
from relay.interfaces import Claim, Enrol, IClock, ICredentials, Step
from relay.mail.envelope import Envelope, Form
from relay.mail.queue import EXPANSION, Recipient
from relay.mail.routing import Route
from relay.net.teed import Teed
from relay.net.tls_server import ServerTls
from relay.policy.registry import names as known_policies
from relay.policy.registry import option_model
from relay.smtp.octets import plain
from relay.spool.memory import MemorySpool
from relay.store.memory import MemoryStore
from relay.testing.dns import FakeNames
from relay.testing.http import FakeHttp
from relay.testing.internet import FakeInternet
from relay.testing.maillog import MemoryMailLog

#: A policy of a configuration: the keys of its `[[policy]]`, where `use` may be a class; or only the class.
Policy: TypeAlias = Mapping[str, Any] | type

#: What is put in where a configuration says nothing of it. That file of passwords is never read.
_LISTENER: Final = '[[listener]]\nname = "test"\naddress = "127.0.0.1:2525"\n'
_EVERYTHING: Final = '[[policy]]\nname = "everything"\nuse = "console"\n'
_TLS: Final = 'tls = "offer"\n'
_USERS: Final = '[auth]\npasswords = "those of the test"\n'
_FILE: Final = "relay.toml"


@frozen
class Accepted:
    """A message that the relay has said 250 to."""

    #: The queue id, which the reply has named.
    id: str
    envelope: Envelope
    #: One for each copy, with its route; an alias has become those whom it stands for.
    copies: tuple[Recipient, ...]
    #: What the relay has put on top: its `Received`, and the fields that policies have added.
    head: bytes
    #: The message itself.
    content: bytes

    @property
    def reverse_path(self) -> str | None:
        """The sender, or `None` for the null reverse-path."""
        path = self.envelope.reverse_path
        return None if path is None else str(path)

    @property
    def recipients(self) -> tuple[str, ...]:
        """Those that the client has named, but for copies that a policy has discarded."""
        return tuple(dict.fromkeys(str(copy.original) for copy in self.copies))

    @property
    def routes(self) -> Mapping[str, Route]:
        """Where the copy for each address would go."""
        return {str(copy.address): copy.route for copy in self.copies if copy.route != EXPANSION}

    @property
    def parsed(self) -> EmailMessage:
        """All of it, as Python's `email` reads it: `message.parsed["Subject"]`."""
        return email.message_from_bytes(self.head + self.content, policy=email_policy.default)


class KeepingSpool(MemorySpool):
    """A spool in memory that keeps what was enrolled in `accepted`. The dispatcher does not run: nobody carries it."""

    def __init__(self, clock: IClock) -> None:
        super().__init__(clock)
        self.accepted: list[Accepted] = []

    async def commit(self, steps: Sequence[Step]) -> tuple[Claim, ...]:
        enrolled = [(step, _octets(step)) for step in steps if isinstance(step, Enrol)]
        claims = await super().commit(steps)
        for step, octets in enrolled:
            entry = step.entry
            self.accepted.append(Accepted(entry.id, entry.envelope, step.recipients, entry.head, octets))
        return claims


def _octets(step: Enrol) -> bytes:
    blocks = step.draft.blocks()
    return b"".join(plain(blocks) if step.draft.form is Form.WIRE else blocks)


@frozen
class Configured:
    """A configuration, with what was put in for a test."""

    settings: Settings
    #: By what name its problems are told.
    file: str
    text: str
    #: To which its paths are relative.
    base: Path


def configured(
    configuration: str | Path = "",
    policies: Iterable[Policy] = (),
    *,
    base: Path | None = None,
    hostname: str = "mx.test",
    user: str = "ann",
    others_know_users: bool = False,
) -> Configured:
    """
    The settings of a configuration: its text or its file, with these policies behind its own. Without any policy
    everything is accepted; without a listener there is one. Where others know the users, `[auth]` need not say who
    does. Raises `ConfigurationError`.
    """
    file = _FILE
    if isinstance(configuration, Path):
        file, base = str(configuration), base or configuration.resolve().parent
        configuration = configuration.read_text()
    text = "".join([configuration, "\n", *map(_as_toml, policies)])
    text += _lacking(text, others_know_users)
    base = base or Path.cwd()
    settings = load(
        text, file=file, base=base, hostname=hostname, user=user, option_model=option_model, known=known_policies
    )
    return Configured(settings, file, text, base)


def _lacking(text: str, users: bool) -> str:
    """A listener, a policy and a source of users, where the text has none."""
    headers = {line.partition("#")[0].strip() for line in text.splitlines()}
    usual = {"[[listener]]": _LISTENER, "[[policy]]": _EVERYTHING}
    if users:
        usual = {**usual, "[[listener]]": _LISTENER + _TLS, "[auth]": _USERS}
    return "".join(piece for header, piece in usual.items() if header not in headers)


def _as_toml(policy: Policy) -> str:
    keys: Mapping[str, Any] = {"use": policy} if isinstance(policy, type) else policy
    use = keys.get("use")
    if isinstance(use, type):
        if "<locals>" in use.__qualname__:
            raise ValueError(f"{use.__name__} is a class within a function: a configuration cannot name it")
        name = str(keys.get("name", use.__name__))
        keys = {"name": name, **keys, "use": f"{use.__module__}:{use.__qualname__}"}
    return "[[policy]]\n" + "".join(f"{_word(key)} = {_value(value)}\n" for key, value in keys.items())


def _word(text: str) -> str:
    return json.dumps(text, ensure_ascii=True)


def _value(value: Any) -> str:
    match value:
        case bool() | int() | float():
            return json.dumps(value)
        case date():  # and `datetime`
            return value.isoformat()
        case Mapping():
            return "{" + ", ".join(f"{_word(str(key))} = {_value(each)}" for key, each in value.items()) + "}"
        case str() | Path():
            return _word(str(value)).replace("\x7f", "\\u007f")
        case Iterable():
            return "[" + ", ".join(map(_value, value)) + "]"
    raise ValueError(f"{value!r} cannot stand in a configuration")


@frozen
class Outside:
    """What the relay of a test finds outside: the DNS and servers that answer by HTTP, and who its users are."""

    names: FakeNames
    http: FakeHttp
    tls: Mapping[str, ServerTls]
    credentials: ICredentials | None = None
    #: Takes calls from the threads of policies that block; `None`: they block where they are.
    reactor: IReactorFromThreads | None = None


@frozen
class Front:
    """A relay that accepts mail, and carries none."""

    relay: Relay
    spool: KeepingSpool
    log: MemoryMailLog
    history: MemoryHistory
    store: MemoryStore
    outside: Outside


def open_front(given: Configured, clock: IClock, outside: Outside) -> Front:
    """A relay of these settings; nothing is started. Raises `ConfigurationError`."""
    spool, log, store = KeepingSpool(clock), MemoryMailLog(), MemoryStore(clock)
    history = MemoryHistory(clock.calendar)
    surroundings = Surroundings(
        clock=clock,
        resolver=outside.names,
        tcp=FakeInternet(Clock()),  # nobody is there, and nobody is asked
        spool=spool,
        maillog=Teed(log, history),
        history=history,
        agents={},
        random=random.Random(1),  # noqa: S311  # chance in a test keeps no secrets
        is_local=lambda address: False,
        tls=outside.tls,
        credentials=outside.credentials,
        store=store,
        http=outside.http,
        reactor=outside.reactor,
    )
    return Front(assemble(given.settings, surroundings, file=given.file), spool, log, history, store, outside)
