"""Whose code it is that runs at this moment, for whoever finds that the reactor stands still."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any

from relay.net.frames import frames
from relay.policy.asking import Station, at_work


def culprit(stations: Iterable[Station], innermost: FrameType) -> str:
    """
    The name of the policy that is being asked; or of that whose code this frame is in, which goes on with something
    that it has waited for. "" if it is nobody's.

    May be called in any thread.
    """
    asked = at_work()
    if asked:
        return asked
    classes = [(station.name, each) for station in stations for each in _written(type(station.policy))]
    for frame in frames(innermost):
        code = frame.f_code
        for name, each in classes:
            if code.co_qualname.startswith(f"{each.__qualname__}.") and code.co_filename == _file(each):
                return name
    return ""


def _written(policy: type[Any]) -> list[type[Any]]:
    """The classes that its code stands in."""
    return [each for each in policy.__mro__ if each is not object]


def _file(of: type[Any]) -> str | None:
    return getattr(sys.modules.get(of.__module__), "__file__", None)
