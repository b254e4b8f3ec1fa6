"""
The words that stand for what differs from machine to machine: `$hostname`, `$user`.

They are replaced in every string of a document, and in the keys of tables (an alias may be for
`"postmaster@$hostname"`). `$$hostname` is the word itself; a dollar sign before anything but a letter is one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from relay.config.lines import KeyPath
from relay.config.wording import Complaint, did_you_mean

_WORD = re.compile(r"\$(\$?)([A-Za-z_][A-Za-z0-9_]*)")


class Words:
    """What the words stand for, and complaints about those that stand for nothing."""

    def __init__(self, meanings: Mapping[str, str]) -> None:
        self._meanings = meanings
        self.complaints: list[Complaint] = []

    def replace(self, document: Any, path: KeyPath = ()) -> Any:
        """The document with every word replaced."""
        if isinstance(document, str):
            self._check(document, path)
            return self.spelled_out(document)
        if isinstance(document, list):
            return [self.replace(value, (*path, index)) for index, value in enumerate(document)]
        if isinstance(document, dict):
            replaced = {}
            for key, value in document.items():
                name = self.spelled_out(key)
                inner = (*path, name)
                self._check(key, inner)
                if name in replaced:
                    self.complaints.append(Complaint(inner, "stands here twice, once it is spelled out"))
                replaced[name] = self.replace(value, inner)
            return replaced
        return document

    def spelled_out(self, text: str) -> str:
        """The text with its words replaced; unknown ones are left."""

        def meaning(match: re.Match[str]) -> str:
            if match[1]:
                return f"${match[2]}"
            return self._meanings.get(match[2], match[0])

        return _WORD.sub(meaning, text)

    def _check(self, text: str, path: KeyPath) -> None:
        for match in _WORD.finditer(text):
            if not match[1] and match[2] not in self._meanings:
                # Not shown as it stands: it may be a part of a password.
                hint = did_you_mean(match[0], [f"${word}" for word in self._meanings])
                known = " and ".join(f"${word}" for word in self._meanings)
                self.complaints.append(
                    Complaint(
                        path,
                        f"unknown word behind a dollar sign{hint}"
                        if hint
                        else f"unknown word behind a dollar sign: there are {known}; for the sign itself write '$$'",
                    )
                )
