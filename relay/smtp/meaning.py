"""
What a reply means for the transaction that it answers: one row for each thing that is said and each first digit of a
code (RFC 5321 section 4.2.1: it is all that a client may go by).

A row notes in the `Course` what it says of whom, and returns what follows from it; doing that is the session's. A reply
without a row means nothing, and ends the conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Final, TypeAlias

from attrs import frozen

from relay.mail.outcome import Answered, Carried, Peer, Phase
from relay.mail.reply import Reply
from relay.smtp.course import Course, Said

#: How much of a reply is kept in a fact's text.
TEXT: Final = 500


@frozen
class Counterpart:
    """Who answers, and what a message that is taken means there beside the server's words: see `Carried`."""

    peer: Peer
    by: str
    lmtp: bool = False
    onward: bool = True
    told: bool = False
    tls: str = ""
    timed: bool = False


class Follows(Enum):
    """What follows from a reply."""

    #: The next one is heard, and what is to be said next is said.
    NOTHING = auto()
    #: Nobody is left whom it could be for. What was said of it is still answered, the rest is not said.
    VANITY = auto()
    #: It is over before its content, and the server may hold it open: RSET, before the next one.
    RESET = auto()
    #: Its content is wanted.
    CONTENT = auto()
    #: Content is wanted, and there is nobody whom it would be for: it is empty.
    EMPTINESS = auto()
    #: If nobody is left whom it could be for, no more of its chunks; and when each of them is answered, `RESET`.
    CHUNK = auto()
    #: It is over when nothing of it is to be answered any more.
    END = auto()
    #: The same, and the server may hold it open.
    UNCERTAIN_END = auto()


@frozen
class Absurdity:
    """It cannot be an answer to what was said before."""

    text: str


_Meaning: TypeAlias = Follows | Absurdity
_Row: TypeAlias = Callable[[Course, Reply, int, Counterpart], _Meaning]


def _go_on(course: Course, reply: Reply, index: int, who: Counterpart) -> _Meaning:
    return Follows.NOTHING


def _refuse_mail(course: Course, reply: Reply, index: int, who: Counterpart) -> _Meaning:
    course.settle_rest(Answered(reply, Phase.MAIL, who.peer))
    return Follows.VANITY


def _accept_recipient(course: Course, reply: Reply, index: int, who: Counterpart) -> _Meaning:
    course.accepted.append(index)
    return _after_recipient(course)


def _refuse_recipient(course: Course, reply: Reply, index: int, who: Counterpart) -> _Meaning:
    course.settle(index, Answered(reply, Phase.RCPT, who.peer))
    return _after_recipient(course)


def _after_recipient(course: Course) -> _Meaning:
    """
    Chunks follow only when each recipient is answered. Had they been sent ahead, a connection that breaks at MAIL would
    leave us in doubt whether the server has them all, and no other host could be asked.
    """
    course.unanswered -= 1
    if course.chunked and not course.unanswered:
        return Follows.CONTENT if course.unsettled else Follows.RESET
    return Follows.NOTHING if course.unsettled else Follows.VANITY


def _send_content(course: Course, reply: Reply, index: int, who: Counterpart) -> _Meaning:
    """
    354. If nobody is left to send to, the content is empty, and whatever is said to it is no promise (RFC 2920
    section 3.1). A server that refused the sender but not all recipients would deliver that emptiness.
    """
    if course.unsettled:
        return Follows.CONTENT
    if course.accepted:
        return Absurdity("354 to a transaction whose sender was refused")
    if who.lmtp:
        # RFC 2033 section 4.2: 503 it should have been, and for nobody there would be no reply to the content.
        return Absurdity("354 to a transaction without recipients")
    return Follows.EMPTINESS


def _refuse_data(course: Course, reply: Reply, index: int, who: Counterpart) -> _Meaning:
    course.settle_rest(Answered(reply, Phase.DATA, who.peer))
    return Follows.RESET


def _accept_chunk(course: Course, reply: Reply, index: int, who: Counterpart) -> _Meaning:
    return Follows.CHUNK


def _refuse_chunk(course: Course, reply: Reply, index: int, who: Counterpart) -> _Meaning:
    """The message is refused. Chunks that are on their way already will be refused too (RFC 3030 section 2)."""
    course.settle_rest(Answered(reply, Phase.CONTENT, who.peer))
    return Follows.CHUNK


def _accept_content(course: Course, reply: Reply, index: int, who: Counterpart) -> _Meaning:
    _settle(course, index, Carried(who.onward, who.by, str(reply)[:TEXT], who.told, who.tls, who.timed))
    return Follows.END


def _refuse_content(course: Course, reply: Reply, index: int, who: Counterpart) -> _Meaning:
    _settle(course, index, Answered(reply, Phase.END if index < 0 else Phase.COPY, who.peer))
    # A chunk that was refused may leave the transaction as it was (RFC 3030 section 2).
    return Follows.UNCERTAIN_END if course.chunked else Follows.END


def _settle(course: Course, index: int, fact: Carried | Answered) -> None:
    if index < 0:
        course.settle_rest(fact)
    else:
        course.settle(index, fact)


MEANINGS: Final[Mapping[tuple[Said, int], _Row]] = {
    (Said.MAIL, 2): _go_on,
    (Said.MAIL, 4): _refuse_mail,
    (Said.MAIL, 5): _refuse_mail,
    (Said.RCPT, 2): _accept_recipient,
    (Said.RCPT, 4): _refuse_recipient,
    (Said.RCPT, 5): _refuse_recipient,
    (Said.DATA, 3): _send_content,
    (Said.DATA, 4): _refuse_data,
    (Said.DATA, 5): _refuse_data,
    (Said.CHUNK, 2): _accept_chunk,
    (Said.CHUNK, 4): _refuse_chunk,
    (Said.CHUNK, 5): _refuse_chunk,
    (Said.CONTENT, 2): _accept_content,
    (Said.CONTENT, 4): _refuse_content,
    (Said.CONTENT, 5): _refuse_content,
}
