"""
Events of the mail log (docs/mail-log.md) as they are on their way to whoever keeps them: a shape, and a row of values.

What happens to each message is told as a row of a shape that is known to who tells it and to who keeps it: nobody has
to look at names, or at what kind of value each is. Everything else that happens has a shape that is made of its names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Generic, TypeAlias, TypeVar

from relay.mail.address import Address

#: The values of an event, in the order of its shape's names. One that is `None` or empty says nothing.
Row = TypeVar("Row", bound=tuple[Any, ...])

#: Shapes that are kept by what they say: the relay has a few dozen.
_MOST: Final = 500


class Shape(Generic[Row]):
    """What an event says: its word, and the names of its fields. A shape is equal to itself only."""

    __slots__ = ("names", "what", "where_id")

    def __init__(self, what: str, *names: str) -> None:
        self.what = what
        self.names = names
        #: Where in a row the queue id stands; -1: nowhere.
        self.where_id = names.index("id") if "id" in names else -1

    def fields(self, row: Row) -> dict[str, Any]:
        """A row's values by their names."""
        return dict(zip(self.names, row, strict=True))

    def __repr__(self) -> str:
        return f"Shape({', '.join(map(repr, (self.what, *self.names)))})"


#: An event: when that was (seconds since the epoch, by the machine's clock), and what was said.
Event: TypeAlias = tuple[float, Shape[Any], tuple[Any, ...]]

#: A message is ours. `sender` is "<>" where it is the null reverse-path. It, `id` and `to` are never empty.
ACCEPTED: Final[
    Shape[tuple[str, Address | str, int, str, int, str, str | None, str, str, str | None, str | None, str]]
] = Shape(
    "accepted",
    "id",
    "sender",
    "recipients",
    "to",
    "size",
    "message_id",
    "client",
    "helo",
    "listener",
    "user",
    "tls",
    "edited",
)

_Carried: TypeAlias = tuple[str, Address, str, Address | None, str, str, str, int, float]
_CARRIED: Final = ("id", "recipient", "destination", "original", "by", "text", "tls", "attempts", "age")

#: A recipient is done with. `age` is in whole tenths of a second; `id` and `destination` are never empty.
DELIVERED: Final[Shape[_Carried]] = Shape("delivered", *_CARRIED)
RELAYED: Final[Shape[_Carried]] = Shape("relayed", *_CARRIED)

#: Nobody will carry this copy: by whose word, and why. `id` is never empty.
_ENDED: Final = ("id", "recipient", "original", "policy", "because")
DISCARDED: Final[Shape[tuple[str, Address, Address | None, str, str]]] = Shape("discarded", *_ENDED)
HELD: Final[Shape[tuple[str, Address, Address | None, str, str]]] = Shape("held", *_ENDED)

_shapes: Final[dict[tuple[str, ...], Shape[Any]]] = {}


def shape_of(what: str, names: Iterable[str]) -> Shape[Any]:
    """
    The shape of what is told by names. It is another one than those above, so that these have rows of just their kinds.
    """
    said = (what, *names)
    shape = _shapes.get(said)
    if shape is None:
        if len(_shapes) >= _MOST:
            _shapes.clear()  # somebody invents names
        _shapes[said] = shape = Shape(*said)
    return shape
