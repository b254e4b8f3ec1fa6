"""
The questions of all phases, for tests of policies: made in one line, or of the question about a recipient.

    connecting("192.0.2.1")
    sending("ann@sender.example", helo="client.example")
    content(MESSAGE, "jon@example.org")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

from attrs import evolve

from relay.mail.address import Address, parse_address
from relay.mail.envelope import Client, Envelope
from relay.mail.fields import Fields
from relay.mail.phases import AttemptInquiry, ConnectionInquiry, ContentInquiry, SenderInquiry
from relay.mail.routing import Forward, Inquiry
from relay.policy.phases import ATTEMPT, CONNECTION, CONTENT, PHASES, RECIPIENT, SENDER, Phase

#: A question of any phase.
Question: TypeAlias = ConnectionInquiry | SenderInquiry | Inquiry | ContentInquiry | AttemptInquiry

_PHASES: Final[dict[type, Phase]] = {
    ConnectionInquiry: CONNECTION,
    SenderInquiry: SENDER,
    Inquiry: RECIPIENT,
    ContentInquiry: CONTENT,
    AttemptInquiry: ATTEMPT,
}

#: A message, if none is given.
MESSAGE: Final = b"From: Ann <ann@sender.example>\r\nTo: jon@example.org\r\nSubject: hello\r\n\r\nHi!\r\n"
#: When a message was accepted that waits: 2026-11-23T12:00:00Z.
_ACCEPTED: Final = 1795435200.0


def connecting(client: str | None = "192.0.2.1", *, listener: str = "mx") -> ConnectionInquiry:
    """The question about a client that has just come."""
    return ConnectionInquiry(Client(client, port=54321, listener=listener))


def sending(
    sender: str = "ann@sender.example",
    client: str | None = "192.0.2.1",
    *,
    helo: str = "client.example",
    listener: str = "mx",
    user: str | None = None,
    size: int | None = None,
) -> SenderInquiry:
    """The question about a sender, at MAIL. `"<>"` is the null one."""
    at = Client(client, port=54321, helo=helo, extended=True, listener=listener, user=user)
    return SenderInquiry(at, None if sender == "<>" else parse_address(sender), size)


def content(
    message: bytes = MESSAGE,
    *recipients: str,
    sender: str = "ann@sender.example",
    client: str | None = "192.0.2.1",
    user: str | None = None,
) -> ContentInquiry:
    """The question about a message."""
    asked = sending(sender, client, user=user)
    return _content(
        message, asked.reverse_path, asked.client, tuple(map(parse_address, recipients or ("jon@example.org",)))
    )


def _content(
    message: bytes, reverse_path: Address | None, client: Client, recipients: tuple[Address, ...]
) -> ContentInquiry:
    section = message[: message.index(b"\r\n\r\n") + 2]
    return ContentInquiry(
        "0123456789",
        Envelope(reverse_path, client=client),
        recipients,
        len(message),
        Fields(section),
        blocks=lambda: iter([message]),
    )


def phase_of(question: Question) -> Phase:
    return _PHASES[type(question)]


def told(question: Question) -> str:
    """What a question is about, in a word."""
    match question:
        case Inquiry() | AttemptInquiry():
            return str(question.recipient)
        case ContentInquiry():
            return f"a message from {question.envelope.reverse_path or '<>'}"
        case SenderInquiry():
            return f"the sender {question.reverse_path or '<>'}"
        case ConnectionInquiry():
            return f"the client {question.client.address}"


def in_each_phase(policy: Any, questions: Iterable[Question]) -> Iterator[Question]:
    """
    What this policy can be asked. A question about a recipient stands for a whole session: it is asked in each phase
    that the policy provides. All others are asked as they are, in theirs.
    """
    for question in questions:
        if not isinstance(question, Inquiry):
            yield question
            continue
        for phase in PHASES:
            if phase.interface.providedBy(policy):
                yield _in_phase(phase, question)


def _in_phase(phase: Phase, asked: Inquiry) -> Question:
    client, sender = asked.client, asked.reverse_path
    if phase is CONNECTION:
        return connecting(client.address, listener=client.listener)
    if phase is SENDER:
        return SenderInquiry(client, sender)
    if phase is CONTENT:
        return _content(MESSAGE, sender, client, (asked.original,))
    if phase is ATTEMPT:
        route = Forward("example.org")
        return AttemptInquiry(
            "0123456789", Envelope(sender, client=client), asked.recipient, route, "outbound", 1, _ACCEPTED
        )
    return asked


def put(policy: Any, question: Question) -> Any:
    """Ask: the verdict, or something to wait for. A content policy sees as much of the message as it wants."""
    ask = getattr(policy, phase_of(question).method)
    if not isinstance(question, ContentInquiry) or policy.wants == "message":
        return ask(question)
    blocks, question = question.blocks, evolve(question, blocks=None)
    if policy.wants == "stream" and blocks is not None:
        reader = policy.begin(evolve(question, size=0, fields=Fields(b"")))
        for block in blocks():
            for at in range(0, len(block), 7):
                reader.take(block[at : at + 7])
        question = evolve(question, reader=reader)
    return ask(question)
