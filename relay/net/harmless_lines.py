"""
Lines of the mail log as they are where nothing in them has to be escaped or cut. Whether that is so is for
`relay.net.logline` to see, which makes every other line.

Those of what happens to each message are made in one go: nobody looks at each name and at each value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from relay.mail.address import Address
from relay.mail.event import ACCEPTED, DELIVERED, DISCARDED, HELD, RELAYED, Shape

#: A line without its time and its end, and how many quotes were put there.
Written: TypeAlias = Callable[[Shape[Any], tuple[Any, ...]], tuple[str, int]]


def written(shape: Shape[Any], row: tuple[Any, ...]) -> tuple[str, int]:
    """The line of any event."""
    line, quotes = shape.what, 0
    for name, value in zip(shape.names, row, strict=True):
        text: Any = value
        kind = type(text)
        if kind is not str:
            if text is None:
                continue
            text = f"<{text.text}>" if kind is Address else text_of(text)
        if " " in text:
            line = f'{line} {name}="{text}"'
            quotes += 2
        elif text:
            line = f"{line} {name}={text}"
    return line, quotes


def text_of(value: object) -> str:
    """A value as it stands in a line, if nothing in it has to be escaped."""
    match value:
        case float():
            return f"{value:.3f}".rstrip("0").rstrip(".")
        case Address():
            return f"<{value}>"
        case bool():
            return "yes" if value else "no"
        case tuple() | list():
            return ",".join(text_of(each) for each in value)
        case _:
            return str(value)


def _accepted(shape: Shape[Any], row: tuple[Any, ...]) -> tuple[str, int]:
    id, sender, recipients, to, size, message_id, client, helo, listener, user, tls, edited = row
    if edited or not (client and helo and listener):
        return written(shape, row)
    path = sender if type(sender) is str else f"<{sender.text}>"
    named, blanks = (f" message_id={message_id}", 9) if message_id else ("", 8)
    line = (
        f"accepted id={id} sender={path} recipients={recipients} to={to} size={size}{named}"
        f" client={client} helo={helo} listener={listener}"
    )
    if user:
        line = f"{line} user={user}"
        blanks += 1
    if tls:
        line = f"{line} tls={tls}"
        blanks += 1
    # Another blank has come with a value, which has to be quoted then.
    return (line, 0) if line.count(" ") == blanks else written(shape, row)


def _carried(shape: Shape[Any], row: tuple[Any, ...]) -> tuple[str, int]:
    id, recipient, destination, original, by, text, tls, attempts, age = row
    line = f"{shape.what} id={id} recipient=<{recipient.text}> destination={destination}"
    blanks = 4
    if original is not None:
        line = f"{line} original=<{original.text}>"
        blanks = 5
    line = f"{line} by={by}"
    if not by or line.count(" ") != blanks or " " in tls:
        return written(shape, row)
    quotes = 0
    if " " in text:
        line = f'{line} text="{text}"'
        quotes = 2
    elif text:
        line = f"{line} text={text}"
    if tls:
        line = f"{line} tls={tls}"
    # Of tenths that is what `text_of` makes of them.
    return f"{line} attempts={attempts} age={age:.12g}", quotes


def _ended(shape: Shape[Any], row: tuple[Any, ...]) -> tuple[str, int]:
    id, recipient, original, policy, because = row
    line = f"{shape.what} id={id} recipient=<{recipient.text}>"
    blanks = 3
    if original is not None:
        line = f"{line} original=<{original.text}>"
        blanks = 4
    line = f"{line} policy={policy}"
    if not policy or line.count(" ") != blanks:
        return written(shape, row)
    if " " in because:
        return f'{line} because="{because}"', 2
    return (f"{line} because={because}" if because else line), 0


#: By the shape of an event, where it is not `written`.
USUAL: Final[Mapping[Shape[Any], Written]] = {
    ACCEPTED: _accepted,
    DELIVERED: _carried,
    RELAYED: _carried,
    DISCARDED: _ended,
    HELD: _ended,
}
