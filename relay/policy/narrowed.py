"""What is so for all that a client asks: which of the conditions about it hold is found out once for each client."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeAlias, TypeVar

from relay.policy.asking import Inquiry, Stop
from relay.policy.guard import Condition

T = TypeVar("T")

#: A policy's turn, where the client is known: by which condition about it the policy is skipped, if by one; and else
#: the conditions that are left (`Condition`).
Turn: TypeAlias = tuple[Stop, str | None, Condition | None]

#: How many kinds of clients are told apart before all are forgotten. There are as many as there are ways for conditions
#: to hold and not to hold.
_KINDS: Final = 1000


class Narrowed(Generic[T]):
    """
    What is made of a phase's policies for one client is made once for all clients of the same kind: those of whom the
    same conditions hold.
    """

    __slots__ = ("_conditions", "_kinds", "_make", "_stops")

    def __init__(self, stops: Iterable[Stop], make: Callable[[Iterable[Turn]], T]) -> None:
        self._stops = tuple(stops)
        self._make = make
        self._conditions = tuple(stop.of_client for stop in self._stops if stop.of_client is not None)
        self._kinds: dict[tuple[str | None, ...], T] = {}

    def of(self, inquiry: Inquiry) -> T:
        """For the client of this inquiry, whatever else it is about."""
        kind = tuple([lacks(inquiry) for lacks in self._conditions]) if self._conditions else ()
        made = self._kinds.get(kind)
        if made is None:
            if len(self._kinds) >= _KINDS:
                self._kinds.clear()
            made = self._kinds[kind] = self._make(self._turns(kind))
        return made

    def _turns(self, kind: Iterable[str | None]) -> Iterable[Turn]:
        lacking = iter(kind)
        for stop in self._stops:
            skipped_by = None if stop.of_client is None else next(lacking)
            yield stop, skipped_by, None if skipped_by is not None else stop.beside_client
