"""
Durations and sizes, as people write them.

A setting whose type is `Duration` takes `"5m"`, `"4h"`, `"300s"`, `"5d"` or a number of seconds, and its value is
seconds; one whose type is `Size` takes `"25 MiB"`, `"64 KiB"` or a number of octets, and its value is octets. For the
options of policies too.
"""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

SECOND: Final = 1
MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86400

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

_SECONDS = {"d": DAY, "h": HOUR, "m": MINUTE, "s": SECOND}
_OCTETS = {"GiB": GIB, "MiB": MIB, "KiB": KIB}

_NUMBER_AND_UNIT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([a-zA-Z]+)\Z")

#: More is a slip of the finger, and would not fit into every integer that it comes to.
_LONGEST: Final = 100 * 365 * DAY
_LARGEST: Final = 1024 * 1024 * GIB

_NO_DURATION = "should be a duration such as '30s', '5m', '4h' or '5d', or a number of seconds"
_NO_SIZE = "should be a size such as '64 KiB' or '25 MiB', or a number of octets"


def duration(value: object) -> float:
    """Seconds. Raises `ValueError`, also for what is not more than no time at all."""
    seconds: float
    if isinstance(value, str):
        match = _NUMBER_AND_UNIT.match(value)
        if match is None or match[2] not in _SECONDS:
            raise ValueError(_NO_DURATION)
        seconds = float(match[1]) * _SECONDS[match[2]]
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and value == value:  # not NaN
        seconds = value
    else:
        raise ValueError(_NO_DURATION)
    if seconds <= 0:
        raise ValueError("should be longer than no time at all")
    if seconds > _LONGEST:
        raise ValueError("should be at most 100 years")
    return float(seconds)


def size(value: object) -> int:
    """Octets. Raises `ValueError`; nothing (0) is a size."""
    octets: float
    if isinstance(value, str):
        match = _NUMBER_AND_UNIT.match(value)
        if match is None:
            raise ValueError(_NO_SIZE)
        if match[2] not in _OCTETS:
            meant = next((unit for unit in _OCTETS if unit[0] == match[2][0].upper()), None)
            raise ValueError(f"'{match[2]}' is no unit, did you mean '{meant}'?" if meant else _NO_SIZE)
        octets = float(match[1]) * _OCTETS[match[2]]
        if octets != int(octets):
            raise ValueError("should be a whole number of octets")
    elif isinstance(value, int) and not isinstance(value, bool):
        octets = value
    else:
        raise ValueError(_NO_SIZE)
    if octets < 0:
        raise ValueError("should be 0 octets or more")
    if octets > _LARGEST:
        raise ValueError(f"should be at most {spell_size(_LARGEST)}")
    return int(octets)


def spell_duration(seconds: float) -> str:
    """A duration as one would write it in the file: the largest unit of which it is a whole number."""
    for unit, length in _SECONDS.items():
        if seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds}s"


def spell_size(octets: int) -> str:
    """A size as one would write it in the file, from 1 KiB up with a unit if it is a whole number of it."""
    for unit, length in _OCTETS.items():
        if octets and octets % length == 0:
            return f"{octets // length} {unit}"
    return str(octets)


def at_least(octets: int) -> AfterValidator:
    """For `Annotated[Size, at_least(64 * KIB)]`."""

    def check(value: int) -> int:
        if value < octets:
            raise ValueError(f"should be at least {spell_size(octets)}")
        return value

    return AfterValidator(check)


def at_most(seconds: float) -> AfterValidator:
    """For `Annotated[Duration, at_most(DAY)]`."""

    def check(value: float) -> float:
        if value > seconds:
            raise ValueError(f"should be at most {spell_duration(seconds)}")
        return value

    return AfterValidator(check)


Duration = Annotated[
    float,
    BeforeValidator(duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?[smhd]$"},
            ],
            "x-unit": "second",
        }
    ),
]

#: How long something may be waited for. Longer than a day is not a limit, and no timer of an event loop is made for
#: weeks (`epoll_wait` counts milliseconds in an `int`).
Timeout = Annotated[Duration, at_most(DAY)]

#: A `Timeout`, or 0: no time is too long.
TimeoutOrNever = Annotated[
    float,
    BeforeValidator(lambda value: duration(value) if value != 0 or isinstance(value, bool) else 0.0),
    at_most(DAY),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?[smhd]$"},
            ],
            "x-unit": "second",
        }
    ),
]

Size = Annotated[
    int,
    BeforeValidator(size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?[KMG]iB$"},
            ],
            "x-unit": "octet",
        }
    ),
]
