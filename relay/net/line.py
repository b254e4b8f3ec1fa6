"""
What two processes of one relay say to each other: the parent and a worker.

A line of theirs is a stream socket, with one JSON object for each thing that is said: a topic and a body. Nobody
answers by rule; whoever wants an answer agrees with the other about a topic for it.

What workers know together (`store`, `suppressed`) the parent passes on: to the worker with the index `to` if the body
has one, else to all others. It adds `from`, the index of the worker that has said it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

#: What is said at once, in octets.
MOST_SAID: Final = 4 * 1024 * 1024
#: Octets that wait for the other to listen. Beyond it the line is of no use any more.
MOST_WAITING: Final = 64 * 1024 * 1024

#: The body of a topic; it is any object that JSON can say.
Body: TypeAlias = Mapping[str, Any]


@implementer(IPushProducer)
class Line(Protocol):
    """
    One end. What is said before there is a connection is said when there is one; behind its end nothing is.

    Things are heard in the order in which they were said. What nobody hears is dropped.
    """

    transport: Any

    def __init__(self, ended: Callable[[], object] = lambda: None) -> None:
        """`ended` is called once, when the other is gone or makes no sense."""
        self._ended = ended
        self._heard: dict[str, Callable[[Any], object]] = {}
        self._rest = b""
        #: What waits for a connection, or for a kernel that has room.
        self._waiting: deque[bytes] = deque()
        self._waiting_octets = 0
        self._flowing = False
        self._over = False
        self._log = Logger(namespace="relay.line")

    def hear(self, topic: str, callback: Callable[[Any], object]) -> None:
        """From now on `callback` is called with each body of this topic. There is one for each."""
        self._heard[topic] = callback

    def say(self, topic: str, body: Body | None = None) -> None:
        """Say it; never raises for what the other is."""
        if self._over:
            return
        octets = json.dumps({"topic": topic, "body": body or {}}, ensure_ascii=True).encode() + b"\n"
        if len(octets) > MOST_SAID:
            raise ValueError(f"{len(octets)} octets of {topic!r} are too much to say at once")
        if self._flowing:
            self.transport.write(octets)
            return
        self._waiting.append(octets)
        self._waiting_octets += len(octets)
        if self._waiting_octets > MOST_WAITING:
            self._log.error("The other end of a line does not listen")
            self.close()

    def close(self) -> None:
        """Nothing is said or heard any more."""
        self._forget()
        if self.transport is not None:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    # The transport calls.

    def connectionMade(self) -> None:
        if self._over:
            self.transport.loseConnection()
            return
        self.transport.registerProducer(self, True)
        self.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if self._over:
                return
            self._take(line)
        if len(self._rest) > MOST_SAID:
            self._log.error("What is said on a line has no end")
            self.close()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._forget()
        self._ended()

    def pauseProducing(self) -> None:
        self._flowing = False

    def resumeProducing(self) -> None:
        self._flowing = True
        while self._waiting and self._flowing:
            octets = self._waiting.popleft()
            self._waiting_octets -= len(octets)
            self.transport.write(octets)

    def stopProducing(self) -> None:
        self._flowing = False

    def _forget(self) -> None:
        self._over = True
        self._flowing = False
        self._waiting.clear()
        self._waiting_octets = 0

    def _take(self, line: bytes) -> None:
        try:
            said = json.loads(line)
            topic, body = said["topic"], said["body"]
        except (ValueError, KeyError, TypeError, RecursionError):
            self._log.error("What is said on a line cannot be understood")
            self.close()
            return
        heard = self._heard.get(topic)
        if heard is None:
            return
        try:
            heard(body)
        except Exception:
            self._log.failure("What was said of {topic} could not be used", topic=topic)
