"""What a client has said and waits to be answered, and how far each of its transactions has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, IntEnum, auto
from typing import Final, TypeAlias

from relay.mail.outcome import Fact, Phase
from relay.smtp.transaction import Settled


class Said(IntEnum):
    """What we have said, and a reply is due to. Asked for so often in tables that it is a number there."""

    #: We have connected: the greeting is due.
    NOTHING = auto()
    EHLO = auto()
    HELO = auto()
    LHLO = auto()
    STARTTLS = auto()
    #: AUTH, and each response to a challenge.
    AUTH = auto()
    #: `*`: we have given AUTH up.
    CANCEL = auto()
    RSET = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    #: BDAT with a chunk that is not the last.
    CHUNK = auto()
    #: All of the content: with its terminator, or with BDAT LAST.
    CONTENT = auto()
    QUIT = auto()


#: What people call the time between something that we say and its reply.
PHASES: Final[Mapping[Said, Phase]] = {
    Said.NOTHING: Phase.GREETING,
    Said.EHLO: Phase.HELLO,
    Said.HELO: Phase.HELLO,
    Said.LHLO: Phase.HELLO,
    Said.STARTTLS: Phase.STARTTLS,
    Said.AUTH: Phase.AUTH,
    Said.CANCEL: Phase.AUTH,
    Said.RSET: Phase.MAIL,
    Said.MAIL: Phase.MAIL,
    Said.RCPT: Phase.RCPT,
    Said.DATA: Phase.DATA,
    Said.CHUNK: Phase.CONTENT,
    Said.CONTENT: Phase.END,
    Said.QUIT: Phase.END,
}


class Course:
    """The course of a transaction: what is known of each recipient so far. Dropped when the transaction is over."""

    __slots__ = ("accepted", "chunked", "facts", "unanswered", "unsettled")

    def __init__(self, count: int, chunked: bool) -> None:
        """With so many recipients, and its content in chunks or not."""
        self.chunked = chunked
        self.unsettled = count
        self.facts: list[Fact | None] = [None] * count
        #: The recipients that the server has accepted, by their places.
        self.accepted: list[int] = []
        #: How many of RCPT's replies are still to come.
        self.unanswered = 0

    def left(self) -> Sequence[int]:
        """The places of those of whom nothing is known yet."""
        if self.unsettled == len(self.facts):
            return range(self.unsettled)
        return [index for index, fact in enumerate(self.facts) if fact is None]

    def settle(self, index: int, fact: Fact) -> None:
        """The first fact about a recipient stands."""
        if self.facts[index] is None:
            self.facts[index] = fact
            self.unsettled -= 1

    def settle_rest(self, fact: Fact) -> None:
        """The same fact for all of whom nothing is known yet."""
        if self.unsettled == len(self.facts):
            self.facts = [fact] * self.unsettled
        elif self.unsettled:
            self.facts = [fact if known is None else known for known in self.facts]
        self.unsettled = 0

    def settled(self) -> Settled:
        """What there is to report, once there is a fact for everybody."""
        return Settled(tuple(self.facts))  # type: ignore[arg-type]  # nothing is `None` any more


class Usual(Enum):
    """
    How far transactions have come that go as nearly all do: each for one recipient, said in one piece (RFC 2920 section
    3.1), its content behind DATA, and none of its replies but the last heard without the others.

    As long as all of them do, this is all that is to be known of them.
    """

    #: There is none of that kind; perhaps there are others.
    NONE = auto()
    #: MAIL, RCPT and DATA were said.
    PROPOSED = auto()
    #: The content is on its way.
    SENDING = auto()
    #: It has left.
    SENT = auto()
    #: The same, and behind it the next transaction is `PROPOSED`.
    FOLLOWED = auto()


#: A reply that is due: to what, of which transaction, and about which recipient where it speaks of one (else -1).
Due: TypeAlias = tuple[Said, Course | None, int]


def due_to_proposal(course: Course) -> tuple[Due, Due, Due]:
    """What is due when this transaction for one recipient was proposed."""
    return (Said.MAIL, course, -1), (Said.RCPT, course, 0), (Said.DATA, course, -1)


def spoken(lines: Sequence[str]) -> bytes:
    """These commands as octets, one behind the other."""
    speakable("".join(lines))
    return "\r\n".join((*lines, "")).encode()


def speakable(line: str) -> str:
    """
    The line, if it is certain that it is one. An address that was parsed has no character that would be found here,
    and so it is our own fault if there is one.
    """
    if not line.isprintable():
        raise ValueError("a command has characters that no command may have")
    return line
