"""
How a destination fares: how much it may be sent at once, and when it is left alone for a while.

It is what TCP does with a network that it does not know. It begins with little, has more with each success, and half
as much after trouble. Where there is nothing but trouble the destination is paused; after the pause one attempt finds
out, and others wait for what it finds. Nothing here reads a clock: all times are those of the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from attrs import define, field, frozen
from attrs.validators import ge, gt

from relay.delivery.trouble import About, Judgement
from relay.mail.outcome import Delayed

#: How far what was put off is spread behind the end of a pause, and a pause itself by chance, as a part of it.
_SPREAD: Final = 0.2
#: So often in a row, with no success in between, before the destination is paused. What was under way together
#: counts once.
_PATIENCE: Final = 3
#: For so long a host is not asked for more at once than it has taken before it said that this is too much.
_CEILING_SECONDS: Final = 600.0
#: Before what was met by somebody else, of a copy that was not tried since then.
NOT_YET: Final = "not tried again yet: "
_NEVER: Final = float("inf")
#: Statuses of troubles that are ours and are met before any mail is: the next hop does not let us in, or is not found.
_AT_THE_DOOR: Final = frozenset({"4.7.8", "4.3.5"})


@frozen
class Rate:
    """So many attempts in so many seconds; a tenth of them may begin at once."""

    count: int = field(validator=ge(1))
    seconds: float = field(validator=gt(0))

    @property
    def burst(self) -> float:
        return max(1.0, self.count / 10)


@frozen
class Manner:
    """How a destination is treated."""

    #: How many attempts at once, in the beginning and at most.
    first: int = field(default=2, validator=ge(1))
    most: int = field(default=20, validator=ge(1))
    rate: Rate | None = None
    #: Seconds of the first pause, and of the longest. The pauses of a message are longer from its third attempt on, so
    #: that its attempts are hardly ever put off.
    pause: float = field(default=60.0, validator=gt(0))
    longest_pause: float = field(default=1800.0, validator=gt(0))


@frozen
class Well:
    """Somebody there has answered for the mail, be it with yes or no."""


@frozen
class Trouble:
    """Nobody has, and this is what was met."""

    met: Delayed


#: What an attempt says of its destination; `None`: nothing.
Sign: TypeAlias = Well | Trouble | None

WELL: Final = Well()


def sign_of(judgements: Mapping[str, Judgement]) -> Sign:
    """One copy that somebody has judged there is proof that the destination is well."""
    trouble: Trouble | None = None
    for judgement in judgements.values():
        outcome = judgement.outcome
        if judgement.about is About.RECIPIENT or judgement.about is About.MESSAGE:
            return WELL
        if not isinstance(outcome, Delayed):
            # What one host lacks (SMTPUTF8) it has said itself; of a domain that is not there nobody has said anything.
            if judgement.about is About.HOST:
                return WELL
        elif judgement.about in (About.HOST, About.DESTINATION) or outcome.status in _AT_THE_DOOR:
            trouble = Trouble(outcome)
    return trouble


@define(eq=False)
class Health:
    """What was learnt of one destination."""

    manner: Manner
    #: How many attempts may be under way now.
    limit: int = field(init=False)
    #: No success since so many troubles: none, if there was none or all is well. A pause and its probe have some.
    failures: int = 0
    #: Until when it is left alone, if it is; and whether an operator wants that, until the operator wants it no more.
    paused_until: float | None = None
    by_operator: bool = False
    #: One attempt finds out whether it is well again.
    probing: bool = False
    #: The last trouble, and when it was met.
    last: Delayed | None = None
    last_at: float = 0.0
    #: When it was last used.
    used: float = 0.0
    #: Attempts that began with another number are of another time: their trouble is known already.
    era: int = 0
    #: From when on nothing but its limit forbids anything, for those who ask often: it is not paused, has no rate, and
    #: had no trouble that is not over.
    easy_from: float = field(init=False)
    _growing_fast: bool = True
    _successes: int = 0
    _ceiling: int = 0
    _ceiling_until: float = 0.0
    _pause: float = 0.0
    _tokens: float = field(init=False)
    _counted: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.limit = min(self.manner.first, self.manner.most)
        self._tokens = self.manner.rate.burst if self.manner.rate is not None else 0.0
        self._take_stock()

    def treat(self, manner: Manner, now: float) -> None:
        """From now on it is treated so. What was learnt stays."""
        if manner == self.manner:
            return
        if manner.rate is not None:
            # Who had no rate has sent as it liked: it may begin with what a rate permits at once.
            left = manner.rate.burst if self.manner.rate is None else self._refilled(self.manner.rate, now)
            self._tokens, self._counted = min(manner.rate.burst, left), now
        as_new = self.limit == min(self.manner.first, self.manner.most) and self._growing_fast and not self.probing
        self.limit = min(manner.first if as_new else self.limit, manner.most)
        self.manner = manner
        self._take_stock()

    def _take_stock(self) -> None:
        """Called when anything has changed that `easy_from` speaks of."""
        hard = self.failures or self.by_operator or self.paused_until is not None or self.manner.rate is not None
        self.easy_from = _NEVER if hard else self._ceiling_until

    # What it permits.

    def is_paused(self, now: float) -> bool:
        """Whether nothing may begin. When a pause is over, one attempt may: the probe."""
        if self.paused_until is not None and now >= self.paused_until:
            self.paused_until = None
            self.probing = True
            self.limit = 1
        return self.by_operator or self.paused_until is not None

    def until(self, chance: float) -> float:
        """When what is put off now may be tried, not all of it at once; 0: nobody knows."""
        return 0.0 if self.paused_until is None else self.paused_until + chance * _SPREAD * self._pause

    def reason(self) -> Delayed:
        """Why something is put off."""
        if self.by_operator:
            return Delayed("4.3.2", "the operator has paused the destination")
        last = self.last or Delayed("4.4.1", "nobody has answered")
        return Delayed(last.status, f"{NOT_YET}{last.because}", last.diagnostic, last.peer)

    def may_begin_at(self, now: float) -> float:
        """When its rate permits the next attempt; not after `now`: at once."""
        rate = self.manner.rate
        if rate is None:
            return now
        left = self._refilled(rate, now)
        # What a float cannot say does not keep anybody waiting, or a timer would come too early for ever.
        return now if left >= 1 - 1e-6 else now + (1 - left) * rate.seconds / rate.count

    def begins(self, now: float) -> None:
        """An attempt begins."""
        rate = self.manner.rate
        if rate is not None:
            self._tokens, self._counted = self._refilled(rate, now) - 1, now

    def rate_left(self, now: float) -> int | None:
        """How many attempts its rate permits at once; `None`: it has none."""
        return None if self.manner.rate is None else max(0, int(self._refilled(self.manner.rate, now) + 1e-6))

    def _refilled(self, rate: Rate, now: float) -> float:
        return min(rate.burst, self._tokens + (now - self._counted) * rate.count / rate.seconds)

    def is_carefree(self, now: float) -> bool:
        """Nothing is known against sending it a message before it has judged the one ahead."""
        return not (self.failures or self.by_operator or now < self._ceiling_until)

    # What it learns.

    def has_met(self, sign: Sign, era: int, active: int, now: float, random: Callable[[], float]) -> bool:
        """An attempt that began in this `era` has ended, one of `active`. Whether it is paused because of that."""
        if sign is None:
            return False
        if type(sign) is not Trouble:
            if self.failures or active >= self.limit:
                self._is_well(active, now)
            return False
        self.last, self.last_at = sign.met, now
        return era == self.era and self._has_trouble(bool(sign.met.diagnostic), active, now, random)

    def _is_well(self, active: int, now: float) -> None:
        if self.failures:
            self.failures, self._pause = 0, 0.0
            self._take_stock()
        if self.probing or self.paused_until is not None:
            self._begin_anew()
            return
        if active < self.limit:
            return  # More was not asked for
        if self.limit >= self.manner.most:
            return
        self._successes += 1
        if self._growing_fast or self._successes >= self.limit:
            self._successes = 0
            most = min(self.manner.most, self._ceiling) if now < self._ceiling_until else self.manner.most
            self.limit = max(self.limit, min(self.limit + 1, most))

    def _has_trouble(self, answered: bool, active: int, now: float, random: Callable[[], float]) -> bool:
        """Whether it has had enough."""
        self.era += 1
        self.failures += 1
        self._growing_fast, self._successes = False, 0
        self.limit = max(1, self.limit // 2)
        if answered and active > 1:
            self._ceiling, self._ceiling_until = active - 1, now + _CEILING_SECONDS
        self.easy_from = _NEVER
        if self.failures < _PATIENCE:
            return False
        self._pause = min(max(2 * self._pause, self.manner.pause), self.manner.longest_pause)
        self.paused_until = now + self._pause * (1 + _SPREAD * random())
        self.probing = False
        self.limit = 1
        return True

    def _begin_anew(self) -> None:
        self.paused_until, self.probing, self.failures, self._pause = None, False, 0, 0.0
        self.limit = min(self.manner.first, self.manner.most)
        self._growing_fast, self._successes = True, 0
        self._ceiling_until = 0.0
        self._take_stock()

    # The operator.

    def pause(self) -> None:
        """Whatever was learnt, leave it alone until it is resumed."""
        self.by_operator = True
        self._take_stock()

    def resume(self) -> None:
        """Whatever was learnt, try."""
        self.by_operator = False
        self._begin_anew()

    @property
    def untaught(self) -> bool:
        """It knows nothing that a new one would not."""
        return (
            self.limit == min(self.manner.first, self.manner.most)
            and not self.failures
            and not self.by_operator
            and not self.probing
            and self.paused_until is None
            and self._ceiling_until == 0.0
            and self.manner.rate is None
            and self.last is None
        )
