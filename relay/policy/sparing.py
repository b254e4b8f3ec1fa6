"""Which messages are nothing to any policy about content: most of them, and nothing is looked at for their sake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from relay.mail.routing import Inquiry
from relay.policy.guard import Condition, constantly
from relay.policy.narrowed import Turn
from relay.policy.steps import Skipped


class Sparing:
    """
    The guards of the policies about content, for one client.

    As long as nobody is asked nothing is found out, so that what guards say of facts is certain, too.
    """

    __slots__ = ("_guards", "_unguarded")

    def __init__(self, turns: Iterable[Turn]) -> None:
        #: For each policy its guard, and the step that is told where this condition of it does not hold.
        self._guards: list[tuple[Condition, Mapping[str | None, Skipped]]] = []
        #: One of them is asked about all of the client's mail.
        self._unguarded = False
        for stop, skipped_by, guard in turns:
            if skipped_by is not None:
                guard = constantly(skipped_by)
            elif guard is None:
                self._unguarded = True
                return
            self._guards.append((guard, {key: Skipped(None, stop.name, key, stop.phase.name) for key in stop.keys}))

    def __call__(self, about: Sequence[Inquiry]) -> Sequence[Skipped] | None:
        """As `IScreening.sparing` says. A step names the condition that does not hold for the last recipient."""
        if self._unguarded:
            return None
        told: list[Skipped] = []
        for lacks, steps in self._guards:
            for inquiry in about:
                lacking = lacks(inquiry)
                if lacking is None:
                    return None
            told.append(steps[lacking])
        return told
