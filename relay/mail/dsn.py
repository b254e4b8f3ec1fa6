"""
What a sender wants to be told, and how (RFC 3461): the parameters NOTIFY, ORCPT, RET and ENVID as values.

ORCPT and ENVID are kept as they came, in xtext: so they are passed on unchanged, and only a notice decodes them.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from attrs import frozen

_HEXADECIMAL = re.compile(r"\+([0-9A-F]{2})")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*\Z")


class Notify(Enum):
    """When somebody wants to be told of a recipient (RFC 3461 section 4.1). `NEVER` stands alone."""

    # Each is itself and nothing else. The hash that Enum has is of its name, and in Python.
    __hash__ = object.__hash__

    NEVER = "NEVER"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    DELAY = "DELAY"


class Return(Enum):
    """What a notice of a failure returns of the message (RFC 3461 section 4.3)."""

    FULL = "FULL"
    HEADERS = "HDRS"


@frozen
class Wishes:
    """What the sender has said about one recipient. Nothing said is not the same as a wish for failures alone."""

    #: `None`: NOTIFY was not said. We then tell of failures (section 4.1), and say nothing of it to the next hop.
    notify: frozenset[Notify] | None = None
    #: `type;xtext`, as ORCPT said it, or "".
    orcpt: str = ""

    def wants(self, what: Notify) -> bool:
        """Whether the sender is to be told of this. Failures are told unless something else was said."""
        return what is Notify.FAILURE if self.notify is None else what in self.notify


#: The sender has said nothing.
NO_WISHES: Final = Wishes()


def is_xtext(text: str) -> bool:
    """Whether this is `xtext` (RFC 3461 section 4)."""
    return _XTEXT.match(text) is not None


def decoded(xtext: str) -> str:
    """
    What xtext stands for. Its octets are taken for UTF-8, and what is none is shown as U+FFFD: whoever writes the text
    anywhere makes it printable first.
    """
    if "+" not in xtext:
        return xtext
    octets = _HEXADECIMAL.sub(lambda found: chr(int(found[1], 16)), xtext)
    try:
        return octets.encode("latin-1").decode("utf-8", "replace")
    except UnicodeEncodeError:  # it was written in UTF-8 already (RFC 6533 section 3)
        return octets
