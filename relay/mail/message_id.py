"""The name that a message's author has given it (RFC 5322 section 3.6.4), for people to find it by."""

from __future__ import annotations

import re
from typing import Final

#: Letter by letter, and not by `re.IGNORECASE`: with that the search for the line end in front would take ten times as
#: long, and this is done for every message. What is longer than a line may be (RFC 5322 section 2.1.1) is no name.
_FIELD: Final = re.compile(
    rb"\r\n[Mm][Ee][Ss][Ss][Aa][Gg][Ee]-[Ii][Dd][ \t]*+:[ \t]*+(?:\r\n[ \t]++)?+(<[^\s<>]{1,990}>)",
)
_FIRST: Final = b"Mm"


def message_id(section: bytes | bytearray) -> str:
    """
    The first Message-ID in a header section, brackets included, or "".

    One that is no `<` name `>` is none: nobody could find it. Time is linear in the section.
    """
    found = _FIELD.match(b"\r\n" + section) if section and section[0] in _FIRST else None
    found = found or _FIELD.search(section)
    return "" if found is None else found[1].decode("utf-8", "replace")
