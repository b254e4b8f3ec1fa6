"""
What an HTTP status means for a message, as one table; the first line that fits decides.

Why each: docs/decisions/0012-mail-over-http.md.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from relay.agents.parcels import Fate


@frozen
class Line:
    """Statuses from `first` to `last`."""

    first: int
    last: int
    fate: Fate
    #: The fact's `errno_name`: `ENOENT` is "no such mailbox here" (`relay.delivery.trouble`).
    errno_name: str = ""


TABLE: Final = (
    Line(200, 299, Fate.DELIVERED),
    # No redirect is followed: where mail goes is for the operator to say.
    Line(300, 399, Fate.LATER),
    # Of us and not of the message: a token that has expired, a proxy that wants one.
    Line(401, 401, Fate.LATER),
    Line(407, 407, Fate.LATER),
    # RFC 9110 section 15.5.9, RFC 8470 section 5.2, RFC 6585 section 4: the same again, another time.
    Line(408, 408, Fate.LATER),
    Line(425, 425, Fate.LATER),
    Line(429, 429, Fate.LATER),
    Line(404, 404, Fate.FAILED, "ENOENT"),
    Line(410, 410, Fate.FAILED, "ENOENT"),
    Line(400, 499, Fate.FAILED),
    Line(500, 599, Fate.LATER),
)
#: RFC 9110 section 15: what is none of these says nothing.
OTHER: Final = Line(0, 0, Fate.LATER)


def meaning(status: int) -> Line:
    return next((line for line in TABLE if line.first <= status <= line.last), OTHER)
