"""One dialogue in memory: a client that sends a message as it should, and what it hears."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from attrs import define, field, frozen
from twisted.internet.task import Clock

from relay.testing.strategies import Dialogue
from relay.testing.world import Conversation

#: Seconds that a client waits for an answer.
_WAITS: Final = 700.0
_QUEUED: Final = re.compile(r"queued as (\w+)")


@frozen
class Heard:
    """What a client has heard in a dialogue."""

    #: Each reply, all lines of it, and what it was the reply to.
    replies: tuple[tuple[str, str], ...]

    @property
    def refusals(self) -> list[tuple[str, str]]:
        return [(said, reply) for said, reply in self.replies if reply[:1] in "45"]

    @property
    def later(self) -> bool:
        """Something was refused for now only."""
        return any(reply.startswith("4") for _, reply in self.replies)

    @property
    def promised(self) -> str:
        """The queue id of the message that was accepted, or ""."""
        found = _QUEUED.search(self.replies[-1][1]) if self.replies else None
        return found[1] if found and self.replies[-1][1].startswith("250") else ""


@define
class Talker:
    """A client's side of a session, that waits for its answers while the clock goes on."""

    conversation: Conversation
    advance: Callable[[], bool]
    #: What was said, and the reply.
    replies: list[tuple[str, str]] = field(factory=list)

    @classmethod
    def calling(cls, factory: Any, address: str, clock: Clock) -> Talker:
        """A client at this address, which has been greeted."""
        talker = cls(Conversation(factory, address), _advancing(clock))
        talker.hear("")
        return talker

    def hear(self, said: str) -> str:
        """One reply."""
        lines: list[str] = []
        while not (lines and lines[-1][3:4] == " "):
            more = self.conversation.greeting if not self.replies and not lines else self.conversation.replies()
            if not more and not self.advance():
                break
            lines += more
        reply = "\n".join(lines) or "421 the connection is closed, without a reply"
        self.replies.append((said, reply))
        return reply

    def say(self, line: str) -> str:
        self.conversation.send(line.encode() + b"\r\n")
        return self.hear(line)


def _advancing(clock: Clock) -> Callable[[], bool]:
    """Time passes until the next thing happens; false when it has lasted too long."""
    until = clock.seconds() + _WAITS

    def advance() -> bool:
        calls = clock.getDelayedCalls()
        if not calls or calls[0].getTime() > until:
            return False
        clock.advance(max(0.0, min(call.getTime() for call in calls) - clock.seconds()))
        return True

    return advance


def talk(dialogue: Dialogue, factory: Any, clock: Clock) -> Heard:
    """Let the client send its message, to a listener's factory."""
    client = Talker.calling(factory, dialogue.client, clock)
    conversation = client.conversation
    if client.replies[0][1].startswith("220"):
        *commands, data = dialogue.commands
        taken = 0
        for command in commands:
            positive = client.say(command).startswith("2")
            taken += positive and command.startswith("RCPT")
            if not positive and not command.startswith("RCPT"):
                break
        if taken and client.say(data).startswith("354"):
            conversation.send(dialogue.content)
            client.hear("the content")
    conversation.hang_up()
    return Heard(tuple(client.replies))
