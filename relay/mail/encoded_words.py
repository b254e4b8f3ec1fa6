"""
Encoded words (RFC 2047): what a header field says in other alphabets, made readable.

They are written by strangers. Time is linear in the octets, nothing is looked up by a name that a stranger has given
but in a table of our own, and whatever is no encoded word stays as it is.
"""

from __future__ import annotations

import re
from binascii import Error, a2b_base64, a2b_qp
from typing import Final

#: Charset (RFC 2231 section 5 lets a language follow it), encoding, text. Programs have always put blanks into the
#: text, and readers show it. No part can reach beyond the next `?`, so no octet is looked at for more than one word.
_WORD: Final = re.compile(rb"=\?([^?*\s]{1,40}+)(?:\*[^?\s]{0,40}+)?\?([BbQq])\?([^?]*+)\?=")
_BLANK: Final = re.compile(rb"[ \t\r\n]*+")

#: By the names that mail uses (IANA), in lower case, the codec. Some are a superset, which is what readers take for
#: them. Python knows more, some of which take a time that is no longer linear, and each name that it does not know it
#: looks for on the disk and remembers for ever.
_CODECS: Final = {
    **dict.fromkeys(("utf-8", "utf8", "us-ascii", "ascii"), "utf-8"),
    **dict.fromkeys(("gb2312", "gbk", "gb18030", "cp936"), "gb18030"),
    **dict.fromkeys(("big5", "big5-hkscs"), "big5hkscs"),
    **dict.fromkeys(("shift_jis", "shift-jis", "windows-31j", "cp932"), "cp932"),
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987", "ks_c_5601", "cp949"), "cp949"),
    **{name: name for name in ("euc-jp", "iso-2022-jp", "iso-2022-kr", "koi8-r", "koi8-u", "tis-620")},
    **{f"iso-8859-{part}": f"iso8859-{part}" for part in (*range(1, 12), *range(13, 17))},
    "iso-8859-8-i": "iso8859-8",
    "hz-gb-2312": "hz",
    "macintosh": "mac-roman",
    **{f"{maker}{page}": f"cp{page}" for maker in ("windows-", "cp") for page in range(1250, 1259)},
    "windows-874": "cp874",
}


def decoded(body: bytes) -> str:
    """
    A body, unfolded, with its encoded words decoded. Never raises.

    Blanks between two of them are no part of the text (section 6.2). A character may begin in one and end in the next,
    of the same charset: section 5 forbids that, and programs do it.
    """
    if b"=?" not in body:
        return body.decode("utf-8", "replace")
    parts: list[str] = []
    #: What the words that follow each other directly say, in this codec.
    codec, octets = "utf-8", bytearray()
    end = 0
    for found in _WORD.finditer(body):
        told = _told(found)
        if told is None:
            continue
        between = body[end : found.start()]
        if told[0] != codec or not octets or not _BLANK.fullmatch(between):
            parts.append(octets.decode(codec, "replace"))
            if not (end and _BLANK.fullmatch(between)):
                parts.append(between.decode("utf-8", "replace"))
            codec, octets = told[0], bytearray()
        octets += told[1]
        end = found.end()
    parts += (octets.decode(codec, "replace"), body[end:].decode("utf-8", "replace"))
    return "".join(parts)


def _told(found: re.Match[bytes]) -> tuple[str, bytes] | None:
    """A word's codec and its octets; `None` if it is none that anybody could read."""
    charset, encoding, text = found.groups()
    codec = _CODECS.get(charset.decode("ascii", "replace").lower())
    if codec is None:
        return None
    if encoding in b"Qq":
        return codec, a2b_qp(text, header=True)
    try:
        # Padding that is missing is forgiven, and what is too much of it left alone.
        return codec, a2b_base64(text + b"==")
    except Error:
        return None
