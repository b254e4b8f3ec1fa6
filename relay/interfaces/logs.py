"""What has happened: told to logs, and asked of the history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zope.interface import Interface

from relay.mail.event import Event, Shape
from relay.mail.explanation import Decided
from relay.mail.history import Accounts, Findings


class IMailLog(Interface):
    """
    One line for each thing that happened to a message, with its queue id.
    """

    def event(what: str, /, **fields: object) -> None:
        """
        Note an event. `what` is one word in the past tense (`accepted`, `relayed`, `delayed`); a field
        that is `None` or empty is left out. Never waits and never raises: lines are written together,
        some milliseconds later.
        """


class ITakesRows(IMailLog):
    """
    A mail log that may be given an event as it is kept among ourselves (`relay.mail.event`).

    Nobody needs to be one: who hands events on (`relay.net.teed`) makes an `event` of them for whoever is not.
    """

    def row(shape: Shape[Any], row: tuple[Any, ...]) -> None:
        """As `IMailLog.event`: a value for each name of the shape."""


class ITakesTurns(IMailLog):
    """
    A mail log that may be told, some milliseconds later, of all that has happened meanwhile, and is then told so only.

    That is for logs that keep. Who acts on what happens, such as a policy that observes, hears of it at once.
    """

    def take(events: Sequence[Event]) -> None:
        """
        As `IMailLog.event` for each of them, in order, at the time that stands there. Never waits and never raises.
        Nobody changes `events` from now on.
        """

    def gathered(tell: Callable[[], object]) -> None:
        """
        Somebody gathers events for this log. Before it has to know all that has happened, since somebody asks or since
        it is the end, it calls `tell`, and is told by `take`.
        """


class HistoryUnavailable(Exception):
    """The history cannot be read now. The message says why, in words for the operator."""


class IHistory(IMailLog):
    """
    What happened to messages and to refusals, for people to ask. Nothing that was promised depends on it.

    It is told what the mail log is told. Providers: `relay.history.sqlite`, `relay.history.memory`; both pass
    `relay.testing.history`.
    """

    def event(what: str, /, **fields: object) -> None:
        """
        As `IMailLog.event`. Events are kept together, soon afterwards and behind the reply that they tell of; where
        that cannot be done fast enough, or not at all, they are dropped and counted.
        """

    async def find(text: str, most: int = 20) -> Findings:
        """
        The lives of which `text` is the queue id, the Message-ID, or an address (of a sender, a recipient or a user, in
        any letter case), or that were refused to a client of this IP address: at most `most` of them, the newest first.
        A refusal that has no queue id is a life of its own.

        Events that the history was told before are among them. What is older or more than it may keep is not; where
        much has happened to one message, something is left out in the middle. Raises `HistoryUnavailable`.
        """

    def decided(decision: Decided, id: str = "", ref: str = "") -> None:
        """
        Keep how this came about, for `why`. `id`: of the message that it is about; "" where there is none. `ref`: the
        reference in the reply, or "". It is kept as events are, and is none: `find` knows nothing of it.

        Never waits and never raises. The decision is put into words later, perhaps in another thread: nothing in it
        may change.
        """

    async def why(text: str, most: int = 20) -> Accounts:
        """
        How these decisions came about: by their reference, in any way in which people write it, or by what `find`
        understands. At most `most`, the newest first. Raises `HistoryUnavailable`.
        """

    async def close() -> None:
        """Keep what was told, as far as that is possible now, and let go of the files."""
