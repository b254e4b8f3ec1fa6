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
    #: RFC 3463, where mail fails.
    status: str = ""
    #: What that says.
    text: str = ""

    @property
    def because(self) -> str:
        """What the sender is told, which names no URL."""
        if self.fate is Fate.FAILED:
            refused = "the application that takes mail for this address has refused it"
            return f"{refused}: {self.text}" if self.text else refused
        return "the application that takes mail for this address cannot take it now"


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
    Line(404, 404, Fate.FAILED, "5.1.1", "there is no such mailbox"),
    Line(410, 410, Fate.FAILED, "5.1.1", "there is no such mailbox"),
    Line(403, 403, Fate.FAILED, "5.7.1", "it is not permitted"),
    # RFC 7725.
    Line(451, 451, Fate.FAILED, "5.7.1", "it is not permitted"),
    Line(413, 413, Fate.FAILED, "5.3.4", "the message is too large"),
    Line(400, 400, Fate.FAILED, "5.6.0", "something is wrong with the message"),
    Line(415, 415, Fate.FAILED, "5.6.0", "something is wrong with the message"),
    Line(422, 422, Fate.FAILED, "5.6.0", "something is wrong with the message"),
    # RFC 3463 section 3.4, X.3.0: nothing more is known than that the system there does not take it.
    Line(400, 499, Fate.FAILED, "5.3.0"),
    Line(500, 599, Fate.LATER),
)
#: RFC 9110 section 15: what is none of these says nothing.
OTHER: Final = Line(0, 0, Fate.LATER)


def meaning(status: int) -> Line:
    return next((line for line in TABLE if line.first <= status <= line.last), OTHER)
