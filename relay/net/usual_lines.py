"""
Lines of the mail log about what happens to each message, in one go: nobody looks at each name and each value.

They are as `relay.net.logline` makes them of any event, or there is none, and one has to be made there. How a line has
to look where something stands in it that ends a line or a quotation is seen there, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from relay.mail.event import ACCEPTED, DELIVERED, DISCARDED, HELD, RELAYED, Shape

#: A line without its time and its end, and how many quotes were put there; "": it has to be made in another way.
Usual: TypeAlias = Callable[[Shape[Any], tuple[Any, ...]], tuple[str, int]]

_NONE: Final = ("", 0)


def _accepted(shape: Shape[Any], row: tuple[Any, ...]) -> tuple[str, int]:
    id, sender, recipients, to, size, message_id, client, helo, listener, user, tls, edited = row
    if edited or not (id and sender and to and client and helo and listener):
        return _NONE
    path = sender if type(sender) is str else f"<{sender.text}>"
    line = f"{shape.what} id={id} sender={path} recipients={recipients} to={to} size={size}"
    blanks = 8
    if message_id:
        line = f"{line} message_id={message_id}"
        blanks = 9
    line = f"{line} client={client} helo={helo} listener={listener}"
    if user:
        line = f"{line} user={user}"
        blanks += 1
    if tls:
        line = f"{line} tls={tls}"
        blanks += 1
    # Another blank has come with a value, which has to be quoted then.
    return (line, 0) if line.count(" ") == blanks else _NONE


def _carried(shape: Shape[Any], row: tuple[Any, ...]) -> tuple[str, int]:
    id, recipient, destination, original, by, text, tls, attempts, age = row
    if not (id and destination and by):
        return _NONE
    line = f"{shape.what} id={id} recipient=<{recipient.text}> destination={destination}"
    blanks = 4
    if original is not None:
        line = f"{line} original=<{original.text}>"
        blanks = 5
    line = f"{line} by={by}"
    if line.count(" ") != blanks or " " in tls:
        return _NONE
    quotes = 0
    if " " in text:
        line = f'{line} text="{text}"'
        quotes = 2
    elif text:
        line = f"{line} text={text}"
    if tls:
        line = f"{line} tls={tls}"
    # Of tenths that is what `_text` makes of them.
    return f"{line} attempts={attempts} age={age:.12g}", quotes


def _ended(shape: Shape[Any], row: tuple[Any, ...]) -> tuple[str, int]:
    id, recipient, original, policy, because = row
    if not (id and policy):
        return _NONE
    line = f"{shape.what} id={id} recipient=<{recipient.text}>"
    blanks = 3
    if original is not None:
        line = f"{line} original=<{original.text}>"
        blanks = 4
    line = f"{line} policy={policy}"
    if line.count(" ") != blanks:
        return _NONE
    if " " in because:
        return f'{line} because="{because}"', 2
    return (f"{line} because={because}" if because else line), 0


#: By the shape of an event.
USUAL: Final[Mapping[Shape[Any], Usual]] = {
    ACCEPTED: _accepted,
    DELIVERED: _carried,
    RELAYED: _carried,
    DISCARDED: _ended,
    HELD: _ended,
}
