"""One run of a program: the message goes in, what it says comes out, and at the deadline it is ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IPullProducer
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.agents.parcels import Tail
from relay.interfaces import IClock
from relay.net.clock import cancel

#: From SIGTERM to SIGKILL, for a program that wants to undo what it has begun.
GRACE: Final = 3.0
#: How long what a program has started, and left behind, may keep its output open.
LINGER: Final = 1.0

KillGroup = Callable[[int, int], None]


@frozen
class Ended:
    """How a run has ended: by an exit status, or by a signal."""

    status: int | None
    signal: int | None
    #: The end of what it has said.
    output: bytes
    #: It was ended by us, since it took too long.
    overdue: bool = False


@implementer(IPullProducer)
class Child(ProcessProtocol):
    """
    The message is read block by block as the program takes it. It need not take all of it: what its exit status says
    counts.

    `ended` has an `Ended`, or the exception that reading the message has raised: then the program is killed before it
    could take the end of what it has got for the end of the message. To cancel it is to kill the program at once.
    """

    #: A `twisted.internet.process.Process`, which has more than `IProcessTransport`.
    transport: Any

    def __init__(
        self, clock: IClock, blocks: Iterator[bytes], *, timeout: float, output: int, killpg: KillGroup = os.killpg
    ) -> None:
        self.ended: Deferred[Ended] = Deferred(lambda _: self._kill(signal.SIGKILL))
        self._clock = clock
        self._blocks = blocks
        self._timeout = timeout
        self._output = Tail(output)
        self._killpg = killpg
        #: Of the process, kept since the transport of one that has exited has forgotten it.
        self._group: int | None = None
        self._exited = False
        self._overdue = False
        #: The deadline; from SIGTERM on, when force is used; behind its exit, when its output is closed.
        self._timer: Any = None

    def connectionMade(self) -> None:
        self._group = self.transport.pid
        self._timer = self._clock.callLater(self._timeout, self._end)
        self.transport.registerProducer(self, False)

    # The message.

    def resumeProducing(self) -> None:
        try:
            block = next(filter(None, self._blocks), None)
        except Exception:
            # Standard input stays open: the program must not see an end.
            self._kill(signal.SIGKILL)
            self._settle(Failure())
            return
        if block is not None:
            self.transport.write(block)
            return
        self.transport.unregisterProducer()
        self.transport.closeStdin()

    def stopProducing(self) -> None:
        """The program reads no more, or is gone."""
        self._blocks = iter(())

    # What it says.

    def outReceived(self, data: bytes) -> None:
        self._output.add(data)

    def errReceived(self, data: bytes) -> None:
        self._output.add(data)

    # The end.

    def processExited(self, reason: Failure) -> None:
        self._exited = True
        cancel(self._timer)
        if self._overdue:
            self._end_what_it_left()
        self._timer = self._clock.callLater(LINGER, self.transport.loseConnection)

    def processEnded(self, reason: Failure) -> None:
        self._exited = True
        cancel(self._timer)
        error: Any = reason.value
        self._settle(Ended(error.exitCode, error.signal, bytes(self._output), self._overdue))

    def _end(self) -> None:
        self._overdue = True
        self._kill(signal.SIGTERM)
        self._timer = self._clock.callLater(GRACE, self._end_by_force)

    def _end_by_force(self) -> None:
        self._kill(signal.SIGKILL)
        self._timer = self._clock.callLater(GRACE, self._leave_alone)

    def _end_what_it_left(self) -> None:
        """It has listened to SIGTERM, and what it has started perhaps has not."""
        # As long as there is a group of this number the number is nobody else's.
        with suppress(ProcessLookupError, PermissionError):
            if self._group is not None:
                self._killpg(self._group, signal.SIGKILL)

    def _leave_alone(self) -> None:
        """It does not end, by a disk that hangs or since it has become a user whose processes are not ours to end."""
        self._settle(Ended(None, signal.SIGKILL, bytes(self._output), overdue=True))
        self.transport.loseConnection()

    def _kill(self, number: signal.Signals) -> None:
        # The number of one that has exited may be somebody else's by now.
        if self._exited or self.transport is None:
            return
        try:
            self._killpg(self.transport.pid, number)
        except ProcessLookupError:  # it has no group of its own yet
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess(number)
        except PermissionError:
            pass  # `_leave_alone`

    def _settle(self, result: Ended | Failure) -> None:
        if not self.ended.called:
            self.ended.callback(result)
